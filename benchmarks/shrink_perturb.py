"""How fast is `shrink_perturb_`, next to its peers and to the least that must be done?

    python benchmarks/shrink_perturb.py                      # a table in Markdown
    python benchmarks/shrink_perturb.py --json result.json   # and the figures in a file
    python benchmarks/shrink_perturb.py --readme result.json # that file's table into benchmarks/README.md

All candidates take turns, round after round, in one process, so that a busy moment of the
machine hits them alike. A time is the least over the rounds; a ratio is of two such times.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from wsp.lab.results import load_json, modules_of, provenance, save_json
from wsp.perturb import perturbed_parameters, shrink_perturb_

FORMAT = "wsp benchmark shrink_perturb 1"
LAMDA, SIGMA = 0.999, 0.001  # the weights stay of ordinary size, however many rounds
LARGE = (4, 2048)  # layers, width: 16.8 million weights
SMALL = (512, 64)  # 2.1 million weights in many small matrices: what a call costs shows
LOOP = (1, 512)  # 262,144 weights
LIMITS = {"floor, CPU": 1.25, "floor, CUDA": 1.5, "loop": 1000.0, "memory": 64.0}


def network(layers: int, width: int, device: str) -> nn.Sequential:
    """A network in float32 with `layers` square matrices."""
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(layers))).to(device)


def ours(net: nn.Module) -> Callable[[], object]:
    return lambda: shrink_perturb_(net, LAMDA, SIGMA)


def floor(net: nn.Module) -> Callable[[], object]:
    """Draw as many normal numbers, into memory made before; read and write each weight once."""
    weights = list(perturbed_parameters(net).values())
    noise = [torch.empty_like(p) for p in weights]

    @torch.no_grad()
    def run() -> None:
        for p, e in zip(weights, noise, strict=True):
            e.normal_()
            p.mul_(LAMDA)

    return run


def plain(net: nn.Module) -> Callable[[], object]:
    """What one would type: two dimensions or more, no checks, noise of the weight's size."""

    @torch.no_grad()
    def run() -> None:
        for p in net.parameters():
            if p.dim() >= 2:
                p.mul_(LAMDA).add_(torch.randn_like(p), alpha=SIGMA)

    return run


def element_loop(net: nn.Module) -> Callable[[], object]:
    """As the article goes about it: one draw and one assignment for every single weight."""

    @torch.no_grad()
    def run() -> None:
        for name, p in net.named_parameters():
            if "weight" in name:
                for row in range(p.shape[0]):
                    for column in range(p.shape[1]):
                        e = torch.normal(0.0, SIGMA, size=(1, 1))
                        p[row][column] = p[row][column] * LAMDA + e

    return run


def physicsnemo(net: nn.Module) -> Callable[[], object] | None:
    """NVIDIA PhysicsNeMo's function, on the same weights, with noise that is not rescaled."""
    function = _physicsnemo_function()
    if function is None:
        return None
    return lambda: function(net, LAMDA, SIGMA, noise="normal", include=lambda name, p: p.dim() >= 2)


def _physicsnemo_function() -> Callable[..., object] | None:
    try:
        from physicsnemo.nn import shrink_and_perturb_  # type: ignore[import-not-found]

        return shrink_and_perturb_  # type: ignore[no-any-return]
    except ImportError:
        pass
    package = importlib.util.find_spec("physicsnemo")  # there, but not all that it imports?
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "nn" / "module" / "utils" / "weight_init.py"
    spec = importlib.util.spec_from_file_location("physicsnemo_weight_init", path)
    if spec is None or spec.loader is None or not path.exists():
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.shrink_and_perturb_  # type: ignore[no-any-return]


def least_seconds(candidates: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """The least time of each candidate over rounds in which they take turns."""

    def seconds(run: Callable[[], object]) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for run in candidates.values():
        run()  # the first call pays for imports and memory
    least = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, run in candidates.items():
            least[name] = min(least[name], seconds(run))
    return least


def extra_megabytes(device: str, dtype: torch.dtype) -> float | None:
    """Peak memory of one call beyond what was held before it, for 64 million weights."""
    net = nn.Linear(8000, 8000, bias=False, device=device, dtype=dtype)
    shrink_perturb_(nn.Linear(9, 9, device=device), LAMDA, SIGMA)  # what the first call loads
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        shrink_perturb_(net, LAMDA, SIGMA)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None

    def kibibytes(key: str) -> int:
        lines = (line for line in status.read_text().splitlines() if line.startswith(key))
        return int(next(lines).split()[1])

    reset.write_text("5")  # forget the peak so far
    before = kibibytes("VmRSS")
    shrink_perturb_(net, LAMDA, SIGMA)
    return (kibibytes("VmHWM") - before) / 1024


def extra_megabytes_in_a_new_process(device: str, dtype: str) -> float | None:
    """The same, where nothing that ran before has left memory to be used again."""
    command = [sys.executable, __file__, "--device", device, "--memory", dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: float | None = json.loads(done.stdout)
    return measured


def measure(device: str, rounds: int) -> dict[str, Any]:
    """Every comparison, as it goes to the file."""
    results: dict[str, Any] = {"skipped": []}
    for key, size in (("large", LARGE), ("small", SMALL)):
        candidates: dict[str, Callable[[], object]] = {}
        for build in (ours, floor, plain, physicsnemo):
            run = build(network(*size, device))
            if run is not None:
                candidates[build.__name__] = run
            elif key == "large":
                results["skipped"].append(f"{build.__name__} is not installed: skipped")
        results[key] = {
            "weights": size[0] * size[1] ** 2,
            "seconds": least_seconds(candidates, rounds, device),
        }
    # The loop goes on the CPU, as the article's does; it takes seconds, so it goes once.
    nets = {"ours": ours(network(*LOOP, "cpu")), "element_loop": element_loop(network(*LOOP, "cpu"))}
    fast = least_seconds({"ours": nets["ours"]}, 5 * rounds, "cpu")
    start = time.perf_counter()
    nets["element_loop"]()
    slow = time.perf_counter() - start
    results["loop"] = {"weights": LOOP[0] * LOOP[1] ** 2, "seconds": {**fast, "element_loop": slow}}
    results["extra_mib"] = {
        dtype: extra_megabytes_in_a_new_process(device, dtype) for dtype in ("float32", "bfloat16", "float64")
    }
    return results


NAMES = {
    "ours": "`wsp.shrink_perturb_`",
    "floor": "floor: `normal_`, one read, one write",
    "plain": "`mul_`, `add_(randn_like)`, no checks",
    "physicsnemo": 'PhysicsNeMo `shrink_and_perturb_(noise="normal")`',
    "element_loop": "the article's loop, element by element",
}


def markdown(result: dict[str, Any]) -> str:
    """The figures as a table, whether each requirement is met, and the machine below."""
    lines = ["| network | candidate | ms | ns a weight | times ours |", "|---|---|--:|--:|--:|"]
    for key, title in (
        ("large", f"{LARGE[0]} matrices of {LARGE[1]} x {LARGE[1]}"),
        ("small", f"{SMALL[0]} matrices of {SMALL[1]} x {SMALL[1]}"),
        ("loop", f"one matrix of {LOOP[1]} x {LOOP[1]}"),
    ):
        n, seconds = result[key]["weights"], result[key]["seconds"]
        for name, value in seconds.items():
            ratio = value / seconds["ours"]
            lines.append(
                f"| {title} | {NAMES[name]} | {value * 1e3:,.2f} | {value / n * 1e9:,.2f} | {ratio:,.2f} |"
            )
    lines += ["", "| requirement | limit | measured | |", "|---|--:|--:|---|"]
    for title, limit, value, met in requirements(result):
        shown = "not measured" if value is None else f"{value:,.2f}"
        lines.append(f"| {title} | {limit} | {shown} | {'met' if met else 'NOT MET'} |")
    made = result["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join(
        [
            *lines,
            "",
            *(f"- {line}" for line in result["skipped"]),
            f"float32; the least of {result['rounds']} rounds. {made['processor']}, "
            f"{made['threads']} threads, {result['capability']}, load {result['load_before']} before; "
            f"Python {made['python']}, {versions}; {made['date']}; code {made['code']}.",
        ]
    )


def requirements(result: dict[str, Any]) -> list[tuple[str, str, float | None, bool]]:
    """What the design asks for: title, limit, what was measured, whether it is met."""
    large, loop = result["large"]["seconds"], result["loop"]["seconds"]
    on_cuda = result["provenance"]["device"] == "cuda"
    limit = LIMITS["floor, CUDA" if on_cuda else "floor, CPU"]
    to_floor, to_loop = large["ours"] / large["floor"], loop["element_loop"] / loop["ours"]
    rows: list[tuple[str, str, float | None, bool]] = [
        ("time, in floors", f"at most {limit}", to_floor, to_floor <= limit),
        ("times faster than the loop", "at least 1,000", to_loop, to_loop >= LIMITS["loop"]),
    ]
    for dtype, value in result["extra_mib"].items():
        met = value is None or value <= LIMITS["memory"]
        rows.append((f"extra memory, {dtype}, MiB", "at most 64", value, met))
    return rows


BEGIN, END = "<!-- shrink_perturb table: begin -->", "<!-- shrink_perturb table: end -->"


def write_readme(result: dict[str, Any], readme: Path) -> None:
    """Put the table between the two marks of `readme`, in place of what is there."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ValueError(f"{readme}: expected one line {BEGIN} and below it one line {END}")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n{markdown(result)}\n{END}{after}")


def load(path: str) -> dict[str, Any]:
    """Read a result that ``--json`` wrote."""
    result = load_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise ValueError(f"{path}: not a result of benchmarks/shrink_perturb.py ({FORMAT!r})")
    return result


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Time shrink_perturb_ against its peers.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=15, help="of each comparison (%(default)s)")
    parser.add_argument("--json", metavar="PATH", help="also write the figures to this file")
    parser.add_argument(
        "--readme", metavar="PATH", help="measure nothing: put this result's table into README.md"
    )
    parser.add_argument("--memory", metavar="DTYPE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        print(json.dumps(extra_megabytes(args.device, getattr(torch, args.memory))))
        return 0
    if args.readme:
        try:
            write_readme(load(args.readme), Path(__file__).with_name("README.md"))
        except (OSError, ValueError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
        return 0
    start, busy = time.perf_counter(), os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result = {"format": FORMAT, "rounds": args.rounds, **measure(args.device, args.rounds)}
    versions = {name: version_of(name) for name in ("torch", "nvidia-physicsnemo")}
    result["versions"] = {name: version for name, version in versions.items() if version}
    result["capability"] = torch.backends.cpu.get_cpu_capability()
    result["load_before"] = busy if busy is None else round(busy, 2)
    command = f"python benchmarks/shrink_perturb.py --device {args.device} --rounds {args.rounds}"
    result["provenance"] = provenance(
        command, modules_of("wsp.perturb"), time.perf_counter() - start, args.device
    )
    if args.json:
        save_json(args.json, result)
    print(markdown(result))
    return 0 if all(met for *_, met in requirements(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
