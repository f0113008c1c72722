"""What the studies over fresh tables share: their units, how counts become percent, which half chooses.

A unit is a table with its training rows, its test rows, and its seeds; every table has seeds of its
own (:mod:`wsp.lab.many.lanes`). Counts are stored by table and seed. The unit of an interval is the table:
seeds are averaged within it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsp.lab.many.lanes import FIRST_FRESH
from wsp.lab.statistics import Floats
from wsp.studies.engine import Study
from wsp.studies.parts import Content, a_share, at_least_1, positive


class ByTable(Study):
    """A study whose units are fresh tables. Format 2: seeds of their own, counts by table and seed.

    Attributes
    ----------
    first : int
        Number of the first table.
    """

    first = FIRST_FRESH

    def holds(self, content: Content) -> bool:
        """Its results of today's format."""
        return bool(content["specification"].get("format") == f"wsp {self.name} 2")

    def units(self, spec: Content, content: Content | None, *, tables: int = 300) -> Sequence[int]:
        """Which tables a file is to hold; with more of them the same file grows.

        Parameters
        ----------
        tables : int
            So many fresh tables, from the first
        """
        at_least_1(tables=tables)
        return range(self.first, self.first + tables)


def common(name: str, seeds: int, test_rows: int, label_noise: float, learning_rate: float) -> Content:
    """What every specification begins with, checked.

    Examples
    --------
    >>> common("noise", 2, 0, 0.05, 0.05)
    Traceback (most recent call last):
    ValueError: test_rows must be a positive integer, not 0
    """
    at_least_1(seeds=seeds, test_rows=test_rows)
    a_share(label_noise=label_noise)
    positive(learning_rate=learning_rate)
    return {
        "format": f"wsp {name} 2",
        "seeds": seeds,
        "test_rows": test_rows,
        "label_noise": label_noise,
        "learning_rate": learning_rate,
    }


def some_of(what: str, wanted: Sequence[str], known: Collection[str]) -> list[str]:
    """These keys, or all where ``"all"`` stands; ``ValueError`` for an unknown one.

    Examples
    --------
    >>> some_of("arm", ["all"], ["cold", "warm"]), some_of("arm", ["warm"], ["cold", "warm"])
    (['cold', 'warm'], ['warm'])
    >>> some_of("arm", ["hot"], ["cold", "warm"])
    Traceback (most recent call last):
    ValueError: unknown arm 'hot': choose from cold, warm
    """
    keys = list(dict.fromkeys(key for name in wanted for key in (known if name == "all" else [name])))
    for key in keys:
        if key not in known:
            raise ValueError(f"unknown {what} {key!r}: choose from {', '.join(known)}")
    return keys


def in_percent(spec: Mapping[str, Any], counts: Any, further: int = 0) -> Floats:
    """Counts of right test rows in percent: (tables, ...), the mean over seeds.

    Parameters
    ----------
    spec : mapping
        With ``seeds`` and ``test_rows``.
    counts : array
        (tables, seeds, ...); or (tables, ...), sums over seeds, as files of format 1 have them.
    further : int
        How many dimensions ... stands for.

    Examples
    --------
    >>> spec = {"seeds": 2, "test_rows": 10}
    >>> in_percent(spec, [[4, 6], [5, 7]]), in_percent(spec, [10, 12])
    (array([50., 60.]), array([50., 60.]))
    """
    array = np.array(counts, dtype=float)
    if array.ndim == 2 + further:
        array = array.sum(axis=1)
    share: Floats = 100 * array / (spec["seeds"] * spec["test_rows"])
    return share


def choose(candidates: Mapping[str, Floats], half: NDArray[np.bool_]) -> str:
    """The name of the candidate with the highest mean over the tables of `half`.

    Parameters
    ----------
    candidates : mapping
        Name → values (tables,).
    half : array (tables,) of bool
        The tables to choose on.

    Examples
    --------
    >>> values = {"a": np.array([1.0, 9.0]), "b": np.array([2.0, 0.0])}
    >>> choose(values, np.array([True, False]))
    'b'
    """
    return max(candidates, key=lambda name: float(candidates[name][half].mean()))


def choose_elsewhere(candidates: Mapping[str, Floats]) -> NDArray[np.str_]:
    """For every table the name of the candidate that was best on the *other* half of the tables.

    On the tables that chose it the best looks better than it is. Halves are the
    tables at even and at odd places, so every table is reported by a choice in
    which it had no part (cross-fitting).

    Parameters
    ----------
    candidates : mapping
        Name → values (tables,).

    Examples
    --------
    >>> values = {"a": np.array([1.0, 9.0]), "b": np.array([2.0, 0.0])}
    >>> choose_elsewhere(values).tolist()
    ['a', 'b']
    """
    even = np.arange(len(next(iter(candidates.values())))) % 2 == 0
    return np.where(even, choose(candidates, ~even), choose(candidates, even))


def best_elsewhere(candidates: Mapping[str, Floats]) -> Floats:
    """For every table the value of the candidate that was best on the other half of the tables.

    Examples
    --------
    >>> best_elsewhere({"a": np.array([1.0, 9.0]), "b": np.array([2.0, 0.0])})
    array([1., 0.])
    """
    names = choose_elsewhere(candidates)
    return np.array([candidates[name][table] for table, name in enumerate(names)])
