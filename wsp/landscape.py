"""Read the map of lamda and sigma: each cell with its intervals, the best cell, what each does.

The unit is the table. Whatever is chosen as the best of many is chosen on the first half of
the tables and reported on the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsp.grid import HALVES, WARM, Floats, accuracy, cell
from wsp.statistics import Interval, mean_interval, simultaneous
from wsp.sweep import fresh_tables


@dataclass(frozen=True)
class Cell:
    """One cell of the map.

    Attributes
    ----------
    lamda, sigma : float
    accuracy : Interval
        At the last epoch, in percent; a t interval over tables, for this cell alone.
    minus_cold, minus_warm : Interval
        Paired over tables, in points. Each holds for all cells of the map at once.
    epochs : Interval
        Mean epochs until the accuracy that the cold start of the same table and seed has
        at the last epoch. Runs that never get there count with the last epoch, so this is
        a restricted mean. A bootstrap interval, since epochs to a target are skewed.
    reached : float
        Share of runs that get there.
    """

    lamda: float
    sigma: float
    accuracy: Interval
    minus_cold: Interval
    minus_warm: Interval
    epochs: Interval
    reached: float

    @property
    def name(self) -> str:
        """Its name in the stored map."""
        return cell(self.lamda, self.sigma)


def cells_of(found: Mapping[str, Any]) -> list[Cell]:
    """All cells of a map, row by row.

    Examples
    --------
    >>> from wsp.results import stored
    >>> first = cells_of(stored("lamda_sigma"))[0]
    >>> first.lamda, first.sigma, first.accuracy.low < first.accuracy.estimate < first.accuracy.high
    (0.0, 0.0, True)

    See chapter 8.
    """
    spec = found["specification"]
    pairs = [(lamda, sigma) for lamda in spec["lamdas"] for sigma in spec["sigmas"]]
    percent = {pair: accuracy(found, cell(*pair)) for pair in pairs}
    against = {
        other: simultaneous({cell(*pair): percent[pair] - accuracy(found, other) for pair in pairs})
        for other in ("cold", WARM)
    }
    return [
        Cell(
            *pair,
            accuracy=mean_interval(percent[pair]),
            minus_cold=against["cold"][cell(*pair)],
            minus_warm=against[WARM][cell(*pair)],
            epochs=epochs(found, cell(*pair)),
            reached=reached(found, cell(*pair)),
        )
        for pair in pairs
    ]


def epochs(found: Mapping[str, Any], name: str) -> Interval:
    """Restricted mean epochs to the target of a cell or of ``"cold"``; see :class:`Cell`."""
    values = np.array(found["epochs"][name]) / found["specification"]["seeds"]
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def reached(found: Mapping[str, Any], name: str) -> float:
    """Share of the runs of a cell, or of ``"cold"``, that reach the target."""
    return float(np.mean(found["reached"][name]) / found["specification"]["seeds"])


def curve(found: Mapping[str, Any], name: str, half: str | None = None, of: str = "sum") -> Floats:
    """Mean accuracy in percent at every epoch read.

    Parameters
    ----------
    found : mapping
        A map.
    name : str
        A cell or ``"cold"``.
    half : {"choose", "report"}, optional
        Only these tables. Default: all.
    of : {"sum", "train"}
        On the test rows or the training rows.

    Examples
    --------
    >>> from wsp.results import stored
    >>> len(curve(stored("lamda_sigma"), "cold"))
    17
    """
    spec = found["specification"]
    counts = np.sum([found["curves"][name][h][of] for h in ([half] if half else HALVES)], axis=0)
    tables = [found["tables"][part] for part in halves(found)]
    number = len(tables[HALVES.index(half)]) if half else len(found["tables"])
    rows = spec["test_rows"] if of == "sum" else 200
    percent: Floats = 100 * counts / (number * spec["seeds"] * rows)
    return percent


def halves(found: Mapping[str, Any]) -> tuple[slice, slice]:
    """The tables that choose and the tables that report, as in the sums of the curves.

    Examples
    --------
    >>> halves({"specification": {"tables": 4}, "tables": [1000, 1001, 1002, 1003]})
    (slice(0, 2, None), slice(2, None, None))
    """
    tables = fresh_tables(found["specification"]["tables"])
    half = sum(number < tables[len(tables) // 2] for number in found["tables"])
    return slice(0, half), slice(half, None)


@dataclass(frozen=True)
class Best:
    """The cell with the highest mean on the tables that choose, reported on the others.

    Attributes
    ----------
    name : str
        The cell.
    chosen : float
        Its lead over cold on the tables that chose it, in points: too good to be true.
    minus : dict
        Other arm → its lead on the tables that report. The intervals hold at once.
    """

    name: str
    chosen: float
    minus: dict[str, Interval]


def best(found: Mapping[str, Any], against: Sequence[str] = ("cold", WARM)) -> Best:
    """Choose the best cell on one half of the tables; report on the other.

    Examples
    --------
    >>> from wsp.results import stored
    >>> sorted(best(stored("lamda_sigma")).minus)
    ['1, 0', 'cold']

    See chapter 8.
    """
    spec, (choose, report) = found["specification"], halves(found)
    names = [cell(lamda, sigma) for lamda in spec["lamdas"] for sigma in spec["sigmas"]]
    name = max(names, key=lambda n: accuracy(found, n)[choose].mean())
    lead = {other: accuracy(found, name) - accuracy(found, other) for other in against}
    return Best(
        name,
        float((accuracy(found, name) - accuracy(found, "cold"))[choose].mean()),
        simultaneous({other: values[report] for other, values in lead.items()}),
    )


def noise_adds(found: Mapping[str, Any]) -> dict[tuple[float, float], Interval]:
    """What a sigma adds to shrinking alone, at every lamda: (lamda, sigma) → points.

    Paired over tables; the intervals hold for all of them at once.

    Examples
    --------
    >>> from wsp.results import stored
    >>> (1.0, 0.01) in noise_adds(stored("lamda_sigma"))
    True

    See chapter 8.
    """
    spec = found["specification"]
    pairs = [(lamda, sigma) for lamda in spec["lamdas"] for sigma in spec["sigmas"] if sigma > 0]
    added = simultaneous(
        {cell(*pair): accuracy(found, cell(*pair)) - accuracy(found, cell(pair[0], 0)) for pair in pairs}
    )
    return {pair: added[cell(*pair)] for pair in pairs}
