"""Train by the recipe of the paper: until nearly every training row is right, or no more get right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from wsp.lab.employees import Table
from wsp.lab.training import progress_wanted

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
AfterStep = Callable[[nn.Module, torch.optim.Optimizer, int], object]


@dataclass(frozen=True)
class Fit:
    """What a training by the paper's stop rule took.

    Attributes
    ----------
    epochs, steps, samples : int
        Passes over the table, optimizer steps, training rows seen.
    seconds : float
        Wall-clock time.
    train_accuracy : float
        Percent of the rows of the last epoch that were right *as it ran*: each
        batch is scored in training mode, before its own step.
    reached : bool
        Whether that is the threshold; else training stopped at a plateau, or at
        the largest number of epochs.
    """

    epochs: int
    steps: int
    samples: int
    seconds: float
    train_accuracy: float
    reached: bool


def cross_entropy(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """The loss of :func:`fit` unless you give another one."""
    return nn.functional.cross_entropy(network(inputs), labels)


def fit(
    network: nn.Module,
    table: Table,
    order: torch.Generator,
    *,
    optimizer: str | MakeOptimizer = "adam",
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    stop_at: float = 0.99,
    patience: int = 20,
    max_epochs: int = 1000,
    loss: Loss | None = None,
    after_step: AfterStep | None = None,
    label: str = "training",
) -> Fit:
    """Train a network in place by the paper's rule: until 99 % of the training rows are right.

    Parameters
    ----------
    network : torch.nn.Module
        Trained in training mode, left in evaluation mode.
    table : Table
        The training rows, on the network's device and of its dtype.
    order : torch.Generator
        A CPU generator. Every epoch takes one ``torch.randperm(rows)`` from it.
    optimizer : {"adam", "sgd"} or callable
        A name, or a function of the parameters that builds one; then
        `learning_rate` is its own business. Default ``"adam"``, with PyTorch's
        defaults; ``"sgd"`` has no momentum.
    learning_rate : float
        Default 0.001, the paper's.
    batch_size : int
        Default 128, the paper's.
    stop_at : float
        Share of right training rows, counted while the epoch runs (see
        :class:`Fit`), from which on to stop. Default 0.99. Above 1: never.
    patience : int
        Stop after so many epochs without a new best share. Default 20.
    max_epochs : int
        Stop in any case. Default 1000.
    loss : callable, optional
        ``loss(network, inputs, labels)``, a scalar, in place of cross-entropy.
        It must call the network; its first call in a step is the one that is scored.
    after_step : callable, optional
        ``after_step(network, optimizer, step)`` after every optimizer step,
        counted from 1.
    label : str
        What the progress bar calls this run (``WSP_PROGRESS=0`` hides the bar).

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If the table is empty, a number is not positive, or the optimizer's name
        is unknown.
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> table = Table(torch.eye(3), torch.arange(3))
    >>> found = fit(nn.Linear(3, 3), table, torch.Generator(), learning_rate=0.1)
    >>> found.reached, found.train_accuracy, found.samples == 3 * found.epochs
    (True, 100.0, True)

    Source: Ash and Adams (2020), section 4, and the code that they published;
    the plateau is the authors' answer to Kireev et al. (2021). See chapter 10.
    """
    rows = len(table.labels)
    if rows == 0:
        raise ValueError("the table to train on has no rows")
    numbers = (learning_rate, batch_size, stop_at, patience, max_epochs)
    if not all(number > 0 for number in numbers):
        raise ValueError(
            "learning_rate, batch_size, stop_at, patience and max_epochs must be positive, not "
            + ", ".join(map(str, numbers))
        )
    optimizer_ = _optimizer(optimizer, network, learning_rate)
    loss = loss or cross_entropy

    outputs: list[Tensor] = []  # of one step: whatever the loss, its first logits are scored
    hook = network.register_forward_hook(lambda module, inputs, logits: outputs.append(logits.detach()))
    network.train()
    best, best_epoch, epoch, step, share = -1.0, 0, 0, 0, 0.0
    start = time.perf_counter()
    try:
        with tqdm(
            total=max_epochs,
            desc=label,
            unit="epoch",
            leave=None,  # not under the bar of an experiment
            disable=not progress_wanted(),
        ) as bar:
            while share < stop_at and epoch < max_epochs and epoch - best_epoch < patience:
                epoch += 1
                correct = torch.zeros((), dtype=torch.int64, device=table.labels.device)
                permutation = torch.randperm(rows, generator=order).to(table.labels.device)
                for batch in torch.split(permutation, batch_size):
                    labels = table.labels[batch]
                    found = loss(network, table.inputs[batch], labels)
                    optimizer_.zero_grad()
                    found.backward()  # type: ignore[no-untyped-call]
                    optimizer_.step()
                    step += 1
                    correct += (outputs[0].argmax(dim=1) == labels).sum()
                    outputs.clear()
                    if after_step is not None:
                        after_step(network, optimizer_, step)
                        outputs.clear()
                if not torch.isfinite(found):
                    raise FloatingPointError(
                        f"the training loss became {float(found.detach())} in epoch {epoch}: "
                        "lower the learning rate or check the inputs"
                    )
                share = int(correct) / rows  # the only time an epoch waits for the device
                if share > best:
                    best, best_epoch = share, epoch
                bar.set_postfix(accuracy=f"{100 * share:.1f} %", refresh=False)
                bar.update()
    finally:
        hook.remove()
        network.eval()
    seconds = time.perf_counter() - start
    return Fit(epoch, step, rows * epoch, seconds, 100 * share, share >= stop_at)


def _optimizer(
    optimizer: str | MakeOptimizer, network: nn.Module, learning_rate: float
) -> torch.optim.Optimizer:
    if not isinstance(optimizer, str):
        return optimizer(network.parameters())
    if optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=learning_rate)
    if optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=learning_rate)
    raise ValueError(f"unknown optimizer {optimizer!r}: choose from adam, sgd, or pass a function")
