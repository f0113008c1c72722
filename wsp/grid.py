"""The map of lamda and sigma: every pair of them on the same fresh tables.

One chunk is a few tables with all their seeds. Each of its lanes trains the old
network once and every cell of the map from it, in the same batch orders, beside a
cold start. A finished chunk goes to the file of the map; the same command goes on
from there. Half of the tables may choose a cell, the other half reports on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsp import employees
from wsp.ensemble import Ensemble
from wsp.results import load_json, provenance, save_json
from wsp.retraining import HALF, Arm
from wsp.sweep import draw_tables, fresh_tables, run_chunks, samples_per_lane, train_lanes
from wsp.training import LEARNING_RATE

MODULES = ("employees", "ensemble", "grid", "network", "perturb", "retraining", "sweep")
LAMDAS = tuple(k / 10 for k in range(11))
SIGMAS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.7)  # 0.35 is the scale of the initialization
READ_AT = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 400, HALF)
CHUNK = 50  # tables; with two seeds each, a hundred lanes side by side
HALVES = ("choose", "report")
FORMAT = "wsp grid 1"

Floats = NDArray[np.float64]


def cell(lamda: float, sigma: float) -> str:
    """The name of a cell of the map.

    Examples
    --------
    >>> cell(0.5, 0.01)
    '0.5, 0.01'
    """
    return f"{lamda:g}, {sigma:g}"


WARM = cell(1, 0)


def cells(lamdas: Iterable[float] = LAMDAS, sigmas: Iterable[float] = SIGMAS) -> list[Arm]:
    """The arms of a map: the old network, shrunk and perturbed, for every pair.

    Examples
    --------
    >>> [arm.key for arm in cells([0, 1], [0])]
    ['0, 0', '1, 0']
    """
    sigmas = list(sigmas)
    return [Arm(cell(lamda, sigma), "saved", lamda, sigma, HALF) for lamda in lamdas for sigma in sigmas]


def specification(
    tables: int,
    seeds: int,
    *,
    lamdas: Sequence[float] = LAMDAS,
    sigmas: Sequence[float] = SIGMAS,
    test_rows: int = 2000,
    label_noise: float = employees.LABEL_NOISE,
    learning_rate: float = LEARNING_RATE,
) -> dict[str, Any]:
    """What a map computes: checked, and all that a stored file must agree with.

    Parameters
    ----------
    tables, seeds : int
        The first `tables` fresh tables, seeds 0 to `seeds` - 1 on each.
    lamdas, sigmas : sequence of float
        The map's rows and columns.
    test_rows : int
        Drawn anew with every table. Default 2000.
    label_noise, learning_rate : float
        Default 0.05 and 0.05.

    Raises
    ------
    ValueError
        For a number out of range.

    Examples
    --------
    >>> specification(2, 0)
    Traceback (most recent call last):
    ValueError: seeds must be at least 1, not 0
    """
    for name, number in (("tables", tables), ("seeds", seeds), ("test_rows", test_rows)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
    if not all(0 <= lamda <= 1 for lamda in lamdas) or not all(sigma >= 0 for sigma in sigmas):
        raise ValueError(f"lamdas must be from 0 to 1, sigmas not negative; not {lamdas} and {sigmas}")
    if not 0 <= label_noise <= 1 or not 0 < learning_rate < float("inf"):
        raise ValueError(
            f"label_noise must be from 0 to 1 and learning_rate positive, not "
            f"{label_noise} and {learning_rate}"
        )
    return {
        "format": FORMAT,
        "tables": tables,
        "seeds": seeds,
        "lamdas": list(lamdas),
        "sigmas": list(sigmas),
        "test_rows": test_rows,
        "label_noise": label_noise,
        "learning_rate": learning_rate,
        "epochs": list(READ_AT),
    }


def epochs_to(target: Tensor, curve: Tensor, read_at: Sequence[int]) -> tuple[Tensor, Tensor]:
    """When each lane first reaches its target, and whether it does.

    Parameters
    ----------
    target : Tensor
        (...,) what to reach.
    curve : Tensor
        (readings, ...) what was read.
    read_at : sequence of int
        The epochs of the readings.

    Returns
    -------
    epochs, reached : Tensor
        The first epoch read at which ``curve >= target``. A lane that never gets there
        is censored: it has the last epoch, and `reached` is False.

    Examples
    --------
    >>> curve = torch.tensor([[1, 1], [3, 1], [2, 2]])
    >>> epochs_to(torch.tensor([2, 4]), curve, read_at=(10, 20, 30))
    (tensor([20, 30]), tensor([ True, False]))
    """
    hit = curve >= target
    reached = hit.any(dim=0)
    first = hit.to(torch.int64).argmax(dim=0)
    return torch.where(reached, torch.tensor(read_at)[first], read_at[-1]), reached


def train_chunk(
    numbers: Sequence[int], tick: Callable[[int], None], spec: Mapping[str, Any]
) -> dict[str, Any]:
    """Train all of the map on these tables; add up over the seeds of a table."""
    train, test = draw_tables(numbers, spec["test_rows"], spec["label_noise"])
    pairs = [(place, seed) for place in range(len(numbers)) for seed in range(spec["seeds"])]
    lanes = torch.tensor([place for place, _ in pairs])
    on_train, on_test = ([torch.stack(columns)[lanes] for columns in zip(*rows)] for rows in (train, test))
    arms = [Arm("cold", "fresh", epochs=HALF), *cells(spec["lamdas"], spec["sigmas"])]
    # Made beforehand: small tensors that stay, left among large ones that go, would break up
    # the memory until none is left.
    shape = (len(READ_AT), len(numbers), spec["seeds"])
    curves = {arm.key: torch.zeros(shape, dtype=torch.int64) for arm in arms}
    fitted = {arm.key: torch.zeros(shape, dtype=torch.int64) for arm in arms}
    initial = torch.zeros(shape[1:], dtype=torch.int64)

    def read(members: list[Arm], epoch: int, ensemble: Ensemble) -> None:
        arm = members[0]
        if arm.start != "first":
            k = READ_AT.index(epoch)
            curves[arm.key][k] = ensemble.measure(*on_test)[0].view(shape[1:])
            fitted[arm.key][k] = ensemble.measure(*on_train)[0].view(shape[1:])
        elif epoch == arm.epochs:
            initial.copy_(ensemble.measure(*on_test)[0].view(shape[1:]))

    train_lanes(train, pairs, arms, read, read_at=READ_AT, learning_rate=spec["learning_rate"], tick=tick)
    cold = curves["cold"].sum(dim=2)
    chooses = torch.tensor(numbers) < fresh_tables(spec["tables"])[spec["tables"] // 2]
    found: dict[str, Any] = {
        "tables": list(numbers),
        "initial": initial.sum(dim=1).tolist(),
        **{part: {} for part in ("correct", "epochs", "reached", "curves")},
    }
    for name, curve in curves.items():
        epochs, reached = epochs_to(curves["cold"][-1], curve, READ_AT)
        by_table = curve.sum(dim=2)
        found["correct"][name] = by_table[-1].tolist()
        found["epochs"][name] = epochs.sum(dim=1).tolist()
        found["reached"][name] = reached.sum(dim=1).tolist()
        found["curves"][name] = {
            half: {
                "sum": by_table[:, tables].sum(dim=1).tolist(),
                "squares_minus_cold": ((by_table - cold)[:, tables] ** 2).sum(dim=1).tolist(),
                "train": fitted[name][:, tables].sum(dim=(1, 2)).tolist(),
            }
            for half, tables in zip(HALVES, (chooses, ~chooses))
        }
    return found


def merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join the records of several chunks, in order of the tables."""
    tables = [number for part in parts for number in part["tables"]]
    order = sorted(range(len(tables)), key=lambda k: tables[k])

    def join(lists: Iterable[Sequence[int]]) -> list[int]:
        values = [value for each in lists for value in each]
        return [values[k] for k in order]

    names = list(parts[0]["correct"])
    return {
        "tables": join(part["tables"] for part in parts),
        "initial": join(part["initial"] for part in parts),
        **{
            kind: {name: join(part[kind][name] for part in parts) for name in names}
            for kind in ("correct", "epochs", "reached")
        },
        "curves": {
            name: {
                half: {
                    kind: [
                        sum(column) for column in zip(*(part["curves"][name][half][kind] for part in parts))
                    ]
                    for kind in sums
                }
                for half, sums in parts[0]["curves"][name].items()
            }
            for name in names
        },
    }


def load_grid(path: str | Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Read a map's file; ``ValueError`` if it is not the one that `spec` describes."""
    content = load_json(path)
    if not isinstance(content, dict) or content.get("specification") != spec:
        raise ValueError(f"{path}: holds something else; name another file or move this one away")
    return content


def grid(
    spec: Mapping[str, Any],
    out: str | Path | None = None,
    *,
    command: str = "",
    tables: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Compute a map, or what is left of it.

    Parameters
    ----------
    spec : dict
        From :func:`specification`.
    out : str or Path, optional
        Where to store it, after every chunk. If the file exists, the map goes on
        from it. Default: nowhere.
    command : str
        What re-creates it, for the provenance.
    tables : sequence of int, optional
        Only these table numbers. Default: all of `spec`.

    Returns
    -------
    dict
        ``tables``, their numbers. By cell, and for ``"cold"``, a list over the tables, each
        the sum over its seeds: ``correct`` test rows at the last epoch; ``epochs`` until the
        test accuracy is that of this lane's cold start at its last epoch; how many seeds
        ``reached`` it (those that do not count with the last epoch). ``curves``: for the half
        of the tables that may choose and the half that reports, sums over tables at every
        epoch read: of the correct test rows, of the squares of their differences to cold, of
        the correct training rows. ``initial``: the old network's correct test rows.
        ``specification``, ``provenance``.

    Examples
    --------
    >>> small = specification(1, 1, lamdas=[0.5], sigmas=[0.0], test_rows=10)
    >>> sorted(grid(small)["correct"])
    ['0.5, 0', 'cold']

    See chapter 8.
    """
    start = time.perf_counter()
    total = load_grid(out, spec) if out is not None and Path(out).exists() else None
    before = total["provenance"] if total else None
    wanted = fresh_tables(spec["tables"]) if tables is None else tables
    left = [number for number in wanted if total is None or number not in total["tables"]]
    chunks = [left[k : k + CHUNK] for k in range(0, len(left), CHUNK)]
    half = spec["tables"] // 2  # in turn from both halves, so that an unfinished map has both
    chunks.sort(key=lambda chunk: (chunk[0] - fresh_tables(1)[0]) % half if half else 0)
    arms = [Arm("cold", "fresh", epochs=HALF), *cells(spec["lamdas"], spec["sigmas"])]
    samples = len(left) * spec["seeds"] * samples_per_lane(arms, employees.TRAIN_ROWS)
    for part in run_chunks(partial(train_chunk, spec=spec), chunks, samples, "map"):
        total = merge([total, part] if total else [part])
        seconds = (before["seconds"] if before else 0.0) + time.perf_counter() - start
        total |= {"specification": spec, "provenance": provenance(command, MODULES, seconds, before=before)}
        if out is not None:
            save_json(out, total)
    if total is None:
        raise ValueError("no table to train on")
    return total


def accuracy(found: Mapping[str, Any], name: str) -> Floats:
    """Test accuracy of a cell at the last epoch, in percent, one value a table.

    `name` is a cell, ``"cold"`` or ``"initial"``.

    Examples
    --------
    >>> small = specification(3, 1, lamdas=[0.5], sigmas=[0.0], test_rows=10)
    >>> accuracy(grid(small), "0.5, 0").shape
    (3,)
    """
    counts = found["initial"] if name == "initial" else found["correct"][name]
    spec = found["specification"]
    percent: Floats = 100 * np.array(counts, dtype=float) / (spec["seeds"] * spec["test_rows"])
    return percent


def as_text(found: Mapping[str, Any]) -> str:
    """A map as a table for people: accuracy minus cold, in points, rows lamda, columns sigma."""
    spec = found["specification"]
    cold = accuracy(found, "cold").mean()
    lines = [f"cold {cold:.2f} %; points above it:", f"{'lamda | sigma':>13s}"]
    lines[-1] += "".join(f"{sigma:>7g}" for sigma in spec["sigmas"])
    for lamda in spec["lamdas"]:
        means = [accuracy(found, cell(lamda, sigma)).mean() - cold for sigma in spec["sigmas"]]
        lines.append(f"{lamda:>13g}" + "".join(f"{mean:+7.2f}" for mean in means))
    return "\n".join(lines)
