"""Every stored result: what it says it is, whole, with the command that makes it; and a slice runs again."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pytest

from helpers import ROOT
from wsp.lab.employees import find
from wsp.lab.many.lanes import fresh_tables
from wsp.lab.results import load_json, stored
from wsp.lab.rounds import ARMS
from wsp.studies import grid, landscape, remedies
from wsp.studies.catalog import RESULTS, STUDIES, noted
from wsp.studies.engine import check, load
from wsp.studies.field import contest
from wsp.studies.rounds import table_of, whole_seeds

OTHERS = {"article", "portability", "benchmark_sweep", "benchmark_shrink_perturb"}
SLOW = 5.0  # minutes: a slice that takes longer is left to `python -m wsp.studies check`


@pytest.fixture(params=[name for name, result in RESULTS.items() if result.path.is_file()])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_file_is_declared_and_every_declared_file_is_there() -> None:
    there = {path.stem for path in find("results").glob("*.json")}
    assert there == set(RESULTS) | OTHERS


def test_it_is_what_its_declaration_says_and_whole(name: str) -> None:
    """The same settings, all the units, nothing missing: its command would find nothing to do."""
    result = RESULTS[name]
    spec = json.loads(json.dumps(result.specification))  # as it comes back from a file
    content = load(result.study, result.path, spec)
    inner = {key: value for key, value in content.items() if key not in ("specification", "provenance")}
    wanted = result.study.units(spec, inner, **result.given(result.study.units))
    assert set(wanted) == set(result.study.done(content))
    assert len(set(wanted)) == len(wanted)


def test_it_says_where_it_comes_from(name: str) -> None:
    made = RESULTS[name].load()["provenance"]
    assert made["command"] == RESULTS[name].command
    assert {"code", "torch", "numpy", "python", "device", "processor", "threads"} <= set(made)
    assert made["seconds"] > 0 and datetime.date.fromisoformat(made["date"]) <= datetime.date.today()
    assert all(module.startswith("wsp.") for module in made["modules"])


def test_a_slice_comes_out_again(name: str) -> None:
    result = RESULTS[name]
    content = result.load()
    if reason := result.study.needs(content):
        pytest.skip(reason)
    if result.study.minutes > SLOW:
        pytest.skip(f"takes about {result.study.minutes:g} minutes: python -m wsp.studies check {name}")
    assert check(result.study, content) == []


def test_what_was_verified_is_stored() -> None:
    assert set(noted()) <= set(RESULTS)
    for seen in noted().values():
        assert len(seen["code"]) == 12 and datetime.date.fromisoformat(seen["date"]) and seen["processor"]


# ---------------------------------------------------------------- what single chapters promise


def test_the_fresh_tables_took_no_part_in_the_selection() -> None:
    searched = {record["table"] for record in stored("table_search")["log"]}
    assert not searched & set(fresh_tables(500))


IMAGES = [name for name, result in RESULTS.items() if result.study.key == "runs"]


@pytest.mark.parametrize("name", IMAGES)
def test_runs_are_paired(name: str) -> None:
    """A first round for all who train alike; what reached the threshold says so."""
    content = RESULTS[name].load()
    spec, firsts = content["specification"], dict[tuple[Any, ...], set[tuple[int, int]]]()
    for run in content["runs"]:
        assert all(0 <= correct <= spec["test"] for correct in run["correct"])
        assert all(0 < epochs <= spec["max_epochs"] for epochs in run["epochs"])
        if not isinstance(RESULTS[name].study, contest.Contest):  # methods count epochs in their own way
            for accuracy, reached in zip(run["train_accuracy"], run["reached"]):
                assert reached == (accuracy >= 100 * spec["stop_at"] - 0.005)
            alike = run["seed"], ARMS[run["arm"]].train
            firsts.setdefault(alike, set()).add((run["epochs"][0], run["correct"][0]))
    assert all(len(first) == 1 for first in firsts.values())


@pytest.mark.parametrize("name", ["digits_mlp", "digits_convnet"])
def test_costs_follow_from_epochs(name: str) -> None:
    content = RESULTS[name].load()
    spec, seen = content["specification"], table_of(content, "samples")
    assert len(whole_seeds(content)) >= 20, "what chapter 10 promises"
    for run in content["runs"]:
        rows = [min(spec["size"] * k, spec["images"]) for k in range(1, len(run["epochs"]) + 1)]
        steps = [epochs * -(-n // spec["batch_size"]) for epochs, n in zip(run["epochs"], rows)]
        assert run["steps"] == steps
        if run["seed"] == 0:
            assert seen[run["arm"]][0].tolist() == [epochs * n for epochs, n in zip(run["epochs"], rows)]


def test_the_map_agrees_with_the_kinds_of_noise() -> None:
    """Cold, and lamda 0.4 without noise, were trained for both on the same tables with the same seeds."""
    found, kinds = stored("lamda_sigma"), stored("kinds_of_noise")
    assert found["tables"] == kinds["tables"]
    for name, kind in {"cold": "cold", "0.4, 0": "0.4, none"}.items():
        assert found["correct"][name] == kinds["correct"][kind]


def test_the_map_agrees_with_the_remedies() -> None:
    """The plain starts and the trick, on the same tables with the same seeds: count for count."""
    found = stored("lamda_sigma")
    plain, trick = (RESULTS[remedies.file_name(key, 0.05)].load() for key in ("none", "shrink_perturb"))
    assert found["tables"] == plain["tables"] == trick["tables"]
    for pair, content, plan in (
        ("cold", plain, "cold"),
        ("1, 0", plain, "warm"),
        ("0.1, 0.01", trick, "warm 0.1"),
        ("0.5, 0.01", trick, "warm 0.5"),
    ):
        last = [[counts[-1] for counts in of_table] for of_table in content["correct"][plan]]
        assert found["correct"][pair] == last, pair


def test_curves_of_the_map_end_where_the_counts_are() -> None:
    found = stored("lamda_sigma")
    cold = np.sum(found["correct"]["cold"], axis=1)
    for name, curve in found["curves"].items():
        counts = np.sum(found["correct"][name], axis=1)
        for half, tables in zip(grid.HALVES, landscape.halves(found)):
            assert curve[half]["sum"][-1] == counts[tables].sum()
            assert curve[half]["squares_minus_cold"][-1] == ((counts - cold)[tables] ** 2).sum()


def test_article_and_benchmarks_name_their_machine() -> None:
    for name in sorted(OTHERS):
        assert {"command", "code", "torch", "processor", "date"} <= set(
            load_json(find(f"results/{name}.json"))["provenance"]
        )


def test_every_study_is_listed_for_those_who_run_them() -> None:
    rows = [f"| `{study.name}` | {study.chapter} | {study.words} |" for study in STUDIES.values()]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert "\n".join(rows) in text
