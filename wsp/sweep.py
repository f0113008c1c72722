"""The arms for many (table, seed) pairs: train, count, store, go on.

Lanes are trained in chunks, one chunk a processor core, so memory stays
bounded. Every finished chunk goes to the file of the sweep at once; the same
command goes on from there. Under ``torchrun`` the chunks are dealt out to the
processes, and the result is the same lane for lane.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm.auto import tqdm

from wsp import employees
from wsp.employees import Table
from wsp.ensemble import Ensemble
from wsp.network import MLP
from wsp.results import load_json, provenance, save_json
from wsp.retraining import OLD_ROWS, Arm, check_seed, find_arms, runs, start_network, stream
from wsp.training import BATCH_SIZE, LEARNING_RATE, progress_wanted

MODULES = ("employees", "ensemble", "network", "perturb", "retraining", "sweep")
CHUNK = 200  # lanes trained side by side: more would leave the cache
CHECKPOINTS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
FORMAT = "wsp sweep 1"

Pair = tuple[int, int]  # table number, seed
Read = Callable[[list[Arm], int, Ensemble], None]


class Stopped(Exception):
    """Raised inside a worker when the sweep was interrupted."""


def train_lanes(
    tables: Sequence[Table],
    pairs: Sequence[Pair],
    arms: Iterable[Arm],
    read: Read,
    *,
    read_at: Iterable[int] = (),
    learning_rate: float = LEARNING_RATE,
    nudge: float = 0.0,
    device: str = "cpu",
    tick: Callable[[int], None] = lambda samples: None,
) -> None:
    """Train every arm for every pair, side by side.

    Parameters
    ----------
    tables : sequence of Table
        Training tables, all of the same number of rows.
    pairs : sequence of (int, int)
        A lane each: the table's number in `tables`, and the seed.
    arms : iterable of Arm
        Which arms. Runs that several arms share are trained once.
    read : callable
        ``read(members, epoch, ensemble)`` is called for every run after each
        epoch of `read_at` and each epoch at which one of its arms is read.
    read_at : iterable of int
        Further epochs at which to read.
    learning_rate : float
        Default 0.05.
    nudge : float
        Added to every random weight; see :func:`wsp.retraining.random_network`.
    device : str
        Default ``"cpu"``.
    tick : callable
        Is told how many training samples have gone by; may raise to stop.

    Examples
    --------
    >>> from wsp.retraining import ARMS
    >>> table, test = employees.load_train(), employees.load_test()
    >>> def read(members, epoch, ensemble):
    ...     print(members[0].key, epoch, len(ensemble.measure(*test)[0]), "lanes")
    >>> short = Arm("short", "fresh", epochs=2)
    >>> train_lanes([table], [(0, seed) for seed in range(3)], [short], read)
    short 2 3 lanes
    """
    read_at = set(read_at)
    rows = len(tables[0].labels)
    stacked = Table(*(torch.cat(columns).to(device) for columns in zip(*tables)))
    first_row = torch.tensor([[table * rows] for table, _ in pairs])
    saved: list[MLP | None] = [None] * len(pairs)
    grouped = runs(arms)

    # The first network, then all others together: they share their batch orders.
    for phase in (
        [members for members in grouped if members[0].start == "first"],
        [members for members in grouped if members[0].start != "first"],
    ):
        if not phase:
            continue
        first = phase[0][0].start == "first"
        n, name = (OLD_ROWS, "first order") if first else (rows, "order")
        orders = [stream(seed, name) for _, seed in pairs]
        ensembles = [
            Ensemble(
                [start_network(members[0], seed, old, nudge) for (_, seed), old in zip(pairs, saved)],
                device,
            )
            for members in phase
        ]
        last = [max(arm.epochs for arm in members) for members in phase]
        for epoch in range(1, max(last) + 1):
            order = torch.stack([torch.randperm(n, generator=generator) for generator in orders])
            order = (order + first_row).to(device)
            for members, ensemble, end in zip(phase, ensembles, last):
                if epoch > end:
                    continue
                ensemble.train_epoch(stacked, order, learning_rate=learning_rate, batch_size=BATCH_SIZE)
                tick(order.numel())
                if epoch in read_at or any(epoch == arm.epochs for arm in members):
                    read(members, epoch, ensemble)
        if first:
            saved = list(ensembles[0].networks())


def in_chunks(items: Sequence[Any], workers: int, size: int = CHUNK) -> list[Sequence[Any]]:
    """Cut into chunks of at most `size` items, all of one length but the last.

    Every worker gets equally many chunks, as far as that goes.

    Examples
    --------
    >>> [len(chunk) for chunk in in_chunks(range(10), workers=3)]
    [4, 4, 2]
    """
    rounds = -(-len(items) // (size * workers))
    length = max(1, -(-len(items) // max(1, rounds * workers)))
    return [items[k : k + length] for k in range(0, len(items), length)]


def run_chunks(
    work: Callable[[Sequence[Any], Callable[[int], None]], Any],
    chunks: Sequence[Sequence[Any]],
    samples: int,
    label: str,
    device: str = "cpu",
) -> Iterator[Any]:
    """Yield ``work(chunk, tick)`` for every chunk, as they finish, one chunk a core.

    Each worker computes on one thread: lanes need nothing of each other, so no
    core ever waits for another. `samples` is what all chunks will tick in sum.
    """
    threads = torch.get_num_threads()
    workers = threads if device == "cpu" else 1
    stop = threading.Event()
    bar = tqdm(total=samples, desc=label, unit="sample", unit_scale=True, disable=not progress_wanted())

    def tick(count: int) -> None:
        if stop.is_set():
            raise Stopped
        bar.update(count)

    pool = ThreadPoolExecutor(workers)
    try:
        torch.set_num_threads(1)
        for future in as_completed([pool.submit(work, chunk, tick) for chunk in chunks]):
            yield future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
        bar.close()


def samples_per_lane(arms: Iterable[Arm], rows: int) -> int:
    """Training samples that one lane meets in all its runs.

    Examples
    --------
    >>> samples_per_lane(find_arms(["initial", "cold", "warm", "shrink_perturb"]), 200)
    600000
    """
    return sum(
        max(arm.epochs for arm in members) * (OLD_ROWS if members[0].start == "first" else rows)
        for members in runs(arms)
    )


def draw_tables(
    numbers: Iterable[int], test_rows: int, label_noise: float
) -> tuple[list[Table], list[Table]]:
    """Training and test tables of these numbers: seeds 2t and 2t + 1 of :func:`employees.draw`."""
    train, test = [], []
    for number in numbers:
        train.append(employees.encode(employees.draw(employees.TRAIN_ROWS, 2 * number, label_noise)))
        test.append(employees.encode(employees.draw(test_rows, 2 * number + 1, label_noise)))
    return train, test


def count_correct(
    chunk: Sequence[Pair],
    tick: Callable[[int], None],
    *,
    arms: Sequence[Arm],
    tables: dict[int, tuple[Table, Table]],
    learning_rate: float,
    device: str,
) -> dict[str, Any]:
    """Train one chunk; count correct test rows by arm, and along every run's curve."""
    numbers = sorted({table for table, _ in chunk})
    position = {table: k for k, table in enumerate(numbers)}
    lanes = torch.tensor([position[table] for table, _ in chunk])
    tests = [tables[table][1] for table in numbers]
    # One table for all lanes needs no copy for each.
    inputs, labels = (
        torch.stack(columns)[lanes if len(numbers) > 1 else 0].to(device) for columns in zip(*tests)
    )
    correct: dict[str, list[int]] = {}
    curves: dict[str, dict[str, list[int]]] = {}

    def read(members: list[Arm], epoch: int, ensemble: Ensemble) -> None:
        counts = ensemble.measure(inputs, labels)[0].cpu()
        for arm in members:
            if arm.epochs == epoch:
                correct[arm.key] = counts.tolist()
        if epoch in CHECKPOINTS:
            curve = curves.setdefault(members[0].key, {"epoch": [], "sum": [], "squares": []})
            curve["epoch"].append(epoch)
            curve["sum"].append(int(counts.sum()))
            curve["squares"].append(int((counts * counts).sum()))

    train_lanes(
        [tables[table][0] for table in numbers],
        [(position[table], seed) for table, seed in chunk],
        arms,
        read,
        read_at=CHECKPOINTS,
        learning_rate=learning_rate,
        device=device,
        tick=tick,
    )
    return {
        "pairs": [list(pair) for pair in chunk],
        "correct": {arm.key: correct[arm.key] for arm in arms},
        "curves": curves,
    }


def merge(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Join the records of several chunks, in order of (table, seed)."""
    parts = list(parts)
    pairs = [pair for part in parts for pair in part["pairs"]]
    by_pair = sorted(range(len(pairs)), key=lambda lane: pairs[lane])
    joined = {key: [count for part in parts for count in part["correct"][key]] for key in parts[0]["correct"]}
    curves = {
        run: {
            "epoch": curve["epoch"],
            **{
                moment: [sum(column) for column in zip(*(p["curves"][run][moment] for p in parts))]
                for moment in ("sum", "squares")
            },
        }
        for run, curve in parts[0]["curves"].items()
    }
    return {
        "pairs": [pairs[lane] for lane in by_pair],
        "correct": {key: [counts[lane] for lane in by_pair] for key, counts in joined.items()},
        "curves": curves,
    }


def specification(
    seeds: int,
    tables: int | None = None,
    *,
    arms: Sequence[str],
    test_rows: int = employees.TEST_ROWS,
    label_noise: float = employees.LABEL_NOISE,
    learning_rate: float = LEARNING_RATE,
) -> dict[str, Any]:
    """What a sweep computes: checked, and all that a stored file must agree with.

    Parameters
    ----------
    seeds : int
        Training seeds 0 to `seeds` - 1 on every table.
    tables : int, optional
        How many fresh tables. Default: the book's pinned table alone, for which
        `test_rows` and `label_noise` are given.
    arms : sequence of str
        Keys of :data:`wsp.retraining.ARMS`.
    test_rows : int
        Test rows drawn with each fresh table.
    label_noise : float
        Of the fresh tables.
    learning_rate : float
        Default 0.05.

    Raises
    ------
    ValueError
        For a number out of range or an unknown arm.

    Examples
    --------
    >>> specification(0, arms=["cold"])
    Traceback (most recent call last):
    ValueError: seeds must be a positive integer, not 0
    """
    for name, number in (("seeds", seeds), ("tables", tables), ("test_rows", test_rows)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"{name} must be a positive integer, not {number!r}")
    check_seed(seeds - 1)
    if not 0 <= label_noise <= 1 or not 0 < learning_rate < float("inf"):
        raise ValueError(
            "label_noise must be from 0 to 1 and learning_rate positive, not "
            f"{label_noise} and {learning_rate}"
        )
    return {
        "format": FORMAT,
        "seeds": seeds,
        "tables": tables,
        "arms": [arm.key for arm in find_arms(arms)],
        "test_rows": test_rows if tables else employees.TEST_ROWS,
        "label_noise": label_noise if tables else None,
        "learning_rate": learning_rate,
    }


def load_sweep(path: str | Path, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a sweep's file; check that it is one, and the one that `spec` describes.

    Raises
    ------
    ValueError
        If the file is damaged, no sweep, or of another specification.
    """
    content: dict[str, Any] = load_json(path)
    found = content.get("specification") if isinstance(content, dict) else None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path}: not a sweep in the format {FORMAT!r} of this version")
    if spec is not None and content["specification"] != spec:
        differ = [key for key in spec | found if spec.get(key) != found.get(key)]
        raise ValueError(
            f"{path}: holds another sweep ("
            + ", ".join(f"{key} {found.get(key)!r}, not {spec.get(key)!r}" for key in differ)
            + "); name another file or move this one away"
        )
    try:
        whole = (
            all(len(content["correct"][key]) == len(content["pairs"]) for key in found["arms"])
            and content["curves"]
            and content["provenance"]["seconds"] >= 0
            and content["provenance"]["code"]
        )
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{path}: parts of the sweep are missing; move this file away")
    return content


def sweep(
    spec: dict[str, Any],
    out: str | Path | None = None,
    *,
    device: str = "cpu",
    command: str = "",
    pairs: Sequence[Pair] | None = None,
) -> dict[str, Any]:
    """Run a sweep, or what is left of it.

    Parameters
    ----------
    spec : dict
        From :func:`specification`.
    out : str or Path, optional
        Where to store it, after every chunk. If the file exists, the sweep goes
        on from it. Default: nowhere.
    device : str
        Default ``"cpu"``.
    command : str
        What re-creates it, for the provenance.
    pairs : sequence of (int, int), optional
        Only these (table, seed) pairs. Default: all of `spec`.

    Returns
    -------
    dict
        ``pairs``, ``correct`` (arm → count for each pair), ``curves`` (run → sum
        and sum of squares of the counts over pairs, at each checkpoint),
        ``specification``, ``provenance``. Under torchrun: on rank 0; elsewhere
        the specification alone.

    Examples
    --------
    >>> found = sweep(specification(2, arms=["initial"]))
    >>> found["pairs"], len(found["correct"]["initial"])
    ([[0, 0], [0, 1]], 2)

    See chapter 6.
    """
    together = dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
    start = time.perf_counter()
    arms = find_arms(spec["arms"])
    if pairs is None:
        numbers = [0] if spec["tables"] is None else fresh_tables(spec["tables"])
        pairs = [(table, seed) for table in numbers for seed in range(spec["seeds"])]

    stored = load_sweep(out, spec) if out is not None and Path(out).exists() else None
    done = {tuple(pair) for pair in stored["pairs"]} if stored else set()
    before = stored["provenance"] if stored else None
    workers = torch.get_num_threads() if device == "cpu" else 1
    if together:  # rank 0 knows the file; the others may be on another host, with other cores
        known: list[Any] = [done, workers]
        dist.broadcast_object_list(known)
        done, workers = known
    left = [pair for pair in pairs if pair not in done]

    def work(chunk: Sequence[Pair], tick: Callable[[int], None]) -> dict[str, Any]:
        tables = tables_of(sorted({table for table, _ in chunk}), spec)
        return count_correct(
            chunk,
            tick,
            arms=arms,
            tables=tables,
            learning_rate=spec["learning_rate"],
            device=device,
        )

    chunks = in_chunks(left, workers * world)
    mine = chunks[rank::world]
    samples = sum(map(len, mine)) * samples_per_lane(arms, employees.TRAIN_ROWS)
    finished = run_chunks(work, mine, samples, "sweep", device)
    total = stored
    for _ in range(-(-len(chunks) // world)):
        parts = [next(finished, None)]
        if together:
            parts = gather(parts[0], world)
        if rank > 0:
            continue
        records = [part for part in parts if part is not None]
        total = merge([*([total] if total else []), *records])
        total["specification"] = spec
        seconds = (before["seconds"] if before else 0.0) + time.perf_counter() - start
        total["provenance"] = provenance(command, MODULES, seconds, device, before) | {"threads": workers}
        if out is not None:
            save_json(out, total)
    return total if total is not None else {"specification": spec}


def gather(part: dict[str, Any] | None, world: int) -> list[dict[str, Any] | None]:
    """Bring one object from every process to rank 0."""
    parts: list[dict[str, Any] | None] = [None] * world
    dist.gather_object(part, parts if dist.get_rank() == 0 else None)
    return parts


FIRST_FRESH = 1000  # tables below this number took part in the selection of the book's table


def fresh_tables(count: int) -> range:
    """The numbers of the first `count` fresh tables."""
    return range(FIRST_FRESH, FIRST_FRESH + count)


def tables_of(numbers: Sequence[int], spec: dict[str, Any]) -> dict[int, tuple[Table, Table]]:
    """Training and test tables by number; number 0 of a pinned sweep is the book's."""
    if spec["tables"] is None:
        return {0: (employees.load_train(), employees.load_test())}
    return dict(zip(numbers, zip(*draw_tables(numbers, spec["test_rows"], spec["label_noise"]))))
