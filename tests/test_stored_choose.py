"""A slice of every stored experiment of chapter 8 is run again and must give what is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wsp import compound, grid, judge, noise
from wsp.results import stored
from wsp.sweep import fresh_tables

NAMES = ("lamda_sigma", "lamda_sigma_rounds", "lamda_sigma_noise", "lamda_sigma_judged")


@pytest.fixture(scope="module", params=NAMES)
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(stored(request.param))


def test_whole_and_says_where_it_comes_from(found: dict[str, Any]) -> None:
    assert found["tables"] == list(fresh_tables(found["specification"]["tables"]))
    assert len(found["tables"]) >= 100
    assert {"command", "code", "torch", "device", "processor", "seconds", "date"} <= set(found["provenance"])


def test_a_slice_of_the_map() -> None:
    found = stored("lamda_sigma")
    spec, number = found["specification"], found["tables"][-1]
    again = grid.grid(
        grid.specification(
            spec["tables"], spec["seeds"], lamdas=[0.5], sigmas=[0.0, 0.35], test_rows=spec["test_rows"]
        ),
        tables=[number],
    )
    for name in again["correct"]:
        for kind in ("correct", "epochs", "reached"):
            assert again[kind][name][0] == found[kind][name][-1], (kind, name)
    assert again["initial"][0] == found["initial"][-1]


def test_the_map_agrees_with_chapter_6() -> None:
    """Cold, warm and the article's pair were also trained for the sweeps over fresh tables."""
    found, sweep = stored("lamda_sigma"), stored("fresh_noise_0.05_rate_0.05")
    seeds = found["specification"]["seeds"]
    lanes = [k for k, (table, seed) in enumerate(sweep["pairs"]) if table in found["tables"] and seed < seeds]
    both = {"cold": "cold_500", "1, 0": "warm_500", "0.5, 0.01": "shrink_perturb",
            "0.5, 0": "shrink_only_500", "1, 0.01": "perturb_only_500"}  # fmt: skip
    for name, arm in both.items():
        counts = np.array(sweep["correct"][arm])[lanes].reshape(-1, seeds).sum(axis=1)
        assert found["correct"][name] == counts.tolist(), name
    counts = np.array(sweep["correct"]["initial"])[lanes].reshape(-1, seeds).sum(axis=1)
    assert found["initial"] == counts.tolist()


def test_curves_end_where_the_counts_are() -> None:
    found = stored("lamda_sigma")
    half = len(found["tables"]) // 2
    for name, curve in found["curves"].items():
        ends = [curve[part]["sum"][-1] for part in grid.HALVES]
        assert ends == [sum(found["correct"][name][:half]), sum(found["correct"][name][half:])]
        squares = [(a - b) ** 2 for a, b in zip(found["correct"][name], found["correct"]["cold"])]
        assert curve["report"]["squares_minus_cold"][-1] == sum(squares[half:])


def test_a_slice_of_the_rounds() -> None:
    found = stored("lamda_sigma_rounds")
    spec, number = found["specification"], found["tables"][-1]
    again = compound.compound(
        compound.specification(spec["tables"], spec["seeds"], pairs=[(0.6, 0.01)], twins=[]), tables=[number]
    )
    for name, counts in again["correct"].items():
        for when in ("early", "end"):
            stored_counts = [by_table[-1] for by_table in found["correct"][name][when]]
            assert [by_table[0] for by_table in counts[when]] == stored_counts, (name, when)


def test_a_slice_of_the_kinds_of_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    found = stored("lamda_sigma_noise")
    assert found["specification"]["kinds"] == [kind.key for kind in noise.KINDS]
    kinds = [kind for kind in noise.KINDS if kind.key in ("0.4, scaled 1", "0.4, fresh 0.1, biases")]
    monkeypatch.setattr(noise, "KINDS", kinds)
    spec = noise.specification(found["specification"]["tables"], found["specification"]["seeds"])
    again = noise.compare(spec, tables=[found["tables"][-1]])
    assert len(again["correct"]) == 3
    for name, counts in again["correct"].items():
        assert counts[0] == found["correct"][name][-1], name


def test_a_slice_of_the_choices() -> None:
    found = stored("lamda_sigma_judged")
    spec = judge.specification(found["specification"]["tables"], lamdas=[0.2], sigmas=[0.1])
    again = judge.judge(spec, tables=[found["tables"][-1]])
    for name, counts in again["correct"].items():
        assert counts[0] == found["correct"][name][-1], name
    for when, names in again["leak"].items():
        for name, both in names.items():
            for rows, counts in both.items():
                assert counts[0] == found["leak"][when][name][rows][-1], (when, name, rows)
