"""Results in parts: join them, take the rows of some units out again, compare two of them.

In a part a list has an entry a unit (a table, a pair, a run), in the order of the part's own list
of units. Where a list is a sum over units instead, its study says so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

Content = dict[str, Any]  # of a result, in JSON's types


def join(
    parts: Sequence[Content], key: str, sums: Collection[str] = (), same: Collection[str] = ()
) -> Content:
    """Join parts, in order of the units under `key`.

    Lists at or below a name in `sums` are added up; what is at a name in `same` is alike in all.

    Examples
    --------
    >>> late = {"tables": [8], "correct": {"cold": [3]}, "curve": {"sum": [5, 6]}}
    >>> early = {"tables": [7], "correct": {"cold": [1]}, "curve": {"sum": [7, 8]}}
    >>> join([late, early], "tables", sums=["sum"])
    {'tables': [7, 8], 'correct': {'cold': [1, 3]}, 'curve': {'sum': [12, 14]}}
    """
    units = [unit for part in parts for unit in part[key]]
    order = sorted(range(len(units)), key=units.__getitem__)

    def joined(name: str, values: Sequence[Any], add: bool) -> Any:
        add = add or name in sums
        if name in same:
            return values[0]
        if isinstance(values[0], Mapping):
            return {inner: joined(inner, [value[inner] for value in values], add) for inner in values[0]}
        if add:
            return [sum(column) for column in zip(*values, strict=True)]
        entries = [entry for value in values for entry in value]
        return [entries[place] for place in order]

    return {name: joined(name, [part[name] for part in parts], False) for name in parts[0]}


def rows_of(content: Any, places: Sequence[int], skip: Collection[str] = ()) -> Any:
    """The entries at these places of every list, names in `skip` left out.

    Examples
    --------
    >>> rows_of({"tables": [7, 8], "curve": {"sum": [12], "end": [4, 5]}}, [1], skip=["sum"])
    {'tables': [8], 'curve': {'end': [5]}}
    """
    if isinstance(content, Mapping):
        return {name: rows_of(value, places, skip) for name, value in content.items() if name not in skip}
    return [content[place] for place in places]


def uneven(content: Any, length: int, skip: Collection[str] = (), where: str = "") -> Iterator[str]:
    """A line for every list that has not an entry for each of so many units.

    Examples
    --------
    >>> list(uneven({"tables": [7, 8], "correct": {"cold": [1, 2], "warm": [3]}}, 2))
    ['correct warm: 1 of 2 entries']
    >>> list(uneven({"correct": 5}, 2))
    ['correct: no list']
    """
    if isinstance(content, Mapping):
        for name, value in content.items():
            if name not in skip:
                yield from uneven(value, length, skip, f"{where} {name}".strip())
    elif not isinstance(content, list):
        yield f"{where}: no list"
    elif len(content) != length:
        yield f"{where}: {len(content)} of {length} entries"


def differences(kept: Any, again: Any, rtol: float = 0.0, where: str = "") -> Iterator[str]:
    """A line for all of `again` that is not so in `kept`, which may have more names and longer lists.

    Examples
    --------
    >>> list(differences({"cold": [1, 2, 3], "warm": [4]}, {"cold": [1, 2]}))
    []
    >>> list(differences({"cold": [1, 2, 3], "warm": [4]}, {"cold": [1, 9]}))
    ['cold 1: 9, stored 2']
    >>> list(differences({"cold": [1]}, {"cold": [1, 2], "warm": [0]}))
    ['cold 1: 2, stored nothing', 'warm: [0], stored nothing']
    """
    if isinstance(again, Mapping | list):
        pairs = list(again.items() if isinstance(again, Mapping) else enumerate(again))
        there = set(kept) if isinstance(kept, Mapping) else range(len(kept) if isinstance(kept, list) else 0)
        for name, value in pairs:
            here = f"{where} {name}".strip()
            if name in there:
                yield from differences(kept[name], value, rtol, here)
            else:
                yield f"{here}: {value}, stored nothing"
    elif not (math.isclose(again, kept, rel_tol=rtol) if rtol else again == kept):
        yield f"{where}: {again}, stored {kept}"


def in_chunks(items: Sequence[Any], workers: int, size: int) -> list[Sequence[Any]]:
    """Cut into chunks of at most `size`, all of one length but the last, as many for every worker.

    Examples
    --------
    >>> [len(chunk) for chunk in in_chunks(range(10), workers=3, size=200)]
    [4, 4, 2]
    """
    rounds = -(-len(items) // (size * workers))
    length = max(1, -(-len(items) // max(1, rounds * workers)))
    return [items[k : k + length] for k in range(0, len(items), length)]


def at_least_1(**numbers: int | None) -> None:
    """``ValueError`` for a number below 1, by its name; None will do.

    Examples
    --------
    >>> at_least_1(seeds=3, tables=0)
    Traceback (most recent call last):
    ValueError: tables must be a positive integer, not 0
    """
    for name, number in numbers.items():
        wrong = isinstance(number, bool) or not isinstance(number, int)
        if number is not None and (wrong or number < 1):
            raise ValueError(f"{name} must be a positive integer, not {number!r}")


def a_share(**numbers: float | None) -> None:
    """``ValueError`` for a number that is not from 0 to 1, by its name; None will do."""
    for name, number in numbers.items():
        if number is not None and not 0 <= number <= 1:
            raise ValueError(f"{name} must be from 0 to 1, not {number!r}")


def positive(**numbers: float | None) -> None:
    """``ValueError`` for a number that is not positive and finite, by its name; None will do."""
    for name, number in numbers.items():
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"{name} must be positive, not {number!r}")
