"""Shrink and perturb again and again: what is left of the old network, what piles up of the noise.

The rows of a table arrive a few at a time. In every round each arm starts from its own last
network (cold: from a new one) and is trained on all rows so far, in the same batch orders as
the others. Two kinds of twin measure what compounds. One began with another first network:
the distance between the two says how much the beginning still counts. The other has all the
same but draws other noise: the distance is what the noise of all rounds has become.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsp.employees import LABEL_NOISE, TRAIN_ROWS, Table
from wsp.ensemble import Ensemble
from wsp.grid import cell
from wsp.network import MLP
from wsp.perturb import shrink_perturb_
from wsp.results import load_json, provenance, save_json
from wsp.retraining import stream
from wsp.sweep import draw_tables, fresh_tables, run_chunks
from wsp.training import BATCH_SIZE, LEARNING_RATE

MODULES = ("compound", "employees", "ensemble", "grid", "network", "perturb", "retraining", "sweep")
PAIRS = ((1.0, 0.0), (0.9, 0.01), (0.8, 0.01), (0.6, 0.01), (0.4, 0.01), (0.2, 0.01), (0.6, 0.1), (1.0, 0.1))
TWINS = ((1.0, 0.01), (0.8, 0.01), (0.6, 0.01), (0.4, 0.01))
ROUNDS, EPOCHS, EARLY = 10, 200, 20  # epochs a round, and one at which to read as well
OTHER = 100_000  # added to a seed: what a twin draws of its own
CHUNK = 100  # tables
FORMAT = "wsp compound 1"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One way to go through all rounds.

    Attributes
    ----------
    pair : (float, float) or None
        The lamda and sigma of every round; None is a cold start in every round.
    twin : {"", "first", "noise"}
        What is drawn with another seed than in the line of the same pair.
    """

    pair: tuple[float, float] | None
    twin: str = ""

    @property
    def base(self) -> str:
        """``"cold"`` or a cell such as ``"0.6, 0.01"``: what a twin has in common."""
        return cell(*self.pair) if self.pair else "cold"

    @property
    def key(self) -> str:
        """Its name, which says what is different in a twin."""
        return f"{self.base}, other {self.twin}" if self.twin else self.base

    def streams(self, kind: str, name: str, seeds: Sequence[int]) -> list[torch.Generator]:
        """Generators, one a lane; a twin of this kind has its own."""
        return [stream(seed + OTHER * (self.twin == kind), name) for seed in seeds]


def lines(pairs: Iterable[Sequence[float]], twins: Iterable[Sequence[float]]) -> list[Line]:
    """Cold with a twin, a line for each pair, and for those of `twins` two twins each.

    Examples
    --------
    >>> [line.key for line in lines([(1, 0)], [(1, 0)])]
    ['cold', 'cold, other first', '1, 0', '1, 0, other first', '1, 0, other noise']
    """
    twin_pairs = [(lamda, sigma) for lamda, sigma in twins]
    all_pairs = dict.fromkeys([*((lamda, sigma) for lamda, sigma in pairs), *twin_pairs])
    return [
        Line(None),
        Line(None, "first"),
        *(Line(pair) for pair in all_pairs),
        *(Line(pair, twin) for pair in twin_pairs for twin in ("first", "noise")),
    ]


def train_epochs(
    ensembles: Mapping[str, Ensemble],
    stacked: Table,
    lanes: Tensor,
    rows: int,
    orders: Sequence[torch.Generator],
    epochs: int,
    tick: Callable[[int], None] = lambda samples: None,
) -> Iterator[int]:
    """Train all ensembles side by side in the same orders; yield after every epoch.

    Parameters
    ----------
    ensembles : mapping
        Name → ensemble, a lane for each of `orders`.
    stacked : Table
        All training tables of the lanes, one after the other, of equal length.
    lanes : Tensor
        (lanes,) int64: the place of each lane's table in the stack.
    rows : int
        How many rows of each table to train on, from its first.
    orders : sequence of torch.Generator
        One a lane.
    epochs : int
    tick : callable
        Is told how many training samples have gone by.
    """
    length = len(stacked.labels) // (int(lanes.max()) + 1)
    for epoch in range(1, epochs + 1):
        order = torch.stack([torch.randperm(rows, generator=generator) for generator in orders])
        order += lanes[:, None] * length
        for ensemble in ensembles.values():
            ensemble.train_epoch(stacked, order, learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE)
            tick(order.numel())
        yield epoch


def starts(
    line: Line, old: Sequence[MLP], fresh: Sequence[torch.Generator], noise: Sequence[torch.Generator]
) -> list[MLP]:
    """The networks with which a line goes into its next round, one a lane."""
    if line.pair is None:
        return [MLP(generator=generator) for generator in fresh]
    return [
        shrink_perturb_(network, *line.pair, generator=generator) for network, generator in zip(old, noise)
    ]


def weights(networks: Sequence[MLP]) -> Tensor:
    """Their weights, without the biases: (networks, weights)."""
    return torch.stack([torch.cat([k.weight.detach().flatten() for k in n.linears]) for n in networks])


def train_chunk(
    numbers: Sequence[int], tick: Callable[[int], None], spec: Mapping[str, Any]
) -> dict[str, Any]:
    """All lines through all rounds, on these tables."""
    train, test = draw_tables(numbers, spec["test_rows"], LABEL_NOISE)
    pairs = [(place, seed) for place in range(len(numbers)) for seed in range(spec["seeds"])]
    lanes, seeds = torch.tensor([place for place, _ in pairs]), [seed for _, seed in pairs]
    inputs, labels = (torch.stack(columns)[lanes] for columns in zip(*test))
    stacked = Table(*(torch.cat(columns) for columns in zip(*train)))

    every = lines(spec["pairs"], spec["twins"])
    twins = [line for line in every if line.twin]
    orders = [stream(seed, "order") for seed in seeds]
    fresh = {line.key: line.streams("first", "fresh weights", seeds) for line in every}
    noise = {line.key: line.streams("noise", "noise", seeds) for line in every}
    networks = {
        line.key: [MLP(generator=g) for g in line.streams("first", "first weights", seeds)] for line in every
    }
    correct: dict[str, dict[str, list[list[int]]]] = {
        line.key: {"early": [], "end": []} for line in every if not line.twin
    }
    apart: dict[str, dict[str, list[float]]] = {
        line.key: {"start": [], "end": [], "disagree": []} for line in twins
    }

    def count(when: str, ensembles: Mapping[str, Ensemble]) -> None:
        for key, counts in correct.items():
            right = ensembles[key].measure(inputs, labels)[0]
            counts[when].append(right.view(len(numbers), -1).sum(dim=1).tolist())

    def note(when: str) -> None:
        """How far the weights of twins are apart: mean squares, added up over lanes."""
        for line in twins:
            between = weights(networks[line.key]) - weights(networks[line.base])
            apart[line.key][when].append(float(between.square().mean(dim=1).sum()))

    for number in range(1, spec["rounds"] + 1):
        if number > 1:
            for line in every:
                networks[line.key] = starts(line, networks[line.key], fresh[line.key], noise[line.key])
        note("start")
        ensembles = {line.key: Ensemble(networks[line.key]) for line in every}
        rows = number * TRAIN_ROWS // spec["rounds"]
        for epoch in train_epochs(ensembles, stacked, lanes, rows, orders, spec["epochs"], tick):
            if epoch == spec["early"]:
                count("early", ensembles)
        count("end", ensembles)
        networks = {key: ensemble.networks() for key, ensemble in ensembles.items()}
        note("end")
        said = {key: ensemble.logits(inputs).argmax(dim=1) for key, ensemble in ensembles.items()}
        for line in twins:
            differ = (said[line.key] != said[line.base]).double().mean(dim=1)
            apart[line.key]["disagree"].append(float(differ.sum()))
    return {"tables": list(numbers), "correct": correct, "apart": apart}


def specification(
    tables: int,
    seeds: int,
    *,
    pairs: Sequence[tuple[float, float]] = PAIRS,
    twins: Sequence[tuple[float, float]] = TWINS,
    rounds: int = ROUNDS,
    epochs: int = EPOCHS,
    early: int = EARLY,
    test_rows: int = 2000,
) -> dict[str, Any]:
    """What is computed: checked, and all that a stored file must agree with.

    Parameters
    ----------
    tables, seeds : int
        The first `tables` fresh tables, seeds 0 to `seeds` - 1 on each.
    pairs, twins : sequence of (float, float)
        lamda and sigma of every line, and of those that get twins.
    rounds : int
        The 200 rows of a table arrive in so many equal parts. Default 10.
    epochs, early : int
        Epochs a round, and after how many of them to read a first time. Default 200 and 20.
    test_rows : int
        Drawn anew with every table. Default 2000.

    Raises
    ------
    ValueError
        For a number out of range.

    Examples
    --------
    >>> specification(1, 1, rounds=3)
    Traceback (most recent call last):
    ValueError: 3 rounds do not divide 200 rows
    """
    for name, number in (("tables", tables), ("seeds", seeds), ("rounds", rounds), ("test_rows", test_rows)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
    if TRAIN_ROWS % rounds:
        raise ValueError(f"{rounds} rounds do not divide {TRAIN_ROWS} rows")
    if not 0 < early <= epochs:
        raise ValueError(f"early must be from 1 to epochs, {epochs}, not {early}")
    return {
        "format": FORMAT,
        "tables": tables,
        "seeds": seeds,
        "pairs": [list(pair) for pair in pairs],
        "twins": [list(pair) for pair in twins],
        "rounds": rounds,
        "epochs": epochs,
        "early": early,
        "test_rows": test_rows,
    }


def compound(
    spec: Mapping[str, Any],
    out: str | Path | None = None,
    *,
    command: str = "",
    tables: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Run the rounds on all tables, or on what is left of them.

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
        ``tables``, their numbers. ``correct``: line → ``early`` and ``end``, for each round a
        list over the tables, the sum of the correct test rows over seeds. ``apart``: twin →
        for each round, added up over (table, seed): the mean square of the difference of
        the weights of the two at the ``start`` and at the ``end`` of the round, and the share
        of test rows on whose class they ``disagree`` at the end. ``specification``, ``provenance``.

    Examples
    --------
    >>> short = specification(1, 1, pairs=[(1, 0)], twins=[], rounds=2, epochs=1, early=1, test_rows=10)
    >>> list(compound(short)["correct"])
    ['cold', '1, 0']

    See chapter 8.
    """
    start = time.perf_counter()
    total: dict[str, Any] = {"tables": [], "correct": {}, "apart": {}, "provenance": None}
    if out is not None and Path(out).exists():
        total = load_json(out)
        if not isinstance(total, dict) or total.get("specification") != spec:
            raise ValueError(f"{out}: holds something else; name another file or move this one away")
    before = total["provenance"]
    wanted = fresh_tables(spec["tables"]) if tables is None else tables
    left = [number for number in wanted if number not in total["tables"]]
    chunks = [left[k : k + CHUNK] for k in range(0, len(left), CHUNK)]
    a_lane = sum(range(1, spec["rounds"] + 1)) * TRAIN_ROWS // spec["rounds"] * spec["epochs"]
    samples = len(left) * spec["seeds"] * a_lane * len(lines(spec["pairs"], spec["twins"]))
    for part in run_chunks(partial(train_chunk, spec=spec), chunks, samples, "rounds"):
        total = merge(total, part)
        seconds = (before["seconds"] if before else 0.0) + time.perf_counter() - start
        total |= {"specification": spec, "provenance": provenance(command, MODULES, seconds, before=before)}
        if out is not None:
            save_json(out, total)
    return total


def merge(total: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Join a chunk to what is there, in order of the tables."""
    tables = [*total["tables"], *part["tables"]]
    order = sorted(range(len(tables)), key=tables.__getitem__)
    correct = {
        key: {
            when: [
                [[*before, *now][k] for k in order]
                for before, now in zip(total["correct"][key][when] if total["tables"] else repeat([]), rounds)
            ]
            for when, rounds in counts.items()
        }
        for key, counts in part["correct"].items()
    }
    apart = {
        key: {
            what: [a + b for a, b in zip(total["apart"][key][what] if total["tables"] else repeat(0.0), sums)]
            for what, sums in found.items()
        }
        for key, found in part["apart"].items()
    }
    return {"tables": [tables[k] for k in order], "correct": correct, "apart": apart}


def percent(found: Mapping[str, Any], key: str, when: str = "end") -> Floats:
    """Test accuracy of a line in percent: (rounds, tables). `when` is ``"early"`` or ``"end"``."""
    spec = found["specification"]
    counts = np.array(found["correct"][key][when], dtype=float)
    accuracy: Floats = 100 * counts / (spec["seeds"] * spec["test_rows"])
    return accuracy


def as_text(found: Mapping[str, Any]) -> str:
    """The last round as a table for people."""
    lines = [f"accuracy in round {found['specification']['rounds']}, %"]
    return "\n".join(
        [*lines, *(f"{key:12s}{percent(found, key)[-1].mean():8.2f}" for key in found["correct"])]
    )
