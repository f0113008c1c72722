"""Stop by rows held out, as people train: many networks side by side.

Each lane holds out rows of its own, trains on the rest, looks at the held-out rows after every
epoch, and keeps the weights of its best epoch, once by the loss and once by the share of right
rows. A lane that has stopped is trained on with the others, so that one run answers two questions:
where a lane stops with some patience, and the best it has within any budget.
Another seam for speed beside :func:`wsp.lab.many.lanes.train_epochs`: all stopped training of the
studies is :func:`train_stopped` and :func:`train_again`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import Draw, FastEnsemble, Kept, Orders
from wsp.lab.many.lanes import parts, side_stream, train_epochs
from wsp.lab.training import BATCH_SIZE, LEARNING_RATE

RULES = ("loss", "accuracy")
PLACES = ("all", "new")  # where rows are held out
PATIENCE = 50  # epochs
HELD = 40  # of 200 rows
SPLIT = 2  # of the streams beside those of a seed

Tick = Callable[[int], object]


def hold_out(rows: int, old: int, held: int, seed: int, place: str = "all") -> tuple[Tensor, Tensor]:
    """Deal rows out at random: those to train on, and those held out; each in order of arrival.

    Old and new rows are held out in proportion, so that the old network, where it stops by rows
    of its own, can hold out the very rows that nobody sees later.

    Parameters
    ----------
    rows, old : int
        All rows, and how many of them came first.
    held : int
        How many to hold out.
    seed : int
        Of the lane.
    place : {"all", "new"}
        Whether to hold out of all rows, or of the new ones alone.

    Raises
    ------
    ValueError
        If not every part keeps a row, or for an unknown place.

    Examples
    --------
    >>> kept, held = hold_out(200, 100, 40, seed=0)
    >>> len(kept), len(held), int((held < 100).sum())
    (160, 40, 20)
    """
    if place not in PLACES:
        raise ValueError(f"rows can be held out of {' or '.join(PLACES)}, not of {place!r}")
    of_old = round(held * old / rows) if place == "all" else 0
    if not 0 < held < rows or of_old >= old or held - of_old >= rows - old:
        raise ValueError(f"{held} rows held out leave nothing to train on of {old} old and {rows - old} new")
    generator = side_stream(seed, SPLIT)
    first, later = torch.randperm(old, generator=generator), torch.randperm(rows - old, generator=generator)
    out = torch.cat([first[:of_old], old + later[: held - of_old]]).sort().values
    kept = torch.ones(rows, dtype=torch.bool)
    kept[out] = False
    return kept.nonzero().flatten(), out


@dataclass(frozen=True)
class Split:
    """Lanes with rows of their own to train on, and others held out.

    Attributes
    ----------
    stacked : Table
        The rows to train on, lane below lane, in each the old rows first.
    lanes : Tensor
        (lanes,) their places in the stack.
    rows, old : int
        To train on in each lane, and how many of them are old.
    held : Table
        (lanes, rows held out, ...), the old rows first.
    held_old : int
        How many of the rows held out are old.
    """

    stacked: Table
    lanes: Tensor
    rows: int
    old: int
    held: Table
    held_old: int

    def of_old(self) -> Split:
        """The same for the old network: what is old of it."""
        held = Table(*(column[:, : self.held_old] for column in self.held))
        return replace(self, rows=self.old, held=held)


def split_lanes(train: Table, old: int, held: int, seeds: Sequence[int], place: str = "all") -> Split:
    """Hold rows out in every lane.

    Parameters
    ----------
    train : Table
        (lanes, rows, ...), in order of arrival.
    old, held, place
        As for :func:`hold_out`.
    seeds : sequence of int
        One a lane.

    Examples
    --------
    >>> train = Table(torch.arange(20.0).view(2, 10, 1), torch.zeros(2, 10, dtype=torch.int64))
    >>> found = split_lanes(train, old=5, held=4, seeds=[0, 1])
    >>> found.rows, found.old, found.held_old, len(found.stacked.labels)
    (6, 3, 2, 12)
    """
    dealt = [hold_out(train.labels.shape[1], old, held, seed, place) for seed in seeds]
    kept, out = (torch.stack(rows) for rows in zip(*dealt))
    lane = torch.arange(len(seeds))[:, None]
    return Split(
        Table(*(column[lane, kept].flatten(0, 1) for column in train)),
        lane.flatten(),
        kept.shape[1],
        int((kept[0] < old).sum()),
        Table(*(column[lane, out] for column in train)),
        int((out[0] < old).sum()),
    )


class Best:
    """The weights that each lane of an ensemble had at its best epoch so far.

    Parameters
    ----------
    ensemble : Ensemble
    patience : int, optional
        A lane stops looking when so many epochs have brought nothing better. Default: never.

    Attributes
    ----------
    epoch : Tensor
        (lanes,) int64, the best so far; of equals the first.
    spent : Tensor
        (lanes,) int64, epochs trained until the lane stopped, or until now.

    Examples
    --------
    >>> from wsp.lab.network import MLP
    >>> lanes = Ensemble([MLP(), MLP()])
    >>> best = Best(lanes, patience=2)
    >>> for epoch, scores in enumerate([[5.0, 5.0], [6.0, 4.0], [7.0, 5.0], [1.0, 3.0]], start=1):
    ...     best.look(epoch, torch.tensor(scores))
    >>> best.epoch.tolist(), best.spent.tolist()
    ([1, 4], [3, 4])
    """

    def __init__(self, ensemble: Ensemble, patience: int | None = None) -> None:
        self.ensemble, self.patience = ensemble, patience
        self.weights = [weight.clone() for weight in ensemble.weights]
        self.score = torch.full((ensemble.lanes,), float("inf"), dtype=torch.float64)
        self.epoch = torch.zeros(ensemble.lanes, dtype=torch.int64)
        self.spent = self.epoch.clone()
        self.looking = torch.ones(ensemble.lanes, dtype=torch.bool)

    def look(self, epoch: int, score: Tensor) -> None:
        """Keep the weights of the lanes whose score (lanes,) is lower than ever; call after every epoch."""
        self.spent[self.looking] = epoch
        better = self.looking & (score < self.score)
        self.take(better, epoch)
        self.score = torch.where(better, score, self.score)
        if self.patience is not None:
            self.looking &= epoch - self.epoch < self.patience

    def take(self, which: Tensor, epoch: int) -> None:
        """Keep the weights of these lanes (bool) as they are now."""
        lanes = which.nonzero().flatten()
        if len(lanes):
            self.epoch[lanes] = epoch
            for kept, weight in zip(self.weights, self.ensemble.weights):
                kept[lanes] = weight[lanes]

    @classmethod
    def of(cls, kept: Kept, rule: int) -> Best:
        """What the kernel kept by one rule."""
        lanes, best = kept.ensemble.lanes, object.__new__(cls)
        best.ensemble, best.patience = kept.ensemble, int(kept.patience[rule])
        best.score, best.epoch, best.spent, best.looking = (
            torch.from_numpy(array[rule, :lanes].copy())
            for array in (kept.scores, kept.best, kept.spent, kept.looking)
        )
        best.weights = kept.of(rule)
        return best

    def shown(self) -> Ensemble:
        """The lanes with the weights that were kept: to measure, not to train on."""
        shown = copy.copy(self.ensemble)
        shown.weights = self.weights
        return shown


def _in_parts(
    kept: Kept,
    stacked: Table,
    lanes: Tensor,
    rows: int,
    orders: Orders,
    epochs: int,
    tick: Tick,
    learning_rate: float,
    temperatures: Sequence[float] | None,
    *,
    marks: Collection[int],
    awake: int = 0,
) -> Iterator[int]:
    """Train in compiled code, many epochs a call; yield after each of `marks`, and now and then between.

    Lanes that have stopped rest, from epoch `awake` on.
    """
    length = len(stacked.labels) // (int(lanes.max()) + 1)
    of_lanes = torch.arange(rows) + lanes[:, None] * length
    for before, end in parts(epochs, marks):
        kept.ensemble.train_epochs(
            stacked,
            of_lanes,
            orders,
            end - before,
            learning_rate=learning_rate,
            batch_size=BATCH_SIZE,
            temperatures=temperatures[before:end] if temperatures else None,
            kept=kept,
            first=before + 1,
            freeze=before >= awake,
        )
        if temperatures:
            kept.ensemble.temperature = temperatures[end - 1]
        tick((end - before) * of_lanes.numel())
        yield end


def train_stopped(
    ensembles: Mapping[str, Ensemble],
    split: Split,
    draw: Draw,
    epochs: int,
    *,
    patience: int = PATIENCE,
    budgets: Collection[int] = (),
    read: Callable[[str, int, str, Ensemble], None] = lambda name, epoch, rule, best: None,
    tick: Tick = lambda samples: None,
    learning_rate: float = LEARNING_RATE,
    temperatures: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, dict[str, Best]]:
    """Train all ensembles in the same orders; stop each lane by the rows that it holds out.

    The run ends when all lanes have stopped by both rules and the last budget is over.

    Parameters
    ----------
    ensembles : mapping
        Name → ensemble, a lane for each of `split`.
    split : Split
    draw : callable
        One a lane.
    epochs : int
        The last one.
    patience : int
        Default 50.
    budgets : collection of int
        Epochs at which to ask for the best so far, patience or not.
    read : callable
        ``read(name, budget, rule, best)``: an ensemble with the best weights so far by that rule.
    tick, learning_rate, temperatures
        As for :func:`wsp.lab.many.lanes.train_epochs`. The loss that stops is that of training.

    Returns
    -------
    dict
        Name → rule → where each lane stopped. Loss: the lowest cross-entropy of the rows held
        out; accuracy: most of them right. Of equal epochs the first.

    Examples
    --------
    >>> from wsp.lab.many.fast import orders_of
    >>> from wsp.lab.many.lanes import draw_lanes
    >>> from wsp.lab.network import MLP
    >>> drawn = draw_lanes([1000], seeds=2, test_rows=10, label_noise=0.05, own=True)
    >>> split = split_lanes(drawn.train, 100, 40, drawn.seeds)
    >>> draw = orders_of([torch.Generator().manual_seed(seed) for seed in drawn.seeds])
    >>> found = train_stopped({"cold": Ensemble([MLP(), MLP()])}, split, draw, epochs=2)
    >>> list(found["cold"]), found["cold"]["loss"].spent.tolist()
    (['loss', 'accuracy'], [2, 2])
    """
    if isinstance(draw, Orders) and all(isinstance(each, FastEnsemble) for each in ensembles.values()):
        rules = [(rule, wait) for wait in (patience, epochs + 1) for rule in RULES]
        found: dict[str, dict[str, Best]] = {}
        for name, each in ensembles.items():
            assert isinstance(each, FastEnsemble)
            kept, last = Kept(each, rules, split.held), max(budgets, default=0)
            kept.looking[2:] &= last > 0
            warm = (temperatures or {}).get(name)
            how = split.stacked, split.lanes, split.rows, draw.copy(), epochs, tick, learning_rate, warm
            for epoch in _in_parts(kept, *how, marks=budgets):
                for k, rule in enumerate(RULES):
                    if epoch in budgets:
                        read(name, epoch, rule, Best.of(kept, 2 + k).shown())
                if epoch >= last:
                    kept.looking[2:] = False
            found[name] = {rule: Best.of(kept, k) for k, rule in enumerate(RULES)}
        return found
    stopped = {name: {rule: Best(each, patience) for rule in RULES} for name, each in ensembles.items()}
    best = {name: {rule: Best(each) for rule in RULES} for name, each in ensembles.items()}
    last = max(budgets, default=0)
    for epoch in train_epochs(
        ensembles, split.stacked, split.lanes, split.rows, draw, epochs, tick, learning_rate, temperatures
    ):
        for name, ensemble in ensembles.items():
            right, loss = ensemble.measure(*split.held)
            for rule, score in zip(RULES, (loss, -right.double())):
                stopped[name][rule].look(epoch, score)
                if epoch <= last:
                    best[name][rule].look(epoch, score)
                if epoch in budgets:
                    read(name, epoch, rule, best[name][rule].shown())
        if epoch >= last and not any(each.looking.any() for by in stopped.values() for each in by.values()):
            tick((epochs - epoch) * split.rows * len(split.lanes) * len(ensembles))
            break
    return stopped


def train_again(
    ensembles: Mapping[str, Ensemble],
    stacked: Table,
    lanes: Tensor,
    rows: int,
    draw: Draw,
    epochs: int,
    chosen: Mapping[str, Mapping[str, Tensor]],
    *,
    budgets: Collection[int] = (),
    read: Callable[[str, int, Ensemble], None] = lambda name, epoch, ensemble: None,
    tick: Tick = lambda samples: None,
    learning_rate: float = LEARNING_RATE,
    temperatures: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, dict[str, Ensemble]]:
    """Train all ensembles on all rows; keep each lane as it is after the epochs chosen for it.

    Parameters
    ----------
    ensembles, stacked, lanes, rows, draw, epochs, tick, learning_rate, temperatures
        As for :func:`wsp.lab.many.lanes.train_epochs`.
    chosen : mapping
        Name → rule → (lanes,) epochs, from 1 to `epochs`.
    budgets : collection of int
        Epochs at which to read all lanes.
    read : callable
        ``read(name, epoch, ensemble)``.

    Returns
    -------
    dict
        Name → rule → the lanes as they were.
    """
    if isinstance(draw, Orders) and all(isinstance(each, FastEnsemble) for each in ensembles.values()):
        shown: dict[str, dict[str, Ensemble]] = {}
        for name, each in ensembles.items():
            assert isinstance(each, FastEnsemble)
            rules = chosen.get(name, {})
            epoch_of = torch.stack(list(rules.values())) if rules else torch.empty(0, each.lanes).long()
            found = Kept(each, [("epoch", 0)] * len(rules), chosen=epoch_of)
            warm = (temperatures or {}).get(name)
            how = stacked, lanes, rows, draw.copy(), epochs, tick, learning_rate, warm
            for epoch in _in_parts(found, *how, marks=budgets, awake=max(budgets, default=0)):
                if epoch in budgets:
                    read(name, epoch, each)
            if rules:
                shown[name] = {rule: Best.of(found, k).shown() for k, rule in enumerate(rules)}
        return shown
    kept = {name: {rule: Best(ensembles[name]) for rule in rules} for name, rules in chosen.items()}
    for epoch in train_epochs(
        ensembles, stacked, lanes, rows, draw, epochs, tick, learning_rate, temperatures
    ):
        for name, ensemble in ensembles.items():
            for rule, best in kept.get(name, {}).items():
                best.take(chosen[name][rule] == epoch, epoch)
            if epoch in budgets:
                read(name, epoch, ensemble)
    return {name: {rule: best.shown() for rule, best in rules.items()} for name, rules in kept.items()}
