"""Where the kernel's time goes, and how it scales: python benchmarks/kernel.py [--json PATH] [--memory]

Parts are told by switching them off: orders given instead of drawn, ReLU instead of tanh, counting
instead of training. All variants take turns in one process; a time is the least over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from wsp.lab import employees
from wsp.lab.many.fast import FastEnsemble, orders_of
from wsp.lab.many.lanes import FIRST_FRESH
from wsp.lab.network import MLP
from wsp.lab.results import modules_of, provenance, save_json
from wsp.lab.retraining import stream
from wsp.lab.training import BATCH_SIZE, LEARNING_RATE
from wsp.studies.parts import in_chunks
from wsp.studies.sweep import Sweep

SIZES = (6, 10, 10, 3)
EPOCHS = 5  # of a turn
TABLE = employees.encode(employees.draw(employees.TRAIN_ROWS, 2 * FIRST_FRESH))
ROWS = len(TABLE.labels)


def lanes_of(count: int, activation: str = "tanh") -> FastEnsemble:
    """So many networks, each from a seed of its own."""
    return FastEnsemble(
        [MLP(SIZES, activation, generator=stream(seed, "fresh weights")) for seed in range(count)]
    )


def training(lanes: FastEnsemble, draw: bool) -> Callable[[], None]:
    """Some epochs of these lanes, in orders that are drawn or given."""
    drawer = orders_of([stream(seed, "order") for seed in range(lanes.lanes)])
    given = drawer(ROWS)

    def run() -> None:
        for _ in range(EPOCHS):
            order = drawer(ROWS) if draw else given
            lanes.train_epoch(TABLE, order, learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE)

    run()  # compiled on the first call
    return run


def counting(lanes: FastEnsemble) -> Callable[[], None]:
    """As many rows counted as an epoch trains on: the way forward alone."""

    def run() -> None:
        for _ in range(EPOCHS):
            lanes.measure(*TABLE)

    run()
    return run


def least(variants: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each, the least over the rounds, in which all take turns."""
    found = dict.fromkeys(variants, float("inf"))
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            found[name] = min(found[name], time.perf_counter() - start)
    return found


def parts(rounds: int) -> dict[str, float]:
    """Nanoseconds a sample and network on one thread, with parts switched off."""
    count = Sweep.chunk
    seconds = least(
        {
            "all of it": training(lanes_of(count), draw=True),
            "orders given": training(lanes_of(count), draw=False),
            "orders given, ReLU for tanh": training(lanes_of(count, "relu"), draw=False),
            "counting alone": counting(lanes_of(count)),
            "counting alone, ReLU": counting(lanes_of(count, "relu")),
        },
        rounds,
    )
    return {name: 1e9 * taken / (EPOCHS * count * ROWS) for name, taken in seconds.items()}


def scaling(rounds: int) -> dict[str, dict[str, float]]:
    """Nanoseconds a sample and network, by lanes and threads, orders drawn."""
    found: dict[str, dict[str, float]] = {}
    for count in (100, 1000, 10_000):
        variants = {}
        for threads in (1, 2):
            chunks = in_chunks(range(count), threads, Sweep.chunk)
            jobs = [training(lanes_of(len(chunk)), draw=True) for chunk in chunks]
            pool = ThreadPoolExecutor(threads)
            variants[str(threads)] = lambda pool=pool, jobs=jobs: [
                job.result() for job in [pool.submit(run) for run in jobs]
            ]
        seconds = least(variants, max(2, rounds * 1000 // max(count, 1000)))
        found[str(count)] = {key: 1e9 * taken / (EPOCHS * count * ROWS) for key, taken in seconds.items()}
    return found


def memory() -> float:
    """Peak memory, in MB, of a sweep of ten thousand lanes with the article's arms at full length."""
    words = [sys.executable, "-m", "wsp.studies", "sweep", "--seeds", "10000", "--arms", "article"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="all take turns (%(default)s)")
    parser.add_argument("--memory", action="store_true", help="also the peak of 10,000 lanes; takes minutes")
    parser.add_argument("--json", metavar="PATH", help="also write the result to this file")
    args = parser.parse_args()
    os.environ["WSP_PROGRESS"] = "0"
    torch.set_num_threads(1)
    start, busy = time.perf_counter(), os.getloadavg()[0]
    result = {"parts": parts(args.rounds), "scaling": scaling(args.rounds), "load_before": round(busy, 2)}
    if args.memory:
        result["peak_memory_mb"] = round(memory())
    command = f"python benchmarks/kernel.py --rounds {args.rounds}" + " --memory" * args.memory
    result["provenance"] = provenance(command, modules_of("wsp.lab.many.fast"), time.perf_counter() - start)
    print(json.dumps(result, indent=1))
    if args.json:
        save_json(args.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
