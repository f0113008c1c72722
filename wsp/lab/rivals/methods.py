"""The competitors of chapter 12: each a way to start and to train, with what may be tuned.

What the methods themselves do is in ``wsp.lab.rivals``; here they become arms of the rounds.

Rules, written before the second edition's run on digits, after looking at the first edition's:

- One grid of learning rates for everybody, and one of lamda for all that shrink: in the first edition
  DASH might keep 0.6 at most and the trick 0.8, and both chose the end.
- Every rival has a cold arm: the same training from a fresh network, tuned alike. What helps a cold start
  as much is a better training, not a better start.
- Parts stand alone: weight decay without a pull to the first weights, layer norm without decay (0 is in its
  grid), FIRE's projection of a fresh network.
- A grid is extended until nothing that is above warm or above cold chooses its end, but for an end beside
  no change at all, such as a lamda near 1. What was extended after looking is said in the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from wsp.lab.employees import Table
from wsp.lab.retraining import SIGMA
from wsp.lab.rivals.dash import dash_
from wsp.lab.rivals.fire import fire_
from wsp.lab.rivals.layer_norm import add_layer_norm_
from wsp.lab.rivals.trainings import (
    train_clipped,
    train_hare,
    train_l2_init,
    train_plain,
    train_redo,
    train_stopped,
)
from wsp.lab.rounds import OFFICIAL_SIGMA, Arm, Start, Train, as_built, start_cold, start_warm
from wsp.perturb import shrink_perturb_

RATES = (0.0025, 0.005, 0.01, 0.02, 0.04)  # learning rates of Adam that everybody may try
LAMDAS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)  # and what everybody may keep who shrinks
PATIENCES = (3.0, 10.0, 30.0, 100.0)
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
    start
        ``start(value)`` gives the start of its arm; see :class:`wsp.lab.rounds.Arm`.
    train
        ``train(rate, value)`` gives the training of its arm.
    knob : str
        What may be tuned besides the learning rate; empty if nothing.
    values : tuple of float
        What to try.
    published : float
        The value of its source; where training here is too short for that one, ours.
    cold : str
        The key of its cold arm; empty if it starts cold itself or has none.
    passes : float
        Passes over the data in a round from the second on, besides those of the training.
    copies : float
        Copies of the network's weights that it holds besides those of the training.
    prepare
        Changes the layers of every new network.
    """

    key: str
    name: str
    source: str
    start: Callable[[float], Start]
    train: Callable[[float, float], Train]
    knob: str = ""
    values: tuple[float, ...] = (0.0,)
    published: float = 0.0
    cold: str = ""
    passes: float = 0.0
    copies: float = 0.0
    prepare: Callable[[nn.Module], nn.Module] = as_built

    def arm(self, key: str, rate: float, value: float) -> Arm:
        """The arm of a learning rate and a value of the knob, called `key`."""
        return Arm(key, self.start(value), self.train(rate, value), self.prepare)

    def arms(self) -> dict[str, Arm]:
        """All its settings by name: every rate with every value of its knob.

        Examples
        --------
        >>> list(METHODS["dash"].arms())[:2]
        ['dash rate=0.0025 lamda=0.1', 'dash rate=0.0025 lamda=0.3']
        >>> len(METHODS["dash"].arms()), len(METHODS["fire"].arms())
        (30, 5)
        """
        settings = {self.setting(rate, value): (rate, value) for rate in RATES for value in self.values}
        return {key: self.arm(key, *setting) for key, setting in settings.items()}

    def setting(self, rate: float, value: float) -> str:
        """What an arm with this setting is called."""
        return f"{self.key} rate={rate}" + (f" {self.knob}={value:g}" if self.knob else "")

    def as_published(self, rate: float) -> Arm:
        """The one arm with the setting of its source, but our learning rate."""
        return self.arm(self.key, rate, self.published)


def plain(rate: float, value: float) -> Train:
    """Training that has no knob."""
    return train_plain(rate)


def cold(value: float) -> Start:
    """A cold start, whatever the knob says."""
    return start_cold


def warm(value: float) -> Start:
    """A warm start, whatever the knob says."""
    return start_warm


def start_article(lamda: float) -> Start:
    """The article's rule: weights alone, normal noise."""
    return lambda old, fresh, table, generator: shrink_perturb_(old, lamda, SIGMA, generator=generator)


def start_official(lamda: float) -> Start:
    """The rule of the paper's code: every parameter, noise from a fresh network."""
    return lambda old, fresh, table, generator: shrink_perturb_(
        old, lamda, OFFICIAL_SIGMA, noise=fresh, include=lambda name, parameter: True
    )


def start_fresh_shrunk(lamda: float) -> Start:
    """The article's rule on a network that knows nothing."""
    return lambda old, fresh, table, generator: shrink_perturb_(fresh, lamda, SIGMA, generator=generator)


def start_dash(lamda: float) -> Start:
    """DASH, with batches of `CHUNK` rows in order of arrival."""
    return lambda old, fresh, table, generator: dash_(old, in_chunks(table), lamda)


def start_cold_dash(lamda: float) -> Start:
    """DASH on a network that knows nothing."""
    return lambda old, fresh, table, generator: dash_(fresh, in_chunks(table), lamda)


def in_chunks(table: Table) -> Iterator[Table]:
    """The rows of a table in order of arrival, `CHUNK` at a time."""
    chunks = zip(torch.split(table.inputs, CHUNK), torch.split(table.labels, CHUNK))
    return (Table(*chunk) for chunk in chunks)


def start_fire(value: float) -> Start:
    """FIRE."""
    return lambda old, fresh, table, generator: fire_(old)


def start_cold_fire(value: float) -> Start:
    """FIRE's projection of a network that knows nothing: the control that its authors have not."""
    return lambda old, fresh, table, generator: fire_(fresh)


def stopped(rate: float, patience: float) -> Train:
    """Training until rows held out get worse."""
    return train_stopped(rate, patience)


def stopped_at_once(rate: float, lamda: float) -> Train:
    """The same where the knob is of the start."""
    return train_stopped(rate, PATIENCE)


def normalized(rate: float, decay: float) -> Train:
    """Training with weight decay."""
    return train_plain(rate, decay)


def both(
    key: str,
    name: str,
    source: str,
    train: Callable[[float, float], Train],
    knob: str,
    values: tuple[float, ...],
    published: float,
    copies: float = 0.0,
    prepare: Callable[[nn.Module], nn.Module] = as_built,
) -> Iterator[Method]:
    """A way to train, from the old network and from a fresh one."""
    how = (train, knob, values, published)
    yield Method(key, name, source, warm, *how, f"cold_{key}", copies=copies, prepare=prepare)
    yield Method(f"cold_{key}", f"cold start, {name}", source, cold, *how, copies=copies, prepare=prepare)


def _methods() -> Iterator[Method]:
    """All of them; the order is that of tables."""
    ash, article, early = "ash2020warm", "pureai2021", "prechelt1998early"
    patience, lamda = ("patience", PATIENCES, PATIENCE), ("lamda", LAMDAS)
    yield Method("cold", "cold start", ash, cold, plain)
    yield Method("warm", "warm start", ash, warm, plain, cold="cold")
    yield Method("cold_stopped", "cold start, stopped early", early, cold, stopped, *patience, copies=1)
    yield Method(
        "warm_stopped", "warm start, stopped early", early, warm, stopped, *patience, "cold_stopped", copies=1
    )
    yield Method(
        "shrink_perturb",
        "shrink and perturb, the article's rule",
        article,
        start_article,
        plain,
        *lamda,
        0.5,
        "fresh_shrunk",
    )
    yield Method(
        "shrink_perturb_stopped",
        "shrink and perturb, stopped early",
        article,
        start_article,
        stopped_at_once,
        *lamda,
        0.5,
        "cold_stopped",
        copies=1,
    )
    yield Method(
        "official",
        "shrink and perturb, the paper's rule",
        ash,
        start_official,
        plain,
        *lamda,
        0.4,
        "fresh_shrunk",
    )
    yield Method("fresh_shrunk", "cold start, shrunk", article, start_fresh_shrunk, plain, *lamda, 0.5)
    # DASH holds a probe and the average direction; both are gone when training begins.
    yield Method(
        "dash", "DASH", "shin2024dash", start_dash, plain, *lamda, 0.3, "cold_dash", passes=1, copies=2
    )
    yield Method(
        "cold_dash",
        "cold start, DASH",
        "shin2024dash",
        start_cold_dash,
        plain,
        *lamda,
        0.3,
        passes=1,
        copies=2,
    )
    yield Method("fire", "FIRE", "han2026fire", start_fire, plain, cold="cold_fire")
    yield Method("cold_fire", "cold start, FIRE", "han2026fire", start_cold_fire, plain)
    strengths = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    yield from both(
        "l2_init", "L2 Init", "kumar2023maintaining", train_l2_init, "strength", strengths, 1e-2, copies=1
    )
    yield from both(
        "decay",
        "weight decay",
        "loshchilov2019decoupled",
        normalized,
        "decay",
        (0.1, 0.3, 1.0, 3.0, 10.0),
        0.1,
    )
    yield from both(
        "clipping",
        "weight clipping",
        "elsayed2024weight",
        train_clipped,
        "kappa",
        (0.5, 1.0, 2.0, 4.0, 8.0),
        1.0,
    )
    yield from both("redo", "ReDo", "sokar2023dormant", train_redo, "tau", (0.025, 0.05, 0.1, 0.3, 0.5), 0.1)
    # Their momentum, 0.999, averages over more steps than a training here has.
    momenta = (0.8, 0.9, 0.98, 0.995, 0.998)
    yield from both(
        "hare", "Hare and Tortoise", "lee2024slow", train_hare, "momentum", momenta, 0.98, copies=1
    )
    yield from both(
        "layer_norm",
        "layer norm + weight decay",
        "lyle2024disentangling",
        normalized,
        "decay",
        (0.0, 0.1, 1.0, 3.0, 10.0),
        0.1,
        prepare=add_layer_norm_,
    )


#: Every competitor by its key.
#:
#: :meta hide-value:
METHODS = {method.key: method for method in _methods()}
