"""Train one network and measure it.

:func:`train` is the recipe of the article: cross-entropy, plain stochastic
gradient descent, batches of ten, one constant learning rate, so many epochs.
Chapter 3 writes it out by hand. :func:`fit` is the recipe of the paper: train
until nearly every training row is right, or until that no longer gets better.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from wsp.employees import Table

LEARNING_RATE = 0.05  # at most this: above it training is chaotic and no longer portable
BATCH_SIZE = 10
EPOCHS = 1000
SMALL = 10_000  # parameters

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
AfterStep = Callable[[nn.Module, torch.optim.Optimizer, int], object]


@dataclass(frozen=True)
class Measurement:
    """What a network scores on one table.

    Attributes
    ----------
    correct, of : int
        Rows whose largest logit is at the right class; all rows.
    loss : float
        Mean cross-entropy, in nats.

    Examples
    --------
    >>> Measurement(correct=24, of=40, loss=1.0).accuracy
    60.0
    """

    correct: int
    of: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of correct rows, in percent."""
        return 100.0 * self.correct / self.of


@dataclass(frozen=True)
class Reading:
    """A network measured after `epoch` epochs and `seconds` of training."""

    epoch: int
    train: Measurement
    test: Measurement | None
    seconds: float


@torch.no_grad()
def measure(network: nn.Module, table: Table) -> Measurement:
    """Score a network on a table.

    Parameters
    ----------
    network : torch.nn.Module
        Maps inputs (rows, features) to logits (rows, classes).
    table : Table
        The rows to score, on the network's device.

    Returns
    -------
    Measurement
        Counts and mean cross-entropy (nats).

    Raises
    ------
    ValueError
        If the table has no rows.

    Examples
    --------
    >>> table = Table(torch.eye(3), torch.tensor([0, 1, 1]))
    >>> measure(nn.Identity(), table).correct
    2

    See chapter 3.
    """
    if len(table.labels) == 0:
        raise ValueError("the table to measure on has no rows")
    logits = network(table.inputs)
    loss = nn.functional.cross_entropy(logits, table.labels)
    correct = (logits.argmax(dim=1) == table.labels).sum()
    return Measurement(int(correct), len(table.labels), float(loss))


def progress_wanted() -> bool:
    """Whether to draw progress bars: yes, unless ``WSP_PROGRESS=0``."""
    return os.environ.get("WSP_PROGRESS", "1") != "0"


@contextmanager
def one_thread_if_small(network: nn.Module) -> Iterator[None]:
    """Train a small network on one thread: on several it would mostly wait for them to meet.

    The article's network trains twice as fast for it, and many times on a busy machine.
    """
    threads = torch.get_num_threads()
    if sum(parameter.numel() for parameter in network.parameters()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(
    network: nn.Module,
    table: Table,
    order: torch.Generator,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    batch_size: int = BATCH_SIZE,
    test: Table | None = None,
    read_at: Collection[int] = (),
    label: str = "training",
) -> list[Reading]:
    """Train a network in place by stochastic gradient descent.

    Parameters
    ----------
    network : torch.nn.Module
        Trained in place.
    table : Table
        The training rows, on the network's device.
    order : torch.Generator
        A CPU generator. Every epoch takes one ``torch.randperm(rows)`` from it.
    epochs : int
        Passes over the table. Default 1000.
    learning_rate : float
        Step size, the same at every step. Default 0.05.
    batch_size : int
        Rows a step; the last batch of an epoch may be shorter. Default 10.
    test : Table, optional
        Held-out rows, measured at every reading, never trained on.
    read_at : collection of int
        Epochs after which to measure; 0 is before training. The last epoch is
        always among them.
    label : str
        What the progress bar calls this run (``WSP_PROGRESS=0`` hides the bar).

    Returns
    -------
    list of Reading
        One for each epoch in `read_at`, and for the last.

    Raises
    ------
    ValueError
        If the table is empty, or a number is not positive.
    FloatingPointError
        If the loss is no longer finite: the learning rate is too large.

    Examples
    --------
    >>> table = Table(torch.eye(3), torch.arange(3))
    >>> network = nn.Linear(3, 3)
    >>> order = torch.Generator().manual_seed(0)
    >>> readings = train(network, table, order, epochs=200, read_at=[0])
    >>> [reading.epoch for reading in readings], readings[-1].train.accuracy
    ([0, 200], 100.0)

    Source: the article; written out in chapter 3.
    """
    rows = len(table.labels)
    if rows == 0:
        raise ValueError("the table to train on has no rows")
    if not (epochs > 0 and batch_size > 0 and learning_rate > 0):
        raise ValueError(
            "epochs, batch_size and learning_rate must be positive, not "
            f"{epochs}, {batch_size} and {learning_rate}"
        )
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
    readings: list[Reading] = []
    seconds = 0.0

    def read(epoch: int) -> None:
        held_out = None if test is None else measure(network, test)
        readings.append(Reading(epoch, measure(network, table), held_out, seconds))

    if 0 in read_at:
        read(0)
    with (
        one_thread_if_small(network),
        tqdm(total=epochs, desc=label, unit="epoch", disable=not progress_wanted()) as bar,
    ):
        for epoch in range(1, epochs + 1):
            start = time.perf_counter()
            train_epoch(network, table, optimizer, order, batch_size)
            seconds += time.perf_counter() - start
            redrawn = bar.update()  # ten times a second at most
            if redrawn or (epoch == epochs and not bar.disable):
                found = measure(network, table)
                bar.set_postfix(loss=f"{found.loss:.4f}", accuracy=f"{found.accuracy:.1f} %")
            if epoch in read_at or epoch == epochs:
                read(epoch)
    return readings


def train_epoch(
    network: nn.Module,
    table: Table,
    optimizer: torch.optim.Optimizer,
    order: torch.Generator,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Pass over the table once, in random order, one step a batch.

    Raises
    ------
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> network = nn.Linear(2, 2)
    >>> table = Table(torch.eye(2), torch.arange(2))
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    >>> train_epoch(network, table, optimizer, torch.Generator(), batch_size=1)

    Source: the article; written out in chapter 3.
    """
    # Drawn on the CPU, so that every device sees the same order.
    permutation = torch.randperm(len(table.labels), generator=order).to(table.labels.device)
    for batch in torch.split(permutation, batch_size):
        loss = nn.functional.cross_entropy(network(table.inputs[batch]), table.labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"the training loss became {float(loss.detach())}: lower the learning rate "
            f"(it is {optimizer.param_groups[0]['lr']}) or check the inputs"
        )


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
