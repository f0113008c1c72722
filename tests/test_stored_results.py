"""A slice of every stored sweep is run again and must give the stored counts."""

from __future__ import annotations

from typing import Any

import pytest

from wsp.results import stored
from wsp.statistics import FRESH_CELLS, accuracies
from wsp.sweep import fresh_tables, specification, sweep

SWEEPS = [f"fresh_noise_{noise}_rate_{rate}" for noise, rate in FRESH_CELLS]
# Runs that take a third of the time of all; what goes wrong in one goes wrong in these.
ARMS = ["initial", "cold_500", "shrink_perturb"]


def rerun(found: dict[str, Any], pairs: list[tuple[int, int]], arms: list[str]) -> None:
    """Train these pairs again; compare with what is stored for them."""
    spec = found["specification"]
    again = sweep(
        specification(
            spec["seeds"],
            spec["tables"],
            arms=arms,
            test_rows=spec["test_rows"],
            label_noise=spec["label_noise"] or 0.0,
            learning_rate=spec["learning_rate"],
        ),
        pairs=pairs,
    )
    places = [found["pairs"].index(list(pair)) for pair in pairs]
    for arm in arms:
        assert again["correct"][arm] == [found["correct"][arm][place] for place in places], arm


@pytest.mark.parametrize("name", SWEEPS)
def test_a_slice_of_the_fresh_tables_is_reproduced(name: str) -> None:
    found = stored(name)
    last = fresh_tables(found["specification"]["tables"])[-1]
    rerun(found, [(last, seed) for seed in range(4)], ARMS)


def test_a_slice_of_the_pinned_seeds_is_reproduced() -> None:
    pairs = [(0, seed) for seed in (1, 5000, 9999)]
    rerun(stored("pinned_table_seeds"), pairs, ["initial", "shrink_perturb"])


@pytest.mark.parametrize("name", [*SWEEPS, "pinned_table_seeds"])
def test_a_stored_sweep_is_whole_and_says_where_it_comes_from(name: str) -> None:
    found = stored(name)
    spec = found["specification"]
    tables, accuracy = accuracies(found)
    assert len(tables) == (spec["tables"] or 1)
    assert all(values.shape == (len(tables), spec["seeds"]) for values in accuracy.values())
    assert set(accuracy) == set(spec["arms"])
    assert {"command", "code", "torch", "device", "processor", "seconds", "date"} <= set(
        found["provenance"]
    )


def test_the_evidence_is_as_large_as_the_design_asks() -> None:
    for name in SWEEPS:
        spec = stored(name)["specification"]
        assert spec["tables"] >= 500 and spec["seeds"] >= 4 and spec["test_rows"] >= 2000
    assert stored("pinned_table_seeds")["specification"]["seeds"] >= 10_000


def test_the_fresh_tables_took_no_part_in_the_selection() -> None:
    searched = {record["table"] for record in stored("table_search")["log"]}
    assert not searched & set(fresh_tables(500))
