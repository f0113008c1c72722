"""A slice of every stored remedy is run again; the plain ones are those of chapter 6."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wsp.recipes import Plan
from wsp.remedies import REMEDIES, count_correct, curves, file_name, specification, stored_remedies
from wsp.results import stored

NOISES = (0.05,)
EARLY = 20  # epochs of a slice: a curve is the same however long it goes on


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return stored_remedies()


def test_a_slice_of_every_remedy_is_reproduced(found: dict[str, dict[str, Any]]) -> None:
    """The last table, every arm of every remedy at its greatest strength, the first epochs."""
    plans: dict[str, Plan] = {}
    expected: dict[str, list[int]] = {}
    for key, remedy in REMEDIES.items():
        last: dict[str, str] = {name.split()[0]: name for name in remedy.plans()}
        for name in last.values():
            plan = remedy.plans()[name]
            plans[f"{key}, {name}"] = replace(plan, then=replace(plan.then, epochs=EARLY))
            expected[f"{key}, {name}"] = found[key]["correct"][name][-1]
    spec = found["none"]["specification"]
    early = [epoch for epoch in spec["epochs"] if epoch <= EARLY]
    again = count_correct(plans, found["none"]["tables"][-1:], spec | {"epochs": early})
    for name, curve in expected.items():
        assert again["correct"][name] == [curve[: len(early)]], name


def test_the_plain_starts_are_those_of_chapter_6(found: dict[str, dict[str, Any]]) -> None:
    """The same tables, the same seeds: the same counts, table by table."""
    sweep = stored("fresh_noise_0.05_rate_0.05")
    seeds = found["none"]["specification"]["seeds"]
    for key, plan, arm in (
        ("none", "cold", "cold_500"),
        ("none", "warm", "warm_500"),
        ("shrink_perturb", "warm 0.5", "shrink_perturb"),
    ):
        counts = np.array(sweep["correct"][arm]).reshape(sweep["specification"]["tables"], -1)
        numbers = np.unique(np.array(sweep["pairs"])[:, 0])
        rows = np.searchsorted(numbers, found[key]["tables"])
        assert numbers[rows].tolist() == found[key]["tables"]
        ends = [curve[-1] for curve in found[key]["correct"][plan]]
        assert ends == counts[rows, :seeds].sum(axis=1).tolist(), arm


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("key", REMEDIES)
def test_a_stored_remedy_is_whole_and_is_what_the_module_says(key: str, noise: float) -> None:
    content = stored(file_name(key, noise))
    spec = content["specification"]
    today = specification(
        REMEDIES[key], spec["seeds"], test_rows=spec["test_rows"], label_noise=spec["label_noise"]
    )
    assert spec == today and spec["label_noise"] == noise
    assert spec["seeds"] >= 2 and spec["test_rows"] >= 2000 and len(content["tables"]) >= 100
    for name in REMEDIES[key].plans():
        accuracy = curves(content, name)
        assert accuracy.shape == (len(content["tables"]), len(spec["epochs"]))
        assert len(content["train"][name]) == len(spec["epochs"])
        assert 25 < accuracy.min() and accuracy.max() < 90
    assert {"command", "code", "torch", "processor", "seconds", "date"} <= set(content["provenance"])


def test_no_table_took_part_in_the_selection(found: dict[str, dict[str, Any]]) -> None:
    searched = {record["table"] for record in stored("table_search")["log"]}
    assert not searched & set(found["none"]["tables"])
