"""Real workers arrive year by year: the starts on a real table, beside what people use on tables.

Rules, written before any run of this study but one on two other splits, looked at for its cost alone:

- Data: :mod:`wsp.lab.workers`. A quarter of each year is held out to test on; of the other rows of each
  year a fifth, dealt anew with every seed, is held out to stop by. They stay held out later on. In 2003 a
  network is trained on what is there; from 2004 on, six times, each arm starts anew and is trained on all
  that has arrived. What counts is the share of right test rows, of all seven years, averaged over the six
  retrainings and the seeds of a split. The unit is the split.
- Protocol: *stopped, by the loss of the rows held out, patience 50, no second training*, in every year and
  so for the old network as well. SGD as in the book: batches of 10, rate 0.05. The network is the tanh one
  with two layers of 32 units; the ReLU one of that size is a check.
- All splits are cut from the same 3,000 rows, so they tell of one data set. Intervals have the correction
  of Nadeau and Bengio, with test over training rows.
- One joint family, *starts*: ``warm``, ``shrink_perturb``, ``shrink_perturb_0.3`` and ``fresh_shrunk`` minus
  ``cold``. Besides, single: ``shrink_perturb`` minus ``fresh_shrunk``. Of ReLU the same, as checks: whether
  the sign agrees.
- One joint family, *models*: boosting with warm continuation minus boosting from nothing; boosting and
  logistic regression, both from nothing, minus the cold network.
- Boosting: trees of depth 3, rate 0.1, at most 300 more a year, stopped by the loss of the same rows held
  out, patience 20; on two of the four seeds, which draw nothing but these rows. Continued, the old trees
  stay as they are and more are added, fitted to all that has arrived: ``init_model`` in LightGBM,
  ``xgb_model`` in XGBoost, ``warm_start`` in scikit-learn, here of its GradientBoostingClassifier (its
  HistGradientBoostingClassifier says that it may go on with the same data only). Logistic regression needs
  no rows to stop by, and trains on them too.
- The frozen rule of *Which start?*: asked as a reader would answer (see ``ANSWERS``), once a year. Its
  regret is always-cold's accuracy minus that of who follows it; where it answers warm every year, that is
  cold minus warm, with the interval of the family *starts*.
- Hypotheses: the rule says warm, so warm is level with cold and cheaper; as on digits, no start is told
  apart in accuracy; logistic regression is level with the network.
- Cost: epochs trained until stopped, patience included, over the six retrainings, times rows, as a ratio of
  sums to cold's; epochs of the weights kept stand beside. Of boosting trees, patience included.
- Checks, told with whether they agree in sign: ReLU; test rows of the years that have arrived alone; the
  last year alone.
- Nothing is chosen: lamda 0.5 and 0.3 are those of the study *stopped*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsp.lab import workers
from wsp.lab.employees import Table
from wsp.lab.many.stopping import PATIENCE
from wsp.lab.many.years import STARTS, Lanes, run_starts
from wsp.lab.network import ACTIVATIONS
from wsp.lab.statistics import Floats, Interval, mean_interval, ratio_of_sums, simultaneous
from wsp.lab.training import EPOCHS, LEARNING_RATE
from wsp.studies.engine import Study, Tick
from wsp.studies.parts import Content, at_least_1, differences, positive

BOOSTING = ("boosting", "boosting_continued")
MODELS = (*BOOSTING, "logistic", "logistic_continued")
TREES = 300  # a year, at most
ELSEWHERE = 5.0  # points: on another processor a lane may keep another epoch's weights
#: What a reader would answer who has these workers, and each year's share of new rows. Wages are recorded,
#: a few perhaps wrong; rows are a few hundred to two thousand, for which no other answer fits better.
#:
#: :meta hide-value:
ANSWERS = {
    "data": "tables",
    "batchnorm": "no",
    "labels": "few",
    "old": "best",
    "stop": "split",
    "spend": "plenty",
    "augmentation": "no",
}
NEW = ("50", "25", "25", "10", "10", "10")  # percent, the nearest that can be answered: 2004 to 2009
ADVISED = ("warm",) * 6  # what the frozen rule says to these answers, year by year


class Workers(Study):
    """By arm, for each split a list over its seeds, of which a list over the years: ``correct`` test rows,
    of all years, and ``arrived``, of those up to this year; ``epoch`` of the weights kept (of boosting trees
    in all), and ``spent``, epochs trained until stopped (of boosting trees added, of logistic regression
    iterations). The arms of the ReLU network end in ``relu``. ``test`` and ``rows``: of each year.
    """

    name, key, chapter = "workers_wage", "splits", 10
    words = "the starts while the workers of a real table arrive year by year"
    same = ("rows", "test")
    chunk = 10

    def specification(
        self,
        *,
        seeds: int = 4,
        boosted_seeds: int = 2,
        years: int = len(workers.YEARS),
        hidden: Sequence[int] = (32, 32),
        activations: Sequence[str] = ("tanh", "relu"),
        patience: int = PATIENCE,
        max_epochs: int = EPOCHS,
        learning_rate: float = LEARNING_RATE,
        trees: int = TREES,
    ) -> Content:
        """What is computed.

        Parameters
        ----------
        seeds : int
            Of each split's own
        boosted_seeds : int
            Of these, on how many boosting runs; it draws nothing but the rows to stop by
        years : int
            How many of the seven, from the first
        hidden : sequence of int
            Units of the hidden layers
        activations : sequence of str
            Of the networks; the first is the one that counts
        patience : int
            Epochs without a better one until a network has stopped
        max_epochs : int
            A year
        learning_rate : float
            Of the networks
        trees : int
            Added a year, at most

        Examples
        --------
        >>> STUDY.specification(years=8)
        Traceback (most recent call last):
        ValueError: years must be from 2 to 7, not 8
        """
        at_least_1(
            seeds=seeds, boosted_seeds=boosted_seeds, patience=patience, max_epochs=max_epochs, trees=trees
        )
        positive(learning_rate=learning_rate)
        if not 2 <= years <= len(workers.YEARS):
            raise ValueError(f"years must be from 2 to {len(workers.YEARS)}, not {years}")
        if unknown := set(activations) - set(ACTIVATIONS):
            raise ValueError(f"unknown activation {min(unknown)!r}: choose from {', '.join(ACTIVATIONS)}")
        return {
            "format": f"wsp {self.name} 1",
            "seeds": seeds,
            "boosted_seeds": min(seeds, boosted_seeds),
            "years": years,
            "hidden": list(hidden),
            "activations": list(activations),
            "patience": patience,
            "max_epochs": max_epochs,
            "learning_rate": learning_rate,
            "trees": trees,
        }

    def units(self, spec: Content, content: Content | None, *, splits: int = 50) -> Sequence[int]:
        """Which splits a file is to hold; with more of them the same file grows.

        Parameters
        ----------
        splits : int
            Splits 0, 1, ..., each with seeds of its own
        """
        at_least_1(splits=splits)
        return range(splits)

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """All arms on these splits."""
        lanes = Lanes.of(workers.wage(), units, spec["seeds"], spec["years"])
        how = {name: spec[name] for name in ("patience", "max_epochs", "learning_rate")}
        found: Content = {kind: {} for kind in ("correct", "arrived", "epoch", "spent")}
        for activation in spec["activations"]:
            ending = "" if activation == spec["activations"][0] else f" {activation}"
            for arm, records in run_starts(lanes, spec["hidden"], activation, **how).items():
                keep(found, f"{arm}{ending}", records, spec["seeds"])
        for place in range(len(units)):
            for arm, of_seeds in run_models(lanes, place, spec).items():
                for kind in found:
                    kept = [[record[kind] for record in of_years] for of_years in of_seeds]
                    found[kind].setdefault(arm, []).append(kept)
            tick(1)
        dealt = lanes.dealt[0]
        sizes = {
            "rows": [int((dealt.train_years == year).sum()) for year in lanes.years],
            "test": [int((dealt.test_years == year).sum()) for year in workers.YEARS],
        }
        yield {"splits": list(units), **found, **sizes}

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """Two years of the last split."""
        return content["specification"] | {"years": 2}, self.done(content)[-1:]

    def rows(self, content: Content, units: Sequence[int]) -> Content:
        """What is stored of these splits, and of how many test rows."""
        return super().rows(content, units) | {"of": sum(content["test"])}

    def needs(self, content: Content) -> str:
        """The package that brings the workers."""
        return workers.absent()

    def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
        """To the row on the processor that made them; elsewhere within a few points."""
        if at_home:
            yield from differences(kept, again)
            return
        for arm, [of_seeds] in again["correct"].items():
            before = np.array(kept["correct"][arm][0])[:, : len(of_seeds[0])]
            points = 100 * float(abs((np.array(of_seeds) - before).mean())) / again["of"]
            if points >= ELSEWHERE:
                yield f"{arm}: {of_seeds}, stored {before.tolist()}"

    def as_text(self, content: Content) -> str:
        """Every arm: accuracy over the retrainings, minus its cold start, and what it spent."""
        lines = [f"{len(content['splits'])} splits; retrainings after the first year"]
        lines.append(f"{'arm':28s}{'accuracy, %':>12s}{'spent':>10s}")
        for arm, spent in content["spent"].items():
            total = np.array(spent)[:, :, 1:].sum(axis=2).mean()
            lines.append(f"{arm:28s}{accuracy(content, arm).mean():12.2f}{total:10.1f}")
        if len(content["splits"]) > 1:
            for family in (starts(content), models(content)):
                lines += [f"{name:40s}{interval}" for name, interval in family.items()]
        return "\n".join(lines)


STUDY = Workers()


# ---------------------------------------------------------------- one part of a result


def keep(found: Content, arm: str, records: Sequence[Mapping[str, Tensor]], seeds: int) -> None:
    """Write the records of an arm into a part: split → seed → year."""
    for kind in records[0]:
        table = torch.stack([record[kind] for record in records], dim=1)
        found[kind][arm] = table.view(-1, seeds, len(records)).tolist()


def run_models(lanes: Lanes, place: int, spec: Content) -> dict[str, list[list[dict[str, int]]]]:
    """What people use on tables, on one split: arm → for each seed a record a year.

    Logistic regression needs no rows to stop by, so that all its seeds are one.
    """
    dealt, found = lanes.dealt[place], dict[str, list[list[dict[str, int]]]]()
    of_split = [lane for lane, of in enumerate(lanes.place) if of == place]
    for arm, of_seeds in zip(MODELS, (spec["boosted_seeds"],) * 2 + (1, 1)):
        found[arm] = []
        for lane in of_split[:of_seeds]:
            old: Any = None
            records: list[dict[str, int]] = []
            for number, year in enumerate(lanes.years):
                begun = old if arm.endswith("continued") else None
                if arm in BOOSTING:
                    rows = (of[lane][: lanes.until(of[lane], number)] for of in (lanes.kept, lanes.held))
                    kept, held = (Table(*(column[some] for column in dealt.train)) for some in rows)
                    old, spent = workers.boost(kept, held, spec["trees"], begun)
                else:
                    old, spent = workers.logistic(up_to(year, dealt.train, dealt.train_years), begun)
                records.append(
                    {
                        "correct": workers.count_right(old, dealt.test),
                        "arrived": workers.count_right(old, up_to(year, dealt.test, dealt.test_years)),
                        "epoch": len(old.estimators_) if arm in BOOSTING else spent,
                        "spent": spent,
                    }
                )
            found[arm].append(records)
    return found


def up_to(year: int, table: Table, years: Any) -> Table:
    """The rows that have arrived by this year."""
    return Table(*(column[: int((years <= year).sum())] for column in table))


# ---------------------------------------------------------------- what is compared


def overlap(content: Mapping[str, Any]) -> float:
    """Test rows over training rows, for the intervals.

    Examples
    --------
    >>> overlap({"test": [25, 25], "rows": [75, 75]})
    0.3333333333333333
    """
    return float(sum(content["test"]) / sum(content["rows"]))


def accuracy(content: Mapping[str, Any], arm: str, what: str = "all") -> Floats:
    """Percent of the test rows right, one value a split: seeds and retrainings averaged.

    Parameters
    ----------
    content : mapping
        A result.
    arm : str
    what : {"all", "arrived", "last"}
        Of all test rows; of those that have arrived; of all, but after the last year alone.
    """
    of = np.array(content["test"])
    counts = np.array(content["arrived" if what == "arrived" else "correct"][arm], dtype=float)
    shares = 100 * counts / (of.cumsum()[: counts.shape[2]] if what == "arrived" else of.sum())
    return np.asarray(shares[:, :, -1 if what == "last" else 1 :].reshape(len(counts), -1).mean(axis=1))


def starts(content: Mapping[str, Any], ending: str = "", what: str = "all") -> dict[str, Interval]:
    """The family *starts*: every other start minus cold, in points.

    `ending` is ``" relu"`` for the check with that network; `what` as for :func:`accuracy`.
    """
    cold = accuracy(content, f"cold{ending}", what)
    gaps = {arm: accuracy(content, arm + ending, what) - cold for arm in STARTS if arm != "cold"}
    return simultaneous(gaps, overlap=overlap(content))


def models(content: Mapping[str, Any]) -> dict[str, Interval]:
    """The family *models*, in points."""
    pairs = (("boosting_continued", "boosting"), ("boosting", "cold"), ("logistic", "cold"))
    gaps = {f"{one} - {other}": accuracy(content, one) - accuracy(content, other) for one, other in pairs}
    return simultaneous(gaps, overlap=overlap(content))


def knowledge(content: Mapping[str, Any], ending: str = "") -> Interval:
    """What the trick owes to what it keeps: minus a fresh network shrunk alike."""
    gap = accuracy(content, f"shrink_perturb{ending}") - accuracy(content, f"fresh_shrunk{ending}")
    return mean_interval(gap, overlap=overlap(content))


def costs(content: Mapping[str, Any], ending: str = "", what: str = "spent") -> dict[str, Interval]:
    """Rows that each start trained on, in percent of cold's: a ratio of sums, joint for all starts.

    `what` is ``"spent"``, patience included, or ``"epoch"``, until the weights that were kept.
    """
    rows = np.cumsum(content["rows"])[1:]

    def seen(arm: str) -> Floats:
        epochs = np.array(content[what][arm + ending], dtype=float)[:, :, 1:]
        return np.asarray((epochs * rows).mean(axis=1).sum(axis=1))

    shares = {arm: ratio_of_sums(seen(arm), seen("cold")) for arm in STARTS if arm != "cold"}
    return simultaneous(shares, overlap=overlap(content))


def trees(content: Mapping[str, Any]) -> Interval:
    """Trees that boosting fits when it goes on, in percent of those from nothing: a ratio of sums."""
    one, other = (
        np.array(content["spent"][arm])[:, :, 1:].mean(axis=1).sum(axis=1) for arm in BOOSTING[::-1]
    )
    return mean_interval(ratio_of_sums(one, other), overlap=overlap(content))


def regret(content: Mapping[str, Any]) -> Interval:
    """What who follows the frozen rule loses against who always starts cold, in points.

    The rule answers warm every year, so this is cold minus warm, from the family *starts*.
    """
    return -starts(content)["warm"]


def data_sets_needed(interval: Interval, half: float = 0.5) -> int:
    """How many data sets such as this one decide, if the estimate stays where it is.

    Decided is what lies on one side of 0, or within `half` a point either way. More splits of the same rows
    hardly narrow an interval; with k data sets it is the root of k narrower.

    Examples
    --------
    >>> data_sets_needed(Interval(0.5, -0.5, 1.5)), data_sets_needed(Interval(0.0, -0.9, 0.9))
    (4, 4)
    """
    width, estimate = (interval.high - interval.low) / 2, abs(interval.estimate)
    apart = max(estimate, half - estimate)  # from what it must not reach: 0, or the end of the band
    return int(np.ceil((width / apart) ** 2))
