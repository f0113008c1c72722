"""What else people do: the obvious fixes, under one protocol.

A :class:`Remedy` says in data what it changes of a :class:`wsp.recipes.Plan`,
how strongly, and who proposed it. Each is carried out on the same fresh tables
with the same seeds, warm and, where that makes sense, cold as well: a remedy
that helps both may leave the gap as it was. Readings are at fixed epochs. A
strength is chosen on half of the tables and reported on the other half.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsp import employees
from wsp.ensemble import Ensemble
from wsp.recipes import MODULES, Firsts, Plan, Recipe, samples_of, train_plans
from wsp.results import load_json, provenance, save_json, stored
from wsp.retraining import SIGMA
from wsp.statistics import Floats
from wsp.sweep import draw_tables, fresh_tables, in_chunks, run_chunks

FORMAT = "wsp remedies 1"
EPOCHS = 500  # of every retraining: where the article reads its trick
READ_AT = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 250, 300, 400, 500)
CHUNK = 50  # tables trained side by side
THEN = Recipe(epochs=EPOCHS)
WARM_START = Plan(then=THEN)
MOMENTUM = Recipe(learning_rate=0.005, momentum=0.9)  # a tenth of the rate: in the long run the same step
MOMENTUM_START = Plan(first=MOMENTUM, then=replace(MOMENTUM, epochs=EPOCHS))


@dataclass(frozen=True)
class Remedy:
    """One fix, as data.

    Attributes
    ----------
    key : str
        Its name in files and figures.
    words : str
        Its name for people.
    source : str
        Who tried or proposed it.
    changes : tuple of str
        Fields of :class:`wsp.recipes.Plan` that take the strength; ``first.`` and
        ``then.`` lead into the recipes of the two phases.
    strengths : tuple
        What is tried. Empty: the remedy has none.
    arms : tuple of str
        Who gets it: ``"warm"``, ``"cold"``, or both.
    base : Plan
        What is changed. Default: the book's warm start.

    Examples
    --------
    >>> remedy = REMEDIES["weight_decay"]
    >>> plan = remedy.plan("warm", 0.01)
    >>> plan.first.weight_decay, plan.then.weight_decay
    (0.01, 0.01)
    >>> remedy.plan("cold", 0.01).start
    'fresh'

    See chapter 9.
    """

    key: str
    words: str
    source: str
    changes: tuple[str, ...] = ()
    strengths: tuple[float, ...] = ()
    arms: tuple[str, ...] = ("warm", "cold")
    base: Plan = WARM_START

    def plan(self, arm: str, strength: float | None = None) -> Plan:
        """What an arm does under this remedy."""
        plan = self.base
        for change in self.changes if strength is not None else ():
            phase, _, field = change.rpartition(".")
            if phase:
                change, value = phase, replace(getattr(plan, phase), **{field: strength})
            else:
                value = strength
            plan = replace(plan, **{change: value})
        return plan if arm == "warm" else replace(plan, start="fresh")

    def plans(self) -> dict[str, Plan]:
        """All plans by name: the arm, and the strength where there is one.

        Examples
        --------
        >>> list(REMEDIES["average"].plans())
        ['warm 0.9', 'warm 0.99', 'cold 0.9', 'cold 0.99']
        """
        return {
            plan_name(arm, strength): self.plan(arm, strength)
            for arm in self.arms
            for strength in self.strengths or (None,)
        }


def plan_name(arm: str, strength: float | None = None) -> str:
    """How a plan is called in the stored files.

    Examples
    --------
    >>> plan_name("warm", 0.01), plan_name("cold")
    ('warm 0.01', 'cold')
    """
    return arm if strength is None else f"{arm} {strength:g}"


BATCHES = (5, 10, 20, 50)
RATES = (0.05, 0.01)
WARM = ("warm",)
PAPER = "Ash and Adams (2020)"
#: All remedies by key, in the order in which they are carried out.
REMEDIES = {
    remedy.key: remedy
    for remedy in (
        Remedy("none", "nothing changed", "the article"),
        Remedy(
            "shrink_perturb", "shrink and perturb", f"{PAPER}, section 4", ("lamda",), (0.3, 0.5, 0.7),
            WARM, Plan(then=THEN, sigma=SIGMA),
        ),
        Remedy(
            "early_first", "first fit stopped early", f"{PAPER}, figure 4", ("first.epochs",),
            (10, 20, 50, 100, 200, 300, 500), WARM,
        ),
        Remedy(
            "weight_decay", "weight decay, both phases", f"{PAPER}, table 3",
            ("first.weight_decay", "then.weight_decay"), (0.001, 0.003, 0.01),
        ),
        Remedy(
            "weight_decay_first", "weight decay, first phase", f"{PAPER}, table 3",
            ("first.weight_decay",), (0.001, 0.003, 0.01), WARM,
        ),
        Remedy(
            "weight_decay_second", "weight decay, second phase", f"{PAPER}, table 3",
            ("then.weight_decay",), (0.001, 0.003, 0.01), WARM,
        ),
        Remedy(
            "label_smoothing", "label smoothing", "Szegedy et al. (2016)",
            ("first.label_smoothing", "then.label_smoothing"), (0.1, 0.3, 0.6),
        ),
        Remedy(
            "confidence_penalty", "confidence penalty", f"{PAPER}, table 3",
            ("first.confidence_penalty", "then.confidence_penalty"), (0.1, 0.3, 1.0),
        ),
        Remedy(
            "dropout", "dropout, both phases", "Srivastava et al. (2014)",
            ("first.dropout", "then.dropout"), (0.1, 0.2, 0.4),
        ),
        Remedy(
            "dropout_second", "dropout, second phase", "Srivastava et al. (2014)",
            ("then.dropout",), (0.1, 0.2, 0.4), WARM,
        ),
        Remedy(
            "input_noise", "noise on age and income", "Kireev et al. (2021), augmentation",
            ("first.input_noise", "then.input_noise"), (0.02, 0.05),
        ),
        Remedy(
            "reset_last", "last layer reset", "Nikishin et al. (2022)",
            arms=WARM, base=Plan(then=THEN, reset_last=True),
        ),
        Remedy("momentum", "momentum, optimizer reset", "Asadi et al. (2023)", base=MOMENTUM_START),
        Remedy(
            "momentum_kept", "momentum, optimizer kept", "Asadi et al. (2023)",
            arms=WARM, base=replace(MOMENTUM_START, keep_velocity=True),
        ),
        Remedy("noise_only", "noise only", f"{PAPER}, table 4", ("sigma",), (0.1, 0.3, 1.0), WARM),
        Remedy(
            "mix", "old and new rows mixed", "replay in continual learning", ("new_share",),
            (0.25, 0.75, 0.9), WARM,
        ),
        Remedy("new_only", "new rows only", "fine-tuning", arms=WARM, base=Plan(then=THEN, new_share=1.0)),
        Remedy("average", "averaged weights", "Izmailov et al. (2018)", ("average",), (0.9, 0.99)),
        *(
            Remedy(
                f"rate_{rate}", f"learning rate {rate}", f"{PAPER}, figure 3", ("then.batch_size",), BATCHES,
                base=Plan(then=Recipe(EPOCHS, rate)),
            )
            for rate in RATES
        ),
    )
}  # fmt: skip


def find_remedies(keys: Iterable[str]) -> list[Remedy]:
    """The remedies of these keys; ``ValueError`` for an unknown one.

    Examples
    --------
    >>> [remedy.words for remedy in find_remedies(["reset_last", "dropout"])]
    ['last layer reset', 'dropout, both phases']
    """
    keys = list(keys)
    for key in keys:
        if key not in REMEDIES:
            raise ValueError(f"unknown remedy {key!r}: choose from {', '.join(REMEDIES)}")
    return [REMEDIES[key] for key in keys]


def specification(
    remedy: Remedy, seeds: int, *, test_rows: int = 2000, label_noise: float = employees.LABEL_NOISE
) -> dict[str, Any]:
    """What a stored file is about; with more tables the same file grows.

    Parameters
    ----------
    remedy : Remedy
    seeds : int
        Seeds 0 to `seeds` - 1 on every table.
    test_rows : int
        Drawn with each table. Default 2000.
    label_noise : float
        Of the tables. Default 0.05.

    Raises
    ------
    ValueError
        For a number out of range.

    Examples
    --------
    >>> specification(REMEDIES["reset_last"], seeds=0)
    Traceback (most recent call last):
    ValueError: seeds must be a positive integer, not 0
    """
    for name, number in (("seeds", seeds), ("test_rows", test_rows)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a positive integer, not {number!r}")
    if not 0 <= label_noise <= 1:
        raise ValueError(f"label_noise must be from 0 to 1, not {label_noise}")
    return {
        "format": FORMAT,
        "remedy": remedy.key,
        "plans": {name: asdict(plan) for name, plan in remedy.plans().items()},
        "seeds": seeds,
        "test_rows": test_rows,
        "label_noise": label_noise,
        "epochs": list(READ_AT),
    }


def count_correct(
    plans: Mapping[str, Plan],
    numbers: Sequence[int],
    spec: Mapping[str, Any],
    tick: Callable[[int], None] = lambda samples: None,
    saved: Firsts | None = None,
) -> dict[str, Any]:
    """Carry out plans on the tables of these numbers; `saved` as for :func:`wsp.recipes.train_plans`.

    Returns
    -------
    dict
        `tables`; `correct`: plan → for every table the correct test rows at each
        epoch of the specification, summed over seeds; `train`: plan → correct
        training rows at each epoch, summed over everything.

    Examples
    --------
    >>> plans = {"cold": Plan("fresh", then=Recipe(epochs=2))}
    >>> spec = {"seeds": 2, "test_rows": 50, "label_noise": 0.05, "epochs": [1, 2]}
    >>> found = count_correct(plans, [1000, 1001], spec)
    >>> found["tables"], [len(counts) for counts in found["correct"]["cold"]]
    ([1000, 1001], [2, 2])
    """
    seeds = spec["seeds"]
    train, test = draw_tables(numbers, spec["test_rows"], spec["label_noise"])
    lanes = torch.arange(len(numbers)).repeat_interleave(seeds)
    test_rows, train_rows = (
        [torch.stack(columns)[lanes] for columns in zip(*tables)] for tables in (test, train)
    )
    correct: dict[str, list[list[int]]] = {name: [] for name in plans}
    fitted: dict[str, list[int]] = {name: [] for name in plans}

    def read(name: str, epoch: int, ensemble: Ensemble) -> None:
        counts = ensemble.measure(*test_rows)[0]
        correct[name].append(counts.view(-1, seeds).sum(dim=1).tolist())
        fitted[name].append(int(ensemble.measure(*train_rows)[0].sum()))

    pairs = [(int(lane), seed) for lane in range(len(numbers)) for seed in range(seeds)]
    train_plans(train, pairs, plans, read, read_at=spec["epochs"], tick=tick, saved=saved)
    return {
        "tables": list(numbers),
        "correct": {name: [list(row) for row in zip(*curves)] for name, curves in correct.items()},
        "train": fitted,
    }


def merge(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join what several chunks of tables gave, in order of the tables.

    Examples
    --------
    >>> late = {"tables": [8], "correct": {"cold": [[3, 4]]}, "train": {"cold": [5, 6]}}
    >>> early = {"tables": [7], "correct": {"cold": [[1, 2]]}, "train": {"cold": [7, 8]}}
    >>> merge([late, early])["correct"], merge([late, early])["train"]
    ({'cold': [[1, 2], [3, 4]]}, {'cold': [12, 14]})
    """
    parts = sorted(parts, key=lambda part: part["tables"])
    names = list(parts[0]["correct"])
    return {
        "tables": [table for part in parts for table in part["tables"]],
        "correct": {name: [curve for part in parts for curve in part["correct"][name]] for name in names},
        "train": {
            name: [sum(column) for column in zip(*(p["train"][name] for p in parts))] for name in names
        },
    }


def file_name(key: str, label_noise: float) -> str:
    """The stored result of a remedy, without folder and ending.

    Examples
    --------
    >>> file_name("dropout", 0.05)
    'remedies_noise_0.05_dropout'
    """
    return f"remedies_noise_{label_noise}_{key}"


def run_remedies(
    keys: Iterable[str],
    folder: str | Path,
    tables: int,
    seeds: int,
    *,
    test_rows: int = 2000,
    label_noise: float = employees.LABEL_NOISE,
) -> dict[str, dict[str, Any]]:
    """Carry out remedies, or what is left of them, and store each in a file of its own.

    Parameters
    ----------
    keys : iterable of str
        Of :data:`wsp.remedies.REMEDIES`.
    folder : str or Path
        Where the files are, and where they go after every chunk of tables.
    tables : int
        How many fresh tables. A file that holds fewer is gone on from.
    seeds, test_rows, label_noise
        See :func:`specification`.

    Returns
    -------
    dict
        Key → what its file holds.

    Raises
    ------
    ValueError
        For an unknown key, a number out of range, or a file that holds another run.

    Examples
    --------
    >>> run_remedies(["sideways"], ".", tables=1, seeds=1)
    Traceback (most recent call last):
    ValueError: unknown remedy 'sideways': choose from none, ...

    See chapter 9.
    """
    specs = {
        remedy.key: specification(remedy, seeds, test_rows=test_rows, label_noise=label_noise)
        for remedy in find_remedies(keys)
    }
    if tables < 1:
        raise ValueError(f"tables must be a positive integer, not {tables!r}")
    paths = {key: Path(folder) / f"{file_name(key, label_noise)}.json" for key in specs}
    found: dict[str, dict[str, Any]] = {}
    for key, path in paths.items():
        if path.exists():
            content: Any = load_json(path)
            if not isinstance(content, dict) or content.get("specification") != specs[key]:
                raise ValueError(f"{path}: holds another run; name another folder or move this file away")
            found[key] = content

    jobs: list[tuple[str, Sequence[int]]] = []
    for key in specs:
        done = set(found[key]["tables"]) if key in found else set()
        left = [number for number in fresh_tables(tables) if number not in done]
        jobs += [(key, numbers) for numbers in in_chunks(left, workers=1, size=CHUNK)]
    jobs.sort(key=lambda job: job[1][0])  # all remedies on the first tables, then on the next
    firsts: dict[tuple[int, ...], Firsts] = {tuple(numbers): {} for _, numbers in jobs}

    def work(job: Sequence[Any], tick: Callable[[int], None]) -> tuple[str, dict[str, Any], float]:
        key, numbers = job
        start = time.perf_counter()
        part = count_correct(REMEDIES[key].plans(), numbers, specs[key], tick, firsts[tuple(numbers)])
        return key, part, time.perf_counter() - start

    samples = sum(
        samples_of(REMEDIES[key].plans(), employees.TRAIN_ROWS) * len(of) * seeds for key, of in jobs
    )
    for key, part, seconds in run_chunks(work, jobs, samples, "remedies"):
        source = found[key]["provenance"] if key in found else None
        whole = merge([found[key], part] if key in found else [part])
        seconds += source["seconds"] if source else 0.0
        command = (
            f"python -m wsp remedies {key} --tables {tables} --seeds {seeds} --label-noise {label_noise}"
        )
        source = provenance(command, MODULES, seconds, before=source) | {"threads": 1}
        found[key] = whole | {"specification": specs[key], "provenance": source}
        save_json(paths[key], found[key])
    return found


def stored_remedies(
    label_noise: float = employees.LABEL_NOISE, keys: Iterable[str] = REMEDIES
) -> dict[str, dict[str, Any]]:
    """The book's stored results of these remedies, all on the same tables.

    Raises
    ------
    FileNotFoundError
        If one of them is not stored.
    ValueError
        If they are not on the same tables: a run is unfinished.
    """
    found = {remedy.key: stored(file_name(remedy.key, label_noise)) for remedy in find_remedies(keys)}
    sizes = {key: len(content["tables"]) for key, content in found.items()}
    if len({tuple(content["tables"]) for content in found.values()}) > 1:
        raise ValueError(f"the remedies are not on the same tables, a run is unfinished: {sizes}")
    return found


def curves(found: Mapping[str, Any], plan: str) -> Floats:
    """Test accuracy in percent, (tables, epochs), the mean over seeds.

    Examples
    --------
    >>> spec = {"seeds": 2, "test_rows": 10}
    >>> curves({"specification": spec, "correct": {"cold": [[10, 15]]}}, "cold")
    array([[50., 75.]])
    """
    spec = found["specification"]
    rows: Floats = 100.0 * np.array(found["correct"][plan]) / (spec["seeds"] * spec["test_rows"])
    return rows


def curves_of(found: Mapping[str, Any], arm: str) -> dict[str, Floats]:
    """The :func:`curves` of all plans of an arm, by name: one for each strength.

    Examples
    --------
    >>> spec = {"seeds": 2, "test_rows": 10}
    >>> correct = {"warm 0.1": [[10, 15]], "warm 0.3": [[10, 20]], "cold 0.1": [[5, 5]]}
    >>> list(curves_of({"specification": spec, "correct": correct}, "warm"))
    ['warm 0.1', 'warm 0.3']
    """
    return {name: curves(found, name) for name in found["correct"] if name.split()[0] == arm}


def epochs_to(accuracy: Floats, epochs: Sequence[int], target: Floats) -> Floats:
    """For each table the first epoch of `epochs` with at least the target; infinite if there is none.

    Parameters
    ----------
    accuracy : array (tables, epochs)
    epochs : sequence of int
    target : array (tables,)

    Examples
    --------
    >>> accuracy = np.array([[50.0, 70.0, 60.0], [50.0, 55.0, 58.0]])
    >>> epochs_to(accuracy, [10, 20, 50], np.array([60.0, 60.0]))
    array([20., inf])
    """
    there = accuracy >= target[:, None]
    return np.where(there.any(axis=1), np.array(epochs, dtype=float)[there.argmax(axis=1)], np.inf)


def choose(candidates: Mapping[str, Floats], half: NDArray[np.bool_]) -> str:
    """The name of the candidate with the highest mean over the tables of `half`.

    Parameters
    ----------
    candidates : mapping
        Name → values (tables,).
    half : array (tables,) of bool
        The tables to choose on.

    Examples
    --------
    >>> values = {"a": np.array([1.0, 9.0]), "b": np.array([2.0, 0.0])}
    >>> choose(values, np.array([True, False]))
    'b'
    """
    return max(candidates, key=lambda name: float(candidates[name][half].mean()))


def choose_elsewhere(candidates: Mapping[str, Floats]) -> NDArray[np.str_]:
    """For every table the name of the candidate that was best on the *other* half of the tables.

    On the tables that chose it the best looks better than it is. Halves are the
    tables at even and at odd places, so every table is reported by a choice in
    which it had no part (cross-fitting).

    Parameters
    ----------
    candidates : mapping
        Name → values (tables,).

    Examples
    --------
    >>> values = {"a": np.array([1.0, 9.0]), "b": np.array([2.0, 0.0])}
    >>> choose_elsewhere(values).tolist()
    ['a', 'b']
    """
    even = np.arange(len(next(iter(candidates.values())))) % 2 == 0
    return np.where(even, choose(candidates, ~even), choose(candidates, even))
