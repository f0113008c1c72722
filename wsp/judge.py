"""Judge the procedure of :mod:`wsp.choose` on fresh tables, where the truth is known.

For every table the whole procedure is run, lane by lane as :func:`wsp.choose.choose` would,
with 500 epochs. What a choice is worth is then looked up in the stored map: there the same
starts were trained on all 200 rows of the same tables and scored on 2,000 others.

A second part shows why rows must be held out of the new ones: there all 200 rows are dealt
out, so that half of the held-out rows are old ones, which the old network has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsp import choose
from wsp.compound import train_epochs
from wsp.employees import LABEL_NOISE, TEST_ROWS, TRAIN_ROWS, Table
from wsp.ensemble import Ensemble
from wsp.grid import cell
from wsp.network import MLP
from wsp.perturb import shrink_perturb_
from wsp.results import load_json, provenance, save_json
from wsp.retraining import ARMS, HALF, LAMDA, OLD_ROWS, SIGMA, random_network, stream
from wsp.sweep import draw_tables, fresh_tables, run_chunks

MODULES = (
    "choose", "compound", "employees", "ensemble", "judge", "network", "perturb", "retraining", "sweep",
)  # fmt: skip
CHUNK = 20  # tables; with five folds each, a hundred lanes side by side
FORMAT = "wsp judge 1"
EARLY = 20  # epochs

Floats = NDArray[np.float64]
SEED = 0  # of the old network, and of the procedure


def name_of(candidate: choose.Candidate) -> str:
    """What the map calls a candidate.

    Examples
    --------
    >>> [name_of(candidate) for candidate in choose.candidates([0.5], [0.01])]
    ['cold', '1, 0', '0.5, 0.01']
    """
    return "cold" if candidate.start == "cold" else cell(candidate.lamda, candidate.sigma)


def old_networks(tables: Sequence[Table], tick: Callable[[int], None]) -> list[MLP]:
    """The network of each table's old rows."""
    stacked = Table(*(torch.cat(columns) for columns in zip(*tables)))
    lanes = torch.arange(len(tables))
    old = Ensemble([random_network(SEED, "first weights") for _ in tables])
    orders = [stream(SEED, "first order") for _ in tables]
    for _ in train_epochs({"old": old}, stacked, lanes, OLD_ROWS, orders, ARMS["initial"].epochs, tick):
        pass
    return old.networks()


def held_out(
    tables: Sequence[Table],
    old: Sequence[MLP],
    tried: Sequence[choose.Candidate],
    folds: Sequence[Tensor],
    read_at: Sequence[int],
    tick: Callable[[int], None],
) -> Iterator[tuple[int, choose.Candidate, Tensor]]:
    """Train every candidate with each fold held out, on all tables side by side.

    Yields
    ------
    int, Candidate, Tensor
        After each epoch of `read_at`: which held-out rows the candidate gets right, (tables,
        folds, rows of a fold) bool.
    """
    rows = torch.arange(TRAIN_ROWS)
    rest = [rows[~torch.isin(rows, fold)] for fold in folds]
    stacked = Table(*(torch.cat([column[r] for column in columns for r in rest]) for columns in zip(*tables)))
    inputs, labels = (torch.stack([c[f] for c in columns for f in folds]) for columns in zip(*tables))
    runs = [SEED * len(folds) + number for _ in tables for number in range(len(folds))]
    saved = [network for network in old for _ in folds]

    def start(candidate: choose.Candidate, network: MLP, run: int) -> MLP:
        if candidate.start == "cold":
            return random_network(run, "fresh weights")
        copied = Ensemble([network]).networks()[0]
        return shrink_perturb_(copied, candidate.lamda, candidate.sigma, generator=stream(run, "noise"))

    ensembles = {
        candidate: Ensemble([start(candidate, network, run) for network, run in zip(saved, runs)])
        for candidate in tried
    }
    orders = [stream(run, "order") for run in runs]
    named = {name_of(candidate): ensemble for candidate, ensemble in ensembles.items()}
    lanes, length = torch.arange(len(runs)), len(rest[0])
    for epoch in train_epochs(named, stacked, lanes, length, orders, max(read_at), tick):
        if epoch in read_at:
            for candidate, ensemble in ensembles.items():
                right = ensemble.logits(inputs).argmax(dim=1) == labels
                yield epoch, candidate, right.view(len(tables), len(folds), -1)


def judge_chunk(
    numbers: Sequence[int], tick: Callable[[int], None], spec: Mapping[str, Any]
) -> dict[str, Any]:
    """Run the procedure on these tables, and the wrong one with three candidates."""
    tables, _ = draw_tables(numbers, TEST_ROWS, LABEL_NOISE)
    old = old_networks(tables, tick)
    tried = choose.candidates(spec["lamdas"], spec["sigmas"])
    new_folds = [OLD_ROWS + fold for fold in choose.split(TRAIN_ROWS - OLD_ROWS, spec["folds"], SEED)]
    correct = {
        name_of(candidate): right.sum(dim=2).tolist()
        for _, candidate, right in held_out(tables, old, tried, new_folds, [spec["epochs"]], tick)
    }
    all_folds = choose.split(TRAIN_ROWS, spec["folds"], SEED)
    is_old = torch.stack(all_folds) < OLD_ROWS
    leak: dict[str, dict[str, dict[str, list[int]]]] = {"early": {}, "end": {}}
    three, read_at = choose.candidates([LAMDA], [SIGMA]), [spec["early"], spec["epochs"]]
    for epoch, candidate, right in held_out(tables, old, three, all_folds, read_at, tick):
        leak["early" if epoch == spec["early"] else "end"][name_of(candidate)] = {
            "old": (right & is_old).sum(dim=(1, 2)).tolist(),
            "new": (right & ~is_old).sum(dim=(1, 2)).tolist(),
        }
    return {"tables": list(numbers), "correct": correct, "leak": leak}


def specification(
    tables: int,
    *,
    lamdas: Sequence[float] = choose.LAMDAS,
    sigmas: Sequence[float] = choose.SIGMAS,
    folds: int = choose.FOLDS,
    epochs: int = HALF,
    early: int = EARLY,
) -> dict[str, Any]:
    """What is computed: checked, and all that a stored file must agree with.

    Parameters
    ----------
    tables : int
        The first fresh tables, one seed each.
    lamdas, sigmas, folds
        As for :func:`wsp.choose.choose`.
    epochs, early : int
        Epochs of training, and after how many the second part is read a first time.

    Raises
    ------
    ValueError
        If `tables` is below 1, the folds are not of equal size, or `early` is not below `epochs`.

    Examples
    --------
    >>> specification(1, folds=3)
    Traceback (most recent call last):
    ValueError: folds must divide 100 rows, not 3
    """
    if tables < 1:
        raise ValueError(f"tables must be at least 1, not {tables}")
    if folds < 2 or (TRAIN_ROWS - OLD_ROWS) % folds:
        raise ValueError(f"folds must divide {TRAIN_ROWS - OLD_ROWS} rows, not {folds}")
    if not 0 < early < epochs:
        raise ValueError(f"early must be from 1 to below epochs, {epochs}, not {early}")
    return {
        "format": FORMAT,
        "tables": tables,
        "lamdas": list(lamdas),
        "sigmas": list(sigmas),
        "folds": folds,
        "epochs": epochs,
        "early": early,
    }


def judge(
    spec: Mapping[str, Any],
    out: str | Path | None = None,
    *,
    command: str = "",
    tables: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Run the procedure on all tables, or on what is left of them.

    Parameters
    ----------
    spec : dict
        From :func:`specification`.
    out : str or Path, optional
        Where to store it, after every chunk. If the file exists, the run goes on
        from it. Default: nowhere.
    command : str
        What re-creates it, for the provenance.
    tables : sequence of int, optional
        Only these table numbers. Default: all of `spec`.

    Returns
    -------
    dict
        ``tables``, their numbers. ``correct``: candidate → a list over the tables, the correct
        rows of each fold. ``leak``: ``early`` and at the ``end``, for cold, warm and the article's
        pair, where all rows were dealt out: a list over the tables of the correct ``old`` and
        ``new`` held-out rows (100 each). ``specification``, ``provenance``.

    See chapter 8.
    """
    start = time.perf_counter()
    found: dict[str, Any] = {"tables": [], "correct": {}, "leak": {}, "provenance": None}
    if out is not None and Path(out).exists():
        found = load_json(out)
        if not isinstance(found, dict) or found.get("specification") != spec:
            raise ValueError(f"{out}: holds something else; name another file or move this one away")
    before = found["provenance"]
    wanted = fresh_tables(spec["tables"]) if tables is None else tables
    left = [number for number in wanted if number not in found["tables"]]
    chunks = [left[k : k + CHUNK] for k in range(0, len(left), CHUNK)]
    candidates = len(choose.candidates(spec["lamdas"], spec["sigmas"]))
    kept = (spec["folds"] - 1) / spec["folds"]
    rows = candidates * (OLD_ROWS + kept * (TRAIN_ROWS - OLD_ROWS)) + 3 * kept * TRAIN_ROWS
    a_table = OLD_ROWS * ARMS["initial"].epochs + spec["folds"] * rows * spec["epochs"]
    samples = round(len(left) * a_table)
    for part in run_chunks(partial(judge_chunk, spec=spec), chunks, samples, "judge"):
        found = merge(found, part)
        seconds = (before["seconds"] if before else 0.0) + time.perf_counter() - start
        found |= {"specification": spec, "provenance": provenance(command, MODULES, seconds, before=before)}
        if out is not None:
            save_json(out, found)
    return found


def merge(found: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Join a chunk to what is there, in order of the tables."""
    tables = [*found["tables"], *part["tables"]]
    order = sorted(range(len(tables)), key=tables.__getitem__)

    def join(before: Sequence[Any], now: Sequence[Any]) -> list[Any]:
        values = [*before, *now]
        return [values[k] for k in order]

    return {
        "tables": [tables[k] for k in order],
        "correct": {
            name: join(found["correct"].get(name, []), counts) for name, counts in part["correct"].items()
        },
        "leak": {
            when: {
                name: {
                    rows: join(found["leak"][when][name][rows] if found["tables"] else [], counts)
                    for rows, counts in both.items()
                }
                for name, both in names.items()
            }
            for when, names in part["leak"].items()
        },
    }


def chosen(found: Mapping[str, Any], folds: int) -> list[str]:
    """What the procedure would choose on each table, if it looked at so many of its folds.

    The most accurate candidate; of equals the first, where cold and warm come before the pairs.

    Examples
    --------
    >>> chosen({"correct": {"cold": [[3, 5]], "1, 0": [[4, 1]]}}, folds=1)
    ['1, 0']
    >>> chosen({"correct": {"cold": [[3, 5]], "1, 0": [[4, 1]]}}, folds=2)
    ['cold']
    """
    names = list(found["correct"])
    counts = np.array([np.array(found["correct"][name])[:, :folds].sum(axis=1) for name in names])
    return [names[place] for place in counts.argmax(axis=0)]


def worth(grid: Mapping[str, Any], tables: Sequence[int], choices: Sequence[str]) -> Floats:
    """What these choices give on the same tables of the map, in percent, one value a table."""
    spec = grid["specification"]
    place = {number: k for k, number in enumerate(grid["tables"])}
    counts = [grid["correct"][name][place[number]] for number, name in zip(tables, choices)]
    percent: Floats = 100 * np.array(counts, dtype=float) / (spec["seeds"] * spec["test_rows"])
    return percent


def as_text(found: Mapping[str, Any]) -> str:
    """How often the procedure chooses each candidate, for people."""
    choices = chosen(found, found["specification"]["folds"])
    lines = [f"chosen on {len(choices)} tables"]
    return "\n".join([*lines, *(f"{name:12s}{choices.count(name):5d}" for name in found["correct"])])
