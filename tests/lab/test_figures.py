"""The plots show the numbers they are given."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from wsp.lab import figures
from wsp.lab.employees import JOBS
from wsp.lab.network import MLP
from wsp.lab.retraining import ARMS
from wsp.lab.training import Measurement, Reading


@pytest.fixture
def ax() -> Iterator[Axes]:
    plt.switch_backend("agg")
    with plt.rc_context():
        figures.use_style()
        figure, axes = plt.subplots()
        yield axes
        figure.canvas.draw()  # what is drawn without a complaint
        plt.close(figure)


def test_the_arms_wear_the_colors_of_the_design() -> None:
    hue, saturation = {}, {}
    for arm, color in figures.COLORS.items():
        h, _, saturation[arm] = colorsys.rgb_to_hls(*to_rgb(color))
        hue[arm] = 360 * h
    assert saturation["initial"] < 0.15  # gray
    assert 190 < hue["cold"] < 250 and 15 < hue["warm"] < 45 and 130 < hue["shrink_perturb"] < 175
    assert min(saturation[arm] for arm in ("cold", "warm", "shrink_perturb")) > 0.5
    for arm in ARMS:
        to_rgb(figures.color_of(arm))
    families = {arm: figures.color_of(arm) for arm in ARMS}
    assert (
        families["cold_500"] == families["cold"]
        and families["shrink_perturb_1000"] == families["shrink_perturb"]
    )
    assert len(set(families.values())) == 7  # one a training run


def luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_colors_can_be_told_apart_and_white_text_read() -> None:
    for color in figures.COLORS.values():
        assert 1.05 / (luminance(color) + 0.05) >= 3  # WCAG, large text
    for one, other in combinations([*figures.JOB_COLORS.values()], 2):
        assert np.abs(np.subtract(to_rgb(one), to_rgb(other))).max() > 0.2
    assert len(set(figures.JOB_MARKS.values())) == len(JOBS)  # never by color alone


def test_names() -> None:
    assert [figures.name_of(arm) for arm in ("warm", "cold_500", "shrink_perturb", "fresh_shrunk_500")] == [
        "warm",
        "cold, 500",
        "shrink and perturb",
        "fresh, shrunk, 500",
    ]
    with pytest.raises(KeyError):
        figures.color_of("sideways")


def test_accuracy_bars(ax: Axes) -> None:
    counts = {"initial": 20, "cold": 36, "cold_500": 30}
    assert figures.accuracy_bars(counts, ax=ax) is ax
    assert [bar.get_height() for bar in ax.patches] == [50.0, 90.0, 75.0]
    assert [bar.get_facecolor()[:3] for bar in ax.patches] == [
        to_rgb(figures.color_of(arm)) for arm in counts
    ]
    assert [text.get_text() for text in ax.texts] == [
        "50.0 %\n20 of 40",
        "90.0 %\n36 of 40",
        "75.0 %\n30 of 40",
    ]
    assert [list(line.get_ydata()) for line in ax.lines] == [[60.0, 60.0], [77.5, 77.5]]  # the article's
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "initial\n1000 epochs",
        "cold\n1000 epochs",
        "cold, 500\n500 epochs",
    ]
    assert "%" in ax.get_ylabel() and ax.get_ylim() == (0, 100)


def test_accuracy_bars_of_other_test_rows(ax: Axes) -> None:
    figures.accuracy_bars({"warm": 1400}, of=2000, ax=ax)
    assert ax.patches[0].get_height() == 70.0
    assert list(ax.lines[0].get_ydata()) == [70.0, 70.0]  # the article's 28 of 40 stays


def test_learning_curve_and_its_label(ax: Axes) -> None:
    readings = [Reading(k, Measurement(k, 10, 1 / k), Measurement(2 * k, 20, 2 / k), 0.0) for k in (1, 2, 4)]
    figures.learning_curve(readings, "warm", ax)
    figures.learning_curve(readings, "cold_500", ax, of="train", what="loss", linestyle="--")
    test, train = ax.lines
    assert test.get_xydata().tolist() == [[1, 10], [2, 20], [4, 40]]
    assert train.get_xydata().tolist() == [[1, 1], [2, 0.5], [4, 0.25]]
    assert (test.get_color(), train.get_color()) == (figures.COLORS["warm"], figures.COLORS["cold"])
    assert train.get_linestyle() == "--"
    figures.label_line(ax, "cold", "black")
    figures.label_line(ax, "warm", "black", at=1, line=0)
    assert [(text.get_text(), tuple(text.xy)) for text in ax.texts] == [
        ("cold", (4, 0.25)),
        ("warm", (2, 20)),
    ]


def test_names_beside_lines_do_not_overlap() -> None:
    fig, ax = plt.subplots()
    for end in (1.0, 1.01, 5.0):
        ax.plot([0, 1], [0, end])
    figures.label_ends(ax, {"one": "red", "other": "blue", "far": "black"}, apart=12.0)
    fig.canvas.draw()
    boxes = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert list(boxes) == ["one", "other", "far"]
    centers = {name: (box.y0 + box.y1) / 2 * 72 / fig.dpi for name, box in boxes.items()}
    assert centers["other"] - centers["one"] == pytest.approx(12, abs=0.1)
    assert ax.texts[2].xyann[1] == 0  # nothing near it, so it stays at its line
    plt.close(fig)


def test_decision_surface_has_each_job_in_its_corner(ax: Axes) -> None:
    """A network that says mgmt to the old, else tech to the rich, else supp."""
    net = MLP((6, 3), generator=torch.Generator())
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].weight[0, 1], net[0].bias[0] = 1000, -500  # age over 50
        net[0].weight[2, 5], net[0].bias[2] = 400, -240  # income over 60,000
    rows = pd.DataFrame(
        {
            "sex": "M",
            "age": [30, 60, 40],
            "branch": ["boulder", "boulder", "concord"],
            "income": [50_000, 80_000, 90_000],
            "job": ["supp", "mgmt", "tech"],
        }
    )
    figures.decision_surface(net, ax, rows, sex="M", branch="boulder")
    image = ax.images[0].get_array()
    assert ax.images[0].get_extent() == [18, 67, 20, 100] and ax.images[0].origin == "lower"

    def job_at(across: int, up: int) -> str:
        """Whose color the ground there is a pale shade of."""
        ink = {job: 1 - np.array(to_rgb(figures.JOB_COLORS[job])) for job in JOBS}
        return max(JOBS, key=lambda job: (1 - image[up, across]) @ ink[job] / np.linalg.norm(ink[job]))

    assert [job_at(5, 5), job_at(5, 115), job_at(115, 5), job_at(115, 115)] == [
        "supp",
        "tech",
        "mgmt",
        "mgmt",
    ]
    drawn = sorted(tuple(point) for marks in ax.collections for point in marks.get_offsets())
    assert drawn == [(30, 50), (60, 80)]  # the rows of this branch


def test_number_lines_hold_every_weight(ax: Axes) -> None:
    before = torch.linspace(-2, 2, 60)
    figures.number_lines(before.reshape(10, 6), 0.5 * before.reshape(10, 6), ax)
    ticks = [line for line in ax.lines if line.get_marker() == "|"]
    assert [len(line.get_xdata()) for line in ticks] == [60, 60]
    assert [float(np.max(line.get_xdata())) for line in ticks] == [2, 1]
    assert sum(list(line.get_ydata()) == [1, 0] for line in ax.lines) == 60


def test_a_smooth_curve_keeps_the_readings_below_it(ax: Axes) -> None:
    rows = [Measurement(correct, 10, 1.0) for correct in (2, 8, 2, 8, 2)]
    readings = [Reading(epoch, one, one, 0.0) for epoch, one in enumerate(rows)]
    figures.learning_curve(readings, "cold", ax, smooth=3)
    raw, mean = (line.get_ydata() for line in ax.lines)
    assert list(raw) == [20, 80, 20, 80, 20] and mean[2] == pytest.approx(60)
