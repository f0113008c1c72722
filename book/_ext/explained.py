"""Where the figures of chapter 7 take their accuracies from: what each part of the trick does against cold.

The study *balance* measures it on tables and splits of its own, and its intervals are those that the book
quotes. Where it is not stored, the study *inside* stands in.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsp.lab.explain import equal_fit
from wsp.lab.statistics import Interval, simultaneous

CASES = {
    "employees": "employees",
    "digits": "digits",
    "digits_mislabeled": "digits, one label in five wrong",
}
BALANCE = {
    "employees": "balance_employees_noise_0.05",
    "digits": "balance_digits_noise_0.0",
    "digits_mislabeled": "balance_digits_noise_0.2",
}
WORDS = {
    "warm": "warm",
    "faster": "faster only",
    "softer": "softer only",
    "shrunk": "shrunk to one half",
    "muted": "balanced, new muted",
    "raised": "balanced, old raised",
    "turned": "balanced, usual step",
}
OF_INSIDE = {
    "warm": "warm",
    "faster": "faster",
    "softer": "softer",
    "shrunk": "shrunk_0.5",
    "muted": "balanced",
}
Result = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Gaps:
    """Every part minus cold, in points, at the lowest training loss that both reach.

    Attributes
    ----------
    gaps : dict
        Key of `WORDS` -> Interval; they hold at once.
    units : int
        Tables or splits.
    verdict : str
        Of the study *balance*: "a cause", "the cause", "a symptom", "open" or "no gap"; else nothing.
    """

    gaps: dict[str, Interval]
    units: int
    verdict: str = ""


def of_inside(found: Mapping[str, Any]) -> Gaps:
    """From a result of the study *inside*: all its restarts are one joint family, as in its chapter."""
    retraining = found["found"]["retraining"]
    minus = {}
    for arm in retraining:
        if arm != "cold":
            both, _ = equal_fit({key: retraining[key] for key in ("cold", arm)})
            minus[arm] = np.asarray(both[arm] - both["cold"])
    joint = simultaneous(minus)
    gaps = {key: joint[arm] for key, arm in OF_INSIDE.items() if arm in joint}
    return Gaps(gaps, len(found["found"]["units"]))


def of_balance(found: Mapping[str, Any]) -> Gaps:
    """From a result of the study *balance*."""
    balance = importlib.import_module("wsp.studies.balance")
    gaps = balance.against_cold(found)
    kept = {key: gaps[key] for key in WORDS if key in gaps}
    return Gaps(kept, len(found["units"]), balance.verdict(found))


def gaps_of(case: str, result: Result, stored: Callable[[str], bool]) -> Gaps:
    """What each part does in a case, from the better source that is stored."""
    if stored(BALANCE[case]) and importlib.util.find_spec("wsp.studies.balance"):
        return of_balance(result(BALANCE[case]))
    return of_inside(result(f"inside_{case}"))
