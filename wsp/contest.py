"""Let the rivals meet: one protocol, the same number of settings to try for each.

Digits arrive in five rounds; every method trains the same small network on the same
splits, by the same stop rule. Each may try six settings. Those are compared on a few splits,
and the best of them alone is run on the splits that are reported.

On CIFAR-10, where a run takes minutes, nothing is tuned: every method has the setting of
its source.
"""

from __future__ import annotations

import argparse
import copy
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsp.employees import Table
from wsp.network import seeded
from wsp.perturb import shrink_perturb_
from wsp.retraining import SIGMA
from wsp.rivals import HareTortoise, Redo, add_layer_norm_, dash_, fit_stopped, l2_init
from wsp.rounds import (
    MODULES,
    OFFICIAL_SIGMA,
    PRECISIONS,
    Arm,
    Start,
    Train,
    experiment,
    specification,
    start_cold,
    start_warm,
    table_of,
)
from wsp.statistics import Interval, simultaneous
from wsp.training import Fit, MakeOptimizer, fit

SOURCES = (*MODULES, "contest", "rivals")
RATES = (0.005, 0.01)  # learning rates of Adam that a method with a knob of its own may try
MORE_RATES = (0.003, 0.005, 0.007, 0.01, 0.015, 0.02)  # and one without
TUNE, REPORT = 4, 20  # splits to choose on, and further splits to report
WRONG = 0.2  # the share of wrong labels in the second condition
CHECK_EVERY = 20  # steps between two looks for dormant units
PATIENCE = 10  # epochs, of a method that stops early and has another knob
CHUNK = 160  # images a batch of DASH: an arrival of digits
DATA = {
    "digits": {"activation": "relu", "size": 160, "images": 800, "test": 997, "precision": "float32"},
    "cifar10": {"activation": "relu", "images": 4000, "test": 2000},
}


@dataclass(frozen=True)
class Method:
    """One competitor.

    Attributes
    ----------
    key, name : str
        In files, and for people.
    source : str
        Its key in the bibliography.
    make : callable
        ``make(key, rate, value)`` builds the arm for a learning rate and a value of the knob.
    knob : str
        What may be tuned besides the learning rate; empty if nothing.
    values : tuple of float
        What to try.
    published : float
        The value of its source; where training here is too short for that one, ours.
    passes : float
        Passes over the data in a round from the second on, besides those of the training.
    copies : float
        Copies of the network's weights that it holds besides those of the training.
    """

    key: str
    name: str
    source: str
    make: Callable[[str, float, float], Arm]
    knob: str = ""
    values: tuple[float, ...] = ()
    published: float = 0.0
    passes: float = 0.0
    copies: float = 0.0

    def arms(self) -> dict[str, Arm]:
        """Its six settings by name.

        Examples
        --------
        >>> list(METHODS["dash"].arms())[:2]
        ['dash rate=0.005 lamda=0.1', 'dash rate=0.005 lamda=0.3']
        >>> {len(method.arms()) for method in METHODS.values()}
        {6}
        """
        settings = [(rate, value) for rate in RATES for value in self.values]
        if not self.knob:
            settings = [(rate, 0.0) for rate in MORE_RATES]
        arms = [self.make(_key(self, rate, value), rate, value) for rate, value in settings]
        return {arm.key: arm for arm in arms}

    def as_published(self, rate: float) -> Arm:
        """The one arm with the setting of its source, but our learning rate."""
        return self.make(self.key, rate, self.published)


def _key(method: Method, rate: float, value: float = 0.0) -> str:
    return f"{method.key} rate={rate}" + (f" {method.knob}={value}" if method.knob else "")


def adam(rate: float, decay: float = 0.0) -> MakeOptimizer:
    """Adam, or with `decay` AdamW, with PyTorch's defaults; fused, which is faster."""
    if decay:
        return partial(torch.optim.AdamW, lr=rate, weight_decay=decay, fused=True)
    return partial(torch.optim.Adam, lr=rate, fused=True)


# Methods that train alike get the same function, so that they share their first round.
@cache
def train_plain(rate: float, decay: float = 0.0) -> Train:
    """Train by the paper's stop rule."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        return fit(network, table, order, **options | {"optimizer": adam(rate, decay)})

    return train


@cache
def train_stopped(rate: float, patience: float) -> Train:
    """Train until rows held out get worse."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        options |= {"optimizer": adam(rate), "patience": int(patience)}
        return fit_stopped(network, table, order, **options)

    return train


@cache
def train_l2_init(rate: float, strength: float) -> Train:
    """Train with a pull to where the run began."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        options |= {"optimizer": adam(rate), "loss": l2_init(first, strength)}
        return fit(network, table, order, **options)

    return train


@cache
def train_redo(rate: float, tau: float) -> Train:
    """Train, and recycle dormant units on the way."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        seeds = torch.Generator().manual_seed(order.initial_seed())
        hook = Redo(
            table.inputs[: options["batch_size"]], lambda: redrawn(first, seeds), tau, every=CHECK_EVERY
        )
        return fit(network, table, order, **options | {"optimizer": adam(rate), "after_step": hook})

    return train


@cache
def train_hare(rate: float, momentum: float) -> Train:
    """Train the hare; the network ends as the tortoise.

    As in the authors' code there are about four time constants of the average between resets.
    """

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        hook = HareTortoise(network, momentum, every=round(4 / (1 - momentum)))
        found = fit(network, table, order, **options | {"optimizer": adam(rate), "after_step": hook})
        network.load_state_dict(hook.tortoise.state_dict())
        return found

    return train


def redrawn(network: nn.Module, seeds: torch.Generator) -> nn.Module:
    """A copy of a network with new random weights, as PyTorch's layers draw them.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> one, other = (redrawn(layer, torch.Generator().manual_seed(0)) for _ in "ab")
    >>> torch.equal(one.weight, other.weight), torch.equal(one.weight, layer.weight)
    (True, False)
    """
    new, device = copy.deepcopy(network).cpu(), next(network.parameters()).device
    with seeded(int(torch.randint(2**31, (1,), generator=seeds))):
        for module in new.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
    return new.to(device)


def start_article(lamda: float) -> Start:
    """The article's rule: weights alone, normal noise."""
    return lambda old, fresh, table, generator: shrink_perturb_(old, lamda, SIGMA, generator=generator)


def start_official(lamda: float) -> Start:
    """The rule of the paper's code: every parameter, noise from a fresh network."""
    return lambda old, fresh, table, generator: shrink_perturb_(
        old, lamda, OFFICIAL_SIGMA, noise=fresh, include=lambda name, parameter: True
    )


def start_dash(lamda: float) -> Start:
    """DASH, with batches of `CHUNK` rows in order of arrival."""

    def start(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
        chunks = zip(torch.split(table.inputs, CHUNK), torch.split(table.labels, CHUNK))
        return dash_(old, (Table(*chunk) for chunk in chunks), lamda)

    return start


METHODS = {
    method.key: method
    for method in (
        Method(
            "cold",
            "cold start",
            "ash2020warm",
            lambda key, rate, value: Arm(key, start_cold, train_plain(rate)),
        ),
        Method(
            "warm",
            "warm start",
            "ash2020warm",
            lambda key, rate, value: Arm(key, start_warm, train_plain(rate)),
        ),
        Method(
            "cold_stopped",
            "cold start, stopped early",
            "prechelt1998early",
            lambda key, rate, patience: Arm(key, start_cold, train_stopped(rate, patience)),
            "patience",
            (3, PATIENCE, 30),
            published=PATIENCE,
            copies=1,
        ),
        Method(
            "warm_stopped",
            "warm start, stopped early",
            "prechelt1998early",
            lambda key, rate, patience: Arm(key, start_warm, train_stopped(rate, patience)),
            "patience",
            (3, PATIENCE, 30),
            published=PATIENCE,
            copies=1,
        ),
        Method(
            "shrink_perturb",
            "shrink and perturb (article)",
            "pureai2021",
            lambda key, rate, lamda: Arm(key, start_article(lamda), train_plain(rate)),
            "lamda",
            (0.3, 0.5, 0.8),
            published=0.5,
        ),
        Method(
            "shrink_perturb_stopped",
            "shrink and perturb, stopped early",
            "pureai2021",
            lambda key, rate, lamda: Arm(key, start_article(lamda), train_stopped(rate, PATIENCE)),
            "lamda",
            (0.3, 0.5, 0.8),
            published=0.5,
            copies=1,
        ),
        Method(
            "official",
            "shrink and perturb (paper's code)",
            "ash2020warm",
            lambda key, rate, lamda: Arm(key, start_official(lamda), train_plain(rate)),
            "lamda",
            (0.4, 0.6, 0.8),
            published=0.4,
        ),
        Method(
            "dash",
            "DASH",
            "shin2024dash",
            lambda key, rate, lamda: Arm(key, start_dash(lamda), train_plain(rate)),
            "lamda",
            (0.1, 0.3, 0.6),
            published=0.3,
            passes=1,
            copies=2,  # the probe and the average direction; both are gone when training begins
        ),
        Method(
            "l2_init",
            "L2 Init",
            "kumar2023maintaining",
            lambda key, rate, strength: Arm(key, start_warm, train_l2_init(rate, strength)),
            "strength",
            (1e-3, 1e-2, 3e-2),
            published=1e-2,
            copies=1,
        ),
        Method(
            "redo",
            "ReDo",
            "sokar2023dormant",
            lambda key, rate, tau: Arm(key, start_warm, train_redo(rate, tau)),
            "tau",
            (0.025, 0.1, 0.3),
            published=0.1,
        ),
        Method(
            "hare",
            "Hare and Tortoise",
            "lee2024slow",
            lambda key, rate, momentum: Arm(key, start_warm, train_hare(rate, momentum)),
            "momentum",
            (0.9, 0.98, 0.995),
            published=0.98,  # theirs, 0.999, averages over more steps than a training here has
            copies=1,
        ),
        Method(
            "layer_norm",
            "layer norm + weight decay",
            "lyle2024disentangling",
            lambda key, rate, decay: Arm(key, start_warm, train_plain(rate, decay), add_layer_norm_),
            "decay",
            (0.1, 1.0, 3.0),
            published=0.1,
        ),
    )
}


def conditions(data: str, wrong: float, tune: int = TUNE, **settings: Any) -> dict[str, Any]:
    """What all runs of one file share; see :func:`wsp.rounds.specification`.

    Examples
    --------
    >>> conditions("cifar10", 0.0, tune=0, note="JPEG copy")["note"]
    'JPEG copy'
    """
    return specification(data, **{"wrong": wrong, **DATA[data], "tune": tune, **settings})


def contest(
    spec: dict[str, Any],
    report: int,
    out: Path,
    *,
    methods: Iterable[str] = METHODS,
    device: str = "cpu",
    command: str = "",
) -> dict[str, Any]:
    """Choose every method's setting on the first splits; run the best on the others too.

    Parameters
    ----------
    spec : dict
        From :func:`conditions`. Its `tune` says on how many splits to choose; with 0
        every method has the setting of its source.
    report : int
        Further splits, on which the chosen settings are compared.
    out : Path
        Written after every run; an interrupted contest goes on from here.
    methods : iterable of str
        Keys of ``METHODS``. Default: all.
    device : str
        Default ``"cpu"``.
    command : str
        What re-creates the result, for its provenance.

    Returns
    -------
    dict
        As :func:`wsp.rounds.experiment` returns it. An arm is named by its method and
        setting; see :func:`chosen`.

    Raises
    ------
    ValueError
        For an unknown method, or if `out` holds something else.
    """
    methods, tune = list(methods), spec["tune"]
    for key in methods:
        if key not in METHODS:
            raise ValueError(f"unknown method {key!r}: choose from {', '.join(METHODS)}")

    def run(arms: list[Arm], splits: int, out: Path) -> dict[str, Any]:
        return experiment(spec, arms, splits, out, device=device, command=command, modules=SOURCES)

    if not tune:
        return run([METHODS[key].as_published(spec["learning_rate"]) for key in methods], report, out)
    arms = {name: arm for key in methods for name, arm in METHODS[key].arms().items()}
    best = chosen(run(list(arms.values()), tune, out), methods)
    return run([arms[name] for name in best.values()], tune + report, out)


def chosen(found: Mapping[str, Any], methods: Iterable[str] = METHODS) -> dict[str, str]:
    """Each method's best setting on the splits to choose on, by its arm's name.

    Best is the highest accuracy on the test images of those splits, averaged over the rounds
    from the second on. None of them is reported.
    """
    tune = found["specification"]["tune"]
    if not tune:
        return {key: key for key in methods}
    best = {}
    for key in methods:
        accuracy = table_of(found, "accuracy", METHODS[key].arms())
        means = {name: float(rows[:tune, 1:].mean()) for name, rows in accuracy.items()}
        best[key] = max(means, key=lambda name: means[name])
    return best


def reported(
    found: Mapping[str, Any], what: str, methods: Iterable[str] = METHODS
) -> dict[str, NDArray[np.float64]]:
    """One quantity on the splits to report, as arrays (splits, rounds) by method.

    Parameters
    ----------
    found : mapping
        What :func:`contest` returns.
    what : str
        As for :func:`wsp.rounds.table_of`; or ``"cost"``: training images seen, each pass of
        a method's own over the data counted as one of training.
    """
    spec, best = found["specification"], chosen(found, methods)
    table = table_of(found, "samples" if what == "cost" else what, best.values())
    rows = np.arange(1, 1 + len(table[best[next(iter(best))]][0])) * spec["size"]
    own = {key: METHODS[key].passes * np.where(np.arange(len(rows)) > 0, rows, 0) for key in best}
    return {
        key: table[name][spec["tune"] :].astype(float) + (own[key] if what == "cost" else 0.0)
        for key, name in best.items()
    }


def averages(
    found: Mapping[str, Any], what: str, methods: Iterable[str] = METHODS
) -> dict[str, NDArray[np.float64]]:
    """One number a split and method, rounds from the second on: a mean, or for costs a sum."""
    total = what in ("cost", "samples", "seconds", "epochs", "steps")
    return {
        key: rows[:, 1:].sum(axis=1) if total else rows[:, 1:].mean(axis=1)
        for key, rows in reported(found, what, methods).items()
    }


def against(values: Mapping[str, NDArray[np.float64]], other: str) -> dict[str, Interval]:
    """Every method minus one of them, paired over splits; the intervals hold all at once.

    Examples
    --------
    >>> splits = np.arange(6.0)
    >>> found = against({"warm": splits, "dash": splits + [1, 2, 1, 2, 1, 2]}, "warm")
    >>> round(found["dash"].estimate, 2)
    1.5
    """
    return simultaneous({key: rows - values[other] for key, rows in values.items() if key != other})


def as_text(found: Mapping[str, Any], methods: Iterable[str] = METHODS) -> str:
    """A table for people."""
    accuracy, cost = averages(found, "accuracy", methods), averages(found, "cost", methods)
    splits = len(next(iter(accuracy.values())))
    gaps = {
        other: against(accuracy, other) for other in ("warm", "cold") if other in accuracy and splits > 1
    }
    lines = [
        f"{splits} splits; rounds from the second on; intervals hold for all methods at once",
        f"{'method':18s}{'accuracy':>9s}{'cost':>9s}"
        + "".join(f"{'minus ' + other:>26s}" for other in gaps)
        + "  setting",
    ]
    for key, name in chosen(found, methods).items():
        lines.append(
            f"{key:18s}{accuracy[key].mean():9.2f}{cost[key].mean():9,.0f}"
            + "".join(f"{str(gap[key]) if key in gap else '':>26s}" for gap in gaps.values())
            + f"  {name.removeprefix(key).strip()}"
        )
    return "\n".join(lines)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m wsp rivals``."""
    command.add_argument("--data", choices=tuple(DATA), default="digits")
    command.add_argument(
        "--wrong",
        type=float,
        nargs="+",
        metavar="SHARE",
        help=f"shares of wrong labels, a file each; default 0.0, and on digits {WRONG} too",
    )
    command.add_argument("--tune", type=int, default=TUNE, help="splits to choose on; default %(default)s")
    command.add_argument("--report", type=int, default=REPORT, help="splits to report; default %(default)s")
    command.add_argument(
        "--methods", default=",".join(METHODS), help="separated by commas; default: all, %(default)s"
    )
    command.add_argument("--precision", choices=tuple(PRECISIONS), help="default: float32")
    command.add_argument("--note", default="", help="kept with the result, such as where the images are from")
    command.add_argument("--folder", type=Path, default=Path("data/results"), help="default %(default)s")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(args: argparse.Namespace, device: str) -> int:
    """Do what the command line asks for."""
    methods = args.methods.split(",")
    digits = args.data == "digits"
    if args.report < 1 or args.tune < 1:
        raise ValueError(f"--tune and --report must be at least 1, not {args.tune} and {args.report}")
    usual = (0.0, WRONG) if digits else (0.0,)
    settings = {name: getattr(args, name) for name in ("precision", "note") if getattr(args, name)}
    options = "".join(f" --{name} {shlex.quote(value)}" for name, value in settings.items())
    for wrong in args.wrong if args.wrong is not None else usual:
        spec = conditions(args.data, wrong, args.tune if digits else 0, **settings)
        out = args.folder / f"rivals_{args.data}_wrong_{wrong}.json"
        command = f"python -m wsp rivals --data {args.data} --wrong {wrong}{options}"
        found = contest(spec, args.report, out, methods=methods, device=device, command=command)
        print(f"{args.data}, {100 * wrong:.0f} % wrong labels")
        print(as_text(found, methods), flush=True)
    return 0
