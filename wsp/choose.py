"""Choose lamda and sigma for a network of your own: a small sweep on rows held out.

Rows are held out of the new ones alone. The old network has seen the old rows, so on those
a start looks the better the more of the old network it keeps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from wsp.employees import Table
from wsp.perturb import shrink_perturb_
from wsp.retraining import stream
from wsp.statistics import mean_interval, wilson
from wsp.training import one_thread_if_small

LAMDAS, SIGMAS = (0.2, 0.5, 0.8), (0.01, 0.1)
FOLDS = 5
AT_ONCE = 1000  # held-out rows scored in one go, to bound memory

Build = Callable[[], nn.Module]
Train = Callable[[nn.Module, Table, torch.Generator], Iterator[object]]


@dataclass(frozen=True)
class Candidate:
    """A way to start: ``"cold"``, ``"warm"`` or ``"shrink_perturb"`` with lamda and sigma."""

    start: str
    lamda: float
    sigma: float


def candidates(lamdas: Sequence[float] = LAMDAS, sigmas: Sequence[float] = SIGMAS) -> list[Candidate]:
    """Cold, warm, and every pair of a lamda and a sigma.

    Examples
    --------
    >>> [candidate.start for candidate in candidates([0.5], [0.01])]
    ['cold', 'warm', 'shrink_perturb']
    """
    return [
        Candidate("cold", math.nan, math.nan),
        Candidate("warm", 1.0, 0.0),
        *(Candidate("shrink_perturb", lamda, sigma) for lamda in lamdas for sigma in sigmas),
    ]


def split(rows: int, folds: int, seed: int) -> list[Tensor]:
    """Deal row numbers out to folds of nearly equal size, at random.

    Examples
    --------
    >>> [len(fold) for fold in split(10, folds=4, seed=0)]
    [3, 3, 2, 2]
    """
    shuffled = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return list(torch.tensor_split(shuffled, folds))


def choose(
    old: nn.Module,
    build: Build,
    train: Train,
    old_rows: Table,
    new_rows: Table,
    *,
    epochs: int,
    read_at: Sequence[int] = (),
    lamdas: Sequence[float] = LAMDAS,
    sigmas: Sequence[float] = SIGMAS,
    noise: Build | None = None,
    folds: int = FOLDS,
    seed: int = 0,
) -> pd.DataFrame:
    """Try starts on your own data; judge them on new rows that none of them has seen.

    The new rows are dealt out to `folds`. Each is held out once, while every candidate is
    trained on the old rows and the rest of the new ones. Candidates share folds, batch
    orders and noise, so that they are paired. Training runs: `folds` for every candidate.

    Parameters
    ----------
    old : torch.nn.Module
        The network trained on the old rows. Copied, never changed.
    build : callable
        ``build()`` makes a new network like it, for the cold start. It draws from the
        global generator, which is seeded for it and afterwards put back.
    train : callable
        ``train(network, rows, order)`` trains the network in place on a :class:`Table` of
        inputs and labels, and yields after every epoch. `order` is a CPU generator for the
        order of the batches. Your optimizer belongs inside it.
    old_rows, new_rows : Table
        Inputs (rows, ...) and labels (rows,) int64, on the network's device.
    epochs : int
        How long each candidate is trained.
    read_at : sequence of int
        Epochs at which to look earlier. Default: at the end alone.
    lamdas, sigmas : sequence of float
        What to try, all pairs. Default (0.2, 0.5, 0.8) and (0.01, 0.1).
    noise : callable, optional
        As in :func:`wsp.shrink_perturb_`. With ``noise=build``, `sigma` counts in the scale of
        your network's own initialization; without, it is a standard deviation.
    folds : int
        At least 2. Default 5.
    seed : int
        Fixes folds, new networks, batch orders and noise.

    Returns
    -------
    pandas.DataFrame
        A row for each candidate, the most accurate first, then the one that needs fewer epochs:
        ``start``, ``lamda``, ``sigma``; ``accuracy`` on the held-out rows in percent with
        its 95 % Wilson interval, ``low`` to ``high``; ``minus_cold`` in points, paired over
        rows, with ``minus_cold_low`` to ``minus_cold_high``; ``epochs``, the first one read at
        which it was as accurate as cold is at the end (missing if never). The intervals
        are for one comparison each, and the best of many looks better than it is.

    Raises
    ------
    ValueError, TypeError
        If an argument will not do, or `train` is no generator or stops too early.

    Examples
    --------
    >>> from wsp import employees
    >>> from wsp.network import MLP
    >>> from wsp.training import train_epoch
    >>> def train(network, rows, order):
    ...     optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    ...     while True:
    ...         train_epoch(network, rows, optimizer, order)
    ...         yield
    >>> table = employees.load_train()
    >>> old_rows, new_rows = (Table(*(c[part] for c in table)) for part in (slice(100), slice(100, 200)))
    >>> found = choose(MLP(), MLP, train, old_rows, new_rows, epochs=1, folds=2)
    >>> len(found), sorted(set(found["start"]))
    (8, ['cold', 'shrink_perturb', 'warm'])

    See chapter 8, which shows how little a hundred rows can tell.
    """
    tried = candidates(lamdas, sigmas)
    readings = _check(old_rows, new_rows, epochs, read_at, folds, lamdas, sigmas)
    # right[reading][candidate, row of new_rows]
    right = {epoch: np.zeros((len(tried), len(new_rows.labels)), dtype=bool) for epoch in readings}
    for number, held_out in enumerate(split(len(new_rows.labels), folds, seed)):
        rest = torch.ones(len(new_rows.labels), dtype=torch.bool)
        rest[held_out] = False
        device = new_rows.labels.device
        rows = Table(*(torch.cat([o, n[rest.to(device)]]) for o, n in zip(old_rows, new_rows)))
        unseen = Table(*(column[held_out.to(device)] for column in new_rows))
        for place, candidate in enumerate(tried):
            with torch.random.fork_rng():
                network = _start(candidate, old, build, noise, seed * folds + number).to(device)
                with one_thread_if_small(network):
                    for epoch in _epochs(train, network, rows, seed * folds + number, epochs):
                        if epoch in right:
                            right[epoch][place, held_out.numpy()] = _is_right(network, unseen)
    return _as_table(tried, right)


def _check(
    old_rows: Table,
    new_rows: Table,
    epochs: int,
    read_at: Sequence[int],
    folds: int,
    lamdas: Sequence[float],
    sigmas: Sequence[float],
) -> list[int]:
    """Refuse what cannot work; return the epochs to read at."""
    for name, rows in (("old_rows", old_rows), ("new_rows", new_rows)):
        if len(rows.inputs) != len(rows.labels):
            raise ValueError(f"{name} has {len(rows.inputs)} inputs but {len(rows.labels)} labels")
    if not 2 <= folds <= len(new_rows.labels):
        raise ValueError(
            f"folds must be from 2 to the number of new rows, {len(new_rows.labels)}, not {folds}"
        )
    readings = sorted({*read_at, epochs})
    if readings[0] < 1 or readings[-1] > epochs:
        raise ValueError(f"epochs must be at least 1, and read_at from 1 to epochs, not {readings}")
    if not all(0 <= lamda <= 1 for lamda in lamdas) or not all(0 <= sigma < math.inf for sigma in sigmas):
        raise ValueError(f"lamdas must be from 0 to 1, sigmas not negative; not {lamdas} and {sigmas}")
    return readings


def _start(candidate: Candidate, old: nn.Module, build: Build, noise: Build | None, seed: int) -> nn.Module:
    """The network a candidate starts from; draws what all candidates of a fold share."""
    torch.manual_seed(stream(seed, "fresh weights").initial_seed())
    if candidate.start == "cold":
        network = build()
        if not isinstance(network, nn.Module):
            raise TypeError(f"build must make a torch.nn.Module, not a {type(network).__name__}")
        return network
    network = copy.deepcopy(old)
    generator = None if noise else stream(seed, "noise")
    return shrink_perturb_(network, candidate.lamda, candidate.sigma, noise=noise, generator=generator)


def _epochs(train: Train, network: nn.Module, rows: Table, seed: int, epochs: int) -> Iterator[int]:
    """Train; give the number of every finished epoch."""
    torch.manual_seed(stream(seed, "order").initial_seed())  # for dropout and the like
    training = train(network, rows, stream(seed, "order"))
    if not isinstance(training, Iterator):
        raise TypeError("train must be a generator: write `yield` at the end of every epoch")
    epoch = 0
    for epoch, _ in zip(range(1, epochs + 1), training):
        yield epoch
    if epoch < epochs:
        raise ValueError(f"train stopped after {epoch} epochs, but {epochs} were asked for")


@torch.no_grad()
def _is_right(network: nn.Module, rows: Table) -> np.ndarray:
    """Whether each row's largest logit is at its class; leaves the network as it was."""
    training = network.training
    network.eval()
    classes = torch.cat([network(inputs).argmax(dim=1) for inputs in torch.split(rows.inputs, AT_ONCE)])
    network.train(training)
    return (classes == rows.labels).cpu().numpy()


def _as_table(tried: Sequence[Candidate], right: dict[int, np.ndarray]) -> pd.DataFrame:
    last = right[max(right)].astype(int)
    target = last[0].sum()  # cold is the first candidate
    records = []
    for place, candidate in enumerate(tried):
        accuracy = wilson(int(last[place].sum()), last.shape[1])
        minus_cold = mean_interval(100.0 * (last[place] - last[0]))
        reached = [epoch for epoch in sorted(right) if right[epoch][place].sum() >= target]
        records.append(
            {
                "start": candidate.start,
                "lamda": candidate.lamda,
                "sigma": candidate.sigma,
                "accuracy": accuracy.estimate,
                "low": accuracy.low,
                "high": accuracy.high,
                "minus_cold": minus_cold.estimate,
                "minus_cold_low": minus_cold.low,
                "minus_cold_high": minus_cold.high,
                "epochs": reached[0] if reached else pd.NA,
            }
        )
    table = pd.DataFrame(records).astype({"epochs": "Int64"})
    return table.sort_values(
        ["accuracy", "epochs"], ascending=[False, True], kind="stable", ignore_index=True
    )
