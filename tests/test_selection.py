"""How the book's table was found: the steps, and a slice of the stored search done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsp import employees, selection
from wsp.__main__ import main
from wsp.results import load_json, stored
from wsp.retraining import ARMS, ARTICLE, SEED, run_arms
from wsp.selection import (
    CONFIRM,
    GAP,
    MOVED,
    TARGET,
    WITHIN,
    best_test_set,
    eligible,
    moved,
    pool_counts,
    search,
    select,
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
    settings = log["settings"]
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
    assert (
        found["seeds"] == [log["settings"]["seeds"], log["settings"]["seeds"] + CONFIRM] and CONFIRM >= 1000
    )
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
        for _ in range(log["settings"]["draws"] // 10_000)
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
def test_pool_counts_are_the_seeds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each pool row and arm: how many seeds get it right, as one run after the other finds."""
    monkeypatch.setattr(selection, "POOL_ROWS", 300)
    counts = pool_counts(5, [2, 3, 9], 0.1, 0.05, ignore)
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
def test_eligible_asks_every_arm_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = employees.load_train(), employees.load_test()
    everything = try_seeds(train, test, [4, 2, 7], 0.05, list(ARMS.values()))
    gaps = np.min(list(everything["gap"].values()), axis=0)
    monkeypatch.setattr(selection, "GAP", np.median(gaps))
    found = eligible(train, test, [4, 2, 7], 0.05)
    assert found["gap"] == pytest.approx(gaps, rel=1e-6)
    assert (found["moved"] > 1e-13).all() and (found["moved"] < MOVED).all()
    assert found["eligible"].tolist() == (gaps == gaps.max()).tolist()
    monkeypatch.setattr(selection, "NUDGE", 1e-6)
    assert not eligible(train, test, [4, 2, 7], 0.05)["eligible"].any()


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
    write_tables({"winner": {"table": 3, "rows": [7, 19_999, 0], "label_noise": 0.2}}, tmp_path)
    assert (tmp_path / "employees_test.csv").read_bytes().count(b"\n") == 4
    assert b"\r" not in (tmp_path / "employees_train.csv").read_bytes()
    assert employees.read(tmp_path / "employees_test.csv").equals(test.astype({"age": int, "income": int}))


# ---------------------------------------------------------------- the whole, in small


@pytest.fixture
def small(short_arms: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A search that takes a second, and that no table can satisfy."""
    monkeypatch.setattr(selection, "POOL_ROWS", 300)
    monkeypatch.setattr(selection, "CONFIRM", 3)
    return {"tables": 3, "seeds": 2, "draws": 10_000, "searches": [(0.05, 0.05), (0.0, 0.02)]}


def in_order(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(log, key=lambda record: (-record["label_noise"], record["table"]))


def test_interrupted_the_same_command_goes_on(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no table held on fresh seeds"):
        select(tmp_path / "whole.json", **small)
    whole = in_order(load_json(tmp_path / "whole.json")["log"])
    assert [(r["label_noise"], r["table"]) for r in whole] == [(0.05, 0), (0.05, 1), (0.05, 2), (0.0, 0)]

    path, save, searched = tmp_path / "halves.json", selection.save_json, []

    def save_then_stop(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(selection, "save_json", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        select(path, **small)
    assert len(load_json(path)["log"]) == 1
    monkeypatch.setattr(selection, "save_json", save)
    monkeypatch.setattr(
        selection, "search", lambda tables, *rest: searched.extend(tables) or search(tables, *rest)
    )
    with pytest.raises(ValueError, match="no table held on fresh seeds"):
        select(path, **small)
    assert in_order(load_json(path)["log"]) == whole
    assert len(searched) == 3


def test_a_finished_selection_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = employees.find("results/table_search.json")
    monkeypatch.setattr(selection, "search", lambda *_: pytest.fail("it was started"))
    before = path.read_bytes()
    assert select(path)["winner"] == load_json(path)["winner"]
    assert path.read_bytes() == before


def test_another_search_s_file_is_left_alone(small: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    with pytest.raises(ValueError, match="no table held"):
        select(path, **small)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds another selection; name another file"):
        select(path, **{**small, "seeds": 3})
    for content in ("[]", '{"figures": {}}', "{", "null"):
        other = tmp_path / "other.json"
        other.write_text(content)
        with pytest.raises(ValueError, match=r"other\.json: "):
            select(other, **small)
        assert other.read_text() == content
    assert path.read_bytes() == before


@pytest.mark.parametrize("word", ["--tables", "--seeds", "--draws"])
@pytest.mark.parametrize("number", ["0", "-1", "few"])
def test_bad_request(
    word: str,
    number: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(selection, "search", lambda *_: pytest.fail("it was started"))
    out = tmp_path / "search.json"
    small = {"--tables": "1", "--seeds": "1", "--draws": "10000", "--out": str(out), word: number}
    try:
        code = main(["select", *(part for pair in small.items() for part in pair)])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert printed.err.count("\n") == 1 and number in printed.err
    assert not out.exists()
