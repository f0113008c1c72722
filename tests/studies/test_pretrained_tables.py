"""Pretraining on another employee table: what comes first, and that lanes are ordinary trainings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsp import shrink_perturb_
from wsp.lab import employees
from wsp.lab.employees import Table
from wsp.lab.retraining import random_network, stream
from wsp.lab.training import train
from wsp.studies import pretrained_tables
from wsp.studies.engine import check, run
from wsp.studies.parts import Content
from wsp.studies.pretrained_tables import (
    PAIRS,
    SOURCES,
    STUDY,
    accuracy,
    before,
    by_size,
    compared,
    draw_tables,
)

TABLES = [5000, 5001]  # of no part in the stored runs
QUICK: dict[str, Any] = {"seeds": 2, "test_rows": 80, "epochs": 3}


@pytest.fixture(scope="module")
def found() -> Content:
    return run(STUDY, STUDY.specification(**QUICK), units=TABLES)


def test_another_company_has_its_branches_elsewhere_and_all_else_alike() -> None:
    people = employees.encode(employees.draw(2000, pretrained_tables.ANOTHER + 5000, 0.05))
    moved = before("branches", 5000, 0.05)
    assert torch.equal(moved.labels, people.labels[:1000])
    assert torch.equal(moved.inputs[:, [0, 1, 5]], people.inputs[:1000, [0, 1, 5]])
    assert torch.equal(moved.inputs[:, [4, 2, 3]], people.inputs[:1000, [2, 3, 4]])


def test_who_comes_first_is_not_in_the_target() -> None:
    pool, test = draw_tables([5000], 400, 2000, 0.05)
    for source in SOURCES:
        first = before(source, 5000, 0.05)
        assert len(first.labels) == pretrained_tables.OLD_ROWS
        assert not torch.equal(first.inputs[:400], pool[0].inputs)
    assert set(pool[0].labels.tolist()) == {0, 1, 2} and len(test[0].labels) == 2000


@pytest.mark.parametrize("arm", ["cold", "warm", "shrink_perturb", "official"])
def test_a_lane_is_an_ordinary_training(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One table and seed by PyTorch's own optimizer, old network and all."""
    monkeypatch.setattr(pretrained_tables, "OLD_EPOCHS", 2)
    [number], rows = TABLES[:1], 20
    spec = STUDY.specification(**QUICK | {"seeds": 1, "sizes": [rows]})
    mine = run(STUDY, spec, units=[number])
    first, seed = before("jobs", number, 0.05), number
    (pool,), (test,) = draw_tables([number], 400, 80, 0.05)

    def trained(network: torch.nn.Sequential, table: Table, order: str, epochs: int) -> torch.nn.Sequential:
        train(network, table, stream(seed, order), epochs=epochs)
        return network

    old = trained(random_network(seed, "first weights"), first, "first order", 2)
    fresh = random_network(seed, "fresh weights")
    begun = {"cold": fresh, "warm": copy.deepcopy(old)}.get(arm)
    if arm == "shrink_perturb":
        begun = shrink_perturb_(copy.deepcopy(old), generator=stream(seed, "noise"))
    elif arm == "official":
        begun = shrink_perturb_(copy.deepcopy(old), 0.4, 0.1, noise=fresh, include=lambda name, p: True)
    assert begun is not None
    end = trained(begun, Table(pool.inputs[:rows], pool.labels[:rows]), "order", 3)
    right = int((end(test.inputs).argmax(dim=1) == test.labels).sum())
    assert mine["correct"][str(rows)][arm] == [[right]]


def test_sources_share_all_that_comes_after(found: Content) -> None:
    other = run(STUDY, STUDY.specification(**QUICK | {"source": "branches", "sizes": [20]}), units=TABLES)
    for arm in ("cold", "fresh_shrunk"):
        assert found["correct"]["20"][arm] == other["correct"]["20"][arm]
    assert found["old"] != other["old"]


def test_families(found: Content) -> None:
    assert len(compared(found)) == 2 * len(PAIRS) and len(by_size(found)) == 5 * 5
    few = np.mean([accuracy(found, "warm", 20), accuracy(found, "warm", 50)], axis=0)
    cold = np.mean([accuracy(found, "cold", 20), accuracy(found, "cold", 50)], axis=0)
    assert compared(found)["few", ("warm", "cold")].estimate == pytest.approx((few - cold).mean())
    assert "fresh_shrunk" in STUDY.as_text(found)


def test_it_resumes_and_a_slice_comes_out(tmp_path: Path, found: Content) -> None:
    out, spec = tmp_path / "tables.json", found["specification"]
    run(STUDY, spec, out, units=TABLES[:1])
    assert run(STUDY, spec, out, units=TABLES)["correct"] == found["correct"]
    assert check(STUDY, found) == []
    changed = copy.deepcopy(found)
    changed["correct"]["20"]["official"][1][0] += 1
    assert len(check(STUDY, changed)) == 1


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"source": "letters"}, "choose from jobs, branches"),
        ({"sizes": []}, "sizes must be a positive integer"),
        ({"sizes": [500]}, "sizes go up to 400, not 500"),
    ],
)
def test_specifications_are_checked(settings: Content, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        STUDY.specification(**settings)
