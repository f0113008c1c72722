"""Ordinary training of photographs: moved and mirrored images, and one schedule of the learning rate."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from wsp.lab.employees import Table
from wsp.lab.fitting import Fit, fit

MOVE = 4  # pixels at most, up or down and left or right
MOMENTUM, DECAY = 0.9, 5e-4
NEVER = 2.0  # a share of right rows that is never reached: the schedule goes to its end


def moved_and_mirrored(inputs: Tensor, generator: torch.Generator, most: int = MOVE) -> Tensor:
    """Each image moved by up to `most` pixels, and every other one mirrored.

    What moves in is 0. This is a random crop of the padded image, and a horizontal flip.

    Parameters
    ----------
    inputs : torch.Tensor
        Shape (images, channels, height, width).
    generator : torch.Generator
        A CPU generator, so that every device draws alike.
    most : int
        0 or more. Default 4, as people do for 32 pixels.

    Examples
    --------
    >>> image = torch.arange(4.0).reshape(1, 1, 1, 4)
    >>> draws = torch.Generator().manual_seed(0)
    >>> seen = {tuple(moved_and_mirrored(image, draws, 0).flatten().tolist()) for _ in range(20)}
    >>> sorted(seen)
    [(0.0, 1.0, 2.0, 3.0), (3.0, 2.0, 1.0, 0.0)]
    """
    count, _, height, width = inputs.shape
    down, right = torch.randint(2 * most + 1, (2, count), generator=generator).to(inputs.device)
    mirrored = (torch.rand(count, generator=generator) < 0.5).to(inputs.device)
    across = torch.arange(width, device=inputs.device).expand(count, -1)
    across = torch.where(mirrored[:, None], width - 1 - across, across) + right[:, None]
    along = torch.arange(height, device=inputs.device) + down[:, None]
    padded = pad(inputs, (most, most, most, most)).movedim(1, -1)  # indexed places first, channels last
    rows = torch.arange(count, device=inputs.device)[:, None, None]
    return padded[rows, along[:, :, None], across[:, None, :]].movedim(-1, 1)


def rate_at(step: int, steps: int, peak: float, warm_up: int) -> float:
    """The learning rate of a step, counted from 0: up in a line, then down along a cosine to nearly 0.

    Examples
    --------
    >>> [round(rate_at(step, 8, 1.0, 2), 2) for step in range(8)]
    [0.5, 1.0, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
    """
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


class Schedule:
    """Sets the learning rate between steps: a hook for :func:`wsp.lab.fitting.fit`.

    Parameters
    ----------
    steps, peak, warm_up
        As for :func:`rate_at`.
    """

    def __init__(self, steps: int, peak: float, warm_up: int) -> None:
        self.rate = partial(rate_at, steps=steps, peak=peak, warm_up=warm_up)

    def __call__(self, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """After training step number `step`, counted from 1, comes the one of this place from 0."""
        for group in optimizer.param_groups:
            group["lr"] = self.rate(step)


def fit_by_schedule(
    network: nn.Module,
    table: Table,
    order: torch.Generator,
    *,
    epochs: int,
    warm_up: int,
    peak: float,
    batch_size: int,
    augmented: bool,
    label: str = "training",
) -> Fit:
    """Train as people train photographs: SGD with momentum and decay, one schedule, perhaps augmented.

    Parameters
    ----------
    network, table, order, batch_size, label
        As for :func:`wsp.lab.fitting.fit`.
    epochs, warm_up : int
        Of the whole schedule, and of its rise.
    peak : float
        The largest learning rate.
    augmented : bool
        Whether every batch is moved and mirrored: by a stream of its own, so that batch orders stay.

    Examples
    --------
    >>> table = Table(torch.randn(6, 3, 8, 8), torch.arange(6))
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    >>> how = {"epochs": 3, "warm_up": 1, "peak": 0.1, "batch_size": 2, "augmented": True}
    >>> found = fit_by_schedule(network, table, torch.Generator(), **how)
    >>> found.epochs, found.steps
    (3, 9)
    """
    draws = torch.Generator().manual_seed(order.initial_seed())
    batches = math.ceil(len(table.labels) / batch_size)
    schedule = Schedule(epochs * batches, peak, warm_up * batches)

    def loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        if augmented:
            inputs = moved_and_mirrored(inputs, draws).to(memory_format=_layout_of(inputs))
        return cross_entropy(network(inputs), labels)

    options: dict[str, Any] = {"batch_size": batch_size, "max_epochs": epochs, "patience": epochs + 1}
    return fit(
        network,
        table,
        order,
        optimizer=partial(
            torch.optim.SGD,
            lr=schedule.rate(0),
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=DECAY,
        ),
        loss=loss,
        after_step=schedule,
        stop_at=NEVER,
        label=label,
        **options,
    )


def _layout_of(inputs: Tensor) -> torch.memory_format:
    last = inputs.is_contiguous(memory_format=torch.channels_last) and not inputs.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
