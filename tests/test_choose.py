"""Choosing lamda and sigma: the procedure, and the experiments of chapter 8 in small."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from wsp import choose, compound, employees, grid, judge, landscape, noise
from wsp.__main__ import main
from wsp.choose import candidates
from wsp.employees import Table
from wsp.network import MLP
from wsp.perturb import shrink_perturb_
from wsp.results import load_json
from wsp.retraining import ARMS, random_network, start_network, stream
from wsp.statistics import mean_interval, wilson
from wsp.sweep import draw_tables, fresh_tables
from wsp.training import LEARNING_RATE, train_epoch

QUICK: dict[str, Any] = {"lamdas": [0.5], "sigmas": [0.1], "epochs": 2, "folds": 4}


def sgd(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    while True:
        train_epoch(network, rows, optimizer, order)
        yield


def halves() -> tuple[Table, Table]:
    table = employees.load_train()
    return Table(*(column[:100] for column in table)), Table(*(column[100:] for column in table))


@pytest.fixture
def old() -> MLP:
    return random_network(0, "first weights")


# ---------------------------------------------------------------- the procedure


def test_the_same_every_time_and_nothing_else_changes(old: MLP) -> None:
    before, state = copy.deepcopy(old.state_dict()), torch.get_rng_state()
    first = choose.choose(old, MLP, sgd, *halves(), **QUICK)
    torch.manual_seed(123)
    again = choose.choose(old, MLP, sgd, *halves(), **QUICK)
    pd.testing.assert_frame_equal(first, again)
    other = choose.choose(old, MLP, sgd, *halves(), seed=1, **QUICK)
    assert not first["accuracy"].equals(other["accuracy"])
    assert all(torch.equal(value, before[name]) for name, value in old.state_dict().items())
    torch.set_rng_state(state)
    choose.choose(old, MLP, sgd, *halves(), **QUICK)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is put back"


def test_what_is_held_out_is_not_trained_on_and_candidates_are_paired(old: MLP) -> None:
    old_rows, new_rows = halves()
    seen: list[tuple[Table, int, dict[str, torch.Tensor]]] = []

    def spy(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        seen.append((rows, order.initial_seed(), copy.deepcopy(network.state_dict())))
        yield

    choose.choose(old, MLP, spy, old_rows, new_rows, **QUICK | {"epochs": 1})
    by_fold = [seen[k : k + 3] for k in range(0, len(seen), 3)]  # cold, warm, the pair
    assert len(by_fold) == 4
    held = []
    for number, (cold, warm, pair) in enumerate(by_fold):
        rows, order, start = cold
        assert torch.equal(rows.inputs[:100], old_rows.inputs) and len(rows.labels) == 175
        left = {tuple(row) for row in rows.inputs[100:].tolist()}
        held.append([k for k, row in enumerate(new_rows.inputs.tolist()) if tuple(row) not in left])
        for others in (warm, pair):
            assert torch.equal(others[0].inputs, rows.inputs) and others[1] == order
        assert same(start, random_network(number, "fresh weights"))
        assert same(warm[2], old)
        shrunk = shrink_perturb_(copy.deepcopy(old), 0.5, 0.1, generator=stream(number, "noise"))
        assert same(pair[2], shrunk)
    assert sorted(chain(*held)) == list(range(100)), "each new row is held out exactly once"


def same(state: dict[str, torch.Tensor], network: nn.Module) -> bool:
    return all(torch.equal(state[name], value) for name, value in network.state_dict().items())


class Answer(nn.Module):
    """Says one class, whatever is asked."""

    def __init__(self, says: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))
        self.says = says

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(torch.full((len(inputs),), self.says), 3).double()


def test_figures_and_order() -> None:
    """Networks that always say the same class: all figures by hand."""
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    rows = Table(torch.zeros(10, 1), labels)

    def later(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        """Cold says 1. The others say 2, and from the third epoch on 0."""
        for epoch in range(1, 6):
            if network.says != 1:
                network.says = 0 if epoch >= 3 else 2
            yield

    found = choose.choose(Answer(2), lambda: Answer(1), later, rows, rows, epochs=5,
                          read_at=[1, 2, 3, 4], lamdas=[0.5], sigmas=[0.0], folds=5)  # fmt: skip
    assert list(found["start"]) == ["warm", "shrink_perturb", "cold"], "the better first, then as listed"
    assert list(found["accuracy"]) == [50, 50, 30]
    assert list(found["epochs"]) == [3, 3, 1]
    interval = wilson(5, 10)
    assert (found["low"][0], found["high"][0]) == (interval.low, interval.high)
    paired = mean_interval([100.0] * 5 + [-100.0] * 3 + [0.0] * 2)
    assert found["minus_cold"][0] == paired.estimate
    assert (found["minus_cold_low"][0], found["minus_cold_high"][0]) == (paired.low, paired.high)
    assert found["minus_cold"][2] == found["minus_cold_low"][2] == 0

    def never(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        yield from [None] * 5

    found = choose.choose(Answer(2), lambda: Answer(1), never, rows, rows, epochs=5,
                          lamdas=[0.5], sigmas=[0.0], folds=5)  # fmt: skip
    assert list(found["start"]) == ["cold", "warm", "shrink_perturb"]
    assert found["epochs"].isna().tolist() == [False, True, True]


def test_of_equals_the_sooner_is_first() -> None:
    rows = Table(torch.zeros(4, 1), torch.tensor([0, 0, 1, 1]))

    def slow_if_warm(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        kept = float(network.weight.detach())
        for epoch in range(1, 4):
            if network.says != 1:
                network.says = 0 if epoch == 3 or kept < 1 else 2
            yield

    old = Answer(2)
    nn.init.ones_(old.weight)
    found = choose.choose(old, lambda: Answer(1), slow_if_warm, rows, rows, epochs=3, read_at=[1, 2],
                          lamdas=[0.5], sigmas=[0.0], folds=2)  # fmt: skip
    assert list(found["accuracy"]) == [50, 50, 50]
    assert list(zip(found["start"], found["epochs"])) == [("cold", 1), ("shrink_perturb", 1), ("warm", 3)]


def test_noise_in_the_scale_of_the_network(old: MLP) -> None:
    starts = []

    def spy(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        starts.append(copy.deepcopy(network.state_dict()))
        yield

    choose.choose(old, MLP, spy, *halves(), noise=MLP, **QUICK | {"epochs": 1})
    expected = shrink_perturb_(copy.deepcopy(old), 0.5, 0.1, noise=random_network(0, "fresh weights"))
    assert same(starts[2], expected)


def test_a_network_with_dropout_and_batch_norm() -> None:
    """Seeded as well, measured in evaluation mode, trained in training mode."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).double()

    modes: list[bool] = []

    def train(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        network.train()
        for _ in sgd(network, rows, order):
            modes.append(network.training)
            yield

    torch.manual_seed(0)
    network = build()
    first = choose.choose(network, build, train, *halves(), **QUICK)
    torch.manual_seed(1)
    pd.testing.assert_frame_equal(first, choose.choose(network, build, train, *halves(), **QUICK))
    assert all(modes)


def stops(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
    yield


def no_generator(network: nn.Module, rows: Table, order: torch.Generator) -> Any:
    return None


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"folds": 1}, ValueError, "folds must be from 2 to the number of new rows, 100, not 1"),
        ({"folds": 101}, ValueError, "not 101"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({"read_at": [3]}, ValueError, "read_at from 1 to epochs"),
        ({"lamdas": [1.5]}, ValueError, "lamdas must be from 0 to 1"),
        ({"sigmas": [-0.1]}, ValueError, "sigmas not negative"),
        ({"sigmas": [float("nan")]}, ValueError, "sigmas not negative"),
        ({"train": stops}, ValueError, "train stopped after 1 epochs, but 2 were asked for"),
        ({"train": no_generator}, TypeError, "write `yield` at the end of every epoch"),
        ({"build": lambda: "network"}, TypeError, "build must make a torch.nn.Module, not a str"),
        ({"old_rows": Table(torch.zeros(3, 6), torch.zeros(2))}, ValueError, "has 3 inputs but 2 labels"),
    ],
)  # fmt: skip
def test_bad_requests(change: dict[str, Any], error: type[Exception], words: str, old: MLP) -> None:
    old_rows, new_rows = halves()
    request = {"build": MLP, "train": sgd, "old_rows": old_rows, "new_rows": new_rows} | QUICK | change
    with pytest.raises(error, match=words):
        choose.choose(old, **request)


# ---------------------------------------------------------------- the procedure on many tables


def test_the_judge_runs_the_procedure() -> None:
    """Lane by lane it chooses as choose() does."""
    numbers = list(fresh_tables(2))
    spec = judge.specification(2, lamdas=[0.5], sigmas=[0.1], epochs=15, early=5)
    found = judge.judge(spec)
    for place, number in enumerate(numbers):
        (table,), _ = draw_tables([number], 1, employees.LABEL_NOISE)
        network = judge.old_networks([table], lambda samples: None)[0]
        parts = (Table(*(column[part] for column in table)) for part in (slice(100), slice(100, 200)))
        alone = choose.choose(network, MLP, sgd, *parts, lamdas=[0.5], sigmas=[0.1], epochs=15)
        names = [judge.name_of(choose.Candidate(*row)) for row in alone[["start", "lamda", "sigma"]].values]
        assert {name: sum(found["correct"][name][place]) for name in found["correct"]} == dict(
            zip(names, alone["accuracy"].round().astype(int))
        )
        assert judge.chosen(found, folds=5)[place] == names[0]


def test_old_rows_held_out_were_seen_by_the_old_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one epoch of retraining the old network is right on what it has memorized."""
    spec = judge.specification(3, lamdas=[0.5], sigmas=[0.1], epochs=3, early=1)
    whole = judge.judge(spec)
    monkeypatch.setattr(judge, "CHUNK", 1)
    judge.judge(spec, tmp_path / "judged.json", tables=[fresh_tables(3)[2]])
    found = judge.judge(spec, tmp_path / "judged.json")
    assert all(found[part] == whole[part] for part in ("tables", "correct", "leak"))
    warm = {rows: sum(counts) for rows, counts in found["leak"]["early"]["1, 0"].items()}
    assert warm["old"] > warm["new"] + 20
    assert set(found["leak"]["end"]) == {"cold", "1, 0", "0.5, 0.01"}


def test_worth_looks_up_the_right_table() -> None:
    stored = {"specification": {"seeds": 2, "test_rows": 100}, "tables": [7, 8],
              "correct": {"cold": [100, 120], "1, 0": [50, 60]}}  # fmt: skip
    assert judge.worth(stored, [8, 7], ["1, 0", "cold"]).tolist() == [30, 50]


# ---------------------------------------------------------------- the map

SMALL = {"lamdas": [0.0, 0.5, 1.0], "sigmas": [0.0, 0.01], "test_rows": 50}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of four epochs, old networks of ten."""
    monkeypatch.setattr(grid, "READ_AT", (1, 2, 4))
    monkeypatch.setattr(grid, "HALF", 4)
    monkeypatch.setitem(ARMS, "initial", type(ARMS["initial"])("initial", "first", epochs=10))


@pytest.mark.usefixtures("short")
def test_chunks_and_stops_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = grid.specification(4, 2, **SMALL)
    whole = grid.grid(spec)
    monkeypatch.setattr(grid, "CHUNK", 1)
    out = tmp_path / "map.json"
    grid.grid(spec, out, tables=fresh_tables(4)[1:3])
    found = grid.grid(spec, out)
    assert found["tables"] == list(fresh_tables(4))
    for part in ("tables", "initial", "correct", "epochs", "reached", "curves"):
        assert found[part] == whole[part], part
    with pytest.raises(ValueError, match="holds something else"):
        grid.grid(grid.specification(5, 2, **SMALL), out)


@pytest.mark.usefixtures("short")
def test_a_cell_is_the_run_of_one_network() -> None:
    """The ensemble's lanes are the networks of chapters 4 and 5, read when they should be."""
    found = grid.grid(grid.specification(1, 1, **SMALL))
    (table,), (test,) = draw_tables(fresh_tables(1), SMALL["test_rows"], employees.LABEL_NOISE)

    def train(network: MLP, rows: Table, name: str, epochs: int) -> list[int]:
        optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
        order, right = stream(0, name), []
        for epoch in range(1, epochs + 1):
            train_epoch(network, rows, optimizer, order)
            if epoch in grid.READ_AT:
                right.append(int((network(test.inputs).argmax(dim=1) == test.labels).sum()))
        return right

    saved = random_network(0, "first weights")
    train(saved, Table(*(column[:100] for column in table)), "first order", 10)
    cold = train(random_network(0, "fresh weights"), table, "order", 4)
    assert found["correct"]["cold"] == [cold[-1]]
    for arm in grid.cells(SMALL["lamdas"], SMALL["sigmas"]):
        right = train(start_network(arm, 0, saved), table, "order", 4)
        # One table: the half that reports has it.
        assert found["curves"][arm.key]["report"]["sum"] == right
        assert found["correct"][arm.key] == [right[-1]]
        reached = [epoch for epoch, count in zip(grid.READ_AT, right) if count >= cold[-1]]
        assert found["epochs"][arm.key] == [reached[0] if reached else 4]
        assert found["reached"][arm.key] == [int(bool(reached))]
        square = [(a - b) ** 2 for a, b in zip(right, cold)]
        assert found["curves"][arm.key]["report"]["squares_minus_cold"] == square


@pytest.mark.parametrize(
    "change", [{"tables": 0}, {"seeds": 0}, {"test_rows": 0}, {"lamdas": [1.1]}, {"sigmas": [-1]},
               {"label_noise": 2}, {"learning_rate": 0}],
)  # fmt: skip
def test_bad_maps(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        grid.specification(**({"tables": 1, "seeds": 1} | change))


def made_up(correct: dict[str, list[int]]) -> dict[str, Any]:
    """A stored map with these counts of 100 test rows."""
    tables = fresh_tables(len(correct["cold"]))
    return {
        "specification": {"lamdas": [0.5, 1.0], "sigmas": [0.0, 0.1], "seeds": 1, "test_rows": 100,
                          "epochs": [1, 2], "tables": len(tables)},
        "tables": list(tables),
        "correct": correct,
        "epochs": {name: [2] * len(counts) for name, counts in correct.items()},
        "reached": {name: [1, 0] * (len(counts) // 2) for name, counts in correct.items()},
    }  # fmt: skip


def test_the_best_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    spread = [0, 1, 2, 1, 0, 1]
    found = made_up({
        "cold": [60] * 12,
        "0.5, 0": [70 + k for k in spread] + [50 + k for k in spread],  # a lucky first half
        "0.5, 0.1": [65] * 12,
        "1, 0": [40] * 12,
        "1, 0.1": [69] * 12,
    })  # fmt: skip
    best = landscape.best(found)
    assert best.name == "0.5, 0"
    assert best.chosen == pytest.approx(10 + np.mean(spread))
    assert best.minus["cold"].estimate == pytest.approx(-10 + np.mean(spread))
    assert best.minus["cold"].high < 0 < best.minus["1, 0"].low


def test_cells_and_what_noise_adds() -> None:
    spread = np.array([0, 1, 2, 1, 0, 1, 3, 0])
    found = made_up({
        "cold": (60 + spread).tolist(),
        "0.5, 0": (62 + spread).tolist(),
        "0.5, 0.1": (61 + spread + spread[::-1]).tolist(),
        "1, 0": (55 + 2 * spread).tolist(),
        "1, 0.1": (55 + spread).tolist(),
    })  # fmt: skip
    cells = {c.name: c for c in landscape.cells_of(found)}
    assert cells["0.5, 0"].minus_cold.estimate == pytest.approx(2)
    assert cells["1, 0"].minus_warm.estimate == 0
    alone = mean_interval(spread[::-1] + 1.0)
    together = cells["0.5, 0.1"].minus_cold
    assert together.low < alone.low < alone.high < together.high, "they hold for all cells at once"
    assert cells["0.5, 0"].reached == 0.5
    assert (cells["0.5, 0"].epochs.low, cells["0.5, 0"].epochs.high) == (2, 2)
    added = landscape.noise_adds(found)
    assert added[0.5, 0.1].estimate == pytest.approx(-1 + spread.mean())
    assert set(added) == {(0.5, 0.1), (1.0, 0.1)}


# ---------------------------------------------------------------- rounds that compound


def test_what_twins_share() -> None:
    """Where nothing is kept the first network leaves no trace in the weights; noise leaves its own."""
    pairs = [(0.0, 0.1), (1.0, 0.0), (1.0, 0.1)]
    spec = compound.specification(2, 1, pairs=pairs, twins=pairs, rounds=2, epochs=1, early=1, test_rows=20)
    apart = compound.compound(spec)["apart"]
    assert apart["0, 0.1, other first"]["start"][0] > 0.1
    assert apart["0, 0.1, other first"]["start"][1] == 0
    assert apart["1, 0, other noise"]["start"] == apart["1, 0, other noise"]["end"] == [0, 0]
    for pair in ("0, 0.1", "1, 0.1"):
        start = [value / 2 for value in apart[f"{pair}, other noise"]["start"]]  # two lanes
        assert start[0] == 0 and start[1] == pytest.approx(2 * 0.1**2, rel=0.25)
    assert apart["1, 0, other first"]["start"][1] == apart["1, 0, other first"]["end"][0]
    assert apart["cold, other first"]["start"][1] > 0.1


def test_rounds_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = compound.specification(3, 1, pairs=[(0.5, 0.1)], twins=[(0.5, 0.1)], rounds=4, epochs=2, early=1,
                                  test_rows=20)  # fmt: skip
    whole = compound.compound(spec)
    monkeypatch.setattr(compound, "CHUNK", 1)
    compound.compound(spec, tmp_path / "rounds.json", tables=[fresh_tables(3)[2]])
    found = compound.compound(spec, tmp_path / "rounds.json")
    assert found["tables"] == whole["tables"] and found["correct"] == whole["correct"]
    for twin, values in whole["apart"].items():
        for what in values:
            assert found["apart"][twin][what] == pytest.approx(values[what])
    assert compound.percent(found, "cold").shape == (4, 3)


def test_a_round_is_that_of_one_network() -> None:
    """Rows arrive, the noise and the orders go on: the lane of one seed, step by step."""
    spec = compound.specification(1, 2, pairs=[(0.5, 0.1)], twins=[], rounds=4, epochs=2, early=1,
                                  test_rows=20)  # fmt: skip
    found = compound.compound(spec)
    (table,), (test,) = draw_tables(fresh_tables(1), 20, employees.LABEL_NOISE)
    right = np.zeros(4, dtype=int)
    for seed in range(2):
        network, order = random_network(seed, "first weights"), stream(seed, "order")
        generator = stream(seed, "noise")
        for number in range(1, 5):
            if number > 1:
                shrink_perturb_(network, 0.5, 0.1, generator=generator)
            optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
            rows = Table(*(column[: 50 * number] for column in table))
            for _ in range(2):
                train_epoch(network, rows, optimizer, order)
            right[number - 1] += int((network(test.inputs).argmax(dim=1) == test.labels).sum())
    assert [counts[0] for counts in found["correct"]["0.5, 0.1"]["end"]] == right.tolist()


@pytest.mark.parametrize(
    "change, words", [({"rounds": 3}, "divide"), ({"early": 0}, "early"), ({"tables": 0}, "tables")]
)
def test_bad_rounds(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compound.specification(**({"tables": 1, "seeds": 1} | change))


@pytest.mark.parametrize(
    "change, words", [({"folds": 3}, "folds"), ({"early": 500}, "early"), ({"tables": 0}, "tables")]
)
def test_bad_judgements(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        judge.specification(**({"tables": 1} | change))


# ---------------------------------------------------------------- kinds of noise


def test_kinds_of_start(old: MLP) -> None:
    for linear in old.linears:
        nn.init.ones_(linear.bias)
    fresh = random_network(3, "fresh weights")

    def start(*kind: Any) -> MLP:
        return noise.Kind(*kind).start(old, 3)

    def equal(first: nn.Module, second: nn.Module) -> bool:
        return same(first.state_dict(), second)

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


def test_noise_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "KINDS", noise.KINDS[:2])
    monkeypatch.setattr(noise, "HALF", 3)
    monkeypatch.setitem(ARMS, "initial", type(ARMS["initial"])("initial", "first", epochs=3))
    spec = noise.specification(3, 1, test_rows=20)
    whole = noise.compare(spec)
    monkeypatch.setattr(noise, "CHUNK", 1)
    noise.compare(spec, tmp_path / "noise.json", tables=[fresh_tables(3)[2]])
    found = noise.compare(spec, tmp_path / "noise.json")
    assert (found["tables"], found["correct"]) == (whole["tables"], whole["correct"])
    assert set(found["correct"]) == {"cold", "0.4, none", "0.4, none, biases"}


# ---------------------------------------------------------------- the command line


@pytest.mark.usefixtures("short")
def test_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noise, "HALF", 2)
    quick: dict[str, Callable[..., dict[str, Any]]] = {
        "compound": partial(compound.specification, rounds=2, epochs=1, early=1, test_rows=20),
        "judge": partial(judge.specification, epochs=2, early=1),
    }
    monkeypatch.setattr(compound, "specification", quick["compound"])
    monkeypatch.setattr(judge, "specification", quick["judge"])
    requests = {
        "grid": ["--seeds", "1", "--lamdas", "0.5", "1", "--sigmas", "0", "--test-rows", "20"],
        "compound": [], "noise": [], "judge": [],
    }  # fmt: skip
    says = {"grid": "points above it", "compound": "accuracy in round 2", "noise": "0.4, fresh 0.1, biases",
            "judge": "chosen on 1 tables"}  # fmt: skip
    for name, options in requests.items():
        out = tmp_path / f"{name}.json"
        arguments = [name, "--tables", "1", *options, "--out", str(out)]
        monkeypatch.setattr("sys.argv", ["wsp", *arguments])
        assert main(arguments) == 0
        assert says[name] in capsys.readouterr().out
        assert load_json(out)["provenance"]["command"].startswith(f"python -m wsp {name} --tables 1")
    assert main(["grid", "--tables", "0"]) == 2
    assert "tables must be at least 1" in capsys.readouterr().err


def test_candidates() -> None:
    found = candidates([0.2, 0.5], [0.01, 0.1])
    assert [c.start for c in found[:2]] == ["cold", "warm"]
    assert [(c.lamda, c.sigma) for c in found[2:]] == [(0.2, 0.01), (0.2, 0.1), (0.5, 0.01), (0.5, 0.1)]
