"""The interactive map of lamda and sigma, as a reader drives it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import ROOT
from wsp.lab.results import stored
from wsp.studies import landscape
from wsp.studies.grid import WARM, accuracy, cell

STATIC = ROOT / "book" / "_static"
NAME = "lamda-sigma-map"
CONF = """
import sys
sys.path[:0] = [{root!r}, {extensions!r}]
project = "Map"
extensions = ["myst_parser", "lamda_sigma_map"]
html_theme = "basic"
html_static_path = ["_static"]
html_css_files = ["warm-starts.css"]
suppress_warnings = ["toc.not_included"]
"""
PAGES = {
    "index": "# Map\n\n```{lamda-sigma-map} lamda_sigma\n```\n",
    "without": "# Without\n\nNo map.\n",
    "wrong": "# Wrong\n\n```{lamda-sigma-map} no_such_result\n```\n",
}
MINUS = "−"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small site with the map, and what building it said."""
    source = tmp_path_factory.mktemp("map")
    (source / "_static").mkdir()
    for name in (f"{NAME}.js", f"{NAME}.css", "warm-starts.css"):
        shutil.copy(STATIC / name, source / "_static")
    (source / "conf.py").write_text(CONF.format(root=str(ROOT), extensions=str(ROOT / "book" / "_ext")))
    for name, text in PAGES.items():
        (source / f"{name}.md").write_text(text)
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", str(source), str(source / "html")],
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    return source / "html", build.stderr


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return dict(stored("lamda_sigma"))


@pytest.fixture(scope="module")
def cells(found: dict[str, Any]) -> dict[str, landscape.Cell]:
    return {cell(c.lamda, c.sigma): c for c in landscape.cells_of(found)}


def signed(number: float, digits: int = 2) -> str:
    words = f"{abs(number):.{digits}f}"
    if float(words) == 0:
        return words
    return ("+" if number > 0 else MINUS) + words


# The page as it is built -----------------------------------------------------------------


def test_loaded_where_needed_and_small(built: tuple[Path, str]) -> None:
    pages = {name: (built[0] / f"{name}.html").read_text() for name in PAGES}
    assert pages["index"].count(f"{NAME}.js") == pages["index"].count(f"{NAME}.css") == 1
    assert f"{NAME}." not in pages["without"]
    assert len((STATIC / f"{NAME}.js").read_bytes()) <= 25_000
    assert len(pages["index"].encode()) <= 60_000, "the page holds the data twice, as JSON and as a table"


def test_an_unknown_map_is_refused(built: tuple[Path, str]) -> None:
    assert "lamda-sigma-map:" in built[1] and "no_such_result" in built[1]


def test_without_scripts_all_numbers_are_there(
    browser: Any, built: tuple[Path, str], cells: dict[str, landscape.Cell]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((built[0] / "index.html").as_uri())
    assert "no JavaScript" in tab.locator("noscript").first.inner_text()
    for name, c in cells.items():
        shown = tab.locator(f'[data-cell="{name}"]').inner_text()
        assert shown == signed(c.minus_cold.estimate, 1), name
    tab.locator(".lamda-sigma-map summary").click()
    rows = tab.locator(".lamda-sigma-map details tbody tr")
    assert rows.count() == len(cells)
    for row, (name, c) in zip(rows.all_inner_texts(), cells.items(), strict=True):
        lamda, sigma, percent, cold, warm, epochs, reached = row.split("\t")
        assert f"{lamda}, {sigma}" == name
        assert percent == f"{c.accuracy.estimate:.2f} ({c.accuracy.low:.2f} to {c.accuracy.high:.2f})"
        for words, interval in ((cold, c.minus_cold), (warm, c.minus_warm)):
            assert words == (
                f"{signed(interval.estimate)} ({signed(interval.low)} to {signed(interval.high)})"
            )
        assert epochs.startswith(f"{c.epochs.estimate:.0f} (")
        assert reached == f"{100 * c.reached:.1f}"
    context.close()


# The page as it is used ------------------------------------------------------------------


@pytest.fixture
def page(request: pytest.FixtureRequest, browser: Any, built: tuple[Path, str]) -> Iterator[Any]:
    """The map in a tab that must not fail, nor ask anybody for anything."""
    context = browser.new_context(**getattr(request, "param", {"viewport": {"width": 1000, "height": 900}}))
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    tab.on("request", lambda asked: None if asked.url.startswith("file://") else faults.append(asked.url))
    tab.on("requestfailed", lambda asked: faults.append(f"{asked.url} failed"))
    tab.goto((built[0] / "index.html").as_uri())
    tab.wait_for_selector(".lsm-stage path")
    yield tab
    context.close()
    assert faults == []


def chosen(tab: Any) -> str:
    """The cell that is selected; there is one, and only it can be reached by Tab."""
    selected = tab.locator('[role=gridcell][aria-selected="true"]')
    assert selected.count() == 1 and tab.locator("[role=gridcell][tabindex='0']").count() == 1
    assert selected.get_attribute("tabindex") == "0"
    return str(selected.get_attribute("data-cell"))


def shown(tab: Any) -> dict[str, str]:
    """The list beside the map."""
    names = tab.locator(".lsm-detail dt").all_inner_texts()
    return dict(zip(names, tab.locator(".lsm-detail dd").all_inner_texts(), strict=True))


def check(tab: Any, name: str, c: landscape.Cell, found: dict[str, Any]) -> None:
    """Everything shown of the selected cell is what is stored."""
    assert chosen(tab) == name
    lamda, sigma = name.split(", ")
    assert f"lamda {lamda}, sigma {sigma}" in tab.locator(".lsm-title").inner_text()
    says = shown(tab)
    percent = 100 * np.mean(found["correct"][name]) / found["specification"]["test_rows"]
    assert float(says["accuracy, %"].split()[0]) == pytest.approx(percent, abs=0.00501)
    for other, interval in (("cold", c.minus_cold), ("warm", c.minus_warm)):
        found_numbers = re.findall(rf"[+{MINUS}]?\d+\.\d+", says[f"points over {other}"])
        numbers = [float(number.replace(MINUS, "-")) for number in found_numbers]
        assert numbers == pytest.approx([interval.estimate, interval.low, interval.high], abs=0.00501)
    epochs = [int(n) for n in re.findall(r"\d+", says["epochs to match cold"])]
    assert epochs == [round(v) for v in (c.epochs.estimate, c.epochs.low, c.epochs.high)]
    assert float(says["runs that match it, %"]) == pytest.approx(100 * c.reached, abs=0.0501)
    label = tab.locator(".lsm-stage > svg").get_attribute("aria-label")
    ends = [float(n) for n in re.findall(r"at (\d+\.?\d*) %", label)]
    wanted = [float(landscape.curve(found, n)[-1]) for n in (name, "cold", WARM)]
    assert ends == pytest.approx(wanted, abs=0.00501)
    assert tab.locator(".lsm-status").inner_text().startswith(f"lamda {lamda}, sigma {sigma}: ")


def test_it_begins_with_the_pair_of_the_article(
    page: Any, cells: dict[str, landscape.Cell], found: dict[str, Any]
) -> None:
    check(page, "0.5, 0.01", cells["0.5, 0.01"], found)


def test_every_cell_by_mouse(page: Any, cells: dict[str, landscape.Cell], found: dict[str, Any]) -> None:
    for name, c in cells.items():
        page.locator(f'[data-cell="{name}"]').click()
        check(page, name, c, found)


def test_drag_with_the_mouse(page: Any, cells: dict[str, landscape.Cell], found: dict[str, Any]) -> None:
    names = ("1, 0", "0.6, 0.1", "0, 0.7")
    box = {name: page.locator(f'[data-cell="{name}"]').bounding_box() for name in names}
    middle = {name: (b["x"] + b["width"] / 2, b["y"] + b["height"] / 2) for name, b in box.items()}
    page.mouse.move(*middle["1, 0"])
    page.mouse.down()
    for name in ("0.6, 0.1", "0, 0.7"):
        page.mouse.move(*middle[name], steps=8)
        check(page, name, cells[name], found)
    page.mouse.up()
    page.mouse.move(*middle["1, 0"], steps=8)
    assert chosen(page) == "0, 0.7", "no button is down any more"


def test_keyboard(page: Any, cells: dict[str, landscape.Cell], found: dict[str, Any]) -> None:
    spec = found["specification"]
    lamdas, sigmas = spec["lamdas"], spec["sigmas"]
    page.locator('[data-cell="0.5, 0.01"]').focus()
    presses = {
        "ArrowRight": (0.5, sigmas[2]), "ArrowDown": (0.4, sigmas[2]), "ArrowLeft": (0.4, sigmas[1]),
        "ArrowUp": (0.5, sigmas[1]), "Home": (0.5, sigmas[0]), "End": (0.5, sigmas[-1]),
        "PageUp": (lamdas[-1], sigmas[-1]), "PageDown": (lamdas[0], sigmas[-1]),
        "Control+Home": (lamdas[-1], sigmas[0]), "Control+End": (lamdas[0], sigmas[-1]),
    }  # fmt: skip
    for key, pair in presses.items():
        page.keyboard.press(key)
        check(page, cell(*pair), cells[cell(*pair)], found)
        assert page.evaluate("document.activeElement.dataset.cell") == cell(*pair)
    for key in ("ArrowRight", "ArrowDown"):  # at the corner
        page.keyboard.press(key)
        assert chosen(page) == cell(lamdas[0], sigmas[-1])


def test_tab_enters_once_and_leaves(page: Any) -> None:
    page.locator(".lsm-show input").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.cell") == "0.5, 0.01"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px", "the focus is to be seen"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


@pytest.mark.parametrize(
    "page", [{"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}], indirect=True
)
def test_touch(page: Any, cells: dict[str, landscape.Cell], found: dict[str, Any]) -> None:
    for name in ("0.9, 0.2", "0, 0.01"):
        page.locator(f'[data-cell="{name}"]').tap()
        check(page, name, cells[name], found)
    # A finger that moves across: raw touches, as Playwright only taps.
    box = {name: page.locator(f'[data-cell="{name}"]').bounding_box() for name in ("0.3, 0", "0.3, 0.2")}
    start, end = ((b["x"] + b["width"] / 2, b["y"] + b["height"] / 2) for b in box.values())
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        session.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]}
        )

    touch("touchStart", start)
    check(page, "0.3, 0", cells["0.3, 0"], found)
    for k in range(1, 9):
        touch("touchMove", (start[0] + (end[0] - start[0]) * k / 8, start[1]))
    check(page, "0.3, 0.2", cells["0.3, 0.2"], found)
    touch("touchEnd")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"


SIZES = [{"viewport": {"width": 1400, "height": 900}},
         {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}]  # fmt: skip


@pytest.mark.parametrize("page", SIZES, indirect=True, ids=["desk", "phone"])
def test_what_is_pressed_and_what_moves_are_in_sight(page: Any) -> None:
    """The whole map and its curves, on one screen of which the header of the page takes 60 pixels."""
    page.evaluate("document.querySelector('.lsm-show').scrollIntoView()")
    tall, top = page.viewport_size["height"] - 60, page.locator(".lsm-show").bounding_box()["y"]
    for part in (".lsm-cells", ".lsm-title", ".lsm-stage", ".lsm-detail dl"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= top - 1 and box["y"] + box["height"] - top <= tall, (part, box)


def test_two_views(page: Any, cells: dict[str, landscape.Cell]) -> None:
    page.get_by_role("radio", name="time").check()
    assert "Epochs until" in page.locator(".lsm-cells caption").inner_text()
    for name, c in cells.items():
        assert page.locator(f'[data-cell="{name}"]').inner_text() == str(round(c.epochs.estimate))
    page.get_by_role("radio", name="accuracy").check()
    for name, c in cells.items():
        assert page.locator(f'[data-cell="{name}"]').inner_text() == signed(c.minus_cold.estimate, 1)


def test_it_is_a_grid_for_screen_readers(page: Any, found: dict[str, Any]) -> None:
    spec = found["specification"]
    grid = page.get_by_role("grid")
    assert grid.get_by_role("gridcell").count() == len(spec["lamdas"]) * len(spec["sigmas"])
    assert grid.get_by_role("rowheader").count() == len(spec["lamdas"])
    assert grid.get_attribute("aria-label")


def test_the_data_are_those_of_the_store(built: tuple[Path, str], found: dict[str, Any]) -> None:
    page = (built[0] / "index.html").read_text()
    data = json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])
    assert data["initial"] == pytest.approx(float(accuracy(found, "initial").mean()), abs=0.00501)
    for name, c in data["cells"].items():
        assert c["curve"] == pytest.approx(landscape.curve(found, name).tolist(), abs=0.00501)
    assert data["cold"]["curve"] == pytest.approx(landscape.curve(found, "cold").tolist(), abs=0.00501)


def test_readable_in_the_dark(page: Any) -> None:
    """Numbers keep a contrast of 4.5:1 on the strongest color, in both themes."""
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        ground, ink = ("#ffffff", "#323232") if theme == "light" else ("#121212", "#ced6dd")
        contrast = page.evaluate(CONTRAST, [ground, ink])
        assert contrast >= 4.5, (theme, contrast)


# The least contrast of `ink` with any cell's color laid over `ground`.
CONTRAST = """([ground, ink]) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = colors => {
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const text = light(pixel([ink]));
  return Math.min(...[...document.querySelectorAll(".lsm-cells td")].map(cell => {
    const under = light(pixel([ground, getComputedStyle(cell).backgroundColor]));
    return (Math.max(text, under) + 0.05) / (Math.min(text, under) + 0.05);
  }));
}"""
