"""What statistics refuse: what is no finite number, nothing at all, what does not belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from wsp.lab.statistics import Interval, mean_interval, simultaneous, variance_components, verdict, wilson
from wsp.studies.sweep import paired

NOT_FINITE = {
    "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"), "None": None, "NA": pd.NA, "NaT": pd.NaT,
    "10**400": 10**400, "text": "much", "list": [1.0],
}  # fmt: skip
NO_PAIRS = [(0, 3), (0, 0), (3, 0), (3,), (2, 2, 2)]


@pytest.mark.parametrize("value", NOT_FINITE.values(), ids=NOT_FINITE)
def test_what_is_no_finite_number_is_refused_by_its_place(value: Any) -> None:
    good, bad = [1.0, 2.0, 3.0], [1.0, value, 3.0]
    with pytest.raises(ValueError, match=r"mean_interval: (value 1 is|expected finite numbers)"):
        mean_interval(bad)
    for n in (1, 5):  # Student's t, and the bootstrap
        with pytest.raises(ValueError, match=r"arm b: (value 1 is|expected finite numbers)"):
            simultaneous({"arm a": good * n, "arm b": bad * n})  # type: ignore[dict-item]
    for name, pair in (("first", ([bad], [good])), ("second", ([good], [bad]))):
        with pytest.raises(ValueError, match=rf"{name}: (value 0, 1 is|expected finite numbers)"):
            paired(*pair)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"variance_components: (value 1, 1 is|expected finite numbers)"):
        variance_components([good, bad], 40)  # type: ignore[arg-type]


def test_nothing_is_compared_with_nothing() -> None:
    with pytest.raises(ValueError, match="of no comparison at all"):
        simultaneous({})
    with pytest.raises(ValueError, match="at least two independent values, not 0"):
        simultaneous({"a": np.array([])})
    for shape in NO_PAIRS:
        with pytest.raises(ValueError, match=r"two arrays \(tables, seeds\) of one shape, with"):
            paired(np.zeros(shape), np.zeros(shape))


def test_comparisons_are_over_the_same_tables() -> None:
    """An array of another shape used to be stretched without a word, or ended in NumPy's."""
    for n in (3, 20):
        with pytest.raises(ValueError, match=r"for every comparison the same tables, not .*'b': \(2,\)"):
            simultaneous({"a": np.zeros(n), "b": np.zeros(2)})
        with pytest.raises(ValueError, match="expected one value a table"):
            simultaneous({"a": np.zeros((n, 2)), "b": np.zeros((n, 2))})
    with pytest.raises(ValueError, match=r"not \(3, 2\) and \(3, 1\)"):
        paired(np.zeros((3, 2)), np.zeros((3, 1)))


@pytest.mark.parametrize("level", [0, 1, 95, -0.5, float("nan")])
def test_a_level_is_between_0_and_1(level: float) -> None:
    for call in (
        lambda: wilson(3, 4, level),
        lambda: mean_interval([1.0, 2.0], level),
        lambda: simultaneous({"a": np.arange(20.0)}, level),
        lambda: simultaneous({"a": np.arange(3.0)}, level),
    ):
        with pytest.raises(ValueError, match=f"level must be between 0 and 1, such as 0.95, not {level}"):
            call()
    with pytest.raises(ValueError, match="draws must be at least 1, not 0"):
        simultaneous({"a": np.arange(20.0)}, draws=0)


@pytest.mark.parametrize("rows", [0, -1, 10**400, float("nan")])
def test_test_rows_are_counted(rows: Any) -> None:
    with pytest.raises(ValueError, match="test_rows must be from 1 to"):
        variance_components(np.ones((2, 2)), rows)


def test_no_verdict_of_nan() -> None:
    nan = float("nan")
    for numbers in ((nan, nan, nan, 1.0), (1.0, nan, 2.0, 1.0), (1.0, 0.0, 2.0, nan)):
        with pytest.raises(ValueError, match="verdict: value"):
            verdict(Interval(*numbers[:3]), numbers[3])
