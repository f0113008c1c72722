"""The decision experiment: the book's arms where both have them, its choices, its stored result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wsp.decide
from wsp.decide import FIRST_TABLE, STARTS, accuracy, as_text, choices, decide, label, specification
from wsp.results import stored
from wsp.sweep import fresh_tables, sweep
from wsp.sweep import specification as sweep_specification

TINY = {"new_shares": [0.5], "first_epochs": [2], "budgets": [1, 3], "test_rows": 20}


def test_gives_the_counts_of_the_sweep_where_both_have_them() -> None:
    """Half of the rows new, 1000 epochs before, 500 now: the book's arms, trained by other code."""
    arms = {"initial": "old", "cold_500": "cold", "warm_500": "warm", "shrink_perturb": "shrink_perturb"}
    target = sweep(sweep_specification(1, 1, arms=list(arms), test_rows=2000), pairs=[(FIRST_TABLE, 0)])
    spec = specification(1, 1, new_shares=[0.5], first_epochs=[1000], budgets=[500])
    found = decide(spec)["correct"]
    for arm, start in arms.items():
        case = {"old": (0.5, 1000), "cold": (500,)}.get(start, (0.5, 1000, 500))
        assert found[label(start, *case)] == target["correct"][arm], arm


def test_old_rows_come_first_and_every_share_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[tuple[int, int]] = []
    train = wsp.decide.Ensemble.train_epoch

    def spy(self: Any, table: Any, order: Any, **options: Any) -> None:
        for lane, rows in enumerate(order):
            met.append((lane, len(rows)))
            assert sorted(rows.tolist()) == list(range(200 * lane, 200 * lane + len(rows)))
        train(self, table, order, **options)

    monkeypatch.setattr(wsp.decide.Ensemble, "train_epoch", spy)
    decide(specification(2, 1, new_shares=[0.1, 0.75], first_epochs=[1], budgets=[1], test_rows=10))
    first = [(lane, rows) for rows in (180, 50) for lane in (0, 1)]
    assert met == first + [(0, 200), (1, 200)] * 5  # cold, and two starts in two cases


def test_goes_on_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsp.decide, "CHUNK", 1)
    spec = specification(3, 2, **TINY)
    whole = decide(spec)
    out = tmp_path / "found.json"
    decide(spec, out, tables=[FIRST_TABLE + 2])
    monkeypatch.setattr(wsp.decide, "CHUNK", 25)
    found = decide(spec, out)
    for key in ("tables", "correct", "specification"):
        assert found[key] == whole[key]
    with pytest.raises(ValueError, match="holds something else"):
        decide(specification(3, 1, **TINY), out)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"new_shares": [0.0]}, "share of new rows .* not 0.0"),
        ({"new_shares": [1.0]}, "share of new rows .* not 1.0"),
        ({"budgets": [0]}, "epochs must be at least 1, not 0"),
        ({"test_rows": 0}, "test_rows must be at least 1, not 0"),
    ],
)
def test_refuses_numbers_out_of_range(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        specification(2, 2, **options)


def invented(cold: list[int], warm: list[int], trick: list[int]) -> dict[str, Any]:
    """One case, one budget, counts of 100 by table."""
    spec = specification(len(cold), 1, new_shares=[0.5], first_epochs=[9], budgets=[5], test_rows=100)
    return {
        "tables": list(range(len(cold))),
        "specification": spec,
        "correct": {
            "cold 5": cold,
            "old 0.5 9": [0] * len(cold),
            "warm 0.5 9 5": warm,
            "shrink_perturb 0.5 9 5": trick,
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
    assert "warm" in as_text(invented(cold, warm, trick))


def test_a_slice_of_the_stored_result_is_reproduced() -> None:
    """The last table, the smallest old half, few epochs: a second instead of minutes."""
    found = stored("decision")
    spec = found["specification"]
    share, epochs, budget = max(spec["new_shares"]), min(spec["first_epochs"]), spec["budgets"][:2]
    again = decide(
        specification(
            spec["tables"],
            spec["seeds"],
            new_shares=[share],
            first_epochs=[epochs],
            budgets=budget,
            test_rows=spec["test_rows"],
        ),
        tables=found["tables"][-1:],
    )
    assert len(again["correct"]) == 1 + 3 * len(budget)
    for key, counts in again["correct"].items():
        assert counts == found["correct"][key][-1:], key


def test_the_stored_result_is_whole_and_its_tables_served_for_nothing_else() -> None:
    found = stored("decision")
    spec = found["specification"]
    assert len(found["tables"]) == spec["tables"] >= 100
    assert not set(found["tables"]) & set(fresh_tables(1000))
    for start in ("old", *STARTS):
        for share in spec["new_shares"]:
            for epochs in spec["first_epochs"]:
                for budget in [None] if start == "old" else spec["budgets"]:
                    case = [budget] if start == "cold" else [share, epochs, *([budget] if budget else [])]
                    values = accuracy(found, start, *case)
                    assert values.shape == (len(found["tables"]),) and 20 < values.mean() < 90
    assert {"command", "code", "torch", "device", "processor", "seconds", "date"} <= set(found["provenance"])
