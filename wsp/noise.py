"""Kinds of noise: one sigma for all weights, or each layer in the scale of its initialization.

Every kind is tried on the same old networks, with the same lamda, on the same fresh tables.
The code of Ash and Adams adds the parameters of a fresh network, and shrinks and perturbs
the biases too; the article adds normal noise of one sigma to the weights.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsp.compound import train_epochs
from wsp.employees import LABEL_NOISE, TRAIN_ROWS, Table
from wsp.ensemble import Ensemble
from wsp.network import MLP
from wsp.perturb import shrink_perturb_
from wsp.results import load_json, provenance, save_json
from wsp.retraining import ARMS, HALF, OLD_ROWS, random_network, stream
from wsp.sweep import draw_tables, fresh_tables, run_chunks

MODULES = ("compound", "employees", "ensemble", "network", "noise", "perturb", "retraining", "sweep")
CHUNK = 100  # tables
FORMAT = "wsp noise 1"

Floats = NDArray[np.float64]


def xavier_scale(network: MLP) -> list[float]:
    """The standard deviation with which each layer's weights are drawn when they are new.

    Examples
    --------
    >>> [round(scale, 2) for scale in xavier_scale(MLP())]
    [0.35, 0.32, 0.39]

    Source: Glorot and Bengio (2010), equation 12.
    """
    return [math.sqrt(2 / (layer.in_features + layer.out_features)) for layer in network.linears]


@dataclass(frozen=True)
class Kind:
    """What is done to the saved network.

    Attributes
    ----------
    lamda : float
    noise : {"none", "normal", "scaled", "fresh"}
        Nothing; normal noise of one standard deviation, the mean of :func:`xavier_scale`;
        normal noise of each layer's own; the weights of a fresh network.
    size : float
        By what the noise is multiplied: 1 is as large as a new network.
    biases : bool
        Whether the biases are shrunk (and perturbed) too. New biases are zero.
    """

    lamda: float
    noise: str
    size: float = 0.0
    biases: bool = False

    @property
    def key(self) -> str:
        """Its name in files and figures.

        Examples
        --------
        >>> Kind(0.4, "fresh", 0.1, biases=True).key
        '0.4, fresh 0.1, biases'
        """
        noise = f"{self.noise} {self.size:g}" if self.size else self.noise
        return f"{self.lamda:g}, {noise}" + (", biases" if self.biases else "")

    def start(self, saved: MLP, seed: int) -> MLP:
        """A changed copy of the saved network; the fresh one is that of a cold start."""
        network, generator = copy.deepcopy(saved), stream(seed, "noise")
        scales = xavier_scale(network)
        if self.noise == "normal":
            shrink_perturb_(network, self.lamda, self.size * sum(scales) / len(scales), generator=generator)
        elif self.noise == "scaled":
            for layer, scale in zip(network.linears, scales):
                shrink_perturb_(layer, self.lamda, self.size * scale, generator=generator)
        elif self.noise == "fresh":
            fresh = random_network(seed, "fresh weights")
            shrink_perturb_(network, self.lamda, self.size, noise=fresh)
        else:
            shrink_perturb_(network, self.lamda, 0.0)
        if self.biases:
            with torch.no_grad():
                for layer in network.linears:
                    layer.bias.mul_(self.lamda)
        return network


#: The kinds that the book compares. The official rule is "0.4, fresh 0.1, biases".
KINDS = (
    Kind(0.4, "none"),
    Kind(0.4, "none", biases=True),
    Kind(0.4, "normal", 0.1),
    Kind(0.4, "scaled", 0.1),
    Kind(0.4, "fresh", 0.1),
    Kind(0.4, "fresh", 0.1, biases=True),
    Kind(0.4, "normal", 1.0),
    Kind(0.4, "scaled", 1.0),
    Kind(0.4, "fresh", 1.0),
    Kind(0.4, "fresh", 1.0, biases=True),
    Kind(0.0, "none"),
    Kind(0.0, "none", biases=True),
    Kind(0.0, "fresh", 1.0),
)


def train_chunk(
    numbers: Sequence[int], tick: Callable[[int], None], spec: Mapping[str, Any]
) -> dict[str, Any]:
    """All kinds and a cold start on these tables; counts are sums over the seeds of a table."""
    train, test = draw_tables(numbers, spec["test_rows"], LABEL_NOISE)
    pairs = [(place, seed) for place in range(len(numbers)) for seed in range(spec["seeds"])]
    lanes, seeds = torch.tensor([place for place, _ in pairs]), [seed for _, seed in pairs]
    inputs, labels = (torch.stack(columns)[lanes] for columns in zip(*test))
    stacked = Table(*(torch.cat(columns) for columns in zip(*train)))

    old = Ensemble([random_network(seed, "first weights") for seed in seeds])
    orders = [stream(seed, "first order") for seed in seeds]
    for _ in train_epochs({"old": old}, stacked, lanes, OLD_ROWS, orders, ARMS["initial"].epochs, tick):
        pass
    saved = old.networks()
    ensembles = {"cold": Ensemble([random_network(seed, "fresh weights") for seed in seeds])} | {
        kind.key: Ensemble([kind.start(network, seed) for network, seed in zip(saved, seeds)])
        for kind in KINDS
    }
    orders = [stream(seed, "order") for seed in seeds]
    for _ in train_epochs(ensembles, stacked, lanes, TRAIN_ROWS, orders, HALF, tick):
        pass
    return {
        "tables": list(numbers),
        "correct": {
            key: ensemble.measure(inputs, labels)[0].view(len(numbers), -1).sum(dim=1).tolist()
            for key, ensemble in ensembles.items()
        },
    }


def specification(tables: int, seeds: int, *, test_rows: int = 2000) -> dict[str, Any]:
    """What is computed: checked, and all that a stored file must agree with.

    Raises
    ------
    ValueError
        For a number below 1.

    Examples
    --------
    >>> specification(0, 1)
    Traceback (most recent call last):
    ValueError: tables must be at least 1, not 0
    """
    for name, number in (("tables", tables), ("seeds", seeds), ("test_rows", test_rows)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
    return {
        "format": FORMAT,
        "tables": tables,
        "seeds": seeds,
        "kinds": [kind.key for kind in KINDS],
        "test_rows": test_rows,
    }


def compare(
    spec: Mapping[str, Any],
    out: str | Path | None = None,
    *,
    command: str = "",
    tables: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Try all kinds of noise, or what is left to try.

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
        ``tables``, their numbers; ``correct``: kind (and ``"cold"``) → a list over the tables,
        the sum of the correct test rows over seeds, after 500 epochs; ``specification``,
        ``provenance``.

    See chapter 8.
    """
    start = time.perf_counter()
    found: dict[str, Any] = {"tables": [], "correct": {}, "specification": spec, "provenance": None}
    if out is not None and Path(out).exists():
        found = load_json(out)
        if not isinstance(found, dict) or found.get("specification") != spec:
            raise ValueError(f"{out}: holds something else; name another file or move this one away")
    before = found["provenance"]
    wanted = fresh_tables(spec["tables"]) if tables is None else tables
    left = [number for number in wanted if number not in found["tables"]]
    chunks = [left[k : k + CHUNK] for k in range(0, len(left), CHUNK)]
    a_lane = OLD_ROWS * ARMS["initial"].epochs + (len(KINDS) + 1) * TRAIN_ROWS * HALF
    samples = len(left) * spec["seeds"] * a_lane
    for part in run_chunks(partial(train_chunk, spec=spec), chunks, samples, "noise"):
        tables_so_far = [*found["tables"], *part["tables"]]
        order = sorted(range(len(tables_so_far)), key=tables_so_far.__getitem__)
        joined = {key: [*found["correct"].get(key, []), *counts] for key, counts in part["correct"].items()}
        seconds = (before["seconds"] if before else 0.0) + time.perf_counter() - start
        found |= {
            "tables": [tables_so_far[k] for k in order],
            "correct": {key: [counts[k] for k in order] for key, counts in joined.items()},
            "provenance": provenance(command, MODULES, seconds, before=before),
        }
        if out is not None:
            save_json(out, found)
    return found


def accuracy(found: Mapping[str, Any], key: str) -> Floats:
    """Test accuracy of a kind, or of ``"cold"``, in percent, one value a table."""
    spec = found["specification"]
    percent: Floats = 100 * np.array(found["correct"][key], dtype=float) / (spec["seeds"] * spec["test_rows"])
    return percent


def as_text(found: Mapping[str, Any]) -> str:
    """Every kind as a line for people: accuracy, and points above cold."""
    cold = accuracy(found, "cold").mean()
    lines = [f"{'lamda, noise and its size':28s}{'%':>8s}{'- cold':>8s}"]
    for key in found["correct"]:
        mean = accuracy(found, key).mean()
        lines.append(f"{key:28s}{mean:8.2f}{mean - cold:+8.2f}")
    return "\n".join(lines)
