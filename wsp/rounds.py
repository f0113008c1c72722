"""Let labeled images arrive in rounds: how each start does, and what it costs.

In every round an arm makes a starting network out of its old one, and trains it
on all that has arrived, by the paper's stop rule. Two rounds of one half each
are the two-phase runs of the paper's Table 1.

One integer, the seed, fixes a run. It draws the split into training and test
images (the unit of account), the wrong labels if there are any, and in every
round a fresh network, the batch orders and the noise: each from a stream of its
own, the same for all arms. The first round is the same for all arms that train
alike; it is trained once.
"""

from __future__ import annotations

import argparse
import copy
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from wsp import images
from wsp.employees import Table
from wsp.network import ConvNet, ThinResNet, image_mlp, seeded
from wsp.perturb import shrink_perturb_
from wsp.results import load_json, provenance, save_json
from wsp.retraining import LAMDA, SIGMA
from wsp.statistics import mean_interval
from wsp.training import Fit, fit, progress_wanted

MODULES = ("employees", "images", "network", "perturb", "rounds", "training")
FORMAT = "wsp rounds 1"
STREAMS = ("weights", "order", "noise", "labels")
OFFICIAL_LAMDA, OFFICIAL_SIGMA = 0.4, 0.1  # of the code of Ash and Adams
AT_ONCE = 1000  # test images scored in one go, to bound memory

Build = Callable[[], nn.Module]
Start = Callable[[nn.Module, nn.Module, Table, torch.Generator], nn.Module]
Train = Callable[..., Fit]


def plain(network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any) -> Fit:
    """Train as :func:`wsp.training.fit` does. `first` is not looked at."""
    return fit(network, table, order, **options)


def reestimated(
    network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
) -> Fit:
    """Train as :func:`plain` does, then estimate BatchNorm's running statistics anew.

    It takes one more pass over the table, without gradients, in which every batch
    counts the same. Whoever stops after a few steps needs it: running statistics
    move a tenth of the way at every step, and begin far off where weights were shrunk.
    """
    found = plain(network, first, table, order, **options)
    torch.optim.swa_utils.update_bn(torch.split(table.inputs, options.get("batch_size", 128)), network)
    return found


def as_built(network: nn.Module) -> nn.Module:
    """Leave a new network as it is."""
    return network


@dataclass(frozen=True)
class Arm:
    """One answer to "new data have arrived".

    Attributes
    ----------
    key : str
        Its name in tables, files and figures.
    start
        ``start(old, fresh, table, generator)`` gives the network to train: from
        a copy of the one trained in the round before, a new one, all that has
        arrived, and a CPU generator for noise. It may change and return `old`
        or `fresh`. Not called in the first round, which starts from `fresh`.
    train
        ``train(network, first, table, order, **options)`` trains in place, as
        :func:`wsp.training.fit` does, whose options these are. `first` is the
        network that the run began with, untrained. Default: :func:`plain`.
    prepare
        ``prepare(network)`` may change the layers of every new network.
        Default: :func:`as_built`.

    Examples
    --------
    >>> half = Arm("half", lambda old, fresh, table, generator: shrink_perturb_(old, 0.5, 0.0))
    >>> half.train is plain
    True
    """

    key: str
    start: Start
    train: Train = plain
    prepare: Callable[[nn.Module], nn.Module] = as_built


def start_cold(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
    """Start again."""
    return fresh


def start_warm(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
    """Go on."""
    return old


def start_official(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
    """The rule of the paper's code: 0.4 of every parameter, and 0.1 of a fresh network's."""
    return shrink_perturb_(
        old, OFFICIAL_LAMDA, OFFICIAL_SIGMA, noise=fresh, include=lambda name, parameter: True
    )


def start_shrunk(lamda: float) -> Start:
    """The article's rule with another `lamda`: weights alone, normal noise of `sigma` 0.01."""

    def start(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
        return shrink_perturb_(old, lamda, SIGMA, generator=generator)

    return start


def start_keeping_statistics(
    old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator
) -> nn.Module:
    """The article's rule, with BatchNorm's running statistics as the old network left them."""
    return shrink_perturb_(old, LAMDA, SIGMA, running_stats="keep", generator=generator)


def start_fresh_shrunk(
    old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator
) -> nn.Module:
    """The article's rule on a network that knows nothing: a control."""
    return shrink_perturb_(fresh, LAMDA, SIGMA, generator=generator)


ARMS = {
    arm.key: arm
    for arm in (
        Arm("cold", start_cold),
        Arm("warm", start_warm),
        Arm("shrink_perturb", start_shrunk(LAMDA)),
        Arm("official", start_official),
        *(Arm(f"shrink_perturb_{lamda}", start_shrunk(lamda)) for lamda in (0.3, 0.6, 0.8)),
        Arm("fresh_shrunk", start_fresh_shrunk),
        Arm("shrink_perturb_keep_bn", start_keeping_statistics),
        Arm("cold_update_bn", start_cold, reestimated),
        Arm("warm_update_bn", start_warm, reestimated),
        Arm("shrink_perturb_update_bn", start_shrunk(LAMDA), reestimated),
        Arm("official_update_bn", start_official, reestimated),
    )
}


def stream(seed: int, number: int, name: str) -> torch.Generator:
    """The CPU generator of one stream of a run in round `number`, counted from 1.

    Examples
    --------
    >>> one, other = (stream(3, number, "order") for number in (1, 2))
    >>> one.initial_seed() == other.initial_seed()
    False
    """
    words = np.random.SeedSequence((seed, number, STREAMS.index(name))).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


@dataclass(frozen=True)
class Round:
    """One round of one arm: what training took, and what the network can do.

    Attributes
    ----------
    rows : int
        Training images so far.
    fit : Fit
    seconds : float
        Wall-clock time of making the start and training.
    correct, of : int
        Test images that are right; all test images.
    """

    rows: int
    fit: Fit
    seconds: float
    correct: int
    of: int


@torch.no_grad()
def count_correct(network: nn.Module, table: Table) -> int:
    """Right images of a table, with the network in evaluation mode."""
    network.eval()
    parts = zip(torch.split(table.inputs, AT_ONCE), torch.split(table.labels, AT_ONCE))
    return sum(int((network(inputs).argmax(dim=1) == labels).sum()) for inputs, labels in parts)


def run_arms(
    arms: Iterable[Arm],
    build: Build,
    arrived: Sequence[Table],
    test: Table,
    seed: int,
    *,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    **options: Any,
) -> Iterator[tuple[Arm, list[Round]]]:
    """Run arms through the rounds, one after the other.

    Parameters
    ----------
    arms : iterable of Arm
    build : callable
        Builds a network on the CPU from PyTorch's global generator, which is
        seeded for it. It is moved to the device and dtype of the inputs.
    arrived : sequence of Table
        All training images by each round; see :func:`wsp.images.rounds`.
    test : Table
        Scored after every round, never trained on.
    seed : int
        Fixes fresh networks, batch orders and noise, the same for all arms.
    autocast : callable
        Makes the context of training and scoring, such as one of
        ``torch.autocast``. Default: none.
    **options
        For the arm's training; see :func:`wsp.training.fit`.

    Yields
    ------
    arm : Arm
    rounds : list of Round
        As soon as the arm has gone through all of them.

    Examples
    --------
    >>> train, test = images.split(images.digits(), 200, 100, seed=0)
    >>> found = run_arms([ARMS["cold"], ARMS["warm"]], lambda: image_mlp(hidden=(20,)),
    ...                  images.rounds(train, 100), test, seed=0, max_epochs=3)
    >>> for arm, rounds in found:
    ...     print(arm.key, [round.rows for round in rounds])
    cold [100, 200]
    warm [100, 200]

    Source: Ash and Adams (2020), sections 2 and 5. See chapters 10 and 11.
    """
    begun: dict[tuple[Train, Callable[[nn.Module], nn.Module]], tuple[nn.Module, Round]] = {}

    def new_network(arm: Arm, number: int) -> nn.Module:
        with seeded(stream(seed, number, "weights").initial_seed()):
            network = arm.prepare(build())
        network = network.to(test.inputs.device, test.inputs.dtype)
        if _is_channels_last(test.inputs):
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def go(arm: Arm, number: int, old: nn.Module | None, first: nn.Module) -> tuple[nn.Module, Round]:
        table, begin = arrived[number - 1], time.perf_counter()
        fresh = new_network(arm, number)
        with autocast():
            if old is None:
                network = fresh
            else:
                network = arm.start(copy.deepcopy(old), fresh, table, stream(seed, number, "noise"))
            label = f"seed {seed}, {arm.key}, {len(table.labels)} images"
            found = arm.train(network, first, table, stream(seed, number, "order"), label=label, **options)
            seconds = time.perf_counter() - begin
            correct = count_correct(network, test)
        return network, Round(len(table.labels), found, seconds, correct, len(test.labels))

    for arm in arms:
        first = new_network(arm, 1)
        alike = arm.train, arm.prepare
        if alike not in begun:
            begun[alike] = go(arm, 1, None, first)
        network, record = begun[alike]
        records = [record]
        for number in range(2, len(arrived) + 1):
            network, record = go(arm, number, network, first)
            records.append(record)
        yield arm, records


def _is_channels_last(inputs: torch.Tensor) -> bool:
    return not inputs.is_contiguous() and inputs.is_contiguous(memory_format=torch.channels_last)


def network_named(name: str, activation: str, data: str) -> Build:
    """How to build a network of the book for one data set; ``ValueError`` for an unknown one.

    Examples
    --------
    >>> network_named("logistic", "tanh", "digits")()[1].in_features
    64
    """
    shape = (1, 8, 8) if data == "digits" else images.SHAPE
    builders: dict[str, Build] = {
        "mlp": lambda: image_mlp(shape, activation=activation),
        "logistic": lambda: image_mlp(shape, hidden=()),
        **({"convnet": ConvNet} if data == "digits" else {"resnet": ThinResNet}),
    }
    if name not in builders:
        raise ValueError(f"no network {name!r} for {data}: choose from {', '.join(builders)}")
    return builders[name]


def load(data: str, device: str, dtype: torch.dtype) -> Callable[[dict[str, Any], int], tuple[Table, Table]]:
    """The function that splits a data set for (specification, seed), on the device, ready to train on."""
    whole = images.digits() if data == "digits" else images.cifar10()[0]

    def parts(spec: dict[str, Any], seed: int) -> tuple[Table, Table]:
        # As the paper's code does, test images are held out from the official training files.
        train, test = images.split(whole, spec["images"], spec["test"], seed)
        train = images.mislabel(train, spec["wrong"], stream(seed, 1, "labels"))
        if data != "digits":
            train, test = images.scaled(train), images.scaled(test)
        layout = torch.channels_last if spec["network"] == "resnet" else torch.contiguous_format
        train, test = (
            Table(part.inputs.to(device, dtype, memory_format=layout), part.labels.to(device))
            for part in (train, test)
        )
        return train, test

    return parts


PRECISIONS = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.float32,  # products in bfloat16, by autocast; all else in float32
}
OPTIONS = ("optimizer", "learning_rate", "batch_size", "stop_at", "patience", "max_epochs")


def experiment(
    spec: dict[str, Any],
    arms: Iterable[Arm],
    seeds: int,
    out: Path | None = None,
    *,
    device: str = "cpu",
    command: str = "",
    modules: Sequence[str] = MODULES,
) -> dict[str, Any]:
    """Run arms for seeds 0 to `seeds` - 1, or what is missing of that in `out`.

    Parameters
    ----------
    spec : dict
        What all runs of a file share; :func:`specification` makes it.
    arms : iterable of Arm
    seeds : int
    out : Path, optional
        Written after every finished run (one arm, one seed). Runs that are
        there already are kept.
    device : str
        Default ``"cpu"``.
    command : str
        What re-creates the result, for its provenance.
    modules : sequence of str
        Whose code made it, for its provenance. Default: what `ARMS` need.

    Returns
    -------
    dict
        `specification`, `runs` (one a seed and arm, with a list over rounds for
        each of `epochs`, `steps`, `seconds`, `train_accuracy`, `reached`,
        `correct`) and `provenance`.

    Raises
    ------
    ValueError
        If `out` holds something else than runs of this specification.
    """
    arms = list(arms)
    build = network_named(spec["network"], spec["activation"], spec["data"])
    total = _open(out, spec)
    done = {(run["arm"], run["seed"]) for run in total["runs"]}
    missing = {seed: [arm for arm in arms if (arm.key, seed) not in done] for seed in range(seeds)}
    before = total.get("provenance")
    earlier = before["seconds"] if before else 0.0
    parts = load(spec["data"], device, PRECISIONS[spec["precision"]])
    half = spec["precision"] == "bfloat16"

    def autocast() -> AbstractContextManager[Any]:
        if not half:
            return nullcontext()
        # The context holds for a whole training: a cache of cast weights would never see a step.
        return torch.autocast(torch.device(device).type, torch.bfloat16, cache_enabled=False)

    start = time.perf_counter()
    left = sum(map(len, missing.values()))
    with tqdm(total=left, desc="runs", unit="run", disable=not progress_wanted()) as bar:
        for seed, wanted in missing.items():
            if not wanted:
                continue
            train, test = parts(spec, seed)
            found = run_arms(
                wanted,
                build,
                images.rounds(train, spec["size"]),
                test,
                seed,
                autocast=autocast,
                **{name: spec[name] for name in OPTIONS},
            )
            for arm, records in found:
                total["runs"].append(_as_json(arm, seed, records))
                seconds = earlier + time.perf_counter() - start
                total["provenance"] = provenance(command, modules, seconds, device, before)
                if out is not None:
                    save_json(out, total)
                bar.update()
    return total


def _as_json(arm: Arm, seed: int, records: list[Round]) -> dict[str, Any]:
    return {
        "arm": arm.key,
        "seed": seed,
        "epochs": [record.fit.epochs for record in records],
        "steps": [record.fit.steps for record in records],
        "seconds": [round(record.seconds, 2) for record in records],
        "train_accuracy": [round(record.fit.train_accuracy, 2) for record in records],
        "reached": [record.fit.reached for record in records],
        "correct": [record.correct for record in records],
    }


def _open(path: Path | None, spec: dict[str, Any]) -> dict[str, Any]:
    """The runs of an earlier call with this specification, or none."""
    if path is None or not path.exists():
        return {"format": FORMAT, "specification": spec, "runs": []}
    content: dict[str, Any] = load_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: holds no runs over rounds; give another --out")
    other = [key for key in spec if content["specification"].get(key) != spec[key]]
    if other:
        key = other[0]
        raise ValueError(
            f"{path}: holds runs with {key} {content['specification'].get(key)!r}, not {spec[key]!r}; "
            "give another --out"
        )
    return content


def specification(data: str, **settings: Any) -> dict[str, Any]:
    """Check the settings that all runs of a file share, and write them down.

    Parameters
    ----------
    data : {"digits", "cifar10"}
    **settings
        Those of the command line; see ``python -m wsp digits --help``.

    Raises
    ------
    ValueError
        If a setting makes no sense.

    Examples
    --------
    >>> specification("digits", size=100)["network"]
    'mlp'
    >>> specification("digits", network="resnet")
    Traceback (most recent call last):
    ValueError: no network 'resnet' for digits: choose from mlp, logistic, convnet
    """
    spec = {"data": data, "note": ""} | DEFAULTS[data] | settings
    spec["size"] = spec["size"] or -(-spec["images"] // 2)
    network_named(spec["network"], spec["activation"], data)
    if spec["images"] < 2 or spec["test"] < 1 or not 0 < spec["size"] <= spec["images"]:
        raise ValueError(
            "images must be at least 2, test at least 1, size from 1 to images, not "
            f"{spec['images']}, {spec['test']} and {spec['size']}"
        )
    if spec["images"] + spec["test"] > ROWS[data]:
        raise ValueError(
            f"{data} has {ROWS[data]:,} images to split; {spec['images']} and {spec['test']} are more"
        )
    if not 0 <= spec["wrong"] <= 1:
        raise ValueError(f"the share of wrong labels must be from 0 to 1, not {spec['wrong']}")
    for name in OPTIONS[1:]:
        if not 0 < spec[name] < float("inf"):
            raise ValueError(f"{name} must be positive, not {spec[name]}")
    return spec


ROWS = {"digits": 1797, "cifar10": 50_000}
PAPER = {
    "activation": "tanh",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "batch_size": 128,
    "stop_at": 0.99,
    "patience": 20,
    "max_epochs": 1000,
    "wrong": 0.0,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": PAPER | {"network": "mlp", "images": 1200, "test": 597, "size": 100, "precision": "float64"},
    "cifar10": PAPER
    | {"network": "resnet", "images": 4000, "test": 2000, "size": None, "precision": "float32"},
}


def whole_seeds(found: Mapping[str, Any], arms: Iterable[str] | None = None) -> list[int]:
    """The seeds for which all arms are there: an interrupted run counts by whole seeds."""
    keys = set(arms) if arms is not None else {run["arm"] for run in found["runs"]}
    by_seed: dict[int, set[str]] = {}
    for run in found["runs"]:
        by_seed.setdefault(run["seed"], set()).add(run["arm"])
    return sorted(seed for seed, there in by_seed.items() if keys <= there)


def table_of(
    found: Mapping[str, Any], what: str, arms: Iterable[str] | None = None
) -> dict[str, NDArray[Any]]:
    """One quantity of stored runs as arrays (seeds, rounds) by arm, whole seeds alone.

    Parameters
    ----------
    found : mapping
        What :func:`experiment` returns.
    what : str
        A list of the runs, such as ``"epochs"``; or ``"accuracy"``, in percent;
        or ``"samples"``, training images seen.
    arms : iterable of str, optional
        Default: all arms of the file.

    Examples
    --------
    >>> run = {"arm": "cold", "seed": 0, "epochs": [3, 4], "correct": [5, 9]}
    >>> found = {"specification": {"images": 20, "size": 10, "test": 10}, "runs": [run]}
    >>> table_of(found, "accuracy")["cold"].tolist(), table_of(found, "samples")["cold"].tolist()
    ([[50.0, 90.0]], [[30, 80]])
    """
    spec = found["specification"]
    keys = list(arms) if arms is not None else list(dict.fromkeys(run["arm"] for run in found["runs"]))
    seeds = whole_seeds(found, keys)
    source = {"accuracy": "correct", "samples": "epochs"}.get(what, what)
    cells = {(run["arm"], run["seed"]): run[source] for run in found["runs"]}
    tables = {key: np.array([cells[key, seed] for seed in seeds]) for key in keys}
    if what == "accuracy":
        return {key: 100.0 * table / spec["test"] for key, table in tables.items()}
    if what == "samples":
        rows = np.minimum(
            np.arange(spec["size"], spec["images"] + spec["size"], spec["size"]), spec["images"]
        )
        return {key: table * rows for key, table in tables.items()}
    return tables


def as_text(found: Mapping[str, Any]) -> str:
    """A table for people: the last round of every arm, and its cost over all rounds but the first."""
    accuracy, samples = table_of(found, "accuracy"), table_of(found, "samples")
    seconds, reached = table_of(found, "seconds"), table_of(found, "reached")
    seeds = whole_seeds(found)
    later = slice(1 if found["specification"]["size"] < found["specification"]["images"] else 0, None)
    lines = [
        f"{len(seeds)} whole seeds (splits); last of {next(iter(accuracy.values())).shape[1]} rounds",
        f"{'arm':20s}{'accuracy, %':>12s}{'minus cold, points':>28s}{'images seen':>14s}{'seconds':>10s}"
        f"{'reached':>9s}",
    ]
    for key in accuracy:
        gap = ""
        if key != "cold" and "cold" in accuracy and len(seeds) > 1:
            gap = str(mean_interval(accuracy[key][:, -1] - accuracy["cold"][:, -1]))
        lines.append(
            f"{key:20s}{accuracy[key][:, -1].mean():12.2f}{gap:>28s}"
            f"{samples[key][:, later].sum(axis=1).mean():14,.0f}"
            f"{seconds[key][:, later].sum(axis=1).mean():10.1f}"
            f"{reached[key][:, later].mean():9.2f}"
        )
    return "\n".join(lines)


def add_arguments(command: argparse.ArgumentParser, data: str) -> None:
    """The options of ``python -m wsp digits`` and ``python -m wsp cifar``."""
    usual = DEFAULTS[data]
    networks = ("mlp", "logistic", "convnet" if data == "digits" else "resnet")
    command.add_argument("--seeds", type=int, required=True, help="seeds 0 to N-1, a split each")
    command.add_argument(
        "--arms",
        default="cold,warm,shrink_perturb,official",
        help=f"separated by commas, of {', '.join(ARMS)}; default %(default)s",
    )
    command.add_argument("--network", choices=networks, default=usual["network"])
    command.add_argument("--activation", choices=("tanh", "relu"), default="tanh", help="of the mlp")
    command.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    command.add_argument(
        "--images", type=int, default=usual["images"], help="to train on; default %(default)s"
    )
    command.add_argument("--test", type=int, default=usual["test"], help="held out; default %(default)s")
    command.add_argument(
        "--size",
        type=int,
        default=usual["size"],
        help=f"images a round; default {usual['size'] or 'one half: two phases'}",
    )
    command.add_argument("--wrong", type=float, default=0.0, help="share of wrong training labels")
    for name, kind in (
        ("learning_rate", float),
        ("batch_size", int),
        ("stop_at", float),
        ("patience", int),
        ("max_epochs", int),
    ):
        option = "--" + name.replace("_", "-")
        command.add_argument(option, type=kind, default=usual[name], help="default %(default)s")
    command.add_argument(
        "--precision", choices=tuple(PRECISIONS), default=usual["precision"], help="default %(default)s"
    )
    command.add_argument("--note", default="", help="kept with the result, such as where the images are from")
    command.add_argument("--out", type=Path, help="store here after every run; go on from here")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(args: argparse.Namespace, data: str, device: str) -> int:
    """Do what the command line asks for."""
    unknown = [key for key in args.arms.split(",") if key not in ARMS]
    if unknown:
        raise ValueError(f"unknown arm {unknown[0]!r}: choose from {', '.join(ARMS)}")
    if args.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, not {args.seeds}")
    names = ("network", "images", "test", "size", "wrong", "activation", "precision", "note", *OPTIONS)
    spec = specification(data, **{name: getattr(args, name) for name in names})
    arms = [ARMS[key] for key in args.arms.split(",")]
    command = "python -m wsp " + shlex.join(sys.argv[1:])
    print(as_text(experiment(spec, arms, args.seeds, args.out, device=device, command=command)))
    return 0
