"""What the chapters show: arms, learning curves, what a network predicts, weights."""

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
from matplotlib.figure import Figure
from torch import nn

from wsp.lab.employees import BRANCHES, JOBS, TEST_ROWS, encode
from wsp.lab.figures.marks import QUIET, wrap_names
from wsp.lab.figures.stills import INK
from wsp.lab.retraining import ARMS
from wsp.lab.training import Reading

#: One color an arm, the same on every page; after Okabe and Ito, safe for color-blind readers.
#:
#: :meta hide-value:
COLORS = {
    "initial": "#6b7280",
    "cold": "#0072b2",
    "warm": "#d55e00",
    "shrink_perturb": "#00805d",
    "official": "#aa4499",  # the paper's rule, as stored results call it
}
#: One color and one mark a job, apart from the arms' so that nobody mixes them up.
JOB_COLORS = dict(zip(JOBS, ("#7b3294", "#a6761d", "#1b9e9e")))
JOB_MARKS = dict(zip(JOBS, ("o", "s", "^")))


def use_style() -> None:
    """Set the book's style: quiet axes, direct labels, sharp on any screen."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.h_pad": 0.08,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.titlepad": 8,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "font.family": "DejaVu Sans",
            "font.size": 13,  # pixels, because of how show() sets a figure's size
            "axes.labelsize": 13,
            "axes.titlesize": 13,
            "xtick.labelsize": 12,
            "ytick.labelsize": 12,
            "legend.fontsize": 12,
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
    for family in ("cold", "warm", "shrink_perturb", "official"):
        if arm.startswith(family):
            return COLORS[family]
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
    name = name.replace("official", "paper's rule")
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
        ax.bar(place, 100 * count / of, width=0.86, color=color_of(arm))
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
            ax.plot([place - 0.47, place + 0.47], [level, level], color="black", lw=1.4)
    ax.set(ylim=(0, 100), ylabel="test accuracy, %")
    ax.tick_params(axis="x", length=0)
    ax.set_xticks(range(len(correct)), [f"{name_of(arm)}\n{ARMS[arm].epochs} epochs" for arm in correct])
    wrap_names(ax)
    return ax


def starts(
    rows: Mapping[str, Sequence[str]], heads: Sequence[str] = ("start from", "train on", "")
) -> Figure:
    """A diagram of ways to start: one row for each arm, with three steps from left to right.

    Parameters
    ----------
    rows : mapping
        Arm -> weights to start from, rows to train on, how long.
    heads : sequence of str
        What stands above the three steps.
    """
    figure, ax = plt.subplots(figsize=(8.2, 0.5 + len(rows)))
    places = (0.17, 0.55, 0.87)
    for x, head in zip(places, heads):
        ax.text(x, len(rows) + 0.15, head, ha="center", fontsize="small")
    for row, (arm, steps) in enumerate(rows.items(), start=1):
        color, height = COLORS[arm], len(rows) - row + 0.3
        ax.text(0, height + 0.42, name_of(arm), color=color, fontweight="bold", va="center")
        for step, (x, words) in enumerate(zip(places, steps)):
            look = {"boxstyle": "round,pad=0.4", "facecolor": ("white", color, "none")[step]}
            ax.text(
                x,
                height,
                words,
                ha="center",
                va="center",
                color=(INK, "white", color)[step],
                fontsize="small",
                bbox=look | {"edgecolor": color if step < 2 else "none"},
            )
        for left, right in pairwise(places):
            arrow = {"arrowstyle": "->", "color": color}
            ax.annotate("", (right - 0.12, height), (left + 0.16, height), arrowprops=arrow)
    ax.set(xlim=(0, 1), ylim=(-0.1, len(rows) + 0.4))
    ax.axis("off")
    return figure


def learning_curve(
    readings: Sequence[Reading],
    arm: str,
    ax: Axes,
    of: str = "test",
    what: str = "accuracy",
    smooth: int = 1,
    **style: Any,
) -> None:
    """One curve over epochs from the readings of a training run.

    With `smooth`, an odd number, the readings are pale and the mean of so many neighbors lies on top.
    """
    epochs = [reading.epoch for reading in readings]
    values = pd.Series([getattr(getattr(reading, of), what) for reading in readings])
    if smooth > 1:
        ax.plot(epochs, values, color=color_of(arm), alpha=0.3, lw=0.8)
        values = values.rolling(smooth, center=True, min_periods=1).mean()
    ax.plot(epochs, values, color=color_of(arm), **style)


def shares(ax: Axes, parts: pd.DataFrame, colors: Mapping[str, str]) -> None:
    """A bar for each row of a table of shares, cut into its columns, with their names in them."""
    left = pd.Series(0.0, index=parts.index)
    for name in parts.columns:
        ax.barh(parts.index, parts[name], left=left, color=colors[name], height=0.6)
        for row, middle in enumerate(left + parts[name] / 2):
            ax.text(middle, row, name, color="white", ha="center", va="center", fontsize="x-small")
        left += parts[name]
    ax.invert_yaxis()


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
    ax.imshow(image, origin="lower", extent=(18, 67, 20, 100), aspect="auto", interpolation="none")
    if rows is not None:
        people(ax, rows[rows["branch"] == branch])
    ax.set(xlabel="age, years", ylabel="income, thousand dollars", xlim=(18, 67), ylim=(20, 100))


def people(ax: Axes, rows: pd.DataFrame, size: float = 26.0) -> None:
    """A mark for each row over age and income, in the color and shape of the job."""
    for job, group in rows.groupby("job"):
        ax.scatter(
            group["age"],
            group["income"] / 1000,
            s=size,
            color=JOB_COLORS[job],
            marker=JOB_MARKS[job],
            edgecolor="white",
            linewidth=0.7,
        )
    ax.set(xlabel="age, years", ylabel="income, thousand dollars")


def number_lines(before: torch.Tensor, after: torch.Tensor, ax: Axes) -> None:
    """One layer's weights before and after the trick, each weight joined with itself."""
    lines = ((1.0, before.flatten(), "before", "warm"), (0.0, after.flatten(), "after", "shrink_perturb"))
    for old, new in zip(before.flatten().tolist(), after.flatten().tolist()):
        ax.plot([old, new], [1, 0], color=QUIET, lw=0.5, zorder=1)
    for height, weights, name, arm in lines:
        ax.axhline(height, color="black", lw=0.6, zorder=0)
        ax.plot(weights, [height] * len(weights), "|", color=COLORS[arm], ms=16, mew=1.4)
        ax.text(0, height, name, transform=ax.get_yaxis_transform(), color=COLORS[arm], ha="right")
    ax.set(xlabel="weight", yticks=[], ylim=(-0.4, 1.4))
    ax.spines["left"].set_visible(False)
