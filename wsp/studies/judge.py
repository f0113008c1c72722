"""Judge the procedure of :mod:`wsp.lab.choose` on fresh tables, where the truth is known.

For every lane, a table and a seed, the whole procedure is run as :func:`wsp.lab.choose.choose`
would. What a choice is worth is looked up beside it: the same starts, trained on all 200 rows
of the same table from the same old network, and scored on 2,000 other rows.

A second part shows why rows must be held out of the new ones: there all 200 rows are dealt
out, so that half of the held-out rows are old ones, which the old network has seen.

Rules, written before the run with seeds of their own:

- Hypothesis, after the run with one seed on all tables: with 100 rows held out in turn, choosing is worth
  less than a good habit (lamda 0.2 or 0.5, sigma 0.01, always), because a hundred rows tell little.
- Comparisons, one joint family (:func:`against_cold`): choosing with 20, 40 and 100 rows, and three habits
  (both pairs above, and warm), each minus always cold. Single, declared here: choosing with 100 rows minus
  the habit of 0.2, and minus a choice by chance.
- The procedure chooses on held-out rows of a lane and is scored on test rows: no half is needed. The habits
  were set before.
- Old against new rows held out: the trick minus cold on each, after 20 epochs and at the end; the
  difference of the two leads, single for each reading (:func:`flattered`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsp.lab import choose
from wsp.lab.employees import LABEL_NOISE, TRAIN_ROWS, Table
from wsp.lab.many.fast import ensemble_of, orders_of
from wsp.lab.many.lanes import Drawn, draw_lanes, train_epochs
from wsp.lab.network import MLP
from wsp.lab.retraining import ARMS, HALF, LAMDA, OLD_ROWS, SIGMA, random_network, stream
from wsp.lab.statistics import Floats, Interval, mean_interval, simultaneous
from wsp.lab.training import LEARNING_RATE
from wsp.perturb import shrink_perturb_
from wsp.studies.engine import Tick
from wsp.studies.grid import WARM, cell
from wsp.studies.parts import Content, at_least_1
from wsp.studies.tables import ByTable, common

EARLY = 20  # epochs
TRICK = cell(LAMDA, SIGMA)
#: Rows held out -> folds of twenty that the procedure looks at.
LOOKED_AT = {20: 1, 40: 2, 100: 5}
#: What somebody may always do instead.
HABITS = ("0.2, 0.01", TRICK, WARM)


def name_of(candidate: choose.Candidate) -> str:
    """What the map calls a candidate.

    Examples
    --------
    >>> [name_of(candidate) for candidate in choose.candidates([0.5], [0.01])]
    ['cold', '1, 0', '0.5, 0.01']
    """
    return "cold" if candidate.start == "cold" else cell(candidate.lamda, candidate.sigma)


def start(candidate: choose.Candidate, old: MLP, seed: int) -> MLP:
    """The network a candidate starts from; `old` is never changed."""
    if candidate.start == "cold":
        return random_network(seed, "fresh weights")
    return shrink_perturb_(
        copy.deepcopy(old), candidate.lamda, candidate.sigma, generator=stream(seed, "noise")
    )


class Judge(ByTable):
    """For each table a list over its seeds. ``correct``: candidate → held-out rows right, a list over the
    folds. ``test``: candidate → test rows right after training on all rows. ``leak``: ``early`` and at
    the ``end``, for cold, warm and the article's pair, where all rows were dealt out: the ``old`` and
    ``new`` held-out rows right (100 each).
    """

    name, chapter = "judge", 8
    words = "the procedure that chooses lamda and sigma, judged where the truth is known"
    chunk = 10  # with two seeds and five folds a hundred lanes side by side

    def specification(
        self,
        *,
        seeds: int = 2,
        lamdas: Sequence[float] = choose.LAMDAS,
        sigmas: Sequence[float] = choose.SIGMAS,
        folds: int = choose.FOLDS,
        first_epochs: int = ARMS["initial"].epochs,
        epochs: int = HALF,
        early: int = EARLY,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What is computed.

        Parameters
        ----------
        seeds : int
            Of each table's own: of the old network, and of the procedure
        lamdas, sigmas : sequence of float
            Of the candidates, all pairs
        folds : int
            As for ``wsp.lab.choose.choose``
        first_epochs, epochs : int
            Of the old network, and of every training
        early : int
            After how many the second part is read a first time
        test_rows : int
            Drawn anew with every table
        label_noise, learning_rate : float
            Of the tables, and of every training

        Examples
        --------
        >>> Judge().specification(folds=3)
        Traceback (most recent call last):
        ValueError: folds must divide 100 rows, not 3
        """
        at_least_1(first_epochs=first_epochs)
        if folds < 2 or (TRAIN_ROWS - OLD_ROWS) % folds:
            raise ValueError(f"folds must divide {TRAIN_ROWS - OLD_ROWS} rows, not {folds}")
        if not 0 < early < epochs:
            raise ValueError(f"early must be from 1 to below epochs, {epochs}, not {early}")
        return {
            **common(self.name, seeds, test_rows, label_noise, learning_rate),
            "lamdas": list(lamdas),
            "sigmas": list(sigmas),
            "folds": folds,
            "first_epochs": first_epochs,
            "epochs": epochs,
            "early": early,
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        tried, folds = len(choose.candidates(spec["lamdas"], spec["sigmas"])), spec["folds"]
        rest, rest_of_all = TRAIN_ROWS - (TRAIN_ROWS - OLD_ROWS) // folds, TRAIN_ROWS - TRAIN_ROWS // folds
        rows = tried * (TRAIN_ROWS + folds * rest) + 3 * folds * rest_of_all
        a_lane = OLD_ROWS * spec["first_epochs"] + rows * spec["epochs"]
        return int(len(units) * spec["seeds"] * a_lane)

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """The procedure on these tables, what each candidate is worth, and the wrong procedure."""
        drawn = draw_lanes(units, spec["seeds"], spec["test_rows"], spec["label_noise"], own=True)
        old = old_networks(drawn, spec, tick)
        tried = choose.candidates(spec["lamdas"], spec["sigmas"])
        correct = {
            name_of(candidate): drawn.by_seed(right.sum(dim=2))
            for _, candidate, right in held_out(drawn, old, tried, OLD_ROWS, [spec["epochs"]], spec, tick)
        }
        leak: dict[str, dict[str, dict[str, list[list[int]]]]] = {"early": {}, "end": {}}
        three, read_at = choose.candidates([LAMDA], [SIGMA]), [spec["early"], spec["epochs"]]
        is_old = torch.stack([folds_of(seed, 0, spec) for seed in drawn.seeds]) < OLD_ROWS
        for epoch, candidate, right in held_out(drawn, old, three, 0, read_at, spec, tick):
            leak["early" if epoch == spec["early"] else "end"][name_of(candidate)] = {
                "old": drawn.by_seed((right & is_old).sum(dim=(1, 2))),
                "new": drawn.by_seed((right & ~is_old).sum(dim=(1, 2))),
            }
        test = {name: drawn.by_seed(counts) for name, counts in worths(drawn, old, tried, spec, tick).items()}
        yield {"tables": list(units), "correct": correct, "leak": leak, "test": test}

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, one pair."""
        return content["specification"] | {"lamdas": [0.2], "sigmas": [0.1]}, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """How often the procedure chooses each candidate, for people."""
        choices = chosen(content, content["specification"]["folds"])
        lines = [f"chosen in {len(choices)} runs of the procedure"]
        return "\n".join([*lines, *(f"{name:12s}{choices.count(name):5d}" for name in content["correct"])])


STUDY = Judge()


def old_networks(drawn: Drawn, spec: Mapping[str, Any], tick: Tick) -> list[MLP]:
    """The network of each lane's old rows."""
    old = ensemble_of([random_network(seed, "first weights") for seed in drawn.seeds])
    orders, epochs = orders_of([stream(seed, "first order") for seed in drawn.seeds]), spec["first_epochs"]
    for _ in train_epochs(
        {"old": old}, drawn.stacked, drawn.lanes, OLD_ROWS, orders, epochs, tick, spec["learning_rate"]
    ):
        pass
    return old.networks()


def folds_of(seed: int, first: int, spec: Mapping[str, Any]) -> Tensor:
    """(folds, rows of a fold): the rows from `first` on, dealt out as the procedure does with this seed."""
    return first + torch.stack(choose.split(TRAIN_ROWS - first, spec["folds"], seed))


def held_out(
    drawn: Drawn,
    old: Sequence[MLP],
    tried: Sequence[choose.Candidate],
    first: int,
    read_at: Sequence[int],
    spec: Mapping[str, Any],
    tick: Callable[[int], object],
) -> Iterator[tuple[int, choose.Candidate, Tensor]]:
    """Train every candidate with each fold of the rows from `first` on held out, all lanes side by side.

    Yields
    ------
    int, Candidate, Tensor
        After each epoch of `read_at`: which held-out rows the candidate gets right, (lanes,
        folds, rows of a fold) bool.
    """
    rows, count = torch.arange(TRAIN_ROWS), spec["folds"]
    folds = [folds_of(seed, first, spec) for seed in drawn.seeds]
    tables = [drawn.tables[place] for place, _ in drawn.pairs]
    rest = [[rows[~torch.isin(rows, fold)] for fold in of] for of in folds]
    stacked = Table(
        *(torch.cat([c[r] for c, of in zip(columns, rest) for r in of]) for columns in zip(*tables))
    )
    inputs, labels = (
        torch.stack([c[fold] for c, of in zip(columns, folds) for fold in of]) for columns in zip(*tables)
    )
    runs = [seed * count + number for seed in drawn.seeds for number in range(count)]
    saved = [network for network in old for _ in range(count)]
    ensembles = {
        candidate: ensemble_of([start(candidate, network, run) for network, run in zip(saved, runs)])
        for candidate in tried
    }
    named = {name_of(candidate): ensemble for candidate, ensemble in ensembles.items()}
    lanes, length = torch.arange(len(runs)), len(rest[0][0])
    orders, rate = orders_of([stream(run, "order") for run in runs]), spec["learning_rate"]
    for epoch in train_epochs(named, stacked, lanes, length, orders, max(read_at), tick, rate):
        if epoch in read_at:
            for candidate, ensemble in ensembles.items():
                right = ensemble.logits(inputs).argmax(dim=1) == labels
                yield epoch, candidate, right.view(len(tables), count, -1)


def worths(
    drawn: Drawn, old: Sequence[MLP], tried: Sequence[choose.Candidate], spec: Mapping[str, Any], tick: Tick
) -> dict[str, Tensor]:
    """Test rows right (lanes,) by candidate, trained on all rows."""
    ensembles = {
        name_of(candidate): ensemble_of([start(candidate, n, seed) for n, seed in zip(old, drawn.seeds)])
        for candidate in tried
    }
    orders, epochs = orders_of([stream(seed, "order") for seed in drawn.seeds]), spec["epochs"]
    for _ in train_epochs(
        ensembles, drawn.stacked, drawn.lanes, TRAIN_ROWS, orders, epochs, tick, spec["learning_rate"]
    ):
        pass
    return {name: ensemble.measure(*drawn.test)[0] for name, ensemble in ensembles.items()}


def chosen(found: Mapping[str, Any], folds: int) -> list[str]:
    """What the procedure would choose in each run (table, then seed), if it looked at so many folds.

    The most accurate candidate; of equals the first, where cold and warm come before the pairs.

    Examples
    --------
    >>> chosen({"correct": {"cold": [[[3, 5], [2, 2]]], "1, 0": [[[4, 1], [2, 2]]]}}, folds=2)
    ['cold', 'cold']
    """
    names = list(found["correct"])
    counts = np.array([np.array(found["correct"][name])[..., :folds].sum(axis=-1) for name in names])
    return [names[place] for place in counts.reshape(len(names), -1).argmax(axis=0)]


def worth(found: Mapping[str, Any], choices: Sequence[str]) -> Floats:
    """What these choices give, in percent, one value a table.

    Parameters
    ----------
    found : mapping
        A result of this study.
    choices : sequence of str
        One for all tables, one a table, or one a run, table by table.

    Examples
    --------
    >>> spec = {"seeds": 2, "test_rows": 100}
    >>> test = {"cold": [[40, 60], [50, 70]], "1, 0": [[20, 30], [25, 35]]}
    >>> found = {"specification": spec, "tables": [7, 8], "test": test}
    >>> worth(found, ["cold"]), worth(found, ["cold", "1, 0", "1, 0", "cold"])
    (array([50., 60.]), array([35. , 47.5]))
    """
    tables, spec = len(found["tables"]), found["specification"]
    runs = np.repeat(choices, tables * spec["seeds"] // len(choices)).reshape(tables, spec["seeds"])
    counts = np.zeros(runs.shape)
    for name in np.unique(runs):
        counts[runs == name] = np.array(found["test"][str(name)])[runs == name]
    percent: Floats = 100 * counts.mean(axis=1) / spec["test_rows"]
    return percent


def policies(found: Mapping[str, Any]) -> dict[str, Floats]:
    """What choosing gives, and what the habits give, in percent, one value a table."""
    choosing = {f"choose, {rows} rows held out": chosen(found, k) for rows, k in LOOKED_AT.items()}
    habits = {f"always {'warm' if name == WARM else name}": [name] for name in HABITS}
    return {what: worth(found, choices) for what, choices in (choosing | habits).items()}


def against_cold(found: Mapping[str, Any]) -> dict[str, Interval]:
    """Each of :func:`policies` minus always cold, in points; intervals that hold for all at once."""
    cold = worth(found, ["cold"])
    return simultaneous({what: values - cold for what, values in policies(found).items()})


def lead(found: Mapping[str, Any], when: str, rows: str, name: str = TRICK) -> Floats:
    """How far a candidate is ahead of cold on held-out rows, in points, one value a table.

    Parameters
    ----------
    found : mapping
        A result of this study.
    when : {"early", "end"}
    rows : {"old", "new"}
        Which of the held-out rows, where all rows were dealt out. There are a hundred of each.
    name : str
        Default: the article's pair.
    """
    counts = {one: np.mean(found["leak"][when][one][rows], axis=1) for one in (name, "cold")}
    points: Floats = counts[name] - counts["cold"]
    return points


def flattered(found: Mapping[str, Any], when: str, name: str = TRICK) -> Interval:
    """By how much old rows held out make a candidate's lead over cold look larger, in points."""
    return mean_interval(lead(found, when, "old", name) - lead(found, when, "new", name))
