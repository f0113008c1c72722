"""How the competitors of chapter 12 train: each factory gives what an arm's ``train`` is.

Methods that train alike get the very same function, so that they share their first round.
"""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from wsp.lab.employees import Table
from wsp.lab.fitting import Fit, MakeOptimizer, fit
from wsp.lab.network import seeded
from wsp.lab.rivals.clipping import WeightClipping
from wsp.lab.rivals.hare_tortoise import HareTortoise
from wsp.lab.rivals.l2_init import l2_init
from wsp.lab.rivals.redo import Redo
from wsp.lab.rivals.stopped import fit_stopped
from wsp.lab.rounds import Train

CHECK_EVERY = 20  # steps between two looks for dormant units


def adam(rate: float, decay: float = 0.0) -> MakeOptimizer:
    """Adam, or with `decay` AdamW, with PyTorch's defaults; fused, which is faster."""
    if decay:
        return partial(torch.optim.AdamW, lr=rate, weight_decay=decay, fused=True)
    return partial(torch.optim.Adam, lr=rate, fused=True)


@cache
def train_plain(rate: float, decay: float = 0.0) -> Train:
    """Train by the paper's stop rule."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        return fit(network, table, order, **options | {"optimizer": adam(rate, decay)})

    return train


@cache
def train_stopped(rate: float, patience: float) -> Train:
    """Train until rows held out get worse."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        options |= {"optimizer": adam(rate), "patience": int(patience)}
        return fit_stopped(network, table, order, **options)

    return train


@cache
def train_l2_init(rate: float, strength: float) -> Train:
    """Train with a pull to where the run began."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        options |= {"optimizer": adam(rate), "loss": l2_init(first, strength)}
        return fit(network, table, order, **options)

    return train


@cache
def train_clipped(rate: float, kappa: float) -> Train:
    """Train, and cut weights back after every step."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        hook = WeightClipping(network, kappa)
        return fit(network, table, order, **options | {"optimizer": adam(rate), "after_step": hook})

    return train


@cache
def train_redo(rate: float, tau: float) -> Train:
    """Train, and recycle dormant units on the way."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        seeds = torch.Generator().manual_seed(order.initial_seed())
        hook = Redo(
            table.inputs[: options["batch_size"]], lambda: redrawn(first, seeds), tau, every=CHECK_EVERY
        )
        return fit(network, table, order, **options | {"optimizer": adam(rate), "after_step": hook})

    return train


@cache
def train_hare(rate: float, momentum: float) -> Train:
    """Train the hare; the network ends as the tortoise.

    As in the authors' code there are about four time constants of the average between resets.
    """

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        hook = HareTortoise(network, momentum, every=round(4 / (1 - momentum)))
        found = fit(network, table, order, **options | {"optimizer": adam(rate), "after_step": hook})
        network.load_state_dict(hook.tortoise.state_dict())
        return found

    return train


def redrawn(network: nn.Module, seeds: torch.Generator) -> nn.Module:
    """A copy of a network with new random weights, as PyTorch's layers draw them.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> one, other = (redrawn(layer, torch.Generator().manual_seed(0)) for _ in "ab")
    >>> torch.equal(one.weight, other.weight), torch.equal(one.weight, layer.weight)
    (True, False)
    """
    new, device = copy.deepcopy(network).cpu(), next(network.parameters()).device
    with seeded(int(torch.randint(2**31, (1,), generator=seeds))):
        for module in new.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
    return new.to(device)
