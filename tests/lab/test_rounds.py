"""Rounds: what each start is, and what the arms share."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from wsp.lab import images, rounds
from wsp.lab.employees import Table
from wsp.lab.fitting import Fit, fit
from wsp.lab.rounds import ARMS, Arm, plain, run_arms, stream


def build() -> nn.Module:
    """Linear, BatchNorm, linear: parameters of every kind, and running statistics."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 10))


@pytest.fixture(scope="module")
def digits() -> tuple[Table, Table]:
    return images.split(images.digits(), 120, 50, seed=0)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(p, q) for (a, p), (b, q) in pairs)


def pair() -> tuple[nn.Module, nn.Module, Table]:
    """An old network that has trained a little, a fresh one, and what has arrived."""
    torch.manual_seed(0)
    old, fresh = build(), build()
    with torch.no_grad():
        for p in old.parameters():
            p += 0.1
    old(torch.randn(8, 1, 8, 8))
    return old, fresh, Table(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))


def started(key: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Copies of the old and fresh networks, and what the arm starts from."""
    old, fresh, table = pair()
    was, new = copy.deepcopy(old), copy.deepcopy(fresh)
    return was, new, ARMS[key].start(old, fresh, table, torch.Generator().manual_seed(1))


def test_cold_and_warm_starts() -> None:
    _, new, network = started("cold")
    assert equal(network, new)
    was, _, network = started("warm")
    assert equal(network, was)


@pytest.mark.parametrize(
    "key, lamda",
    [("shrink_perturb", 0.5), *((f"shrink_perturb_{lamda}", lamda) for lamda in (0.3, 0.6, 0.8))],
)
def test_the_article_s_rule_changes_weights_alone(key: str, lamda: float) -> None:
    was, _, network = started(key)
    for (name, old), p in zip(was.named_parameters(), network.parameters()):
        if name in ("1.weight", "4.weight"):
            noise = p - lamda * old
            assert 0.005 < noise.std() < 0.015 and abs(noise.mean()) < 0.005
        else:
            assert torch.equal(p, old)
    assert equal(network[2], build()[2]) is False  # its scale and shift are the old ones
    assert network[2].running_mean.abs().max() == 0  # type: ignore[union-attr,operator]


def test_the_official_rule_changes_every_parameter() -> None:
    """0.4 of the old network plus 0.1 of a fresh one; running statistics start afresh."""
    was, new, network = started("official")
    for old, fresh, p in zip(was.parameters(), new.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(p, 0.4 * old + 0.1 * fresh)
    assert network[2].running_mean.abs().max() == 0  # type: ignore[union-attr,operator]
    assert was[2].running_mean.abs().max() > 0  # type: ignore[union-attr,operator]


def test_running_statistics_can_be_kept() -> None:
    was, _, network = started("shrink_perturb_keep_bn")
    _, _, plain_ = started("shrink_perturb")
    assert torch.equal(network[2].running_mean, was[2].running_mean)  # type: ignore[arg-type,index]
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), plain_.parameters(), strict=True))


def test_fresh_shrunk_knows_nothing() -> None:
    _, new, network = started("fresh_shrunk")
    noise = network[1].weight - 0.5 * new[1].weight  # type: ignore[operator,union-attr]
    assert noise.std() < 0.015 and torch.equal(network[1].bias, new[1].bias)  # type: ignore[arg-type]


def test_re_estimated_statistics_are_those_of_the_table() -> None:
    """After `reestimated` they are plain means over batches of what BatchNorm sees."""
    torch.manual_seed(0)
    table = Table(torch.randn(60, 1, 8, 8) + 1, torch.arange(60) % 10)
    order, options = torch.Generator().manual_seed(0), {"max_epochs": 2, "batch_size": 20}
    network, twin = build(), build()
    twin.load_state_dict(network.state_dict())
    found = rounds.reestimated(network, network, table, order, **options)
    plain(twin, twin, table, torch.Generator().manual_seed(0), **options)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), twin.parameters(), strict=True))
    seen = twin[:2](table.inputs)  # type: ignore[index]
    torch.testing.assert_close(network[2].running_mean, seen.mean(dim=0))  # type: ignore[index,arg-type]
    assert not torch.allclose(twin[2].running_mean, seen.mean(dim=0), atol=1e-3)  # type: ignore[index]
    assert found.epochs == 2 and not network.training and network[2].momentum == 0.1  # type: ignore[index]


class Diary:
    """An arm's training that writes down what it was given, and trains one epoch."""

    def __init__(self) -> None:
        self.starts: list[nn.Module] = []
        self.firsts: list[nn.Module] = []
        self.ends: list[nn.Module] = []
        self.orders: list[int] = []
        self.rows: list[int] = []

    def __call__(self, network: nn.Module, first: nn.Module, table: Table, order: Any, **options: Any) -> Fit:
        self.starts.append(copy.deepcopy(network))
        self.firsts.append(copy.deepcopy(first))
        self.orders.append(order.initial_seed())
        self.rows.append(len(table.labels))
        found = fit(network, table, order, **options)
        self.ends.append(copy.deepcopy(network))
        return found


def diary(digits: tuple[Table, Table], arm: str, seed: int = 0, **options: Any) -> Diary:
    pages, (train, test) = Diary(), digits
    list(
        run_arms(
            [Arm(arm, ARMS[arm].start, pages)],
            build,
            images.rounds(train, 40),
            test,
            seed,
            **{"max_epochs": 2, **options},
        )
    )
    return pages


def test_what_arms_share(digits: tuple[Table, Table]) -> None:
    """One seed: the same first network, fresh networks and batch orders, whatever the arm."""
    cold, warm, other = diary(digits, "cold"), diary(digits, "warm"), diary(digits, "cold", seed=1)
    assert cold.rows == warm.rows == [40, 80, 120]
    assert cold.orders == warm.orders and len(set(cold.orders)) == 3
    assert equal(cold.starts[0], warm.starts[0]) and equal(cold.ends[0], warm.ends[0])
    assert not equal(cold.starts[0], cold.starts[1]) and not equal(cold.starts[1], cold.starts[2])
    assert equal(warm.starts[1], warm.ends[0]) and equal(warm.starts[2], warm.ends[1])
    assert not equal(other.starts[0], cold.starts[0]) and not set(other.orders) & set(cold.orders)
    for pages in (cold, warm):
        assert all(equal(first, pages.starts[0]) for first in pages.firsts)


def test_the_fresh_network_of_a_round_is_the_noise_of_the_official_rule(digits: tuple[Table, Table]) -> None:
    cold, official = diary(digits, "cold"), diary(digits, "official")
    for number in (1, 2):
        parts = (cold.starts[number], official.ends[number - 1], official.starts[number])
        for fresh, old, start in zip(*(part.parameters() for part in parts), strict=True):
            torch.testing.assert_close(start, 0.4 * old + 0.1 * fresh)


def test_the_first_round_is_trained_once(digits: tuple[Table, Table]) -> None:
    """And the second arm still finds its network as the first round left it."""
    train, test = digits
    pages = Diary()
    arms = [Arm(key, ARMS[key].start, pages) for key in ("shrink_perturb", "warm")]
    found = list(run_arms(arms, build, images.rounds(train, 60), test, 0, max_epochs=2))
    assert pages.rows == [60, 120, 120]
    assert equal(pages.starts[2], pages.ends[0])
    assert found[0][1][0] == found[1][1][0]


def test_arms_that_train_or_build_otherwise_have_a_first_round_of_their_own(
    digits: tuple[Table, Table],
) -> None:
    train, test = digits

    def wider(network: nn.Module) -> nn.Module:
        return nn.Sequential(*network, nn.Linear(10, 10))

    def slower(network: nn.Module, first: nn.Module, table: Table, order: Any, **options: Any) -> Fit:
        return fit(network, table, order, **options | {"learning_rate": 1e-5})

    arms = [
        ARMS["warm"],
        Arm("slow", ARMS["warm"].start, slower),
        Arm("wide", ARMS["warm"].start, plain, wider),
    ]
    results = {
        arm.key: records
        for arm, records in run_arms(arms, build, images.rounds(train, 60), test, 0, max_epochs=8)
    }
    firsts = [records[0].fit.train_accuracy for records in results.values()]
    assert len(set(firsts)) == 3


def test_records(digits: tuple[Table, Table]) -> None:
    train, test = digits
    [(_, records)] = run_arms([ARMS["cold"]], build, images.rounds(train, 60), test, 0, max_epochs=3)
    for record, rows in zip(records, (60, 120), strict=True):
        assert (record.rows, record.of, record.fit.epochs) == (rows, 50, 3)
        assert record.fit.samples == 3 * rows and record.seconds >= record.fit.seconds > 0
        assert 0 <= record.correct <= 50


def test_scored_in_evaluation_mode_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network, table = build(), Table(torch.randn(25, 1, 8, 8), torch.arange(25) % 10)
    network(table.inputs)
    expected = int((network.eval()(table.inputs).argmax(1) == table.labels).sum())
    network.train()
    monkeypatch.setattr(rounds, "AT_ONCE", 4)
    before = copy.deepcopy(network.state_dict())
    assert rounds.count_correct(network, table) == expected
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_streams_are_apart() -> None:
    seeds = [
        stream(seed, number, name).initial_seed()
        for seed, number, name in itertools.product(range(20), range(1, 20), rounds.STREAMS)
    ]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 0
