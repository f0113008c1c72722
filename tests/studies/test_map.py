"""The map of lamda and sigma: a cell is a run of one network, and what is read from a map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from wsp.lab import employees
from wsp.lab.employees import Table
from wsp.lab.many.lanes import draw_tables, fresh_tables, seeds_of
from wsp.lab.network import MLP
from wsp.lab.retraining import random_network, start_network, stream
from wsp.lab.statistics import mean_interval
from wsp.lab.training import LEARNING_RATE, train_epoch
from wsp.studies import grid, landscape
from wsp.studies.engine import run


def test_a_cell_is_the_run_of_one_network() -> None:
    """The ensemble's lanes are the networks of chapters 4 and 5, read when they should be."""
    spec = grid.STUDY.specification(seeds=1, lamdas=[0.5], sigmas=[0.01], test_rows=50)
    found = run(grid.STUDY, spec, tables=1)
    (number,) = fresh_tables(1)
    (seed,) = seeds_of(number, 1)
    (table,), (test,) = draw_tables([number], 50, employees.LABEL_NOISE)

    def train(network: MLP, rows: Table, name: str, epochs: int) -> list[int]:
        optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
        order, right = stream(seed, name), []
        for epoch in range(1, epochs + 1):
            train_epoch(network, rows, optimizer, order)
            if epoch in grid.READ_AT:
                right.append(int((network(test.inputs).argmax(dim=1) == test.labels).sum()))
        return right

    saved = random_network(seed, "first weights")
    train(saved, Table(*(column[:100] for column in table)), "first order", 1000)
    cold = train(random_network(seed, "fresh weights"), table, "order", 500)
    assert found["correct"]["cold"] == [[cold[-1]]]
    (arm,) = grid.cells([0.5], [0.01])
    right = train(start_network(arm, seed, saved), table, "order", 500)
    # Its number is even: the half that chooses has it.
    assert found["curves"][arm.key]["choose"]["sum"] == right
    assert found["correct"][arm.key] == [[right[-1]]]
    reached = [epoch for epoch, count in zip(grid.READ_AT, right) if count >= cold[-1]]
    assert found["epochs"][arm.key] == [[reached[0] if reached else 500]]
    assert found["reached"][arm.key] == [[int(bool(reached))]]
    square = [(a - b) ** 2 for a, b in zip(right, cold)]
    assert found["curves"][arm.key]["choose"]["squares_minus_cold"] == square


@pytest.mark.parametrize(
    "change", [{"seeds": 0}, {"test_rows": 0}, {"lamdas": [1.1]}, {"sigmas": [-1]},
               {"label_noise": 2}, {"learning_rate": 0}],
)  # fmt: skip
def test_bad_maps(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        grid.STUDY.specification(**change)


def made_up(correct: dict[str, list[int]]) -> dict[str, Any]:
    """A stored map with these counts of 100 test rows."""
    return {
        "specification": {"lamdas": [0.5, 1.0], "sigmas": [0.0, 0.1], "seeds": 1, "test_rows": 100,
                          "epochs": [1, 2]},
        "tables": list(fresh_tables(len(correct["cold"]))),
        "correct": {name: [[count] for count in counts] for name, counts in correct.items()},
        "epochs": {name: [[2]] * len(counts) for name, counts in correct.items()},
        "reached": {name: [[1], [0]] * (len(counts) // 2) for name, counts in correct.items()},
    }  # fmt: skip


def test_the_best_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    spread = [0, 1, 2, 1, 0, 1]
    found = made_up({
        "cold": [60] * 12,
        "0.5, 0": [rows + k for k in spread for rows in (70, 50)],  # lucky where it is chosen
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
