"""The built pages in a real browser: at two widths, in both themes, from file://."""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Site

WIDTHS = (1400, 390)
THEMES = ("light", "dark")
OWN = ("file://", "data:", "blob:")  # what a page may ask for
LOOKS = [(width, theme) for width in WIDTHS for theme in THEMES]

# How far anything reaches beyond the right edge of the window, unless it scrolls by itself.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def book_pages(site: Site) -> list[Path]:
    found = [*sorted(site.html.glob("book/*.html")), site.html / "genindex.html", site.html / "search.html"]
    assert len(found) > 5, f"no site in {site.html}: {site.log[-500:]}"
    return found


def look(browser: Any, paths: list[Path], width: int, theme: str) -> list[str]:
    """Open pages one after the other and report what a reader must not meet."""
    faults: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()

    def blame(fault: str) -> None:
        faults.append(f"{Path(page.url).name} at {width}, {theme}: {fault}")

    page.on("pageerror", lambda error: blame(f"JavaScript error: {error}"))
    page.on("console", lambda message: blame(message.text) if message.type == "error" else None)
    # The browser fetches the icon when it likes; leaving a page then aborts it. A file that is
    # missing fails in another way (test_looking_can_fail).
    page.on(
        "requestfailed",
        lambda request: request.failure == "net::ERR_ABORTED" or blame(f"not loaded: {request.url}"),
    )
    page.on(
        "request",
        lambda request: None if request.url.startswith(OWN) else blame(f"asks another host: {request.url}"),
    )
    for path in paths:
        page.goto(path.as_uri(), wait_until="load")
        if not formulas_are_set(page):
            blame("formulas are not set")
        wanted = page.evaluate("document.documentElement.dataset.theme")
        if wanted != theme:
            blame(f"the theme is {wanted}, the reader asked for {theme}")
        beyond = page.evaluate(OVERFLOW)
        if beyond > 0:
            blame(f"{beyond} pixels wider than the window")
    context.close()
    return faults


def formulas_are_set(page: Any) -> bool:
    """Wait for MathJax on a page that has formulas."""
    if page.locator("article .math").count():
        try:
            page.wait_for_selector("article mjx-container", state="attached", timeout=5_000)
        except Exception:  # playwright's own TimeoutError
            return False
    return True


@pytest.mark.parametrize("width, theme", LOOKS)
def test_every_page(width: int, theme: str, site: Site, browser: Any) -> None:
    assert look(browser, book_pages(site), width, theme) == []


@pytest.mark.parametrize(
    "spoiled, complaint",
    [
        ('<script src="https://example.org/x.js"></script>', "another host"),
        ("<script>throw new Error('no')</script>", "JavaScript error"),
        ('<img src="missing.png" alt="nothing">', "not loaded"),
        ('<div style="width: 5000px">wide</div>', "wider than the window"),
        ('<article><span class="math">x</span></article>', "formulas are not set"),
        ("<script>document.documentElement.dataset.theme = 'dark'</script>", "asked for light"),
    ],
)
def test_looking_can_fail(spoiled: str, complaint: str, browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    good = '<html data-theme="light"><body>Fine.</body></html>'
    page.write_text(good)
    assert look(browser, [page], 390, "light") == []
    page.write_text(good.replace("Fine.", spoiled))
    assert any(complaint in fault for fault in look(browser, [page], 390, "light"))


@pytest.fixture
def reader(browser: Any) -> Iterator[Any]:
    """Somebody at a laptop."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    yield context.new_page()
    context.close()


def chapter(site: Site) -> Path:
    return next(path for path in book_pages(site) if re.match(r"\d\d_", path.name))


@pytest.mark.parametrize("width", WIDTHS)
def test_sidebar_opens_and_closes(width: int, site: Site, browser: Any) -> None:
    """The button that theme 1.3.0 broke."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(chapter(site).as_uri())
    contents = page.locator(".bd-links a").first
    shown = contents.is_visible()
    assert shown == (width > 1000)
    page.locator("button.primary-toggle:visible").click()
    contents.wait_for(state="hidden" if shown else "visible", timeout=3000)
    context.close()


HOVERED = {
    "term": "article a.reference:has(.std-term)",
    "citation": "article a.reference[href*='references.html#id']",
    "figure": "article a.reference[href*='#fig-']",
}


@pytest.mark.parametrize("kind", HOVERED)
def test_hovering_explains(kind: str, site: Site, reader: Any) -> None:
    """A term shows its entry, a citation its reference, a figure's number the figure."""
    for path in book_pages(site):
        if path.stem in ("glossary", "references"):
            continue
        reader.goto(path.as_uri())
        links = reader.locator(HOVERED[kind])
        if links.count():
            links.first.hover()
            shown = reader.locator(".tippy-box").first
            shown.wait_for(timeout=5000)
            assert len(shown.inner_text()) > 40
            assert kind != "figure" or shown.locator("img").count() == 1
            return
    pytest.fail(f"no page links to a {kind}")


@pytest.fixture(scope="module")
def address(site: Site) -> Iterator[str]:
    """The site on a local server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site.html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


FOUND = "#search-results ul.search li"


def test_search_finds_the_trick(address: str, reader: Any) -> None:
    reader.goto(f"{address}/search.html?q=shrink")
    reader.wait_for_selector(f"{FOUND} p.context", timeout=10_000)  # an excerpt of a page
    assert reader.locator(FOUND).count() >= 5


@pytest.mark.parametrize("place", ["site", "zip"])
def test_search_works_from_a_folder(place: str, site: Site, unpacked: Path, browser: Any) -> None:
    """Without a server a page may not read the others, so there are no excerpts, and no error."""
    search = (site.html if place == "site" else unpacked) / "search.html"
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.goto(search.as_uri() + "?q=shrink")
    page.wait_for_selector(f"{FOUND} a", timeout=10_000)
    page.wait_for_function("document.querySelector('#search-results').innerText.includes('finished')")
    assert page.locator(FOUND).count() >= 5
    page.close()
    assert faults == []


PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def first_paint(browser: Any, url: str) -> float:
    """Milliseconds until something of a page is seen, with an empty cache; the best of three."""
    times = []
    for _ in range(3):
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        page = context.new_page()
        page.goto(url)
        page.wait_for_function(PAINTED, timeout=60_000)
        times.append(page.evaluate(PAINTED))
        context.close()
        if times[-1] < 1000:
            break
    return min(times)


def test_pages_paint_within_a_second(address: str, site: Site, browser: Any) -> None:
    (site.html / "nearly_empty.html").write_text("<!DOCTYPE html><p>A page.")
    try:
        least = min(first_paint(browser, f"{address}/nearly_empty.html") for _ in range(3))
    finally:
        (site.html / "nearly_empty.html").unlink()
    if least > 250:
        pytest.skip(f"this machine is busy: a page with one word takes {least:.0f} ms")
    addresses = {path.name: path.relative_to(site.html).as_posix() for path in book_pages(site)}
    times = {name: first_paint(browser, f"{address}/{path}") for name, path in addresses.items()}
    assert {name: time for name, time in times.items() if time >= 1000} == {}


@pytest.fixture(scope="module")
def unpacked(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as somebody takes it along."""
    folder = tmp_path_factory.mktemp("along")
    with zipfile.ZipFile(site.html / "warm-starts.zip") as archive:
        archive.extractall(folder)
    return folder / "warm-starts"


def test_the_zip_is_the_site(site: Site, unpacked: Path) -> None:
    def pages(folder: Path) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*.html")}

    assert pages(unpacked) == pages(site.html)
    link = 'href="../warm-starts.zip"'
    assert (site.html / "book" / "index.html").read_text().count(link) == 1
    assert not any("warm-starts.zip" in path.read_text() for path in unpacked.rglob("*.html"))


def test_the_zip_reads_from_a_folder(unpacked: Path, browser: Any) -> None:
    pages = [unpacked / "index.html", *sorted(unpacked.glob("book/*.html"))]
    assert look(browser, pages[1:], 390, "light") == []
    page = browser.new_page()
    page.goto(pages[0].as_uri())
    page.wait_for_url("**/book/index.html")
    page.close()


def test_reads_without_javascript(site: Site, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})
    page = context.new_page()
    page.goto(chapter(site).as_uri())
    assert page.locator("article h1").is_visible()
    assert len(page.locator("article").inner_text()) > 500
    context.close()


def barriers(page: Any) -> list[str]:
    """Serious and critical findings of axe-core, by the rules of WCAG 2.2 AA."""
    from axe_playwright_python.base import AXE_SCRIPT

    page.evaluate(AXE_SCRIPT)
    options = {
        "resultTypes": ["violations"],
        "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    }
    found = page.evaluate(f"axe.run({json.dumps(options)})")["violations"]
    return [
        f"{finding['id']}: {node['html'][:160]}: {node['failureSummary']}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]


def unfold(page: Any) -> None:
    """Open what is folded: solutions, hidden code, the playground's tables."""
    page.evaluate("""() => {
      for (const details of document.querySelectorAll("details")) details.open = true;
      for (const button of document.querySelectorAll(".toggle-hidden .toggle-button")) button.click();
    }""")
    assert page.locator(".toggle-hidden").count() == 0
    players = "[...document.querySelectorAll('.playground')]"
    page.wait_for_function(f"{players}.every(element => element.playground.task === 'idle')", timeout=300_000)
    page.wait_for_timeout(500)  # the theme measures anew 300 ms later what the keyboard must reach


@pytest.mark.parametrize("width, theme", [(1400, "light"), (1400, "dark"), (390, "light")])
def test_accessible(width: int, theme: str, site: Site, browser: Any) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    page = context.new_page()
    found = []
    for path in book_pages(site):
        page.goto(path.as_uri(), wait_until="load")
        assert formulas_are_set(page)
        unfold(page)
        found += [f"{path.name}: {barrier}" for barrier in barriers(page)]
    context.close()
    assert found == []


def test_barriers_can_be_found(reader: Any) -> None:
    reader.set_content(
        '<html lang="en"><title>T</title><main><p style="color: #bbb">Pale</p>'
        '<img src="data:,"><button></button></main></html>'
    )
    assert {found.split(":")[0] for found in barriers(reader)} == {
        "color-contrast",
        "image-alt",
        "button-name",
    }


@pytest.mark.parametrize("theme", THEMES)
def test_the_keyboard_reaches_everything(theme: str, site: Site, browser: Any) -> None:
    """Tab goes to each link and control of a page in turn, and each shows that it has the focus."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=theme)
    page = context.new_page()
    for name in ("05_shrink_perturb", "index"):
        page.goto((site.html / "book" / f"{name}.html").as_uri(), wait_until="load")
        unfold(page)
        wanted = page.evaluate(f"[...document.querySelectorAll({WANTED!r})].filter({VISIBLE}).length")
        page.evaluate("window.reached = new Set(); document.activeElement.blur(); scrollTo(0, 0)")
        assert wanted > 20
        faint = set()
        for _ in range(wanted + 150):  # the page has controls outside of the article
            page.keyboard.press("Tab")
            seen = page.evaluate(FOCUSED)
            if seen is None:
                break
            if not seen["shown"]:
                faint.add(seen["html"])
        missed = page.evaluate(
            f"[...document.querySelectorAll({WANTED!r})].filter({VISIBLE}).filter(e => !reached.has(e))"
            ".map(e => e.outerHTML.slice(0, 160))"
        )
        assert missed == []
        assert faint == set()
    context.close()


# Links, buttons, inputs of the article. The anchors of headings show for the mouse alone, and
# of a group of radio buttons the keyboard reaches one.
WANTED = (
    "article a[href]:not(.headerlink), article button, article summary, article select, "
    "article input:not([type=radio]), article input[type=radio]:checked"
)
VISIBLE = "e => !e.disabled && e.tabIndex >= 0 && e.getClientRects().length"
FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  reached.add(e);
  const around = e.closest(".pg-starts label") ?? e, style = getComputedStyle(around);
  const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2
    || style.boxShadow !== "none";
  return { shown, html: e.outerHTML.slice(0, 160) };
}"""


def test_the_finding_is_on_the_first_screen(site: Site, browser: Any) -> None:
    for width, height in ((1400, 900), (390, 844)):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto((site.html / "book" / "index.html").as_uri(), wait_until="load")
        place = page.locator("article .cell_output img").first.bounding_box()
        assert place["y"] + place["height"] <= height
        page.close()
