"""Scores for :func:`wsp.lab.choose.choose`: how good a network's answer to each row is.

A score is a function of a network's outputs and the labels that gives one value a row, the
larger the better. Values of True and False are an accuracy; other numbers are averaged in their
own unit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsp.lab.employees import Table

Score = Callable[[Any, Tensor], Tensor]
AT_ONCE = 1000  # rows scored in one go, to bound memory


def right_class(outputs: Any, labels: Tensor) -> Tensor:
    """Whether each row's largest output is at its class: the accuracy of a classifier.

    Parameters
    ----------
    outputs : Tensor
        (rows, classes), at least two classes. A row with a NaN is wrong.
    labels : Tensor
        (rows,), class numbers from 0.

    Returns
    -------
    Tensor
        (rows,) bool.

    Raises
    ------
    TypeError, ValueError
        If the outputs are no tensor, have another shape, or too few columns for the labels.

    Examples
    --------
    >>> right_class(torch.tensor([[2.0, 1.0], [2.0, 3.0]]), torch.tensor([0, 0]))
    tensor([ True, False])
    """
    outputs = _tensor(outputs)
    if outputs.ndim != 2 or outputs.shape[1] == 1:
        one = outputs.numel() == len(labels)
        columns = "1 output" if one else f"outputs of shape {tuple(outputs.shape[1:])}"
        raise ValueError(
            f"the network gives {columns} a row, and labels go to {int(labels.max())}: expected one output "
            "for each class. For one logit a row pass score=one_logit, for numbers score=squared_error, for "
            "several labels a row score=multi_label (all in wsp.lab.choose), or a function of your own"
        )
    if labels.max() >= outputs.shape[1]:
        raise ValueError(
            f"the network gives {outputs.shape[1]} outputs a row, but labels go to {int(labels.max())}"
        )
    right: Tensor = (outputs.argmax(dim=1) == labels) & ~outputs.isnan().any(dim=1)
    return right


def one_logit(outputs: Any, labels: Tensor) -> Tensor:
    """Whether a single logit has the right sign: for ``binary_cross_entropy_with_logits``.

    Parameters
    ----------
    outputs : Tensor
        (rows,) or (rows, 1), logits: above 0 says class 1. Of a network that ends in a sigmoid
        pass ``lambda outputs, labels: one_logit(outputs - 0.5, labels)``.
    labels : Tensor
        As many, 0 or 1.

    Returns
    -------
    Tensor
        (rows,) bool.

    Examples
    --------
    >>> one_logit(torch.tensor([[0.3], [-2.0], [1.0]]), torch.tensor([1, 0, 0]))
    tensor([ True,  True, False])
    """
    outputs, labels = _alike(outputs, labels)
    if outputs.shape[1] != 1 or not ((labels == 0) | (labels == 1)).all():
        raise ValueError(
            f"one_logit: expected one output a row and labels 0 or 1, not {outputs.shape[1]} outputs and "
            f"labels from {labels.min():g} to {labels.max():g}"
        )
    right: Tensor = ((outputs > 0) == (labels == 1)) & ~outputs.isnan()
    return right.squeeze(1)


def multi_label(outputs: Any, labels: Tensor) -> Tensor:
    """The share of a row's labels whose logit has the right sign, in percent.

    Parameters
    ----------
    outputs : Tensor
        (rows, labels), logits.
    labels : Tensor
        The same shape, 0 or 1.

    Returns
    -------
    Tensor
        (rows,), 0 to 100.

    Examples
    --------
    >>> multi_label(torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1, 0], [1, 0]]))
    tensor([100.,  50.])
    """
    outputs, labels = _alike(outputs, labels)
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError(f"multi_label: labels must be 0 or 1, not {labels.min():g} to {labels.max():g}")
    right: Tensor = ((outputs > 0) == (labels == 1)) & ~outputs.isnan()
    return 100 * right.float().mean(dim=1)


def squared_error(outputs: Any, labels: Tensor) -> Tensor:
    """Minus the mean squared error of each row: for regression.

    Parameters
    ----------
    outputs, labels : Tensor
        (rows,), (rows, 1) or (rows, numbers), alike.

    Returns
    -------
    Tensor
        (rows,), at most 0, in the labels' unit squared.

    Examples
    --------
    >>> squared_error(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0]))
    tensor([-0., -4.])
    """
    outputs, labels = _alike(outputs, labels)
    squares: Tensor = (outputs - labels) ** 2
    return -squares.mean(dim=1)


def _tensor(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise TypeError(
            f"the network gives a {type(outputs).__name__}, expected a tensor: pass a score= of your own, "
            "such as lambda outputs, labels: outputs.logits.argmax(dim=1) == labels"
        )
    return outputs


def _alike(outputs: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (rows, something). (rows, 1) minus (rows,) would be (rows, rows), without a word."""
    outputs = _tensor(outputs)
    both = [column.unsqueeze(1) if column.ndim == 1 else column for column in (outputs, labels)]
    if both[0].shape != both[1].shape:
        raise ValueError(
            f"outputs of shape {tuple(outputs.shape)} do not go with labels of shape {tuple(labels.shape)}"
        )
    return both[0].flatten(1), both[1].flatten(1)


@torch.no_grad()
def score_rows(network: nn.Module, rows: Table, score: Score) -> NDArray[Any]:
    """Score each row in evaluation mode; every layer is left in the mode in which it was.

    Returns
    -------
    array (rows,)
        Of bool or float64.

    Raises
    ------
    TypeError, ValueError
        If `score` does not give one finite value a row.

    Examples
    --------
    >>> rows = Table(torch.eye(3), torch.tensor([0, 1, 1]))
    >>> score_rows(nn.Identity(), rows, right_class)
    array([ True,  True, False])
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        pieces = zip(torch.split(rows.inputs, AT_ONCE), torch.split(rows.labels, AT_ONCE))
        found = [_one_a_row(score(network(inputs), labels), labels) for inputs, labels in pieces]
    finally:
        for module, training in modes.items():
            module.training = training  # not train(), which would take a frozen layer's children along
    values = torch.cat(found).cpu()
    return values.numpy() if values.dtype == torch.bool else values.double().numpy()


def _one_a_row(values: Any, labels: Tensor) -> Tensor:
    expected = f"score must give a tensor with one value a row, of shape ({len(labels)},)"
    if not isinstance(values, Tensor):
        raise TypeError(f"{expected}, not a {type(values).__name__}")
    if values.shape != labels.shape[:1] or values.is_complex():
        raise ValueError(f"{expected}, not {tuple(values.shape)} of {values.dtype}")
    bad = ~values.isfinite()
    if bad.any():
        row = int(bad.int().argmax())
        raise ValueError(f"the score of row {row} is {float(values[row])}: has the training diverged?")
    return values


def check_rows(name: str, rows: Any, of_classes: bool) -> None:
    """Refuse a table that cannot be trained on or scored.

    Parameters
    ----------
    name : str
        What the errors call it.
    rows : Table
    of_classes : bool
        Whether the labels must be class numbers.

    Examples
    --------
    >>> check_rows("new_rows", Table(torch.eye(2), torch.tensor([[0], [1]])), of_classes=True)
    Traceback (most recent call last):
    ValueError: new_rows.labels has shape (2, 1), expected (rows,)...
    """
    if not isinstance(rows, tuple) or not hasattr(rows, "inputs") or not hasattr(rows, "labels"):
        raise TypeError(
            f"{name} must be a wsp.lab.employees.Table(inputs, labels) of two tensors, "
            f"not a {type(rows).__name__}"
        )
    for part in ("inputs", "labels"):
        column = getattr(rows, part)
        if not isinstance(column, Tensor):
            raise TypeError(
                f"{name}.{part} must be a tensor (torch.from_numpy and torch.tensor make one), "
                f"not a {type(column).__name__}"
            )
        if column.ndim == 0:
            raise ValueError(f"{name}.{part} is a single number, expected one entry a row")
        bad = ~column.isfinite()
        if bad.any():
            place = bad.nonzero()[0].tolist()
            raise ValueError(
                f"{name}.{part}: row {place[0]} holds {float(column[tuple(place)].real)}; "
                "fill missing values in, or leave such rows out"
            )
    if len(rows.inputs) != len(rows.labels):
        raise ValueError(f"{name} has {len(rows.inputs)} inputs but {len(rows.labels)} labels")
    if not len(rows.labels):
        raise ValueError(f"{name} has no rows")
    if of_classes:
        _check_classes(f"{name}.labels", rows.labels)


def _check_classes(name: str, labels: Tensor) -> None:
    if labels.ndim != 1:
        shape = tuple(labels.shape)
        if shape[1:] == (1,):
            help_ = "labels.squeeze(1) is that"
        elif labels.ndim == 2 and ((labels == 0) | (labels == 1)).all() and (labels.sum(dim=1) == 1).all():
            help_ = "one-hot labels become that by labels.argmax(dim=1)"
        else:
            help_ = "for several answers a row pass score=, such as multi_label or squared_error"
        raise ValueError(f"{name} has shape {shape}, expected (rows,) class numbers: {help_}")
    if labels.dtype not in (torch.int64, torch.uint8):  # what cross_entropy takes
        raise ValueError(
            f"{name} are {labels.dtype}, expected class numbers in int64: labels.long() is that; "
            "for regression pass score=squared_error"
        )
    if labels.min() < 0:
        row = int((labels < 0).int().argmax())
        raise ValueError(f"{name}: row {row} holds {labels[row].item()}, expected class numbers from 0")
