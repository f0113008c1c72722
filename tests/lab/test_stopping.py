"""Stopping many networks at once gives what an ordinary loop gives each alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import AVAILABLE, FastEnsemble, orders_of
from wsp.lab.many.lanes import Drawn, draw_lanes
from wsp.lab.many.stopping import RULES, hold_out, split_lanes, train_again, train_stopped
from wsp.lab.network import MLP
from wsp.lab.retraining import random_network, stream
from wsp.lab.training import train_epoch

EPOCHS, PATIENCE, RATE, TEMPERATURE = 30, 4, 0.05, 2.0


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw_lanes([1000, 1001], seeds=2, test_rows=50, label_noise=0.2, own=True)


def test_every_table_has_seeds_and_rows_held_out_of_its_own(drawn: Drawn) -> None:
    assert drawn.seeds == [2000, 2001, 2002, 2003]
    held = [hold_out(200, 100, 40, seed)[1].tolist() for seed in drawn.seeds]
    assert len({tuple(rows) for rows in held}) == 4


@pytest.mark.parametrize("old, held, place, of_old", [(100, 40, "all", 20), (100, 20, "all", 10),
                                                      (50, 40, "all", 10), (100, 40, "new", 0)])  # fmt: skip
def test_old_and_new_are_held_out_in_proportion(old: int, held: int, place: str, of_old: int) -> None:
    kept, out = hold_out(200, old, held, 7, place)
    assert sorted([*kept.tolist(), *out.tolist()]) == list(range(200))
    assert (len(out), int((out < old).sum())) == (held, of_old)


def test_what_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="20 rows held out leave nothing"):
        hold_out(200, 180, 20, 0, "new")
    with pytest.raises(ValueError, match="not of 'old'"):
        hold_out(200, 100, 20, 0, "old")


def alone(drawn: Drawn, lane: int, old: bool) -> dict[str, tuple[int, int, list[int], nn.Module, nn.Module]]:
    """One lane, one network, autograd: by rule the best epoch, epochs spent, budgets, weights."""
    place, seed = drawn.pairs[lane]
    kept, held = hold_out(200, 100, 40, seed)
    if old:
        kept, held = kept[kept < 100], held[held < 100]
    table, network = drawn.tables[place], random_network(seed, "fresh weights")
    optimizer, order = torch.optim.SGD(network.parameters(), lr=RATE), stream(seed, "order")
    scores: dict[str, list[float]] = {rule: [] for rule in RULES}
    weights = []
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(kept), generator=order), 10):
            optimizer.zero_grad()
            logits = network(table.inputs[kept[rows]]) / TEMPERATURE
            nn.functional.cross_entropy(logits, table.labels[kept[rows]]).backward()
            optimizer.step()
        with torch.no_grad():
            logits = network(table.inputs[held]) / TEMPERATURE
        scores["loss"].append(nn.functional.cross_entropy(logits, table.labels[held]).item())
        scores["accuracy"].append(-(logits.argmax(dim=1) == table.labels[held]).sum().item())
        weights.append(copy.deepcopy(network))
    found = {}
    for rule, values in scores.items():
        best = spent = 0
        for epoch in range(1, EPOCHS + 1):
            spent = epoch
            if best == 0 or values[epoch - 1] < values[best - 1]:
                best = epoch
            if epoch - best >= PATIENCE:
                break
        budgets = [values.index(min(values[:budget])) for budget in (5, EPOCHS)]
        found[rule] = best, spent, budgets, weights[best - 1], weights
    return found


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(p, q, rtol=0, atol=1e-10) for p, q in pairs)


KINDS = [Ensemble, *([FastEnsemble] if AVAILABLE else [])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("old", [False, True])
def test_a_lane_stops_where_one_network_stops(drawn: Drawn, old: bool, kind: type[Ensemble]) -> None:
    split = split_lanes(drawn.train, 100, 40, drawn.seeds)
    ensemble = kind([random_network(seed, "fresh weights") for seed in drawn.seeds])
    read: dict[tuple[int, str], list[MLP]] = {}
    found = train_stopped(
        {"cold": ensemble},
        split.of_old() if old else split,
        orders_of([stream(seed, "order") for seed in drawn.seeds]),
        EPOCHS,
        patience=PATIENCE,
        budgets=[5, EPOCHS],
        read=lambda name, budget, rule, best: read.__setitem__((budget, rule), best.networks()),
        learning_rate=RATE,
        temperatures={"cold": [TEMPERATURE] * EPOCHS},
    )["cold"]
    stopped_early = 0
    for lane in range(len(drawn.seeds)):
        for rule, (best, spent, budgets, network, weights) in alone(drawn, lane, old).items():
            assert (int(found[rule].epoch[lane]), int(found[rule].spent[lane])) == (best, spent)
            assert same(found[rule].shown().networks()[lane], network)
            for budget, place in zip((5, EPOCHS), budgets):
                assert same(read[budget, rule][lane], weights[place])
            stopped_early += spent < EPOCHS
    assert stopped_early, "patience plays a part in this test"


@pytest.mark.parametrize("kind", KINDS)
def test_the_run_ends_when_all_have_stopped(drawn: Drawn, kind: type[Ensemble]) -> None:
    """With nothing left to find it ends; what it found is the same, and the bar is full."""
    found = {}
    for budgets in ([], [200]):
        seen: list[int] = []
        split = split_lanes(drawn.train, 100, 40, drawn.seeds)
        found[len(budgets)] = train_stopped(
            {"cold": kind([random_network(seed, "fresh weights") for seed in drawn.seeds])},
            split,
            orders_of([stream(seed, "order") for seed in drawn.seeds]),
            200,
            patience=PATIENCE,
            budgets=budgets,
            tick=seen.append,
        )["cold"]
        assert sum(seen) == 200 * 160 * 4
        if kind is Ensemble:  # compiled, it rests inside a call
            assert (len(seen) < 200) == (not budgets)
    for rule in RULES:
        early, late = found[0][rule], found[1][rule]
        assert early.epoch.tolist() == late.epoch.tolist() and early.spent.tolist() == late.spent.tolist()
        assert all(torch.equal(one, other) for one, other in zip(early.weights, late.weights))


@pytest.mark.parametrize("kind", KINDS)
def test_again_on_all_rows_for_the_epochs_chosen(drawn: Drawn, kind: type[Ensemble]) -> None:
    networks = [random_network(seed, "fresh weights") for seed in drawn.seeds]
    chosen = torch.tensor([1, 3, 2, 3])
    read: dict[tuple[str, int], list[MLP]] = {}
    kept = train_again(
        {"cold": kind(networks), "warm": kind(networks)},
        drawn.stacked,
        drawn.lanes,
        200,
        orders_of([stream(seed, "order") for seed in drawn.seeds]),
        4,
        {"cold": {"loss": chosen}},
        budgets=[3],
        read=lambda name, epoch, ensemble: read.__setitem__((name, epoch), ensemble.networks()),
        learning_rate=RATE,
    )["cold"]["loss"]
    for (place, seed), network, epochs, found in zip(drawn.pairs, networks, chosen, kept.networks()):
        optimizer, order = torch.optim.SGD(network.parameters(), lr=RATE), stream(seed, "order")
        for epoch in range(1, 4):
            train_epoch(network, drawn.tables[place], optimizer, order)
            if epoch == epochs:
                assert same(found, network)
        lane = drawn.pairs.index((place, seed))
        assert all(same(read[name, 3][lane], network) for name in ("cold", "warm"))
