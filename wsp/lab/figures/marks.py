"""What a figure says beside its data: its finding, names beside lines, intervals, lines to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wsp.lab.figures.stills import INK, settle
from wsp.lab.report import typeset
from wsp.lab.statistics import SMALL, Interval

QUIET = "#9ca3af"  # what is there to compare with


def headline(finding: str, figure: Figure | None = None) -> None:
    """Give a figure its title: what it shows, computed from its data. Long ones wrap.

    Parameters
    ----------
    finding : str
        The title; numbers in it are set as people write them.
    figure : matplotlib Figure, optional
        Default: the current one.
    """
    (figure or plt.gcf()).suptitle(
        typeset(finding),
        x=0.004,
        ha="left",
        fontsize=plt.rcParams["axes.titlesize"],
        fontweight="bold",
        wrap=True,
    )


def interval(
    ax: Axes, found: Interval, row: float, color: str, *, size: float = 6.0, ends: bool = False
) -> tuple[Line2D, Line2D]:
    """Draw an interval as a line, and its estimate as a dot on it, at height `row`.

    With `ends`, also one that is narrower than its dot can be seen: in black, with a stroke at each end.
    """
    (dot,) = ax.plot(found.estimate, row, "o", color=color, ms=size)
    style: dict[str, Any] = {"color": "black", "lw": 1.2, "marker": "|"} if ends else {"color": color}
    (line,) = ax.plot([found.low, found.high], [row, row], **({"lw": 0.4 * size} | style))
    return line, dot


def forest(
    ax: Axes,
    rows: Mapping[str, Interval | Sequence[Interval]],
    colors: str | Sequence[str] = INK,
    *,
    size: float = 6.0,
    ends: bool = False,
    values: str = "",
) -> None:
    """Draw intervals below each other, the first on top, each with its name.

    Parameters
    ----------
    ax : matplotlib Axes
    rows : mapping
        Name -> one interval, or several that share the row.
    colors : str or sequence
        One color for all; or one for each row; where rows hold several intervals, one for each
        of these. Default: the ink.
    size : float
        Diameter of the dots in points. Default 6.
    ends : bool
        Mark both ends of every interval, where it is narrower than its dot. Default False.
    values : str
        A format, such as ".1f", to write the estimates above the dots. Default: not written.
    """
    several = [[found] if isinstance(found, Interval) else list(found) for found in rows.values()]
    most = max(map(len, several), default=1)
    needed = most if most > 1 else len(several)
    palette = [colors] * needed if isinstance(colors, str) else list(colors)
    if len(palette) != needed:
        raise ValueError(f"forest: {len(palette)} colors for {needed} intervals; give one, or one for each")
    for row, group in enumerate(several):
        for k, found in enumerate(group):
            above = 0.7 * ((len(group) - 1) / 2 - k) / max(most, 1)
            height = len(several) - 1 - row + above
            color = palette[k if most > 1 else row]
            interval(ax, found, height, color, size=size, ends=ends)
            if values:
                value_above(ax, found.estimate, height, color, values, fontweight="bold")
    ax.set_yticks(range(len(several)), [*rows][::-1])
    if most == 1 and not isinstance(colors, str):
        for label, color in zip(ax.get_yticklabels(), reversed(palette)):
            label.set_color(color)
    ax.set_ylim(-0.6, len(several) - 0.4)
    ax.tick_params(axis="y", length=0)


def value_above(ax: Axes, x: float, row: float, color: str, spec: str, **style: Any) -> None:
    """Write a value above its dot."""
    ax.annotate(
        typeset(format(x, spec)),
        (x, row),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        color=color,
        fontsize="small",
        **style,
    )


def hollow(ax: Axes, x: float, row: float, color: str, *, size: float = 6.0, values: str = "") -> None:
    """A hollow dot at height `row`: somebody else's figure, to compare with. `values` as in `forest`."""
    ax.plot(x, row, "o", ms=size, mfc="white", mec=color, mew=0.2 * size)
    if values:
        value_above(ax, x, row, color, values)


def tiles(
    ax: Axes,
    found: Mapping[tuple[int, int], tuple[Sequence[str], str | None]],
    colors: Mapping[str, str],
    names: Mapping[str, str] | None = None,
    empty: str = "#e5e7eb",
) -> None:
    """A grid of tiles with words: in color where one name stands alone, else gray.

    Parameters
    ----------
    found : mapping
        (column, row), from the lower left → the names in a tile, and the one whose color it wears, or None.
    colors : mapping
        Name → color.
    names : mapping, optional
        What a name is called in a tile. Default: shrink_perturb is the trick.
    empty : str
        The gray of tiles without a color of their own.
    """
    called = {"shrink_perturb": "trick"} | dict(names or {})
    for (column, row), (able, alone) in found.items():
        color = colors[alone] if alone else empty
        ax.add_patch(Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, lw=0, color=color))
        words = "any" if len(able) == 3 else " or\n".join(called.get(name, name) for name in able)
        style: dict[str, Any] = {"color": "white", "fontweight": "bold"} if alone else {"color": "black"}
        ax.text(column + 0.5, row + 0.5, words, ha="center", va="center", fontsize="small", **style)
    ax.set_xlim(0, 1 + max(column for column, _ in found))
    ax.set_ylim(0, 1 + max(row for _, row in found))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def zero_line(ax: Axes) -> None:
    """A thin line where there is no difference."""
    ax.axvline(0, color="black", lw=0.8, zorder=0.5)


def half_a_point(ax: Axes, points: float = SMALL) -> None:
    """A gray band where a difference is too small to matter. Default: half a point each way."""
    ax.axvspan(-points, points, color=QUIET, alpha=0.15, lw=0, zorder=0)


def mark(ax: Axes, x: float, text: str = "") -> None:
    """A dashed line at `x`, with words at its upper end."""
    ax.axvline(x, color="black", lw=0.8, ls="--")
    if text:
        ax.annotate(
            text,
            (x, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
        )


def label_line(ax: Axes, text: str, color: str, at: int = -1, line: int = -1, dy: float = 0.0) -> None:
    """Write a line's name beside its point number `at` instead of in a legend."""
    x, y = ax.lines[line].get_data()
    ax.annotate(
        text,
        (np.asarray(x)[at], np.asarray(y)[at]),
        xytext=(6, dy),
        textcoords="offset points",
        color=color,
        va="center",
        annotation_clip=False,
    )


def spread(heights: Sequence[float], least: float) -> NDArray[np.float64]:
    """Move labels apart, as little as it takes, so that neighbors are `least` apart.

    Examples
    --------
    >>> spread([1.0, 1.0, 5.0], least=1.0).tolist()
    [0.5, 1.5, 5.0]
    """
    places, order = np.array(heights, dtype=float), np.argsort(heights, kind="stable")
    for _ in range(200):
        for below, above in pairwise(order):
            overlap = least - (places[above] - places[below])
            if overlap > 0:
                places[above] += overlap / 2
                places[below] -= overlap / 2
    return places


def label_points(
    ax: Axes,
    points: Iterable[tuple[float, float]],
    names: Mapping[str, str],
    apart: float = 13.0,
    *,
    column: bool = False,
    **style: Any,
) -> None:
    """Write names beside points, `apart` points or more from each other, whatever the figure's size.

    Parameters
    ----------
    points : iterable of (x, y)
        In the data's units, one for each name.
    names : mapping
        Name -> color.
    apart : float
        Least distance between two names, in points. Default 13.
    column : bool
        Put the names in a column right of the plot, each with a thin line to its point. Default False.
    style
        As of ``Axes.annotate``.
    """
    x = 1.03 if column else 6
    points = [(float(across), float(up)) for across, up in points]
    labels = [
        ax.annotate(
            name,
            point,
            xytext=(x, 0),
            textcoords=("axes fraction" if column else "offset points", "offset points"),
            color=color,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.5} if column else None,
            **style,
        )
        for point, (name, color) in zip(points, names.items(), strict=True)
    ]
    figure = ax.get_figure(root=True)
    assert figure is not None

    def place() -> None:
        for _ in range(2):  # the labels take room, which moves what they belong to
            figure.draw_without_rendering()  # settles limits and layout
            heights = [ax.transData.transform(point)[1] * 72 / figure.dpi for point in points]
            for label, dy in zip(labels, spread(heights, apart) - heights):
                label.xyann = (x, dy)

    settle(figure, place)


def label_ends(ax: Axes, names: Mapping[str, str], apart: float = 13.0) -> None:
    """Write the lines' names beside their ends, `apart` points or more from each other.

    `names` gives the name and color of the last lines, in the order in which they were drawn.
    Call it when everything else is there, so that the limits do not move any more.
    """
    lines = ax.lines[-len(names) :]
    ends = [tuple(np.asarray(values)[-1] for values in line.get_data()) for line in lines]
    label_points(ax, ends, names, apart)


def wrap_names(ax: Axes) -> None:
    """Break the names below an axis, word by word, where they would run into each other."""
    names = [label.get_text() for label in ax.get_xticklabels()]
    figure = ax.get_figure(root=True)
    assert figure is not None

    def place() -> None:
        ax.set_xticks(ax.get_xticks(), names)
        figure.draw_without_rendering()
        room = ax.get_window_extent().width / len(names)
        if any(label.get_window_extent().width > 0.95 * room for label in ax.get_xticklabels()):
            ax.set_xticks(ax.get_xticks(), [name.replace(" ", "\n") for name in names])

    settle(figure, place)


def key(where: Figure | Axes, colors: Mapping[str, str], marks: Mapping[str, str] | None = None) -> None:
    """What the colors mean, below a figure or in the corner of a plot; "white" is a hollow dot.

    Parameters
    ----------
    where : matplotlib Figure or Axes
    colors : mapping
        Name -> color.
    marks : mapping, optional
        Name -> mark. Default: dots.
    """
    handles = [
        Line2D(
            [],
            [],
            marker=(marks or {}).get(name, "o"),
            ls="",
            ms=8,
            color=INK if color == "white" else color,
            mfc=color,
            label=name,
        )
        for name, color in colors.items()
    ]
    short = sum(len(name) + 4 for name in colors) < 40  # fits beside each other on a phone
    below = isinstance(where, Figure)
    where.legend(
        handles=handles,
        loc="outside lower center" if below else "upper right",
        ncols=len(colors) if below and short else 1,
        handletextpad=0.2,
        columnspacing=1.2,
    )
