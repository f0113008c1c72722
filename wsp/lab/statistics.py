"""Intervals and paired comparisons.

The unit is the table: seeds are averaged within it, then differences between
arms are paired over tables. Verdicts follow a rule that was set before looking.
Accuracies and their differences are in percent and points throughout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
SMALL = 0.5  # points: of an interval inside ± this the size is "small"
MOST_ROWS = 10**15  # of a test: beyond it a float no longer counts rows
ENOUGH_TO_RESAMPLE = 10  # tables, for a bootstrap


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Examples
    --------
    >>> print(Interval(1.0, 0.2, 1.8))
    +1.00 (+0.20 to +1.80)
    >>> print(-Interval(1.0, 0.2, 1.8))  # of the difference the other way round
    -1.00 (-1.80 to -0.20)
    >>> f"{Interval(62.5, 60.04, 65.0):.0f}"  # all three figures, by one format
    '62 (60 to 65)'
    """

    estimate: float
    low: float
    high: float

    def __neg__(self) -> Interval:
        return Interval(-self.estimate, -self.high, -self.low)

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        spec = re.sub(r"^([+ ]?)(?=[\d.,]*f$)", r"\1z", spec)  # what rounds to zero has no minus
        return f"{self.estimate:{spec}} ({self.low:{spec}} to {self.high:{spec}})"

    def __str__(self) -> str:
        return f"{self:+.2f}"


def finite_numbers(values: Any, what: str) -> Floats:
    """The values as an array of floats.

    Raises
    ------
    ValueError
        If one is missing, infinite, too large for a float or no number: says of `what`, and which.

    Examples
    --------
    >>> finite_numbers([1, 2], "gaps")
    array([1., 2.])
    >>> finite_numbers([1, None], "gaps")
    Traceback (most recent call last):
    ValueError: gaps: value 1 is nan, and 1 of 2 are no finite numbers; ...
    """
    try:
        array = np.asarray(values, dtype=float)
    except (OverflowError, TypeError, ValueError) as error:  # 10**400; text; rows of different lengths
        raise ValueError(f"{what}: expected finite numbers ({error})") from None
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = ", ".join(map(str, bad[0]))
        raise ValueError(
            f"{what}: value {place} is {array[tuple(bad[0])]}, and {len(bad)} of {array.size} are no finite "
            "numbers; a mean over the others alone would be one of other tables: leave these out knowingly"
        )
    return array


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, such as 0.95, not {level}")


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
    _check_level(level)
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


def standard_error(values: Floats, overlap: float = 0.0) -> Floats:
    """The standard error of means over the first axis, one value a table or a split.

    Parameters
    ----------
    values : array (tables, ...)
    overlap : float
        0 for tables that are drawn anew. Random splits of the *same* rows share most of them, so
        more splits do not make the mean as much surer as they seem to: then test rows over training
        rows, which goes beside the 1/n under the root.

    Examples
    --------
    >>> splits = np.random.default_rng(0).normal(size=20)
    >>> round(float(standard_error(splits, overlap=0.8) / standard_error(splits)), 1)
    4.1

    Source: Nadeau and Bengio (2003), corrected resampled t-test. See chapter 10.
    """
    if not 0 <= overlap < np.inf:
        raise ValueError(f"overlap is test rows over training rows, 0 or more, not {overlap}")
    independent = len(values) / (1 + len(values) * overlap)  # so many tables of their own say as much
    return np.asarray(values.std(axis=0, ddof=1) / independent**0.5)


def mean_interval(values: Sequence[float] | Floats, level: float = 0.95, *, overlap: float = 0.0) -> Interval:
    """Student's t interval for the mean of independent values, one a table.

    Values of random splits of the same rows are not independent: give their `overlap`, as for
    :func:`standard_error`.

    Raises
    ------
    ValueError
        If there are fewer than two values, or one is no finite number.

    Examples
    --------
    >>> print(mean_interval([1.0, 2.0, 3.0]))
    +2.00 (-0.48 to +4.48)
    """
    array = finite_numbers(values, "mean_interval")
    if array.size < 2:
        raise ValueError(f"an interval needs at least two independent values, not {array.size}")
    _check_level(level)
    half = stats.t.ppf((1 + level) / 2, array.size - 1) * float(standard_error(array.ravel(), overlap))
    return Interval(float(array.mean()), float(array.mean() - half), float(array.mean() + half))


def ratio_of_sums(part: Floats, whole: Floats) -> Floats:
    """One value a table whose mean is sum(part) / sum(whole), in percent.

    Give them to :func:`mean_interval` or :func:`simultaneous`: their spread is the ratio's, by the
    delta method. A mean of the tables' own ratios is another quantity.

    Examples
    --------
    >>> values = ratio_of_sums(np.array([1.0, 3.0]), np.array([2.0, 6.0]))
    >>> float(values.mean())
    50.0
    """
    if part.shape != whole.shape or part.ndim != 1:
        raise ValueError(f"expected two columns of one length, not {part.shape} and {whole.shape}")
    whole = finite_numbers(whole, "ratio_of_sums")
    ratio = finite_numbers(part, "ratio_of_sums").sum() / whole.sum()
    return np.asarray(100 * (ratio + (part - ratio * whole) / whole.mean()))


def simultaneous(
    differences: Mapping[str, Floats],
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
    *,
    overlap: float = 0.0,
) -> dict[str, Interval]:
    """Intervals that hold for several comparisons at once (bootstrap max-t).

    With fewer than ten tables a bootstrap sample is too often a few of them over and over, which
    makes the intervals too wide, with five tables about three times. Then they are Student's t,
    with Bonferroni's correction for the number of comparisons. So is a comparison that is the same on
    nearly all tables: a sample of those alone has no spread. The others share what it leaves of the level.

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
    overlap : float
        Of random splits of the same rows, as for :func:`standard_error`. Default 0: tables of their own.

    Raises
    ------
    ValueError
        If there is no comparison, there are fewer than two tables, the comparisons are not over
        the same number of tables, or a value is no finite number.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(1.0, 1.0, (2, 50))
    >>> wide = simultaneous({"a": values[0], "b": values[1]})["a"]
    >>> narrow = mean_interval(values[0])
    >>> wide.low < narrow.low and wide.high > narrow.high
    True
    """
    if not differences:
        raise ValueError("simultaneous intervals of no comparison at all; expected names and their values")
    columns = {name: finite_numbers(values, str(name)) for name, values in differences.items()}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"expected one value a table, for every comparison the same tables, not {shapes}")
    _check_level(level)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}")
    table = np.stack(list(columns.values()), axis=1)
    n, each = len(table), (1 - level) / len(differences)
    alone = {name: mean_interval(values, 1 - each, overlap=overlap) for name, values in columns.items()}
    if n < ENOUGH_TO_RESAMPLE:
        return alone
    mean, error = table.mean(axis=0), standard_error(table, overlap)
    # How often each table is in each resample; means and variances are then two products.
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws) / n
    centered = table - mean
    shift = weights @ centered
    variance = (weights @ centered**2 - shift**2) * n / (n - 1)
    varied = (variance > 1e-9 * centered.var(axis=0)).all(axis=0)
    if not varied.any():
        return alone
    largest = np.abs(shift[:, varied] / np.sqrt(variance[:, varied] / n)).max(axis=1)
    rare = int((np.ptp(table, axis=0) > 0).sum() - varied.sum())  # not constant: that misses nothing
    half = np.quantile(largest, level + each * rare) * error
    return {
        name: Interval(float(m), float(m - h), float(m + h)) if resampled else alone[name]
        for name, m, h, resampled in zip(differences, mean, half, varied)
    }


def variance_components(accuracy: Floats, test_rows: int, disagreement: float = 0.0) -> dict[str, float]:
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
    accuracy = finite_numbers(accuracy, "variance_components")
    if accuracy.ndim != 2 or min(accuracy.shape) < 2:
        raise ValueError(f"need at least 2 tables x 2 seeds, not an array of shape {accuracy.shape}")
    if not 1 <= test_rows <= MOST_ROWS:
        raise ValueError(f"test_rows must be from 1 to {MOST_ROWS}, not {test_rows}")
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


@dataclass(frozen=True)
class Verdict:
    """What an interval says about a claim: on which side, and how much.

    Attributes
    ----------
    sign : {"above", "below", "not told apart"}
        Of the difference. It is not told apart if the interval contains 0.
    size : {"small", "too wide to say", "as claimed", "smaller", "larger", ""}
        Nothing where the sign is not the claimed one, or no size was claimed.
    """

    sign: str
    size: str

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.sign, self.size)))


def verdict(interval: Interval, claimed: float | None = None) -> Verdict:
    """The book's rule for a claimed gap in points, set before looking.

    Parameters
    ----------
    interval : Interval
        Of the difference that the claim is about, in points.
    claimed : float, optional
        The claimed gap. Default: its direction alone is claimed, or that there is none.

    Returns
    -------
    Verdict
        The size in this order: *small* if the whole interval lies inside half a point, *too wide to
        say* if it contains 0 or is wider than the claimed gap, *as claimed* if it contains that gap,
        *smaller*, *larger*. "Small" never overrides a sign.

    Examples
    --------
    >>> print(verdict(Interval(1.0, 0.2, 1.8), claimed=10.0))
    above, smaller
    >>> print(verdict(Interval(0.38, 0.33, 0.43), claimed=2.5))
    above, small
    >>> print(verdict(Interval(-1.0, -2.0, -0.2), claimed=10.0))
    below
    >>> print(verdict(Interval(0.3, -1.0, 1.6)))
    not told apart, too wide to say
    """
    low, high = interval.low, interval.high
    finite_numbers([interval.estimate, low, high, claimed or 0.0], "verdict")
    sign = "above" if low > 0 else "below" if high < 0 else "not told apart"
    if claimed and sign == ("below" if claimed > 0 else "above"):
        return Verdict(sign, "")
    if -SMALL < low and high < SMALL:
        return Verdict(sign, "small")
    if sign == "not told apart":
        return Verdict(sign, "too wide to say")
    if not claimed:
        return Verdict(sign, "")
    if high - low > abs(claimed):
        return Verdict(sign, "too wide to say")
    if low <= claimed <= high:
        return Verdict(sign, "as claimed")
    return Verdict(sign, "smaller" if abs(interval.estimate) < abs(claimed) else "larger")
