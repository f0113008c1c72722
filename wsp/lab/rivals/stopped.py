"""Stop early: rows are held out, and training ends where the loss on them does not get better."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch import nn

from wsp.lab.employees import Table
from wsp.lab.fitting import Fit, fit
from wsp.lab.training import measure

HELD_OUT = 5  # every fifth row


class _Stopped(Exception):
    """Raised between two steps to leave the training."""


def fit_stopped(
    network: nn.Module,
    table: Table,
    order: torch.Generator,
    *,
    patience: int = 10,
    max_epochs: int = 1000,
    batch_size: int = 128,
    **options: Any,
) -> Fit:
    """Train until rows held out from training no longer get better: plain early stopping.

    Every fifth row of the table is held out. Rows keep their places when more arrive, so
    what was held out in one round is held out in the next. After each epoch the
    cross-entropy of these rows is measured; the network ends with the weights of the
    lowest. Wrong labels among them are left as they are.

    Parameters
    ----------
    network, table, order, max_epochs, batch_size
        As for :func:`wsp.lab.fitting.fit`. The table needs at least five rows.
    patience : int
        Stop after so many epochs without a lower loss. Default 10.
    **options
        For :func:`wsp.lab.fitting.fit`. `stop_at` is not looked at.

    Returns
    -------
    Fit
        `epochs` and `samples` count the rows trained on, those after the best epoch too;
        `train_accuracy` is that of the network you get, in evaluation mode; `reached` says
        whether it was `patience` that ended it.

    Examples
    --------
    >>> table = Table(torch.eye(10), torch.arange(10))
    >>> found = fit_stopped(nn.Linear(10, 10), table, torch.Generator(), patience=3)
    >>> found.reached, found.samples == 8 * found.epochs
    (True, True)

    See chapter 12.
    """
    if len(table.labels) < HELD_OUT:
        raise ValueError(f"early stopping holds out every fifth row; the table has {len(table.labels)}")
    held_out = torch.arange(len(table.labels), device=table.labels.device) % HELD_OUT == HELD_OUT - 1
    seen, unseen = (Table(table.inputs[rows], table.labels[rows]) for rows in (~held_out, held_out))
    steps_an_epoch = -(-len(seen.labels) // batch_size)
    best, best_epoch, epoch = float("inf"), 0, 0
    state = copy.deepcopy(network.state_dict())

    def look(network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        nonlocal best, best_epoch, epoch, state
        if step % steps_an_epoch:
            return
        epoch += 1
        loss = measure(network.eval(), unseen).loss
        network.train()
        if loss < best:
            best, best_epoch, state = loss, epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= patience:
            raise _Stopped

    begin, reached = time.perf_counter(), False
    options |= {"stop_at": 2.0, "patience": max_epochs, "max_epochs": max_epochs, "batch_size": batch_size}
    try:
        fit(network, seen, order, after_step=look, **options)
    except _Stopped:
        reached = True
    network.load_state_dict(state)
    rows, accuracy = len(seen.labels), measure(network, seen).accuracy
    return Fit(epoch, epoch * steps_an_epoch, epoch * rows, time.perf_counter() - begin, accuracy, reached)
