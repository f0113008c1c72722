"""Cold, warm, or shrink and perturb: by what is old, what is new, and what training may cost.

Three things vary on the same fresh tables: the share of the rows that are new, how long the
old network was trained on the old ones, and how long it is trained now, on all of them. A
finished chunk of tables goes to the file at once; the same command goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsp import employees
from wsp.employees import TRAIN_ROWS, Table
from wsp.ensemble import Ensemble
from wsp.network import MLP
from wsp.results import load_json, provenance, save_json
from wsp.retraining import ARMS, start_network, stream
from wsp.statistics import Interval, simultaneous
from wsp.sweep import draw_tables, run_chunks
from wsp.training import BATCH_SIZE, LEARNING_RATE

MODULES = ("decide", "employees", "ensemble", "network", "perturb", "retraining", "sweep")
STARTS = ("cold", "warm", "shrink_perturb")
NEW_SHARES = (0.10, 0.25, 0.50, 0.75)  # of the 200 rows
FIRST_EPOCHS = (50, 200, 1000)  # of the old network, on the old rows
BUDGETS = (20, 100, 500)  # epochs on all rows
FIRST_TABLE = 3000  # these tables served for nothing else
CHUNK = 25  # tables
FORMAT = "wsp decide 1"

Floats = NDArray[np.float64]


def specification(
    tables: int,
    seeds: int,
    *,
    new_shares: Sequence[float] = NEW_SHARES,
    first_epochs: Sequence[int] = FIRST_EPOCHS,
    budgets: Sequence[int] = BUDGETS,
    test_rows: int = 2000,
) -> dict[str, Any]:
    """What is computed: checked, and all that a stored file must agree with.

    Parameters
    ----------
    tables, seeds : int
        So many fresh tables, seeds 0 to `seeds` - 1 on each.
    new_shares : sequence of float
        Shares of the table's 200 rows that are new, between 0 and 1.
    first_epochs, budgets : sequence of int
        Epochs of the old network, and epochs at which a retraining is read; ascending.
    test_rows : int
        Drawn anew with every table. Default 2000.

    Raises
    ------
    ValueError
        For a number out of range.

    Examples
    --------
    >>> specification(2, 4, new_shares=[1.0])
    Traceback (most recent call last):
    ValueError: a share of new rows must leave old ones and be above 0, not 1.0
    """
    numbers = {"tables": tables, "seeds": seeds, "test_rows": test_rows}
    for name, number in [*numbers.items(), *(("epochs", n) for n in (*first_epochs, *budgets))]:
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
    for share in new_shares:
        if not 0 < old_rows(share) < TRAIN_ROWS:
            raise ValueError(f"a share of new rows must leave old ones and be above 0, not {share}")
    return {
        "format": FORMAT,
        **numbers,
        "new_shares": list(new_shares),
        "first_epochs": sorted(first_epochs),
        "budgets": sorted(budgets),
        "label_noise": employees.LABEL_NOISE,
        "learning_rate": LEARNING_RATE,
    }


def old_rows(new_share: float) -> int:
    """How many of the 200 rows are old.

    Examples
    --------
    >>> old_rows(0.75)
    50
    """
    return TRAIN_ROWS - round(new_share * TRAIN_ROWS)


def train_chunk(
    numbers: Sequence[int], tick: Callable[[int], None], spec: Mapping[str, Any]
) -> dict[str, Any]:
    """Train everything on these tables; correct test rows, added up over the seeds of a table."""
    train, test = draw_tables(numbers, spec["test_rows"], spec["label_noise"])
    pairs = [(place, seed) for place in range(len(numbers)) for seed in range(spec["seeds"])]
    lanes = torch.tensor([place for place, _ in pairs])
    inputs, labels = (torch.stack(columns)[lanes] for columns in zip(*test))
    stacked = Table(*(torch.cat(columns) for columns in zip(*train)))

    def fit(ensembles: Mapping[str, Ensemble], rows: int, name: str, read_at: Sequence[int]) -> Iterator[int]:
        """Train all in the same orders; stop after each epoch of `read_at` to say so."""
        orders = [stream(seed, name) for _, seed in pairs]
        for epoch in range(1, max(read_at) + 1):
            order = torch.stack([torch.randperm(rows, generator=generator) for generator in orders])
            order += lanes[:, None] * TRAIN_ROWS
            for ensemble in ensembles.values():
                ensemble.train_epoch(
                    stacked, order, learning_rate=spec["learning_rate"], batch_size=BATCH_SIZE
                )
                tick(order.numel())
            if epoch in read_at:
                yield epoch

    def count(ensemble: Ensemble) -> list[int]:
        counts: list[int] = ensemble.measure(inputs, labels)[0].view(len(numbers), -1).sum(dim=1).tolist()
        return counts

    def started(key: str, saved: Sequence[MLP | None]) -> Ensemble:
        return Ensemble([start_network(ARMS[key], seed, old) for (_, seed), old in zip(pairs, saved)])

    nothing = [None] * len(pairs)
    starts: dict[str, Ensemble] = {"cold": started("cold", nothing)}
    correct: dict[str, list[int]] = {}
    for share in spec["new_shares"]:
        old = started("initial", nothing)
        for epoch in fit({"old": old}, old_rows(share), "first order", spec["first_epochs"]):
            correct[label("old", share, epoch)] = count(old)
            for key in ("warm", "shrink_perturb"):
                starts[label(key, share, epoch)] = started(key, old.networks())
    for epoch in fit(starts, TRAIN_ROWS, "order", spec["budgets"]):
        correct |= {label(key, epoch): count(ensemble) for key, ensemble in starts.items()}
    return {"tables": list(numbers), "correct": correct}


def label(*parts: object) -> str:
    """What a count is called: the start, its case unless it is cold, and the epochs of now.

    Examples
    --------
    >>> label("warm", 0.5, 1000, 20), label("cold", 20), label("old", 0.5, 1000)
    ('warm 0.5 1000 20', 'cold 20', 'old 0.5 1000')
    """
    return " ".join(map(str, parts))


def samples(spec: Mapping[str, Any]) -> int:
    """Training samples of one lane.

    Examples
    --------
    >>> samples(specification(1, 1, new_shares=[0.5], first_epochs=[10], budgets=[20]))
    13000
    """
    first = sum(map(old_rows, spec["new_shares"])) * max(spec["first_epochs"])
    starts = 1 + 2 * len(spec["new_shares"]) * len(spec["first_epochs"])
    return int(first + starts * TRAIN_ROWS * max(spec["budgets"]))


def decide(
    spec: Mapping[str, Any],
    out: str | Path | None = None,
    *,
    command: str = "",
    tables: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Compute the experiment, or what is left of it.

    Parameters
    ----------
    spec : dict
        From :func:`specification`.
    out : str or Path, optional
        Where to store it, after every chunk. If the file exists, the run goes on from it.
        Default: nowhere.
    command : str
        What re-creates it, for the provenance.
    tables : sequence of int, optional
        Only these table numbers. Default: all of `spec`.

    Returns
    -------
    dict
        ``tables``, their numbers; ``correct``, by :func:`label`: a list over the tables, each the
        sum of the correct test rows over its seeds; ``specification``, ``provenance``.

    Raises
    ------
    ValueError
        If the file holds something else.

    Examples
    --------
    >>> small = specification(1, 1, new_shares=[0.5], first_epochs=[1], budgets=[1], test_rows=10)
    >>> sorted(decide(small)["correct"])
    ['cold 1', 'old 0.5 1', 'shrink_perturb 0.5 1 1', 'warm 0.5 1 1']

    See chapter 13.
    """
    start = time.perf_counter()
    found: dict[str, Any] = {"tables": [], "correct": {}, "specification": spec, "provenance": None}
    if out is not None and Path(out).exists():
        found = load_json(out)
        if not isinstance(found, dict) or found.get("specification") != spec:
            raise ValueError(f"{out}: holds something else; name another file or move this one away")
    before = found["provenance"]
    wanted = range(FIRST_TABLE, FIRST_TABLE + spec["tables"]) if tables is None else tables
    left = [number for number in wanted if number not in found["tables"]]
    chunks = [left[k : k + CHUNK] for k in range(0, len(left), CHUNK)]
    total = len(left) * spec["seeds"] * samples(spec)
    for part in run_chunks(partial(train_chunk, spec=spec), chunks, total, "decide"):
        found = merge(found, part)
        seconds = (before["seconds"] if before else 0.0) + time.perf_counter() - start
        found["provenance"] = provenance(command, MODULES, seconds, before=before)
        if out is not None:
            save_json(out, found)
    return found


def merge(found: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Join a chunk to what is there, in order of the tables."""
    tables = [*found["tables"], *part["tables"]]
    order = sorted(range(len(tables)), key=tables.__getitem__)
    joined = {key: [*found["correct"].get(key, []), *counts] for key, counts in part["correct"].items()}
    return {
        **found,
        "tables": [tables[k] for k in order],
        "correct": {key: [counts[k] for k in order] for key, counts in joined.items()},
    }


def accuracy(found: Mapping[str, Any], *parts: object) -> Floats:
    """Test accuracy in percent, one value a table; `parts` as for :func:`label`."""
    spec = found["specification"]
    rows = spec["seeds"] * spec["test_rows"]
    percent: Floats = np.array(found["correct"][label(*parts)], dtype=float) * (100 / rows)
    return percent


@dataclass(frozen=True)
class Choice:
    """How to start in one case and with one budget.

    Attributes
    ----------
    new_share, first_epochs, budget
        The case, and epochs on all rows.
    best : str
        The start with the highest mean on the tables that choose.
    leads : dict
        Each other start → the lead of `best` over it, in points, on the tables that report.
    """

    new_share: float
    first_epochs: int
    budget: int
    best: str
    leads: dict[str, Interval]

    @property
    def as_good(self) -> list[str]:
        """Starts that the chosen one is not shown to beat."""
        return [other for other, lead in self.leads.items() if lead.low <= 0]

    @property
    def runner_up(self) -> str:
        """The start that comes nearest, on the tables that report."""
        return min(self.leads, key=lambda other: self.leads[other].estimate)


def choices(found: Mapping[str, Any]) -> list[Choice]:
    """The best start in every case, with every budget.

    It is chosen on half of the tables and its leads are reported on the other half, with
    intervals that hold for all of them at once.

    Raises
    ------
    ValueError
        If there are fewer than ten tables.

    Examples
    --------
    >>> from wsp.results import stored
    >>> choices(stored("decision"))[0].budget
    20

    See chapter 13.
    """
    spec, half = found["specification"], len(found["tables"]) // 2
    best: dict[tuple[float, int, int], str] = {}
    leads: dict[str, Floats] = {}
    for budget in spec["budgets"]:
        for share in spec["new_shares"]:
            for epochs in spec["first_epochs"]:
                values = {
                    key: accuracy(found, *([key, budget] if key == "cold" else [key, share, epochs, budget]))
                    for key in STARTS
                }
                winner = max(STARTS, key=lambda key: values[key][:half].mean())
                best[share, epochs, budget] = winner
                for other in STARTS:
                    if other != winner:
                        leads[label(other, share, epochs, budget)] = (values[winner] - values[other])[half:]
    intervals = simultaneous(leads)
    return [
        Choice(*case, winner, {o: intervals[label(o, *case)] for o in STARTS if o != winner})
        for case, winner in best.items()
    ]


def as_text(found: Mapping[str, Any]) -> str:
    """The choices as a table for people."""
    spec = found["specification"]
    lines = [
        f"{len(found['tables'])} tables × {spec['seeds']} seeds, conditional on tables like these",
        f"{'epochs now':>10s} {'new rows':>9s} {'old epochs':>11s}  {'best start':16s} lead over",
    ]
    for c in choices(found):
        leads = "; ".join(f"{other} {lead}" for other, lead in c.leads.items())
        lines.append(f"{c.budget:10d} {c.new_share:9.0%} {c.first_epochs:11d}  {c.best:16s} {leads}")
    return "\n".join(lines)
