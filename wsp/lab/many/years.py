"""The workers' years for many networks side by side, a lane for each split and seed.

Every year each arm makes a starting network out of its old one or a fresh one, trains it on the rows that
have arrived, stops by rows held out (:mod:`wsp.lab.many.stopping`), and is scored on the test rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wsp.lab import workers
from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import ensemble_of, orders_of
from wsp.lab.many.lanes import seeds_of
from wsp.lab.many.stopping import PATIENCE, Split, train_stopped
from wsp.lab.network import MLP
from wsp.lab.retraining import LAMDA, SIGMA
from wsp.lab.rounds import stream
from wsp.lab.training import EPOCHS, LEARNING_RATE
from wsp.perturb import shrink_perturb_

Record = dict[str, Tensor]
LESS = 0.3  # the other lamda
#: Arm → whether it starts from the old network, and lamda and sigma.
#:
#: :meta hide-value:
STARTS: dict[str, tuple[bool, float, float]] = {
    "cold": (False, 1.0, 0.0),
    "warm": (True, 1.0, 0.0),
    "shrink_perturb": (True, LAMDA, SIGMA),
    "shrink_perturb_0.3": (True, LESS, SIGMA),
    "fresh_shrunk": (False, LAMDA, SIGMA),
}


@dataclass(frozen=True)
class Lanes:
    """Splits and seeds side by side.

    Attributes
    ----------
    dealt : list of wsp.lab.workers.Dealt
        The splits.
    place : list of int
        Of each lane, its split's.
    seeds : list of int
        Of each lane.
    years : tuple of int
        That arrive.
    kept, held : list of Tensor
        Of each lane, rows of the split to step on and to stop by.
    """

    dealt: list[workers.Dealt]
    place: list[int]
    seeds: list[int]
    years: tuple[int, ...]
    kept: list[Tensor]
    held: list[Tensor]

    @classmethod
    def of(cls, frame: Any, splits: Sequence[int], seeds: int, years: int) -> Lanes:
        """Deal the rows."""
        dealt = [workers.split(frame, number) for number in splits]
        pairs = [(place, seed) for place, number in enumerate(splits) for seed in seeds_of(number, seeds)]
        out = [workers.hold_out(dealt[place].train_years, seed) for place, seed in pairs]
        return cls(
            dealt,
            [place for place, _ in pairs],
            [seed for _, seed in pairs],
            workers.YEARS[:years],
            [kept for kept, _ in out],
            [held for _, held in out],
        )

    def stacked(self, rows: Sequence[Tensor]) -> Table:
        """These rows of each lane, (lanes, rows, ...)."""
        tables = [self.dealt[place].train for place in self.place]
        return Table(*(torch.stack([c[r] for c, r in zip(column, rows)]) for column in zip(*tables)))

    def until(self, rows: Tensor, number: int) -> int:
        """How many of a lane's rows have arrived in the year of this number; the same in all lanes."""
        return int((self.dealt[0].train_years[rows.numpy()] <= self.years[number]).sum())

    def arrived(self, number: int) -> Split:
        """What each lane has in the year of this number."""
        table, before = self.stacked(self.kept), max(number - 1, 0)
        held = self.stacked(self.held)
        rows, until = self.until(self.kept[0], number), self.until(self.held[0], number)
        return Split(
            Table(table.inputs.flatten(0, 1), table.labels.flatten()),
            torch.arange(len(self.seeds)),
            rows,
            self.until(self.kept[0], before),
            Table(held.inputs[:, :until], held.labels[:, :until]),
            self.until(self.held[0], before),
        )

    def right(self, ensemble: Ensemble, number: int) -> tuple[Tensor, Tensor]:
        """Right test rows of each lane: of all years, and of those that have arrived."""
        tests = [self.dealt[place].test for place in self.place]
        inputs, labels = (torch.stack(column) for column in zip(*tests))
        here = int((self.dealt[0].test_years <= self.years[number]).sum())
        return (
            ensemble.measure(inputs, labels)[0],
            ensemble.measure(inputs[:, :here].contiguous(), labels[:, :here].contiguous())[0],
        )


def start_of(arm: str, old: MLP, fresh: MLP, seed: int, number: int) -> MLP:
    """The network that an arm begins a year with; it changes and returns `old` or `fresh`.

    Examples
    --------
    >>> old, fresh = MLP(), MLP()
    >>> start_of("warm", old, fresh, seed=0, number=1) is old, start_of("cold", old, fresh, 0, 1) is fresh
    (True, True)
    """
    from_old, lamda, sigma = STARTS[arm]
    network = old if from_old else fresh
    return shrink_perturb_(network, lamda, sigma, generator=stream(seed, number + 1, "noise"))


def run_starts(
    lanes: Lanes,
    hidden: Sequence[int],
    activation: str,
    *,
    patience: int = PATIENCE,
    max_epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
) -> dict[str, list[Record]]:
    """Every arm through the years.

    Parameters
    ----------
    lanes : Lanes
    hidden : sequence of int
        Units of the hidden layers.
    activation : {"tanh", "relu"}
    patience, max_epochs, learning_rate
        Of every year's training.

    Returns
    -------
    dict
        Arm → a record a year, of one number a lane: ``correct`` test rows, of all years; ``arrived``, of the
        years up to this one; ``epoch`` of the weights kept; ``spent``, epochs until stopped. The first
        year is the same for all arms.
    """
    sizes = (lanes.dealt[0].train.inputs.shape[1], *hidden, 2)
    records: dict[str, list[Record]] = {arm: [] for arm in STARTS}
    old: dict[str, list[MLP]] = {}
    for number in range(len(lanes.years)):
        begun = {"cold": fresh_networks(lanes, sizes, activation, number)}
        if number:
            begun = {
                arm: [
                    start_of(arm, *each, number)
                    for each in zip(networks, fresh_networks(lanes, sizes, activation, number), lanes.seeds)
                ]
                for arm, networks in old.items()
            }
        stopped = train_stopped(
            {arm: ensemble_of(networks) for arm, networks in begun.items()},
            lanes.arrived(number),
            orders_of([stream(seed, number + 1, "order") for seed in lanes.seeds]),
            max_epochs,
            patience=patience,
            learning_rate=learning_rate,
        )
        for arm in STARTS:
            best = stopped[arm if number else "cold"]["loss"]
            correct, arrived = lanes.right(best.shown(), number)
            records[arm].append(
                {"correct": correct, "arrived": arrived, "epoch": best.epoch, "spent": best.spent}
            )
            old[arm] = best.shown().networks()
    return records


def fresh_networks(lanes: Lanes, sizes: Sequence[int], activation: str, number: int) -> list[MLP]:
    """A new network for each lane in the year of this number, counted from 0."""
    draws = (stream(seed, number + 1, "weights") for seed in lanes.seeds)
    return [MLP(sizes, activation, generator=each) for each in draws]
