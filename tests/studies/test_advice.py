"""Which start? Every branch of the rule, every case, every answer; and the rule is frozen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsp.lab.results import stored
from wsp.lab.statistics import Interval
from wsp.studies import advice, decide
from wsp.studies.advice import CASES, STARTS, Case, Compared, cases_met, recommend
from wsp.studies.advice.cases import BUDGETS, FIRST_EPOCHS
from wsp.studies.stopped import BUDGETS as READ_AT

FROZEN = Path(__file__).with_name("frozen_advice.json")
ABOVE, LEVEL, BELOW = Interval(1.0, 0.5, 1.5), Interval(0.0, -0.3, 0.3), Interval(-1.0, -1.5, -0.5)
WIDE = Interval(0.5, -1.0, 2.0)


# ---------------------------------------------------------------- the rule


def pair(warm: Interval, trick: Interval) -> dict[str, Interval]:
    return {"warm": warm, "shrink_perturb": trick}


def shares(warm: float, trick: float) -> dict[str, float]:
    return {"warm": warm, "shrink_perturb": trick}


HIGHER, MUCH_HIGHER = Interval(1.4, 0.9, 1.9), Interval(1.6, 1.1, 2.1)


@pytest.mark.parametrize(
    "minus_cold, cost, start, why",
    [
        (pair(BELOW, BELOW), {}, "cold", "default"),
        ({"warm": LEVEL}, {}, "cold", "default"),  # as good, but not cheaper
        ({"warm": LEVEL}, {"warm": 0.95}, "cold", "default"),  # hardly cheaper
        ({"warm": LEVEL}, {"warm": 0.9}, "warm", "cheaper"),
        ({"warm": WIDE}, {"warm": 0.1}, "cold", "default"),  # may be a point worse
        ({"warm": BELOW}, {"warm": 0.1}, "cold", "default"),
        (pair(LEVEL, LEVEL), shares(0.5, 0.4), "shrink_perturb", "cheaper"),
        (pair(LEVEL, ABOVE), shares(0.1, 1.2), "shrink_perturb", "better"),
        (pair(ABOVE, HIGHER), {}, "shrink_perturb", "better"),
        (pair(ABOVE, HIGHER), {"warm": 0.4}, "warm", "better"),  # within half a point, and cheaper
        (pair(ABOVE, MUCH_HIGHER), {"warm": 0.4}, "shrink_perturb", "better"),
        ({}, {}, "cold", "default"),
    ],
)
def test_the_rule(minus_cold: dict[str, Interval], cost: dict[str, float], start: str, why: str) -> None:
    found = advice.decide(Compared(minus_cold, cost))
    assert (found.start, found.why) == (start, why)
    assert found.gain == minus_cold.get(start)
    assert found.warm == minus_cold.get("warm")
    assert found.cost == cost.get(start, 1.0)


def test_a_start_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="no start \\['hot'\\]: choose from cold"):
        advice.decide(Compared({"hot": ABOVE}))


# ---------------------------------------------------------------- the cases


def columns(means: Mapping[str, float], read_at: int) -> dict[str, list[Any]]:
    """Counts of 1,000 by table, seed and reading, in percent around a mean."""
    noise = np.random.default_rng(0).integers(-9, 10, (20, 2, read_at))
    return {key: (noise + round(10 * mean)).tolist() for key, mean in means.items()}


def of_stopped(means: Mapping[str, float]) -> dict[str, Any]:
    """A result of *stopped* in which every start has this accuracy whenever it is read."""
    ends = {
        key: [[each[0] for each in seeds] for seeds in tables] for key, tables in columns(means, 1).items()
    }
    spent = {key: (100 if key == "cold" else 40) * np.ones((20, 2)) for key in means}
    several = columns(means, len(READ_AT))
    return {
        "specification": {"seeds": 2, "test_rows": 1000, "read_at": list(READ_AT), "budgets": list(READ_AT)},
        "tables": list(range(20)),
        "all": several,
        "budget": {"loss": several},
        "stopped": {"loss": ends},
        "spent": {"loss": spent},
    }


def of_decide(best: str, others: float = 60.0) -> dict[str, Any]:
    """A result of *decide* in which one start is ahead in every case."""
    spec = decide.STUDY.specification(test_rows=1000)
    noise = np.random.default_rng(0).integers(-9, 10, (20, 2))

    def counts(start: str) -> list[list[int]]:
        found: list[list[int]] = (noise + round(10 * (70 if start == best else others))).tolist()
        return found

    cases = [("cold",)] + [
        (start, share, epochs)
        for start in ("warm", "shrink_perturb")
        for share in spec["new_shares"]
        for epochs in spec["first_epochs"]
    ]
    at_budgets = {
        decide.label(*case, budget): counts(str(case[0])) for case in cases for budget in spec["budgets"]
    }
    ends = {decide.label(*case): counts(str(case[0])) for case in cases}
    spent = {name: [[100 if name == "cold" else 50] * 2] * 20 for name in ends}
    return {
        "specification": spec,
        "tables": list(range(20)),
        "correct": at_budgets,
        "budget": {"loss": at_budgets},
        "stopped": {"loss": ends},
        "spent": {"loss": spent},
    }


def answers_of(case: Case) -> dict[str, str]:
    return {key: options[0] for key, options in case.when.items()}


def load_of(content: Mapping[str, Any]) -> Callable[[str], Mapping[str, Any]]:
    return lambda name: content


MEANS = {"cold": 60.0, "warm": 58.0, "shrink_perturb": 62.0, "shrink_perturb_0.3": 61.0, "shrink_only": 90.0}


@pytest.mark.parametrize("case", [case for case in CASES if case.chapter == 6], ids=lambda case: case.result)
def test_half_new(case: Case) -> None:
    """Also what the study trained for its own sake: a control is no start that anybody is advised to take."""
    found = recommend(answers_of(case), load_of(of_stopped(MEANS)))
    assert found and found.case is case
    assert found.start.key == "shrink_perturb" and found.decision.why == "better"
    assert found.decision.gain and found.decision.gain.estimate == pytest.approx(2.0)
    assert found.decision.warm and found.decision.warm.high < 0
    stopped = case.protocol.startswith("stopped")
    assert found.decision.cost == (0.4 if stopped else 1.0)
    assert found.found.elsewhere
    none = recommend(answers_of(case), load_of(of_stopped(dict.fromkeys(MEANS, 60.0))))
    assert none and none.decision.why == ("cheaper" if stopped else "default")


@pytest.mark.parametrize("best", decide.STARTS)
def test_any_share(best: str) -> None:
    load = load_of(of_decide(best))
    for share in decide.NEW_SHARES:
        for old in FIRST_EPOCHS:
            for stop in ("split", "fixed"):
                for spend in BUDGETS:
                    said = {
                        "data": "tables", "batchnorm": "no", "labels": "few", "old": old,
                        "new": f"{100 * share:.0f}", "stop": stop, "spend": spend, "augmentation": "no",
                    }  # fmt: skip
                    [case, *_] = [case for case in CASES if case.covers(said) and case.chapter == 13]
                    found = advice.answered(case, load)
                    assert found and found.start.key == best
                    assert found.found.units == 10, "the half that reports"
                    if best != "cold":
                        assert found.decision.gain and found.decision.gain.estimate == pytest.approx(10.0)


def test_a_lead_by_luck_on_one_half_is_none() -> None:
    """What was chosen on one half and is behind on the other is not recommended."""
    content = of_decide("warm")
    for counts in (content["correct"], content["stopped"]["loss"]):
        for name, tables in counts.items():
            if name.startswith("warm"):
                counts[name] = [
                    [n - 200 for n in seeds] if k >= 10 else seeds for k, seeds in enumerate(tables)
                ]
    wanted = {"new": ("10",), "old": ("past",), "stop": ("fixed",), "spend": ("little",)}
    [case] = [c for c in CASES if c.chapter == 13 and wanted.items() <= c.when.items()]
    found = advice.answered(case, load_of(content))
    assert found and found.start.key == "cold" and found.decision.gain is None


def test_every_case_is_met_and_says_something() -> None:
    """Whichever results are there: each case, with its own result, through the whole rule."""
    load = lru_cache(maxsize=None)(stored)
    met = cases_met()
    assert len(met) > 90
    for case in met:
        assert set(case.when) == {question.key for question in advice.QUESTIONS}
        found = advice.answered(case, load)
        if found is None:
            continue
        decision = found.decision
        assert decision.start in STARTS and found.found.units >= 5
        if decision.why == "better":
            assert decision.gain and decision.gain.low > 0
        elif decision.why == "cheaper":
            assert decision.gain and decision.gain.low > -0.5 and decision.cost <= 0.9
        else:
            assert decision.start == "cold" and all(lead.low <= 0 for lead in found.found.minus_cold.values())


# ---------------------------------------------------------------- the answers


def test_every_answer_gets_a_recommendation_or_not_measured() -> None:
    """And the one that it gets is of a case that covers it in every question."""
    load = load_of(of_stopped(MEANS))
    read: dict[Case, Any] = {}
    count = {"measured": 0, "not measured": 0}
    for answers in advice.all_answers():
        case = next((case for case in CASES if case.covers(answers)), None)
        count["measured" if case else "not measured"] += 1
        if case:
            assert all(answers[key] in options for key, options in case.when.items())
            assert answers["augmentation"] == "no" and answers["data"] != "other"
            read[case] = case
        else:
            assert recommend(answers, load) is None
    assert set(read) == set(cases_met())
    assert count["measured"] < count["not measured"], "most of what can be said was never measured"


def test_what_is_not_stored_is_not_measured() -> None:
    def load(name: str) -> Mapping[str, Any]:
        raise FileNotFoundError(name)

    assert all(recommend(answers_of(case), load) is None for case in cases_met())


@pytest.mark.parametrize(
    "spoil, complaint",
    [
        ({"data": "tea leaves"}, "data can be answered tables, small_images"),
        ({"moon": "full"}, "no question 'moon'"),
    ],
)
def test_other_answers_are_refused(spoil: dict[str, str], complaint: str) -> None:
    said = answers_of(CASES[0])
    with pytest.raises(ValueError, match=complaint):
        recommend(said | spoil)
    del said["labels"]
    with pytest.raises(ValueError, match="not answered: labels"):
        recommend(said)


# ---------------------------------------------------------------- frozen


def said_today() -> dict[str, str]:
    """Case → the start that is recommended, for all whose results are there."""
    load = lru_cache(maxsize=None)(stored)
    found = (advice.answered(case, load) for case in cases_met())
    return {
        " ".join("/".join(options) for options in each.case.when.values()): each.start.key
        for each in found
        if each
    }


def test_the_rule_is_frozen() -> None:
    """What it said on its day it says still. To change it takes a new date, see the module."""
    frozen = json.loads(FROZEN.read_text())
    assert frozen["date"] == advice.FROZEN
    today = said_today()
    assert {case: start for case, start in today.items() if frozen["starts"].get(case, start) != start} == {}
    assert set(frozen["starts"]) <= set(today), "a result is gone"
