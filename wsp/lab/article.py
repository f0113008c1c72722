"""The article's figures as one object: all arms with one seed, printed, stored, compared with the book's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from wsp.lab import employees
from wsp.lab.network import save_network
from wsp.lab.results import modules_of, provenance, save_json, stored
from wsp.lab.retraining import ARMS, ARTICLE, SEED, Result, run_arms

LOSS_TOLERANCE = 1e-9  # nats; what every machine we tried keeps


def device_named(name: str) -> str:
    """Resolve ``auto``; refuse CUDA where there is none."""
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        if torch.backends.mps.is_available():
            print("Apple's MPS has no float64: training on the CPU", file=sys.stderr)
        return "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this PyTorch sees no CUDA device; use --device cpu")
    return name


def record(result: Result) -> dict[str, Any]:
    """One arm's figures as they go to JSON."""
    return {
        "correct": result.test.correct,
        "of": result.test.of,
        "accuracy": result.test.accuracy,
        "epochs": result.arm.epochs,
        "train_loss": result.train.loss,
        "train_accuracy": result.train.accuracy,
        "test_loss": result.test.loss,
        "seconds": round(result.seconds, 3),
    }


def describe(results: dict[str, Result], seed: int, device: str) -> dict[str, Any]:
    """All arms' figures, as ``--json`` prints them."""
    records = {key: record(result) for key, result in results.items()}
    return {
        "figures": {key: records[key] for key in ARTICLE},
        "controls": {key: records[key] for key in records if key not in ARTICLE},
        "seed": seed,
        "device": device,
        "dtype": "float64",
        "torch": torch.__version__,
    }


def print_article(found: dict[str, Any]) -> None:
    """The table a person reads."""
    print(f"seed {found['seed']}, {found['device']}, {found['dtype']}, torch {found['torch']}\n")
    print(
        f"{'arm':20s} {'correct':>8s} {'accuracy':>9s} {'article':>8s} {'epochs':>7s} "
        f"{'train loss':>11s} {'seconds':>8s}"
    )
    for key, line in (found["figures"] | found["controls"]).items():
        quoted = ARMS[key].quoted
        quote = "" if quoted is None else f"{100 * quoted / employees.TEST_ROWS:.1f} %"
        print(
            f"{key:20s} {line['correct']:3d} of {line['of']} {line['accuracy']:7.1f} % "
            f"{quote:>8s} {line['epochs']:7d} {line['train_loss']:11.4f} {line['seconds']:8.1f}"
        )


def differences(found: dict[str, Any], book: dict[str, Any]) -> list[str]:
    """A line for every arm whose figures are not the book's."""
    lines = []
    for kind in ("figures", "controls"):
        for key, expected in book[kind].items():
            line = found[kind][key]
            apart = abs(line["test_loss"] - expected["test_loss"])
            if line["correct"] != expected["correct"] or not apart <= LOSS_TOLERANCE:
                lines.append(
                    f"{key}: {line['correct']} of {line['of']} correct, test loss "
                    f"{line['test_loss']:.12f}; the book has {expected['correct']} and "
                    f"{expected['test_loss']:.12f}"
                )
    return lines


def check(found: dict[str, Any], as_json: bool) -> bool:
    """Say whether these are the book's numbers, and where not, what differs."""
    book = stored("article")
    lines = differences(found, book)
    if as_json:
        print(json.dumps(found | {"same": not lines, "differences": lines}))
        return not lines
    if not lines:
        print("Yes: every arm gives the book's counts, and its test loss to 1e-9.")
        return True
    print(*lines, "No: the arms above differ.", sep="\n")
    for what in ("torch", "device", "dtype", "seed"):
        if found[what] != book[what]:
            print(f"  {what}: {found[what]} here, {book[what]} in the book")
    if all(found[what] == book[what] for what in ("torch", "device", "dtype", "seed")):
        print("  torch, device, dtype and seed are the book's: please report your processor")
    return False


def run(seed: int | None, device: str, *, as_json: bool, compare: bool) -> int:
    """What ``python -m wsp`` does; its exit code.

    Parameters
    ----------
    seed : int, optional
        Default: the book's.
    device : {"auto", "cpu", "cuda"}
    as_json : bool
        Print one JSON object, nothing else.
    compare : bool
        Say whether these are the book's numbers.
    """
    seed, device = SEED if seed is None else seed, device_named(device)
    found = describe(
        run_arms(employees.load_train(), employees.load_test(), seed, device=device), seed, device
    )
    if compare:
        return 0 if check(found, as_json) else 1
    if as_json:
        print(json.dumps(found))
    else:
        print_article(found)
    return 0


def store(folder: Path) -> None:
    """Write what the book keeps of the pinned run: its figures and its first network."""
    results = run_arms(employees.load_train(), employees.load_test(), SEED)
    seconds = sum(result.seconds for result in results.values())
    source = provenance("python -m wsp store", modules_of("wsp.lab.article"), seconds)
    save_json(folder / "results" / "article.json", describe(results, SEED, "cpu") | {"provenance": source})
    save_network(results["initial"].network, folder / "first_100.pt")
