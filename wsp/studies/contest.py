"""Let the rivals meet: one protocol, one grid for all that share a knob, and a cold arm for each.

Digits arrive in five rounds; every method trains the same small network on the same
splits, by the same stop rule. Its settings are compared on a few splits, and the best of them alone is
run on the splits that are reported. On CIFAR-10, where a run takes minutes, nothing is tuned: every
method has the setting of its source. FIRE and weight clipping came later: they are studies of their own
on the same splits, and meet the others in :func:`joined`.

Rules, written before the second edition's run on digits (for the grids see
:mod:`wsp.lab.rivals.methods`):

- What was looked at before: the first edition's contest, with narrower grids and without cold arms, and
  first looks at FIRE and clipping on these digits. The hypotheses are not blind.
- Of one contest one joint family (:func:`family`): every rival minus warm, minus cold, and minus its own
  cold arm; every cold arm minus cold; and the pairs of `BESIDES`.
- A rival is *above warm* by the first; it is a *better start* only if it is above its own cold arm, too,
  and a better training if its cold arm is above cold.
- Splits of the digits overlap: intervals are corrected (:mod:`wsp.lab.comparisons`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsp.lab.comparisons import Pair, images_seen, overlap_of, resnet
from wsp.lab.results import stored
from wsp.lab.rivals.methods import METHODS
from wsp.lab.rounds import Arm
from wsp.lab.statistics import Interval, ratio_of_sums, simultaneous, verdict
from wsp.studies.parts import Content, at_least_1
from wsp.studies.rounds import CIFAR, DIGITS, Rounds, Run, table_of

TUNE, REPORT = 4, 20  # splits to choose on, and further splits to report
WRONG = 0.2  # the share of wrong labels in the second condition
#: The contests, and the stored results of each.
#:
#: :meta hide-value:
STORED: dict[str, tuple[str, ...]] = {
    "clean labels": ("rivals_digits_wrong_0.0", "fire_digits_wrong_0.0", "clipping_digits_wrong_0.0"),
    "1 in 5 labels wrong": (
        "rivals_digits_wrong_0.2",
        "fire_digits_wrong_0.2",
        "clipping_digits_wrong_0.2",
    ),
    "CIFAR-10": ("rivals_cifar10_wrong_0.0", "fire_cifar10"),
}
#: Further comparisons of a contest's family.
#:
#: :meta hide-value:
BESIDES: tuple[Pair, ...] = (
    ("dash", "shrink_perturb"),
    ("fire", "shrink_perturb"),
    ("fire", "dash"),
    ("l2_init", "decay"),
    ("l2_init", "warm_stopped"),
    ("clipping", "l2_init"),
    ("shrink_perturb_stopped", "warm_stopped"),
)
DATA: dict[str, Content] = {
    "digits": {"size": 160, "images": 800, "test": 997, "precision": "float32"},
    "cifar10": {},
}
FIRE = ("fire", "cold_fire")
CLIPPING = ("clipping", "cold_clipping")
RIVALS = tuple(key for key in METHODS if key not in FIRE + CLIPPING)
#: What runs on CIFAR-10, where a run takes minutes.
#:
#: :meta hide-value:
ON_CIFAR = (
    *("cold", "warm", "cold_stopped", "warm_stopped", "shrink_perturb", "shrink_perturb_stopped"),
    *("official", "dash", "l2_init", "redo", "hare", "layer_norm"),
)


class Contest(Rounds):
    """``runs`` as of the rounds; an arm is named by its method and setting: see :func:`chosen`."""

    def __init__(self, name: str, words: str, methods: Sequence[str]) -> None:
        super().__init__(name, "", 12, words)
        self.minutes, self.methods = 1.0, tuple(methods)

    def specification(  # type: ignore[override]  # fewer settings: the rest is as chapter 12 has it
        self,
        *,
        data: str = "digits",
        wrong: float = 0.0,
        tune: int = TUNE,
        images: int | None = None,
        size: int | None = None,
        max_epochs: int = 1000,
        precision: str | None = None,
        note: str = "",
    ) -> Content:
        """What all runs of one file share.

        Parameters
        ----------
        data : str
            digits or cifar10.
        wrong : float
            Share of wrong training labels.
        tune : int
            Splits to choose settings on; 0: every method has the setting of its source.
        images : int
            To train on.
        size : int
            Images a round.
        max_epochs : int
            Of one training.
        precision : str
            float64, float32 or bfloat16.
        note : str
            Kept with the result, such as where the images are from.

        Examples
        --------
        >>> STUDY.specification(data="cifar10", tune=0, note="JPEG copy")["note"]
        'JPEG copy'
        """
        if data not in DATA:
            raise ValueError(f"unknown data {data!r}: choose from {', '.join(DATA)}")
        if isinstance(tune, bool) or not isinstance(tune, int) or tune < 0:
            raise ValueError(f"tune must be an integer, 0 or more, not {tune!r}")
        given = {"images": images, "size": size, "precision": precision}
        settings = DATA[data] | {name: value for name, value in given.items() if value is not None}
        study = DIGITS if data == "digits" else CIFAR
        return {
            **study.specification(
                activation="relu", wrong=wrong, max_epochs=max_epochs, note=note, **settings
            ),
            "tune": tune,
        }

    def units(  # type: ignore[override]
        self,
        spec: Content,
        content: Content | None,
        *,
        report: int = REPORT,
        methods: Sequence[str] = (),
    ) -> Sequence[Run]:
        """All settings on the splits to choose on; once they are there, the best on the others too.

        Parameters
        ----------
        report : int
            Further splits, on which the chosen settings are compared.
        methods : sequence of str
            Keys of ``wsp.lab.rivals.methods.METHODS``. None: those of the study.
        """
        at_least_1(report=report)
        methods = methods or self.methods
        for key in methods:
            if key not in METHODS:
                raise ValueError(f"unknown method {key!r}: choose from {', '.join(METHODS)}")
        tune = spec["tune"]
        if not tune:
            return [(seed, key) for seed in range(report) for key in methods]
        names = [name for key in methods for name in METHODS[key].arms()]
        runs = [(seed, name) for seed in range(tune) for name in names]
        if content is None or not set(runs) <= set(self.done(content)):
            return runs
        best = chosen({"specification": spec, **content}, methods).values()
        return [*runs, *((seed, name) for seed in range(tune, tune + report) for name in best)]

    def arm(self, spec: Content, key: str) -> Arm:
        """The arm of this name."""
        method = METHODS[key.split()[0]]
        return method.arms()[key] if spec["tune"] else method.as_published(spec["learning_rate"])

    def holds(self, content: Content) -> bool:
        """Its specification says on how many splits to choose."""
        return content.get("format") == "wsp rounds 1" and "tune" in content.get("specification", {})

    def slice(self, content: Content) -> tuple[Content, Sequence[Run]]:
        """Two rounds of the last split: one that changes the start, one that bends the loss, one that
        acts between steps, one that ends early. On CIFAR-10 one with two networks and one with another.
        """
        spec, there = content["specification"], present(content)
        if spec["data"] == "cifar10":
            return spec | {"rounds": 2}, [(0, key) for key in ("hare", "layer_norm", "fire") if key in there]
        best, last = chosen(content), max(seed for seed, _ in self.done(content))
        methods = ("warm", "dash", "l2_init", "hare", "cold_stopped", *FIRE, *CLIPPING)
        return spec | {"rounds": 2}, [(last, best[key]) for key in methods if key in there]

    def as_text(self, content: Content) -> str:
        """Accuracy, cost and differences of all methods, each with its chosen setting."""
        return as_text(content)


STUDY = Contest("rivals", "what came after the trick, tuned alike", RIVALS)
FIRE_STUDY = Contest("fire", "FIRE, and the control that its authors have not", FIRE)
CLIPPING_STUDY = Contest("clipping", "weight clipping, warm and cold", CLIPPING)


def present(found: Mapping[str, Any]) -> list[str]:
    """The methods of a result, in the order of ``METHODS``."""
    there = {run["arm"].split()[0] for run in found["runs"]}
    return [key for key in METHODS if key in there]


def joined(name: str, result: Callable[[str], Any] = stored) -> Content:
    """One contest of `STORED`, as if it were one result; what is not there yet is left out.

    Examples
    --------
    >>> sorted(set(joined("CIFAR-10")["specification"]) - set(STUDY.specification()))
    []

    Raises
    ------
    ValueError
        If its results are not of the same splits and rounds.
    """
    first, *others = (result(file) for file in STORED[name])
    for each in others:
        if each["specification"] != first["specification"]:
            raise ValueError(f"the results of {name!r} are not of the same runs")
    return {**first, "runs": [run for each in (first, *others) for run in each["runs"]]}


def chosen(found: Mapping[str, Any], methods: Iterable[str] | None = None) -> dict[str, str]:
    """The best setting of each method (default: all there) on the splits to choose on, by its arm's name.

    Best is the highest accuracy on the test images of those splits, averaged over the rounds
    from the second on. None of them is reported.
    """
    tune = found["specification"]["tune"]
    methods = present(found) if methods is None else methods
    if not tune:
        return {key: key for key in methods}
    best = {}
    for key in methods:
        accuracy = table_of(found, "accuracy", METHODS[key].arms())
        means = {name: float(rows[:tune, 1:].mean()) for name, rows in accuracy.items()}
        best[key] = max(means, key=lambda name: means[name])
    return best


def reported(
    found: Mapping[str, Any], what: str, methods: Iterable[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """One quantity on the splits to report, as arrays (splits, rounds) by method.

    Parameters
    ----------
    found : mapping
        A result.
    what : str
        As for ``table_of``; or ``"cost"``: training images seen, each pass of
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
    found: Mapping[str, Any], what: str, methods: Iterable[str] | None = None
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


def family(methods: Collection[str]) -> list[Pair]:
    """What one contest compares, of the methods that take part.

    Examples
    --------
    >>> family(["cold", "warm", "fire", "cold_fire"])
    [('cold', 'warm'), ('fire', 'warm'), ('fire', 'cold'), ('fire', 'cold_fire'), ('cold_fire', 'cold')]
    """
    rivals = [key for key in methods if METHODS[key].cold and key != "warm"]
    colds = [key for key in methods if not METHODS[key].cold and key != "cold"]
    pairs = [("cold", "warm")]
    pairs += [(key, "warm") for key in rivals]
    pairs += [(key, "cold") for key in rivals]
    pairs += [(key, METHODS[key].cold) for key in rivals]
    pairs += [(key, "cold") for key in colds]
    return [pair for pair in [*pairs, *BESIDES] if set(pair) <= set(methods)]


def versus(found: Mapping[str, Any]) -> dict[Pair, Interval]:
    """The family of one contest, see :func:`family`.

    All intervals hold at once; those of digits are corrected for splits that overlap. What chapter 11
    compares too, on the ResNet, is taken from there: see ``wsp.lab.comparisons.resnet``.
    """
    accuracy = averages(found, "accuracy")
    pairs = family(accuracy)
    elsewhere = resnet()["one arrival"] if found["specification"]["data"] == "cifar10" else {}
    names = {f"{one} - {other}": (one, other) for one, other in pairs if (one, other) not in elsewhere}
    gaps = {name: accuracy[one] - accuracy[other] for name, (one, other) in names.items()}
    own = {names[name]: gap for name, gap in simultaneous(gaps, overlap=overlap_of(found)).items()}
    both = elsewhere | own
    return {pair: both[pair] for pair in pairs}


def shares(found: Mapping[str, Any]) -> dict[str, Interval]:
    """Images that each method saw, its own passes included, in percent of a cold start's: a ratio of sums.

    All intervals hold at once. On the ResNet those of chapter 11 are taken from there.
    """
    cost = averages(found, "cost")
    values = {key: ratio_of_sums(seen, cost["cold"]) for key, seen in cost.items() if key != "cold"}
    own = simultaneous(values, overlap=overlap_of(found))
    if found["specification"]["data"] == "cifar10":
        runs = stored("cifar_reduced_resnet_adam"), found
        own |= images_seen(*runs, arms=("warm", "shrink_perturb", "official"))
    return {"cold": Interval(100.0, 100.0, 100.0)} | own


@dataclass(frozen=True)
class Point:
    """One method in the plane of cost and accuracy.

    Attributes
    ----------
    key, name : str
        In files, and for people.
    cost : Interval
        Training images seen, in percent of a cold start's.
    gain : Interval
        Accuracy minus that of a warm start, in points; of the warm start itself 0.
    told : {"above", "below", "not told apart"}
        The sign of the gain.
    stopped : bool
        Whether it stops early.
    """

    key: str
    name: str
    cost: Interval
    gain: Interval
    told: str
    stopped: bool


def points(found: Mapping[str, Any]) -> list[Point]:
    """Cold, warm and the rivals of one contest as points of a scatter, in the order of ``METHODS``."""
    gaps, cost = versus(found), shares(found)
    gains = {key: gap for (key, other), gap in gaps.items() if other == "warm"}
    gains["warm"] = Interval(0.0, 0.0, 0.0)
    return [
        Point(
            key, METHODS[key].name, cost[key], gains[key], verdict(gains[key]).sign, key.endswith("stopped")
        )
        for key in present(found)
        if key in gains
    ]


def scatter() -> dict[str, list[Point]]:
    """The stored contests of chapter 12 by their names, as points: what its figure shows.

    Examples
    --------
    >>> {name: len(listed) for name, listed in scatter().items()}
    {'clean labels': 14, '1 in 5 labels wrong': 14, 'CIFAR-10': 12}
    """
    return {name: points(joined(name)) for name in STORED}


def as_text(found: Mapping[str, Any], methods: Iterable[str] | None = None) -> str:
    """A table for people."""
    accuracy, cost = averages(found, "accuracy", methods), averages(found, "cost", methods)
    splits = len(next(iter(accuracy.values())))
    gaps = {other: against(accuracy, other) for other in ("warm", "cold") if other in accuracy and splits > 1}
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
