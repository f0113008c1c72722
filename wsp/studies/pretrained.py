"""Pretraining on other data: what the old network is worth when the rows that count are few.

A network is trained on other data first, then on a few rows of the target. The paper's section 5 has
photographs; here the digits of scikit-learn are cut into two tasks, in three ways (:data:`SOURCES`).

Rules, written before the run, after two pilot splits (seeds 9000 and 9001, of no part in it):

- *Data.* ``classes``: digits 0 to 4 first, digits 5 to 9 are the target. ``ten``: digits 0 to 4 first, all
  ten are the target. ``transposed``: mirrored digits of all classes first, upright ones are the target. 400
  images first, others are the target's: 20, 50, 100, 200 and 400 rows of a pool, 300 images to test. The
  network has ten outputs from the beginning, and none is replaced.
- *Training.* The MLP of chapter 10 (two layers of 100 tanh units, Adam, rate 0.001, batches of 128), both
  times by the paper's stop rule: 99 % of the training rows. Patience is 200 epochs and not 20, since an
  epoch of 20 rows is one step.
- *Arms.* Fresh (cold), warm, the article's rule with lamda 0.5 and 0.3, the paper's rule, and a fresh
  network that is shrunk by the article's rule. Same batches, same noise, same fresh network for all.
- *Unit.* The split. In each of 20 three draws of the target's rows, with a fresh network, batch orders and
  noise of their own, are averaged. All splits are of the same images, so the intervals have the
  correction of Nadeau and Bengio: images tested over images of the target's kind that are not.
- *Verdicts.* For each kind of source one joint family: the pairs of :data:`PAIRS`, for few rows (the mean of
  20 and 50) and for many (of 200 and 400). The claim, that the trick is no worse than a warm and than a fresh
  start, is the paper's, so it is judged by the paper's rule: minus fresh and minus warm, few and many rows,
  three sources: twelve settings. The other rules stand in the same families, and are not counted.
- *Expected*, and the pilot does not speak against it: with few rows warm is ahead of fresh where the target
  is in part known (``ten``), behind it where the old classes are only in the way (``classes``); with many
  rows fresh is level or ahead; the trick lies between, nearer to the better one.
- *Described, without verdict.* Every size by itself (:func:`by_size`), steps (:func:`steps_over_fresh`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from wsp.lab import images
from wsp.lab.comparisons import Pair
from wsp.lab.employees import Table
from wsp.lab.fitting import Fit, fit
from wsp.lab.network import image_mlp, seeded
from wsp.lab.rounds import ARMS, count_correct, stream
from wsp.lab.statistics import Floats, Interval, ratio_of_sums, simultaneous
from wsp.studies.engine import Study, Tick
from wsp.studies.parts import Content, at_least_1, differences

FIRST = 5000  # the number of the first split
SIZES = (20, 50, 100, 200, 400)
GROUPS = {"few": (20, 50), "many": (200, 400)}
OLD_IMAGES, TEST, OLD_CLASSES = 400, 300, 5
BLOCK = 900  # images out of which those to train on first are taken, where all ten classes are the target
PATIENCE = 200
NAMES = ("cold", "warm", "shrink_perturb", "shrink_perturb_0.3", "official", "fresh_shrunk")
#: What is compared, the first minus the second.
#:
#: :meta hide-value:
PAIRS: tuple[Pair, ...] = (
    ("warm", "cold"),
    ("official", "cold"),
    ("official", "warm"),
    ("shrink_perturb", "cold"),
    ("shrink_perturb", "warm"),
    ("shrink_perturb_0.3", "cold"),
    ("shrink_perturb_0.3", "warm"),
    ("shrink_perturb", "fresh_shrunk"),
)
ELSEWHERE = 3.0  # points: another processor may round another way at a step, and stop an epoch later


class Pretrained(Study):
    """For each size and arm a list over the splits, each a list over the draws: ``correct`` test images,
    ``epochs``, and whether the threshold was ``reached``. ``old``: the first network's epochs, and the test
    images that it has right as it is.
    """

    name, chapter, key, chunk = "pretrained", 13, "splits", 1
    words = "pretraining on other digits, then few rows of the target"

    def specification(
        self,
        *,
        source: str = "classes",
        sizes: Sequence[int] = SIZES,
        draws: int = 3,
        arms: Sequence[str] = NAMES,
    ) -> Content:
        """What a file is about.

        Parameters
        ----------
        source : str
            What the network is trained on first, a key of ``SOURCES``
        sizes : sequence of int
            Rows of the target, at most 596 where the classes differ, else 597
        draws : int
            Of these rows, in each split
        arms : sequence of str
            Keys of ``wsp.lab.rounds.ARMS``

        Examples
        --------
        >>> Pretrained().specification(source="letters")
        Traceback (most recent call last):
        ValueError: unknown source 'letters': choose from classes, ten, transposed
        """
        if source not in SOURCES:
            raise ValueError(f"unknown source {source!r}: choose from {', '.join(SOURCES)}")
        for arm in arms:
            if arm not in ARMS:
                raise ValueError(f"unknown arm {arm!r}: choose from {', '.join(ARMS)}")
        at_least_1(draws=draws, sizes=min(sizes, default=0))
        most = len(SOURCES[source](FIRST)[1].labels)
        if max(sizes) > most:
            raise ValueError(f"at most {most} rows can be drawn of this target, not {max(sizes)}")
        return {
            "format": "wsp pretrained 1",
            "source": source,
            "sizes": list(sizes),
            "draws": draws,
            "arms": list(arms),
            "images": OLD_IMAGES,
            "test": TEST,
            "patience": PATIENCE,
        }

    def units(self, spec: Content, content: Content | None, *, splits: int = 20) -> Sequence[int]:
        """Which splits a file is to hold; with more of them the same file grows.

        Parameters
        ----------
        splits : int
            Each is its own seed
        """
        at_least_1(splits=splits)
        return range(FIRST, FIRST + splits)

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Trainings."""
        return len(units) * (1 + int(spec["draws"]) * len(spec["sizes"]) * len(spec["arms"]))

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Train the first network of each split, and all that start from it."""
        for seed in units:
            yield split_of(spec, seed, tick)

    def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
        """To the image on the processor that made them; elsewhere test images within a few points."""
        if at_home:
            yield from differences(kept, again)
            return
        for size, arms in again["correct"].items():
            for arm, counts in arms.items():
                before = np.array(kept["correct"][size][arm])[:, : len(counts[0])]
                points = 100 * abs(float((np.array(counts) - before).mean())) / TEST
                if points >= ELSEWHERE:
                    yield f"{size} rows, {arm}: {points:.1f} points from what is stored"

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last split, its smallest sizes, one draw."""
        spec = content["specification"]
        return spec | {"sizes": spec["sizes"][:2], "draws": 1}, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """Accuracy by arm and size, in percent."""
        spec = content["specification"]
        lines = [f"{len(content['splits'])} splits, source {spec['source']}; accuracy, %"]
        lines.append(f"{'rows':20s}" + "".join(f"{size:8d}" for size in spec["sizes"]))
        for arm in spec["arms"]:
            means = [accuracy(content, arm, size).mean() for size in spec["sizes"]]
            lines.append(f"{arm:20s}" + "".join(f"{mean:8.2f}" for mean in means))
        return "\n".join(lines)


@lru_cache(maxsize=1)
def digits() -> Table:
    """All digits, in double precision: trained alike on every processor, up to rounding."""
    found = images.digits()
    return Table(found.inputs.double(), found.labels)


def where(table: Table, rows: torch.Tensor | slice) -> Table:
    """These rows of a table.

    Examples
    --------
    >>> where(Table(torch.eye(3), torch.arange(3)), slice(1, 3)).labels.tolist()
    [1, 2]
    """
    return Table(table.inputs[rows], table.labels[rows])


def other_classes(seed: int) -> tuple[Table, Table, Table]:
    """Digits 0 to 4 first; the target is 5 to 9."""
    table = digits()
    low = table.labels < OLD_CLASSES
    before, _ = images.split(where(table, low), OLD_IMAGES, 1, seed)
    target = where(table, ~low)
    pool, test = images.split(target, len(target.labels) - TEST, TEST, seed)
    return before, pool, test


def half_of_ten(seed: int) -> tuple[Table, Table, Table]:
    """Digits 0 to 4 first; the target is all ten."""
    rest, test = images.split(digits(), len(digits().labels) - TEST, TEST, seed)
    before = where(rest, slice(BLOCK))
    before = where(before, before.labels < OLD_CLASSES)
    return where(before, slice(OLD_IMAGES)), where(rest, slice(BLOCK, None)), test


def mirrored(seed: int) -> tuple[Table, Table, Table]:
    """Digits mirrored at their diagonal first; the target is upright ones."""
    rest, test = images.split(digits(), len(digits().labels) - TEST, TEST, seed)
    before = where(rest, slice(OLD_IMAGES))
    turned = Table(before.inputs.transpose(2, 3).contiguous(), before.labels)
    return turned, where(rest, slice(BLOCK, None)), test


#: What the network is trained on first: seed -> those images, the pool of the target, its test images.
#:
#: :meta hide-value:
SOURCES: dict[str, Callable[[int], tuple[Table, Table, Table]]] = {
    "classes": other_classes,
    "ten": half_of_ten,
    "transposed": mirrored,
}


def trained(network: nn.Module, table: Table, seed: int, number: int) -> Fit:
    """Train in place by the rule of this study."""
    return fit(network, table, stream(seed, number, "order"), patience=PATIENCE)


def fresh_network(seed: int, number: int) -> nn.Module:
    """A new network of stream `number`."""
    with seeded(stream(seed, number, "weights").initial_seed()):
        return image_mlp().double()


def split_of(spec: Mapping[str, Any], seed: int, tick: Tick) -> Content:
    """All that is trained in one split, as it is stored."""
    before, pool, test = SOURCES[spec["source"]](seed)
    old = fresh_network(seed, 1)
    first = trained(old, before, seed, 1)
    tick(1)
    part: Content = {
        "splits": [seed],
        "old": {"epochs": [first.epochs], "correct": [count_correct(old, test)]},
        **{what: {} for what in ("correct", "epochs", "reached")},
    }
    for size in spec["sizes"]:
        found = {arm: [list[int](), list[int](), list[int]()] for arm in spec["arms"]}
        for number in range(2, 2 + spec["draws"]):
            order = torch.randperm(len(pool.labels), generator=stream(seed, number, "labels"))
            table = where(pool, order[:size])
            for arm, lists in found.items():
                noise = stream(seed, number, "noise")
                network = ARMS[arm].start(copy.deepcopy(old), fresh_network(seed, number), table, noise)
                fitted = trained(network, table, seed, number)
                for values, value in zip(
                    lists, (count_correct(network, test), fitted.epochs, int(fitted.reached))
                ):
                    values.append(value)
                tick(1)
        for place, what in enumerate(("correct", "epochs", "reached")):
            part[what][str(size)] = {arm: [lists[place]] for arm, lists in found.items()}
    return part


STUDY = Pretrained()


def accuracy(content: Mapping[str, Any], arm: str, *sizes: int) -> Floats:
    """Test accuracy in percent, one value a split, the mean over draws and these sizes.

    Examples
    --------
    >>> accuracy({"correct": {"20": {"cold": [[150, 300]]}}}, "cold", 20)
    array([75.])
    """
    counts = np.mean([content["correct"][str(size)][arm] for size in sizes], axis=(0, 2))
    return np.asarray(100 * counts / TEST)


def overlap_of(content: Mapping[str, Any]) -> float:
    """Images tested over images of the target's kind that are not: see :mod:`wsp.lab.statistics`.

    Examples
    --------
    >>> [round(overlap_of({"specification": {"source": source}}), 2) for source in SOURCES]
    [0.5, 0.2, 0.2]
    """
    labels = digits().labels
    other = content["specification"]["source"] == "classes"
    rows = int((labels >= OLD_CLASSES).sum()) if other else len(labels)
    return TEST / (rows - TEST)


def compared(content: Mapping[str, Any]) -> dict[tuple[str, Pair], Interval]:
    """The family of a file: few or many rows, and which arms -> their difference in points."""
    values = {
        f"{group}: {one} - {other}": accuracy(content, one, *sizes) - accuracy(content, other, *sizes)
        for group, sizes in GROUPS.items()
        for one, other in PAIRS
    }
    keys = [(group, pair) for group in GROUPS for pair in PAIRS]
    return dict(zip(keys, simultaneous(values, overlap=overlap_of(content)).values()))


def by_size(content: Mapping[str, Any], base: str = "cold") -> dict[tuple[str, int], Interval]:
    """Every arm minus `base` at every size, in points; they hold for all at once. A description."""
    spec = content["specification"]
    keys = [(arm, size) for arm in spec["arms"] if arm != base for size in spec["sizes"]]
    values = {
        f"{arm} {size}": accuracy(content, arm, size) - accuracy(content, base, size) for arm, size in keys
    }
    return dict(zip(keys, simultaneous(values, overlap=overlap_of(content)).values()))


def steps_over_fresh(content: Mapping[str, Any]) -> dict[tuple[str, int], float]:
    """Epochs of retraining in percent of those of a fresh network: a ratio of sums. A description."""
    epochs = content["epochs"]
    return {
        (arm, size): float(
            ratio_of_sums(*(np.sum(epochs[str(size)][name], axis=1) for name in (arm, "cold"))).mean()
        )
        for arm in content["specification"]["arms"]
        if arm != "cold"
        for size in content["specification"]["sizes"]
    }
