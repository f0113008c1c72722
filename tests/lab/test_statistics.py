"""Intervals against closed forms, SciPy and simulation; the verdict rule as a table."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from scipy import stats

from wsp.lab.statistics import (
    SMALL,
    Interval,
    mcnemar,
    mean_interval,
    ratio_of_sums,
    simultaneous,
    standard_error,
    variance_components,
    verdict,
    wilson,
)

# Simulations have fixed seeds: each holds for ever or never did.

# ---------------------------------------------------------------- two trained networks


@pytest.mark.parametrize("correct, of", [(0, 40), (24, 40), (32, 40), (40, 40), (1, 1), (700, 2000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_its_formula(correct: int, of: int, level: float) -> None:
    z = stats.norm.ppf((1 + level) / 2)
    p = correct / of
    center = (p + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * sqrt(p * (1 - p) / of + z**2 / (4 * of**2))
    found = wilson(correct, of, level)
    assert found.estimate == pytest.approx(100 * p)
    assert (found.low, found.high) == pytest.approx((100 * (center - half), 100 * (center + half)), abs=1e-9)


@pytest.mark.parametrize("correct, of", [(-1, 40), (41, 40), (0, 0), (1, 0)])
def test_wilson_refuses(correct: int, of: int) -> None:
    with pytest.raises(ValueError, match=f"not {correct} of {of}"):
        wilson(correct, of)


@pytest.mark.parametrize("one, other", [(0, 0), (1, 5), (5, 1), (3, 3), (0, 7), (12, 30)])
def test_mcnemar_counts_the_tail(one: int, other: int) -> None:
    n, few = one + other, min(one, other)
    tail = sum(comb(n, k) for k in range(few + 1)) / 2**n
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_refuses() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        mcnemar(-1, 3)


# ---------------------------------------------------------------- intervals


def test_mean_interval_is_student_s() -> None:
    values = np.random.default_rng(1).normal(2, 3, 17)
    for level in (0.8, 0.95):
        expected = stats.ttest_1samp(values, 0).confidence_interval(level)
        found = mean_interval(values, level)
        assert found.estimate == pytest.approx(values.mean())
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert mean_interval([1, 2, 4]) == mean_interval(np.array([1.0, 2.0, 4.0]))


def test_mean_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    intervals = [mean_interval(random.normal(1.5, 2.0, 8)) for _ in range(4000)]
    covered = np.mean([found.low <= 1.5 <= found.high for found in intervals])
    assert covered == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_mean_interval_needs_two_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match=f"at least two independent values, not {len(values)}"):
        mean_interval(values)


@pytest.mark.parametrize("n, train, test", [(20, 1000, 797), (20, 800, 997), (5, 40, 20)])
def test_overlapping_splits_are_corrected_by_the_formula(n: int, train: int, test: int) -> None:
    """Nadeau and Bengio (2003): the variance of the mean of n splits is (1/n + test/train) s^2."""
    values = np.random.default_rng(10).normal(1, 2, n)
    half = stats.t.ppf(0.975, n - 1) * sqrt((1 / n + test / train) * values.var(ddof=1))
    found = mean_interval(values, overlap=test / train)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert standard_error(values) == values.std(ddof=1) / n**0.5
    assert mean_interval(values, overlap=0.0) == mean_interval(values)


def test_several_comparisons_over_overlapping_splits_widen_alike() -> None:
    for n in (5, 30):  # Bonferroni, and the bootstrap
        differences = five_comparisons(np.random.default_rng(11), n)
        apart, shared = simultaneous(differences), simultaneous(differences, overlap=0.8)
        for name, found in shared.items():
            wider = sqrt((1 / n + 0.8) * n)
            assert found.estimate == apart[name].estimate
            assert found.high - found.estimate == pytest.approx(wider * (apart[name].high - found.estimate))


@pytest.mark.parametrize(
    "chance, seems, holds", [(0.0, (0.4, 0.55), (0.9, 0.95)), (0.3, (0.75, 0.87), (0.98, 1.0))]
)
def test_overlapping_splits_seem_surer_than_they_are(
    chance: float, seems: tuple[float, float], holds: tuple[float, float]
) -> None:
    """Two ways to predict a number, compared over 20 random splits of the same 90 rows.

    The true difference in loss is known: 1 + m^2 against 1 + 1/60. Uncorrected, the interval speaks of
    these 90 rows, and misses it often. Corrected, it nearly holds what it says where the rows alone
    decide, and more than that where chance, anew in every run, has a hand in it.
    """
    random, m, datasets = np.random.default_rng(12), 0.4, 600
    true, seemed, held = m**2 - 1 / 60, 0, 0
    for _ in range(datasets):
        rows = random.normal(m, 1, 90)
        orders = np.array([random.permutation(90) for _ in range(20)])
        train, test = rows[orders[:, :60]], rows[orders[:, 60:]]
        losses = (test**2 - (test - train.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
        losses += random.normal(0, chance, 20)
        naive, corrected = mean_interval(losses), mean_interval(losses, overlap=30 / 60)
        seemed += naive.low <= true <= naive.high
        held += corrected.low <= true <= corrected.high
    assert seems[0] < seemed / datasets < seems[1]
    assert holds[0] < held / datasets <= holds[1]


@pytest.mark.parametrize("overlap", [-0.1, float("nan"), float("inf")])
def test_an_overlap_is_a_ratio(overlap: float) -> None:
    with pytest.raises(ValueError, match="overlap is test rows over training rows, 0 or more, not"):
        mean_interval([1.0, 2.0], overlap=overlap)


def test_a_ratio_of_sums_covers_as_often_as_it_says() -> None:
    random, covered, rounds = np.random.default_rng(13), 0, 2000
    for _ in range(rounds):
        whole = random.gamma(9.0, 10.0, 30)
        part = 0.4 * whole + random.normal(0, 8.0, 30)
        found = mean_interval(ratio_of_sums(part, whole))
        assert found.estimate == pytest.approx(100 * part.sum() / whole.sum())
        covered += found.low <= 40 <= found.high
    assert covered / rounds == pytest.approx(0.95, abs=0.015)


def test_a_ratio_of_sums_is_the_jackknife_s_for_many_tables() -> None:
    random = np.random.default_rng(14)
    whole = random.gamma(9.0, 10.0, 400)
    part = 0.4 * whole + random.normal(0, 8.0, 400)
    without = 100 * (part.sum() - part) / (whole.sum() - whole)
    jackknife = sqrt((399**2 / 400) * without.var(ddof=1))
    assert standard_error(ratio_of_sums(part, whole)) == pytest.approx(jackknife, rel=0.01)


def test_a_ratio_needs_two_columns_of_one_length() -> None:
    with pytest.raises(ValueError, match=r"two columns of one length, not \(2,\) and \(3,\)"):
        ratio_of_sums(np.ones(2), np.ones(3))


def five_comparisons(random: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Correlated and of different spread, all with mean 0."""
    shared = random.normal(0, 1, n)
    return {f"arm {k}": (k + 1) * (0.5 * shared + random.normal(0, 1, n)) for k in range(5)}


def test_simultaneous_intervals_cover_all_at_once() -> None:
    random = np.random.default_rng(3)
    all_covered, each_covered, rounds = 0, 0, 300
    for _ in range(rounds):
        differences = five_comparisons(random, 40)
        together = simultaneous(differences, draws=400)
        all_covered += all(found.low <= 0 <= found.high for found in together.values())
        alone = [mean_interval(values) for values in differences.values()]
        each_covered += all(found.low <= 0 <= found.high for found in alone)
    assert all_covered / rounds == pytest.approx(0.95, abs=0.03)
    assert each_covered / rounds < 0.87  # what the correction is for


def test_simultaneous_is_student_s_for_one_comparison() -> None:
    values = np.random.default_rng(4).normal(1, 2, 200)
    alone, found = mean_interval(values), simultaneous({"a": values})["a"]
    assert found.estimate == pytest.approx(alone.estimate)
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.03)


def test_simultaneous_is_the_bootstrap_written_out() -> None:
    """Resample whole tables; what share of the largest |t| lies below the bound?"""
    random = np.random.default_rng(9)
    table = np.stack(list(five_comparisons(random, 12).values()), axis=1)
    mean, largest = table.mean(axis=0), []
    for _ in range(10_000):
        sample = table[random.integers(0, 12, 12)]
        error = sample.std(axis=0, ddof=1) / 12**0.5
        largest.append(np.abs((sample.mean(axis=0) - mean) / np.maximum(error, 1e-12)).max())
    half = np.quantile(largest, 0.95) * table.std(axis=0, ddof=1) / 12**0.5
    found = simultaneous({str(k): values for k, values in enumerate(table.T)})
    for k, interval in enumerate(found.values()):
        assert interval.high - interval.estimate == pytest.approx(half[k], rel=0.03)


def test_simultaneous_is_repeatable_and_scales() -> None:
    differences = five_comparisons(np.random.default_rng(5), 30)
    one = simultaneous(differences, draws=500)
    assert one == simultaneous(differences, draws=500) != simultaneous(differences, draws=500, seed=1)
    assert list(one) == list(differences)
    scaled = simultaneous({name: 10 * values for name, values in differences.items()}, draws=500)
    for name in one:
        assert scaled[name].low == pytest.approx(10 * one[name].low)
        assert scaled[name].high == pytest.approx(10 * one[name].high)
    wider = simultaneous(differences, level=0.99, draws=500)
    assert all(wider[name].low < one[name].low < one[name].high < wider[name].high for name in one)


def test_simultaneous_bears_a_comparison_that_never_differs() -> None:
    found = simultaneous({"same": np.zeros(30), "other": np.arange(30.0)}, draws=500)
    assert found["same"] == Interval(0.0, 0.0, 0.0)
    assert 0 < found["other"].low < found["other"].high < 30


def test_few_tables_get_student_s_intervals_for_all_at_once() -> None:
    """Five tables and eleven comparisons that share one of their sides, as in chapter 12."""
    random, covered = np.random.default_rng(6), 0
    for _ in range(400):
        shared = random.normal(size=5)
        found = simultaneous({str(k): random.normal(size=5) - shared for k in range(11)})
        covered += all(interval.low < 0 < interval.high for interval in found.values())
    assert 0.92 < covered / 400 < 0.995
    alone = mean_interval([1.0, 2.0, 4.0], 0.975)
    assert simultaneous({"a": np.array([1.0, 2.0, 4.0]), "b": np.zeros(3)})["a"] == alone
    assert simultaneous({"a": np.array([1.0, 2.0])})["a"] == mean_interval([1.0, 2.0])


def test_one_table_gives_no_intervals() -> None:
    with pytest.raises(ValueError, match="at least two independent values, not 1"):
        simultaneous({"a": np.array([1.0]), "b": np.array([2.0])})


def test_interval_as_text() -> None:
    assert str(Interval(-0.125, -1.5, 2)) == "-0.12 (-1.50 to +2.00)"


# ---------------------------------------------------------------- variance components


def test_variance_components_come_back() -> None:
    random = np.random.default_rng(6)
    tables, seeds, rows = 3000, 4, 2000
    accuracy = 70 + random.normal(0, 3.0, (tables, 1)) + random.normal(0, 1.5, (tables, seeds))
    accuracy += random.normal(0, 100 * sqrt(0.7 * 0.3 / rows), (tables, 1))  # its test rows
    found = variance_components(accuracy, rows)
    assert found["table"] == pytest.approx(3.0, rel=0.04)
    assert found["seed"] == pytest.approx(1.5, rel=0.03)
    assert found["test_rows_40"] == pytest.approx(100 * sqrt(0.7 * 0.3 / 40), rel=0.01)


def test_variance_components_of_real_answers() -> None:
    """Right or wrong, row by row: seeds of a table share its rows and disagree on some."""
    random = np.random.default_rng(7)
    tables, seeds, rows, easy = 2000, 4, 500, 0.6
    # Two rows in five are a toss-up for every seed; on the others all seeds agree. The chance of
    # a toss-up moves from table to table and from seed to seed.
    chance = 0.5 + random.normal(0, 0.1, (tables, 1)) + random.normal(0, 0.05, (tables, seeds))
    tossed = random.binomial(rows, 1 - easy, (tables, 1))
    right = (rows - tossed) + random.binomial(tossed, chance.clip(0, 1))
    disagreement = (1 - easy) * 2 * 0.5 * 0.5
    found = variance_components(100 * right / rows, rows, disagreement)
    assert found["table"] == pytest.approx(100 * (1 - easy) * 0.1, rel=0.04)
    assert found["seed"] == pytest.approx(100 * (1 - easy) * 0.05, rel=0.04)
    without = variance_components(100 * right / rows, rows)
    assert without["seed"] > 1.2 * found["seed"]  # the rows would pass for the seed


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_variance_components_refuse_a_disagreement_that_is_no_share(share: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1, not"):
        variance_components(np.ones((2, 2)), 40, share)


def test_variance_components_are_the_analysis_of_variance() -> None:
    accuracy = np.array([[70.0, 72.0, 71.0], [60.0, 61.0, 65.0], [80.0, 75.0, 79.0]])
    within = sum(((row - row.mean()) ** 2).sum() for row in accuracy) / 6
    between = 3 * ((accuracy.mean(axis=1) - accuracy.mean()) ** 2).sum() / 2
    found = variance_components(accuracy, test_rows=10**12)
    assert found["seed"] == pytest.approx(sqrt(within))
    assert found["table"] == pytest.approx(sqrt((between - within) / 3))


def test_a_negative_component_is_zero() -> None:
    accuracy = np.array([[60.0, 80.0], [80.0, 60.0]])
    assert variance_components(accuracy, 2000)["table"] == 0.0


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (4,), (0, 0)])
def test_variance_components_refuse(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"at least 2 tables x 2 seeds, not an array of shape \("):
        variance_components(np.zeros(shape), 40)


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    "low, high, claimed, expected",
    [
        (1.0, 3.0, 2.5, "above, as claimed"),
        (1.0, 3.0, 10.0, "above, smaller"),
        (1.0, 1.5, 0.7, "above, larger"),
        (1.0, 3.0, 0.7, "above, too wide to say"),
        (0.6, 0.9, 10.0, "above, smaller"),
        (-3.0, -1.0, 2.5, "below"),
        (-3.0, -1.0, -2.5, "below, as claimed"),
        (-3.0, -2.0, -10.0, "below, smaller"),
        (1.0, 3.0, -2.5, "above"),
        (-0.4, 0.4, 10.0, "not told apart, small"),
        (0.33, 0.43, 2.5, "above, small"),  # small never overrides a sign
        (0.1, 0.4, 0.3, "above, small"),  # and comes first
        (-0.4, -0.1, 10.0, "below"),  # the opposite sign has no size
        (-0.5, 0.4, 10.0, "not told apart, too wide to say"),
        (-0.1, 3.0, 10.0, "not told apart, too wide to say"),
        (0.0, 3.0, 2.5, "not told apart, too wide to say"),
        (1.0, 3.0, None, "above"),
        (-0.4, -0.1, None, "below, small"),
        (-1.0, 0.2, None, "not told apart, too wide to say"),
    ],
)
def test_verdict(low: float, high: float, claimed: float | None, expected: str) -> None:
    assert SMALL == 0.5
    assert str(verdict(Interval((low + high) / 2, low, high), claimed)) == expected


def test_more_data_never_turns_a_sign_into_no_difference() -> None:
    """A narrower interval about the same estimate keeps the sign."""
    for half in (0.4, 0.2, 0.1, 0.01):
        assert verdict(Interval(-0.45, -0.45 - half, -0.45 + half), 2.5).sign == "below"


def test_a_comparison_that_is_nearly_constant_does_not_blow_up_the_others() -> None:
    """Resampled tables on which it is constant have no spread: it is judged by itself."""
    values = np.random.default_rng(0).normal(0.0, 1.0, (3, 20))
    flat = np.zeros(20)
    flat[3] = 0.1
    others = {f"{k}": row for k, row in enumerate(values)}
    with_it, without = simultaneous(others | {"flat": flat}), simultaneous(others)
    for name in others:
        width = (with_it[name].high - with_it[name].low) / (without[name].high - without[name].low)
        assert 1 < width < 1.2, "they share what is left of the level"
    assert with_it["flat"] == mean_interval(flat, 1 - 0.05 / 4)
    assert simultaneous(others | {"same": np.zeros(20)})["0"] == without["0"], "it costs nothing"
    constant = simultaneous({"one": np.ones(20)})["one"]
    assert (constant.low, constant.estimate, constant.high) == (1, 1, 1)


def test_a_family_with_nearly_constant_comparisons_still_covers_all_at_once() -> None:
    """Tables on which two arms rarely differ, by one row: 300 families of known means."""
    rng, missed = np.random.default_rng(1), 0
    for _ in range(300):
        rare = (rng.random(30) < 0.1).astype(float)
        family = {"rare": rare, "a": rng.normal(0, 1, 30), "b": rng.normal(0, 3, 30)}
        truth = {"rare": 0.1, "a": 0.0, "b": 0.0}
        found = simultaneous(family, draws=500)
        missed += any(not found[k].low <= truth[k] <= found[k].high for k in ("a", "b"))
    assert missed <= 0.08 * 300
