"""Which start? What the stored results say to somebody who says what they know, by a rule that is frozen.

The rule was written down and frozen on 1 December 2026, before a study of workers, which is to report its
regret: what who follows it loses against whoever always starts cold.

1. Eight questions are asked (:mod:`wsp.studies.advice.questions`). Nothing else about the network counts.
2. The answers meet a case (:mod:`wsp.studies.advice.cases`) or none. A case is a stored result that was
   measured under these very answers; of several the first counts. Where there is none, or its result is not
   there, the answer is *not measured*.
3. In a case, every start that was run is compared with a cold start, by the joint intervals of its
   study. Cold is the default. Another start takes its place if its interval lies above 0; of
   several such starts the cheapest of those within half a point of the highest, and of equally cheap ones
   the highest. If there is none: a start whose interval lies above -0.5 points and that costs at
   least a tenth less training; of several such starts the cheapest.
4. The expected gain is that interval: of the recommended start, over always starting cold.

That the cheapest counts among those within half a point was decided after the results of *stopped*
had been seen (there lamda 0.3 and 0.5 are level, and 0.5 costs less); everything else was before. To
change the rule takes a new date, and a new study of its regret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wsp.studies.advice.cases import CASES, LOAD, Case, Load
from wsp.studies.advice.questions import QUESTIONS, Question, all_answers, check, in_words
from wsp.studies.advice.rule import CHEAPER, STARTS, Compared, Decision, Start, decide

__all__ = [
    "CASES",
    "CHEAPER",
    "FROZEN",
    "QUESTIONS",
    "STARTS",
    "Case",
    "Compared",
    "Decision",
    "Question",
    "Recommendation",
    "Start",
    "all_answers",
    "answered",
    "cases_met",
    "check",
    "in_words",
    "recommend",
]
FROZEN = "2026-12-01"


@dataclass(frozen=True)
class Recommendation:
    """What to do, and on what it rests.

    Attributes
    ----------
    case : wsp.studies.advice.cases.Case
    decision : Decision
    found : Compared
        Everything that was compared.
    """

    case: Case
    decision: Decision
    found: Compared

    @property
    def start(self) -> Start:
        """The recommended start."""
        return STARTS[self.decision.start]


def recommend(answers: Mapping[str, str], load: Load = LOAD) -> Recommendation | None:
    """One recommendation for these answers; None where nothing stored covers them.

    Parameters
    ----------
    answers : mapping
        Question → answer, all of :data:`QUESTIONS`.
    load : callable
        ``load(name)`` gives a stored result, or raises ``FileNotFoundError``. Default: the book's.

    Raises
    ------
    ValueError
        If a question is not answered, or by something else than its options.

    Examples
    --------
    >>> said = {"data": "small_images", "batchnorm": "no", "labels": "clean", "old": "past", "new": "25",
    ...         "stop": "fit", "spend": "plenty", "augmentation": "no"}
    >>> recommend(said).case.result
    'digits_mlp'
    >>> recommend(said | {"augmentation": "yes"}) is None
    True
    """
    check(answers)
    case = next((case for case in CASES if case.covers(answers)), None)
    return answered(case, load) if case else None


def answered(case: Case, load: Load = LOAD) -> Recommendation | None:
    """What a case says; None if its result is not stored."""
    try:
        found = case.read(load)
    except FileNotFoundError:
        return None
    return Recommendation(case, decide(found), found)


def cases_met() -> list[Case]:
    """The cases that count: each is the first for some answers."""
    met = {next((case for case in CASES if case.covers(answers)), None) for answers in all_answers()}
    return [case for case in CASES if case in met]
