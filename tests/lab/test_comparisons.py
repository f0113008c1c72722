"""What stored runs say: which arms are compared, over what, and with which intervals."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest
from scipy import stats

from wsp.lab.comparisons import (
    PAIRS,
    averaged,
    compared,
    families,
    images_seen,
    overlap_of,
    pairs_of,
    resnet,
    table_of,
)
from wsp.lab.results import stored
from wsp.lab.statistics import Interval, mean_interval

SPEC = {"data": "cifar10", "images": 40, "size": 20, "test": 200, "wrong": 0.0}
ARMS = ("cold", "warm", "shrink_perturb", "official")


def by_hand(seed: int = 0, splits: int = 5, **changes: Any) -> dict[str, Any]:
    """A stored result of two rounds; the first round is the same for all arms."""
    random = np.random.default_rng(seed)
    runs = [
        {
            "arm": arm,
            "seed": split,
            "epochs": [5, int(random.integers(3, 9))],
            "correct": [90, int(random.integers(100, 160))],
        }
        for split in range(splits)
        for arm in ARMS
    ]
    return {"specification": SPEC | changes, "runs": runs}


def half(found: Interval) -> float:
    return found.high - found.estimate


def test_runs_of_a_split_are_averaged_before_splits_are_compared() -> None:
    once, again = by_hand(0), by_hand(1)
    found = compared(once, again)
    assert list(found) == list(PAIRS)
    for (one, other), interval in found.items():
        gaps = [
            table_of(run, "accuracy")[one][:, 1] - table_of(run, "accuracy")[other][:, 1]
            for run in (once, again)
        ]
        alone = mean_interval(np.mean(gaps, axis=0), 1 - 0.05 / len(PAIRS))
        assert (interval.estimate, half(interval)) == pytest.approx((alone.estimate, half(alone)))


def test_runs_of_other_splits_are_not_averaged() -> None:
    with pytest.raises(ValueError, match="runs of the same splits of the same data"):
        averaged([by_hand(0), by_hand(1, splits=4)])
    with pytest.raises(ValueError, match="runs of the same splits of the same data"):
        averaged([by_hand(0), by_hand(1, test=100)])


def test_a_family_in_two_groups_is_wider_than_each_alone() -> None:
    groups = {"one": [by_hand(0)], "two": [by_hand(1)]}
    together, alone = families(groups), compared(by_hand(0))
    wider = stats.t.ppf(1 - 0.025 / 10, 4) / stats.t.ppf(1 - 0.025 / 5, 4)
    for pair, found in together["one"].items():
        assert half(found) == pytest.approx(wider * half(alone[pair]))


def test_digits_are_corrected_and_photographs_are_not() -> None:
    digits = by_hand(data="digits")
    assert overlap_of(digits) == 200 / 40 and overlap_of(by_hand()) == 0
    pairs = [("warm", "cold"), ("shrink_perturb", "cold")]
    for (pair, wide), narrow in zip(
        compared(digits, pairs=pairs).items(), compared(by_hand(), pairs=pairs).values()
    ):
        assert pair in pairs and half(wide) == pytest.approx(sqrt(1 + 5 * 5) * half(narrow))


def test_arms_with_statistics_estimated_again_are_compared_with_such_arms() -> None:
    arms = ["cold", "warm", "shrink_perturb", "shrink_perturb_keep_bn", "cold_update_bn", "warm_update_bn"]
    arms.append("shrink_perturb_update_bn")
    runs = [{"arm": arm, "seed": 0} for arm in arms]
    assert pairs_of({"specification": SPEC | {"data": "digits"}, "runs": runs}) == [
        ("warm", "cold"),
        ("shrink_perturb", "cold"),
        ("shrink_perturb_keep_bn", "cold"),
        ("warm_update_bn", "cold_update_bn"),
        ("shrink_perturb_update_bn", "cold_update_bn"),
        ("shrink_perturb", "warm"),
        ("shrink_perturb_update_bn", "warm_update_bn"),
    ]


def test_cost_is_a_ratio_of_sums_over_later_rounds() -> None:
    content = by_hand(0)
    epochs = table_of(content, "epochs")
    found = images_seen(content)
    assert list(found) == ["warm", "shrink_perturb", "official"]
    for arm, share in found.items():
        assert share.estimate == pytest.approx(100 * epochs[arm][:, 1].sum() / epochs["cold"][:, 1].sum())
    assert list(images_seen(content, arms=["warm"])) == ["warm"]


def test_the_resnet_s_two_runs_are_pooled() -> None:
    """Reviewed by hand: 4.53, 5.59 and 1.07 points, over five splits of two runs each."""
    found = resnet()
    once = found["one arrival"]
    for pair, value, alone in (
        (("cold", "warm"), 4.525, 1.49),
        (("shrink_perturb", "warm"), 5.59, 2.00),
        (("shrink_perturb", "cold"), 1.065, 1.96),
    ):
        assert once[pair].estimate == pytest.approx(value, abs=0.006)
        ten = stats.t.ppf(1 - 0.025 / 10, 4) / stats.t.ppf(0.975, 4)
        assert half(once[pair]) == pytest.approx(ten * alone, rel=0.01)
    assert set(found) == {"one arrival", "rounds"} and list(found["rounds"]) == list(PAIRS)


def test_one_comparison_of_the_digits_by_hand() -> None:
    content = stored("digits_mlp")
    accuracy = table_of(content, "accuracy")
    gap = (accuracy["warm"] - accuracy["cold"])[:, 1:].mean(axis=1)
    found = compared(content)["warm", "cold"]
    assert found.estimate == pytest.approx(gap.mean())
    alone = mean_interval(gap, overlap=797 / 1000)
    assert half(found) > half(alone) > 4 * half(mean_interval(gap))
