"""Which stored result answers for whom: its conditions, its protocol, and how it is read.

Every interval is the one that its study declares, from the joint family that the chapters quote. One
comparison is declared here: of the contest on digits, a warm start minus a cold one, both stopped early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from wsp.lab import comparisons
from wsp.lab.results import stored
from wsp.lab.statistics import Interval, mean_interval
from wsp.studies import decide, protocols
from wsp.studies.advice.rule import STARTS, Compared
from wsp.studies.field import contest, standings

Load = Callable[[str], Mapping[str, Any]]
NOISE = {"clean": 0.0, "few": 0.05, "many": 0.2}  # share of wrong labels on tables
FIRST_EPOCHS = {"short": 50, "best": 200, "past": 1000}
BUDGETS = {"little": 20, "some": 100, "plenty": 500}  # epochs


@dataclass(frozen=True, eq=False)
class Case:
    """Answers that a stored result covers.

    Attributes
    ----------
    when : dict
        Question → the answers for which it counts. Every question is there.
    result : str
        Name of the stored result.
    chapter : int
        Whose evidence page has all of it.
    data, protocol : str
        For people.
    read : callable
        ``read(load)`` compares the starts; ``load(name)`` gives a stored result.
    """

    when: Mapping[str, tuple[str, ...]]
    result: str
    chapter: int
    data: str
    protocol: str
    read: Callable[[Load], Compared]

    def covers(self, answers: Mapping[str, str]) -> bool:
        """Whether it is about these answers."""
        return all(answers[key] in options for key, options in self.when.items())


def _when(
    data: str, batchnorm: str, labels: str, old: str, new: str, stop: str, spend: str
) -> dict[str, Any]:
    keys = ("data", "batchnorm", "labels", "old", "new", "stop", "spend", "augmentation")
    return {
        key: (answer,) for key, answer in zip(keys, (data, batchnorm, labels, old, new, stop, spend, "no"))
    }


# ---------------------------------------------------------------- tables, half of the rows new


def _of_protocols(load: Load, name: str, protocol: str, epochs: int | None) -> Compared:
    found = load(name)
    minus = _leads(load, name, protocol, epochs)
    cost = {way: protocols.cost(found, way) for way in minus} if protocol == "stopped" else {}
    elsewhere = {}
    with suppress(FileNotFoundError):
        slower = name.replace("rate_0.05", "rate_0.02")
        elsewhere["learning rate 0.02 instead of 0.05"] = _leads(load, slower, protocol, epochs)
    return Compared(minus, cost, len(found["tables"]), elsewhere)


def _leads(load: Load, name: str, protocol: str, epochs: int | None) -> dict[str, Interval]:
    if protocol == "budget":
        minus = {way: lead for (way, at), lead in _budgets(load, name).items() if at == epochs}
    else:
        minus = protocols.against(load(name), protocol, epochs=epochs)
    return {way: lead for way, lead in minus.items() if way in STARTS}


@lru_cache(maxsize=16)
def _budgets(load: Load, name: str) -> dict[tuple[str, int], Interval]:
    return protocols.within_budgets(load(name))


def _half_new() -> Iterator[Case]:
    """The study *stopped*: labels of three kinds, at the book's learning rate."""
    for labels, noise in NOISE.items():
        name = f"stopped_noise_{noise}_rate_0.05"
        data = f"tables of 200 employees, {noise:.0%} of the labels wrong, tanh network 6-(10-10)-3"

        def case(old: str, stop: str, spend: str, result: str, protocol: str, words: str) -> Case:
            epochs = None if protocol == "stopped" else BUDGETS[spend]
            when = _when("tables", "no", labels, old, "50", stop, spend)  # noqa: B023  # called at once
            read = partial(_of_protocols, name=result, protocol=protocol, epochs=epochs)
            return Case(when, result, 6, data, words, read)  # noqa: B023

        words = "stopped: loss of 40 rows held out, patience 50"
        yield case("past", "split", "plenty", name, "stopped", words)
        for spend in ("little", "some"):
            words = f"budget: the best of {BUDGETS[spend]} epochs, by the loss of 40 rows held out"
            yield case("past", "split", spend, name, "budget", words)
        for spend, epochs in BUDGETS.items():
            yield case("past", "fixed", spend, name, "equal", f"equal: {epochs} epochs on all rows")
        words = "stopped: loss of 40 rows held out, patience 50; so was the old network, by 20 of its rows"
        yield case("best", "split", "plenty", f"{name}_old_stopped", "stopped", words)


# ---------------------------------------------------------------- tables, any share new


def _of_decide(load: Load, protocol: str, case: tuple[float, int, int]) -> Compared:
    """The start that one half of the tables chose; compared with cold on the other half."""
    found = load("decided")
    choice = _choices(load, protocol)[case]
    if choice.best == "cold":
        minus = {start: -lead for start, lead in choice.leads.items()}
    else:
        minus = {choice.best: choice.leads["cold"]}
    cost = {}
    if protocol == "stopped":
        spent = found["spent"]["loss"]
        cold = np.sum(spent["cold"])
        cost = {start: float(np.sum(spent[decide.label(start, *case[:2])]) / cold) for start in minus}
    return Compared(minus, cost, len(found["tables"]) // 2)


@lru_cache(maxsize=16)
def _choices(load: Load, protocol: str) -> dict[tuple[float, int, int], decide.Choice]:
    found = decide.choices(load("decided"), protocol)
    return {(choice.new_share, choice.first_epochs, choice.budget): choice for choice in found}


def _any_share() -> Iterator[Case]:
    """The study *decide*: a few wrong labels."""
    data = "tables of 200 employees, 5% of the labels wrong, tanh network 6-(10-10)-3"
    for share in decide.NEW_SHARES:
        for old, first_epochs in FIRST_EPOCHS.items():
            for stop in ("split", "fixed"):
                for spend, epochs in BUDGETS.items():
                    protocol = {"fixed": "fixed", "split": "budget"}[stop]
                    words = f"equal: {epochs} epochs on all rows"
                    if stop == "split":
                        words = f"budget: the best of {epochs} epochs, by the loss of 40 rows held out"
                        if spend == "plenty":
                            protocol, words = "stopped", "stopped: loss of 40 rows held out, patience 50"
                    yield Case(
                        _when("tables", "no", "few", old, f"{share:.0%}".rstrip("%"), stop, spend),
                        "decided",
                        13,
                        data,
                        f"{words}; old network: {first_epochs} epochs",
                        partial(_of_decide, protocol=protocol, case=(share, first_epochs, epochs)),
                    )


# ---------------------------------------------------------------- images in rounds


def _of_rounds(load: Load, name: str, ending: str = "") -> Compared:
    """Starts of a result in rounds, from the family of its file."""
    found = load(name)
    cold = f"cold{ending}"
    minus = {
        arm.removesuffix(ending): lead
        for (arm, other), lead in comparisons.compared(found).items()
        if other == cold and arm.removesuffix(ending) in STARTS
    }
    if not minus or "warm" not in minus:  # on CIFAR-10 the declared pair is cold minus warm
        minus = {"warm": -comparisons.compared(found)[cold, f"warm{ending}"], **minus}
    seen = comparisons.images_seen(found, arms=[start + ending for start in minus])
    cost = {arm.removesuffix(ending): share.estimate / 100 for arm, share in seen.items()}
    return Compared(minus, cost, len(comparisons.whole_seeds(found)))


def _of_resnet(load: Load, group: str, names: tuple[str, ...]) -> Compared:
    """The ResNet, from the family that chapters 11 and 12 share."""
    pairs = _resnet(load)[group]
    minus = {"warm": -pairs["cold", "warm"]} | {
        start: pairs[start, "cold"] for start in ("shrink_perturb", "official")
    }
    found = [load(name) for name in names]
    seen = comparisons.images_seen(*found, arms=list(minus))
    cost = {start: share.estimate / 100 for start, share in seen.items()}
    return Compared(minus, cost, len(comparisons.whole_seeds(found[0])))


@lru_cache(maxsize=4)
def _resnet(load: Load) -> Mapping[str, Mapping[comparisons.Pair, Interval]]:
    once = [load(name) for name in ONCE]
    return comparisons.families({"one arrival": once, "rounds": [load(OFTEN)]}, comparisons.PAIRS)


def _of_contest(load: Load, name: str) -> Compared:
    """Warm minus cold, both stopped early by every fifth row, settings chosen on other splits."""
    found = load(name)
    methods = ("cold_stopped", "warm_stopped")
    cold, warm = (standings.averages(found, "accuracy", methods)[key] for key in methods)
    spent = standings.averages(found, "cost", methods)
    share = float(spent["warm_stopped"].sum() / spent["cold_stopped"].sum())
    lead = mean_interval(warm - cold, overlap=comparisons.overlap_of(found))
    return Compared({"warm": lead}, {"warm": share}, len(cold))


FITTED = "the paper's stop rule: 99% of the training images right, or a plateau"
ROUNDS = "rounds two to five, a fifth to a half new"
PHOTOS = "4,000 photographs of CIFAR-10"
ONCE = ("cifar_reduced_resnet_adam", "rivals_cifar10_wrong_0.0")
OFTEN = "cifar_reduced_rounds_resnet_adam"


def _in_rounds() -> Iterator[Case]:
    """Digits and CIFAR-10, trained until the training images are fitted; and digits stopped early."""
    for batchnorm, network, words, ending in (
        ("no", "mlp", "tanh network with two hidden layers", ""),
        ("yes", "convnet", "small convolutional network, statistics measured again", "_update_bn"),
    ):
        for labels, suffix, wrong in (("clean", "", ""), ("many", "_wrong", ", 20% of the labels wrong")):
            name = f"digits_{network}{suffix}"
            when = _when("small_images", batchnorm, labels, "past", "25", "fit", "plenty")
            yield Case(
                when | {"new": ("25", "50")},
                name,
                10,
                f"digits of 8 x 8 pixels{wrong}, {words}",
                f"{FITTED}; {ROUNDS}",
                partial(_of_rounds, name=name, ending=ending),
            )
    for labels, amiss in (("clean", 0.0), ("many", contest.WRONG)):
        name = f"rivals_digits_wrong_{amiss}"
        when = _when("small_images", "no", labels, "best", "25", "split", "plenty")
        yield Case(
            when | {"new": ("25", "50")},
            name,
            12,
            f"digits of 8 x 8 pixels, {amiss:.0%} of the labels wrong, ReLU network, tuned on other splits",
            f"stopped: every fifth image held out; {ROUNDS}",
            partial(_of_contest, name=name),
        )
    for new, group, names, share in (
        ("50", "one arrival", ONCE, "one arrival, half new"),
        ("25", "rounds", (OFTEN,), ROUNDS),
    ):
        yield Case(
            _when("photographs", "yes", "clean", "past", new, "fit", "plenty"),
            names[0],
            11,
            f"{PHOTOS}, thin ResNet-18, statistics as training leaves them",
            f"{FITTED}; {share}",
            partial(_of_resnet, group=group, names=names),
        )
    for new, name, share in (
        ("50", "cifar_reduced_mlp_relu_adam", "one arrival, half new"),
        ("25", "cifar_reduced_rounds_mlp_relu_adam", ROUNDS),
    ):
        yield Case(
            _when("photographs", "no", "clean", "past", new, "fit", "plenty"),
            name,
            11,
            f"{PHOTOS}, ReLU network with two hidden layers",
            f"{FITTED}; {share}",
            partial(_of_rounds, name=name),
        )


#: All cases; the first that covers the answers counts.
#:
#: :meta hide-value:
CASES = (*_half_new(), *_any_share(), *_in_rounds())
LOAD: Load = stored
