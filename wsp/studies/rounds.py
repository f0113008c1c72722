"""Digits and CIFAR-10 in rounds, over random splits: the stored runs of chapters 10 and 11.

A unit is a run: one split, one arm. What a run is, :mod:`wsp.lab.rounds` says. Runs of a split are
computed together, since arms that train alike share their first round, and each is stored as soon
as it is there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsp.lab import images
from wsp.lab.comparisons import table_of as table_of
from wsp.lab.comparisons import whole_seeds as whole_seeds
from wsp.lab.employees import Table
from wsp.lab.network import ConvNet, ThinResNet, image_mlp
from wsp.lab.rounds import ARMS, Arm, Build, Round, run_arms, stream
from wsp.lab.statistics import mean_interval
from wsp.studies.engine import Study, Tick
from wsp.studies.parts import Content, a_share, at_least_1, differences, positive, uneven

Run = tuple[int, str]  # seed, arm
FORMAT = "wsp rounds 1"
ROWS = {"digits": 1797, "cifar10": 50_000}
USUAL: dict[str, Content] = {
    "digits": {"network": "mlp", "images": 1200, "test": 597, "size": 100, "precision": "float64"},
    "cifar10": {"network": "resnet", "images": 4000, "test": 2000, "size": None, "precision": "float32"},
}
PRECISIONS = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.float32,  # products in bfloat16, by autocast; all else in float32
}
OPTIONS = ("optimizer", "learning_rate", "batch_size", "stop_at", "patience", "max_epochs")
ELSEWHERE = 3.0  # points: single precision goes other ways on another processor
# The test batch of the JPEG copy of CIFAR-10 from which the stored results come.
JPEG_COPY = "4031d37f75019b03cd2c6e0837a85e5935f31d6a5050a8d117ad746543e6f124"


class Rounds(Study):
    """``runs``: one a seed and arm, with a list over rounds for each of `epochs`, `steps`, `seconds`,
    `train_accuracy`, `reached`, `correct`.
    """

    key, parallel, cuda = "runs", False, True

    def __init__(self, name: str, data: str, chapter: int, words: str) -> None:
        self.name, self.data, self.chapter, self.words = name, data, chapter, words
        self.minutes = 1.0 if data == "digits" else 15.0

    def specification(
        self,
        *,
        network: str | None = None,
        activation: str = "tanh",
        images: int | None = None,
        test: int | None = None,
        size: int | None = None,
        wrong: float = 0.0,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        batch_size: int = 128,
        stop_at: float = 0.99,
        patience: int = 20,
        max_epochs: int = 1000,
        precision: str | None = None,
        note: str = "",
    ) -> Content:
        """What the runs of a file have in common; every default is the paper's, or this data set's usual.

        Parameters
        ----------
        network : str
            logistic, mlp, and convnet for digits or resnet for CIFAR-10.
        activation : str
            tanh or relu, of the mlp.
        images : int
            To train on.
        test : int
            Held out.
        size : int
            Images a round. On CIFAR-10 by default one half: two phases.
        wrong : float
            Share of wrong training labels.
        optimizer, learning_rate, batch_size, stop_at, patience, max_epochs
            As for ``wsp.lab.fitting.fit``.
        precision : str
            float64, float32 or bfloat16.
        note : str
            Kept with the result, such as where the images are from.

        Examples
        --------
        >>> DIGITS.specification(size=100)["network"]
        'mlp'
        >>> DIGITS.specification(network="resnet")
        Traceback (most recent call last):
        ValueError: no network 'resnet' for digits: choose from mlp, logistic, convnet
        """
        usual = USUAL[self.data]
        images, test = images or usual["images"], test or usual["test"]
        spec: Content = {
            "data": self.data,
            "note": note,
            "activation": activation,
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "stop_at": stop_at,
            "patience": patience,
            "max_epochs": max_epochs,
            "wrong": wrong,
            "network": network or usual["network"],
            "images": images,
            "test": test,
            "size": size or usual["size"] or -(-images // 2),
            "precision": precision or usual["precision"],
        }
        network_of(spec)
        at_least_1(images=images, test=test, size=spec["size"])
        if spec["size"] > images or images + test > ROWS[self.data]:
            raise ValueError(
                f"{self.data} has {ROWS[self.data]:,} images for images + test, and size is at most images; "
                f"not {images}, {test} and {spec['size']}"
            )
        if spec["precision"] not in PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}: choose from {', '.join(PRECISIONS)}")
        if optimizer not in ("adam", "sgd"):
            raise ValueError(f"unknown optimizer {optimizer!r}: choose from adam, sgd")
        if activation not in ("tanh", "relu"):
            raise ValueError(f"unknown activation {activation!r}: choose from tanh, relu")
        a_share(wrong=wrong)
        positive(**{name: spec[name] for name in OPTIONS[1:]})
        return spec

    def units(
        self,
        spec: Content,
        content: Content | None,
        *,
        seeds: int = 20,
        arms: Sequence[str] = ("cold", "warm", "shrink_perturb", "official"),
    ) -> Sequence[Run]:
        """Which runs a file is to hold; with more of them the same file grows.

        Parameters
        ----------
        seeds : int
            Seeds 0, 1, ..., a split each.
        arms : sequence of str
            Keys of ``wsp.lab.rounds.ARMS``.
        """
        at_least_1(seeds=seeds)
        for key in arms:
            self.arm(spec, key)
        return [(seed, key) for seed in range(seeds) for key in arms]

    def arm(self, spec: Content, key: str) -> Arm:
        """The arm of this name."""
        if key not in ARMS:
            raise ValueError(f"unknown arm {key!r}: choose from {', '.join(ARMS)}")
        return ARMS[key]

    def options(self, spec: Content) -> Content:
        """What an arm's training is told."""
        return {name: spec[name] for name in OPTIONS}

    def chunks(self, units: Sequence[Run], workers: int) -> list[Sequence[Run]]:
        """The runs of a split."""
        return [list(runs) for _, runs in groupby(units, key=lambda run: run[0])]

    def work(self, spec: Content, units: Sequence[Run], tick: Tick, device: str) -> Iterator[Content]:
        """Run the arms of one split; each is handed out as soon as it is there."""
        seed = units[0][0]
        train, test = split_of(spec, seed, device)
        found = run_arms(
            [self.arm(spec, key) for _, key in units],
            network_of(spec),
            images.rounds(train, spec["size"])[: spec.get("rounds")],
            test,
            seed,
            autocast=partial(autocast_of, spec, device),
            **self.options(spec),
        )
        for arm, records in found:
            yield {"format": FORMAT, "runs": [as_json(arm, seed, records)]}
            tick(1)

    def holds(self, content: Content) -> bool:
        """Others share the format: a contest has splits to choose on, ordinary training a schedule."""
        spec = content.get("specification", {})
        other = "tune" in spec or "warm_up" in spec
        return content.get("format") == FORMAT and spec["data"] == self.data and not other

    def done(self, content: Content) -> list[Run]:
        """Seed and arm of every run."""
        return [(run["seed"], run["arm"]) for run in content["runs"]]

    def merge(self, parts: Sequence[Content]) -> Content:
        """All runs, as they came."""
        return {"format": FORMAT, "runs": [run for part in parts for run in part["runs"]]}

    def rows(self, content: Content, units: Sequence[Run]) -> Content:
        """Runs by name, without their times, and of how many test images."""
        runs = dict(zip(self.done(content), content["runs"], strict=True))
        more = {"seconds": [], "of": content["specification"]["test"]}
        return {f"{key} {seed}": runs[seed, key] | more for seed, key in units}

    def missing(self, content: Content) -> list[str]:
        """Runs that are not whole."""
        spec = content["specification"]
        length = -(-spec["images"] // spec["size"])
        lacks = [] if content["runs"] else ["no runs"]
        for run in content["runs"]:
            lists = {name: run[name] for name in ("epochs", "steps", "train_accuracy", "reached", "correct")}
            lacks += uneven(lists, length, where=f"{run['arm']} {run['seed']}")
        return lacks

    def slice(self, content: Content) -> tuple[Content, Sequence[Run]]:
        """Two rounds of the last split, all arms; one arm where a training takes a minute.

        The first training of the ResNet with SGD takes minutes alone.
        """
        spec = content["specification"]
        slow = spec["data"] == "cifar10" and spec["network"] != "mlp"
        alone = spec["network"] == "resnet" and spec["optimizer"] == "sgd"
        arms = (["cold"] if alone else ["warm"]) if slow else self.arms_of(content)
        seed = 0 if slow else whole_seeds(content)[-1]
        return spec | {"rounds": 1 if alone else 2}, [(seed, arm) for arm in arms]

    def arms_of(self, content: Content) -> list[str]:
        """The arms of a result."""
        return list(dict.fromkeys(run["arm"] for run in content["runs"]))

    def needs(self, content: Content) -> str:
        """The very images that the result is from."""
        spec = content["specification"]
        if spec["data"] == "digits" or spec["note"] != "JPEG copy":
            return ""
        batch = Path(os.environ.get("WSP_CIFAR10", "absent")).expanduser() / "test_batch.bin"
        if batch.is_file() and hashlib.sha256(batch.read_bytes()).hexdigest() == JPEG_COPY:
            return ""
        return "WSP_CIFAR10 names no folder with the JPEG copy of CIFAR-10"

    def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
        """To the image on the processor that made them; elsewhere within a few points."""
        if at_home:
            yield from differences(kept, again)
            return
        for name, run in again.items():
            apart = np.array(run["correct"]) - kept[name]["correct"][: len(run["correct"])]
            points = 100 * float(abs(apart.mean())) / run["of"]
            if points >= ELSEWHERE:
                yield f"{name}: {run['correct']}, stored {kept[name]['correct']}"

    def as_text(self, content: Content) -> str:
        """The last round of every arm, and its cost over all rounds but the first."""
        accuracy, samples = table_of(content, "accuracy"), table_of(content, "samples")
        seconds, reached = table_of(content, "seconds"), table_of(content, "reached")
        seeds, spec = whole_seeds(content), content["specification"]
        later = slice(1 if spec["size"] < spec["images"] else 0, None)
        lines = [
            f"{len(seeds)} whole seeds (splits); last of {next(iter(accuracy.values())).shape[1]} rounds",
            f"{'arm':20s}{'accuracy, %':>12s}{'minus cold, points':>28s}{'images seen':>14s}"
            f"{'seconds':>10s}{'reached':>9s}",
        ]
        for key in accuracy:
            gap = ""
            if key != "cold" and "cold" in accuracy and len(seeds) > 1:
                gap = str(mean_interval(accuracy[key][:, -1] - accuracy["cold"][:, -1]))
            lines.append(
                f"{key:20s}{accuracy[key][:, -1].mean():12.2f}{gap:>28s}"
                f"{samples[key][:, later].sum(axis=1).mean():14,.0f}"
                f"{seconds[key][:, later].sum(axis=1).mean():10.1f}{reached[key][:, later].mean():9.2f}"
            )
        return "\n".join(lines)


DIGITS = Rounds("digits", "digits", 10, "the starts while scikit-learn's digits arrive in rounds")
CIFAR = Rounds("cifar", "cifar10", 11, "the starts while CIFAR-10 arrives in rounds")


def network_of(spec: Mapping[str, Any]) -> Build:
    """How to build the network of a specification."""
    digits = spec["data"] == "digits"
    shape = (1, 8, 8) if digits else images.SHAPE
    builders: dict[str, Build] = {
        "mlp": partial(image_mlp, shape, activation=spec["activation"]),
        "logistic": partial(image_mlp, shape, hidden=()),
        **({"convnet": ConvNet} if digits else {"resnet": ThinResNet}),
    }
    if spec["network"] not in builders:
        choices = ", ".join(builders)
        raise ValueError(f"no network {spec['network']!r} for {spec['data']}: choose from {choices}")
    return builders[spec["network"]]


@lru_cache(maxsize=1)
def whole(data: str) -> Table:
    """All images. As the paper's code does, test images are held out from the official training files."""
    return images.digits() if data == "digits" else images.cifar10()[0]


def split_of(spec: Mapping[str, Any], seed: int, device: str) -> tuple[Table, Table]:
    """Training and test images of one split, on the device, ready to train on."""
    train, test = images.split(whole(spec["data"]), spec["images"], spec["test"], seed)
    train = images.mislabel(train, spec["wrong"], stream(seed, 1, "labels"))
    if spec["data"] != "digits":
        train, test = images.scaled(train), images.scaled(test)
    layout = torch.channels_last if spec["network"] == "resnet" else torch.contiguous_format
    dtype = PRECISIONS[spec["precision"]]
    train, test = (
        Table(part.inputs.to(device, dtype, memory_format=layout), part.labels.to(device))
        for part in (train, test)
    )
    return train, test


def autocast_of(spec: Mapping[str, Any], device: str) -> AbstractContextManager[Any]:
    """The context of training and scoring."""
    if spec["precision"] != "bfloat16":
        return nullcontext()
    # The context holds for a whole training: a cache of cast weights would never see a step.
    return torch.autocast(torch.device(device).type, torch.bfloat16, cache_enabled=False)


def as_json(arm: Arm, seed: int, records: Sequence[Round]) -> Content:
    """One run, as it is stored."""
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
