"""The built pages in a real browser: at two widths, in both themes, from file://."""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
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
    page.on("requestfailed", lambda request: blame(f"not loaded: {request.url}"))
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


def test_terms_explain_themselves(site: Site, reader: Any) -> None:
    for path in book_pages(site):
        reader.goto(path.as_uri())
        terms = reader.locator("article a.reference:has(.std-term)")
        if path.name != "glossary.html" and terms.count():
            terms.first.hover()
            reader.wait_for_selector(".tippy-box", timeout=5000)
            assert len(reader.locator(".tippy-box").first.inner_text()) > 40
            return
    pytest.fail("no page uses a {term}")


def test_search_finds_the_trick(site: Site, reader: Any) -> None:
    """Searching needs a server: it reads the pages it lists."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site.html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        reader.goto(f"http://127.0.0.1:{server.server_address[1]}/search.html?q=shrink")
        reader.wait_for_selector("#search-results ul.search li a", timeout=10_000)
        assert reader.locator("#search-results ul.search li").count() >= 1
    finally:
        server.shutdown()
        server.server_close()


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


@pytest.mark.parametrize("theme", THEMES)
def test_accessible(theme: str, site: Site, browser: Any) -> None:
    context = browser.new_context(
        viewport={"width": 1400, "height": 900}, color_scheme=theme, reduced_motion="reduce"
    )
    page = context.new_page()
    found = []
    for path in book_pages(site):
        page.goto(path.as_uri(), wait_until="load")
        assert formulas_are_set(page)
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
