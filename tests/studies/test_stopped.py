"""Stopped and temperature: the arms of the book where nothing is held out, protocols, schedules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from wsp.lab.employees import Table
from wsp.lab.many.lanes import draw_lanes
from wsp.lab.retraining import random_network, start_network, stream
from wsp.lab.training import measure, train, train_epoch
from wsp.studies import stopped, temperature
from wsp.studies.engine import run
from wsp.studies.protocols import FIRST_TABLE, Way, accuracy, against, cost, within_budgets

QUICK: dict[str, Any] = {"first_epochs": 30, "patience": 3, "read_at": [5, 40], "budgets": [5, 40]}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return run(stopped.STUDY, stopped.STUDY.specification(**QUICK, test_rows=100), tables=3)


def test_on_all_rows_it_gives_what_the_arms_give(found: dict[str, Any]) -> None:
    """The same starts, orders and rows as one network of chapters 4 and 5 has, read after fixed epochs."""
    number, seed = FIRST_TABLE + 1, 2 * (FIRST_TABLE + 1)
    drawn = draw_lanes([number], 2, 100, 0.05, own=True)
    table, test = drawn.tables[0], Table(*(column[0] for column in drawn.test))
    for way, arm in stopped.STARTS.items():
        old = random_network(seed, "first weights")
        train(old, Table(*(column[:100] for column in table)), stream(seed, "first order"), epochs=30)
        assert found["old"]["correct"][1][0] == measure(old, test).correct
        network = start_network(arm, seed, old)
        order = stream(seed, "order")
        for place, epochs in enumerate((5, 35)):  # read after 5 and 40
            train(network, table, order, epochs=epochs)
            assert found["all"][way][1][0][place] == measure(network, test).correct, way


def test_what_stopping_records_hangs_together(found: dict[str, Any]) -> None:
    compared = 0
    for rule in ("loss", "accuracy"):
        for way in stopped.STARTS:
            epoch, spent = (np.array(found[what][rule][way]) for what in ("epoch", "spent"))
            early = spent < 40
            assert (spent[early] - epoch[early] == 3).all() and (spent[~early] - epoch[~early] <= 3).all()
            assert early.any()
            # Whose best epoch is among the first five, looking on until then: it is the best of five.
            within = (epoch <= 5) & (spent >= 5)
            compared += int(within.sum())
            budget = np.array(found["budget"][rule][way])
            assert (np.array(found["stopped"][rule][way])[within] == budget[..., 0][within]).all()
    assert compared


def test_again_trains_on_all_rows_as_long_as_stopping_chose(found: dict[str, Any]) -> None:
    number, seed = FIRST_TABLE + 1, 2 * (FIRST_TABLE + 1) + 1
    drawn = draw_lanes([number], 2, 100, 0.05, own=True)
    for rule in ("loss", "accuracy"):
        network = start_network(stopped.STARTS["fresh_shrunk"], seed)
        optimizer, order = stopped_sgd(network), stream(seed, "order")
        for _ in range(found["epoch"][rule]["fresh_shrunk"][1][1]):
            train_epoch(network, drawn.tables[0], optimizer, order)
        inputs, labels = (column[1] for column in drawn.test)
        right = int((network(inputs).argmax(dim=1) == labels).sum())
        assert found["again"][rule]["fresh_shrunk"][1][1] == right


def stopped_sgd(network: Any) -> Any:
    return torch.optim.SGD(network.parameters(), lr=0.05)


def test_settings_change_what_they_should(found: dict[str, Any]) -> None:
    """Cold knows no old network; what is held out changes every stop, and nothing trained on all rows."""
    spec = found["specification"]

    def other(**changes: Any) -> dict[str, Any]:
        options = QUICK | {"arms": ["cold", "warm"], "test_rows": 100} | changes
        return run(stopped.STUDY, stopped.STUDY.specification(**options), tables=3)

    assert spec["arms"] == list(stopped.STARTS)
    young = other(old="stopped")
    assert np.max(young["old"]["epoch"]) <= 30 and np.min(young["old"]["epoch"]) < 30
    assert young["all"]["cold"] == found["all"]["cold"] and young["all"]["warm"] != found["all"]["warm"]
    assert young["stopped"]["loss"]["cold"] == found["stopped"]["loss"]["cold"]
    for changes in ({"held": 20}, {"held_from": "new"}):
        held = other(**changes)
        assert held["all"] == {way: found["all"][way] for way in ("cold", "warm")}
        assert held["stopped"]["loss"]["cold"] != found["stopped"]["loss"]["cold"]


def test_readings_by_protocol() -> None:
    spec = {"seeds": 2, "test_rows": 100, "read_at": [500, 1000], "budgets": [20, 50]}
    read = {
        "specification": spec,
        "all": {"cold": [[[10, 20], [30, 40]]], "shrink_perturb": [[[50, 60], [70, 80]]]},
        "budget": {"loss": {"cold": [[[1, 2], [3, 4]]]}, "accuracy": {"cold": [[[5, 6], [7, 8]]]}},
        "stopped": {"loss": {"cold": [[11, 13]]}, "accuracy": {"cold": [[21, 23]]}},
        "spent": {"loss": {"cold": [[10, 30]], "warm": [[5, 15]]}},
    }
    assert accuracy(read, "cold", "article") == 30 and accuracy(read, "shrink_perturb", "article") == 60
    assert accuracy(read, "cold", "equal", epochs=500) == 20 and accuracy(read, "cold", "equal") == 30
    assert accuracy(read, "cold", "budget") == 3
    assert accuracy(read, "cold", "budget", epochs=20, rule="accuracy") == 6
    assert accuracy(read, "cold", "stopped") == 12
    assert accuracy(read, "cold", "stopped", rule="accuracy") == 22
    assert cost(read, "warm") == 0.5
    with pytest.raises(ValueError, match="no protocol 'best'"):
        accuracy(read, "cold", "best")


# ---------------------------------------------------------------- temperature


def test_a_temperature_of_one_is_the_plain_start(found: dict[str, Any]) -> None:
    options = QUICK | {"starts": ["warm"], "temperatures": [1.0, 8.0], "falls_by": 20, "test_rows": 100}
    soft = run(temperature.STUDY, temperature.STUDY.specification(**options), tables=3)
    assert list(soft["all"]) == ["warm 1", "warm 8", "warm 8 falling"]
    for what in ("stopped", "epoch", "spent", "again", "budget"):
        for rule in ("loss", "accuracy"):
            assert soft[what][rule]["warm 1"] == found[what][rule]["warm"]
    assert soft["all"]["warm 1"] == found["all"]["warm"]
    assert soft["all"]["warm 8"] != soft["all"]["warm 1"] != soft["all"]["warm 8 falling"]


def test_a_soft_start_is_what_one_network_gives() -> None:
    """Logits over a falling temperature, by autograd, on all rows."""
    options = QUICK | {"starts": ["cold"], "temperatures": [4.0], "falls_by": 3, "seeds": 1, "test_rows": 300}
    soft = run(temperature.STUDY, temperature.STUDY.specification(**options), units=[FIRST_TABLE])
    drawn = draw_lanes([FIRST_TABLE], 1, 300, 0.05, own=True)
    table = drawn.tables[0]
    for name, warmth in (("cold 4", [4.0] * 5), ("cold 4 falling", [4.0, 2.0, 1.0, 1.0, 1.0])):
        network = random_network(FIRST_TABLE, "fresh weights")
        optimizer, order = stopped_sgd(network), stream(FIRST_TABLE, "order")
        for value in warmth:
            for rows in torch.split(torch.randperm(200, generator=order), 10):
                optimizer.zero_grad()
                logits = network(table.inputs[rows]) / value
                torch.nn.functional.cross_entropy(logits, table.labels[rows]).backward()
                optimizer.step()
        inputs, labels = (column[0] for column in drawn.test)
        right = int((network(inputs).argmax(dim=1) == labels).sum())
        assert soft["all"][name][0][0][0] == right


def test_a_temperature_falls_by_equal_factors() -> None:
    arm = stopped.STARTS["warm"]
    assert Way("", arm, 16.0, falls_by=5).temperatures(6) == [16.0, 8.0, 4.0, 2.0, 1.0, 1.0]
    assert Way("", arm, 16.0).temperatures(2) == [16.0, 16.0]


def test_the_best_temperature_is_chosen_on_other_tables() -> None:
    spec = {"seeds": 1, "test_rows": 100, "read_at": [500], "temperatures": [1.0, 8.0]}
    # On even tables 8 looks best, on odd ones 1.
    counts = {"warm 1": [10, 30, 10, 30], "warm 8": [40, 20, 40, 20], "warm 8 falling": [0, 90, 0, 90]}
    read = {"specification": spec, "all": {name: [[[c]] for c in column] for name, column in counts.items()}}
    assert temperature.at_its_best(read, "warm", "equal").tolist() == [10, 20, 10, 20]
    assert temperature.at_its_best(read, "warm", "equal", falls=True).tolist() == [0, 30, 0, 30]


def test_a_protocol_is_one_family_and_so_are_all_budgets(found: dict[str, Any]) -> None:
    stop, budgets = against(found, "stopped"), within_budgets(found)
    assert list(stop) == [way for way in stopped.STARTS if way != "cold"]
    assert list(budgets) == [(way, budget) for way in stop for budget in (5, 40)]
    for way, interval in stop.items():
        gap = accuracy(found, way, "stopped") - accuracy(found, "cold", "stopped")
        assert interval.estimate == pytest.approx(gap.mean())
    for (way, budget), interval in budgets.items():
        both = (accuracy(found, name, "budget", epochs=budget) for name in (way, "cold"))
        assert interval.estimate == pytest.approx(np.subtract(*both).mean())
    by_accuracy = against(found, "again", rule="accuracy", base="warm")
    assert "cold" in by_accuracy and "warm" not in by_accuracy
