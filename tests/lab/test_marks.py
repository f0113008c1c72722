"""What a figure says beside its data."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.text import Text

from wsp.lab import figures
from wsp.lab.statistics import Interval


@pytest.fixture
def ax() -> Iterator[Axes]:
    plt.switch_backend("agg")
    with plt.rc_context():
        figures.use_style()
        figure, axes = plt.subplots()
        yield axes
        figure.canvas.draw()  # what is drawn without a complaint
        plt.close(figure)


def drawn(ax: Axes) -> list[tuple[list[float], list[float], str]]:
    return [(list(line.get_xdata()), list(line.get_ydata()), line.get_color()) for line in ax.lines]


ROWS = {"first": Interval(1.0, 0.5, 1.5), "second": Interval(-1.0, -2.0, 0.0)}


def test_headline_is_set_as_people_write(ax: Axes) -> None:
    figures.headline("Cold is -0.5 points off")
    title = ax.figure._suptitle  # type: ignore[attr-defined]
    assert title.get_text() == "Cold is −0.5\u00a0points off"
    assert title.get_horizontalalignment() == "left" and title.get_fontweight() == "bold" and title.get_wrap()


def test_forest(ax: Axes) -> None:
    figures.forest(ax, ROWS, ["red", "blue"], values="+.1f")
    assert drawn(ax) == [
        ([1.0], [1], "red"),
        ([0.5, 1.5], [1, 1], "red"),
        ([-1.0], [0], "blue"),
        ([-2.0, 0.0], [0, 0], "blue"),
    ]
    labels = ax.get_yticklabels()
    assert [(label.get_text(), label.get_color()) for label in labels] == [
        ("second", "blue"),
        ("first", "red"),
    ]
    assert [(text.get_text(), text.get_color()) for text in ax.texts] == [("+1.0", "red"), ("−1.0", "blue")]


def test_forest_with_several_intervals_a_row(ax: Axes) -> None:
    figures.forest(ax, {"row": list(ROWS.values()), "one": [ROWS["first"]]}, ["black", "gray"])
    first, second, alone = (line for line in drawn(ax) if len(line[0]) == 2)
    assert first[1][0] > 1 > second[1][0], "the first on top, around its row"
    assert (first[2], second[2], alone[2]) == ("black", "gray", "black") and alone[1] == [0, 0]


def test_forest_wants_a_color_for_each(ax: Axes) -> None:
    with pytest.raises(ValueError, match="3 colors for 2 intervals"):
        figures.forest(ax, ROWS, ["red", "green", "blue"])
    assert not ax.lines, "nothing was drawn"
    figures.forest(ax, ROWS)
    assert {line.get_color() for line in ax.lines} == {figures.INK}


def test_an_interval_narrower_than_its_dot(ax: Axes) -> None:
    (dot,) = ax.plot([], [])
    line, dot = figures.interval(ax, ROWS["first"], 2, "red", ends=True)
    assert (line.get_color(), line.get_marker(), dot.get_color()) == ("black", "|", "red")
    assert list(dot.get_xdata()) == [1.0] and list(line.get_ydata()) == [2, 2]


def test_hollow(ax: Axes) -> None:
    figures.hollow(ax, 60.0, 1, "red", values=".1f")
    (line,) = ax.lines
    assert (line.get_mfc(), line.get_mec(), ax.texts[0].get_text()) == ("white", "red", "60.0")


def test_where_there_is_no_difference(ax: Axes) -> None:
    figures.zero_line(ax)
    figures.half_a_point(ax)
    assert list(ax.lines[0].get_xdata()) == [0, 0]
    (band,) = ax.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == (-0.5, 0.5)
    figures.half_a_point(ax, 0.2)
    assert ax.patches[1].get_width() == pytest.approx(0.4)


def test_mark(ax: Axes) -> None:
    figures.mark(ax, 500.0, "stops here")
    assert list(ax.lines[0].get_xdata()) == [500, 500] and ax.texts[0].get_text() == "stops here"
    figures.mark(ax, 20.0)
    assert len(ax.texts) == 1


@pytest.mark.parametrize("column", [False, True])
def test_labels_of_points_do_not_overlap(ax: Axes, column: bool) -> None:
    points = [(1.0, 1.0), (2.0, 1.01), (3.0, 9.0)]
    ax.plot(*zip(*points))
    figures.label_points(ax, points, {"one": "red", "two": "blue", "far": "black"}, column=column)
    ax.figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the lines to the points
    centers = [(box.y0 + box.y1) / 2 * 72 / ax.figure.dpi for box in boxes]
    assert centers[1] - centers[0] >= 12.9
    if column:
        edge = ax.get_window_extent().x1
        assert all(box.x0 > edge - 1 for box in boxes)
        assert boxes[0].x0 == pytest.approx(boxes[2].x0, abs=2)
    with pytest.raises(ValueError):
        figures.label_points(ax, points, {"one": "red"})


def test_names_below_an_axis_break_where_they_must(ax: Axes) -> None:
    names = ["shrink and perturb", "cold"]
    ax.set_xticks([0, 1], names)
    figures.wrap_names(ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == names
    ax.set_xticks([0, 1], ["a very long name that cannot fit into the half of an axis that is there", "x"])
    figures.wrap_names(ax)
    assert ax.get_xticklabels()[0].get_text().startswith("a\nvery\nlong")


def test_key(ax: Axes) -> None:
    figures.key(ax, {"before": "red", "theirs": "white"}, {"before": "s"})
    legend = ax.get_legend()
    assert legend is not None
    before, theirs = legend.legend_handles
    assert (before.get_marker(), theirs.get_marker()) == ("s", "o")
    assert theirs.get_mfc() == "white" and same_color(theirs.get_color(), figures.INK)
    figure = ax.get_figure(root=True)
    figures.key(figure, {"a": "red", "b": "blue"})
    figures.key(figure, {"a name that is long": "red", "another name, also long": "blue"})
    assert [legend._ncols for legend in figure.legends] == [2, 1]
