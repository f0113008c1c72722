"""The sweep: every start in every fold.

Rows are held out of the new ones alone. The old network has seen the old rows, so on those
a start looks the better the more of the old network it keeps.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from wsp.lab.choose.chosen import Candidate, as_table
from wsp.lab.choose.scores import Score, check_rows, right_class
from wsp.lab.choose.trial import Build, Train, Training, at, built, copy_of, joined, set_aside, try_out
from wsp.lab.employees import Table
from wsp.lab.retraining import check_seed, stream
from wsp.lab.training import one_thread_if_small, progress_wanted
from wsp.perturb import shrink_perturb_

LAMDAS, SIGMAS = (0.2, 0.5, 0.8), (0.01, 0.1)
FOLDS = 5

Start = Callable[[nn.Module, torch.Generator], nn.Module]


def candidates(
    lamdas: Sequence[float] = LAMDAS,
    sigmas: Sequence[float] = SIGMAS,
    temperatures: Sequence[float] = (),
    starts: Sequence[str] = (),
) -> list[Candidate]:
    """Cold, warm, every pair of a lamda and a sigma; then cold and warm at each temperature, and others.

    Examples
    --------
    >>> [candidate.start for candidate in candidates([0.5], [0.01])]
    ['cold', 'warm', 'shrink_perturb']
    """
    return [
        Candidate("cold", math.nan, math.nan),
        Candidate("warm", 1.0, 0.0),
        *(Candidate("shrink_perturb", lamda, sigma) for lamda in lamdas for sigma in sigmas),
        *(Candidate("cold", math.nan, math.nan, temperature) for temperature in temperatures),
        *(Candidate("warm", 1.0, 0.0, temperature) for temperature in temperatures),
        *(Candidate(name, math.nan, math.nan) for name in starts),
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
    score: Score | None = None,
    stop: float | None = None,
    patience: int = 20,
    stop_for: str = "all",
    temperatures: Sequence[float] = (),
    starts: Mapping[str, Start] | None = None,
) -> pd.DataFrame:
    """Try starts on your own data; judge them on new rows that none of them has seen.

    The new rows are dealt out to `folds`. Each is held out once, while every candidate is
    trained on the old rows and the rest of the new ones. Candidates share folds, batch
    orders and noise, so that they are paired. Training runs: `folds` for every candidate.
    Tables, labels, outputs, `build` and all starts are tried before the first of them.

    Parameters
    ----------
    old : torch.nn.Module
        The network trained on the old rows. Copied, never changed. What ``copy.deepcopy``
        cannot copy (old-style ``weight_norm``, pruned layers, kept activations) is built by
        `build` and given the old state dict.
    build : callable
        ``build()`` makes a new network like it, for the cold start. It draws from the
        global generator, which is seeded for it and afterwards put back.
    train : callable
        ``train(network, rows, order)`` trains the network in place on a :class:`Table` of
        inputs and labels, and yields after every epoch. `order` is a CPU generator for the
        order of the batches. Your optimizer belongs inside it.
    old_rows, new_rows : Table
        Inputs (rows, ...) and labels (rows,) int64, on the network's device. With a `score` of
        your own, labels as that wants them: (rows, ...).
    epochs : int
        How long each candidate is trained; with `stop`, at most.
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
    score : callable, optional
        ``score(outputs, labels)``, one value a row, the larger the better; bools are an accuracy.
        Default: :func:`wsp.lab.choose.right_class`. For one logit, several labels a row and
        regression: ``one_logit``, ``multi_label``, ``squared_error`` beside it.
    stop : float, optional
        Stop every candidate by a validation split of its own: this share of the new rows it could
        train on, which it then does not train on. It counts as it was at the epoch with the best
        score there. Default: train to the end.
    patience : int
        With `stop`: give up after so many epochs without a better score. Default 20.
    stop_for : {"all", "cold"}
        With `stop`: ``"cold"`` trains all candidates to the end and has an early-stopped cold
        start as one more. Default ``"all"``.
    temperatures : sequence of float
        Also try cold and warm with outputs divided by these while training. A hook on the network
        does it, so `train` needs no change, as long as it calls ``network(inputs)`` and takes a
        tensor; scores are of the outputs as they are.
    starts : mapping, optional
        Further starts: name → ``start(network, generator)``, which gets a copy of the old network
        to change or to replace, and returns the network to train.

    Returns
    -------
    pandas.DataFrame
        A row for each candidate, the most accurate first, then the one that needs fewer epochs:
        ``start``, ``lamda``, ``sigma``; ``accuracy`` on the held-out rows in percent with
        its 95 % Wilson interval, ``low`` to ``high``; ``minus_cold`` in points, paired over
        rows, with ``minus_cold_low`` to ``minus_cold_high``; ``epochs``, the first one read at
        which it was as accurate as cold is at the end (missing if never); ``as_good``, whether
        no other is shown to be better: the truly best start is among these, with 95 %. The
        intervals are for one comparison each, and the best of many looks better than it is.
        :func:`wsp.lab.choose.recommend` says in words what follows, and :func:`~wsp.lab.choose.plot`
        draws it. With a score that gives no bools, ``score`` in place of ``accuracy``, and Student's
        intervals. With `temperatures`, a column ``temperature``. With `stop`, a column ``stopped``,
        and ``epochs`` of a stopped candidate is how many it was trained, on average.

    Raises
    ------
    ValueError, TypeError
        If an argument will not do, or `train` is no generator or stops too early.

    Examples
    --------
    >>> from wsp.lab import employees
    >>> from wsp.lab.network import MLP
    >>> from wsp.lab.training import train_epoch
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
    starts = dict(starts or {})
    _check_starts(lamdas, sigmas, temperatures, starts)
    judge = score or right_class
    for name, rows in (("old_rows", old_rows), ("new_rows", new_rows)):
        check_rows(name, rows, of_classes=judge is right_class)
    _check_alike(old_rows, new_rows)
    readings = _check(len(new_rows.labels), epochs, folds, read_at, patience, seed)
    _check_stop(stop, stop_for, read_at, len(new_rows.labels) - math.ceil(len(new_rows.labels) / folds))
    tried = candidates(lamdas, sigmas, temperatures, list(starts))
    if stop is not None:
        early = [replace(candidate, stopped=True) for candidate in tried]
        tried = early if stop_for == "all" else [*tried, early[0]]
    device = new_rows.labels.device
    with torch.random.fork_rng():
        torch.manual_seed(stream(seed * folds, "fresh weights").initial_seed())
        as_it_is = try_out(old, build, old_rows, new_rows, judge)
        for candidate in tried:  # what cannot be shrunk is refused now, too
            start(candidate, old, build, noise=noise, seed=seed * folds, starts=starts)

    # found[reading][candidate, row of new_rows]
    shape = (len(tried), len(new_rows.labels))
    found = {epoch: np.zeros(shape, dtype=as_it_is.dtype) for epoch in readings}
    trained = np.zeros((len(tried), folds), dtype=int)
    fold_of = np.zeros(len(new_rows.labels), dtype=int)
    with tqdm(
        total=folds * len(tried) * epochs, desc="choose", unit="epoch", disable=not progress_wanted()
    ) as bar:
        for number, held_out in enumerate(split(len(new_rows.labels), folds, seed)):
            run = seed * folds + number
            fold_of[held_out.numpy()] = number
            rest = torch.ones(len(new_rows.labels), dtype=torch.bool)
            rest[held_out] = False
            unseen, whole = at(new_rows, held_out), joined(old_rows, at(new_rows, rest))
            for place, candidate in enumerate(tried):
                bar.set_postfix_str(f"fold {number + 1}, {candidate}", refresh=False)
                with torch.random.fork_rng():
                    network = start(candidate, old, build, noise=noise, seed=run, starts=starts).to(device)
                    training = Training(train, network, run, candidate.temperature, judge)
                    with one_thread_if_small(network):
                        if candidate.stopped and stop is not None:
                            watched, fit = set_aside(at(new_rows, rest), stop, run)
                            values, last = training.stopped(
                                joined(old_rows, fit), watched, unseen, epochs, patience, bar
                            )
                            scored = {epochs: values}
                        else:
                            scored, last = training.to_the_end(whole, unseen, readings, bar), epochs
                for epoch, values in scored.items():
                    found[epoch][place, held_out.numpy()] = values
                trained[place, number] = last
    return as_table(tried, found, trained, fold_of, as_it_is)


def start(
    candidate: Candidate,
    old: nn.Module,
    build: Build,
    *,
    noise: Build | None = None,
    seed: int = 0,
    starts: Mapping[str, Start] | None = None,
) -> nn.Module:
    """The network that a candidate starts from; `old` stays as it is.

    Parameters
    ----------
    candidate : Candidate
        Such as :func:`wsp.lab.choose.cheapest` gives it. Its temperature is your training's
        business: divide the outputs in the loss by it.
    old, build, noise, starts
        As in :func:`choose`.
    seed : int
        Fixes the new weights, which are drawn from the global generator, and the noise. The
        generator is put back.

    Examples
    --------
    >>> from wsp.lab.network import MLP
    >>> old = MLP()
    >>> network = start(Candidate("shrink_perturb", 0.5, 0.0), old, MLP)
    >>> torch.equal(network[0].weight, 0.5 * old[0].weight)
    True
    """
    with torch.random.fork_rng():
        torch.manual_seed(stream(seed, "fresh weights").initial_seed())
        if candidate.start == "cold":
            return built(build)
        network = copy_of(old, build)
        if candidate.start == "warm":
            return network
        if starts and candidate.start in starts:
            network = starts[candidate.start](network, stream(seed, "noise"))
            if not isinstance(network, nn.Module):
                raise TypeError(
                    f"starts[{candidate.start!r}] must return the network to train, "
                    f"not a {type(network).__name__}"
                )
            return network
        torch.manual_seed(stream(seed, "fresh weights").initial_seed())  # copying may have drawn
        generator = None if noise else stream(seed, "noise")
        return shrink_perturb_(network, candidate.lamda, candidate.sigma, noise=noise, generator=generator)


def _check_alike(old_rows: Table, new_rows: Table) -> None:
    for part, old, new in zip(Table._fields, old_rows, new_rows):
        for what in ("dtype", "device"):
            if getattr(old, what) != getattr(new, what):
                raise ValueError(
                    f"old_rows.{part} and new_rows.{part} differ in their {what}: "
                    f"{getattr(old, what)} and {getattr(new, what)}"
                )
        if old.shape[1:] != new.shape[1:]:
            raise ValueError(
                f"a row of old_rows.{part} has shape {tuple(old.shape[1:])}, "
                f"one of new_rows.{part} {tuple(new.shape[1:])}"
            )


def _check(rows: int, epochs: int, folds: int, read_at: Sequence[int], patience: int, seed: int) -> list[int]:
    """Refuse what cannot work; return the epochs to read at."""
    numbers = {"epochs": epochs, "folds": folds, "patience": patience, "seed": seed}
    for name, number in [*numbers.items(), *(("read_at", epoch) for epoch in read_at)]:
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"{name} must be an integer, not {number!r}")
    check_seed(seed)
    if not 2 <= folds <= rows:
        raise ValueError(f"folds must be from 2 to the number of new rows, {rows}, not {folds}")
    readings = sorted({*read_at, epochs})
    if readings[0] < 1 or readings[-1] > epochs:
        raise ValueError(f"epochs must be at least 1, and read_at from 1 to epochs, not {readings}")
    if patience < 1:
        raise ValueError(f"patience must be at least 1, not {patience}")
    return readings


def _check_starts(
    lamdas: Sequence[float],
    sigmas: Sequence[float],
    temperatures: Sequence[float],
    starts: Mapping[str, Start],
) -> None:
    largest = sys.float_info.max
    if not all(_between(0, x, 1) for x in lamdas) or not all(_between(0, x, largest) for x in sigmas):
        raise ValueError(f"lamdas must be from 0 to 1, sigmas not negative; not {lamdas} and {sigmas}")
    if not all(_between(sys.float_info.min, x, largest) for x in temperatures):
        raise ValueError(f"temperatures must be above 0, not {temperatures}")
    for name, begin in starts.items():
        if name in ("cold", "warm", "shrink_perturb") or not callable(begin):
            raise ValueError(f"starts: {name!r} must be a new name, and its start a function")


def _between(low: float, number: object, high: float) -> bool:
    return isinstance(number, Real) and low <= number <= high  # type: ignore[operator]


def _check_stop(stop: float | None, stop_for: str, read_at: Sequence[int], fewest: int) -> None:
    """`fewest` is how many new rows a candidate trains on at least."""
    if stop_for not in ("all", "cold"):
        raise ValueError(f"stop_for must be 'all' or 'cold', not {stop_for!r}")
    if stop is None:
        return
    if not _between(sys.float_info.min, stop, 1) or stop == 1 or round(stop * fewest) >= fewest:
        raise ValueError(
            f"stop must be a share above 0 and below 1 that leaves some of {fewest} rows, not {stop}"
        )
    if stop_for == "all" and len(read_at):
        raise ValueError("read_at has no meaning where every candidate stops by itself: leave it out")
