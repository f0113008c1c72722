"""Sweeps: a lane is a run of its own, however the lanes are cut and spread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import ROOT
from wsp.lab import employees, retraining
from wsp.lab.results import load_json
from wsp.lab.retraining import ARMS, ARTICLE, MAX_SEED, run_arms
from wsp.lab.statistics import mean_interval
from wsp.studies.__main__ import main
from wsp.studies.engine import run
from wsp.studies.parts import Content
from wsp.studies.sweep import (
    COMPARISONS,
    QUANTILES,
    STUDY,
    Sweep,
    accuracies,
    as_text,
    intervals,
    mean_curves,
    paired,
    summarize,
)


@pytest.fixture
def pinned() -> Content:
    return STUDY.specification(seeds=5)


@pytest.fixture
def fresh() -> Content:
    return STUDY.specification(seeds=3, tables=3, test_rows=60, label_noise=0.1)


def lanes(content: Content) -> Content:
    """All of a sweep that must not depend on how it was run."""
    return {key: content[key] for key in ("pairs", "correct", "curves", "specification")}


@pytest.mark.usefixtures("short_arms")
@pytest.mark.parametrize("which", ["pinned", "fresh"])
@pytest.mark.parametrize("size", [1, 2])
def test_chunks_do_not_matter(which: str, size: int, request: pytest.FixtureRequest) -> None:
    spec = request.getfixturevalue(which)

    class InOthers(Sweep):
        chunk = size

    assert lanes(run(InOthers(), spec)) == lanes(run(STUDY, spec))


@pytest.mark.usefixtures("short_arms")
@pytest.mark.parametrize("which", ["pinned", "fresh"])
def test_a_lane_is_a_run_of_its_own(which: str, request: pytest.FixtureRequest) -> None:
    spec = request.getfixturevalue(which)
    found = run(STUDY, spec)
    for lane, (number, seed) in enumerate(found["pairs"]):
        if number == 0:
            train, test = employees.load_train(), employees.load_test()
        else:
            train = employees.encode(employees.draw(200, 2 * number, 0.1))
            test = employees.encode(employees.draw(60, 2 * number + 1, 0.1))
        alone = run_arms(train, test, seed)
        assert {key: counts[lane] for key, counts in found["correct"].items()} == {
            key: result.test.correct for key, result in alone.items()
        }


@pytest.mark.usefixtures("short_arms")
def test_curves_sum_the_counts(fresh: Content) -> None:
    found = run(STUDY, fresh)
    assert list(found["curves"]) == [members[0].key for members in retraining.runs(ARMS.values())]
    for key, counts in found["correct"].items():
        curve = next(
            found["curves"][arms[0].key] for arms in retraining.runs(ARMS.values()) if ARMS[key] in arms
        )
        assert curve["epoch"] == [epoch for epoch in (1, 2, 5, 10) if epoch <= curve["epoch"][-1]]
        at = curve["epoch"].index(ARMS[key].epochs)
        assert curve["sum"][at] == sum(counts)
        assert curve["squares"][at] == sum(count**2 for count in counts)


def test_memory_is_bounded_by_the_chunk() -> None:
    """However many lanes are asked for, no more are alive than a chunk for each core."""
    units = STUDY.units(STUDY.specification(seeds=10_000), None)
    assert max(map(len, STUDY.chunks(units, workers=2))) == STUDY.chunk == 200


# ---------------------------------------------------------------- the command

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "WSP_PROGRESS": "1"}


def test_the_command_at_full_length(tmp_path: Path) -> None:
    """Two seeds of the book's table, by hand as a reader types it."""
    words = "wsp.studies sweep --seeds 2 --arms article --json --out s.json"
    done = subprocess.run(
        [sys.executable, "-m", *words.split()], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    summary, content = json.loads(done.stdout), load_json(tmp_path / "s.json")
    assert list(summary["arms"]) == list(content["correct"]) == list(ARTICLE)
    assert summary["unit"] == "seed" and summary["specification"] == content["specification"]
    assert content["provenance"]["command"] == f"python -m {words}"
    for key, counts in content["correct"].items():
        assert summary["arms"][key]["mean"] == pytest.approx(100 * sum(counts) / 80)
    last = done.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("sweep: 100%") and "1.20M/1.20M" in last and "sample/s" in last


def test_a_terminal_that_lacks_a_sign_gets_the_table_all_the_same(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "wsp.studies", "sweep", "--seeds", "1", "--arms", "initial"]
    done = subprocess.run(
        words, cwd=tmp_path, env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"1 tables")


def test_two_processes_give_the_same_lanes(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = "sweep --seeds 5 --arms initial --out s.json".split()
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "wsp.studies", *words],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    alone = run(STUDY, STUDY.specification(seeds=5, arms=["initial"]))
    assert lanes(load_json(tmp_path / "s.json")) == lanes(alone)


@pytest.mark.parametrize(
    "words, complaint",
    [
        ("--seeds 0", "seeds must be a positive integer, not 0"),
        ("--seeds -3", "seeds must be a positive integer, not -3"),
        (f"--seeds {MAX_SEED + 2}", "the seed must be an integer from 0 to"),
        ("--tables 0", "tables must be a positive integer, not 0"),
        ("--test-rows 0", "test_rows must be a positive integer, not 0"),
        ("--label-noise 1.5", "label_noise must be from 0 to 1, not 1.5"),
        ("--learning-rate nan", "learning_rate must be positive, not nan"),
        ("--arms sideways", "unknown arm 'sideways': choose from initial, cold, warm"),
    ],
)
def test_a_bad_request_ends_in_one_line(
    words: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *words.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and complaint in printed.err and printed.err.count("\n") == 1


def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--seeds", "1", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---------------------------------------------------------------- the summary


def sweep_of(correct: dict[str, list[int]], tables: int, rows: int) -> Content:
    seeds = len(next(iter(correct.values()))) // tables
    return {
        "pairs": [[1000 + table, seed] for table in range(tables) for seed in range(seeds)],
        "correct": correct,
        "specification": {"test_rows": rows},
    }


def test_accuracies_are_tables_by_seeds() -> None:
    numbers, found = accuracies(sweep_of({"cold": [10, 20, 30, 40, 0, 5]}, tables=2, rows=40))
    assert numbers.tolist() == [1000, 1001]
    assert found["cold"].tolist() == [[25, 50, 75], [100, 0, 12.5]]


def test_an_unfinished_sweep_is_refused() -> None:
    sweep = sweep_of({"cold": [10, 20, 30, 40]}, tables=2, rows=40)
    sweep["pairs"][1][0] = 1001
    with pytest.raises(ValueError, match="unfinished"):
        accuracies(sweep)


def test_pairs_over_tables() -> None:
    """Seeds are averaged within a table first; three tables win, one ties, one loses."""
    gaps = np.array([[3.0, 1.0], [2.0, 4.0], [5.0, -1.0], [1.0, -1.0], [-2.0, 1.0]])
    base = np.full((5, 2), 60.0)
    found = paired(base + gaps, base)
    expected = mean_interval([2.0, 3.0, 2.0, 0.0, -0.5])
    assert (found["win"], found["tie"], found["loss"]) == (0.6, 0.2, 0.2)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )


def test_pairs_over_seeds_of_one_table() -> None:
    found = paired(np.array([[60.0, 65.0, 70.0, 62.5]]), np.array([[60.0, 60.0, 72.5, 60.0]]))
    expected = mean_interval([0.0, 5.0, -2.5, 2.5])
    assert (found["win"], found["tie"], found["loss"]) == (0.5, 0.25, 0.25)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    alone = paired(np.array([[60.0]]), np.array([[50.0]]))
    assert alone["mean"] == 10.0 and "low" not in alone


def test_a_tie_is_a_tie_whatever_the_rounding() -> None:
    """Gaps of +k, +m, -k-m rows of 2,000 sum to zero; their percentages need not."""
    random = np.random.default_rng(7)
    counts = random.integers(1200, 1600, (500, 4))
    gaps = random.integers(-20, 20, (500, 4))
    gaps[:, 3] -= gaps.sum(axis=1)
    found = paired(100.0 * counts / 2000, 100.0 * (counts - gaps) / 2000)
    assert (found["win"], found["tie"], found["loss"]) == (0, 1, 0)


def test_summary() -> None:
    random = np.random.default_rng(8)
    correct = {key: random.integers(20, 35, 12).tolist() for key in ARMS}
    found = summarize(sweep_of(correct, tables=3, rows=40))
    assert (found["unit"], found["tables"], found["seeds"]) == ("table", 3, 4)
    assert list(found["arms"]) == list(ARMS)
    values = 100 * np.array(correct["warm"]) / 40
    warm = found["arms"]["warm"]
    assert (warm["mean"], warm["sd"]) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert warm["quantiles"] == pytest.approx({str(q): np.quantile(values, q) for q in QUANTILES})
    assert list(found["paired"]) == [f"{first} - {second}" for first, second in COMPARISONS]
    gap = found["paired"]["cold - warm"]["mean"]
    assert gap == pytest.approx((np.array(correct["cold"]) - correct["warm"]).mean() * 100 / 40)

    text = as_text(found)
    assert all(key in text for key in ARMS) and f"{gap:+.2f}" in text
    assert "unit: the table\n" in text
    one = as_text(summarize(sweep_of(correct, tables=1, rows=40)))
    assert "unit: the seed (conditional on this one table)" in one


def test_summary_of_a_single_run() -> None:
    found = summarize(sweep_of({"cold": [30], "warm": [28]}, tables=1, rows=40))
    assert found["arms"]["cold"] == {
        "mean": 75.0,
        "sd": None,
        "quantiles": dict.fromkeys(map(str, QUANTILES), 75.0),
    }
    assert found["paired"] == {"cold - warm": {"mean": 5.0, "win": 1.0, "tie": 0.0, "loss": 0.0}}
    assert "cold - warm" in as_text(found)


def test_comparisons_name_arms() -> None:
    assert {arm for pair in COMPARISONS for arm in pair} <= set(ARMS)


def test_a_setting_has_one_family_of_intervals() -> None:
    """One interval for each comparison, around the paired mean, and wider than one alone."""
    random = np.random.default_rng(9)
    correct = {key: random.integers(20, 35, 80).tolist() for key in ARMS}
    found = sweep_of(correct, tables=20, rows=40)
    together, alone = intervals(found), summarize(found)["paired"]
    assert list(together) == [f"{first} - {second}" for first, second in COMPARISONS]
    for name, interval in together.items():
        assert interval.estimate == pytest.approx(alone[name]["mean"])
        assert interval.low < alone[name]["low"] and interval.high > alone[name]["high"]


@pytest.mark.usefixtures("short_arms")
def test_mean_curves_end_at_the_accuracies(fresh: Content) -> None:
    found = run(STUDY, fresh)
    percent, curves = accuracies(found)[1], mean_curves(found)
    assert set(curves) == set(found["curves"])
    for run_, curve in curves.items():
        assert max(curve) in found["curves"][run_]["epoch"]
    last = max(curves["cold"])
    assert curves["cold"][last] == pytest.approx(percent["cold"].mean())
