"""Many networks side by side, a lane for each table and seed.

A lane has a training table, a seed, and the streams of that seed (:mod:`wsp.lab.retraining`), so
that it ends where :func:`wsp.lab.retraining.run_arms` ends for that table and seed alone.

**How a table gets its seeds.** In studies of format 2 every table has seeds of its own: with *k*
seeds a table, table *t* has *kt*, *kt* + 1, ..., *kt* + *k* - 1 (:func:`seeds_of`). No two tables
share one, so seeds are nested in tables and the table is the unit of every interval. Studies with
the same *k* share the networks of a table, which makes their results comparable table by table.
Studies of format 1 had seeds 0 to *k* - 1 on all tables: what is said of them holds for those few
seeds alone. What is drawn beside the five streams of a seed (rows held out, dropout masks) comes
from streams of the same seed that are told apart by a second number (:func:`side_stream`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from wsp.lab import employees
from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import Draw, FastEnsemble, Orders, ensemble_of, orders_of
from wsp.lab.network import MLP
from wsp.lab.retraining import OLD_ROWS, Arm, runs, start_network, stream
from wsp.lab.training import BATCH_SIZE, LEARNING_RATE

FIRST_FRESH = 1000  # tables below this number took part in the selection of the book's table
PART = 20  # epochs in one call of compiled code, at most: a run can be stopped between two

Pair = tuple[int, int]  # the table's place or number, and the seed
Read = Callable[[list[Arm], int, Ensemble], None]


def train_lanes(
    tables: Sequence[Table],
    pairs: Sequence[Pair],
    arms: Iterable[Arm],
    read: Read,
    *,
    read_at: Iterable[int] = (),
    learning_rate: float = LEARNING_RATE,
    nudge: float = 0.0,
    device: str = "cpu",
    tick: Callable[[int], object] = lambda samples: None,
) -> None:
    """Train every arm for every pair, side by side.

    Parameters
    ----------
    tables : sequence of Table
        Training tables, all of the same number of rows.
    pairs : sequence of (int, int)
        A lane each: the table's number in `tables`, and the seed.
    arms : iterable of Arm
        Which arms. Runs that several arms share are trained once.
    read : callable
        ``read(members, epoch, ensemble)`` is called for every run after each
        epoch of `read_at` and each epoch at which one of its arms is read.
    read_at : iterable of int
        Further epochs at which to read.
    learning_rate : float
        Default 0.05.
    nudge : float
        Added to every random weight; see :func:`wsp.lab.retraining.random_network`.
    device : str
        Default ``"cpu"``.
    tick : callable
        Is told how many training samples have gone by; may raise to stop.

    Examples
    --------
    >>> from wsp.lab.retraining import ARMS
    >>> table, test = employees.load_train(), employees.load_test()
    >>> def read(members, epoch, ensemble):
    ...     print(members[0].key, epoch, len(ensemble.measure(*test)[0]), "lanes")
    >>> short = Arm("short", "fresh", epochs=2)
    >>> train_lanes([table], [(0, seed) for seed in range(3)], [short], read)
    short 2 3 lanes
    """
    read_at = set(read_at)
    rows = len(tables[0].labels)
    stacked = Table(*(torch.cat(columns).to(device) for columns in zip(*tables)))
    first_row = torch.tensor([[table * rows] for table, _ in pairs])
    saved: list[MLP | None] = [None] * len(pairs)
    grouped = runs(arms)

    # The first network, then all others together: they share their batch orders.
    for phase in (
        [members for members in grouped if members[0].start == "first"],
        [members for members in grouped if members[0].start != "first"],
    ):
        if not phase:
            continue
        first = phase[0][0].start == "first"
        n, name = (OLD_ROWS, "first order") if first else (rows, "order")
        draw = orders_of([stream(seed, name) for _, seed in pairs])
        ensembles = [
            ensemble_of(
                [start_network(members[0], seed, old, nudge) for (_, seed), old in zip(pairs, saved)],
                device,
            )
            for members in phase
        ]
        last = [max(arm.epochs for arm in members) for members in phase]
        marks = [read_at | {arm.epochs for arm in members} for members in phase]
        fast = [ensemble for ensemble in ensembles if isinstance(ensemble, FastEnsemble)]
        if isinstance(draw, Orders) and len(fast) == len(phase):  # many epochs in one call
            each_row = first_row + torch.arange(n)
            for members, quick, end, at in zip(phase, fast, last, marks):
                orders = draw.copy()
                for before, epoch in parts(end, at):
                    quick.train_epochs(
                        stacked,
                        each_row,
                        orders,
                        epoch - before,
                        learning_rate=learning_rate,
                        batch_size=BATCH_SIZE,
                    )
                    tick((epoch - before) * each_row.numel())
                    if epoch in at:
                        read(members, epoch, quick)
        else:
            for epoch in range(1, max(last) + 1):
                order = (draw(n) + first_row).to(device)
                for members, ensemble, end, at in zip(phase, ensembles, last, marks):
                    if epoch > end:
                        continue
                    ensemble.train_epoch(stacked, order, learning_rate=learning_rate, batch_size=BATCH_SIZE)
                    tick(order.numel())
                    if epoch in at:
                        read(members, epoch, ensemble)
        if first:
            saved = list(ensembles[0].networks())


def train_epochs(
    ensembles: Mapping[str, Ensemble],
    stacked: Table,
    lanes: Tensor,
    rows: int,
    draw: Draw,
    epochs: int,
    tick: Callable[[int], object] = lambda samples: None,
    learning_rate: float = LEARNING_RATE,
    temperatures: Mapping[str, Sequence[float]] | None = None,
) -> Iterator[int]:
    """Train all ensembles side by side in the same orders; yield after every epoch.

    Parameters
    ----------
    ensembles : mapping
        Name → ensemble.
    stacked : Table
        All training tables of the lanes, one after the other, of equal length.
    lanes : Tensor
        (lanes,) int64: the place of each lane's table in the stack.
    rows : int
        How many rows of each table to train on, from its first.
    draw : callable
        From :func:`wsp.lab.many.fast.orders_of`; a later call goes on where this one ended.
    epochs : int
    tick : callable
        Is told how many training samples have gone by.
    learning_rate : float
        Default 0.05.
    temperatures : mapping, optional
        Name → what the logits are divided by, for each epoch (:class:`wsp.lab.many.ensemble.Ensemble`).
        Default: as the ensembles have it.
    """
    length = len(stacked.labels) // (int(lanes.max()) + 1)
    for epoch in range(1, epochs + 1):
        order = draw(rows) + lanes[:, None] * length
        for name, ensemble in ensembles.items():
            if temperatures and name in temperatures:
                ensemble.temperature = temperatures[name][epoch - 1]
            ensemble.train_epoch(stacked, order, learning_rate=learning_rate, batch_size=BATCH_SIZE)
            tick(order.numel())
        yield epoch


def parts(epochs: int, marks: Collection[int]) -> list[tuple[int, int]]:
    """Where a training of so many epochs is cut: at the marks, and now and then between.

    Examples
    --------
    >>> parts(50, {30, 200})
    [(0, 20), (20, 30), (30, 40), (40, 50)]
    """
    ends = {*range(PART, epochs, PART), *(mark for mark in marks if 0 < mark < epochs), epochs}
    return list(pairwise([0, *sorted(ends)]))


def samples_per_lane(arms: Iterable[Arm], rows: int) -> int:
    """Training samples that one lane meets in all its runs.

    Examples
    --------
    >>> from wsp.lab.retraining import find_arms
    >>> samples_per_lane(find_arms(["initial", "cold", "warm", "shrink_perturb"]), 200)
    600000
    """
    return sum(
        max(arm.epochs for arm in members) * (OLD_ROWS if members[0].start == "first" else rows)
        for members in runs(arms)
    )


def draw_tables(
    numbers: Iterable[int], test_rows: int, label_noise: float
) -> tuple[list[Table], list[Table]]:
    """Training and test tables of these numbers: seeds 2t and 2t + 1 of :func:`wsp.lab.employees.draw`."""
    train, test = [], []
    for number in numbers:
        train.append(employees.encode(employees.draw(employees.TRAIN_ROWS, 2 * number, label_noise)))
        test.append(employees.encode(employees.draw(test_rows, 2 * number + 1, label_noise)))
    return train, test


def fresh_tables(count: int) -> range:
    """The numbers of the first `count` fresh tables."""
    return range(FIRST_FRESH, FIRST_FRESH + count)


def seeds_of(table: int, count: int) -> range:
    """The seeds of a table's own: no other table has one of them.

    Examples
    --------
    >>> list(seeds_of(1000, 2)), list(seeds_of(1001, 2))
    ([2000, 2001], [2002, 2003])
    """
    return range(count * table, count * (table + 1))


def side_stream(seed: int, number: int) -> torch.Generator:
    """A CPU generator beside the five streams of a seed. 0 and 1 are of :func:`wsp.lab.many.recipes.draws`.

    Examples
    --------
    >>> side_stream(0, 2).initial_seed() == side_stream(1, 2).initial_seed()
    False
    """
    entropy = np.random.SeedSequence((seed, number))
    return torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))


@dataclass(frozen=True)
class Drawn:
    """Fresh tables and their lanes, seeds within tables.

    Attributes
    ----------
    tables : list of Table
        The training tables.
    pairs : list of (int, int)
        Of each lane the place of its table, and its seed.
    lanes : Tensor
        Of each lane the place of its table.
    train, test : Table
        The rows of each lane: (lanes, rows, features) and (lanes, rows).
    """

    tables: list[Table]
    pairs: list[tuple[int, int]]
    lanes: Tensor
    train: Table
    test: Table

    @property
    def seeds(self) -> list[int]:
        """The seed of each lane."""
        return [seed for _, seed in self.pairs]

    @property
    def stacked(self) -> Table:
        """The training tables one below the other: what an ensemble's orders point into."""
        return Table(*(torch.cat(columns) for columns in zip(*self.tables)))

    def by_table(self, counts: Tensor) -> list[int]:
        """Counts (lanes,) added up over the seeds of a table."""
        sums: list[int] = counts.view(len(self.tables), -1).sum(dim=1).tolist()
        return sums

    def by_seed(self, counts: Tensor) -> list[list[int]]:
        """Counts (lanes, ...), for each table a list over its seeds."""
        lists: list[list[int]] = counts.view(len(self.tables), -1, *counts.shape[1:]).tolist()
        return lists


def draw_lanes(
    numbers: Sequence[int], seeds: int, test_rows: int, label_noise: float, *, own: bool = False
) -> Drawn:
    """Draw the tables of these numbers.

    Parameters
    ----------
    numbers : sequence of int
    seeds : int
        On each table.
    test_rows : int
        Of each table.
    label_noise : float
    own : bool
        Whether every table has seeds of its own, :func:`seeds_of`. Default: 0, 1, ... on each.

    Examples
    --------
    >>> drawn = draw_lanes([1000, 1001], seeds=2, test_rows=10, label_noise=0.05)
    >>> drawn.pairs, drawn.test.inputs.shape
    ([(0, 0), (0, 1), (1, 0), (1, 1)], torch.Size([4, 10, 6]))
    """
    train, test = draw_tables(numbers, test_rows, label_noise)
    pairs = [
        (place, seed)
        for place, number in enumerate(numbers)
        for seed in (seeds_of(number, seeds) if own else range(seeds))
    ]
    lanes = torch.tensor([place for place, _ in pairs])
    of_lanes = (Table(*(torch.stack(columns)[lanes] for columns in zip(*rows))) for rows in (train, test))
    return Drawn(train, pairs, lanes, *of_lanes)
