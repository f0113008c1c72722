"""Does the pinned run give the same figures on every path? python benchmarks/portability.py

Trains the ten arms of the book's seed with `python -m wsp --json` in one process for each
setting of instruction path, threads and math library, and compares with
data/results/article.json. What each setting gave goes to data/results/portability.json as
it comes; settings that today's code has run already are not run again.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from typing import Any

import torch

from wsp.lab.employees import find
from wsp.lab.results import code_hash, load_json, modules_of, provenance, save_json, stored

PATHS = {"the processor's best": None, "AVX2": "avx2", "baseline": "default"}  # of PyTorch
LIBRARIES = {"default": None, "compatible mode": "COMPATIBLE"}  # of MKL
# Each path with either library; one thread and two are offered to every path and library.
ON_X86 = [
    ("the processor's best", "default", 1),
    ("the processor's best", "compatible mode", 2),
    ("AVX2", "default", 2),
    ("AVX2", "compatible mode", 1),
    ("baseline", "default", 1),
    ("baseline", "compatible mode", 2),
]


def settings() -> list[dict[str, Any]]:
    """What to try: on the CPU, and on a CUDA device where there is one."""
    if platform.machine() in ("x86_64", "AMD64"):
        found = [
            {"device": "cpu", "path": path, "library": library, "threads": threads}
            for path, library, threads in ON_X86
        ]
    else:
        found = [{"device": "cpu", "path": platform.machine(), "threads": threads} for threads in (1, 2)]
    if torch.cuda.is_available():
        found.append({"device": "cuda", "path": torch.cuda.get_device_name()})
    return found


def environment(setting: dict[str, Any]) -> dict[str, str]:
    """This environment, with the switches that choose the setting."""
    switches = {
        "ATEN_CPU_CAPABILITY": PATHS.get(setting["path"]),
        "MKL_CBWR": LIBRARIES.get(setting.get("library", "default")),
        "OMP_NUM_THREADS": setting.get("threads"),
        "MKL_NUM_THREADS": setting.get("threads"),
    }
    kept = {name: value for name, value in os.environ.items() if name not in switches}
    return kept | {name: str(value) for name, value in switches.items() if value is not None}


def run(setting: dict[str, Any]) -> dict[str, Any]:
    """What one setting gives, beside what is stored."""
    done = subprocess.run(
        [sys.executable, "-m", "wsp", "--json", "--device", setting["device"]],
        env=environment(setting) | {"WSP_PROGRESS": "0"},
        stdout=subprocess.PIPE,
        check=True,
    )
    here, there = json.loads(done.stdout), stored("article")
    pairs = [(here[kind][arm], there[kind][arm]) for kind in ("figures", "controls") for arm in there[kind]]
    return {
        "arms": len(pairs),
        "same_counts": sum(a["correct"] == b["correct"] for a, b in pairs),
        "largest_loss_difference": max(abs(a["test_loss"] - b["test_loss"]) for a, b in pairs),
    }


def main() -> None:
    path = find("results/portability.json")
    before = load_json(path) if path.is_file() else None
    modules = modules_of("wsp.lab.retraining")
    if before is None or before["provenance"]["code"] != code_hash(modules):
        before = {"rows": [], "provenance": {"seconds": 0.0}}
    rows, seconds = before["rows"], before["provenance"]["seconds"]
    for setting in settings():
        if any(setting.items() <= row.items() for row in rows):
            continue
        start = time.perf_counter()
        rows.append(setting | run(setting))
        seconds += time.perf_counter() - start
        made = provenance("python benchmarks/portability.py", modules, seconds)
        save_json(path, {"rows": rows, "provenance": made})
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
