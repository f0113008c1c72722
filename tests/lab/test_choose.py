"""Choosing lamda and sigma: the procedure."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from wsp.lab import choose, employees
from wsp.lab.choose import candidates
from wsp.lab.employees import Table
from wsp.lab.network import MLP
from wsp.lab.retraining import random_network, stream
from wsp.lab.statistics import mean_interval, wilson
from wsp.lab.training import LEARNING_RATE, train_epoch
from wsp.perturb import shrink_perturb_

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


def test_candidates() -> None:
    found = candidates([0.2, 0.5], [0.01, 0.1])
    assert [c.start for c in found[:2]] == ["cold", "warm"]
    assert [(c.lamda, c.sigma) for c in found[2:]] == [(0.2, 0.01), (0.2, 0.1), (0.5, 0.01), (0.5, 0.1)]
