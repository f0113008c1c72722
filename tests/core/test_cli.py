"""`python -m wsp`: the article's figures, the same on every path through the processor."""

from __future__ import annotations

import copy
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import wsp.__main__ as cli
from helpers import ROOT
from wsp.lab import article, employees
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.lanes import train_lanes
from wsp.lab.network import MLP, load_network
from wsp.lab.results import code_hash, modules_of, stored
from wsp.lab.retraining import ARMS, ARTICLE, CONTROLS, SEED, Arm, Result, run_arms
from wsp.studies.selection import GAP, MOVED, NUDGE

COUNTS = {"initial": 24, "cold": 31, "warm": 28, "shrink_perturb": 32}  # the article's, of 40
LOSS_TOLERANCE = 1e-9
# Threads, instruction path and MKL mode, so that each value occurs and each pair of runs differs.
PATHS = {
    "1 thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    "2 threads, AVX2": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "avx2"},
    "1 thread, baseline": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"},
    "2 threads, compatible MKL": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "MKL_CBWR": "COMPATIBLE"},
}


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m wsp` in a process of its own, with its progress bars."""
    switches = {name for path in PATHS.values() for name in path}
    clean = {name: value for name, value in os.environ.items() if name not in switches}
    return subprocess.run(
        [sys.executable, "-m", "wsp", *words],
        capture_output=True,
        text=True,
        env=clean | {"PYTHONPATH": str(ROOT), "WSP_PROGRESS": "1"} | environment,
    )


def asked(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a request, in this process."""
    try:
        code = cli.main(words)
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


# ---------------------------------------------------------------- the figures


@pytest.fixture(scope="module")
def runs() -> dict[str, subprocess.CompletedProcess[str]]:
    """`python -m wsp --json` on every path, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda path: command("--json", "--device", "cpu", **path), PATHS.values())
        return dict(zip(PATHS, done, strict=True))


@pytest.fixture(scope="module")
def found(runs: dict[str, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    return json.loads(runs["1 thread"].stdout)


@pytest.mark.parametrize("path", PATHS)
def test_the_article_s_counts_on_every_path(
    path: str, runs: dict[str, subprocess.CompletedProcess[str]], found: dict[str, Any]
) -> None:
    done = runs[path]
    assert done.returncode == 0, done.stderr
    here = json.loads(done.stdout)
    assert {arm: record["correct"] for arm, record in here["figures"].items()} == COUNTS
    for kind in ("figures", "controls"):
        for arm, record in here[kind].items():
            assert record["correct"] == found[kind][arm]["correct"], arm
            assert abs(record["test_loss"] - found[kind][arm]["test_loss"]) <= LOSS_TOLERANCE, arm
            assert abs(record["train_loss"] - found[kind][arm]["train_loss"]) <= LOSS_TOLERANCE, arm


def test_the_paths_are_taken() -> None:
    """The switches of the test above do something: PyTorch names another path and thread count."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("AVX2 is a path of x86 processors alone")
    code = "import torch; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"

    def printed(path: dict[str, str]) -> str:
        return subprocess.run(
            [sys.executable, "-c", code], env=os.environ | path, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert printed(PATHS["2 threads, AVX2"]) == "AVX2 2"
    assert printed(PATHS["1 thread, baseline"]) in ("DEFAULT 1", "NO AVX 1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_article_s_counts_on_cuda(found: dict[str, Any]) -> None:
    done = command("--json", "--device", "cuda")
    assert done.returncode == 0, done.stderr
    here = json.loads(done.stdout)
    assert here["device"] == "cuda"
    for kind in ("figures", "controls"):
        for arm, record in here[kind].items():
            assert record["correct"] == found[kind][arm]["correct"], arm
            assert abs(record["test_loss"] - found[kind][arm]["test_loss"]) <= LOSS_TOLERANCE, arm


def test_json_is_as_promised_and_alone(
    runs: dict[str, subprocess.CompletedProcess[str]], found: dict[str, Any]
) -> None:
    for done in runs.values():
        assert done.stdout.count("\n") == 1 and done.stdout.startswith("{")
        assert "shrink_perturb_1000" not in done.stdout.split('"controls"')[0]
        assert "epoch" in done.stderr  # the bars go elsewhere
    assert list(found) == ["figures", "controls", "seed", "device", "dtype", "torch"]
    assert list(found["figures"]) == list(ARTICLE) and list(found["controls"]) == list(CONTROLS)
    assert (found["seed"], found["device"], found["dtype"]) == (SEED, "cpu", "float64")
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    for arm, record in (found["figures"] | found["controls"]).items():
        assert list(record) == [
            "correct",
            "of",
            "accuracy",
            "epochs",
            "train_loss",
            "train_accuracy",
            "test_loss",
            "seconds",
        ]
        assert record["of"] == 40 and record["accuracy"] == 100 * record["correct"] / 40
        assert record["epochs"] == ARMS[arm].epochs
        rows = 100 if arm == "initial" else 200
        assert (record["train_accuracy"] * rows / 100) % 1 == pytest.approx(0, abs=1e-9)
        assert 0 < record["train_loss"] < record["test_loss"] and 0 < record["seconds"] < 600


# ---------------------------------------------------------------- the pinned run, seen closely


class Lanes:
    """The pinned run by the ensemble, each arm at its own last epoch."""

    def __init__(self, nudge: float = 0.0) -> None:
        self.networks: dict[str, MLP] = {}
        self.correct: dict[str, int] = {}
        self.loss: dict[str, float] = {}
        train_lanes([employees.load_train()], [(0, SEED)], ARMS.values(), self.read, nudge=nudge)

    def read(self, members: list[Arm], epoch: int, ensemble: Ensemble) -> None:
        for arm in members:
            if arm.epochs == epoch:
                [self.networks[arm.key]] = ensemble.networks()
                correct, loss = ensemble.measure(*employees.load_test())
                self.correct[arm.key], self.loss[arm.key] = int(correct), float(loss)


@pytest.fixture(scope="module")
def lanes() -> Lanes:
    return Lanes()


@pytest.fixture(scope="module")
def nudged() -> dict[str, Result]:
    return run_arms(employees.load_train(), employees.load_test(), SEED, nudge=NUDGE)


def apart(one: MLP, other: MLP) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((p - q).detach().abs().max().item() for p, q in pairs)


def test_the_ensemble_gives_the_same_figures(lanes: Lanes, found: dict[str, Any]) -> None:
    assert {arm: lanes.correct[arm] for arm in COUNTS} == COUNTS
    for arm, record in (found["figures"] | found["controls"]).items():
        assert lanes.correct[arm] == record["correct"]
        assert abs(lanes.loss[arm] - record["test_loss"]) <= LOSS_TOLERANCE


def test_the_pinned_run_is_not_chaotic(lanes: Lanes, nudged: dict[str, Result]) -> None:
    """Eligibility (i): 1e-12 on every initial weight moves no final weight by 1e-8.

    One of the two runs is the ensemble's, so that another order of the same sums counts too.
    """
    assert (NUDGE, MOVED) == (1e-12, 1e-8)
    for arm, result in nudged.items():
        if arm in ("cold_500", "warm_500", "shrink_perturb"):
            continue  # its network trained on to epoch 1000; the next test looks at 500
        assert 0 < apart(lanes.networks[arm], result.network) < MOVED, arm


def test_nor_is_it_at_epoch_500(lanes: Lanes) -> None:
    elsewhere = Lanes(nudge=NUDGE)
    for arm in ARMS:
        assert 0 < apart(lanes.networks[arm], elsewhere.networks[arm]) < MOVED, arm
        assert lanes.correct[arm] == elsewhere.correct[arm]


def test_no_test_row_hangs_by_a_thread(lanes: Lanes) -> None:
    """Eligibility (ii): the two largest logits of every test row are apart by more than 1e-3."""
    assert GAP == 1e-3
    for arm, network in lanes.networks.items():
        top = network(employees.load_test().inputs).detach().topk(2, dim=1).values
        assert (top[:, 0] - top[:, 1]).min() > GAP, arm


# ---------------------------------------------------------------- what the book keeps


def test_the_stored_figures_are_these(found: dict[str, Any], lanes: Lanes) -> None:
    book = stored("article")
    assert {key: book[key] for key in ("seed", "device", "dtype")} == {
        "seed": SEED,
        "device": "cpu",
        "dtype": "float64",
    }
    for kind in ("figures", "controls"):
        for arm, record in book[kind].items():
            for key, value in record.items():
                if key != "seconds":
                    assert found[kind][arm][key] == pytest.approx(value, abs=LOSS_TOLERANCE), (arm, key)
    saved = load_network(employees.find("first_100.pt"))
    assert apart(saved, lanes.networks["initial"]) < 1e-9


def test_check_says_yes(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(article, "run_arms", lambda *_, **__: {})
    monkeypatch.setattr(article, "describe", lambda *_: found)
    assert asked("--check", "--device", "cpu", capsys=capsys) == (
        0,
        "Yes: every arm gives the book's counts, and its test loss to 1e-9.\n",
        "",
    )


@pytest.mark.parametrize("what", ["nothing", "count"])
def test_check_as_json(
    what: str, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = found if what == "nothing" else change(found, what)
    monkeypatch.setattr(article, "run_arms", lambda *_, **__: {})
    monkeypatch.setattr(article, "describe", lambda *_: trained)
    code, printed, complained = asked("--check", "--json", "--device", "cpu", capsys=capsys)
    said = json.loads(printed)
    assert (code, complained) == (int(what == "count"), "")
    assert said["same"] is (what == "nothing") and len(said["differences"]) == code
    assert said["figures"] == trained["figures"]


def change(found: dict[str, Any], what: str) -> dict[str, Any]:
    """The figures of a machine that differs in one respect."""
    other = copy.deepcopy(found)
    warm = other["figures"]["warm"]
    if what == "count":
        warm["correct"] -= 1
    elif what == "loss":
        warm["test_loss"] += 2e-9
    elif what == "broken":
        warm["test_loss"] = float("nan")
    elif what == "control":
        other["controls"]["cold_500"]["correct"] += 1
    else:
        warm["correct"] -= 1
        other[what] = {"seed": SEED + 1, "torch": "2.6.0", "device": "cuda", "dtype": "float32"}[what]
    return other


@pytest.mark.parametrize(
    "what, said",
    [
        ("count", ["warm: 27 of 40 correct", "the book has 28", "please report your processor"]),
        ("loss", ["warm: 28 of 40 correct", "please report your processor"]),
        ("broken", ["warm: 28 of 40 correct", "nan"]),
        ("control", ["cold_500: "]),
        ("seed", [f"seed: {SEED + 1} here, {SEED} in the book"]),
        ("torch", ["torch: 2.6.0 here, 2."]),
        ("device", ["device: cuda here, cpu in the book"]),
        ("dtype", ["dtype: float32 here, float64 in the book"]),
    ],
)
def test_check_says_no_and_why(
    what: str,
    said: list[str],
    found: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(article, "run_arms", lambda *_, **__: {})
    monkeypatch.setattr(article, "describe", lambda *_: change(found, what))
    code, printed, complained = asked("--check", "--device", "cpu", capsys=capsys)
    assert (code, complained) == (1, "")
    assert "No: the arms above differ." in printed and "Yes" not in printed
    assert all(words in printed for words in said), printed
    assert ("shrink_perturb:" in printed) is False  # the arms that agree are not blamed


@pytest.mark.usefixtures("short_arms")
def test_check_of_another_seed_says_no(capsys: pytest.CaptureFixture[str]) -> None:
    """Trained for real, in little."""
    code, printed, _ = asked("--check", "--seed", str(SEED + 1), "--device", "cpu", capsys=capsys)
    assert code == 1 and "No: " in printed and f"seed: {SEED + 1} here" in printed


def test_the_table_for_people(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(article, "run_arms", lambda *_, **__: {})
    monkeypatch.setattr(article, "describe", lambda *_: found)
    code, printed, _ = asked("--device", "cpu", capsys=capsys)
    lines = {line.split()[0]: line for line in printed.splitlines() if line}
    assert code == 0 and set(ARMS) < set(lines)
    for arm, record in (found["figures"] | found["controls"]).items():
        assert f"{record['correct']} of 40" in lines[arm] and f"{record['train_loss']:.4f}" in lines[arm]
        assert lines[arm].count("%") == (2 if arm in ARTICLE else 1)  # the article's figure beside ours
    assert "77.5 %" in lines["cold"] and "1000" in lines["cold"]


@pytest.mark.usefixtures("short_arms")
def test_store_writes_what_check_compares_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked("store", "--folder", str(tmp_path), capsys=capsys) == (0, "", "")
    kept = json.loads((tmp_path / "results" / "article.json").read_text())
    assert kept["provenance"]["command"] == "python -m wsp store"
    assert kept["provenance"]["code"] == code_hash(modules_of("wsp.lab.article"))
    table, test = employees.load_train(), employees.load_test()
    initial = run_arms(table, test, SEED, arms=["initial"])["initial"]
    assert apart(load_network(tmp_path / "first_100.pt"), initial.network) == 0
    monkeypatch.setattr(article, "stored", lambda name: kept)
    assert asked("--check", "--device", "cpu", capsys=capsys)[0] == 0


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--seed", "-1"], "the seed must be an integer from 0 to 858993458, not -1"),
        (["--seed", str(2**40)], "the seed must be an integer"),
        (["--seed", "one"], "'one'"),
        (["--device", "abacus"], "'abacus'"),
        (["--sideways"], "--sideways"),
        (["dance"], "'dance'"),
        pytest.param(
            ["--device", "cuda"],
            "this PyTorch sees no CUDA device; use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_bad_request(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, complained = asked(*words, capsys=capsys)
    assert (code, printed) == (2, "")
    assert complained.count("\n") == 1 and complaint in complained, complained


def test_a_bad_request_from_the_shell() -> None:
    done = command("--seed", "-1")
    complaint = "wsp: the seed must be an integer from 0 to 858993458, not -1\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", complaint)


def test_a_missing_table_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(employees, "find", lambda name: tmp_path / name)
    code, _, complained = asked("--device", "cpu", capsys=capsys)
    assert code == 2 and complained.count("\n") == 1 and "employees_train.csv: no such file" in complained


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = asked("--help", capsys=capsys)
    assert code == 0
    words = ("--json", "--check", "--seed", "--device", "shrink-perturb", "store", "python -m wsp.studies")
    assert all(word in printed for word in words)


def test_apple_s_mps_falls_back_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert article.device_named("auto") == "cpu"
    printed = capsys.readouterr()
    assert printed.out == "" and "no float64: training on the CPU" in printed.err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [article.device_named(name) for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
