"""The problems of chapter 7, and the ways to restart on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from wsp.lab import inside
from wsp.lab.employees import Table
from wsp.lab.inside import Lanes
from wsp.lab.network import MLP
from wsp.lab.restarts import (
    CASES,
    RESTARTS,
    Restart,
    balance,
    draw,
    new_network,
    rate_of,
    start_lanes,
    train_first,
)

SHORT = {key: dataclasses.replace(case, first_epochs=3, test_rows=50) for key, case in CASES.items()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices wait longer for a second thread than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def close(one: Tensor, other: Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("key", list(CASES))
def test_rows_of_a_unit_do_not_depend_on_the_others(key: str) -> None:
    case = SHORT[key]
    (train, test), (alone, its_test) = draw(case, [0, 1]), draw(case, [1])
    assert train.inputs.shape == (2, case.rows, case.sizes[0]) and train.inputs.dtype == torch.float64
    assert test.labels.shape == (2, case.test_rows)
    assert torch.equal(train.inputs[1], alone.inputs[0]) and torch.equal(test.labels[1], its_test.labels[0])
    assert not torch.equal(train.inputs[0], train.inputs[1])


def test_only_training_labels_of_the_mislabeled_digits_are_wrong() -> None:
    train, test = draw(CASES["digits"], [3])
    noisy, noisy_test = draw(CASES["digits_mislabeled"], [3])
    assert torch.equal(train.inputs, noisy.inputs) and torch.equal(test.labels, noisy_test.labels)
    assert int((train.labels != noisy.labels).sum()) == 120


def test_every_restart_changes_one_thing_or_says_which_two() -> None:
    def changed(restart: Restart) -> list[str]:
        names = [field.name for field in dataclasses.fields(Restart) if field.name not in ("key", "words")]
        return [name for name in names if getattr(restart, name) != getattr(Restart("", ""), name)]

    assert changed(RESTARTS["warm"]) == []
    assert changed(RESTARTS["softer"]) == ["softer"] and changed(RESTARTS["faster"]) == ["faster"]
    two = {"cold_faster", "softer_faster", "shrunk_faster", "shrunk_all"}
    assert {key for key, restart in RESTARTS.items() if len(changed(restart)) == 2} == two
    assert all(len(changed(restart)) <= 2 for restart in RESTARTS.values())


def test_a_start_that_is_softer_has_the_weights_of_the_warm_one() -> None:
    case = SHORT["digits"]
    train, _ = draw(case, [0, 1])
    saved = train_first(case, train, [0, 1])
    fresh = [new_network(case, seed, "fresh weights") for seed in (0, 1)]
    warm, softer, shrunk, cold = (
        start_lanes(RESTARTS[key], saved, fresh, train.inputs)
        for key in ("warm", "softer", "shrunk_0.5", "cold")
    )
    assert all(torch.equal(a, b) for a, b in zip(warm.weights, softer.weights))
    assert close(softer.logits(train.inputs), shrunk.logits(train.inputs))
    assert close(softer.softness, torch.full((2,), 0.125, dtype=torch.float64))
    assert not close(warm.weights[0], cold.weights[0], 1e-2)
    assert all(not bias.any() for lanes in (warm, cold) for bias in lanes.biases)


def test_balance_makes_old_and_new_rows_pull_alike() -> None:
    generator = torch.Generator().manual_seed(99)
    table = Table(
        torch.randn(3, 12, 5, generator=generator, dtype=torch.float64),
        torch.randint(4, (3, 12), generator=generator),
    )
    lanes = Lanes([MLP((5, 8, 7, 4), generator=generator) for _ in range(3)])
    weight = balance(lanes, table, old_rows=5)
    old, new = inside.halves(table, 5)
    pull_old = inside.norm(lanes.gradient(old, weight[:, :5]))
    pull_new = inside.norm(lanes.gradient(new, weight[:, 5:]))
    assert close(pull_old, pull_new)
    assert close(weight[:, 0] + weight[:, -1], torch.full((3,), 2.0, dtype=torch.float64))


def test_rates() -> None:
    case = CASES["employees"]
    assert rate_of(case, RESTARTS["warm"], 0) == 0.0125
    assert rate_of(case, RESTARTS["faster"], 299) == 0.05  # the bound of chapter 3
    rates = [rate_of(case, RESTARTS["rewarmed"], epoch) for epoch in range(case.epochs + 1)]
    assert rates[0] == 0.05 and rates[-1] == pytest.approx(0.0125) and rates == sorted(rates, reverse=True)
