"""Read what :func:`wsp.lab.choose.choose` found: in words, as a picture, and how much it can tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsp.lab.statistics import MOST_ROWS, Interval, mcnemar, mean_interval, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.95
SEEN = 1.96 + 0.84  # a gap of so many standard errors is told from 0 four times in five


@dataclass(frozen=True)
class Candidate:
    """A way to start: ``"cold"``, ``"warm"``, ``"shrink_perturb"`` with lamda and sigma, or a name of yours.

    `temperature` divides the outputs while training; `stopped` is by a validation split.

    Examples
    --------
    >>> str(Candidate("shrink_perturb", 0.5, 0.01)), str(Candidate("warm", 1.0, 0.0, temperature=2.0))
    ('shrink_perturb 0.5, 0.01', 'warm, temperature 2')
    """

    start: str
    lamda: float
    sigma: float
    temperature: float = 1.0
    stopped: bool = False

    def __str__(self) -> str:
        pair = f" {self.lamda:g}, {self.sigma:g}" if self.start == "shrink_perturb" else ""
        warmth = "" if self.temperature == 1 else f", temperature {self.temperature:g}"
        return self.start + pair + warmth + (", stopped" if self.stopped else "")


def as_table(
    tried: Sequence[Candidate],
    found: Mapping[int, NDArray[Any]],
    trained: NDArray[Any],
    fold_of: NDArray[Any],
    as_it_is: NDArray[Any],
) -> pd.DataFrame:
    """The table that :func:`wsp.lab.choose.choose` returns.

    Parameters
    ----------
    tried : sequence of Candidate
        The first one is what all are compared with.
    found : mapping
        Epoch → scores (candidates, rows), bool or float.
    trained : array (candidates, folds)
        Epochs that each was trained.
    fold_of : array (rows,)
        The fold in which a row was held out.
    as_it_is : array (rows,)
        Scores of the old network.
    """
    counts = found[max(found)].dtype == bool
    scale = 100.0 if counts else 1.0  # an accuracy is in percent, its differences in points
    last = scale * found[max(found)]
    target = last[0].sum()
    as_good = _may_be_best(last, counts)
    records = []
    for place, candidate in enumerate(tried):
        right = found[max(found)][place]
        alone = wilson(int(right.sum()), len(right)) if counts else mean_interval(right)
        minus_cold = mean_interval(last[place] - last[0])
        reached = [epoch for epoch in sorted(found) if scale * found[epoch][place].sum() >= target]
        if candidate.stopped:
            reached = [math.ceil(trained[place].mean())]
        records.append(
            {
                "start": candidate.start,
                "lamda": candidate.lamda,
                "sigma": candidate.sigma,
                **({"temperature": candidate.temperature} if any(c.temperature != 1 for c in tried) else {}),
                **({"stopped": candidate.stopped} if any(c.stopped for c in tried) else {}),
                "accuracy" if counts else "score": alone.estimate,
                "low": alone.low,
                "high": alone.high,
                "minus_cold": minus_cold.estimate,
                "minus_cold_low": minus_cold.low,
                "minus_cold_high": minus_cold.high,
                "epochs": reached[0] if reached else pd.NA,
                "as_good": as_good[place],
            }
        )
    table = pd.DataFrame(records).astype({"epochs": "Int64"})
    by = ["accuracy" if counts else "score", "epochs"]
    table = table.sort_values(by, ascending=[False, True], kind="stable")
    gain, by_halves = _gain(last, fold_of)
    table.attrs = {
        "rows": last.shape[1],
        "readings": sorted(found),
        "unit": "points" if counts else "",
        "gain": [gain.estimate, gain.low, gain.high],
        "chosen_by_halves": [str(tried[place]) for place in by_halves],
        "old": float(scale * as_it_is.mean()),
    }
    return table.reset_index(drop=True)


def _may_be_best(scores: NDArray[Any], counts: bool) -> list[bool]:
    """Whether no other candidate is shown to be better: the truly best one is among these, with 95 %.

    Each is compared with every other, one-sided, at 5 % over the others (Bonferroni). For the
    truly best one these are the only tests that could cast it out, so it is kept with 95 %.

    Source: Hsu (1984), multiple comparisons with the best; with exact or t tests in pairs.
    """
    level = (1 - LEVEL) / (len(scores) - 1)

    def better(one: NDArray[Any], other: NDArray[Any]) -> bool:
        gaps = one - other
        if gaps.sum() <= 0:
            return False
        if counts:
            return mcnemar(int((gaps > 0).sum()), int((gaps < 0).sum())) / 2 < level
        return mean_interval(gaps, 1 - 2 * level).low > 0

    return [not any(better(other, one) for other in scores) for one in scores]


def _gain(scores: NDArray[Any], fold_of: NDArray[Any]) -> tuple[Interval, list[int]]:
    """What choosing gains over cold: each half of the folds chooses, the other one reports.

    The two reports are averaged, ends and all, as if they could go wrong together: what one half
    reports with, the other half's choice was made by. (As one sample of rows they covered 91 to 93
    times in a hundred.)
    """
    even = fold_of % 2 == 0
    reports, chosen = [], []
    for choosing in (even, ~even):
        place = int(scores[:, choosing].sum(axis=1).argmax())
        gains = (scores[place] - scores[0])[~choosing]
        # One row has no interval.
        enough = len(gains) > 1
        reports.append(mean_interval(gains) if enough else Interval(float(gains[0]), -math.inf, math.inf))
        chosen.append(place)
    one, other = reports
    estimate, low, high = (
        (getattr(one, end) + getattr(other, end)) / 2 for end in ("estimate", "low", "high")
    )
    return Interval(estimate, low, high), chosen


def can_tell(rows: int, disagreement: float = 0.1) -> float:
    """The smallest gap, in points of accuracy, that so many held-out rows show four times in five.

    Parameters
    ----------
    rows : int
        Held-out rows: for :func:`wsp.lab.choose.choose` all new rows.
    disagreement : float
        Share of rows that exactly one of two networks gets right. Default 0.1.

    Returns
    -------
    float
        Points, for one comparison in pairs at 95 %; among many candidates it takes a larger one.

    Raises
    ------
    ValueError
        If there is no row, or no share.

    Examples
    --------
    >>> [round(can_tell(rows), 1) for rows in (100, 1000, 10_000)]
    [8.9, 2.8, 0.9]

    Source: the normal approximation of McNemar's test. See chapter 8.
    """
    if not 1 <= rows <= MOST_ROWS or not 0 < disagreement <= 1:
        raise ValueError(
            f"rows must be at least 1, disagreement above 0 and at most 1, not {rows} and {disagreement}"
        )
    return float(100 * SEEN * math.sqrt(disagreement / rows))


def cheapest(table: pd.DataFrame) -> Candidate:
    """Of the candidates that are not told apart from the best, the one that needs the fewest epochs.

    Where all epochs are alike, or unknown, the first of the table.

    Examples
    --------
    >>> table = pd.DataFrame({"start": ["cold", "warm"], "lamda": [math.nan, 1.0], "sigma": [math.nan, 0.0],
    ...                       "epochs": [20, 5], "as_good": [True, True]})
    >>> cheapest(table).start
    'warm'
    """
    rows = table[table["as_good"]]
    return _candidate(rows.loc[rows["epochs"].astype(float).fillna(math.inf).idxmin()])


def _candidate(row: pd.Series) -> Candidate:
    return Candidate(
        row["start"],
        float(row["lamda"]),
        float(row["sigma"]),
        float(row.get("temperature", 1.0)),
        bool(row.get("stopped", False)),
    )


def recommend(table: pd.DataFrame) -> str:
    """What follows from a table of :func:`wsp.lab.choose.choose`, in words.

    Says which start is ahead and whether it is told apart from the others; if it is not, to take
    the cheapest. Then what choosing gains, chosen on one half of the folds and reported on the
    other; the gap that so many rows can show; and what the old network scores as it is.

    Raises
    ------
    ValueError
        If the table is not as :func:`~wsp.lab.choose.choose` gave it, sorted and whole.

    Examples
    --------
    >>> import torch
    >>> from wsp.lab.choose import choose
    >>> from wsp.lab.employees import Table
    >>> rows = Table(torch.eye(2).repeat(10, 1), torch.arange(2).repeat(10))
    >>> def train(network, rows, order):
    ...     while True:
    ...         yield
    >>> build = lambda: torch.nn.Linear(2, 2)
    >>> found = choose(build(), build, train, rows, rows, epochs=1, lamdas=[], folds=2)
    >>> "rows held out" in recommend(found)
    True

    See chapter 8.
    """
    if not {"rows", "readings", "gain", "chosen_by_halves", "old"} <= table.attrs.keys() or not len(table):
        raise ValueError("expected the table that choose() returned, whole: its attrs hold what is said here")
    facts, what = table.attrs, "accuracy" if "accuracy" in table else "score"
    sign, unit = (" %", " points") if what == "accuracy" else ("", "")
    best, others = table.iloc[0], table.iloc[1:]
    level = [str(_candidate(row)) for _, row in others[others["as_good"]].iterrows()]
    lines = [f"Ahead: {_candidate(best)}, {best[what]:.4g}{sign} on {facts['rows']} new rows held out."]
    if level:
        cheap = cheapest(table)
        lines.append(
            f"CANNOT TELL it from {_of_others(len(level), len(others))} ({'; '.join(level)}). Take the "
            f"cheapest: {cheap}{_cost(table, cheap)}."
        )
    elif len(others):
        lines.append(f"It is told apart from {_of_others(len(others), len(others))}: take it.")
    gain, halves = Interval(*facts["gain"]), facts["chosen_by_halves"]
    by = halves[0] if halves[0] == halves[1] else " and ".join(halves)
    won = f"{gain}{unit}" if gain.low < gain.high else f"{gain.estimate:+.2f}{unit}, on every row the same"
    lines.append(
        f"What choosing gains over cold: {won}. Each half of the folds chose ({by}) for the other; "
        "the lead in the table is flattered, because the same rows chose it."
    )
    wide = _widest(table)
    if wide is not None:
        lines.append(
            f"On these {facts['rows']} rows a gap to cold of less than about {wide:.2g}{unit} is missed more "
            "often than once in five."
        )
    lines.append(
        f"The old network as it is: {facts['old']:.4g}{sign} on the same rows; the one ahead has "
        f"{best[what] - facts['old']:+.3g}{unit} on it."
    )
    lines.append("All of it is about these trained networks: with another seed= each of them moves.")
    return "\n".join(lines)


def _of_others(number: int, others: int) -> str:
    if others == 1:
        return "the other"
    return f"all {others} others" if number == others else f"{number} of {others} others"


def _cost(table: pd.DataFrame, cheap: Candidate) -> str:
    place = [_candidate(row) == cheap or str(_candidate(row)) == str(cheap) for _, row in table.iterrows()]
    epochs = table[place]["epochs"].iloc[0]
    if cheap.stopped:
        return f", which trained {epochs} epochs"
    if len(table.attrs["readings"]) == 1:
        return "; all were trained alike, so read_at= would show which gets there sooner"
    if table[table["as_good"]]["epochs"].nunique(dropna=False) == 1:
        return "; none of them gets there sooner"
    return "" if pd.isna(epochs) else f", as good after {epochs} epochs as cold at the end"


def _widest(table: pd.DataFrame) -> float | None:
    """The gap to cold that the typical candidate would show four times in five."""
    halves = (table["minus_cold_high"] - table["minus_cold_low"]) / 2
    halves = halves[halves > 0]
    return float(halves.median() * SEEN / 1.96) if len(halves) else None


def plot(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw each candidate's difference from cold with its 95 % interval; hollow: told apart from the best.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`wsp.lab.choose.choose` gives it.
    ax : matplotlib Axes, optional
        Where to draw. Default: new axes of a fitting height.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> table = pd.DataFrame({"start": ["cold", "warm"], "lamda": [math.nan, 1.0], "sigma": [math.nan, 0.0],
    ...                       "accuracy": [80.0, 75.0], "minus_cold": [0.0, -5.0],
    ...                       "minus_cold_low": [0.0, -9.0], "minus_cold_high": [0.0, -1.0],
    ...                       "as_good": [True, False], "epochs": [3, 3]})
    >>> plot(table).get_title(loc="left")
    'cold is told apart from the other'
    """
    from matplotlib import pyplot  # nobody who only computes needs it

    if ax is None:
        _, ax = pyplot.subplots(figsize=(6.4, 1.2 + 0.32 * len(table)), layout="constrained")
    names = [str(_candidate(row)) for _, row in table.iterrows()]
    places = np.arange(len(table))[::-1]  # the best at the top
    middle = table["minus_cold"].to_numpy()
    reach = np.stack([middle - table["minus_cold_low"], table["minus_cold_high"] - middle])
    ax.errorbar(middle, places, xerr=reach, fmt="none", ecolor="#6b7280", elinewidth=1.5)
    for good, fill in ((True, "#00805d"), (False, "white")):
        rows = (table["as_good"] == good).to_numpy()
        ax.plot(middle[rows], places[rows], "o", color="#00805d", markerfacecolor=fill)
    ax.axvline(0, color="#6b7280", linewidth=0.8, zorder=0)
    ax.set_yticks(places, names)
    unit = "points of accuracy" if "accuracy" in table else "score"
    ax.set_xlabel(f"{unit} above cold, 95 % intervals")
    ax.set_ylim(-0.6, len(table) - 0.4)
    level, others = int(table["as_good"].sum()) - 1, len(table) - 1
    ax.set_title(
        f"{names[0]} is told apart from {_of_others(others, others)}"
        if level == 0
        else f"Cannot tell {names[0]} from {_of_others(level, others)}",
        loc="left",
    )
    return ax
