"""What a reader says about a network before it is retrained: eight questions, each with a few answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes
    ----------
    key : str
    words : str
        As it is asked.
    options : dict
        Key of an answer → its words.
    """

    key: str
    words: str
    options: Mapping[str, str]


#: The questions, in the order in which they are asked.
#:
#: :meta hide-value:
QUESTIONS = (
    Question(
        "data",
        "What do you train on?",
        {
            "tables": "rows of a table, a few hundred",
            "small_images": "small, easy images, about a thousand",
            "photographs": "photographs, a few thousand",
            "other": "something else, or far more",
        },
    ),
    Question("batchnorm", "Does the network have BatchNorm?", {"no": "no", "yes": "yes"}),
    Question(
        "labels",
        "May labels be wrong?",
        {"clean": "no", "few": "a few, about one in twenty", "many": "many, about one in five"},
    ),
    Question(
        "old",
        "How long was the old network trained?",
        {
            "short": "it was still getting better",
            "best": "until it was best on held-out rows",
            "past": "longer, or until it fitted its rows",
        },
    ),
    Question(
        "new",
        "How much of all your data is new?",
        {"10": "a tenth", "25": "a quarter", "50": "half", "75": "three quarters"},
    ),
    Question(
        "stop",
        "When does training end?",
        {
            "split": "when a validation split says so",
            "fixed": "after a fixed number of epochs",
            "fit": "when the training rows are fitted",
        },
    ),
    Question(
        "spend",
        "What can you spend?",
        {
            "little": "far less than a cold start needs to be at its best",
            "some": "about what a cold start needs to be at its best",
            "plenty": "as much as it takes",
        },
    ),
    Question("augmentation", "Do you augment the data?", {"no": "no", "yes": "yes"}),
)
BY_KEY = {question.key: question for question in QUESTIONS}


def check(answers: Mapping[str, str]) -> None:
    """All questions answered, each by one of its options; ``ValueError`` if not.

    Examples
    --------
    >>> check({"data": "tea leaves"})
    Traceback (most recent call last):
    ValueError: data can be answered tables, small_images, photographs, other, not 'tea leaves'
    """
    for key, answer in answers.items():
        if key not in BY_KEY:
            raise ValueError(f"no question {key!r}: choose from {', '.join(BY_KEY)}")
        if answer not in BY_KEY[key].options:
            raise ValueError(f"{key} can be answered {', '.join(BY_KEY[key].options)}, not {answer!r}")
    if missing := [key for key in BY_KEY if key not in answers]:
        raise ValueError(f"not answered: {', '.join(missing)}")


def all_answers() -> Iterator[dict[str, str]]:
    """Everything that can be answered."""
    for choice in product(*(question.options for question in QUESTIONS)):
        yield dict(zip(BY_KEY, choice))


def in_words(answers: Mapping[str, str]) -> str:
    """Answers as a line for people.

    Examples
    --------
    >>> in_words({"labels": "clean", "new": "50"})
    'May labels be wrong? no. How much of all your data is new? half.'
    """
    return " ".join(f"{BY_KEY[key].words} {BY_KEY[key].options[answer]}." for key, answer in answers.items())
