"""Train one network and measure it.

:func:`train` is the recipe of the article: cross-entropy, plain stochastic
gradient descent, batches of ten, one constant learning rate, so many epochs.
Chapter 3 writes it out by hand. The recipe of the paper is in :mod:`wsp.lab.fitting`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from tqdm.auto import tqdm

from wsp.lab.employees import Table

LEARNING_RATE = 0.05  # at most this: above it training is chaotic and no longer portable
BATCH_SIZE = 10
EPOCHS = 1000
SMALL = 10_000  # parameters


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
