"""The plots of the book, in one style. Imported only where something is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from torch import nn

from wsp.employees import BRANCHES, JOBS, TEST_ROWS, encode
from wsp.retraining import ARMS
from wsp.training import Reading

#: One color an arm, the same on every page; after Okabe and Ito, safe for color-blind readers.
COLORS = {
    "initial": "#6b7280",
    "cold": "#0072b2",
    "warm": "#d55e00",
    "shrink_perturb": "#00805d",
}
#: One color and one mark a job, apart from the arms' so that nobody mixes them up.
JOB_COLORS = dict(zip(JOBS, ("#7b3294", "#a6761d", "#1b9e9e")))
JOB_MARKS = dict(zip(JOBS, ("o", "s", "^")))
INK = "#374151"


def use_style() -> None:
    """Set the book's style: quiet axes, direct labels, sharp on any screen."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlelocation": "left",
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "font.family": "DejaVu Sans",
            "lines.linewidth": 1.8,
            "legend.frameon": False,
        },
    )


def color_of(arm: str) -> str:
    """The color of an arm; a control wears the color of the arm it belongs to.

    Examples
    --------
    >>> color_of("warm_500") == COLORS["warm"]
    True
    """
    if arm in COLORS:
        return COLORS[arm]
    for key in ("cold", "warm", "shrink_perturb"):
        if arm.startswith(key):
            return COLORS[key]
    return {
        "fresh_shrunk_500": "#8c6bb1",
        "shrink_only_500": "#5aae61",
        "perturb_only_500": "#e6ab02",
    }[arm]


def name_of(arm: str) -> str:
    """An arm's name as people write it.

    Examples
    --------
    >>> name_of("shrink_perturb_1000")
    'shrink and perturb, 1000'
    """
    name = arm.replace("shrink_perturb", "shrink and perturb").replace("fresh_shrunk", "fresh, shrunk")
    for end in ("_500", "_1000"):
        name = name.replace(end, f", {end[1:]}")
    return name.replace("_", " ")


def accuracy_bars(correct: Mapping[str, int], of: int = TEST_ROWS, ax: Axes | None = None) -> Axes:
    """A bar for each arm, and a line where the article's figure is.

    Parameters
    ----------
    correct : mapping
        Arm → correct test rows.
    of : int
        Test rows. Default 40.
    ax : matplotlib Axes, optional
        Where to draw. Default: the current axes.
    """
    ax = ax or plt.gca()
    for place, (arm, count) in enumerate(correct.items()):
        ax.bar(place, 100 * count / of, width=0.72, color=color_of(arm))
        ax.annotate(
            f"{100 * count / of:.1f} %\n{count} of {of}",
            (place, 100 * count / of),
            xytext=(0, -6),
            textcoords="offset points",
            ha="center",
            va="top",
            color="white",
            fontweight="bold",
            fontsize="x-small",
        )
        quoted = ARMS[arm].quoted
        if quoted is not None:
            level = 100 * quoted / TEST_ROWS
            ax.plot([place - 0.42, place + 0.42], [level, level], color="black", lw=1.4)
    ax.set_xticks(range(len(correct)), [f"{name_of(arm)}\n{ARMS[arm].epochs} epochs" for arm in correct])
    ax.set(ylim=(0, 100), ylabel="test accuracy, %")
    ax.tick_params(axis="x", length=0)
    return ax


def learning_curve(
    readings: Sequence[Reading],
    arm: str,
    ax: Axes,
    of: str = "test",
    what: str = "accuracy",
    **style: Any,
) -> None:
    """One curve over epochs from the readings of a training run."""
    values = [getattr(getattr(reading, of), what) for reading in readings]
    ax.plot([reading.epoch for reading in readings], values, color=color_of(arm), **style)


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


def label_ends(ax: Axes, names: Mapping[str, str], apart: float = 12.0) -> None:
    """Write the lines' names beside their ends, `apart` points or more from each other.

    `names` gives the name and color of the last lines, in the order in which they were drawn.
    Call it when everything else is there, so that the limits do not move any more.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles limits and layout
    ends = [line.get_data() for line in ax.lines[-len(names) :]]
    pixel = 72 / figure.dpi  # in points
    heights = [ax.transData.transform((x[-1], y[-1]))[1] * pixel for x, y in map(np.asarray, ends)]
    moved = spread(heights, apart) - heights
    for line, ((name, color), dy) in enumerate(zip(names.items(), moved), start=-len(names)):
        label_line(ax, name, color, line=line, dy=dy)


def decision_surface(
    network: nn.Module,
    ax: Axes,
    rows: pd.DataFrame | None = None,
    sex: str = "F",
    branch: str = BRANCHES[0],
) -> None:
    """What a network predicts over age and income, for one sex and branch.

    The job with the largest logit colors the ground, the paler the less sure;
    marks are `rows` of this branch.
    """
    ages, incomes = np.linspace(18, 67, 120), np.linspace(20_000, 100_000, 120)
    grid = pd.DataFrame(
        {
            "sex": sex,
            "age": np.repeat(ages, 120),
            "branch": branch,
            "income": np.tile(incomes, 120),
            "job": JOBS[0],
        }
    )
    with torch.no_grad():
        device = next(network.parameters()).device
        chances = torch.softmax(network(encode(grid).inputs.to(device)), dim=1).cpu().numpy()
    best = chances.argmax(axis=1)
    sure = (chances.max(axis=1) - 1 / 3) * 1.5
    palette = np.array([to_rgb(JOB_COLORS[job]) for job in JOBS])
    ground = 1 - 0.55 * sure[:, None] * (1 - palette[best])
    image = ground.reshape(120, 120, 3).transpose(1, 0, 2)
    ax.imshow(image, origin="lower", extent=(18, 67, 20, 100), aspect="auto")
    if rows is not None:
        for job, group in rows[rows["branch"] == branch].groupby("job"):
            ax.scatter(
                group["age"],
                group["income"] / 1000,
                s=26,
                color=JOB_COLORS[job],
                marker=JOB_MARKS[job],
                edgecolor="white",
                linewidth=0.7,
            )
    ax.set(xlabel="age, years", ylabel="income, thousand dollars", xlim=(18, 67), ylim=(20, 100))


def weight_histograms(before: torch.Tensor, after: torch.Tensor, ax: Axes) -> None:
    """One layer's weights before and after the trick."""
    largest = max(float(before.abs().max()), float(after.abs().max()))
    edges = np.linspace(-largest, largest, 41).tolist()
    ax.hist(before.flatten().numpy(), edges, color=COLORS["warm"], alpha=0.65)
    ax.hist(after.flatten().numpy(), edges, color=COLORS["shrink_perturb"], alpha=0.65)
    ax.set(xlabel="weight", ylabel="number of weights")
