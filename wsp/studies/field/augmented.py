"""Does the gap survive ordinary training: augmentation, and one schedule of the learning rate?

The strongest objection to warm starts that hurt: with crop and flip they are said not to. CIFAR-10 in two
phases, half of 4,000 images and then all of them; every training is one schedule of 30 epochs (SGD with
momentum and weight decay, warm-up, cosine), with and without augmentation.

Rules, written before any run of this study:

- Nothing is tuned: rate, decay, momentum and crop are what people take for a ResNet on CIFAR-10.
- Arms: cold, warm, the article's rule, FIRE. All train equally many epochs, the cold one too, so that there
  is no saving to report.
- Unit: the split, ten of them. One joint family (:func:`family`): with and without augmentation cold, the
  article's rule and FIRE minus warm; and the gap without augmentation minus the gap with it. Two splits
  share about one image in eight and are taken as independent.
- Claim to be judged: with augmentation a warm start is no worse than a cold one. It *survives* if cold
  minus warm with augmentation is not above 0; it is *contradicted* if it is.
- One data set, one size, one schedule: whatever comes out is told as that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from wsp.lab.augmentation import fit_by_schedule
from wsp.lab.comparisons import table_of
from wsp.lab.employees import Table
from wsp.lab.fitting import Fit
from wsp.lab.retraining import LAMDA
from wsp.lab.rivals.methods import start_fire
from wsp.lab.rounds import Arm, Start, Train, start_cold, start_shrunk, start_warm
from wsp.lab.statistics import Interval, simultaneous
from wsp.studies.parts import Content, positive
from wsp.studies.rounds import Rounds, Run

EPOCHS, WARM_UP, PEAK = 30, 3, 0.1
STARTS: dict[str, Start] = {
    "cold": start_cold,
    "warm": start_warm,
    "shrink_perturb": start_shrunk(LAMDA),
    "fire": start_fire(0.0),
}
WAYS = ("plain", "augmented")
ALL = tuple(f"{start}_{way}" for way in WAYS for start in STARTS)


@cache  # arms that train alike share their first round
def train_by_schedule(epochs: int, warm_up: int, peak: float, augmented: bool) -> Train:
    """The training of an arm."""

    def train(
        network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
    ) -> Fit:
        return fit_by_schedule(
            network,
            table,
            order,
            epochs=epochs,
            warm_up=warm_up,
            peak=peak,
            batch_size=options["batch_size"],
            augmented=augmented,
            label=options.get("label", "training"),
        )

    return train


class Augmented(Rounds):
    """``runs`` as of the rounds; an arm is a start and a way to train."""

    def __init__(self) -> None:
        super().__init__("augmented", "cifar10", 11, "the starts under ordinary training of photographs")
        self.minutes = 22.0

    def specification(  # type: ignore[override]  # the rest is as chapter 11 has it
        self,
        *,
        images: int = 4000,
        test: int = 2000,
        epochs: int = EPOCHS,
        warm_up: int = WARM_UP,
        peak: float = PEAK,
        batch_size: int = 128,
        precision: str = "bfloat16",
        note: str = "",
    ) -> Content:
        """What all runs of one file share.

        Parameters
        ----------
        images : int
            To train on, half of them first.
        test : int
            Held out.
        epochs, warm_up : int
            Of every training, and of them with a rising learning rate.
        peak : float
            The largest learning rate.
        batch_size : int
            Images a step.
        precision : str
            float64, float32 or bfloat16.
        note : str
            Kept with the result, such as where the images are from.

        Examples
        --------
        >>> STUDY.specification(note="JPEG copy")["epochs"]
        30
        """
        positive(epochs=epochs, warm_up=warm_up, peak=peak)
        if warm_up >= epochs:
            raise ValueError(f"warm_up must be less than the {epochs} epochs, not {warm_up}")
        spec = super().specification(
            images=images, test=test, batch_size=batch_size, precision=precision, note=note
        )
        for unused in ("optimizer", "learning_rate", "stop_at", "patience", "max_epochs"):
            del spec[unused]
        return spec | {"epochs": epochs, "warm_up": warm_up, "peak": peak}

    def units(
        self,
        spec: Content,
        content: Content | None,
        *,
        seeds: int = 10,
        arms: Sequence[str] = ALL,
    ) -> Sequence[Run]:
        """Which runs a file is to hold; with more of them the same file grows.

        Parameters
        ----------
        seeds : int
            Seeds 0, 1, ..., a split each.
        arms : sequence of str
            A start and a way to train, such as warm_augmented.
        """
        return super().units(spec, content, seeds=seeds, arms=arms)

    def arm(self, spec: Content, key: str) -> Arm:
        """The arm of this name."""
        start, _, way = key.rpartition("_")
        if start not in STARTS or way not in WAYS:
            raise ValueError(f"unknown arm {key!r}: choose from {', '.join(ALL)}")
        how = (spec["epochs"], spec["warm_up"], spec["peak"], way == "augmented")
        return Arm(key, STARTS[start], train_by_schedule(*how))

    def options(self, spec: Content) -> Content:
        """What an arm's training is told."""
        return {"batch_size": spec["batch_size"]}

    def holds(self, content: Content) -> bool:
        """Its specification has a schedule."""
        return content.get("format") == "wsp rounds 1" and "warm_up" in content.get("specification", {})

    def slice(self, content: Content) -> tuple[Content, Sequence[Run]]:
        """The first phase of one split, augmented."""
        return content["specification"] | {"rounds": 1}, [(0, "warm_augmented")]


STUDY = Augmented()


def family(found: Mapping[str, Any]) -> dict[str, Interval]:
    """The joint family of the rules, in points of accuracy after all images have arrived.

    Returns
    -------
    dict
        ``"cold plain"`` and its like: minus warm, trained the same way; ``"gap"``: cold minus warm without
        augmentation minus the same with it. All intervals hold at once.
    """
    last = {arm: rows[:, -1] for arm, rows in table_of(found, "accuracy").items()}
    leads = {
        f"{start} {way}": last[f"{start}_{way}"] - last[f"warm_{way}"]
        for way in WAYS
        for start in STARTS
        if start != "warm"
    }
    return simultaneous(leads | {"gap": leads["cold plain"] - leads["cold augmented"]})
