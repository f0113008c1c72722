"""The competitors of chapter 12: each a way to start and to train, with what may be tuned.

What the methods themselves do is in ``wsp.lab.rivals``; here they become arms of the rounds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from wsp.lab.employees import Table
from wsp.lab.fitting import Fit, MakeOptimizer, fit
from wsp.lab.network import seeded
from wsp.lab.retraining import SIGMA
from wsp.lab.rivals import HareTortoise, add_layer_norm_, dash_, fit_stopped, l2_init
from wsp.lab.rivals.redo import Redo
from wsp.lab.rounds import OFFICIAL_SIGMA, Arm, Start, Train, start_cold, start_warm
from wsp.perturb import shrink_perturb_

RATES = (0.005, 0.01)  # learning rates of Adam that a method with a knob of its own may try
MORE_RATES = (0.003, 0.005, 0.007, 0.01, 0.015, 0.02)  # and one without
CHECK_EVERY = 20  # steps between two looks for dormant units
PATIENCE = 10  # epochs, of a method that stops early and has another knob
CHUNK = 160  # images a batch of DASH: an arrival of digits


@dataclass(frozen=True)
class Method:
    """One competitor.

    Attributes
    ----------
    key, name : str
        In files, and for people.
    source : str
        Its key in the bibliography.
    make : callable
        ``make(key, rate, value)`` builds the arm for a learning rate and a value of the knob.
    knob : str
        What may be tuned besides the learning rate; empty if nothing.
    values : tuple of float
        What to try.
    published : float
        The value of its source; where training here is too short for that one, ours.
    passes : float
        Passes over the data in a round from the second on, besides those of the training.
    copies : float
        Copies of the network's weights that it holds besides those of the training.
    """

    key: str
    name: str
    source: str
    make: Callable[[str, float, float], Arm]
    knob: str = ""
    values: tuple[float, ...] = ()
    published: float = 0.0
    passes: float = 0.0
    copies: float = 0.0

    def arms(self) -> dict[str, Arm]:
        """Its six settings by name.

        Examples
        --------
        >>> list(METHODS["dash"].arms())[:2]
        ['dash rate=0.005 lamda=0.1', 'dash rate=0.005 lamda=0.3']
        >>> {len(method.arms()) for method in METHODS.values()}
        {6}
        """
        settings = [(rate, value) for rate in RATES for value in self.values]
        if not self.knob:
            settings = [(rate, 0.0) for rate in MORE_RATES]
        arms = [self.make(_key(self, rate, value), rate, value) for rate, value in settings]
        return {arm.key: arm for arm in arms}

    def as_published(self, rate: float) -> Arm:
        """The one arm with the setting of its source, but our learning rate."""
        return self.make(self.key, rate, self.published)


def _key(method: Method, rate: float, value: float = 0.0) -> str:
    return f"{method.key} rate={rate}" + (f" {method.knob}={value}" if method.knob else "")


def adam(rate: float, decay: float = 0.0) -> MakeOptimizer:
    """Adam, or with `decay` AdamW, with PyTorch's defaults; fused, which is faster."""
    if decay:
        return partial(torch.optim.AdamW, lr=rate, weight_decay=decay, fused=True)
    return partial(torch.optim.Adam, lr=rate, fused=True)


# Methods that train alike get the same function, so that they share their first round.
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


def start_article(lamda: float) -> Start:
    """The article's rule: weights alone, normal noise."""
    return lambda old, fresh, table, generator: shrink_perturb_(old, lamda, SIGMA, generator=generator)


def start_official(lamda: float) -> Start:
    """The rule of the paper's code: every parameter, noise from a fresh network."""
    return lambda old, fresh, table, generator: shrink_perturb_(
        old, lamda, OFFICIAL_SIGMA, noise=fresh, include=lambda name, parameter: True
    )


def start_dash(lamda: float) -> Start:
    """DASH, with batches of `CHUNK` rows in order of arrival."""

    def start(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
        chunks = zip(torch.split(table.inputs, CHUNK), torch.split(table.labels, CHUNK))
        return dash_(old, (Table(*chunk) for chunk in chunks), lamda)

    return start


METHODS = {
    method.key: method
    for method in (
        Method(
            "cold",
            "cold start",
            "ash2020warm",
            lambda key, rate, value: Arm(key, start_cold, train_plain(rate)),
        ),
        Method(
            "warm",
            "warm start",
            "ash2020warm",
            lambda key, rate, value: Arm(key, start_warm, train_plain(rate)),
        ),
        Method(
            "cold_stopped",
            "cold start, stopped early",
            "prechelt1998early",
            lambda key, rate, patience: Arm(key, start_cold, train_stopped(rate, patience)),
            "patience",
            (3, PATIENCE, 30),
            published=PATIENCE,
            copies=1,
        ),
        Method(
            "warm_stopped",
            "warm start, stopped early",
            "prechelt1998early",
            lambda key, rate, patience: Arm(key, start_warm, train_stopped(rate, patience)),
            "patience",
            (3, PATIENCE, 30),
            published=PATIENCE,
            copies=1,
        ),
        Method(
            "shrink_perturb",
            "shrink and perturb, the article's rule",
            "pureai2021",
            lambda key, rate, lamda: Arm(key, start_article(lamda), train_plain(rate)),
            "lamda",
            (0.3, 0.5, 0.8),
            published=0.5,
        ),
        Method(
            "shrink_perturb_stopped",
            "shrink and perturb, stopped early",
            "pureai2021",
            lambda key, rate, lamda: Arm(key, start_article(lamda), train_stopped(rate, PATIENCE)),
            "lamda",
            (0.3, 0.5, 0.8),
            published=0.5,
            copies=1,
        ),
        Method(
            "official",
            "shrink and perturb, the paper's rule",
            "ash2020warm",
            lambda key, rate, lamda: Arm(key, start_official(lamda), train_plain(rate)),
            "lamda",
            (0.4, 0.6, 0.8),
            published=0.4,
        ),
        Method(
            "dash",
            "DASH",
            "shin2024dash",
            lambda key, rate, lamda: Arm(key, start_dash(lamda), train_plain(rate)),
            "lamda",
            (0.1, 0.3, 0.6),
            published=0.3,
            passes=1,
            copies=2,  # the probe and the average direction; both are gone when training begins
        ),
        Method(
            "l2_init",
            "L2 Init",
            "kumar2023maintaining",
            lambda key, rate, strength: Arm(key, start_warm, train_l2_init(rate, strength)),
            "strength",
            (1e-3, 1e-2, 3e-2),
            published=1e-2,
            copies=1,
        ),
        Method(
            "redo",
            "ReDo",
            "sokar2023dormant",
            lambda key, rate, tau: Arm(key, start_warm, train_redo(rate, tau)),
            "tau",
            (0.025, 0.1, 0.3),
            published=0.1,
        ),
        Method(
            "hare",
            "Hare and Tortoise",
            "lee2024slow",
            lambda key, rate, momentum: Arm(key, start_warm, train_hare(rate, momentum)),
            "momentum",
            (0.9, 0.98, 0.995),
            published=0.98,  # theirs, 0.999, averages over more steps than a training here has
            copies=1,
        ),
        Method(
            "layer_norm",
            "layer norm + weight decay",
            "lyle2024disentangling",
            lambda key, rate, decay: Arm(key, start_warm, train_plain(rate, decay), add_layer_norm_),
            "decay",
            (0.1, 1.0, 3.0),
            published=0.1,
        ),
    )
}
