"""The arms: what each starts from, what they share, what they must not touch."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsp.lab import retraining
from wsp.lab.employees import Table
from wsp.lab.retraining import (
    ARMS,
    ARTICLE,
    CONTROLS,
    MAX_SEED,
    STREAMS,
    Arm,
    Result,
    find_arms,
    random_network,
    run_arms,
    runs,
    start_network,
    stream,
)


def rows_of(rows: int, seed: int) -> Table:
    generator = torch.Generator().manual_seed(seed)
    return Table(
        torch.randn(rows, 6, generator=generator, dtype=torch.float64),
        torch.randint(3, (rows,), generator=generator),
    )


TRAIN, TEST = rows_of(130, 1), rows_of(40, 2)


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one, other, strict=True))


def run(
    *arms: str, seed: int = 4, train: Table = TRAIN, test: Table = TEST, **options: Any
) -> dict[str, Result]:
    return run_arms(train, test, seed, arms=arms or tuple(ARMS), **options)


# ---------------------------------------------------------------- the contract


def test_the_arms_are_the_article_s() -> None:
    table = {arm.key: (arm.start, arm.lamda, arm.sigma, arm.epochs, arm.quoted) for arm in ARTICLE.values()}
    assert table == {
        "initial": ("first", 1, 0, 1000, 24),
        "cold": ("fresh", 1, 0, 1000, 31),
        "warm": ("saved", 1, 0, 1000, 28),
        "shrink_perturb": ("saved", 0.5, 0.01, 500, 32),
    }
    assert {arm.key: (arm.start, arm.lamda, arm.sigma, arm.epochs) for arm in CONTROLS.values()} == {
        "cold_500": ("fresh", 1, 0, 500),
        "warm_500": ("saved", 1, 0, 500),
        "shrink_perturb_1000": ("saved", 0.5, 0.01, 1000),
        "fresh_shrunk_500": ("fresh", 0.5, 0.01, 500),
        "shrink_only_500": ("saved", 0.5, 0, 500),
        "perturb_only_500": ("saved", 1, 0.01, 500),
    }
    assert list(ARMS) == [*ARTICLE, *CONTROLS]
    assert all(key == arm.key for key, arm in ARMS.items())


def test_each_run_is_trained_once_and_the_first_network_first() -> None:
    grouped = runs(ARMS.values())
    assert grouped[0] == [ARMS["initial"]]
    assert sorted(arm.key for members in grouped for arm in members) == sorted(ARMS)
    assert len({members[0].run for members in grouped}) == len(grouped) == 7
    assert [[a.key for a in members] for members in runs(find_arms(["cold"]))] == [["cold"]]
    assert [[a.key for a in members] for members in runs(find_arms(["warm_500"]))] == [
        ["initial"],
        ["warm_500"],
    ]


# ---------------------------------------------------------------- seeds and streams


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 2**64, 1.0, True, "3", None])
def test_bad_seed(seed: Any) -> None:
    for use in (lambda: stream(seed, "order"), lambda: run("cold", seed=seed)):
        with pytest.raises(ValueError, match="the seed must be an integer from 0 to 858993458, not"):
            use()


def test_streams_are_distinct() -> None:
    seeds = [0, 1, 2, 3, 1000, MAX_SEED]
    found = {stream(seed, name).initial_seed() for seed in seeds for name in STREAMS}
    assert len(found) == len(seeds) * len(STREAMS)
    assert max(found) < 2**32  # the generator keeps no more than 32 bits
    with pytest.raises(ValueError, match="unknown stream 'dice': choose from first weights, "):
        stream(0, "dice")


class Seen:
    """What `run_arms` hands to `train`, without the training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: dict[str, dict[str, Any]] = {}
        self.train = retraining.train
        monkeypatch.setattr(retraining, "train", self)

    def __call__(self, network: nn.Module, table: Table, order: torch.Generator, **options: Any) -> Any:
        key = options["label"]
        self.calls[key] = {**options, "start": weights(network), "order": order.get_state(), "table": table}
        return self.train(network, table, order, **options)


@pytest.fixture
def seen(short_arms: None, monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen(monkeypatch)
    run()
    return seen


def test_retrainings_share_their_batches_and_the_learning_rate(seen: Seen) -> None:
    retrained = [call for key, call in seen.calls.items() if key != "initial"]
    assert len(retrained) == 6
    for call in retrained:
        assert torch.equal(call["order"], stream(4, "order").get_state())
        assert call["learning_rate"] == 0.05
        assert torch.equal(call["table"].inputs, TRAIN.inputs)
    initial = seen.calls["initial"]
    assert torch.equal(initial["order"], stream(4, "first order").get_state())
    assert initial["learning_rate"] == 0.05
    assert torch.equal(initial["table"].inputs, TRAIN.inputs[:100])


def test_what_each_arm_starts_from(seen: Seen) -> None:
    start = {key: call["start"] for key, call in seen.calls.items()}
    saved = weights(run("initial")["initial"].network)
    fresh = weights(random_network(4, "fresh weights"))
    assert same(start["initial"], weights(random_network(4, "first weights")))
    assert same(start["cold"], fresh)
    assert same(start["warm"], saved)
    assert not same(start["initial"], start["cold"])

    noise = stream(4, "noise")
    eps = [torch.empty_like(p).normal_(generator=noise) if p.ndim > 1 else None for p in saved]
    for key, old, lamda, sigma in (
        ("shrink_perturb", saved, 0.5, 0.01),
        ("fresh_shrunk_500", fresh, 0.5, 0.01),
        ("shrink_only_500", saved, 0.5, 0.0),
        ("perturb_only_500", saved, 1.0, 0.01),
    ):
        for p, before, e in zip(start[key], old, eps, strict=True):
            torch.testing.assert_close(
                p, before if e is None else lamda * before + sigma * e, rtol=0, atol=1e-16
            )


# ---------------------------------------------------------------- results


@pytest.mark.usefixtures("short_arms")
def test_a_500_figure_is_the_1000_run_read_at_500() -> None:
    everything = run()
    assert list(everything) == list(ARMS)
    for key in ("cold_500", "warm_500", "shrink_perturb"):
        alone = run(key)[key]
        within = everything[key]
        assert alone.arm == within.arm and within.arm.epochs == 5
        assert (alone.train, alone.test) == (within.train, within.test)
        assert 0 < within.seconds
    assert everything["cold_500"].test.loss != everything["cold"].test.loss
    assert everything["cold_500"].seconds < everything["cold"].seconds
    assert list(run("warm", "initial")) == ["warm", "initial"]


@pytest.mark.usefixtures("short_arms")
def test_the_saved_network_is_not_changed_by_the_arms() -> None:
    assert same(weights(run()["initial"].network), weights(run("initial")["initial"].network))
    saved = random_network(0, "first weights")
    before = weights(saved)
    for arm in ARMS.values():
        started = start_network(arm, 0, saved)
        with torch.no_grad():
            for p in started.parameters():
                p += 1
    assert same(weights(saved), before)


@pytest.mark.usefixtures("short_arms")
def test_figures_are_measured_on_the_right_rows() -> None:
    found = run()
    assert (found["initial"].train.of, found["cold"].train.of) == (100, 130)
    assert {result.test.of for result in found.values()} == {40}


@pytest.mark.usefixtures("short_arms")
def test_new_rows_and_test_rows_leave_the_first_network_alone() -> None:
    plain = run()
    newer = Table(torch.cat([TRAIN.inputs[:100], TRAIN.inputs[100:] + 1]), TRAIN.labels)
    changed, tested = run(train=newer), run(test=rows_of(40, 3))
    assert same(weights(plain["initial"].network), weights(changed["initial"].network))
    assert not same(weights(plain["warm"].network), weights(changed["warm"].network))
    for key in ARMS:
        assert same(weights(plain[key].network), weights(tested[key].network))


@pytest.mark.usefixtures("short_arms")
def test_a_broken_trick_changes_the_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run()
    monkeypatch.setattr(retraining, "shrink_perturb_", lambda module, *rest, **options: module)
    broken = run()
    for key in (
        "shrink_perturb",
        "shrink_perturb_1000",
        "fresh_shrunk_500",
        "shrink_only_500",
        "perturb_only_500",
    ):
        assert whole[key].test.loss != broken[key].test.loss, key
    for key in ("initial", "cold", "warm", "cold_500", "warm_500"):
        assert whole[key].test.loss == broken[key].test.loss, key
    assert broken["shrink_perturb"].test == broken["warm_500"].test


@pytest.mark.usefixtures("short_arms")
def test_another_seed_is_another_run_and_the_same_seed_the_same() -> None:
    one, twin, other = run(), run(), run(seed=5)
    for key in ARMS:
        assert same(weights(one[key].network), weights(twin[key].network))
        assert not same(weights(one[key].network), weights(other[key].network))


def test_the_nudge_moves_every_random_weight_and_nothing_else() -> None:
    saved = random_network(0, "first weights")
    for key, arm in ARMS.items():
        moved = [
            q - p
            for p, q in zip(
                weights(start_network(arm, 0, saved)),
                weights(start_network(arm, 0, saved, nudge=0.25)),
                strict=True,
            )
        ]
        for change in moved:
            expected = 0.0 if arm.start == "saved" else 0.25 * (arm.lamda if change.ndim > 1 else 1)
            torch.testing.assert_close(change, torch.full_like(change, expected)), key


# ---------------------------------------------------------------- refused


def test_refuses() -> None:
    with pytest.raises(ValueError, match="unknown arm 'sideways': choose from initial, cold, warm, "):
        run("cold", "sideways")
    with pytest.raises(ValueError, match="the table has 100 rows; the first 100 are the old ones"):
        run("cold", train=rows_of(100, 1))
    with pytest.raises(ValueError, match="arm 'warm' starts from the saved first network: pass `saved`"):
        start_network(ARMS["warm"], 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ARMS["warm"].epochs = 3  # type: ignore[misc]
    assert Arm("mine", "fresh").run == ("fresh", 1.0, 0.0)
