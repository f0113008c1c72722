"""How the book's table was found: what the stored search promises, its steps, the whole in small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsp.lab import employees
from wsp.lab.results import load_json, stored
from wsp.lab.retraining import ARMS, ARTICLE, SEED, run_arms
from wsp.studies.engine import run
from wsp.studies.parts import Content
from wsp.studies.selection import (
    GAP,
    MOVED,
    STUDY,
    TARGET,
    WITHIN,
    Selection,
    best_test_set,
    eligible,
    moved,
    pool_counts,
    selected_tables,
    try_seeds,
    write_tables,
)


@pytest.fixture(scope="module")
def log() -> dict[str, Any]:
    return stored("table_search")


def ignore(samples: int) -> None:
    pass


# ---------------------------------------------------------------- the stored search


def test_the_procedure_was_kept(log: dict[str, Any]) -> None:
    """The bounds that DESIGN sets before the search runs."""
    assert TARGET.tolist() == [24, 31, 28, 32] and WITHIN == 0.5
    settings = log["specification"]
    assert settings["tables"] >= 30 and settings["seeds"] >= 200 and settings["draws"] == 10**6
    for label_noise, learning_rate in settings["searches"]:
        here = [
            r for r in log["log"] if (r["label_noise"], r["learning_rate"]) == (label_noise, learning_rate)
        ]
        first = [label_noise, learning_rate] == settings["searches"][0]
        assert sorted(r["table"] for r in here) == list(range(settings["tables"] // (1 if first else 8)))
    competed = [r for r in log["log"] if (r["label_noise"], r["learning_rate"]) == (0.05, 0.05)]
    refused = {r["table"] for r in log["refused"]}
    best = min((r for r in competed if r["table"] not in refused), key=lambda r: r["distance"])
    assert best["table"] == log["winner"]["table"]


def test_the_winner_holds_on_fresh_seeds(log: dict[str, Any]) -> None:
    found, winner = log["confirmation"], log["winner"]
    spec = log["specification"]
    assert found["seeds"] == [spec["seeds"], spec["seeds"] + spec["confirm"]] and spec["confirm"] >= 1000
    for means in (winner["mean_counts"], found["mean_counts"]):
        assert np.abs(means - TARGET).max() <= WITHIN
    assert winner["distance"] == pytest.approx(np.abs(winner["mean_counts"] - TARGET).max(), abs=1e-3)


def test_the_pinned_seed_is_the_smallest_eligible_one(log: dict[str, Any]) -> None:
    pinned = log["pinned"]
    assert SEED == pinned["seed"] == min(pinned["eligible_seeds"])
    assert set(pinned["eligible_seeds"]) <= set(pinned["exact_seeds"])
    assert pinned["moved"] < MOVED == 1e-8 and pinned["gap"] > GAP == 1e-3
    low, high = log["confirmation"]["seeds"]
    exact = [seed for seed in pinned["exact_seeds"] if low <= seed < high]
    assert log["confirmation"]["share_exact"] == pytest.approx(len(exact) / (high - low))


def test_the_winning_rows_were_among_the_draws(log: dict[str, Any]) -> None:
    winner, random = log["winner"], np.random.RandomState(log["winner"]["table"])
    assert len(set(winner["rows"])) == 40
    assert any(
        (random.randint(0, 20_000, (10_000, 40)) == winner["rows"]).all(axis=1).any()
        for _ in range(log["specification"]["draws"] // 10_000)
    )


def test_a_slice_of_the_seeds_gives_the_stored_counts(log: dict[str, Any]) -> None:
    """Which seeds give all four counts; and the mean over 40 others, within four standard errors."""
    exact = log["pinned"]["exact_seeds"]
    others = [seed for seed in range(200, 240) if seed not in exact]
    found = try_seeds(
        employees.load_train(), employees.load_test(), [*exact, *others], 0.05, list(ARTICLE.values())
    )
    counts = np.stack([found["correct"][key] for key in ARTICLE], axis=1)
    assert (counts[: len(exact)] == TARGET).all()
    assert not (counts[len(exact) :] == TARGET).all(axis=1).any()
    stored_means, sd = (np.array(log["confirmation"][key]) for key in ("mean_counts", "sd_counts"))
    assert (np.abs(counts[len(exact) :].mean(axis=0) - stored_means) < 4 * sd / len(others) ** 0.5).all()


# ---------------------------------------------------------------- its steps


@pytest.mark.usefixtures("short_arms")
def test_pool_counts_are_the_seeds_counts() -> None:
    """For each pool row and arm: how many seeds get it right, as one run after the other finds."""
    counts = pool_counts(5, [2, 3, 9], 0.1, 0.05, ignore, pool_rows=300)
    train = employees.encode(employees.draw(200, 10, 0.1))
    pool = employees.encode(employees.draw(300, 11, 0.1))
    expected = np.zeros((300, 4), dtype=int)
    for seed in (2, 3, 9):
        # One arm at a time, so that each network is read at its own last epoch.
        for k, key in enumerate(ARTICLE):
            net = run_arms(train, pool, seed, arms=[key])[key].network
            expected[:, k] += (net(pool.inputs).argmax(dim=1) == pool.labels).numpy()
    assert (counts == expected).all()
    assert 0 < counts.sum() < counts.size * 3


def test_best_test_set_is_the_best_of_its_draws() -> None:
    random = np.random.RandomState(1)
    share = random.random_sample((400, 4)) * 0.3 + TARGET / 40 - 0.2
    found = best_test_set(9, share, draws=20_000)
    assert len(set(found["rows"])) == 40
    means = share[found["rows"]].sum(axis=0)
    assert found["mean_counts"] == pytest.approx(means, abs=1e-3)
    assert found["distance"] == pytest.approx(np.abs(means - TARGET).max(), abs=1e-3)

    draws = np.random.RandomState(9).randint(0, 400, (20_000, 40))
    distinct = [len(set(rows)) == 40 for rows in draws]
    distances = np.abs(share[draws].sum(axis=1) - TARGET).max(axis=1)
    assert found["distance"] == pytest.approx(distances[distinct].min(), abs=1e-3)
    assert distances.min() < distances[distinct].min()  # so repeated rows would have won


@pytest.mark.usefixtures("short_arms", "two_threads")
def test_try_seeds_measures_each_arm_at_its_epoch() -> None:
    """In the order asked for, also when two threads share the seeds."""
    train, test = employees.load_train(), employees.load_test()
    found = try_seeds(train, test, [7, 4, 2], 0.05, list(ARMS.values()))
    for lane, seed in enumerate([7, 4, 2]):
        for key in ARMS:
            result = run_arms(train, test, seed, arms=[key])[key]
            logits = result.network(test.inputs).detach()
            top = logits.topk(2, dim=1).values
            assert found["correct"][key][lane] == result.test.correct
            assert found["gap"][key][lane] == pytest.approx((top[:, 0] - top[:, 1]).min().item(), rel=1e-6)


@pytest.mark.usefixtures("short_arms")
def test_eligible_asks_every_arm_for_both() -> None:
    train, test = employees.load_train(), employees.load_test()
    everything = try_seeds(train, test, [4, 2, 7], 0.05, list(ARMS.values()))
    gaps = np.min(list(everything["gap"].values()), axis=0)
    found = eligible(train, test, [4, 2, 7], 0.05, least_gap=float(np.median(gaps)))
    assert found["gap"] == pytest.approx(gaps, rel=1e-6)
    assert (found["moved"] > 1e-13).all() and (found["moved"] < MOVED).all()
    assert found["eligible"].tolist() == (gaps == gaps.max()).tolist()
    assert not eligible(train, test, [4, 2, 7], 0.05, nudge=1e-6, least_gap=0.0)["eligible"].any()


def test_moved_is_the_largest_change_by_seed() -> None:
    one = [torch.zeros(3, 4, 5), torch.zeros(3, 2, 2)]
    other = [layer.clone() for layer in one]
    other[0][1, 2, 3], other[1][1, 0, 0], other[1][2, 1, 1] = 0.5, -0.75, -0.25
    assert moved(one, other).tolist() == [0, 0.75, 0.25]


def test_selected_tables_are_drawn_as_the_search_drew_them(tmp_path: Path) -> None:
    train, test = selected_tables(3, [7, 19_999, 0], 0.2)
    assert train.equals(employees.draw(200, 6, 0.2))
    pool = employees.draw(20_000, 7, 0.2)
    assert test.to_dict("records") == pool.iloc[[7, 19_999, 0]].to_dict("records")
    winner = {"table": 3, "rows": [7, 19_999, 0], "label_noise": 0.2, "learning_rate": 0.05}
    write_tables({"winner": winner, "specification": {"pool_rows": 20_000}}, tmp_path)
    assert (tmp_path / "employees_test.csv").read_bytes().count(b"\n") == 4
    assert b"\r" not in (tmp_path / "employees_train.csv").read_bytes()
    assert employees.read(tmp_path / "employees_test.csv").equals(test.astype({"age": int, "income": int}))


# ---------------------------------------------------------------- the whole, in small


@pytest.fixture
def small(short_arms: None) -> Content:
    """A search that takes a second, and that no table can satisfy."""
    spec = STUDY.specification(tables=3, seeds=2, draws=10_000, pool_rows=300, confirm=3)
    return spec | {"searches": [[0.05, 0.05], [0.0, 0.02]]}


def in_order(log: list[Content]) -> list[Content]:
    return sorted(log, key=lambda record: (-record["label_noise"], record["table"]))


def test_every_table_tried_is_stored_also_where_none_holds(small: Content, tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    with pytest.raises(ValueError, match="no table held on fresh seeds"):
        run(STUDY, small, path)
    log = in_order(load_json(path)["log"])
    assert [(r["label_noise"], r["table"]) for r in log] == [(0.05, 0), (0.05, 1), (0.05, 2), (0.0, 0)]
    alone = run(STUDY, small, units=[(0.05, 0.05, 1)])["log"]
    assert alone == [log[1]] and len(log[1]["rows"]) == 40
    counts = pool_counts(1, range(2), 0.05, 0.05, ignore, pool_rows=300)
    assert log[1]["pool_accuracy"] == pytest.approx(100 * counts.mean(axis=0) / 2, abs=0.005)


class Told(Selection):
    """Is told which tables hold, instead of the trainings that confirm."""

    def confirm(self, record: Content, *_: Any) -> Content:
        if record["table"] != 1:
            return {"confirmation": {"seeds": [2, 5]}, "pinned": {"seed": 7}}
        return {"table": record["table"], "exact": 0}


def test_the_nearest_table_that_holds_wins(small: Content) -> None:
    """Refused are the nearer ones; another search's tables do not compete, however near."""
    log = [
        {"label_noise": noise, "learning_rate": rate, "table": table, "distance": distance, "rows": [table]}
        for noise, rate, table, distance in (
            (0.0, 0.02, 0, 0.1),
            (0.05, 0.05, 2, 0.3),
            (0.05, 0.05, 0, 0.4),
            (0.05, 0.05, 1, 0.2),
        )
    ]
    found = Told().finish(small, {"log": log})
    assert found["winner"] == log[1] and found["pinned"] == {"seed": 7}
    assert found["refused"] == [{"table": 1, "exact": 0}]
    assert [(r["label_noise"], r["table"]) for r in found["log"]] == [
        (0.05, 0),
        (0.05, 1),
        (0.05, 2),
        (0.0, 0),
    ]
    assert [r.get("rows") for r in found["log"]] == [None, None, [2], None]
    assert all("rows" in record for record in log), "what was handed in is left alone"
    assert STUDY.finish(small, found) is found, "finished: nothing is confirmed again"


@pytest.mark.usefixtures("short_arms")
def test_a_table_that_holds_is_confirmed_with_its_smallest_seed() -> None:
    """Against the trainings themselves, for a target that some seeds reach."""
    spec = STUDY.specification(tables=1, seeds=4, draws=10_000, pool_rows=300, confirm=8)
    record = {"label_noise": 0.05, "learning_rate": 0.05, "table": 3, "rows": list(range(40))}
    train, test = map(employees.encode, selected_tables(3, range(40), 0.05, 300))
    correct = try_seeds(train, test, range(12), 0.05, list(ARTICLE.values()))["correct"]
    counts = np.stack([correct[key] for key in ARTICLE], axis=1)
    assert STUDY.confirm(record, spec).keys() == {"table", "mean_counts", "exact", "eligible"}
    found = STUDY.confirm(record, spec, target=counts[6], within=40)
    fresh = counts[4:]
    assert found["confirmation"]["seeds"] == [4, 12]
    assert found["confirmation"]["mean_counts"] == pytest.approx(fresh.mean(axis=0), abs=1e-3)
    assert found["confirmation"]["share_exact"] == (fresh == counts[6]).all(axis=1).mean() > 0
    exact = np.flatnonzero((counts == counts[6]).all(axis=1)).tolist()
    good = eligible(train, test, exact, 0.05)["eligible"]
    assert found["pinned"]["exact_seeds"] == exact and 6 in exact
    assert found["pinned"]["eligible_seeds"] == [seed for seed, fit in zip(exact, good) if fit]
    assert found["pinned"]["seed"] == found["pinned"]["eligible_seeds"][0]


def test_a_finished_selection_is_not_run_again(tmp_path: Path) -> None:
    path = employees.find("results/table_search.json")
    before = path.read_bytes()
    assert run(STUDY, STUDY.specification(), path)["winner"] == load_json(path)["winner"]
    assert path.read_bytes() == before


def test_what_a_damaged_file_lacks_is_named(log: Content) -> None:
    assert STUDY.missing(log) == []
    without = {name: value for name, value in log.items() if name != "pinned"}
    first = {name: value for name, value in log["log"][0].items() if name != "distance"}
    lacks = [f"table {first['table']}: distance", "pinned"]
    assert STUDY.missing(without | {"log": [first, *log["log"][1:]]}) == lacks


def test_elsewhere_a_table_may_differ_by_what_chaos_makes(log: Content) -> None:
    kept = STUDY.rows(log, [(0.05, 0.05, log["winner"]["table"])])
    [(name, record)] = kept.items()
    near = {name: record | {"rows": [], "pool_accuracy": [a + 0.05 for a in record["pool_accuracy"]]}}
    far = {name: record | {"pool_accuracy": [a + 0.2 for a in record["pool_accuracy"]]}}
    assert list(STUDY.differences(kept, kept, at_home=True)) == []
    assert list(STUDY.differences(kept, near, at_home=True)) != []
    assert list(STUDY.differences(kept, near, at_home=False)) == []
    assert len(list(STUDY.differences(kept, far, at_home=False))) == 1


@pytest.mark.parametrize("name", ["tables", "seeds", "draws", "pool_rows", "confirm"])
@pytest.mark.parametrize("number", [0, -1, 1.5])
def test_bad_request(name: str, number: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, not {number}"):
        STUDY.specification(**{name: number})


def test_a_pool_must_hold_the_test_rows() -> None:
    with pytest.raises(ValueError, match="pool_rows must be at least the 40 test rows, not 39"):
        STUDY.specification(pool_rows=39)
