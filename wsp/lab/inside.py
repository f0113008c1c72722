"""Networks opened and measured, many side by side.

The explanations on offer say what shrinking changes: how sure the network is, which rows pull at
its weights, how far a step reaches, what its hidden units still tell apart. Here is what measures
each of them. :mod:`wsp.lab.restarts` changes them one at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wsp.lab.employees import Table
from wsp.lab.network import MLP
from wsp.perturb import shrink_perturb_

SATURATED = 0.95  # a tanh unit beyond ± this passes on less than a tenth of its gradient
STEPS = 21  # points on a straight line between two networks


class Lanes:
    """Multilayer perceptrons of one layout, a lane each, open to measurement.

    Slower than :class:`wsp.lab.many.ensemble.Ensemble`, for it leaves the gradient to
    autograd and so can be asked for more.

    Parameters
    ----------
    networks : sequence of MLP
        All of one layout. Copied, never changed. Biases that do not require a
        gradient (see :func:`freeze_biases_`) are not trained.
    softness : float or Tensor
        What logits are multiplied by, for all lanes or (lanes,). Default 1.

    Examples
    --------
    >>> lanes = Lanes([MLP(generator=torch.Generator().manual_seed(s)) for s in range(5)])
    >>> lanes.logits(torch.zeros(5, 2, 6, dtype=torch.float64)).shape  # lanes, rows, classes
    torch.Size([5, 2, 3])

    See chapter 7.
    """

    def __init__(self, networks: Sequence[MLP], softness: Tensor | float = 1.0) -> None:
        layers = list(zip(*(network.linears for network in networks)))
        self.tanh = networks[0].activation == "tanh"
        self.weights = [torch.stack([layer.weight.detach() for layer in lanes]) for lanes in layers]
        self.biases = [torch.stack([layer.bias.detach() for layer in lanes]) for lanes in layers]
        self.trained = self.weights + (self.biases if layers[0][0].bias.requires_grad else [])
        self.softness = torch.as_tensor(softness, dtype=self.weights[0].dtype).expand(len(networks))
        for tensor in self.trained:
            tensor.requires_grad_()

    def layers(self, inputs: Tensor) -> list[Tensor]:
        """Outputs (lanes, rows, units) of every layer, logits last, for inputs (lanes, rows, features)."""
        found: list[Tensor] = []
        for weight, bias in zip(self.weights, self.biases):
            if found:
                inputs = found[-1] = torch.tanh(found[-1]) if self.tanh else torch.relu(found[-1])
            found.append(torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT))
        return [*found[:-1], self.softness[:, None, None] * found[-1]]

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits (lanes, rows, classes) for inputs (lanes, rows, features)."""
        return self.layers(inputs)[-1]

    def loss(self, table: Table) -> Tensor:
        """Cross-entropy (lanes, rows), in nats; the table's columns have the lane first."""
        logits = self.logits(table.inputs)
        return nn.functional.cross_entropy(logits.mT, table.labels, reduction="none")

    def gradient(self, table: Table, weight: Tensor | float = 1.0) -> list[Tensor]:
        """Gradient of each lane's mean loss by its trained parameters; `weight` (lanes, rows) of the rows."""
        loss = (weight * self.loss(table)).mean(dim=1).sum()  # no lane's loss depends on another's weights
        return list(torch.autograd.grad(loss, self.trained))

    def train_epoch(
        self,
        table: Table,
        order: Tensor,
        *,
        learning_rate: float,
        batch_size: int,
        weight: Tensor | float = 1.0,
    ) -> None:
        """One epoch of SGD for every lane.

        Parameters
        ----------
        table : Table
            Inputs (lanes, rows, features), labels (lanes, rows).
        order : Tensor
            (lanes, rows): row numbers in the order they are met.
        learning_rate : float
        batch_size : int
        weight : Tensor or float
            Of the rows' losses, (lanes, rows). Default 1.
        """
        for gradient in self._batch_gradients(table, order, batch_size, weight):
            with torch.no_grad():
                for parameter, slope in zip(self.trained, gradient):
                    parameter.sub_(slope, alpha=learning_rate)

    def effective_rate(self, table: Table, order: Tensor, *, learning_rate: float, batch_size: int) -> Tensor:
        """How far a step of :meth:`train_epoch` would reach: its norm over that of the parameters.

        Returns (lanes,), the mean over the batches. Nothing is trained.

        Source: Lyle et al. (2025). See chapter 7.
        """
        gradients = self._batch_gradients(table, order, batch_size)
        steps = torch.stack([learning_rate * norm(gradient) for gradient in gradients])
        return steps.mean(dim=0) / norm(self.trained)

    def _batch_gradients(
        self, table: Table, order: Tensor, batch_size: int, weight: Tensor | float = 1.0
    ) -> Iterator[list[Tensor]]:
        lane = torch.arange(len(order)).unsqueeze(1)
        weight = torch.as_tensor(weight, dtype=self.softness.dtype).expand(order.shape)
        for batch in torch.split(order, batch_size, dim=1):
            rows = Table(table.inputs[lane, batch], table.labels[lane, batch])
            yield self.gradient(rows, weight[lane, batch])

    def between(self, other: Lanes, share: float) -> Lanes:
        """The lanes that lie a `share` of the way to `other` on the straight line."""
        found = copy.copy(self)
        for name in ("weights", "biases"):
            pairs = zip(getattr(self, name), getattr(other, name))
            setattr(found, name, [torch.lerp(a.detach(), b.detach(), share) for a, b in pairs])
        return found


def freeze_biases_(network: MLP) -> MLP:
    """Let no training move the biases. They are zero in a new network, so this one has none.

    Examples
    --------
    >>> network = freeze_biases_(MLP((4, 3, 2), "relu"))
    >>> [name for name, p in network.named_parameters() if p.requires_grad]
    ['0.weight', '2.weight']
    """
    for layer in network.linears:
        layer.bias.requires_grad_(False)
    return network


def shrunk(networks: Sequence[MLP], lamda: float, biases: bool = False) -> list[MLP]:
    """Copies, shrunk and not perturbed: their weights, or their biases as well."""
    include = (lambda name, parameter: True) if biases else None
    return [shrink_perturb_(copy.deepcopy(network), lamda, 0.0, include=include) for network in networks]


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of each lane's tensors together: (lanes,).

    Examples
    --------
    >>> norm([torch.tensor([[3.0]]), torch.tensor([[4.0]])])
    tensor([5.])
    """
    squares = torch.stack([tensor.square().flatten(1).sum(dim=1) for tensor in tensors])
    return squares.sum(dim=0).sqrt()


def effective_rank(features: Tensor) -> Tensor:
    """How many directions features spread over: the exponential of the entropy of singular values.

    Parameters
    ----------
    features : Tensor
        (..., rows, units).

    Examples
    --------
    >>> effective_rank(torch.eye(3)), effective_rank(torch.ones(3, 3)).round()
    (tensor(3.), tensor(1.))

    Source: Roy and Vetterli (2007). See chapter 7.
    """
    values = torch.linalg.svdvals(features)
    share = values / values.sum(dim=-1, keepdim=True)
    return torch.exp(torch.special.entr(share).sum(dim=-1))


def stable_rank(features: Tensor) -> Tensor:
    """The sum of squared singular values over the largest one's square.

    Examples
    --------
    >>> stable_rank(torch.eye(3)), stable_rank(torch.ones(3, 3)).round()
    (tensor(3.), tensor(1.))

    See chapter 7.
    """
    squares: Tensor = torch.linalg.svdvals(features).square()
    return squares.sum(dim=-1) / squares.amax(dim=-1)


@torch.no_grad()
def softness_of(shrunk: Lanes, full: Lanes, inputs: Tensor) -> Tensor:
    """The factor (lanes,) by which full logits come nearest to the shrunk ones, in least squares.

    A softmax does not see a constant added to all logits of a row, so each row's
    mean is taken off first.

    Examples
    --------
    >>> network = freeze_biases_(MLP((4, 5, 3), "relu", generator=torch.Generator().manual_seed(0)))
    >>> full = Lanes([network])
    >>> shrunk = Lanes([shrink_perturb_(copy.deepcopy(network), 0.5, 0.0)])
    >>> softness_of(shrunk, full, torch.eye(4, dtype=torch.float64).unsqueeze(0))  # 0.5 for two layers
    tensor([0.2500], dtype=torch.float64)
    """
    one, other = (lanes.logits(inputs) for lanes in (shrunk, full))
    one, other = (logits - logits.mean(dim=2, keepdim=True) for logits in (one, other))
    return (one * other).sum(dim=(1, 2)) / other.square().sum(dim=(1, 2))


@torch.no_grad()
def scores(lanes: Lanes, table: Table) -> dict[str, Tensor]:
    """What each lane scores and how sure it is: accuracy (percent), loss (nats), confidence.

    Confidence is the mean of the largest probability.
    """
    logits = lanes.logits(table.inputs)
    return {
        "accuracy": 100 * (logits.argmax(dim=2) == table.labels).double().mean(dim=1),
        "loss": nn.functional.cross_entropy(logits.mT, table.labels, reduction="none").mean(dim=1),
        "confidence": logits.softmax(dim=2).amax(dim=2).mean(dim=1),
    }


def halves(table: Table, old_rows: int) -> tuple[Table, Table]:
    """The old and the new rows of a table whose columns have the lane first."""
    return (
        Table(*(column[:, :old_rows] for column in table)),
        Table(*(column[:, old_rows:] for column in table)),
    )


def pulls(lanes: Lanes, table: Table, old_rows: int) -> tuple[Tensor, Tensor]:
    """Norm of the gradient of the mean loss on the old and on the new rows: (lanes,) each."""
    old, new = halves(table, old_rows)
    return norm(lanes.gradient(old)), norm(lanes.gradient(new))


@torch.no_grad()
def suspects(lanes: Lanes, table: Table) -> dict[str, Tensor]:
    """Everything said to explain the warm start's harm that can be read off a network, (lanes,) each.

    Parameters
    ----------
    lanes : Lanes
    table : Table
        The training rows of every lane.

    Returns
    -------
    dict
        `norm`: of the parameters; `confidence`: mean largest probability on these rows;
        `idle`: share of hidden tanh outputs beyond ±0.95, or of ReLU units that are
        silent on all rows; `effective_rank`, `stable_rank`: of the last hidden layer.
    """
    hidden = lanes.layers(table.inputs)[:-1]
    if lanes.tanh:
        idle = torch.cat([(units.abs() > SATURATED).double().flatten(1) for units in hidden], dim=1)
    else:
        idle = torch.cat([(units.amax(dim=1) <= 0).double() for units in hidden], dim=1)
    return {
        "norm": norm(lanes.trained),
        "confidence": scores(lanes, table)["confidence"],
        "idle": idle.mean(dim=1),
        "effective_rank": effective_rank(hidden[-1]),
        "stable_rank": stable_rank(hidden[-1]),
    }


@torch.no_grad()
def losses_between(one: Lanes, other: Lanes, table: Table) -> Tensor:
    """Mean loss at `STEPS` points of the straight line from one to the other: (lanes, points)."""
    shares = np.linspace(0.0, 1.0, STEPS)
    return torch.stack([one.between(other, float(s)).loss(table).mean(dim=1) for s in shares], dim=1)


def barrier(losses: Tensor) -> Tensor:
    """How far a path (lanes, points) rises above the straight line between its ends: (lanes,), 0 or more.

    Examples
    --------
    >>> barrier(torch.tensor([[1.0, 3.0, 2.0], [3.0, 1.0, 0.0]]))
    tensor([1.5000, 0.0000])

    Source: Entezari et al. (2022). See chapter 7.
    """
    shares = torch.linspace(0, 1, losses.shape[1], dtype=losses.dtype)
    chord = torch.lerp(losses[:, :1], losses[:, -1:], shares)
    return (losses - chord).amax(dim=1).clamp(min=0)
