"""A still is the same text for the same data, can be read on a phone, and follows the theme."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from helpers import ROOT
from wsp.lab import figures
from wsp.lab.figures import stills

ALT = "Two lines, one of them rising & the other one <falling>"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    plt.switch_backend("agg")
    with plt.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def two_panels() -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
    for ax, arm in zip(axes, ("cold", "warm")):
        ax.plot([1, 2, 3], [0.123456, 2.5, 1.0], color=figures.COLORS[arm])
        ax.axvline(2, color="black")
        ax.text(1, 1, "tiny", fontsize=4, color="#3f3f3f")
        ax.set(xlabel="epoch", title=arm)
    axes[0].set_ylabel("accuracy, %")
    figures.headline("A finding that is too long for one line of a phone, however small its letters may be")
    return figure


def parts(still: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    """The drawing for the column (without the one for phones), and that for phones."""
    wide = ElementTree.fromstring(still)
    narrow = wide.find(f"{SVG}svg")
    assert narrow is not None
    wide.remove(narrow)
    return wide, narrow


def test_a_still_has_words_size_and_paper() -> None:
    still, picture = stills.draw(two_panels(), ALT)
    wide, narrow = parts(still)
    assert (wide.get("role"), wide[0].tag, wide[0].text) == ("img", f"{SVG}title", ALT)
    assert wide.get("viewBox") == f"0 0 {stills.WIDE} 216"
    assert narrow.get("display") == "none" and narrow.get("width") == str(stills.NARROW)
    assert wide[1].get("class") == narrow[0].get("class") == "paper"  # for viewers without the style sheet
    assert Image.open(io.BytesIO(picture)).width == pytest.approx(stills.WIDE * 110 / 72, abs=1)


def test_no_date_and_nothing_of_this_machine() -> None:
    still, _ = stills.draw(two_panels(), ALT)
    assert not re.search(r"metadata|matplotlib|\b20\d\d-\d\d|/tmp|/home", still.replace(ALT, ""))


def test_type_can_be_read_and_stays_inside() -> None:
    figure = two_panels()
    still, _ = stills.draw(figure, ALT)
    for drawing in parts(still):
        sizes = [
            float(re.search(r"font-size:([\d.]+)px", text.get("style", ""))[1])  # type: ignore[index]
            for text in drawing.iter(f"{SVG}text")
        ]
        assert len(sizes) > 10 and min(sizes) >= stills.SMALLEST_TYPE
    assert len(list(parts(still)[1].iter(f"{SVG}text"))) > len(list(parts(still)[0].iter(f"{SVG}text"))), (
        "the long title wraps, and both panels have their numbers"
    )


def test_coordinates_are_tenths_of_a_pixel() -> None:
    still, _ = stills.draw(two_panels(), ALT)
    numbers = re.findall(r'(?: d| x| y|transform)="([^"]*)"', still)
    assert numbers and not re.search(r"\.\d\d", " ".join(numbers))
    assert "-0 " not in " ".join(numbers)


def test_panels_stand_below_each_other_on_a_phone() -> None:
    figure = two_panels()
    left, right = figure.axes
    assert left.get_position().x0 < right.get_position().x0 - 0.2
    stills.draw(figure, ALT)
    assert left.get_position().x0 == pytest.approx(right.get_position().x0)
    assert left.get_position().y0 > right.get_position().y1
    assert right.get_ylabel() == "accuracy, %"
    assert any(tick.label1.get_visible() and tick.label1.get_text() for tick in right.yaxis.get_major_ticks())


def test_other_panels_stay_where_they_are() -> None:
    figure, axes = plt.subplots(2, 2)
    before = axes[0, 1].get_subplotspec()
    assert stills.stack(figure) == (2, 2) and axes[0, 1].get_subplotspec() is before
    assert stills.stack(plt.subplots()[0]) == (1, 1)
    assert stills.stack(plt.figure()) == (1, 1)
    assert stills.stack(plt.subplots(1, 3, width_ratios=[1, 2, 1])[0]) == (1, 3)
    assert stills.stack(plt.subplots(1, 5)[0]) == (1, 2), "more than four would be too long a column"


def test_a_figure_may_say_how_many_stand_beside_each_other() -> None:
    figure, axes = plt.subplots(2, 2, figsize=(8, 4), sharex=True)
    still, _ = stills.draw(figure, ALT, columns=1)
    tops = [ax.get_position().y1 for ax in axes.flat]
    assert tops == sorted(tops, reverse=True) and len({round(top, 3) for top in tops}) == 4
    height = parts(still)[1].get("height")
    assert height == str(round(4 * 72 * 0.8 * 2))
    assert stills.stack(plt.subplots(1, 3)[0], columns=3) == (1, 1)


def test_what_was_placed_is_placed_again() -> None:
    figure, ax = plt.subplots()
    ends = {"one": 1.0, "other": 1.02}
    for y in ends.values():
        ax.plot([0, 1], [0, y])
    figures.label_ends(ax, {name: "black" for name in ends})
    stills.draw(figure, ALT)
    low, high = (text.get_window_extent() for text in ax.texts)
    assert (high.y0 + high.y1 - low.y0 - low.y1) / 2 * 72 / figure.dpi >= 12.9


def test_ink_paper_and_arms_follow_the_theme() -> None:
    still, _ = stills.draw(two_panels(), ALT)
    colors = set(re.findall(r"(?:fill|stroke):([^;\"]+)", still))
    assert {"currentColor", "var(--arm-cold,#0072b2)", "var(--arm-warm,#d55e00)"} <= colors
    assert not colors & {stills.INK, "#000000", "#3f3f3f"}
    assert 'color="#374151" fill="currentColor"' in still  # where there is no theme, or no color is said


def test_the_style_sheet_knows_every_color_that_a_theme_may_change() -> None:
    sheets = "".join(path.read_text() for path in (ROOT / "book" / "_static").glob("*.css"))
    dark = "".join(re.findall(r'^html\[data-theme="dark"\] \{(.*?)\}', sheets, re.M | re.S))
    for value in stills.THEMED.values():
        name, light = re.fullmatch(r"var\((--[\w-]+),(#\w+)\)", value).groups()  # type: ignore[union-attr]
        assert name.startswith("--pst") or f"{name}:" in dark, f"{name} has no color in the dark theme"
        assert light in stills.THEMED or light == "#fff"


def test_a_map_keeps_its_paper() -> None:
    figure, ax = plt.subplots()
    ax.imshow(np.linspace(0, 1, 100).reshape(10, 10))
    ax.plot([0, 1], [0, 1], color="black")
    still, _ = stills.draw(figure, ALT)
    assert 'class="wide on-paper"' in still and "var(--" not in still
    assert still.count("currentColor") == 1, "where no color is said, in the ink of the paper"
    assert still.count("data-digest=") == still.count("data:image/png") == 2


def test_many_points_become_a_picture() -> None:
    points = np.random.default_rng(0).random((2, stills.MANY_POINTS + 1))
    for count, pictures in ((stills.MANY_POINTS, 0), (stills.MANY_POINTS + 1, 2)):
        figure, ax = plt.subplots()
        ax.scatter(*points[:, :count])
        assert stills.draw(figure, ALT)[0].count("data:image/png") == pictures


def picture(pixels: np.ndarray[Any, Any], level: int = 6) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="png", compress_level=level)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def test_the_last_bits_of_a_coordinate_do_not_count() -> None:
    drawn = []
    for nudge in (0.0, 1e-12):
        figure, ax = plt.subplots()
        figure.set_layout_engine("none")
        ax.set_position((0.1 + nudge, 0.1, 0.8, 0.8))
        ax.plot([0, 1 + nudge], [0, 1])
        drawn.append(stills.draw(figure, ALT)[0])
    assert drawn[0] == drawn[1]


def test_what_differs_between_processors_says_what_is_compared() -> None:
    def compared(*what: object) -> list[str]:
        return re.findall(r'data-compare="(\w{16})"', stills.draw(two_panels(), ALT, None, *what)[0])

    assert compared() == [] and len(compared("grows")) == 1
    assert compared("grows") == compared("grows") != compared("shrinks")


def test_points_of_a_cloud_share_their_look() -> None:
    figure, ax = plt.subplots()
    ax.scatter(range(50), range(50), color=figures.COLORS["cold"])
    points = re.findall(r"<use [^>]*>", stills.draw(figure, ALT)[0])
    assert len(points) > 100 and sum("arm-cold" in point for point in points) == 0


def test_a_digest_says_what_a_picture_shows() -> None:
    pixels = np.full((40, 40, 4), 128, dtype=np.uint8)
    other, shifted = pixels.copy(), pixels.copy()
    other[8:16, 8:16, 0] = 140
    shifted[5, 5, 0] = 129  # one pixel, in the last bit
    same = stills.digest(picture(pixels))
    assert same == stills.digest(picture(pixels, level=1)) == stills.digest(picture(shifted))
    assert same != stills.digest(picture(other))
    assert stills.digest(picture(pixels[:3, :3])) != stills.digest(picture(0 * pixels[:3, :3]))


def test_names_are_the_stills_own() -> None:
    one, _ = stills.draw(two_panels(), ALT)
    other, _ = stills.draw(two_panels(), ALT + "!")
    names = re.findall(r'id="([\w-]+)"', one)
    assert names and len(names) == len(set(names)), "wide and narrow share no name"
    assert not set(names) & set(re.findall(r'id="([\w-]+)"', other))
    used = re.findall(r'(?:href="|url\()#([\w-]+)', one)
    assert used and set(used) == set(names)


def test_show_gives_all_forms_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[dict[str, str], dict[str, Any]]] = []
    monkeypatch.setattr("IPython.display.display", lambda data, metadata, raw: shown.append((data, metadata)))
    two_panels()
    assert stills.show(ALT) is None and plt.get_fignums() == []
    ((data, metadata),) = shown
    assert set(data) == {"image/svg+xml", "image/png", "text/plain"} and data["text/plain"] == ALT
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata == {"image/png": {"width": stills.WIDE}}
    with pytest.raises(ValueError, match="no figure to show"):
        stills.show(ALT)
    two_panels()
    with pytest.raises(ValueError, match="20 characters"):
        stills.show("A plot")
    assert len(plt.get_fignums()) == 1, "nothing was closed"


DRAW = """
import hashlib, json, sys, torch
import matplotlib; matplotlib.use("agg")
import matplotlib.pyplot as plt
sys.path.insert(0, "tests/lab")
from wsp.lab import figures
from wsp.lab.figures import stills
from wsp.lab.network import MLP
torch.set_num_threads(int(sys.argv[1]))
figures.use_style()
fig, axes = plt.subplots(1, 2)
network = MLP((6, 10, 10, 3), generator=torch.Generator().manual_seed(0))
figures.decision_surface(network, axes[0])
axes[1].plot(torch.linspace(0, 1, 300, dtype=torch.float64).tanh())
print(json.dumps(stills.draw(fig, "A map and a line that bends")[0]))
"""


def test_the_same_on_other_threads_and_instructions() -> None:
    """Byte for byte, but for pictures, of which the digest is the same."""
    drawn = []
    for threads, capability in ((1, ""), (2, ""), (1, "default")):
        environment = dict(os.environ, ATEN_CPU_CAPABILITY=capability, PYTHONPATH=str(ROOT))
        if not capability:
            del environment["ATEN_CPU_CAPABILITY"]
        run = subprocess.run(
            [sys.executable, "-c", DRAW, str(threads)],
            env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        drawn.append(re.sub(r"data:image/png;base64,[\w+/=\s]+", "", json.loads(run.stdout)))
    assert "data-digest" in drawn[0] and drawn[0] == drawn[1] == drawn[2]
