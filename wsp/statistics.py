"""Intervals and paired comparisons.

The unit is the table: seeds are averaged within it, then differences between
arms are paired over tables. Verdicts follow a rule that was set before looking.
Accuracies and their differences are in percent and points throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
NO_DIFFERENCE = 0.5  # points: an interval inside ± this says "no difference"
ENOUGH_TO_RESAMPLE = 10  # tables, for a bootstrap
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Examples
    --------
    >>> print(Interval(1.0, 0.2, 1.8))
    +1.00 (+0.20 to +1.80)
    >>> print(-Interval(1.0, 0.2, 1.8))  # of the difference the other way round
    -1.00 (-1.80 to -0.20)
    """

    estimate: float
    low: float
    high: float

    def __neg__(self) -> Interval:
        return Interval(-self.estimate, -self.high, -self.low)

    def __str__(self) -> str:
        return f"{self.estimate:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def wilson(correct: int, of: int, level: float = 0.95) -> Interval:
    """Wilson interval for the accuracy of one trained network, in percent.

    It speaks of this network on other rows like these, not of the method that
    trained it.

    Parameters
    ----------
    correct, of : int
        Correct rows, and all rows (at least 1).
    level : float
        Confidence. Default 0.95.

    Examples
    --------
    >>> found = wilson(32, 40)
    >>> round(found.low, 1), round(found.high, 1)
    (65.2, 89.5)

    Source: Wilson (1927). See chapter 6.
    """
    if not 0 <= correct <= of or of < 1:
        raise ValueError(f"correct must be from 0 to `of`, and `of` at least 1, not {correct} of {of}")
    found = stats.binomtest(correct, of).proportion_ci(level, method="wilson")
    return Interval(100 * correct / of, 100 * float(found.low), 100 * float(found.high))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact p-value that two trained networks are equally good on rows like these.

    Parameters
    ----------
    only_first, only_second : int
        Rows that only the first, only the second network gets right.

    Examples
    --------
    >>> round(mcnemar(1, 5), 3)
    0.219

    Source: McNemar (1947), in its exact form. See chapter 6.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"counts must not be negative: {only_first}, {only_second}")
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def mean_interval(values: Sequence[float] | Floats, level: float = 0.95) -> Interval:
    """Student's t interval for the mean of independent values, one a table.

    Raises
    ------
    ValueError
        If there are fewer than two values.

    Examples
    --------
    >>> print(mean_interval([1.0, 2.0, 3.0]))
    +2.00 (-0.48 to +4.48)
    """
    array = np.asarray(values, dtype=float)
    if array.size < 2:
        raise ValueError(f"an interval needs at least two independent values, not {array.size}")
    half = stats.t.ppf((1 + level) / 2, array.size - 1) * array.std(ddof=1) / array.size**0.5
    return Interval(float(array.mean()), float(array.mean() - half), float(array.mean() + half))


def simultaneous(
    differences: Mapping[str, Floats], level: float = 0.95, draws: int = 4000, seed: int = 0
) -> dict[str, Interval]:
    """Intervals that hold for several comparisons at once (bootstrap max-t).

    With fewer than ten tables a bootstrap sample is too often a few of them over and over, which
    makes the intervals too wide, with five tables about three times. Then they are Student's t,
    with Bonferroni's correction for the number of comparisons.

    Parameters
    ----------
    differences : mapping
        Name → values over the same tables, in the same order.
    level : float
        Confidence that *all* intervals cover. Default 0.95.
    draws : int
        Bootstrap samples of the tables. Default 4000.
    seed : int
        Of the resampling.

    Raises
    ------
    ValueError
        If there are fewer than two tables.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(1.0, 1.0, (2, 50))
    >>> wide = simultaneous({"a": values[0], "b": values[1]})["a"]
    >>> narrow = mean_interval(values[0])
    >>> wide.low < narrow.low and wide.high > narrow.high
    True
    """
    table = np.stack([np.asarray(values, dtype=float) for values in differences.values()], axis=1)
    n = len(table)
    if n < ENOUGH_TO_RESAMPLE:
        alone = 1 - (1 - level) / len(differences)
        return {name: mean_interval(values, alone) for name, values in differences.items()}
    mean, error = table.mean(axis=0), table.std(axis=0, ddof=1) / n**0.5
    # How often each table is in each resample; means and variances are then two products.
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws) / n
    centered = table - mean
    shift = weights @ centered
    variance = np.maximum(weights @ centered**2 - shift**2, 1e-24) * n / (n - 1)
    largest = np.abs(shift / np.sqrt(variance / n)).max(axis=1)
    half = np.quantile(largest, level) * error
    return {
        name: Interval(float(m), float(m - h), float(m + h)) for name, m, h in zip(differences, mean, half)
    }


def variance_components(
    accuracy: Floats, test_rows: int, disagreement: float = 0.0
) -> dict[str, float]:
    """How much of an accuracy's variance is the table, the seed, the test rows.

    Parameters
    ----------
    accuracy : array (tables, seeds)
        In percent, on `test_rows` rows drawn anew with every table.
    test_rows : int
    disagreement : float
        Share of rows on which exactly one of two seeds is right. The seeds of a table
        share its test rows, so rows add to their differences only where they disagree:
        half of this share a seed. Default 0: all that the rows do is the table's.

    Returns
    -------
    dict
        Standard deviations in points: `table` (other training rows), `seed`
        (same rows, other random start), `test_rows_40` (what 40 test rows would
        add). A component that comes out negative is 0.

    Examples
    --------
    >>> sorted(variance_components(np.array([[70.0, 72.0], [60.0, 61.0]]), 2000))
    ['seed', 'table', 'test_rows_40']

    Source: one-way analysis of variance. See chapter 6.
    """
    accuracy = np.asarray(accuracy, dtype=float)
    if accuracy.ndim != 2 or min(accuracy.shape) < 2:
        raise ValueError(f"need at least 2 tables × 2 seeds, not an array of shape {accuracy.shape}")
    if not 0 <= disagreement <= 1:
        raise ValueError(f"disagreement is a share of rows, from 0 to 1, not {disagreement}")
    p = accuracy.mean() / 100
    # What the choice of test rows does to an accuracy: in part to each seed alone, the rest to all.
    alone = 100**2 * disagreement / 2 / test_rows
    together = 100**2 * p * (1 - p) / test_rows - alone
    within = accuracy.var(axis=1, ddof=1).mean()
    tables = accuracy.mean(axis=1).var(ddof=1) - within / accuracy.shape[1] - together
    return {
        "table": float(max(tables, 0.0) ** 0.5),
        "seed": float(max(within - alone, 0.0) ** 0.5),
        "test_rows_40": float((100**2 * p * (1 - p) / 40) ** 0.5),
    }


def verdict(interval: Interval, claimed: float) -> str:
    """The book's rule, set before looking, for a claimed gap in points.

    Examples
    --------
    >>> verdict(Interval(1.0, 0.2, 1.8), claimed=10.0)
    'direction reproduced, size not'
    >>> verdict(Interval(0.0, -0.1, 0.1), claimed=10.0)
    'no difference'
    >>> verdict(Interval(-1.0, -2.0, -0.2), claimed=10.0)
    'contradicted'
    """
    if -NO_DIFFERENCE < interval.low and interval.high < NO_DIFFERENCE:
        return "no difference"
    if interval.low > 0 or interval.high < 0:
        if (interval.estimate > 0) != (claimed > 0):
            return "contradicted"
        if interval.low <= claimed <= interval.high:
            return "reproduced"
        return "direction reproduced, size not"
    return "cannot tell"


@dataclass(frozen=True)
class Claim:
    """That one arm beats another, as a source put it: by `points`, in our `words`."""

    better: str
    worse: str
    points: float
    words: str

    @property
    def name(self) -> str:
        """The comparison's name in :func:`summarize`."""
        return f"{self.better} - {self.worse}"


#: What the Pure AI article claims, with its gaps (77.5 - 70, and so on).
CLAIMS = (
    Claim("cold", "warm", 7.5, "a cold start beats a warm start"),
    Claim("shrink_perturb", "cold", 2.5, "the trick beats a cold start, in half the epochs"),
    Claim("shrink_perturb", "warm", 10.0, "the trick beats a warm start, in half the epochs"),
    Claim("warm", "initial", 10.0, "a warm start beats not retraining"),
)
#: Label noise and learning rate of the stored sweeps over fresh tables.
FRESH_CELLS = tuple((noise, rate) for noise in (0.0, 0.05, 0.2) for rate in (0.02, 0.05))

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
)


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


def paired(first: Floats, second: Floats) -> dict[str, Any]:
    """First minus second, paired, in points; arrays (tables, seeds).

    With several tables the unit is the table. With one it is the seed, and
    everything said is conditional on that table.
    """
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
    """What ``python -m wsp sweep`` prints: by arm, and arm against arm.

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
        f"{summary['tables']} tables × {summary['seeds']} seeds; unit: the {unit}",
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
