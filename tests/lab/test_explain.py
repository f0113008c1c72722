"""Arms at one training loss; quantities and the gap over tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from wsp.lab.explain import equal_fit, rank_correlations
from wsp.lab.statistics import Floats


def test_the_target_is_what_every_arm_reaches() -> None:
    retraining = {
        "slow": {"accuracy": [[50.0, 60.0], [40.0, 44.0]], "loss": [[1.0, 0.5], [1.0, 0.8]]},
        "fast": {"accuracy": [[50.0, 70.0], [40.0, 80.0]], "loss": [[1.0, 0.25], [1.0, 0.1]]},
    }
    accuracy, target = equal_fit(retraining)
    assert target.tolist() == [0.5, 0.8]
    assert accuracy["slow"].tolist() == [60.0, 44.0]
    # halfway in the logarithm of the loss is halfway in accuracy
    assert accuracy["fast"][0] == pytest.approx(60.0)
    assert accuracy["fast"][1] == pytest.approx(40 + 40 * np.log(1 / 0.8) / np.log(1 / 0.1))


def test_a_loss_that_rises_again_does_not_count() -> None:
    retraining = {
        "steady": {"accuracy": [[0.0, 10.0, 20.0]], "loss": [[1.0, 0.5, 0.4]]},
        "jumpy": {"accuracy": [[0.0, 30.0, 40.0]], "loss": [[1.0, 0.2, 0.6]]},
    }
    accuracy, target = equal_fit(retraining)
    assert target.tolist() == [0.4]
    assert 0 < accuracy["jumpy"][0] < 30


def samples() -> tuple[Floats, dict[str, Floats]]:
    random = np.random.default_rng(0)
    gap = random.normal(size=80)
    shares = {"much": 2.0, "some": 0.5, "none": 0.0}
    return gap, {name: gap * share + random.normal(size=80) for name, share in shares.items()}


def test_the_estimate_is_spearmans() -> None:
    gap, suspects = samples()
    for name, interval in rank_correlations(gap, suspects).items():
        assert interval.estimate == pytest.approx(stats.spearmanr(gap, suspects[name]).statistic)
        assert -1 <= interval.low < interval.estimate < interval.high <= 1


def test_intervals_for_several_are_wider_than_for_one() -> None:
    gap, suspects = samples()
    together = rank_correlations(gap, suspects)["some"]
    alone = rank_correlations(gap, {"some": suspects["some"]})["some"]
    assert together.low < alone.low and together.high > alone.high


def test_the_intervals_cover_together() -> None:
    random = np.random.default_rng(1)
    missed = 0
    for trial in range(100):
        gap, others = random.normal(size=60), random.normal(size=(4, 60))
        found = rank_correlations(gap, dict(zip("abcd", others)), draws=200, seed=trial)
        missed += any(not interval.low <= 0 <= interval.high for interval in found.values())
    assert missed <= 14  # of 100, where 5 are expected


def test_the_order_of_ranks_is_all_that_counts() -> None:
    gap, suspects = samples()
    plain = rank_correlations(gap, suspects)
    bent = rank_correlations(gap, {name: np.exp(values) for name, values in suspects.items()})
    assert all(plain[name].estimate == pytest.approx(bent[name].estimate) for name in suspects)
