"""Lanes: what they cost, and the tables that they train on."""

from __future__ import annotations

import torch

from wsp.lab import employees
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import orders_of
from wsp.lab.many.lanes import (
    draw_lanes,
    draw_tables,
    fresh_tables,
    samples_per_lane,
    train_epochs,
    train_lanes,
)
from wsp.lab.retraining import ARMS, ARTICLE, Arm, random_network, stream
from wsp.lab.training import train


def test_samples_per_lane() -> None:
    """600,000 samples a seed for the article's four arms."""
    assert samples_per_lane(ARTICLE.values(), 200) == 100 * 1000 + 200 * (1000 + 1000 + 500)
    assert samples_per_lane(ARMS.values(), 200) == 100 * 1000 + 200 * (3 * 1000 + 3 * 500)


def test_ticks_add_up_to_them() -> None:
    short = [Arm("first", "first", epochs=3), Arm("cold", "fresh", epochs=2)]
    ticked: list[int] = []
    table = employees.load_train()
    train_lanes([table], [(0, 1), (0, 2)], short[1:], lambda *read: None, tick=ticked.append)
    assert sum(ticked) == 2 * samples_per_lane(short[1:], 200)


def test_a_number_is_a_table() -> None:
    [one, _], [test, _] = draw_tables([1003, 1004], 30, 0.1)
    assert torch.equal(one.inputs, employees.encode(employees.draw(200, 2006, 0.1)).inputs)
    assert torch.equal(test.labels, employees.encode(employees.draw(30, 2007, 0.1)).labels)
    assert list(fresh_tables(2)) == [1000, 1001]


def test_drawn_lanes_are_seeds_within_tables() -> None:
    drawn = draw_lanes([1000, 1001], seeds=3, test_rows=20, label_noise=0.0)
    assert drawn.pairs == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    for lane, (place, _) in enumerate(drawn.pairs):
        assert torch.equal(drawn.train.inputs[lane], drawn.tables[place].inputs)
    assert drawn.test.labels.shape == (6, 20)
    assert torch.equal(drawn.stacked.labels, torch.cat([table.labels for table in drawn.tables]))
    assert drawn.by_table(torch.tensor([1, 2, 3, 10, 20, 30])) == [6, 60]


def test_epochs_of_several_ensembles_share_their_orders() -> None:
    """Each lane ends where the ordinary loop ends, on the first rows of its own table."""
    drawn = draw_lanes([1000, 1001], seeds=1, test_rows=10, label_noise=0.05)
    networks = [random_network(seed, "fresh weights") for seed in (5, 6)]
    ensembles = {"a": Ensemble(networks), "b": Ensemble(networks)}
    orders = orders_of([stream(seed, "order") for seed in (5, 6)])
    epochs = train_epochs(ensembles, drawn.stacked, drawn.lanes, 100, orders, 3, learning_rate=0.02)
    assert list(epochs) == [1, 2, 3]
    for lane, (network, table) in enumerate(zip(networks, drawn.tables)):
        rows = employees.Table(*(column[:100] for column in table))
        train(network, rows, stream(5 + lane, "order"), epochs=3, learning_rate=0.02)
        for ensemble in ensembles.values():
            for p, q in zip(network.parameters(), ensemble.networks()[lane].parameters(), strict=True):
                assert torch.allclose(p, q, rtol=0, atol=1e-12)
