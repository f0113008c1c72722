"""Read the map of lamda and sigma: each pair with its intervals, the best pair, what each does.

The unit is the table. Whatever is chosen as the best of many is chosen on the tables of even number
and reported on the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsp.lab.statistics import Floats, Interval, mean_interval, simultaneous
from wsp.studies.grid import HALVES, WARM, accuracy, cell

AGAINST = ("cold", WARM, cell(0.5, 0.01))  # what the best pair is compared with; the last is the article's


@dataclass(frozen=True)
class Cell:
    """One pair of the map.

    Attributes
    ----------
    lamda, sigma : float
    accuracy : Interval
        At the last epoch, in percent; a t interval over tables, for this pair alone.
    minus_cold, minus_warm : Interval
        Paired over tables, in points. Each holds for all pairs of the map at once.
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
    """All pairs of a map, row by row.

    Examples
    --------
    >>> from wsp.lab.results import stored
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
    """Restricted mean epochs to the target of a pair or of ``"cold"``; see :class:`Cell`."""
    values = np.mean(found["epochs"][name], axis=1)
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def reached(found: Mapping[str, Any], name: str) -> float:
    """Share of the runs of a pair, or of ``"cold"``, that reach the target."""
    return float(np.mean(found["reached"][name]))


def curve(found: Mapping[str, Any], name: str, half: str | None = None, of: str = "sum") -> Floats:
    """Mean accuracy in percent at every epoch read.

    Parameters
    ----------
    found : mapping
        A map.
    name : str
        A pair or ``"cold"``.
    half : {"choose", "report"}, optional
        Only these tables. Default: all.
    of : {"sum", "train"}
        On the test rows or the training rows.

    Examples
    --------
    >>> from wsp.lab.results import stored
    >>> len(curve(stored("lamda_sigma"), "cold"))
    17
    """
    spec = found["specification"]
    counts = np.sum([found["curves"][name][h][of] for h in ([half] if half else HALVES)], axis=0)
    number = sum(halves(found)[HALVES.index(half)]) if half else len(found["tables"])
    rows = spec["test_rows"] if of == "sum" else 200
    percent: Floats = 100 * counts / (number * spec["seeds"] * rows)
    return percent


def halves(found: Mapping[str, Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which tables choose, and which report, as in the sums of the curves.

    Examples
    --------
    >>> halves({"tables": [1000, 1001, 1002]})
    (array([ True, False,  True]), array([False,  True, False]))
    """
    even = np.array(found["tables"]) % 2 == 0
    return even, ~even


@dataclass(frozen=True)
class Best:
    """The pair with the highest mean on the tables that choose, reported on the others.

    Attributes
    ----------
    name : str
        The pair.
    chosen : float
        Its lead over cold on the tables that chose it, in points: too good to be true.
    minus : dict
        Other arm → its lead on the tables that report. The intervals hold at once.
    """

    name: str
    chosen: float
    minus: dict[str, Interval]


def best(found: Mapping[str, Any]) -> Best:
    """Choose the best pair on one half of the tables; report on the other.

    It is reported against cold, warm and the article's pair, where the map has them: one joint family.

    Examples
    --------
    >>> from wsp.lab.results import stored
    >>> sorted(best(stored("lamda_sigma")).minus)
    ['0.5, 0.01', '1, 0', 'cold']

    See chapter 8.
    """
    spec, (choose, report) = found["specification"], halves(found)
    against = [name for name in AGAINST if name in found["correct"]]
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
    >>> from wsp.lab.results import stored
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
