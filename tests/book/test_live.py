"""The interactive figures: their data, and how they are driven by mouse, touch and keyboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import explained
import goes_wrong
import guess
import softer_faster
import stop_line
import two_ropes
from helpers import ROOT
from wsp.lab import employees
from wsp.lab.inside import Lanes, pulls, shrunk
from wsp.lab.restarts import CASES, HALF
from wsp.lab.results import stored
from wsp.lab.statistics import Interval
from wsp.studies import head_start, sweep
from wsp.studies.field import standings
from wsp.studies.inside import LAMDAS

STATIC = ROOT / "book" / "_static"
EXTENSIONS = ("goes_wrong", "softer_faster", "two_ropes", "stop_line", "rivals_map", "guess", "told")
KINDS = ("goes-wrong", "softer-faster", "two-ropes", "stop-line", "rivals-map")
CONF = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "book" / "_ext")!r}]
project = "Live"
extensions = ["myst_nb", *{EXTENSIONS!r}]
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
html_theme = "basic"
html_static_path = ["_static"]
html_css_files = ["warm-starts.css", "stills.css"]
suppress_warnings = ["toc.not_included", "myst-nb.lexer"]
"""
SWEEP = "fresh_noise_0.05_rate_0.05"
PAGES = {
    "goes-wrong": "# A\n\n:::{goes-wrong}\n:name: fig-drag\nProtocol: *equal*.\n:::\n",
    "softer-faster": "# B\n\n:::{softer-faster}\nThe caption.\n:::\n",
    "two-ropes": "# C\n\n:::{two-ropes}\n:cases: digits, digits_mislabeled\nThe caption.\n:::\n",
    "stop-line": f"# D\n\n:::{{stop-line}} {SWEEP}\nThe caption.\n:::\n",
    "rivals-map": "# E\n\n:::{rivals-map}\nThe caption.\n:::\n",
    "instead": "# F\n\n```{figure} favicon.svg\n:name: fig-epochs\n:alt: A picture\n\nIts own caption.\n```\n"
    f"\n:::{{stop-line}} {SWEEP}\n:still: fig-epochs\n:::\n",
    "index": "# Without\n\nNothing to drag.\n",
    "wrong": "# Wrong\n\n:::{stop-line} lamda_sigma\n:::\n\n:::{stop-line} no_such\n:::\n\n"
    ":::{two-ropes}\n:cases: apples\n:::\n\n:::{softer-faster}\n:case: pears\n:::\n",
}
DOT = """# Guess

:::{guess} How many points lower does warm end?
:range: 0 to 20
:unit: points
:answer: gap

It is {glue:text}`gap:.1f`.
:::

:::{guess} Who is ahead?
- [ ] cold
- [x] nobody

They are *level*.
:::
"""
BAD = """# Bad

:::{guess} No choice is right?
- [ ] cold
- [ ] warm

So.
:::

:::{guess} Off the scale?
:range: 0 to 5
:answer: gap

So.
:::

:::{guess} Never glued?
:range: 0 to 5
:answer: nothing

So.
:::

:::{guess} Nothing to see?
- [x] yes
- [ ] no
:::

:::{guess} Neither?

So.
:::
"""


def notebook(text: str) -> Any:
    kind = "application/papermill.record/text/plain"
    glued = new_output(
        "display_data",
        data={kind: "7.5"},
        metadata={"scrapbook": {"name": "gap", "mime_prefix": "application/papermill.record/"}},
    )
    return new_notebook(cells=[new_markdown_cell(text), new_code_cell("1", outputs=[glued])])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small site with a figure a page, and what building it said."""
    source = tmp_path_factory.mktemp("live")
    (source / "_static").mkdir()
    styles = ("warm-starts.css", "stills.css", "live.css", "guess.css")
    for name in (*styles, "live.js", "guess.js", *(f"{kind}.js" for kind in KINDS)):
        shutil.copy(STATIC / name, source / "_static")
    shutil.copy(STATIC / "favicon.svg", source)
    (source / "conf.py").write_text(CONF)
    for name, text in PAGES.items():
        (source / f"{name}.md").write_text(text)
    for name, text in (("guess", DOT), ("bad", BAD)):
        nbformat.write(notebook(text), source / f"{name}.ipynb")
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", str(source), str(source / "html")],
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    return source / "html", build.stderr


def data_on(built: tuple[Path, str], kind: str) -> Any:
    page = (built[0] / f"{kind}.html").read_text()
    return json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])


# The pages as they are built -------------------------------------------------------------


def test_loaded_where_needed_and_small(built: tuple[Path, str]) -> None:
    for name in (*KINDS, "index", "guess"):
        page = (built[0] / f"{name}.html").read_text()
        wanted = (
            {"live", name} & {"live", *KINDS} if name in KINDS else {"guess"} if name == "guess" else set()
        )
        wanted |= {"live"} if name in KINDS else set()
        loaded = set(re.findall(r'_static/([\w-]+)\.js[?"]', page)) & {"live", "guess", *KINDS}
        assert loaded == wanted, name
        assert ("live.css" in page) == (name in KINDS) and ("guess.css" in page) == (name == "guess")
    for kind in KINDS:
        assert len((STATIC / f"{kind}.js").read_bytes()) <= 12_000
        page = (built[0] / f"{kind}.html").read_text()
        data = page.split('<script type="application/json">')[1].split("</script>")[0]
        assert len(data) <= 45_000, kind
        still = re.search(r'<div class="still">.*?</div>', page, re.S)
        assert still and len(page) - len(still[0]) <= 75_000, kind
    assert len((STATIC / "live.js").read_bytes()) <= 14_000
    assert len((built[0] / "_static" / "live.js").read_bytes()) < len((STATIC / "live.js").read_bytes())


def test_bad_options_are_refused(built: tuple[Path, str]) -> None:
    for complaint in (
        "lamda_sigma is no sweep over fresh tables",
        "no_such",
        "apples",
        "pears",
        "exactly one choice must be right",
        "the answer '7.5' is not on the scale from 0 to 5",
        "no cell of this page glued 'nothing'",
        "it says nothing of what there is to see",
        "give either choices, or both a range and an answer",
    ):
        assert complaint in built[1], complaint
    with pytest.raises(ValueError, match="expected such as '0 to 15'"):
        guess.range_of("many")
    with pytest.raises(ValueError, match="a scale goes up"):
        guess.range_of("5 to 5")


def test_without_scripts_still_and_numbers_are_there(browser: Any, built: tuple[Path, str]) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    tab = context.new_page()
    for kind in KINDS:
        tab.goto((built[0] / f"{kind}.html").as_uri())
        assert tab.locator(".live .still svg:visible").count() == 1, kind
        tab.locator(".live-table summary").click()
        assert tab.locator(".live-table tbody tr:visible").count() >= 4
        assert len(tab.locator(".live-title").inner_text()) > 20
    tab.goto((built[0] / "guess.html").as_uri())
    assert "From 0 to 20\u00a0points" in tab.locator(".guess").first.inner_text()
    assert not tab.get_by_text("It is 7.5").is_visible()
    tab.locator(".guess summary").first.click()
    assert tab.get_by_text("It is 7.5").is_visible()
    context.close()


# The data --------------------------------------------------------------------------------


def test_goes_wrong_tells_what_is_stored(built: tuple[Path, str]) -> None:
    data, found, frames = data_on(built, "goes-wrong"), stored("head_start"), stored("frames")
    spec, rows = found["specification"], found["specification"]["test_rows"]
    assert data["first"] == spec["first_epochs"] and data["readAt"] == spec["read_at"]
    counts = {key: np.array(values) for key, values in found["correct"].items()}
    for place, first in enumerate(spec["first_epochs"]):
        warm, cold = (100 * counts[key].mean(axis=(0, 1)) / rows for key in (str(first), "cold"))
        assert data["warm"][place] == pytest.approx(warm, abs=0.00501)
        assert [lead[0] for lead in data["leads"][place]] == pytest.approx(warm - cold, abs=0.00501)
        start = frames["starts"].index(str(first))
        assert data["maps"][1 + place] == frames["maps"][start]
        assert data["apart"][1 + place] == frames["apart"][start]
    assert data["cold"] == pytest.approx(100 * counts["cold"].mean(axis=(0, 1)) / rows, abs=0.00501)
    assert data["correct"][0][-1] == 31 and data["correct"][-1][-1] == 28, "the pinned counts"


def test_the_maps_are_those_of_the_networks() -> None:
    """Unpacked, a map has a job in every cell; before the retraining it is what the saved network says."""
    frames = stored("frames")
    columns, rows = frames["specification"]["grid"]
    for start in frames["maps"]:
        for packed in start:
            jobs = head_start.unpack(packed)
            assert jobs.shape == (columns * rows,) and set(jobs.tolist()) <= {0, 1, 2}
    from wsp.lab.network import load_network

    saved = load_network(employees.find("first_100.pt"))
    says = saved(head_start.grid_of(frames["specification"])).argmax(dim=1).numpy()
    at_once = head_start.unpack(frames["maps"][frames["starts"].index("1000")][0])
    assert (says != at_once).mean() < 0.001


def test_what_chapter_4_says_of_the_figure() -> None:
    """A short first training costs nothing; a long one leads no more and ends worse."""
    leads = head_start.leads(stored("head_start"))
    assert goes_wrong.longest_flat(leads, 1000) == 100
    assert leads[1000, 1000].high < -1
    assert all(leads[first, epoch].low > 0 for first in (50, 100, 1000) for epoch in (5, 10, 20, 50))
    for epoch in (5, 10, 20, 50):
        assert leads[1000, epoch].low <= leads[100, epoch].high, "it leads no more"


def test_two_results_of_other_epochs_do_not_go_together() -> None:
    found, frames = stored("head_start"), stored("frames")
    other = {**frames, "specification": frames["specification"] | {"read_at": [0, 1]}}
    with pytest.raises(ValueError, match="head_start has read_at"):
        goes_wrong.content_of(found, other)


def test_softer_faster_is_the_networks_arithmetic(built: tuple[Path, str]) -> None:
    data = data_on(built, "softer-faster")
    train, _, plain, biased = softer_faster.networks()
    image = train.inputs[0, 0]
    for lamda in (1.0, HALF, 0.2):
        with torch.no_grad():
            wanted = shrunk([plain], lamda)[0](image).softmax(dim=0)
        assert softer_faster.chances(data, lamda) == pytest.approx(wanted.tolist(), abs=2e-3)
    for place in (0, 10):
        with torch.no_grad():
            wanted = shrunk([biased], data["lamdas"][place])[0](image)
        assert data["biased"][place] == pytest.approx(wanted.tolist(), abs=1e-3)
    assert len(set(map(np.argmax, data["biased"]))) > 1, "the tick breaks the promise"
    assert data["kept"][0] == 100 and data["kept"][-1] < 50
    agreement = np.mean(stored("inside_employees")["found"]["function"]["agreement"], axis=0)
    assert data["employees"]["0.5"] == round(float(agreement[LAMDAS.index(HALF)]))


def test_ropes_are_as_thick_as_rows_pull(built: tuple[Path, str]) -> None:
    data = data_on(built, "two-ropes")
    assert [case["key"] for case in data["cases"]] == ["digits", "digits_mislabeled"]
    for case in data["cases"]:
        function = stored(f"inside_{case['key']}")["found"]["function"]
        for place, pull in enumerate(case["pulls"]):
            for half in ("old", "new"):
                mean = float(np.exp(np.log(np.array(function[half])[:, place]).mean()))
                assert pull[half] == pytest.approx(mean, abs=6e-6)
            assert pull["ratio"][1] < pull["ratio"][0] < pull["ratio"][2]
    train, _, plain, _ = softer_faster.networks()
    old, new = (float(pull) for pull in pulls(Lanes([plain]), train, CASES["digits"].old_rows))
    function = stored("inside_digits")["found"]["function"]
    assert (old, new) == pytest.approx((function["old"][0][0], function["new"][0][0]), rel=0.01)


def test_gaps_are_those_of_the_book() -> None:
    """One joint family of all restarts; the source may be another study."""
    found = stored("inside_digits_mislabeled")
    gaps = explained.of_inside(found)
    assert set(gaps.gaps) == set(explained.OF_INSIDE) and gaps.units == 30
    assert gaps.gaps["warm"].high < 0 < gaps.gaps["softer"].high
    asked: list[str] = []

    def result(name: str) -> Any:
        asked.append(name)
        return stored(name)

    assert explained.gaps_of("digits", result, lambda name: False).units == 30
    assert asked == ["inside_digits"]
    raised = explained.Gaps({"warm": Interval(-2, -3, -1), "raised": Interval(0, -1, 1)}, 30, "a cause")
    case = two_ropes.case_of("digits", stored("inside_digits"), raised)
    assert case["balanced"] == "raised" and "cause" in case["verdict"]


def test_the_stop_line_tells_what_is_stored(built: tuple[Path, str]) -> None:
    data, found = data_on(built, "stop-line"), stored(SWEEP)
    _, percent = sweep.accuracies(found)
    read = {run["key"]: dict(zip(run["epochs"], run["means"])) for run in data["runs"]}
    ends = {
        "cold": (("cold", 1000), ("cold_500", 500)),
        "shrink_perturb": (("shrink_perturb", 500), ("shrink_perturb_1000", 1000)),
        "fresh_shrunk": (("fresh_shrunk_500", 500),),
        "initial": (("initial", 1000),),
    }
    for run, arms in ends.items():
        for arm, epoch in arms:
            assert read[run][epoch] == pytest.approx(percent[arm].mean(), abs=0.00501), arm
    gaps = {(one, other): gap for one, other, *gap in data["gaps"]}
    assert set(gaps) == {(500, 500), (1000, 1000), (500, 1000)}
    wanted = (percent["shrink_perturb"] - percent["cold_500"]).mean()
    assert gaps[500, 500][0] == pytest.approx(wanted, abs=0.00501)
    assert stop_line.intervals(found)["shrink_perturb - cold"].low == pytest.approx(
        gaps[500, 1000][1], abs=0.00501
    )


def test_the_map_of_rivals_tells_what_is_stored(built: tuple[Path, str]) -> None:
    data = data_on(built, "rivals-map")
    contests = standings.scatter()
    assert [tab["words"] for tab in data["tabs"]] == list(contests)
    for tab, listed in zip(data["tabs"], contests.values()):
        assert [point["key"] for point in tab["points"]] == [point.key for point in listed]
        for shown, point in zip(tab["points"], listed):
            assert shown["cost"] == pytest.approx(point.cost.estimate, abs=0.0501)
            assert shown["gain"][0] == pytest.approx(point.gain.estimate, abs=0.00501)
            assert shown["stopped"] == ("stopped" in point.key)
        by_key = {point.key: point for point in listed}
        assert by_key["cold"].cost.estimate == pytest.approx(100) and by_key["warm"].gain.estimate == 0


# The figures as they are used ------------------------------------------------------------

DESK = {"viewport": {"width": 1400, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SIZES = [pytest.param(DESK, id="desk"), pytest.param(PHONE, id="phone")]
# As wide as the book's column, on its paper.
COLUMN = """body { max-width: 736px; margin: 0 auto; padding: 0 16px; }
:root { --pst-color-primary: #00608f; --pst-color-background: #fff; --pst-color-text-base: #323232; }
html[data-theme=dark] { --pst-color-primary: #7cc4ec; --pst-color-background: #121212; }
html[data-theme=dark] { --pst-color-text-base: #ced6dd; }
.sphinxsidebar { display: none; } div.body { padding: 0; max-width: none; min-width: 0; }
div.document, div.bodywrapper, div.documentwrapper { width: 100%; margin: 0 !important; }"""
Open = Callable[[str], Any]


@pytest.fixture
def visit(request: pytest.FixtureRequest, browser: Any, built: tuple[Path, str]) -> Iterator[Open]:
    """Open a page in a tab that must not fail, nor ask anybody for anything."""
    context = browser.new_context(**getattr(request, "param", DESK))
    faults: list[str] = []

    def go(name: str) -> Any:
        tab = context.new_page()
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        tab.on("request", lambda asked: None if asked.url.startswith("file://") else faults.append(asked.url))
        tab.goto((built[0] / f"{name}.html").as_uri())
        tab.evaluate("document.documentElement.dataset.theme = 'light'")
        tab.add_style_tag(content=COLUMN)
        tab.wait_for_selector(".live-stage svg text, .guess-send")
        tab.wait_for_timeout(50)
        return tab

    yield go
    context.close()
    assert faults == []


def drag(tab: Any, target: Any, way: tuple[float, float], rise: float = 0.5) -> Iterator[None]:
    """Drag across an element, by finger where there is one, else by mouse; look after every move."""
    box = target.bounding_box()
    y = box["y"] + box["height"] * rise
    xs = [box["x"] + box["width"] * (way[0] + (way[1] - way[0]) * k / 8) for k in range(9)]
    if tab.evaluate("navigator.maxTouchPoints"):
        session = tab.context.new_cdp_session(tab)
        for k, x in enumerate(xs):
            kind = "touchMove" if k else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
            if k > 1:  # browsers wait for the second move to tell a drag from a tap
                yield
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    else:
        tab.mouse.move(xs[0], y)
        tab.mouse.down()
        for x in xs[1:]:
            tab.mouse.move(x, y)
            yield
        tab.mouse.up()


def seen(tab: Any) -> str:
    """All that a figure shows, in letters."""
    pictures = "[...document.querySelectorAll('.live-stage canvas')].map(c => c.toDataURL()).join()"
    return str(tab.evaluate(f"document.querySelector('.live-stage').innerHTML + {pictures}"))


def press(tab: Any, target: Any) -> None:
    target.tap() if tab.evaluate("navigator.maxTouchPoints") else target.click()


SLIDERS = [("goes-wrong", 0), ("goes-wrong", 1), ("softer-faster", 0), ("two-ropes", 0), ("stop-line", 0)]


@pytest.mark.parametrize("visit", SIZES, indirect=True)
@pytest.mark.parametrize("kind, number", SLIDERS)
def test_it_is_drawn_while_it_is_dragged(kind: str, number: int, visit: Open) -> None:
    tab = visit(kind)
    handle = tab.locator(".live-handle").nth(number)
    handle.scroll_into_view_if_needed()
    at = handle.locator("input").evaluate("e => e.valueAsNumber")
    shown, said = [], []
    for _ in drag(tab, handle.locator("input"), (0.01 + 0.98 * at, 0.05 if at > 0.5 else 0.95)):
        shown.append(seen(tab))
        said.append(handle.locator("input").get_attribute("aria-valuetext"))
        assert handle.locator("output").inner_text() == said[-1]
    assert len(set(shown)) >= 4 and len(set(said)) >= 4
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]


@pytest.mark.parametrize("visit", SIZES, indirect=True)
@pytest.mark.parametrize("kind, number", [("goes-wrong", 0), ("goes-wrong", 1), ("stop-line", 0)])
def test_a_chart_can_be_dragged_itself(kind: str, number: int, visit: Open) -> None:
    tab = visit(kind)
    chart, handle = tab.locator(".live-chart").nth(number), tab.locator(".live-handle").nth(number)
    chart.scroll_into_view_if_needed()
    said = [handle.locator("output").inner_text() for _ in drag(tab, chart, (0.9, 0.2), 0.4)]
    assert len(set(said)) >= 4


@pytest.mark.parametrize("kind, number", SLIDERS)
def test_by_keyboard(kind: str, number: int, visit: Open) -> None:
    tab = visit(kind)
    handle = tab.locator(".live-handle input").nth(number)
    handle.focus()
    stop = f"document.querySelectorAll('.live-handle input')[{number}].valueAsNumber"
    tab.keyboard.press("Home")
    assert tab.evaluate(stop) == 0
    places, shown = [0.0], {seen(tab)}
    for key in ("ArrowRight", "ArrowUp", "PageUp"):
        tab.keyboard.press(key)
        places.append(tab.evaluate(stop))
        shown.add(seen(tab))
    assert places == sorted(set(places)) and len(shown) == 4
    tab.keyboard.press("End")
    assert tab.evaluate(stop) == 1
    for key in ("ArrowLeft", "ArrowDown", "PageDown"):
        before = tab.evaluate(stop)
        tab.keyboard.press(key)
        assert tab.evaluate(stop) < before
    tab.keyboard.press("ArrowRight")
    assert handle.evaluate("e => e === document.activeElement")


WHOLE = {
    "goes-wrong": (".gw-maps", ".live-says", ".live-two"),
    "softer-faster": (".live-two", ".live-handle", ".live-row", ".live-stage > svg"),
    "two-ropes": (".live-stage > svg >> nth=0", ".live-handle", ".live-row", ".live-stage > svg >> nth=1"),
    "stop-line": (".live-chart", ".live-handle", ".sl-list", ".live-row", ".live-says"),
    "rivals-map": (".rm-tabs", ".rm-plot", ".live-says"),
}


@pytest.mark.parametrize("visit", SIZES, indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_pressed_and_what_moves_are_in_sight(kind: str, visit: Open) -> None:
    """On one screen, of which the header of the page takes 60 pixels."""
    tab = visit(kind)
    tab.evaluate("document.querySelector('.live-stage').scrollIntoView()")
    top = tab.locator(".live-stage").bounding_box()["y"]
    for part in WHOLE[kind]:
        box = tab.locator(part).bounding_box()
        assert box["y"] + box["height"] - top <= tab.viewport_size["height"] - 60, (part, box)
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]
    size = "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(tab.locator(".live-stage text").evaluate_all(size)) >= 11


# axe-core leaves the text of drawings out. This gives each one's contrast to the page.
CONTRASTS = """() => {
  const luminance = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(value => {
      value /= 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const probe = document.createElement("i");
  probe.style.color = "var(--ground)";
  document.querySelector(".live").append(probe);
  const ground = luminance(getComputedStyle(probe).color);
  return [...document.querySelectorAll(".live-stage text:not(.tr-name)")].map(text => {
    const ink = luminance(getComputedStyle(text).fill);
    const [dark, bright] = [ink, ground].sort((a, b) => a - b);
    return [text.textContent, (bright + 0.05) / (dark + 0.05)];
  });
}"""


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_read_in_both_themes(kind: str, visit: Open) -> None:
    tab = visit(kind)
    before = seen(tab) if kind == "goes-wrong" else ""
    for theme in ("light", "dark"):
        tab.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        tab.wait_for_timeout(50)
        contrasts = tab.evaluate(CONTRASTS)
        assert len(contrasts) >= 8
        assert [(text, round(value, 2)) for text, value in contrasts if value < 4.5] == []
    assert not before or seen(tab) != before, "maps are painted anew"


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper_the_still_stands(kind: str, visit: Open) -> None:
    tab = visit(kind)
    assert not tab.locator(".live > .still").is_visible() and tab.locator(".live-stage").is_visible()
    tab.emulate_media(media="print")
    assert tab.locator(".live > .still").is_visible() and not tab.locator(".live-stage").is_visible()
    assert not tab.locator(".live-table").is_visible() and tab.locator(".live-title").is_visible()


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_in_words_what_it_shows(kind: str, visit: Open) -> None:
    tab = visit(kind)
    named = "e => (e.getAttribute('aria-label') || '').length > 12"
    drawings = tab.locator(".live-stage svg[role]")
    assert drawings.count() >= 1 and all(drawings.nth(k).evaluate(named) for k in range(drawings.count()))
    for handle in tab.locator(".live-handle input").all():
        assert handle.evaluate("e => e.labels[0].textContent.length > 5") and handle.get_attribute(
            "aria-valuetext"
        )


# Each by itself --------------------------------------------------------------------------


def test_warm_leads_early_and_trails_late(visit: Open) -> None:
    tab = visit("goes-wrong")
    first, since = tab.locator(".live-handle input").all()
    says, maps = tab.locator(".live-says"), tab.locator(".gw-map canvas")
    assert "−1.9 points" in says.inner_text()
    picture = "e => e.toDataURL()"
    cold, warm = (maps.nth(k).evaluate(picture) for k in (0, 1))
    first.focus()
    tab.keyboard.press("Home")
    assert maps.nth(0).evaluate(picture) == cold and maps.nth(1).evaluate(picture) != warm
    assert (
        "warm − cold 0.0 points" in says.inner_text().replace("\u2212", "−")
        or "−0.1 points" in says.inner_text()
    )
    tab.keyboard.press("End")
    since.focus()
    tab.keyboard.press("Home")
    assert "+34.0 points" in says.inner_text()
    assert tab.locator(".gw-cold .gw-head").inner_text() != "cold 31 of 40"


def test_the_tallest_stays_tallest_unless_there_are_biases(visit: Open) -> None:
    tab, tallest = visit("softer-faster"), []
    handle, heights = tab.locator(".live-handle input"), "all => all.map(e => +e.getAttribute('height'))"
    handle.focus()
    sure = []
    for _ in range(17):
        bars = tab.locator(".sf-bar, .sf-best").evaluate_all(heights)
        tallest.append(int(np.argmax(bars)))
        sure.append(max(bars))
        tab.keyboard.press("ArrowRight")
    assert set(tallest) == {6} and sure == sorted(sure, reverse=True)
    tab.locator(".live-tick input").check()
    assert "It now says" in tab.locator(".live-says").inner_text()


def test_padlocks_freeze_one_effect(visit: Open) -> None:
    tab = visit("softer-faster")
    handle = tab.locator(".live-handle input")
    handle.focus()
    for _ in range(10):
        tab.keyboard.press("ArrowRight")
    chosen, heads = tab.locator(".is-chosen text"), tab.locator(".live-head")
    softer, faster = tab.locator(".live-button").all()
    assert chosen.text_content() == "shrunk to one half"
    assert heads.all_inner_texts() == ["logits × 0.125", "step, for the weights: × 4.0"]
    softer.click()
    assert chosen.text_content() == "softer only" and heads.nth(1).inner_text() == "step: locked"
    faster.click()
    assert softer.get_attribute("aria-pressed") == "false" and faster.get_attribute("aria-pressed") == "true"
    assert chosen.text_content() == "faster only" and heads.nth(0).inner_text() == "logits: locked"
    handle.focus()
    tab.keyboard.press("Home")
    assert chosen.text_content() == "warm", "nothing is shrunk"


def test_ropes_and_the_button(visit: Open) -> None:
    tab = visit("two-ropes")
    widths = "all => all.map(e => +e.getAttribute('stroke-width'))"
    ropes, puck = tab.locator(".tr-rope"), tab.locator(".tr-puck")
    old, new = ropes.evaluate_all(widths)
    assert new > 10 * old
    where, middle = float(puck.get_attribute("cx")), tab.locator(".live-stage").bounding_box()["width"] / 2
    assert where > middle + 100
    button = tab.get_by_role("button", name="balance by weighting")
    button.click()
    old, new = ropes.evaluate_all(widths)
    assert old == new and float(puck.get_attribute("cx")) == pytest.approx(middle, abs=1)
    assert tab.locator(".is-chosen text").text_content().startswith("balanced")
    tab.locator(".live-handle input").focus()
    tab.keyboard.press("ArrowRight")
    assert button.get_attribute("aria-pressed") == "false", (
        "shrinking and weighting were not measured together"
    )
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    assert "1.0 times" in tab.locator(".live-says").inner_text()
    assert tab.locator(".is-chosen text").text_content() == "shrunk to one half"
    tab.locator(".live-choose input").nth(1).check()
    assert "one label in five wrong" in tab.locator(".live-note").inner_text()


def test_the_ranking_moves_with_the_stop_line(visit: Open) -> None:
    tab = visit("stop-line")
    data = json.loads(tab.locator(".live script").inner_text())

    def ranking() -> list[str]:
        lines = tab.locator(".sl-line").evaluate_all(
            "all => all.map(e => "
            "[parseFloat(e.style.transform.slice(11)), e.querySelector('.sl-words').textContent])"
        )
        return [name for _, name in sorted(lines)]

    def wanted(epoch: int, trick: int) -> list[str]:
        values = {}
        for run in data["runs"]:
            at = trick if run["key"] == "shrink_perturb" else epoch
            read = dict(zip(run["epochs"], run["means"]))
            if at in read:
                values[run["words"]] = read[at]
        return sorted(values, key=lambda name: -values[name])

    assert ranking() == wanted(500, 500)
    early, late, article = tab.locator(".live-button").all()
    article.click()
    assert ranking()[:4] == wanted(1000, 500) and ranking()[0] == "shrink and perturb"
    means = {run["key"]: dict(zip(run["epochs"], run["means"])) for run in data["runs"]}
    lead = means["shrink_perturb"][500] - means["cold"][1000]
    assert lead > 0 and f"{lead:+.1f} points" in tab.locator(".live-says").inner_text()
    late.click()
    assert ranking()[:4] == wanted(1000, 1000) and tab.locator(".is-gone").count() == 3
    tab.locator(".live-handle input").focus()
    tab.keyboard.press("Home")
    assert ranking() == wanted(1, 1)
    assert [button.get_attribute("aria-pressed") for button in (early, late, article)] == ["false"] * 3


@pytest.mark.parametrize("visit", SIZES, indirect=True)
def test_a_figure_of_the_page_is_the_still(visit: Open) -> None:
    tab = visit("instead")
    assert tab.locator("img").is_hidden()
    assert "Its own caption" in tab.locator(".live figcaption").inner_text()
    assert tab.locator(".live #fig-epochs").count() == 1, "links to the figure lead here"
    tab.emulate_media(media="print")
    assert tab.locator("img").is_visible()


def dot_of(tab: Any, point: dict[str, Any]) -> Any:
    """A method's dot, by its name."""
    labels = tab.locator(".rm-dot").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    [place] = [k for k, label in enumerate(labels) if label.startswith(f"{point['words']}:")]
    return tab.locator(".rm-dot").nth(place)


@pytest.mark.parametrize("visit", SIZES, indirect=True)
def test_tabs_and_names_of_rivals(visit: Open) -> None:
    tab = visit("rivals-map")
    data = json.loads(tab.locator(".live script").inner_text())
    says, buttons = tab.locator(".live-says"), tab.get_by_role("tab")
    phone = tab.evaluate("navigator.maxTouchPoints > 0")
    tab.locator(".live-stage").scroll_into_view_if_needed()
    assert buttons.all_inner_texts() == [each["words"] for each in data["tabs"]]
    for place, each in enumerate(data["tabs"]):
        press(tab, buttons.nth(place))
        assert buttons.nth(place).get_attribute("aria-selected") == "true"
        tab.wait_for_timeout(450)  # dots go to their places
        for point in each["points"]:
            box = dot_of(tab, point).locator(".live-dot").bounding_box()
            middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            tap = tab.touchscreen.tap if phone else tab.mouse.move
            tap(*middle)
            if not says.inner_text().startswith(point["words"]):  # it lies behind another
                tap(*middle) if phone else tab.mouse.click(*middle)
            assert says.inner_text().startswith(point["words"])
            assert tab.locator(".rm-name").text_content() == point["words"]


def test_rivals_by_keyboard(visit: Open) -> None:
    tab = visit("rivals-map")
    data = json.loads(tab.locator(".live script").inner_text())
    buttons, says = tab.get_by_role("tab"), tab.locator(".live-says")
    buttons.first.focus()
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.textContent") == data["tabs"][1]["words"]
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.classList.contains('rm-dot')"), "one dot is reached by Tab"
    tab.keyboard.press("Home")
    order = sorted(data["tabs"][1]["points"], key=lambda point: point["cost"])
    for point in order:
        assert says.inner_text().startswith(point["words"])
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"


# Guesses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("visit", SIZES, indirect=True)
def test_guess_by_dragging_then_see(visit: Open) -> None:
    tab = visit("guess")
    box = tab.locator(".guess").first
    send, answer = box.locator(".guess-send"), tab.get_by_text("It is 7.5.", exact=True)
    assert send.is_disabled() and not answer.is_visible()
    said = [box.locator("output").inner_text() for _ in drag(tab, box.locator("input"), (0.5, 0.15))]
    assert len(set(said)) >= 4, "it is written while the dot is dragged"
    press(tab, send)
    assert answer.is_visible()
    assert re.fullmatch(
        r"You said \d+(\.\d)?.points\. It is 7\.5.points\.", box.locator(".guess-says").inner_text()
    )
    mark, track = box.locator(".guess-answer").bounding_box(), box.locator("input").bounding_box()
    middle = mark["x"] + mark["width"] / 2
    assert middle == pytest.approx(track["x"] + 8 + (track["width"] - 16) * 7.5 / 20, abs=2)
    assert box.locator("input").is_disabled() and not send.is_visible()


def test_guess_by_keyboard_and_by_choice(visit: Open) -> None:
    tab = visit("guess")
    first, second = tab.locator(".guess").all()
    first.locator("input").focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert "It is 7.5" in first.locator(".guess-says").inner_text()
    assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"
    second.locator("input").first.check()
    second.locator(".guess-send").click()
    assert second.locator(".guess-says").inner_text() == "Not quite."
    assert second.locator(".is-right").inner_text() == "nobody" and second.locator(".is-wrong").count() == 1
    assert second.get_by_text("level").is_visible()


def test_whoever_does_not_guess_sees_too(visit: Open) -> None:
    tab = visit("guess")
    for box in tab.locator(".guess").all():
        box.get_by_text("Just show me").click()
        box.locator(".guess-send").wait_for(state="hidden")
        assert box.locator(".guess-says").inner_text() == ""
    assert tab.locator(".guess-answer").count() == 1 and tab.locator(".is-right").count() == 1
