"""The arms over many seeds of the book's table, or over fresh tables that nobody selected.

A unit is a pair of a table and a seed. Table 0 of a sweep without fresh tables is the book's own, with
seeds 0, 1, ...; every fresh table has seeds of its own.

Rules for fresh tables, written before their run with seeds of their own:

- The tables are those of the first edition, whose 500 tables shared four seeds. So the hypotheses are
  not blind, and what moves between the editions is what the seeds did.
- Comparisons: :data:`COMPARISONS`, one joint family in each setting of label noise and learning rate
  (:func:`intervals`). The unit is the table; its four seeds are averaged first. The last of them, cold
  against warm at 500 epochs, was added when three settings had been run, and none of them read.
- Protocols: *article* (the trick at 500 epochs, cold and warm at 1000) and *equal* (all at 500).
- "Above in k of six settings" counts settings whose joint interval is above 0. Nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsp.lab import employees
from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.lanes import Pair, draw_tables, fresh_tables, samples_per_lane, seeds_of, train_lanes
from wsp.lab.retraining import ARMS, ARTICLE, Arm, check_seed, find_arms
from wsp.lab.statistics import Floats, Interval, finite_numbers, mean_interval, simultaneous
from wsp.lab.training import LEARNING_RATE
from wsp.studies.engine import Study, Tick
from wsp.studies.parts import Content, a_share, at_least_1, positive

CHECKPOINTS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
#: Label noise and learning rate of the stored sweeps over fresh tables.
SETTINGS = tuple((noise, rate) for noise in (0.0, 0.05, 0.2) for rate in (0.02, 0.05))
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COMPARISONS = (
    ("warm", "initial"),
    ("cold", "warm"),
    ("shrink_perturb", "cold"),
    ("shrink_perturb", "warm"),
    ("cold_500", "cold"),
    ("shrink_perturb", "cold_500"),
    ("shrink_perturb", "warm_500"),
    ("shrink_perturb_1000", "cold"),
    ("shrink_perturb_1000", "warm"),
    ("fresh_shrunk_500", "cold_500"),
    ("shrink_perturb", "fresh_shrunk_500"),
    ("shrink_perturb", "shrink_only_500"),
    ("perturb_only_500", "warm_500"),
    ("cold_500", "warm_500"),
)


class Sweep(Study):
    """``correct``: arm → count for each pair. ``curves``: run → at each checkpoint the sum and the
    sum of squares of the counts over pairs.
    """

    name, chapter, key = "sweep", 6, "pairs"
    words = "the arms over many seeds of the book's table, or over fresh tables"
    sums, same = ("sum", "squares"), ("epoch",)
    chunk = 200  # lanes trained side by side: more would leave the cache
    cuda = True

    def specification(
        self,
        *,
        seeds: int = 100,
        tables: int | None = None,
        arms: Sequence[str] = ("all",),
        test_rows: int = 2000,
        label_noise: float = employees.LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What a sweep computes.

        Parameters
        ----------
        seeds : int
            Training seeds 0, 1, ... on the book's table; or so many on every fresh table, of its own.
        tables : int
            So many fresh tables; without it the book's table alone.
        arms : sequence of str
            Keys of ``wsp.lab.retraining.ARMS``; or article, the four of the article, or all.
        test_rows : int
            Drawn anew with every fresh table.
        label_noise : float
            Of fresh tables.
        learning_rate : float
            Of every training.

        Examples
        --------
        >>> Sweep().specification(seeds=0)
        Traceback (most recent call last):
        ValueError: seeds must be a positive integer, not 0
        """
        at_least_1(seeds=seeds, tables=tables, test_rows=test_rows)
        check_seed(seeds - 1)
        a_share(label_noise=label_noise)
        positive(learning_rate=learning_rate)
        groups = {"article": list(ARTICLE), "all": list(ARMS)}
        keys = dict.fromkeys(key for name in arms for key in groups.get(name, [name]))
        return {
            "format": f"wsp sweep {2 if tables else 1}",  # in format 1 all tables shared their seeds
            "seeds": seeds,
            "tables": tables,
            "arms": [arm.key for arm in find_arms(keys)],
            "test_rows": test_rows if tables else employees.TEST_ROWS,
            "label_noise": label_noise if tables else None,
            "learning_rate": learning_rate,
        }

    def holds(self, content: Content) -> bool:
        """Its results of either format: the book's table, and fresh tables with seeds of their own."""
        return super().holds(content) or content["specification"].get("format") == f"wsp {self.name} 2"

    def units(self, spec: Content, content: Content | None) -> Sequence[Pair]:
        """The book's table with every seed, or every fresh table with its own seeds."""
        if spec["tables"] is None:
            return [(0, seed) for seed in range(spec["seeds"])]
        return [
            (table, seed) for table in fresh_tables(spec["tables"]) for seed in seeds_of(table, spec["seeds"])
        ]

    def samples(self, spec: Content, units: Sequence[Pair]) -> int:
        """Training samples."""
        return len(units) * samples_per_lane(find_arms(spec["arms"]), employees.TRAIN_ROWS)

    def work(self, spec: Content, units: Sequence[Pair], tick: Tick, device: str) -> Iterator[Content]:
        """Count correct test rows by arm, and along every run's curve."""
        numbers = sorted({table for table, _ in units})
        place = {table: k for k, table in enumerate(numbers)}
        train, test = tables_of(numbers, spec)
        lanes = torch.tensor([place[table] for table, _ in units])
        # One table for all lanes needs no copy for each.
        inputs, labels = (torch.stack(c)[lanes if len(numbers) > 1 else 0].to(device) for c in zip(*test))
        correct: dict[str, list[int]] = {}
        curves: dict[str, dict[str, list[int]]] = {}

        def read(members: list[Arm], epoch: int, ensemble: Ensemble) -> None:
            counts = ensemble.measure(inputs, labels)[0].cpu()
            for arm in members:
                if arm.epochs == epoch:
                    correct[arm.key] = counts.tolist()
            if epoch in CHECKPOINTS:
                curve = curves.setdefault(members[0].key, {"epoch": [], "sum": [], "squares": []})
                curve["epoch"].append(epoch)
                curve["sum"].append(int(counts.sum()))
                curve["squares"].append(int((counts * counts).sum()))

        train_lanes(
            train,
            [(place[table], seed) for table, seed in units],
            find_arms(spec["arms"]),
            read,
            read_at=CHECKPOINTS,
            learning_rate=spec["learning_rate"],
            device=device,
            tick=tick,
        )
        yield {
            "pairs": [list(pair) for pair in units],
            "correct": {key: correct[key] for key in spec["arms"]},
            "curves": curves,
        }

    def slice(self, content: Content) -> tuple[Content, Sequence[Pair]]:
        """The last pairs; fewer where ten arms are trained."""
        return content["specification"], self.done(content)[-2:]

    def summary(self, content: Content) -> Content:
        """By arm, and arm against arm."""
        return summarize(content)

    def as_text(self, content: Content) -> str:
        """The summary as a table."""
        return as_text(summarize(content))


STUDY = Sweep()


def tables_of(numbers: Sequence[int], spec: Mapping[str, Any]) -> tuple[list[Table], list[Table]]:
    """Training and test tables of these numbers; number 0 of a sweep without fresh tables is the book's."""
    if spec["tables"] is None:
        return [employees.load_train()], [employees.load_test()]
    return draw_tables(numbers, spec["test_rows"], spec["label_noise"])


def accuracies(sweep: Mapping[str, Any]) -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """A sweep's table numbers, and its accuracies in percent as (tables, seeds) by arm.

    Raises
    ------
    ValueError
        If the tables do not all have the same number of seeds.
    """
    pairs = np.array(sweep["pairs"])
    tables, counts = np.unique(pairs[:, 0], return_counts=True)
    if len(set(counts)) > 1:
        raise ValueError("the sweep is unfinished: its tables have different numbers of seeds")
    rows = sweep["specification"]["test_rows"]
    return tables, {
        key: 100.0 * np.array(values).reshape(len(tables), -1) / rows
        for key, values in sweep["correct"].items()
    }


def intervals(sweep: Mapping[str, Any]) -> dict[str, Interval]:
    """Every comparison of a setting, in points, with intervals that hold for all of them at once.

    Returns
    -------
    dict
        ``"cold - warm"`` and so on, for each of :data:`COMPARISONS` → its interval over tables. These are
        the book's intervals for them: whoever speaks of such a comparison takes it from here.

    See chapter 6.
    """
    percent = accuracies(sweep)[1]
    return simultaneous(
        {
            f"{first} - {second}": (percent[first] - percent[second]).mean(axis=1)
            for first, second in COMPARISONS
        }
    )


def mean_curves(sweep: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """Of every training run its mean test accuracy in percent at each epoch that was read.

    Returns
    -------
    dict
        The run, by the first of its arms → epoch → mean over all pairs of a table and a seed.

    Examples
    --------
    >>> curve = {"epoch": [1, 2], "sum": [12, 15], "squares": [72, 113]}
    >>> spec = {"test_rows": 10}
    >>> mean_curves({"pairs": [[0, 0], [0, 1]], "specification": spec, "curves": {"cold": curve}})
    {'cold': {1: 60.0, 2: 75.0}}
    """
    rows = len(sweep["pairs"]) * sweep["specification"]["test_rows"]
    return {
        run: {epoch: 100 * total / rows for epoch, total in zip(curve["epoch"], curve["sum"])}
        for run, curve in sweep["curves"].items()
    }


def paired(first: Floats, second: Floats) -> dict[str, Any]:
    """First minus second, paired, in points; arrays (tables, seeds).

    With several tables the unit is the table. With one it is the seed, and
    everything said is conditional on that table.

    Raises
    ------
    ValueError
        If the two are not of one shape with two dimensions, are empty, or a value is no finite number.
    """
    first, second = finite_numbers(first, "first"), finite_numbers(second, "second")
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise ValueError(
            "expected two arrays (tables, seeds) of one shape, with at least one value, "
            f"not {first.shape} and {second.shape}"
        )
    difference = first - second
    units = difference.mean(axis=1) if len(difference) > 1 else difference[0]
    units = units.round(9)  # a tie is a tie, whatever its percentages rounded to
    found: dict[str, Any] = {
        "mean": float(units.mean()),
        "win": float((units > 0).mean()),
        "tie": float((units == 0).mean()),
        "loss": float((units < 0).mean()),
    }
    if len(units) > 1:
        interval = mean_interval(units)
        found |= {"low": interval.low, "high": interval.high}
    return found


def summarize(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """What ``python -m wsp.studies sweep`` prints: by arm, and arm against arm.

    Returns
    -------
    dict
        `arms`: mean, sd and quantiles of the accuracy (percent) over all (table,
        seed) pairs; `paired`: mean difference (points), its 95 % interval (of
        this difference alone: see :func:`simultaneous` for several at once), and
        the shares of wins, ties and losses; `unit`: "table" or "seed".
    """
    tables, accuracy = accuracies(sweep)
    return {
        "unit": "table" if len(tables) > 1 else "seed",
        "tables": len(tables),
        "seeds": accuracy[next(iter(accuracy))].shape[1],
        "arms": {
            key: {
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if values.size > 1 else None,
                "quantiles": dict(zip(map(str, QUANTILES), np.quantile(values, QUANTILES).tolist())),
            }
            for key, values in accuracy.items()
        },
        "paired": {
            f"{first} - {second}": paired(accuracy[first], accuracy[second])
            for first, second in COMPARISONS
            if first in accuracy and second in accuracy
        },
        "specification": sweep["specification"],
    }


def as_text(summary: Mapping[str, Any]) -> str:
    """A summary as a table for people."""
    unit = "table" if summary["unit"] == "table" else "seed (conditional on this one table)"
    lines = [
        f"{summary['tables']} tables x {summary['seeds']} seeds; unit: the {unit}",
        "",
        f"{'accuracy, %':22s}{'mean':>8s}{'sd':>8s}" + "".join(f"{f'q{q}':>8s}" for q in QUANTILES),
    ]
    for key, arm in summary["arms"].items():
        sd = "" if arm["sd"] is None else f"{arm['sd']:.2f}"
        quantiles = "".join(f"{value:8.1f}" for value in arm["quantiles"].values())
        lines.append(f"{key:22s}{arm['mean']:8.2f}{sd:>8s}{quantiles}")
    lines += [
        "",
        "each interval alone covers with 95 % confidence; for several at once they would be wider",
        f"{'difference, points':40s}{'mean':>8s}{'95 % interval':>20s}   win / tie / loss",
    ]
    for name, pair in summary["paired"].items():
        interval = f"{pair['low']:+.2f} to {pair['high']:+.2f}" if "low" in pair else ""
        lines.append(
            f"{name:40s}{pair['mean']:+8.2f}{interval:>20s}   "
            f"{pair['win']:.2f} / {pair['tie']:.2f} / {pair['loss']:.2f}"
        )
    return "\n".join(lines)
