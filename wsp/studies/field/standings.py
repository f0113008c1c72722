"""What the contest of chapter 12 says: settings chosen, accuracies, costs, and the joint family of each.

The rules are those of :mod:`wsp.studies.field.contest`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsp.lab.comparisons import Pair, images_seen, overlap_of, resnet, table_of
from wsp.lab.results import stored
from wsp.lab.rivals.methods import METHODS
from wsp.lab.statistics import Interval, ratio_of_sums, simultaneous, verdict
from wsp.studies.parts import Content

#: The contests, and the stored results of each.
#:
#: :meta hide-value:
STORED: dict[str, tuple[str, ...]] = {
    "clean labels": ("rivals_digits_wrong_0.0", "fire_digits_wrong_0.0", "clipping_digits_wrong_0.0"),
    "1 in 5 labels wrong": (
        "rivals_digits_wrong_0.2",
        "fire_digits_wrong_0.2",
        "clipping_digits_wrong_0.2",
    ),
    "CIFAR-10": ("rivals_cifar10_wrong_0.0", "fire_cifar10"),
}
#: Further comparisons of a contest's family.
#:
#: :meta hide-value:
BESIDES: tuple[Pair, ...] = (
    ("dash", "shrink_perturb"),
    ("fire", "shrink_perturb"),
    ("fire", "dash"),
    ("l2_init", "decay"),
    ("l2_init", "warm_stopped"),
    ("clipping", "l2_init"),
    ("shrink_perturb_stopped", "warm_stopped"),
)


def present(found: Mapping[str, Any]) -> list[str]:
    """The methods of a result, in the order of ``METHODS``."""
    there = {run["arm"].split()[0] for run in found["runs"]}
    return [key for key in METHODS if key in there]


def joined(name: str, result: Callable[[str], Any] = stored) -> Content:
    """One contest of `STORED`, as if it were one result; on the same splits.

    Examples
    --------
    >>> sorted({run["arm"] for run in joined("CIFAR-10")["runs"]})[:3]
    ['cold', 'cold_fire', 'cold_stopped']

    Raises
    ------
    ValueError
        If its results are not of the same splits and rounds.
    """
    first, *others = (result(file) for file in STORED[name])
    for each in others:
        if each["specification"] != first["specification"]:
            raise ValueError(f"the results of {name!r} are not of the same runs")
    return {**first, "runs": [run for each in (first, *others) for run in each["runs"]]}


def chosen(found: Mapping[str, Any], methods: Iterable[str] | None = None) -> dict[str, str]:
    """The best setting of each method (default: all there) on the splits to choose on, by its arm's name.

    Best is the highest accuracy on the test images of those splits, averaged over the rounds
    from the second on. None of them is reported.
    """
    tune = found["specification"]["tune"]
    methods = present(found) if methods is None else methods
    if not tune:
        return {key: key for key in methods}
    best = {}
    for key in methods:
        accuracy = table_of(found, "accuracy", METHODS[key].arms())
        means = {name: float(rows[:tune, 1:].mean()) for name, rows in accuracy.items()}
        best[key] = max(means, key=lambda name: means[name])
    return best


def reported(
    found: Mapping[str, Any], what: str, methods: Iterable[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """One quantity on the splits to report, as arrays (splits, rounds) by method.

    Parameters
    ----------
    found : mapping
        A result.
    what : str
        As for ``table_of``; or ``"cost"``: training images seen, each pass of
        a method's own over the data counted as one of training.
    """
    spec, best = found["specification"], chosen(found, methods)
    table = table_of(found, "samples" if what == "cost" else what, best.values())
    rows = np.arange(1, 1 + len(table[best[next(iter(best))]][0])) * spec["size"]
    own = {key: METHODS[key].passes * np.where(np.arange(len(rows)) > 0, rows, 0) for key in best}
    return {
        key: table[name][spec["tune"] :].astype(float) + (own[key] if what == "cost" else 0.0)
        for key, name in best.items()
    }


def averages(
    found: Mapping[str, Any], what: str, methods: Iterable[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """One number a split and method, rounds from the second on: a mean, or for costs a sum."""
    total = what in ("cost", "samples", "seconds", "epochs", "steps")
    return {
        key: rows[:, 1:].sum(axis=1) if total else rows[:, 1:].mean(axis=1)
        for key, rows in reported(found, what, methods).items()
    }


def against(values: Mapping[str, NDArray[np.float64]], other: str) -> dict[str, Interval]:
    """Every method minus one of them, paired over splits; the intervals hold all at once.

    Examples
    --------
    >>> splits = np.arange(6.0)
    >>> found = against({"warm": splits, "dash": splits + [1, 2, 1, 2, 1, 2]}, "warm")
    >>> round(found["dash"].estimate, 2)
    1.5
    """
    return simultaneous({key: rows - values[other] for key, rows in values.items() if key != other})


def family(methods: Collection[str]) -> list[Pair]:
    """What one contest compares, of the methods that take part.

    Examples
    --------
    >>> family(["cold", "warm", "fire", "cold_fire"])
    [('cold', 'warm'), ('fire', 'warm'), ('fire', 'cold'), ('fire', 'cold_fire'), ('cold_fire', 'cold')]
    """
    rivals = [key for key in methods if METHODS[key].cold and key != "warm"]
    colds = [key for key in methods if not METHODS[key].cold and key != "cold"]
    pairs = [("cold", "warm")]
    pairs += [(key, "warm") for key in rivals]
    pairs += [(key, "cold") for key in rivals]
    pairs += [(key, METHODS[key].cold) for key in rivals]
    pairs += [(key, "cold") for key in colds]
    return [pair for pair in [*pairs, *BESIDES] if set(pair) <= set(methods)]


def versus(found: Mapping[str, Any]) -> dict[Pair, Interval]:
    """The family of one contest, see :func:`family`.

    All intervals hold at once; those of digits are corrected for splits that overlap. What chapter 11
    compares too, on the ResNet, is taken from there: see ``wsp.lab.comparisons.resnet``.
    """
    accuracy = averages(found, "accuracy")
    pairs = family(accuracy)
    elsewhere = resnet()["one arrival"] if found["specification"]["data"] == "cifar10" else {}
    names = {f"{one} - {other}": (one, other) for one, other in pairs if (one, other) not in elsewhere}
    gaps = {name: accuracy[one] - accuracy[other] for name, (one, other) in names.items()}
    own = {names[name]: gap for name, gap in simultaneous(gaps, overlap=overlap_of(found)).items()}
    both = elsewhere | own
    return {pair: both[pair] for pair in pairs}


def shares(found: Mapping[str, Any]) -> dict[str, Interval]:
    """Images that each method saw, its own passes included, in percent of a cold start's: a ratio of sums.

    All intervals hold at once. On the ResNet those of chapter 11 are taken from there.
    """
    cost = averages(found, "cost")
    values = {key: ratio_of_sums(seen, cost["cold"]) for key, seen in cost.items() if key != "cold"}
    own = simultaneous(values, overlap=overlap_of(found))
    if found["specification"]["data"] == "cifar10":
        runs = stored("cifar_reduced_resnet_adam"), found
        own |= images_seen(*runs, arms=("warm", "shrink_perturb", "official"))
    return {"cold": Interval(100.0, 100.0, 100.0)} | own


@dataclass(frozen=True)
class Point:
    """One method in the plane of cost and accuracy.

    Attributes
    ----------
    key, name : str
        In files, and for people.
    cost : Interval
        Training images seen, in percent of a cold start's.
    gain : Interval
        Accuracy minus that of a warm start, in points; of the warm start itself 0.
    told : {"above", "below", "not told apart"}
        The sign of the gain.
    stopped : bool
        Whether it stops early.
    """

    key: str
    name: str
    cost: Interval
    gain: Interval
    told: str
    stopped: bool


def points(found: Mapping[str, Any]) -> list[Point]:
    """Cold, warm and the rivals of one contest as points of a scatter, in the order of ``METHODS``."""
    gaps, cost = versus(found), shares(found)
    gains = {key: gap for (key, other), gap in gaps.items() if other == "warm"}
    gains["warm"] = Interval(0.0, 0.0, 0.0)
    return [
        Point(
            key, METHODS[key].name, cost[key], gains[key], verdict(gains[key]).sign, key.endswith("stopped")
        )
        for key in present(found)
        if key in gains
    ]


def scatter() -> dict[str, list[Point]]:
    """The stored contests of chapter 12 by their names, as points: what its figure shows.

    Examples
    --------
    >>> {name: len(listed) for name, listed in scatter().items()}
    {'clean labels': 14, '1 in 5 labels wrong': 14, 'CIFAR-10': 12}
    """
    return {name: points(joined(name)) for name in STORED}


def as_text(found: Mapping[str, Any], methods: Iterable[str] | None = None) -> str:
    """A table for people."""
    accuracy, cost = averages(found, "accuracy", methods), averages(found, "cost", methods)
    splits = len(next(iter(accuracy.values())))
    gaps = {other: against(accuracy, other) for other in ("warm", "cold") if other in accuracy and splits > 1}
    lines = [
        f"{splits} splits; rounds from the second on; intervals hold for all methods at once",
        f"{'method':18s}{'accuracy':>9s}{'cost':>9s}"
        + "".join(f"{'minus ' + other:>26s}" for other in gaps)
        + "  setting",
    ]
    for key, name in chosen(found, methods).items():
        lines.append(
            f"{key:18s}{accuracy[key].mean():9.2f}{cost[key].mean():9,.0f}"
            + "".join(f"{str(gap[key]) if key in gap else '':>26s}" for gap in gaps.values())
            + f"  {name.removeprefix(key).strip()}"
        )
    return "\n".join(lines)
