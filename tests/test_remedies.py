"""The remedies as data, the protocol they share, and what is stored of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsp import remedies, sweep
from wsp.__main__ import main
from wsp.recipes import Plan, Recipe
from wsp.remedies import (
    EPOCHS,
    READ_AT,
    REMEDIES,
    Remedy,
    choose,
    choose_elsewhere,
    count_correct,
    curves,
    epochs_to,
    find_remedies,
    merge,
    run_remedies,
    stored_remedies,
)
from wsp.retraining import Arm

SPEC = {"seeds": 2, "test_rows": 60, "label_noise": 0.05, "epochs": [1, 3]}
TINY = Remedy(
    "tiny",
    "weight decay in a hurry",
    "this test",
    ("first.weight_decay", "then.weight_decay"),
    (0.01, 0.1),
    base=Plan(first=Recipe(epochs=2), then=Recipe(epochs=3)),
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One remedy that runs in no time."""
    monkeypatch.setattr(remedies, "REMEDIES", {"tiny": TINY})
    monkeypatch.setattr(remedies, "READ_AT", (1, 3))


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


def test_unknown_remedies_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown remedy 'prayer': choose from none, shrink_perturb"):
        find_remedies(["none", "prayer"])


def test_plain_plans_count_what_the_sweep_counts() -> None:
    """Same tables, same seeds, same networks, same test rows."""
    tables = [1003, 1007]
    drawn = sweep.draw_tables(tables, SPEC["test_rows"], SPEC["label_noise"])
    arms = [Arm("cold", "fresh", epochs=3), Arm("warm", "saved", epochs=3)]
    expected = sweep.count_correct(
        [(table, seed) for table in tables for seed in (0, 1)],
        lambda samples: None,
        arms=arms,
        tables=dict(zip(tables, zip(*drawn))),
        learning_rate=0.05,
        device="cpu",
    )["correct"]
    three = Recipe(epochs=3)
    found = count_correct({"cold": Plan("fresh", then=three), "warm": Plan(then=three)}, tables, SPEC)
    for arm in ("cold", "warm"):
        by_table = np.array(expected[arm]).reshape(2, 2).sum(axis=1).tolist()
        assert [curve[-1] for curve in found["correct"][arm]] == by_table


def test_a_run_goes_on_with_more_tables(tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[list[int]] = []
    count = count_correct

    def watch(plans: Any, numbers: Any, *others: Any) -> Any:
        trained.append(list(numbers))
        return count(plans, numbers, *others)

    monkeypatch.setattr(remedies, "count_correct", watch)
    options = {"seeds": 2, "test_rows": 60}
    first = run_remedies(["tiny"], tmp_path / "parts", 2, **options)["tiny"]
    parts = run_remedies(["tiny"], tmp_path / "parts", 3, **options)["tiny"]
    assert trained == [[1000, 1001], [1002]]
    whole = run_remedies(["tiny"], tmp_path / "whole", 3, **options)["tiny"]
    for part in ("tables", "correct", "train", "specification"):
        assert parts[part] == whole[part], part
    assert first["tables"] == [1000, 1001]
    path = tmp_path / "parts" / "remedies_noise_0.05_tiny.json"
    assert json.loads(path.read_text()) == parts
    assert parts["provenance"]["seconds"] >= first["provenance"]["seconds"]
    assert "--tables 3 --seeds 2 --label-noise 0.05" in parts["provenance"]["command"]
    assert "earlier_code" not in parts["provenance"]
    run_remedies(["tiny"], tmp_path / "parts", 3, **options)
    assert trained[3:] == []  # finished: nothing is trained again


def test_other_runs_are_not_mixed(tiny: None, tmp_path: Path) -> None:
    run_remedies(["tiny"], tmp_path, 1, 1, test_rows=60)
    with pytest.raises(ValueError, match="holds another run"):
        run_remedies(["tiny"], tmp_path, 1, 2, test_rows=60)
    (tmp_path / "remedies_noise_0.05_tiny.json").write_text("{")
    with pytest.raises(ValueError, match="not a JSON file"):
        run_remedies(["tiny"], tmp_path, 1, 1, test_rows=60)


def test_the_command_line(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["remedies", "tiny", "--tables", "1", "--seeds", "1", "--folder", str(tmp_path)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["tiny", arm, strength] for arm in ("warm", "cold") for strength in ("0.01", "0.1")
    ]
    assert main(["remedies", "prayer", "--folder", str(tmp_path)]) == 2
    assert "unknown remedy 'prayer'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tables": 0}, "tables must be a positive integer, not 0"),
        ({"seeds": 0}, "seeds must be a positive integer, not 0"),
        ({"test_rows": -1}, "test_rows must be a positive integer, not -1"),
        ({"label_noise": 1.5}, "label_noise must be from 0 to 1, not 1.5"),
    ],
)
def test_a_number_out_of_range_is_named(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_remedies(["none"], tmp_path, **({"tables": 1, "seeds": 1} | options))
    assert list(tmp_path.iterdir()) == []


def test_stored_remedies_must_be_on_the_same_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"none": {"tables": [1, 2]}, "dropout": {"tables": [1]}}
    monkeypatch.setattr(remedies, "stored", lambda name: files[name.rpartition("_")[2]])
    with pytest.raises(ValueError, match=r"unfinished: \{'none': 2, 'dropout': 1\}"):
        stored_remedies(keys=["none", "dropout"])
    assert list(stored_remedies(keys=["none"])) == ["none"]


def test_merging_keeps_every_curve_with_its_table() -> None:
    found = count_correct({"cold": Plan("fresh", then=Recipe(epochs=3))}, [1000, 1001, 1002], SPEC)
    parts = [
        count_correct({"cold": Plan("fresh", then=Recipe(epochs=3))}, numbers, SPEC)
        for numbers in ([1001, 1002], [1000])
    ]
    assert merge(parts) == found


def test_curves_are_shares_of_all_seeds_and_rows() -> None:
    found = {"specification": {"seeds": 2, "test_rows": 50}, "correct": {"warm": [[50, 100], [0, 25]]}}
    np.testing.assert_allclose(curves(found, "warm"), [[50, 100], [0, 25]])


def test_epochs_to_takes_the_first_and_keeps_what_never_arrives() -> None:
    accuracy = np.array([[60.0, 50.0, 70.0], [10.0, 59.9, 59.99], [10.0, 60.0, 10.0]])
    np.testing.assert_array_equal(epochs_to(accuracy, [1, 10, 100], np.full(3, 60.0)), [1, np.inf, 10])
    by_table = np.array([65.0, 5.0, 61.0])
    np.testing.assert_array_equal(epochs_to(accuracy, [1, 10, 100], by_table), [100, 1, np.inf])


def test_choosing_and_reporting_on_the_same_tables_flatters() -> None:
    """Twenty equal candidates: the best looks good where it was chosen, and is 0 elsewhere."""
    random = np.random.default_rng(0)
    everywhere, elsewhere = [], []
    for _ in range(200):
        candidates = {str(k): random.normal(size=100) for k in range(20)}
        best = choose(candidates, np.ones(100, dtype=bool))
        everywhere.append(candidates[best].mean())
        names = choose_elsewhere(candidates)
        assert len(set(names[::2])) == len(set(names[1::2])) == 1
        elsewhere.append(np.mean([candidates[name][table] for table, name in enumerate(names)]))
    assert np.mean(everywhere) > 0.1
    assert abs(np.mean(elsewhere)) < 0.03


def test_no_table_has_a_part_in_its_own_choice() -> None:
    candidates = {"a": np.array([9.0, 0.0, 9.0, 0.0]), "b": np.array([0.0, 1.0, 0.0, 1.0])}
    assert choose_elsewhere(candidates).tolist() == ["b", "a", "b", "a"]
