"""Chapter 7's long runs in small: what is found about some units, and that it does not depend on others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from wsp.lab.inside import STEPS
from wsp.lab.restarts import CASES, RESTARTS
from wsp.studies.engine import run
from wsp.studies.inside import LAMDAS, STUDY, look_inside, shrink_convnets

CHANGES: dict[str, Any] = {
    "first_epochs": 3,
    "epochs": 2,
    "test_rows": 50,
    "read_at": (0, 2),
    "trace_at": (0, 1),
}
SHORT = {key: dataclasses.replace(case, **CHANGES) for key, case in CASES.items()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices wait longer for a second thread than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_looking_inside_gives_a_row_a_unit_whoever_else_is_there() -> None:
    restarts = {key: RESTARTS[key] for key in ("cold", "warm", "softer_faster", "shrunk_0.5")}
    both = look_inside(SHORT["digits"], [4, 5], restarts)
    alone = look_inside(SHORT["digits"], [5], restarts)
    assert both["units"] == [4, 5]
    for kind in ("retraining", "suspects"):
        for restart in restarts:
            for name, rows in both[kind][restart].items():
                assert rows[1] == pytest.approx(alone[kind][restart][name][0], rel=1e-3)
    assert len(both["function"]["accuracy"][0]) == len(LAMDAS)
    assert both["function"]["agreement"][0][0] == 100.0
    # The identity of the chapter, through the whole machinery.
    for name in ("accuracy", "loss", "step"):
        assert both["retraining"]["softer_faster"][name] == both["retraining"]["shrunk_0.5"][name]
    path = both["paths"]["warm end - cold end"]["train"]
    assert len(path["sum"]) == STEPS and len(path["barrier"]) == 2


def test_seeds_are_averaged_within_a_unit() -> None:
    case = dataclasses.replace(SHORT["employees"], seeds=2)
    restarts = {"warm": RESTARTS["warm"]}
    found = look_inside(case, [0, 1], restarts)
    assert len(found["retraining"]["warm"]["accuracy"]) == 2
    assert found["paths"].keys() == {"warm start - warm end"}


def test_convnets_answer_as_before_where_their_statistics_are_estimated() -> None:
    found = shrink_convnets(CASES["digits"], [0])
    half = LAMDAS.index(0.5)
    assert found["estimated"]["agreement"][0][half] > 98
    assert found["stale"]["agreement"][0][half] < found["estimated"]["agreement"][0][half] - 5
    assert found["estimated"]["confidence"][0][half] < found["estimated"]["confidence"][0][0]


def test_a_restart_of_biases_is_left_out_where_there_are_none() -> None:
    restarts = {key: RESTARTS[key] for key in ("shrunk_0.5", "shrunk_all")}
    employees = look_inside(SHORT["employees"], [0], restarts)
    assert employees["retraining"].keys() == restarts.keys() and "function_all" in employees
    assert look_inside(SHORT["digits"], [0], restarts)["retraining"].keys() == {"shrunk_0.5"}


def short_run(units: list[int], *more: str) -> dict[str, Any]:
    spec = STUDY.specification(case="digits")
    return run(STUDY, spec | {"case": spec["case"] | CHANGES, "restarts": ["warm", *more]}, units=units)


def test_the_engine_is_given_the_case_and_its_restarts() -> None:
    found = short_run([1, 0], "cold")["found"]
    assert found["units"] == [1, 0]
    assert found["retraining"].keys() == {"warm", "cold"}
    assert np.array(found["retraining"]["warm"]["accuracy"]).shape == (2, 2)
    restarts = {key: RESTARTS[key] for key in ("warm", "cold")}
    assert found == look_inside(SHORT["digits"], [1, 0], restarts)


def test_parts_are_joined_as_they_come_and_sums_added() -> None:
    first, second = short_run([1]), short_run([0])
    found = STUDY.merge([first, second])["found"]
    assert found["units"] == STUDY.done({"found": found}) == [1, 0]
    for which in ("train", "test"):
        path, *parts = (
            part["paths"]["warm start - warm end"][which] for part in (found, first["found"], second["found"])
        )
        assert path["sum"] == [a + b for a, b in zip(*(part["sum"] for part in parts))]
        assert path["barrier"] == [*parts[0]["barrier"], *parts[1]["barrier"]]
    rows = STUDY.rows({"found": found}, [0])
    assert rows["suspects"] == second["found"]["suspects"] and "paths" not in rows


def test_what_a_damaged_file_lacks_is_named() -> None:
    content = short_run([1, 0])
    assert STUDY.missing(content) == []
    content["found"]["suspects"]["warm"]["norm"].pop()
    content["found"]["paths"]["warm start - warm end"]["test"]["sum"].pop()
    lacks = ["suspects warm norm: 1 of 2 entries", "warm start - warm end test sum: 20 of 21 entries"]
    assert STUDY.missing(content) == lacks


def test_convnets_are_compared_more_loosely_where_another_processor_trained_them() -> None:
    kept = {kind: {"accuracy": [[90.0]], "confidence": [[0.9]]} for kind in ("stale", "estimated")}
    again = {**kept, "stale": {"accuracy": [[92.0]], "confidence": [[0.94]]}}
    assert list(STUDY.differences(kept, again, at_home=False)) == ["stale confidence: 0.04 apart"]
    assert len(list(STUDY.differences(kept, again, at_home=True))) == 2


def test_what_people_read_says_how_every_restart_ends() -> None:
    content = short_run([0])
    end = content["found"]["retraining"]["warm"]["accuracy"][0][-1]
    assert f"warm {end:.2f} % at the last epoch" in " ".join(STUDY.as_text(content).split())
