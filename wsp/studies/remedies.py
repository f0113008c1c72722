"""What else people do: the obvious fixes, under one protocol.

What they are, :mod:`wsp.lab.remedies` says. Each is carried out on the same fresh tables with the same seeds,
warm and, where a cold start can take it, cold as well: what helps both may leave the gap as it was. A file a
remedy: one can be added, or given a finer grid, while all others stand; it costs each the old networks anew.

Rules, written before the run with seeds of their own:

- Grids were extended after looking at the run with seeds 0 and 1 on all tables, so that no choice lies at
  their end: lamda down to 0.1 and up to 0.9, label smoothing, dropout, penalty, decay of the first phase,
  noise, average and batch size one step further. The temperature is new, after a first look (60 tables:
  warm with logits over 8 stood 0.80 above plain cold; cold with it 0.29 above that).
- Extended once more, after looking at the first run with seeds of their own, which chose ends of grids: lamda
  to 0, temperature to 64, label smoothing to 0.95, penalty to 10, average to 0.998, batch to all 200 rows,
  first fit to 2 epochs. An end beside no change at all (the least noise, for a cold start) stays.
- A strength is chosen on one half of the tables, those at even or at odd places, and reported on the other
  (:func:`wsp.studies.tables.choose_elsewhere`), for each arm apart. No table reports its own choice.
- Comparisons, joint families of their own: every remedy and arm minus plain cold, all at epoch 500
  (:func:`against_cold`); epochs to what plain cold has at 500, or 500 (:func:`epochs_over_cold`); and for
  remedies with both arms cold with it minus warm with it: the gap (:func:`gaps`).
- Families that the first edition had, added when twelve tables had been looked at to draw the page: first
  fits of so many epochs minus plain cold (:func:`first_fits`), the gap by strength of weight decay
  (:func:`gaps_by_strength`); single: the best warm setting of rate, batch size and epoch minus the best cold
  one (:func:`best_setting`).
- Described, without verdict: the same with a number of epochs chosen as a strength is, by other tables. What
  stopping does is judged by rows held out, in :mod:`wsp.studies.stopped`.
- Claim to be judged (the article, after the paper): none of the usual fixes closes the gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsp.lab.employees import LABEL_NOISE, TRAIN_ROWS
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.lanes import draw_lanes
from wsp.lab.many.plans import Firsts, Plan, samples_of, train_plans
from wsp.lab.many.recipes import Recipe
from wsp.lab.remedies import EPOCHS, REMEDIES, plan_name
from wsp.lab.results import stored
from wsp.lab.statistics import Floats, Interval, simultaneous
from wsp.lab.training import LEARNING_RATE
from wsp.studies.engine import Tick
from wsp.studies.parts import Content
from wsp.studies.tables import ByTable, choose_elsewhere, common, in_percent, some_of

READ_AT = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 250, 300, 400, 500)


class Remedies(ByTable):
    """``correct``: plan (arm and strength) → for each table a list over its seeds, each a list over the
    epochs read: test rows right. ``train``: plan → training rows right at each epoch, summed over
    everything: it describes and is compared with nothing.
    """

    name, chapter = "remedies", 9
    words = "the obvious fixes, a file each"
    sums = ("train",)

    def specification(
        self,
        *,
        remedy: str = "none",
        seeds: int = 2,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
    ) -> Content:
        """What a file is about.

        Parameters
        ----------
        remedy : str
            A key of ``wsp.lab.remedies.REMEDIES``
        seeds : int
            Of each table's own
        test_rows : int
            Drawn anew with every table
        label_noise : float
            Of the tables

        Examples
        --------
        >>> Remedies().specification(remedy="prayer")
        Traceback (most recent call last):
        ValueError: unknown remedy 'prayer': choose from none, ...
        """
        (key,) = some_of("remedy", [remedy], REMEDIES)
        spec = common(self.name, seeds, test_rows, label_noise, LEARNING_RATE)
        del spec["learning_rate"]  # each plan has its own
        return spec | {
            "remedy": key,
            "plans": {name: asdict(plan) for name, plan in REMEDIES[key].plans().items()},
            "epochs": list(READ_AT),
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        return int(len(units) * spec["seeds"] * samples_of(plans_of(spec), TRAIN_ROWS))

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Carry out all plans on these tables."""
        saved = firsts_of(tuple(units), spec["seeds"], spec["label_noise"])
        yield count_correct(plans_of(spec), units, spec, tick, saved, own=True)

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, every arm at its last strength, the first epochs."""
        spec = content["specification"]
        early = [epoch for epoch in spec["epochs"] if epoch <= 20]
        last = {name.split()[0]: name for name in spec["plans"]}
        plans = {
            name: spec["plans"][name] | {"then": spec["plans"][name]["then"] | {"epochs": early[-1]}}
            for name in last.values()
        }
        return spec | {"plans": plans, "epochs": early}, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """Every plan as a line for people."""
        key = content["specification"]["remedy"]
        lines = [f"{key}: accuracy at the last epoch, and at the best of all, %"]
        for name in content["correct"]:
            curve = curves(content, name).mean(axis=0)
            lines.append(f"{name:12s}{curve[-1]:8.2f}{curve.max():8.2f}")
        return "\n".join(lines)


STUDY = Remedies()


def plans_of(spec: Mapping[str, Any]) -> dict[str, Plan]:
    """The plans of a specification."""
    return {
        name: Plan(**plan | {phase: Recipe(**plan[phase]) for phase in ("first", "then")})
        for name, plan in spec["plans"].items()
    }


@lru_cache(maxsize=64)
def firsts_of(tables: tuple[int, ...], seeds: int, label_noise: float) -> Firsts:
    """Old networks of these tables, for one remedy after the other in a process; empty at first."""
    return {}


def count_correct(
    plans: Mapping[str, Plan],
    numbers: Sequence[int],
    spec: Mapping[str, Any],
    tick: Tick = lambda samples: None,
    saved: Firsts | None = None,
    *,
    own: bool = False,
) -> dict[str, Any]:
    """Carry out plans on the tables of these numbers; `saved` as for :func:`wsp.lab.many.plans.train_plans`.

    Every table has seeds of its own, or, by default, seeds 0, 1, ...

    Returns
    -------
    dict
        `tables`; `correct`: plan → for every table and seed the correct test rows at each
        epoch of the specification; `train`: plan → correct
        training rows at each epoch, summed over everything.

    Examples
    --------
    >>> plans = {"cold": Plan("fresh", then=Recipe(epochs=2))}
    >>> spec = {"seeds": 2, "test_rows": 50, "label_noise": 0.05, "epochs": [1, 2]}
    >>> found = count_correct(plans, [1000, 1001], spec)
    >>> found["tables"], np.shape(found["correct"]["cold"])
    ([1000, 1001], (2, 2, 2))
    """
    drawn = draw_lanes(numbers, spec["seeds"], spec["test_rows"], spec["label_noise"], own=own)
    correct: dict[str, list[Tensor]] = {name: [] for name in plans}
    fitted: dict[str, list[int]] = {name: [] for name in plans}

    def read(name: str, epoch: int, ensemble: Ensemble) -> None:
        correct[name].append(ensemble.measure(*drawn.test)[0])
        fitted[name].append(int(ensemble.measure(*drawn.train)[0].sum()))

    train_plans(drawn.tables, drawn.pairs, plans, read, read_at=spec["epochs"], tick=tick, saved=saved)
    return {
        "tables": list(numbers),
        "correct": {name: drawn.by_seed(torch.stack(counts, dim=1)) for name, counts in correct.items()},
        "train": fitted,
    }


def file_name(key: str, label_noise: float) -> str:
    """The stored result of a remedy, without folder and ending.

    Examples
    --------
    >>> file_name("dropout", 0.05)
    'remedy_noise_0.05_dropout'
    """
    return f"remedy_noise_{label_noise}_{key}"


def stored_remedies(
    label_noise: float = LABEL_NOISE, keys: Iterable[str] = REMEDIES
) -> dict[str, dict[str, Any]]:
    """The book's stored results of these remedies, all on the same tables.

    Raises
    ------
    FileNotFoundError
        If one of them is not stored.
    ValueError
        If they are not on the same tables: a run is unfinished.
    """
    return on_same_tables({key: stored(file_name(key, label_noise)) for key in keys})


def on_same_tables(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """These results; ``ValueError`` if they are not all on the same tables."""
    sizes = {key: len(content["tables"]) for key, content in found.items()}
    if len({tuple(content["tables"]) for content in found.values()}) > 1:
        raise ValueError(f"the remedies are not on the same tables, a run is unfinished: {sizes}")
    return found


def curves(found: Mapping[str, Any], plan: str) -> Floats:
    """Test accuracy in percent, (tables, epochs), the mean over seeds.

    Examples
    --------
    >>> spec = {"seeds": 2, "test_rows": 10}
    >>> curves({"specification": spec, "correct": {"cold": [[[4, 8], [6, 7]]]}}, "cold")
    array([[50., 75.]])
    """
    return in_percent(found["specification"], found["correct"][plan], further=1)


def curves_of(found: Mapping[str, Any], arm: str) -> dict[str, Floats]:
    """The :func:`curves` of all plans of an arm, by name: one for each strength.

    Examples
    --------
    >>> spec = {"seeds": 2, "test_rows": 10}
    >>> correct = {"warm 0.1": [[[5], [5]]], "warm 0.3": [[[5], [6]]], "cold 0.1": [[[2], [3]]]}
    >>> list(curves_of({"specification": spec, "correct": correct}, "warm"))
    ['warm 0.1', 'warm 0.3']
    """
    return {name: curves(found, name) for name in found["correct"] if name.split()[0] == arm}


def epochs_to(accuracy: Floats, epochs: Sequence[int], target: Floats) -> Floats:
    """For each table the first epoch of `epochs` with at least the target; infinite if there is none.

    Parameters
    ----------
    accuracy : array (tables, epochs)
    epochs : sequence of int
    target : array (tables,)

    Examples
    --------
    >>> accuracy = np.array([[50.0, 70.0, 60.0], [50.0, 55.0, 58.0]])
    >>> epochs_to(accuracy, [10, 20, 50], np.array([60.0, 60.0]))
    array([20., inf])
    """
    there = accuracy >= target[:, None]
    return np.where(there.any(axis=1), np.array(epochs, dtype=float)[there.argmax(axis=1)], np.inf)


@dataclass(frozen=True)
class Outcome:
    """A remedy in one arm, each table with the strength that was best on the other half of the tables.

    Attributes
    ----------
    curves : array (tables, epochs)
        Test accuracy in percent.
    chosen : array (tables,) of str
        The plan that each table got.
    """

    curves: Floats
    chosen: NDArray[np.str_]

    @property
    def at_end(self) -> Floats:
        """Accuracy at the last epoch, in percent, one value a table."""
        last: Floats = self.curves[:, -1]
        return last

    @property
    def strengths(self) -> list[str]:
        """What was chosen, for people; most often first; empty if there was nothing to choose."""
        names, counts = np.unique(self.chosen, return_counts=True)
        return [
            str(names[k]).partition(" ")[2] for k in np.argsort(-counts, kind="stable") if " " in names[k]
        ]


def outcome(candidates: Mapping[str, Floats]) -> Outcome:
    """Choose for every table, by the last epoch and on the other half of the tables.

    Parameters
    ----------
    candidates : mapping
        Plan -> its :func:`curves`.

    Examples
    --------
    >>> found = outcome({"warm 1": np.array([[50.0], [90.0]]), "warm 2": np.array([[60.0], [70.0]])})
    >>> found.at_end, found.strengths
    (array([50., 70.]), ['1', '2'])
    """
    names = choose_elsewhere({name: values[:, -1] for name, values in candidates.items()})
    return Outcome(np.stack([candidates[name][table] for table, name in enumerate(names)]), names)


def outcomes(found: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Outcome]:
    """Every remedy in every arm: (key, arm) -> what came of it. Plain cold is ``("none", "cold")``."""
    return {
        (key, arm): outcome(curves_of(content, arm))
        for key, content in found.items()
        for arm in REMEDIES[key].arms
    }


def against_cold(found: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Interval]:
    """Every remedy and arm minus plain cold at the last epoch, in points; they hold for all at once."""
    every = outcomes(found)
    cold = every.pop(("none", "cold")).at_end
    return dict(zip(every, simultaneous({str(row): o.at_end - cold for row, o in every.items()}).values()))


def epochs_over_cold(found: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Interval]:
    """Epochs to what plain cold has at the last epoch, minus those of plain cold; they hold for all at once.

    A table whose mean curve never gets there counts with the last epoch.
    """
    every, epochs = outcomes(found), found["none"]["specification"]["epochs"]
    target = every["none", "cold"].at_end
    needs = {row: np.minimum(epochs_to(o.curves, epochs, target), EPOCHS) for row, o in every.items()}
    cold = needs.pop(("none", "cold"))
    return dict(zip(needs, simultaneous({str(row): more - cold for row, more in needs.items()}).values()))


def gaps(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Interval]:
    """Cold with a remedy minus warm with it, for all that have both arms; they hold for all at once.

    The plain gap is not among them: it is that of ``("none", "warm")`` in :func:`against_cold`.
    """
    every = outcomes(found)
    both = [key for key, arm in every if arm == "cold" and key != "none"]
    return simultaneous({key: every[key, "cold"].at_end - every[key, "warm"].at_end for key in both})


def first_fits(found: Mapping[str, Mapping[str, Any]]) -> dict[int, Interval]:
    """Warm after a first fit of so many epochs minus plain cold; they hold for all lengths at once.

    The longest, 1000 epochs, is not among them: it is ``("none", "warm")`` in :func:`against_cold`.
    """
    cold = curves(found["none"], "cold")[:, -1]
    names = {plan.first.epochs: name for name, plan in REMEDIES["early_first"].plans().items()}
    ahead = {str(n): curves(found["early_first"], name)[:, -1] - cold for n, name in names.items()}
    return dict(zip(names, simultaneous(ahead).values()))


def gaps_by_strength(content: Mapping[str, Any]) -> dict[float, Interval]:
    """Cold minus warm at every strength of a remedy that has both arms; they hold for all at once."""
    strengths = REMEDIES[content["specification"]["remedy"]].strengths
    cold, warm = ([curves(content, plan_name(arm, s))[:, -1] for s in strengths] for arm in ("cold", "warm"))
    family = simultaneous({f"{s}": one - other for s, one, other in zip(strengths, cold, warm)})
    return dict(zip(strengths, family.values()))


def at_any_epoch(candidates: Mapping[str, Floats]) -> dict[str, Floats]:
    """Every plan stopped at every epoch read, for :func:`outcome` to choose among: a description.

    Examples
    --------
    >>> list(at_any_epoch({"warm": np.zeros((2, len(READ_AT)))}))[:2]
    ['warm to 1', 'warm to 2']
    """
    return {
        f"{name} to {epoch}": values[:, [k]]
        for name, values in candidates.items()
        for k, epoch in enumerate(READ_AT)
    }


def best_setting(found: Mapping[str, Mapping[str, Any]], arm: str) -> Outcome:
    """An arm with the best learning rate, batch size and epoch to stop at."""
    settings = {
        f"{REMEDIES[key].plan(arm).then.learning_rate:g}, {plan.partition(' ')[2]}": values
        for key in ("rate_0.05", "rate_0.01")
        for plan, values in curves_of(found[key], arm).items()
    }
    return outcome(at_any_epoch(settings))
