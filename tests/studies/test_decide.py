"""The decision experiment: the book's arms where both have them, its protocols, its choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from wsp.lab.employees import Table
from wsp.lab.many import fast
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.lanes import draw_lanes, fresh_tables
from wsp.lab.results import stored
from wsp.lab.retraining import ARMS, random_network, start_network, stream
from wsp.lab.training import measure, train
from wsp.studies.decide import (
    FIRST_TABLE,
    PROTOCOLS,
    STARTS,
    STUDY,
    accuracy,
    averaged,
    choices,
    contrasts,
    label,
    tiles,
)
from wsp.studies.engine import run

SMALL: dict[str, Any] = {"new_shares": [0.5], "first_epochs": [2], "budgets": [1, 3], "test_rows": 100}


def test_gives_what_the_arms_give() -> None:
    """The starts of chapters 4 and 5, one network at a time, with half and with a quarter of the rows old."""
    spec = STUDY.specification(seeds=1, **SMALL | {"new_shares": [0.5, 0.75], "first_epochs": [1, 2]})
    found = run(STUDY, spec, units=[FIRST_TABLE])["correct"]
    drawn = draw_lanes([FIRST_TABLE], 1, 100, 0.05, own=True)
    table, test = drawn.tables[0], Table(*(column[0] for column in drawn.test))
    for share, rows in ((0.5, 100), (0.75, 50)):
        for first in (1, 2):
            old = random_network(FIRST_TABLE, "first weights")
            old_rows = Table(*(column[:rows] for column in table))
            train(old, old_rows, stream(FIRST_TABLE, "first order"), epochs=first)
            assert found[label("old", share, first)] == [[measure(old, test).correct]]
            for start in STARTS:
                network = start_network(ARMS[start], FIRST_TABLE, old)
                train(network, table, stream(FIRST_TABLE, "order"), epochs=3)
                case = [start, 3] if start == "cold" else [start, share, first, 3]
                assert found[label(*case)] == [[measure(network, test).correct]], case


@pytest.mark.filterwarnings("ignore:without Numba")
def test_old_rows_come_first_and_every_share_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is held out, all on four fifths of the rows."""
    met: list[tuple[int, int]] = []
    monkeypatch.setattr(fast, "AVAILABLE", False)  # compiled code is not seen epoch by epoch
    train = Ensemble.train_epoch

    def spy(self: Any, table: Any, order: torch.Tensor, **options: Any) -> None:
        for lane, rows in enumerate(order):
            met.append((lane, len(rows)))
            length = len(table.labels) // len(order)
            assert sorted(rows.tolist()) == list(range(length * lane, length * lane + len(rows)))
        train(self, table, order, **options)

    monkeypatch.setattr(Ensemble, "train_epoch", spy)
    spec = STUDY.specification(seeds=1, new_shares=[0.1, 0.75], first_epochs=[1], budgets=[1], test_rows=10)
    run(STUDY, spec, tables=2)
    first = [(lane, rows) for rows in (180, 50) for lane in (0, 1)]
    # Cold, and two starts in two cases: on all rows, and without those held out.
    assert met == first + [(0, 200), (1, 200)] * 5 + [(0, 160), (1, 160)] * 5


def test_stopped_within_a_budget_is_the_best_within_it() -> None:
    """As long as patience lasts, stopping and the budget have the same best epoch."""
    found = run(STUDY, STUDY.specification(**SMALL), tables=3)
    for rule in ("loss", "accuracy"):
        for start in ("cold", "warm 0.5 2", "shrink_perturb 0.5 2"):
            assert found["stopped"][rule][start] == found["budget"][rule][label(start, 3)]
            assert 1 <= np.min(found["epoch"][rule][start]) <= np.max(found["epoch"][rule][start]) <= 3
            assert np.unique(found["spent"][rule][start]).tolist() == [3]
    # A budget of one epoch leaves no choice.
    assert found["budget"]["loss"]["cold 1"] == found["budget"]["accuracy"]["cold 1"]


def invented(cold: list[int], warm: list[int], trick: list[int]) -> dict[str, Any]:
    """One case, one budget, counts of 100 by table."""
    spec = STUDY.specification(seeds=1, new_shares=[0.5], first_epochs=[9], budgets=[5], test_rows=100)
    return {
        "tables": list(range(len(cold))),
        "specification": spec,
        "correct": {
            name: [[count] for count in counts]
            for name, counts in (
                ("cold 5", cold),
                ("old 0.5 9", [0] * len(cold)),
                ("warm 0.5 9 5", warm),
                ("shrink_perturb 0.5 9 5", trick),
            )
        },
    }


def test_the_best_is_chosen_on_one_half_and_judged_on_the_other() -> None:
    """Warm wins by luck on the tables that choose; the others take it back."""
    noise = np.random.default_rng(0).integers(-2, 3, (3, 40))
    cold, warm, trick = (60 + noise).tolist()
    lucky = [count + 10 for count in warm[:20]] + [count - 10 for count in warm[20:]]
    (choice,) = choices(invented(cold, lucky, trick))
    assert (choice.new_share, choice.first_epochs, choice.budget) == (0.5, 9, 5)
    assert choice.best == "warm"
    assert all(lead.high < 0 for lead in choice.leads.values())
    assert choice.as_good == ["cold", "shrink_perturb"]

    (choice,) = choices(invented(cold, [count + 10 for count in warm], [count + 7 for count in trick]))
    assert choice.best == "warm" and choice.as_good == [] and choice.runner_up == "shrink_perturb"
    assert choice.leads["cold"].low > 5 > choice.leads["shrink_perturb"].high


def test_every_protocol_has_choices_of_its_own() -> None:
    cold, warm, trick = ([count + k for k in range(10)] * 2 for count in (50, 60, 55))
    found = invented(cold, warm, trick)
    swapped = invented(warm, cold, trick)["correct"]
    found["budget"] = {"loss": swapped, "accuracy": found["correct"]}
    ends = {name.removesuffix(" 5"): counts for name, counts in swapped.items()}
    found["stopped"] = {"loss": ends, "accuracy": ends}
    best = {protocol: [choice.best for choice in choices(found, protocol)] for protocol in PROTOCOLS}
    assert best == {"fixed": ["warm"], "budget": ["cold"], "stopped": ["cold"]}
    assert choices(found, "budget", "accuracy")[0].best == "warm"
    assert "warm" in STUDY.as_text(found)


def test_averages_and_contrasts() -> None:
    """Over all shares of new rows; a contrast is a difference of averages."""
    found = stored("decided")
    shares = found["specification"]["new_shares"]
    each = [accuracy(found, "warm", share, 200, 100) for share in shares]
    np.testing.assert_allclose(averaged(found, "warm", 200, 100), np.mean(each, axis=0))
    for protocol, cases in (("fixed", 9), ("budget", 9), ("stopped", 3)):
        family = contrasts(found, protocol)
        assert len(family) == 3 * cases
        for (age, budget, pair), interval in family.items():
            first, second = (averaged(found, start, age, budget, protocol) for start in pair.split(" - "))
            assert interval.low < interval.estimate < interval.high
            assert interval.estimate == pytest.approx((first - second).mean())


def test_tiles_say_who_is_best_where() -> None:
    noise = np.random.default_rng(0).integers(-2, 3, (3, 40))
    cold, warm, trick = (60 + noise).tolist()
    ahead = [count + 10 for count in warm]
    assert tiles(invented(cold, ahead, trick), "fixed", 5) == {(0, 0): (["warm"], "warm")}
    ((able, alone),) = tiles(invented(cold, warm, trick), "fixed", 5).values()
    assert len(able) > 1 and alone is None
    grid = tiles(stored("decided"), "stopped", 500)
    assert set(grid) == {(column, row) for column in range(4) for row in range(3)}


def test_the_stored_result() -> None:
    found = stored("decided")
    spec = found["specification"]
    assert len(found["tables"]) >= 300 and not set(found["tables"]) & set(fresh_tables(1000))
    for start in ("old", *STARTS):
        for share in spec["new_shares"]:
            for epochs in spec["first_epochs"]:
                for budget in [None] if start == "old" else spec["budgets"]:
                    case = [budget] if start == "cold" else [share, epochs, *([budget] if budget else [])]
                    values = accuracy(found, start, *case)
                    assert values.shape == (len(found["tables"]),) and 20 < values.mean() < 90
