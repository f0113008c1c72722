"""Sweeps: cut, killed, continued or spread over processes, they give the same lanes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from wsp import employees, retraining, sweep
from wsp.__main__ import main
from wsp.results import code_hash, load_json, made_by_todays_code, save_json
from wsp.retraining import ARMS, ARTICLE, MAX_SEED, run_arms

# The command line with short arms and chunks of SIZE. Each process counts other cores, as hosts may;
# STOP names a signal that it sends to itself once the first chunk is stored.
DRIVER = """
import dataclasses, functools, os, signal, sys, threading
import torch
from wsp import retraining, sweep
from wsp.__main__ import main

for key, arm in retraining.ARMS.items():
    retraining.ARMS[key] = dataclasses.replace(arm, epochs=arm.epochs // 100)
sweep.in_chunks = functools.partial(sweep.in_chunks, size=int(os.environ.get("SIZE", 2)))
torch.set_num_threads(1 + int(os.environ.get("RANK", 0)))

if "STOP" in os.environ:
    save, number = sweep.save_json, getattr(signal, os.environ["STOP"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def save_then_stop(path, content):
        save(path, content)
        if number == signal.SIGKILL:
            os.kill(os.getpid(), number)
        threading.Timer(0.02, os.kill, (os.getpid(), number)).start()

    sweep.save_json = save_then_stop

sys.exit(main())
"""
SEEDS = 25
REQUEST = ("sweep", "--seeds", str(SEEDS), "--json")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("driver") / "driver.py"
    path.write_text(DRIVER)
    return path


def start(
    driver: Path, out: Path, processes: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the request in one process, or under torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes else []), driver, *REQUEST, "--out", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WSP_PROGRESS": "0"} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def uninterrupted(driver: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The file and the printed summary of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "sweep.json"
    done = start(driver, out)
    assert (done.returncode, done.stderr) == (0, "")
    content = load_json(out)
    assert content["pairs"] == [[0, seed] for seed in range(SEEDS)]
    return content, done.stdout


def lanes(content: dict[str, Any]) -> dict[str, Any]:
    """All of a sweep that must not depend on how it was run."""
    return {key: content[key] for key in ("pairs", "correct", "curves", "specification")}


# ---------------------------------------------------------------- stopped and continued


@pytest.mark.parametrize("signal, code", [("SIGKILL", -9), ("SIGINT", 130)])
def test_stopped_and_continued(
    signal: str, code: int, driver: Path, uninterrupted: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    out = tmp_path / "sweep.json"
    stopped = start(driver, out, STOP=signal)
    assert (stopped.returncode, stopped.stdout) == (code, "")
    if signal == "SIGINT":
        assert stopped.stderr.count("\n") == 1
        assert f"what was finished is in {out}, and the same command goes on" in stopped.stderr
    half = load_json(out)
    assert 0 < len(half["pairs"]) < SEEDS

    done = start(driver, out)
    assert (done.returncode, done.stderr) == (0, "")
    content, printed = uninterrupted
    assert lanes(load_json(out)) == lanes(content)
    assert done.stdout == printed
    assert load_json(out)["provenance"]["seconds"] >= half["provenance"]["seconds"]


@pytest.mark.parametrize("processes", [2, 3])
def test_torchrun_gives_the_same_lanes(
    processes: int, driver: Path, uninterrupted: tuple[dict[str, Any], str], tmp_path: Path
) -> None:
    """Two share all lanes out at once; three go on, chunk by chunk, from somebody's half."""
    out = tmp_path / "sweep.json"
    if processes == 3:
        start(driver, out, STOP="SIGKILL")
        assert 0 < len(load_json(out)["pairs"]) < SEEDS
    done = start(driver, out, processes, SIZE="200" if processes == 2 else "2")
    assert done.returncode == 0, done.stderr
    content, printed = uninterrupted
    assert lanes(load_json(out)) == lanes(content)
    assert done.stdout == printed  # by one process alone


# ---------------------------------------------------------------- lanes and chunks


@pytest.fixture
def pinned() -> dict[str, Any]:
    return sweep.specification(5, arms=list(ARMS))


@pytest.fixture
def fresh() -> dict[str, Any]:
    return sweep.specification(3, 3, arms=list(ARMS), test_rows=60, label_noise=0.1)


@pytest.mark.usefixtures("short_arms")
@pytest.mark.parametrize("which", ["pinned", "fresh"])
def test_chunks_do_not_matter(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = request.getfixturevalue(which)
    whole = sweep.sweep(spec)
    for size in (1, 2):
        monkeypatch.setattr(sweep, "in_chunks", partial(sweep.in_chunks, size=size))
        assert lanes(sweep.sweep(spec)) == lanes(whole)


@pytest.mark.usefixtures("short_arms")
@pytest.mark.parametrize("which", ["pinned", "fresh"])
def test_a_lane_is_a_run_of_its_own(which: str, request: pytest.FixtureRequest) -> None:
    spec = request.getfixturevalue(which)
    found = sweep.sweep(spec)
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
def test_curves_sum_the_counts(fresh: dict[str, Any]) -> None:
    found = sweep.sweep(fresh)
    assert list(found["curves"]) == [members[0].key for members in retraining.runs(ARMS.values())]
    for key, counts in found["correct"].items():
        curve = next(
            found["curves"][arms[0].key] for arms in retraining.runs(ARMS.values()) if ARMS[key] in arms
        )
        assert curve["epoch"] == [epoch for epoch in (1, 2, 5, 10) if epoch <= curve["epoch"][-1]]
        at = curve["epoch"].index(ARMS[key].epochs)
        assert curve["sum"][at] == sum(counts)
        assert curve["squares"][at] == sum(count**2 for count in counts)


@pytest.mark.usefixtures("short_arms")
def test_goes_on_with_what_is_left_and_no_more(
    fresh: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trained, count_correct = tmp_path / "sweep.json", [], sweep.count_correct

    def watched(chunk: Sequence[sweep.Pair], *rest: Any, **options: Any) -> dict[str, Any]:
        trained.extend(chunk)
        return count_correct(chunk, *rest, **options)

    monkeypatch.setattr(sweep, "count_correct", watched)
    whole = sweep.sweep(fresh)
    everything = sorted(trained)
    some = [pair for pair in everything if sum(pair) % 2]
    sweep.sweep(fresh, out, pairs=some)
    trained.clear()
    assert lanes(sweep.sweep(fresh, out)) == lanes(whole)
    assert sorted(trained) == [pair for pair in everything if pair not in some]
    trained.clear()
    finished = out.read_bytes()
    assert lanes(sweep.sweep(fresh, out)) == lanes(whole)
    assert trained == [] and out.read_bytes() == finished


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 5000), st.integers(1, 64), st.integers(1, 300))
def test_chunks_hold_every_item_once(items: int, workers: int, size: int) -> None:
    chunks = sweep.in_chunks(range(items), workers, size)
    assert [item for chunk in chunks for item in chunk] == list(range(items))
    assert all(1 <= len(chunk) <= size for chunk in chunks)
    assert len({len(chunk) for chunk in chunks[:-1]}) <= 1
    assert len(chunks) >= min(items, workers) / 2  # nearly every core has work


@pytest.mark.usefixtures("short_arms")
def test_memory_is_bounded_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lanes are asked for, no more are alive than a chunk for each core."""
    assert max(map(len, sweep.in_chunks(range(10_000), workers=2))) == sweep.CHUNK == 200
    for key in ARMS:
        monkeypatch.setitem(ARMS, key, retraining.Arm(key, "fresh", epochs=1))
    made: list[int] = []

    class Watched(sweep.Ensemble):
        def __init__(self, networks: Sequence[Any], *rest: Any) -> None:
            super().__init__(networks, *rest)
            made.append(self.lanes)

    monkeypatch.setattr(sweep, "Ensemble", Watched)
    found = sweep.sweep(sweep.specification(410, arms=["cold"]))
    assert len(found["pairs"]) == sum(made) == 410
    assert max(made) <= 200


@pytest.mark.usefixtures("short_arms", "two_threads")
def test_threads_and_provenance(pinned: dict[str, Any]) -> None:
    found = sweep.sweep(pinned, command="python -m wsp sweep --seeds 5")
    assert torch.get_num_threads() == 2 == found["provenance"]["threads"]
    assert found["provenance"]["command"] == "python -m wsp sweep --seeds 5"
    assert found["provenance"]["code"] == code_hash(sweep.MODULES)
    assert "earlier_code" not in found["provenance"]


@pytest.mark.usefixtures("short_arms")
def test_going_on_with_other_code_is_noted(pinned: dict[str, Any], tmp_path: Path) -> None:
    whole = sweep.sweep(pinned, tmp_path / "whole.json")
    sweep.sweep(pinned, tmp_path / "parts.json", pairs=[(0, 0), (0, 1)])
    begun = load_json(tmp_path / "parts.json")
    begun["provenance"]["code"] = "0" * 12  # as if the code had changed since
    save_json(tmp_path / "parts.json", begun)
    found = sweep.sweep(pinned, tmp_path / "parts.json")
    assert found["correct"] == whole["correct"]
    assert found["provenance"]["earlier_code"] == ["0" * 12]
    assert not made_by_todays_code(found["provenance"]) and made_by_todays_code(whole["provenance"])


@pytest.mark.usefixtures("short_arms", "two_threads")
def test_an_error_in_a_lane_comes_out(
    pinned: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise FloatingPointError("lane 3")

    monkeypatch.setattr(sweep, "train_lanes", broken)
    with pytest.raises(FloatingPointError, match="lane 3"):
        sweep.sweep(pinned, tmp_path / "sweep.json")
    assert torch.get_num_threads() == 2
    assert not (tmp_path / "sweep.json").exists()


def test_samples_per_lane() -> None:
    """Issue: 600,000 samples a seed for the article's four arms."""
    assert sweep.samples_per_lane(ARTICLE.values(), 200) == 100 * 1000 + 200 * (1000 + 1000 + 500)
    assert sweep.samples_per_lane(ARMS.values(), 200) == 100 * 1000 + 200 * (3 * 1000 + 3 * 500)


# ---------------------------------------------------------------- the command


def test_the_command_at_full_length(tmp_path: Path) -> None:
    """Two seeds of the book's table, by hand as a reader types it."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "wsp",
            "sweep",
            "--seeds",
            "2",
            "--arms",
            "article",
            "--json",
            "--out",
            "s.json",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "WSP_PROGRESS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    summary, content = json.loads(done.stdout), load_json(tmp_path / "s.json")
    assert list(summary["arms"]) == list(content["correct"]) == list(ARTICLE)
    assert summary["unit"] == "seed" and summary["specification"] == content["specification"]
    assert (
        content["provenance"]["command"] == "python -m wsp sweep --seeds 2 --arms article --json --out s.json"
    )
    for key, counts in content["correct"].items():
        assert summary["arms"][key]["mean"] == pytest.approx(100 * sum(counts) / 80)
    last = done.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert last.startswith("sweep: 100%") and "1.20M/1.20M" in last and "sample/s" in last


def asked(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a request."""
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--seeds", "0"], "seeds must be a positive integer, not 0"),
        (["--seeds", "-3"], "seeds must be a positive integer, not -3"),
        (["--seeds", "many"], "'many'"),
        (["--seeds", "1.5"], "'1.5'"),
        (["--seeds", str(MAX_SEED + 2)], str(MAX_SEED)),
        ([], "--seeds"),
        (["--seeds", "2", "--arms", "sideways"], "invalid choice: 'sideways'"),
        (["--seeds", "2", "--tables", "0"], "tables must be a positive integer, not 0"),
        (
            ["--seeds", "2", "--tables", "2", "--test-rows", "-1"],
            "test_rows must be a positive integer, not -1",
        ),
        (["--seeds", "2", "--tables", "2", "--label-noise", "1.5"], "label_noise must be from 0 to 1"),
        (["--seeds", "2", "--learning-rate", "0"], "learning_rate positive"),
        (["--seeds", "2", "--learning-rate", "nan"], "learning_rate positive"),
        (["--seeds", "2", "--sideways"], "--sideways"),
    ],
)
def test_bad_request(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sweep, "sweep", lambda *_, **__: pytest.fail("it was started"))
    out = tmp_path / "sweep.json"
    code, printed, complained = asked("sweep", *words, "--out", str(out), capsys=capsys)
    assert (code, printed) == (2, "")
    assert complained.count("\n") == 1 and complaint in complained, complained
    assert not out.exists()


@pytest.fixture(scope="module")
def stored_sweep(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A finished file of the request `sweep --seeds 2`, its arms cut to an epoch."""
    path = tmp_path_factory.mktemp("stored") / "sweep.json"
    with pytest.MonkeyPatch.context() as patch:
        for key, arm in ARMS.items():
            patch.setitem(ARMS, key, retraining.Arm(key, arm.start, arm.lamda, arm.sigma, epochs=1))
        sweep.sweep(sweep.specification(2, arms=list(ARMS)), path)
    return path.read_bytes()


def damage(kind: str, content: bytes) -> bytes:
    """A file that the request must not go on from."""
    whole = json.loads(content)
    if kind.startswith("cut at"):
        return content[: len(content) * int(kind.split()[-1]) // 100]
    if kind.startswith("without"):
        del whole[kind.split()[-1]]
    for key, value in {
        "other version": ("format", "wsp sweep 0"),
        "other seeds": ("seeds", 3),
        "other rate": ("learning_rate", 0.02),
        "other arms": ("arms", ["cold"]),
        "unknown setting": ("more", 1),
    }.items():
        if kind == key:
            whole["specification"][value[0]] = value[1]
    if kind == "pairs of nonsense":
        whole["pairs"] = 7
    if kind == "counts missing":
        whole["correct"]["warm"].pop()
    if kind == "seconds missing":
        del whole["provenance"]["seconds"]
    others = {
        "a list": [],
        "a number": 3,
        "no specification": {"specification": None},
        "article": {"figures": {}, "controls": {}},
    }
    return json.dumps(others.get(kind, whole)).encode() if kind != "no JSON" else b"seed,correct\n0,24\n"


@pytest.mark.parametrize(
    "kind",
    [
        "cut at 0",
        "cut at 30",
        "cut at 99",
        "no JSON",
        "a list",
        "a number",
        "article",
        "no specification",
        "other version",
        "other seeds",
        "other rate",
        "other arms",
        "unknown setting",
        "without specification",
        "without pairs",
        "without correct",
        "without curves",
        "without provenance",
        "pairs of nonsense",
        "counts missing",
        "seconds missing",
    ],
)
def test_a_file_that_is_not_this_sweep_is_left_alone(
    kind: str, stored_sweep: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep.json"
    out.write_bytes(damage(kind, stored_sweep))
    before = out.read_bytes(), out.stat().st_mtime_ns
    code, printed, complained = asked("sweep", "--seeds", "2", "--out", str(out), capsys=capsys)
    assert (code, printed) == (2, ""), complained
    assert complained.startswith(f"wsp: {out}: ") and complained.count("\n") == 1, complained
    assert (out.read_bytes(), out.stat().st_mtime_ns) == before
    assert list(tmp_path.iterdir()) == [out]


def test_the_undamaged_file_is_this_sweep(
    stored_sweep: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So the refusals above are due to the damage."""
    out = tmp_path / "sweep.json"
    out.write_bytes(stored_sweep)
    code, printed, complained = asked("sweep", "--seeds", "2", "--out", str(out), "--json", capsys=capsys)
    assert (code, complained) == (0, "") and json.loads(printed)["seeds"] == 2


def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, complained = asked("sweep", "--seeds", "2", "--out", str(tmp_path), capsys=capsys)
    assert code == 2 and complained.count("\n") == 1 and str(tmp_path) in complained


def test_the_difference_is_named(stored_sweep: bytes, tmp_path: Path) -> None:
    save_json(tmp_path / "sweep.json", json.loads(stored_sweep))
    with pytest.raises(ValueError, match=r"holds another sweep \(seeds 2, not 3\); name another file"):
        sweep.load_sweep(tmp_path / "sweep.json", sweep.specification(3, arms=list(ARMS)))
