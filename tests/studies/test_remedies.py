"""The remedies as data, the protocol they share, and what is read of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from wsp.lab.employees import Table
from wsp.lab.many.lanes import draw_lanes
from wsp.lab.many.plans import Plan
from wsp.lab.many.recipes import Recipe
from wsp.lab.remedies import EPOCHS, REMEDIES, Remedy
from wsp.lab.retraining import random_network, stream
from wsp.lab.training import train
from wsp.studies.engine import check, run
from wsp.studies.remedies import (
    READ_AT,
    STUDY,
    against_cold,
    count_correct,
    curves,
    epochs_over_cold,
    epochs_to,
    firsts_of,
    gaps,
    on_same_tables,
    outcomes,
    plans_of,
)

SPEC = {"seeds": 2, "test_rows": 60, "label_noise": 0.05, "epochs": [1, 3]}


def changed(plan: Plan, base: Plan) -> set[str]:
    """The fields, phase by phase, in which two plans differ."""

    def flat(fields: Mapping[str, Any], before: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in fields.items():
            found |= flat(value, f"{name}.") if isinstance(value, dict) else {before + name: value}
        return found

    one, other = flat(asdict(plan)), flat(asdict(base))
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize("remedy", REMEDIES.values(), ids=list(REMEDIES))
def test_a_remedy_changes_what_it_says_and_nothing_else(remedy: Remedy) -> None:
    for strength in remedy.strengths:
        warm = remedy.plan("warm", strength)
        assert changed(warm, remedy.base) <= set(remedy.changes)
        assert changed(remedy.plan("cold", strength), warm) == {"start"}
    assert bool(remedy.strengths) == bool(remedy.changes)
    plans = remedy.plans()
    assert len(plans) == len(remedy.arms) * max(1, len(remedy.strengths))
    assert len(set(plans.values())) == len(plans)  # no strength is tried twice
    assert all(plan.then.epochs == EPOCHS == READ_AT[-1] for plan in plans.values())
    assert {plan.start for plan in plans.values()} == {
        {"warm": "saved", "cold": "fresh"}[arm] for arm in remedy.arms
    }


def test_no_remedy_is_another_one_under_a_new_name() -> None:
    seen: dict[Plan, str] = {}
    for key, remedy in REMEDIES.items():
        for name, plan in remedy.plans().items():
            if plan != REMEDIES["none"].plan(name.split()[0]):
                assert seen.setdefault(plan, f"{key} {name}") == f"{key} {name}"


def test_a_remedy_reaches_the_recipe_of_its_phase() -> None:
    plan = REMEDIES["weight_decay_first"].plan("warm", 0.01)
    assert (plan.first.weight_decay, plan.then.weight_decay) == (0.01, 0.0)
    plan = REMEDIES["weight_decay_second"].plan("warm", 0.01)
    assert (plan.first.weight_decay, plan.then.weight_decay) == (0.0, 0.01)
    assert REMEDIES["early_first"].plan("warm", 50).first.epochs == 50
    assert REMEDIES["shrink_perturb"].plan("warm", 0.3).lamda == 0.3


def test_plain_plans_count_what_the_arms_give() -> None:
    """Same tables, same seeds, same networks, same test rows."""
    three = Recipe(epochs=3)
    plans = {"cold": Plan("fresh", then=three), "warm": Plan(first=three, then=three)}
    found = count_correct(plans, [1003, 1007], SPEC, own=True)
    drawn = draw_lanes([1003, 1007], 2, SPEC["test_rows"], SPEC["label_noise"], own=True)
    for lane, (place, seed) in enumerate(drawn.pairs):
        table, test = drawn.tables[place], [column[lane] for column in drawn.test]
        networks = {
            arm: random_network(seed, f"{kind} weights")
            for arm, kind in (("cold", "fresh"), ("warm", "first"))
        }
        old_rows, first = Table(*(column[:100] for column in table)), stream(seed, "first order")
        train(networks["warm"], old_rows, first, epochs=3, read_at=[], label="old")
        for arm, network in networks.items():
            train(network, table, stream(seed, "order"), epochs=3, read_at=[], label=arm)
            right = int((network(test[0]).argmax(dim=1) == test[1]).sum())
            assert found["correct"][arm][place][lane % 2][-1] == right


def test_the_study_carries_out_its_plans_and_takes_old_networks_from_the_remedy_before() -> None:
    """One file a remedy; within a process the old networks of the same tables are trained once."""
    spec = small("weight_decay")
    alone = run(STUDY, spec, units=[1001])
    firsts_of.cache_clear()
    run(STUDY, small("none"), units=[1001])
    assert len(firsts_of((1001,), 2, 0.05)) == 1
    again = run(STUDY, spec, units=[1001])
    assert len(firsts_of((1001,), 2, 0.05)) == 4
    assert again["correct"] == alone["correct"] and again["train"] == alone["train"]
    assert list(alone["correct"]) == list(spec["plans"])
    expected = count_correct(plans_of(spec), [1001], spec, own=True)
    assert {name: alone[name] for name in expected} == expected
    beside = run(STUDY, spec, units=[1000, 1001])
    assert STUDY.rows(beside, [1001]) == STUDY.rows(alone, [1001])
    assert check(STUDY, beside) == []
    assert STUDY.as_text(alone).startswith("weight_decay")


def small(key: str) -> dict[str, Any]:
    """A specification whose phases last three epochs."""
    spec = STUDY.specification(remedy=key, test_rows=60) | {"epochs": [1, 3]}
    for plan in spec["plans"].values():
        for phase in ("first", "then"):
            plan[phase]["epochs"] = 3
    return spec


def test_remedies_must_be_on_the_same_tables() -> None:
    files = {"none": {"tables": [1, 2]}, "dropout": {"tables": [1]}}
    with pytest.raises(ValueError, match=r"unfinished: \{'none': 2, 'dropout': 1\}"):
        on_same_tables(files)
    assert on_same_tables({"none": files["none"]}) == {"none": files["none"]}


def test_curves_are_shares_of_all_seeds_and_rows() -> None:
    by_seed = [[[20, 50], [30, 50]], [[0, 5], [0, 20]]]  # tables, seeds, epochs
    found = {"specification": {"seeds": 2, "test_rows": 50}, "correct": {"warm": by_seed}}
    np.testing.assert_allclose(curves(found, "warm"), [[50, 100], [0, 25]])


@pytest.fixture
def two() -> dict[str, dict[str, Any]]:
    """Plain starts, and a trick whose second lamda is the better one on every table."""
    spec = {"seeds": 1, "test_rows": 100, "epochs": [100, 500]}

    def counts(*by_table: tuple[int, int]) -> list[list[list[int]]]:
        return [[list(pair)] for pair in by_table]

    plain = {"warm": counts((60, 50), (60, 52), (60, 48)), "cold": counts((10, 60), (70, 60), (10, 60))}
    trick = {
        "warm 0.1": counts((0, 10), (0, 10), (0, 10)),
        "warm 0.3": counts((10, 61), (60, 59), (10, 59)),
        "cold 0.1": counts((0, 62), (0, 61), (0, 63)),
        "cold 0.3": counts((0, 20), (0, 20), (0, 20)),
    }
    return {
        key: {"specification": spec, "tables": [0, 1, 2], "correct": correct}
        for key, correct in (("none", plain), ("shrink_perturb", trick))
    }


def test_every_remedy_and_arm_is_told_against_plain_cold(two: dict[str, dict[str, Any]]) -> None:
    found = against_cold(two)
    means = {row: round(interval.estimate, 9) for row, interval in found.items()}
    trick, cold = round(-1 / 3, 9), 2
    assert means == {
        ("none", "warm"): -10,
        ("shrink_perturb", "warm"): trick,
        ("shrink_perturb", "cold"): cold,
    }
    assert outcomes(two)["shrink_perturb", "warm"].strengths == ["0.3"]
    assert outcomes(two)["none", "warm"].strengths == []


def test_gaps_are_of_remedies_with_both_arms(two: dict[str, dict[str, Any]]) -> None:
    assert {key: round(gap.estimate, 9) for key, gap in gaps(two).items()} == {
        "shrink_perturb": round(7 / 3, 9)
    }


def test_epochs_are_counted_against_the_last_one(two: dict[str, dict[str, Any]]) -> None:
    """Plain cold has 60 at the end: it needs 500, 100 and 500 epochs, plain warm 100 each."""
    found = epochs_over_cold(two)
    assert found["none", "warm"].estimate == pytest.approx(100 - 1100 / 3)
    assert found["shrink_perturb", "warm"].estimate == pytest.approx((500 + 100 + 500 - 1100) / 3)


def test_epochs_to_takes_the_first_and_keeps_what_never_arrives() -> None:
    accuracy = np.array([[60.0, 50.0, 70.0], [10.0, 59.9, 59.99], [10.0, 60.0, 10.0]])
    np.testing.assert_array_equal(epochs_to(accuracy, [1, 10, 100], np.full(3, 60.0)), [1, np.inf, 10])
    by_table = np.array([65.0, 5.0, 61.0])
    np.testing.assert_array_equal(epochs_to(accuracy, [1, 10, 100], by_table), [100, 1, np.inf])
