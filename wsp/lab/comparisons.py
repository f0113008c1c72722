"""What stored runs in rounds say: the comparisons of chapters 10 to 12, each declared once.

Rules, declared for the second edition, when the first edition's numbers were known:

- *What is compared.* The test accuracy averaged over the rounds from the second on (the first is
  everybody's); with two rounds this is the last one. The unit is the split. Several runs of the same
  splits are averaged split by split before anything else.
- *Digits.* In each file, every arm minus cold, and the article's rule minus warm and minus a fresh
  network that was shrunk alike. Arms with statistics estimated again are compared with such arms alone.
- *CIFAR-10.* For each network and optimizer, cold and both rules minus warm, and both rules minus cold.
- *Intervals.* The comparisons of a file are one family: its 95 % intervals hold for all at once. The
  ResNet with Adam, after one arrival (two runs of each split) and in rounds, is one family too.
- *Overlap.* All splits of the digits are made of the same 1,797 images, so intervals have the
  correction of Nadeau and Bengio, and speak of digits like these. Two splits of CIFAR-10 share about
  one image in eight, and are taken as independent.
- *Cost.* Training images seen from the second round on, summed over the splits, in percent of what
  cold saw: a ratio of sums. Where a training may be cut off at a largest number of epochs, these are
  restricted means: images up to that cap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import copysign
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsp.lab.results import stored
from wsp.lab.statistics import Floats, Interval, ratio_of_sums, simultaneous

Pair = tuple[str, str]  # the difference of the first and the second
#: What is compared on CIFAR-10.
#:
#: :meta hide-value:
PAIRS: tuple[Pair, ...] = (
    ("cold", "warm"),
    ("shrink_perturb", "warm"),
    ("official", "warm"),
    ("shrink_perturb", "cold"),
    ("official", "cold"),
)
AGAIN = "_update_bn"  # ends the name of an arm whose statistics are estimated again
_NAMES = {
    "shrink_perturb": "article's rule",
    "official": "paper's rule",
    "fresh_shrunk": "fresh, shrunk",
    "shrink_perturb_keep_bn": "article's rule, kept",
    **{f"shrink_perturb_{lamda}": f"lamda {lamda}" for lamda in (0.3, 0.6, 0.8)},
}


def called(arm: str) -> str:
    """What people call an arm; statistics that are estimated again are left unsaid.

    Examples
    --------
    >>> called("official_update_bn"), called("warm")
    ("paper's rule", 'warm')
    """
    arm = arm.removesuffix(AGAIN)
    return _NAMES.get(arm, arm)


def whole_seeds(content: Mapping[str, Any], arms: Iterable[str] | None = None) -> list[int]:
    """The seeds for which all arms are there: an interrupted run counts by whole seeds."""
    keys = set(arms) if arms is not None else {run["arm"] for run in content["runs"]}
    by_seed: dict[int, set[str]] = {}
    for run in content["runs"]:
        by_seed.setdefault(run["seed"], set()).add(run["arm"])
    return sorted(seed for seed, there in by_seed.items() if keys <= there)


def table_of(
    content: Mapping[str, Any], what: str, arms: Iterable[str] | None = None
) -> dict[str, NDArray[Any]]:
    """One quantity of stored runs as arrays (seeds, rounds) by arm, whole seeds alone.

    Parameters
    ----------
    content : mapping
        A result.
    what : str
        A list of the runs, such as ``"epochs"``; or ``"accuracy"``, in percent;
        or ``"samples"``, training images seen.
    arms : iterable of str, optional
        Default: all arms of the file.

    Examples
    --------
    >>> run = {"arm": "cold", "seed": 0, "epochs": [3, 4], "correct": [5, 9]}
    >>> content = {"specification": {"images": 20, "size": 10, "test": 10}, "runs": [run]}
    >>> table_of(content, "accuracy")["cold"].tolist(), table_of(content, "samples")["cold"].tolist()
    ([[50.0, 90.0]], [[30, 80]])
    """
    spec = content["specification"]
    keys = list(arms) if arms is not None else list(dict.fromkeys(run["arm"] for run in content["runs"]))
    seeds = whole_seeds(content, keys)
    source = {"accuracy": "correct", "samples": "epochs"}.get(what, what)
    found = {(run["arm"], run["seed"]): run[source] for run in content["runs"]}
    tables = {key: np.array([found[key, seed] for seed in seeds]) for key in keys}
    if what == "accuracy":
        return {key: 100.0 * table / spec["test"] for key, table in tables.items()}
    if what == "samples":
        size, last = spec["size"], spec["images"]
        rows = np.minimum(np.arange(size, last + size, size), last)
        return {key: table * rows for key, table in tables.items()}
    return tables


def pairs_of(content: Mapping[str, Any]) -> list[Pair]:
    """The family of a file: which arms are compared, see the module.

    Examples
    --------
    >>> runs = [{"arm": arm, "seed": 0} for arm in ("cold", "warm", "shrink_perturb")]
    >>> pairs_of({"specification": {"data": "digits"}, "runs": runs})
    [('warm', 'cold'), ('shrink_perturb', 'cold'), ('shrink_perturb', 'warm')]
    """
    arms = list(dict.fromkeys(run["arm"] for run in content["runs"]))
    if content["specification"]["data"] != "digits":
        return [pair for pair in PAIRS if set(pair) <= set(arms)]
    ends = {arm: AGAIN if arm.endswith(AGAIN) else "" for arm in arms}
    to_cold = [(arm, f"cold{end}") for arm, end in ends.items()]
    more = [
        (f"shrink_perturb{end}", other + end) for end in ("", AGAIN) for other in ("warm", "fresh_shrunk")
    ]
    return [pair for pair in to_cold + more if pair[0] != pair[1] and set(pair) <= set(arms)]


def overlap_of(content: Mapping[str, Any]) -> float:
    """Test rows over training rows where all splits are of the same rows, for the intervals; else 0.

    Examples
    --------
    >>> overlap_of({"specification": {"data": "digits", "images": 1000, "test": 797}})
    0.797
    """
    spec = content["specification"]
    return spec["test"] / spec["images"] if spec["data"] == "digits" else 0.0


def later(content: Mapping[str, Any], what: str = "accuracy") -> dict[str, Floats]:
    """One number a split and arm, over the rounds from the second on: a mean, or a sum of images.

    Parameters
    ----------
    content : mapping
        A result.
    what : str
        As for :func:`table_of`; of `samples`, `epochs` and `steps` the sum.
    """
    total = what in ("samples", "epochs", "steps")
    return {
        arm: rows[:, 1:].sum(axis=1).astype(float) if total else rows[:, 1:].mean(axis=1)
        for arm, rows in table_of(content, what).items()
    }


def averaged(contents: Sequence[Mapping[str, Any]], what: str = "accuracy") -> dict[str, Floats]:
    """`later` of several runs of the same splits: their mean, split by split, of the arms that all have.

    Raises
    ------
    ValueError
        If they are not of the same splits of the same data.
    """
    keys = ("data", "images", "test", "size", "wrong")
    same = {tuple(content["specification"][key] for key in keys) for content in contents}
    if len(same) != 1 or len({tuple(whole_seeds(content)) for content in contents}) != 1:
        raise ValueError("expected runs of the same splits of the same data")
    found = [later(content, what) for content in contents]
    return {
        arm: np.mean([each[arm] for each in found], axis=0)
        for arm in found[0]
        if all(arm in f for f in found)
    }


def steady(value: float) -> float:
    """A value whose last digit does not hang on the last bit: means of counts often end in a 5.

    Examples
    --------
    >>> f"{steady(1.065):.2f} {steady(1.065 - 1e-13):.2f} {steady(-4.525):.2f}"
    '1.07 1.07 -4.53'
    """
    return round(value, 9) + copysign(1e-10, value)


def families(
    groups: Mapping[str, Sequence[Mapping[str, Any]]], pairs: Iterable[Pair] | None = None
) -> dict[str, dict[Pair, Interval]]:
    """Differences in points, with intervals that hold for all of them in all groups at once.

    Parameters
    ----------
    groups : mapping
        Name -> runs of the same splits, which are averaged first. All groups have as many splits.
    pairs : iterable of (str, str), optional
        Default: those declared for the data, see :func:`pairs_of`.
    """
    differences, names, overlap = {}, {}, 0.0
    for group, contents in groups.items():
        accuracy, overlap = averaged(contents), overlap_of(contents[0])
        for one, other in pairs_of(contents[0]) if pairs is None else pairs:
            name = f"{group}: {one} - {other}"
            differences[name], names[name] = accuracy[one] - accuracy[other], (group, (one, other))
    found: dict[str, dict[Pair, Interval]] = {group: {} for group in groups}
    for name, interval in simultaneous(differences, overlap=overlap).items():
        group, pair = names[name]
        ends = (steady(end) for end in (interval.estimate, interval.low, interval.high))
        found[group][pair] = Interval(*ends)
    return found


def compared(*contents: Mapping[str, Any], pairs: Iterable[Pair] | None = None) -> dict[Pair, Interval]:
    """The family of a file, or of several runs of the same splits: each difference, in points."""
    return families({"": contents}, pairs)[""]


def resnet() -> dict[str, dict[Pair, Interval]]:
    """The family of the ResNet with Adam on CIFAR-10, which chapters 11 and 12 share.

    Returns
    -------
    dict
        ``"one arrival"``, two runs of each split, and ``"rounds"``, one: pair -> interval. All hold at once.

    Examples
    --------
    >>> print(resnet()["one arrival"]["cold", "warm"])
    +4.53 (+1.53 to +7.52)
    """
    once = stored("cifar_reduced_resnet_adam"), stored("rivals_cifar10_wrong_0.0")
    return families({"one arrival": once, "rounds": [stored("cifar_reduced_rounds_resnet_adam")]}, PAIRS)


def images_seen(*contents: Mapping[str, Any], arms: Iterable[str] | None = None) -> dict[str, Interval]:
    """Training images of each arm in percent of cold's: a ratio of sums, from the second round on.

    The intervals hold for all arms at once, and are corrected like those of :func:`compared`. Where
    there is a cap on the epochs, both sums are of images up to the cap (restricted means).

    Parameters
    ----------
    *contents : mapping
        One result, or several runs of the same splits.
    arms : iterable of str, optional
        Default: all but cold, and but those that differ from another arm in their statistics alone.
    """
    seen = averaged(contents, "samples")
    end = "" if "cold" in seen else AGAIN
    if arms is None:
        arms = [arm for arm in seen if arm != f"cold{end}" and (end or not arm.endswith((AGAIN, "_keep_bn")))]
    values = {arm: ratio_of_sums(seen[arm], seen[f"cold{end}"]) for arm in arms}
    return simultaneous(values, overlap=overlap_of(contents[0]))
