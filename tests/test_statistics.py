"""Intervals against closed forms, SciPy and simulation; the verdict rule as a table."""

from __future__ import annotations

from math import comb, sqrt
from typing import Any

import numpy as np
import pytest
from scipy import stats

from wsp.retraining import ARMS
from wsp.statistics import (
    COMPARISONS,
    NO_DIFFERENCE,
    QUANTILES,
    Interval,
    accuracies,
    as_text,
    mcnemar,
    mean_interval,
    paired,
    simultaneous,
    summarize,
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


def five_comparisons(random: np.random.Generator, n: int) -> dict[str, Any]:
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
    with pytest.raises(ValueError, match=r"at least 2 tables × 2 seeds, not an array of shape \("):
        variance_components(np.zeros(shape), 40)


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    "low, high, claimed, expected",
    [
        (1.0, 3.0, 2.5, "reproduced"),
        (1.0, 3.0, 10.0, "direction reproduced, size not"),
        (1.0, 3.0, 0.7, "direction reproduced, size not"),
        (0.6, 0.9, 10.0, "direction reproduced, size not"),
        (-3.0, -1.0, 2.5, "contradicted"),
        (-3.0, -1.0, -2.5, "reproduced"),
        (1.0, 3.0, -2.5, "contradicted"),
        (-0.4, 0.4, 10.0, "no difference"),
        (0.1, 0.4, 10.0, "no difference"),
        (-0.4, -0.1, 10.0, "no difference"),
        (-0.5, 0.4, 10.0, "cannot tell"),
        (-0.4, 0.5, 10.0, "cannot tell"),
        (-0.1, 3.0, 10.0, "cannot tell"),
        (-1.0, 12.0, 10.0, "cannot tell"),
        (0.0, 3.0, 2.5, "cannot tell"),
    ],
)
def test_verdict(low: float, high: float, claimed: float, expected: str) -> None:
    assert NO_DIFFERENCE == 0.5
    assert verdict(Interval((low + high) / 2, low, high), claimed) == expected


# ---------------------------------------------------------------- sweeps


def sweep_of(correct: dict[str, list[int]], tables: int, rows: int) -> dict[str, Any]:
    seeds = len(next(iter(correct.values()))) // tables
    return {
        "pairs": [[1000 + table, seed] for table in range(tables) for seed in range(seeds)],
        "correct": correct,
        "specification": {"test_rows": rows},
    }


def test_accuracies_are_tables_by_seeds() -> None:
    numbers, found = accuracies(sweep_of({"cold": [10, 20, 30, 40, 0, 5]}, tables=2, rows=40))
    assert numbers.tolist() == [1000, 1001]
    assert found["cold"].tolist() == [[25, 50, 75], [100, 0, 12.5]]


def test_an_unfinished_sweep_is_refused() -> None:
    sweep = sweep_of({"cold": [10, 20, 30, 40]}, tables=2, rows=40)
    sweep["pairs"][1][0] = 1001
    with pytest.raises(ValueError, match="unfinished"):
        accuracies(sweep)


def test_pairs_over_tables() -> None:
    """Seeds are averaged within a table first; three tables win, one ties, one loses."""
    gaps = np.array([[3.0, 1.0], [2.0, 4.0], [5.0, -1.0], [1.0, -1.0], [-2.0, 1.0]])
    base = np.full((5, 2), 60.0)
    found = paired(base + gaps, base)
    expected = mean_interval([2.0, 3.0, 2.0, 0.0, -0.5])
    assert (found["win"], found["tie"], found["loss"]) == (0.6, 0.2, 0.2)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )


def test_pairs_over_seeds_of_one_table() -> None:
    found = paired(np.array([[60.0, 65.0, 70.0, 62.5]]), np.array([[60.0, 60.0, 72.5, 60.0]]))
    expected = mean_interval([0.0, 5.0, -2.5, 2.5])
    assert (found["win"], found["tie"], found["loss"]) == (0.5, 0.25, 0.25)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    alone = paired(np.array([[60.0]]), np.array([[50.0]]))
    assert alone["mean"] == 10.0 and "low" not in alone


def test_a_tie_is_a_tie_whatever_the_rounding() -> None:
    """Gaps of +k, +m, -k-m rows of 2,000 sum to zero; their percentages need not."""
    random = np.random.default_rng(7)
    counts = random.integers(1200, 1600, (500, 4))
    gaps = random.integers(-20, 20, (500, 4))
    gaps[:, 3] -= gaps.sum(axis=1)
    found = paired(100.0 * counts / 2000, 100.0 * (counts - gaps) / 2000)
    assert (found["win"], found["tie"], found["loss"]) == (0, 1, 0)


def test_summary() -> None:
    random = np.random.default_rng(8)
    correct = {key: random.integers(20, 35, 12).tolist() for key in ARMS}
    found = summarize(sweep_of(correct, tables=3, rows=40))
    assert (found["unit"], found["tables"], found["seeds"]) == ("table", 3, 4)
    assert list(found["arms"]) == list(ARMS)
    values = 100 * np.array(correct["warm"]) / 40
    warm = found["arms"]["warm"]
    assert (warm["mean"], warm["sd"]) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert warm["quantiles"] == pytest.approx({str(q): np.quantile(values, q) for q in QUANTILES})
    assert list(found["paired"]) == [f"{first} - {second}" for first, second in COMPARISONS]
    gap = found["paired"]["cold - warm"]["mean"]
    assert gap == pytest.approx((np.array(correct["cold"]) - correct["warm"]).mean() * 100 / 40)

    text = as_text(found)
    assert all(key in text for key in ARMS) and f"{gap:+.2f}" in text
    assert "unit: the table\n" in text
    one = as_text(summarize(sweep_of(correct, tables=1, rows=40)))
    assert "unit: the seed (conditional on this one table)" in one


def test_summary_of_a_single_run() -> None:
    found = summarize(sweep_of({"cold": [30], "warm": [28]}, tables=1, rows=40))
    assert found["arms"]["cold"] == {
        "mean": 75.0,
        "sd": None,
        "quantiles": dict.fromkeys(map(str, QUANTILES), 75.0),
    }
    assert found["paired"] == {"cold - warm": {"mean": 5.0, "win": 1.0, "tie": 0.0, "loss": 0.0}}
    assert "cold - warm" in as_text(found)


def test_comparisons_name_arms() -> None:
    assert {arm for pair in COMPARISONS for arm in pair} <= set(ARMS)
