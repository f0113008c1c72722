"""The experiments of chapter 8 beside the map: rounds that compound, kinds of noise, the procedure judged."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wsp.lab import choose, employees
from wsp.lab.employees import Table
from wsp.lab.many.lanes import draw_lanes, draw_tables, fresh_tables, seeds_of
from wsp.lab.network import MLP
from wsp.lab.retraining import random_network, stream
from wsp.lab.training import LEARNING_RATE, train_epoch
from wsp.perturb import shrink_perturb_
from wsp.studies import compound, judge, noise
from wsp.studies.engine import run

ROUNDS = {"rounds": 4, "epochs": 2, "early": 1, "test_rows": 20}


def same(first: nn.Module, second: nn.Module) -> bool:
    state = first.state_dict()
    return all(torch.equal(state[name], value) for name, value in second.state_dict().items())


def sgd(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    while True:
        train_epoch(network, rows, optimizer, order)
        yield


# ---------------------------------------------------------------- rounds that compound


def test_what_twins_share() -> None:
    """Where nothing is kept the first network leaves no trace in the weights; noise leaves its own."""
    pairs = [[0.0, 0.1], [1.0, 0.0], [1.0, 0.1]]
    spec = compound.STUDY.specification(**ROUNDS | {"rounds": 2, "epochs": 1})
    found = run(compound.STUDY, spec | {"pairs": pairs, "twins": pairs}, units=[1000, 1001])

    def apart(twin: str, when: str) -> list[float]:
        return compound.mean_apart(found, twin, when).tolist()

    assert apart("0, 0.1, other first", "start")[0] > 0.1
    assert apart("0, 0.1, other first", "start")[1] == 0
    assert apart("1, 0, other noise", "start") == apart("1, 0, other noise", "end") == [0, 0]
    for pair in ("0, 0.1", "1, 0.1"):
        start = apart(f"{pair}, other noise", "start")
        assert start[0] == 0 and start[1] == pytest.approx(2 * 0.1**2, rel=0.25)
    assert apart("1, 0, other first", "start")[1] == apart("1, 0, other first", "end")[0]
    assert apart("cold, other first", "start")[1] > 0.1
    assert 1 < apart("cold, other first", "disagree")[1] <= 100


def test_a_round_is_that_of_one_network() -> None:
    """Rows arrive, the noise and the orders go on: the lanes of one table, step by step."""
    spec = compound.STUDY.specification(**ROUNDS) | {"pairs": [[0.5, 0.1]], "twins": []}
    found = run(compound.STUDY, spec, tables=1)
    (table,), (test,) = draw_tables([1000], 20, employees.LABEL_NOISE)
    for place, seed in enumerate(seeds_of(1000, 2)):
        network, order, right = random_network(seed, "first weights"), stream(seed, "order"), []
        generator = stream(seed, "noise")
        for number in range(1, 5):
            if number > 1:
                shrink_perturb_(network, 0.5, 0.1, generator=generator)
            optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
            rows = Table(*(column[: 50 * number] for column in table))
            for _ in range(2):
                train_epoch(network, rows, optimizer, order)
            right.append(int((network(test.inputs).argmax(dim=1) == test.labels).sum()))
        assert found["correct"]["0.5, 0.1"]["end"][0][place] == right
    by_hand = np.mean(found["correct"]["0.5, 0.1"]["end"], axis=(0, 1)) * 5
    np.testing.assert_allclose(compound.percent(found, "0.5, 0.1")[:, 0], by_hand)


def test_what_is_read_of_rounds() -> None:
    """Means over seeds; warm and every pair against cold, from the round on where they differ."""
    by_seed = [
        [[1, 2, 0], [3, 4, 0]],
        [[5, 6, 0], [7, 8, 0]],
        [[9, 9, 0], [9, 9, 0]],
    ]  # tables, seeds, rounds
    ahead = [[[one, two + 1, three + 2] for one, two, three in table] for table in by_seed]
    found = {
        "specification": {"seeds": 2, "test_rows": 10},
        "tables": [7, 8, 9],
        "correct": {"cold": {"end": by_seed}, "1, 0": {"end": ahead}},
        "apart": {"cold": {"start": by_seed, "disagree": by_seed}},
    }
    np.testing.assert_allclose(compound.percent(found, "cold"), [[20, 60, 90], [30, 70, 90], [0, 0, 0]])
    np.testing.assert_allclose(compound.mean_apart(found, "cold", "start"), [34 / 6, 38 / 6, 0])
    np.testing.assert_allclose(compound.mean_apart(found, "cold", "disagree"), [340 / 6, 380 / 6, 0])
    assert {key: found.estimate for key, found in compound.last_round(found).items()} == {"1, 0": 20}
    assert {number: found.estimate for number, found in compound.warm_by_round(found).items()} == {2: 10}


# ---------------------------------------------------------------- the procedure on many tables


def test_the_judge_runs_the_procedure_and_what_it_would_give() -> None:
    """Lane by lane it chooses as choose() does with that lane's seed; worth is what one network gives."""
    options: dict[str, Any] = {"lamdas": [0.5], "sigmas": [0.1], "first_epochs": 20, "epochs": 15, "early": 5}
    spec = judge.STUDY.specification(**options, test_rows=50)
    found = run(judge.STUDY, spec, tables=2)
    drawn = draw_lanes(fresh_tables(2), 2, 50, employees.LABEL_NOISE, own=True)
    olds = judge.old_networks(drawn, spec, lambda samples: None)
    for lane, ((place, seed), old) in enumerate(zip(drawn.pairs, olds)):
        table = drawn.tables[place]
        parts = (Table(*(column[part] for column in table)) for part in (slice(100), slice(100, 200)))
        alone = choose.choose(old, MLP, sgd, *parts, lamdas=[0.5], sigmas=[0.1], epochs=15, seed=seed)
        names = [judge.name_of(choose.Candidate(*row)) for row in alone[["start", "lamda", "sigma"]].values]
        counts = {name: sum(found["correct"][name][place][lane % 2]) for name in found["correct"]}
        assert counts == dict(zip(names, alone["accuracy"].round().astype(int)))
        assert judge.chosen(found, folds=5)[lane] == names[0]

    network, training = copy.deepcopy(olds[3]), stream(drawn.seeds[3], "order")
    for _ in zip(range(15), sgd(network, drawn.tables[1], training)):
        pass
    inputs, labels = (column[3] for column in drawn.test)
    assert found["test"]["1, 0"][1][1] == int((network(inputs).argmax(dim=1) == labels).sum())


def test_old_rows_held_out_were_seen_by_the_old_network() -> None:
    """After one epoch of retraining the old network is right on what it has memorized."""
    spec = judge.STUDY.specification(lamdas=[0.5], sigmas=[0.1], epochs=3, early=1, test_rows=10)
    found = run(judge.STUDY, spec, tables=3)
    warm = {rows: np.sum(counts) for rows, counts in found["leak"]["early"]["1, 0"].items()}
    assert warm["old"] > warm["new"] + 40
    assert set(found["leak"]["end"]) == {"cold", "1, 0", "0.5, 0.01"}


@pytest.fixture
def judged() -> dict[str, Any]:
    """Three tables with two seeds; the procedure chooses warm by the first fold, and cold by five."""
    test = {name: [[level, level], [level, level + 10], [level, level]] for name, level in
            zip(("cold", "1, 0", "0.2, 0.01", "0.5, 0.01"), (60, 50, 70, 40))}  # fmt: skip
    folds = {
        "cold": [9, 20, 20, 20, 20],
        "1, 0": [10, 9, 0, 0, 0],
        "0.2, 0.01": [0] * 5,
        "0.5, 0.01": [0] * 5,
    }
    rows = {"old": [[30, 40]] * 3, "new": [[20, 30]] * 3}
    leak = {"cold": rows, "0.5, 0.01": {"old": [[40, 50], [41, 51], [42, 52]], "new": rows["new"]}}
    return {
        "specification": {"seeds": 2, "test_rows": 100},
        "tables": [7, 8, 9],
        "test": test,
        "correct": {name: [[of, of]] * 3 for name, of in folds.items()},
        "leak": {"early": leak},
    }


def test_worth_looks_up_the_right_table_and_seed(judged: dict[str, Any]) -> None:
    assert judge.worth(judged, ["1, 0", "cold", "0.2, 0.01"]).tolist() == [50, 65, 70]
    assert judge.worth(judged, ["1, 0"]).tolist() == [50, 55, 50]
    by_run = ["cold", "1, 0", "1, 0", "cold", "cold", "cold"]
    assert judge.worth(judged, by_run).tolist() == [55, 60, 60]


def test_choosing_and_habits_are_told_against_always_cold(judged: dict[str, Any]) -> None:
    means = {what: found.estimate for what, found in judge.against_cold(judged).items()}
    assert list(means) == [
        "choose, 20 rows held out", "choose, 40 rows held out", "choose, 100 rows held out",
        "always 0.2, 0.01", "always 0.5, 0.01", "always warm",
    ]  # fmt: skip
    assert list(means.values()) == pytest.approx([-10, 0, 0, 10, -20, -10])


def test_old_rows_flatter_by_the_difference_of_two_leads(judged: dict[str, Any]) -> None:
    assert judge.lead(judged, "early", "old").tolist() == [10, 11, 12]
    assert judge.lead(judged, "early", "new").tolist() == [0, 0, 0]
    assert judge.flattered(judged, "early").estimate == pytest.approx(11)


# ---------------------------------------------------------------- kinds of noise


@pytest.fixture
def old() -> MLP:
    return random_network(0, "first weights")


def test_kinds_of_start(old: MLP) -> None:
    for linear in old.linears:
        nn.init.ones_(linear.bias)
    fresh = random_network(3, "fresh weights")

    def start(*kind: Any) -> MLP:
        return noise.Kind(*kind).start(old, 3)

    def equal(first: nn.Module, second: nn.Module) -> bool:
        return same(first, second)

    assert equal(start(0.0, "fresh", 1.0, True), fresh), "this is a cold start"
    official = copy.deepcopy(old)
    shrink_perturb_(official, 0.4, 0.1, noise=fresh, include=lambda name, parameter: True)
    assert equal(start(0.4, "fresh", 0.1, True), official)
    assert equal(start(0.4, "none"), shrink_perturb_(copy.deepcopy(old), 0.4, 0.0))
    assert torch.equal(start(0.4, "none", 0.0, True)[0].bias, torch.full((10,), 0.4, dtype=torch.float64))
    scales = torch.tensor(noise.xavier_scale(old))
    for kind, expected in (("normal", scales.mean().expand(3)), ("scaled", scales)):
        pairs = zip(start(0.4, kind, 1.0).linears, old.linears)
        drawn = torch.stack([(new.weight - 0.4 * before.weight).detach().std() for new, before in pairs])
        assert drawn.tolist() == pytest.approx(expected.tolist(), rel=0.3), kind
        again = zip(start(0.4, kind, 0.1).linears, old.linears)
        tenth = torch.stack([(new.weight - 0.4 * before.weight).detach().std() for new, before in again])
        assert torch.allclose(tenth, drawn / 10)
