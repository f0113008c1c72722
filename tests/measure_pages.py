"""What pages weigh and how soon they show: python tests/measure_pages.py [SITE] [PAGE ...]

SITE is a built site (default: _build/html); PAGE is the name of a page of its book, such as
05_shrink_perturb; without one, every page. A line a page, in kilobytes (1000 bytes,
uncompressed) and seconds:

first    what a browser must have before it paints: style sheets, scripts that hold the parser
all      the page and everything it loads, without pictures; a still in the page is one
paint    first contentful paint, and the same at 1.6 Mbit/s with a CPU four times slower
nodes    elements of the page
shift    cumulative layout shift
"""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

STILL = re.compile(r'<div class="still">.*?</div>', re.S)


def files_of(page: Path) -> tuple[list[Path], list[Path]]:
    """The files that hold up the first paint of a page, and those that it loads besides."""
    soup = BeautifulSoup(page.read_text(), "html.parser")
    head: list[Path] = []
    later: list[Path] = []

    def local(address: str) -> Path:
        return (page.parent / address.partition("?")[0]).resolve()

    for link in soup.find_all("link", rel="stylesheet", href=True):
        held = link.get("media") in (None, "all", "screen")
        (head if held else later).append(local(str(link["href"])))
    for script in soup.find_all("script", src=True):
        waits = script.has_attr("defer") or script.has_attr("async") or script.find_parent("head") is None
        (later if waits else head).append(local(str(script["src"])))
    return list(dict.fromkeys(head)), list(dict.fromkeys(later))


def weigh(page: Path) -> tuple[int, int]:
    """Bytes before the first paint, and all bytes of page, styles and scripts."""
    head, later = files_of(page)
    first = sum(path.stat().st_size for path in head)
    besides = sum(path.stat().st_size for path in later) + page.stat().st_size
    return first, first + besides - stills_in(page)


def stills_in(page: Path) -> int:
    """Bytes of the drawings that stand in a page."""
    return sum(len(still.encode()) for still in STILL.findall(page.read_text(encoding="utf-8")))


MEASURE = """() => new Promise(resolve => {
  let shift = 0;
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => {
    const loaded = performance.getEntriesByType("resource");
    resolve({
      paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime / 1000,
      bytes: loaded.filter(e => !/\\.(png|svg|jpe?g|gif|webp|ico)(\\?|$)/.test(e.name)).reduce(
        (sum, e) => sum + e.decodedBodySize, performance.getEntriesByType("navigation")[0].decodedBodySize),
      nodes: document.getElementsByTagName("*").length,
      shift,
    });
  }, 500);
})"""


def look(browser: Any, url: str, slow: bool) -> dict[str, float]:
    """One visit with an empty cache."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    if slow:
        session = context.new_cdp_session(page)
        bytes_a_second = 1.6e6 / 8
        session.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": 150,
                "downloadThroughput": bytes_a_second,
                "uploadThroughput": bytes_a_second,
            },
        )
        session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(url, wait_until="load", timeout=120_000)
    seen: dict[str, float] = page.evaluate(MEASURE)
    context.close()
    return seen


def main(arguments: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    site = Path(arguments[0] if arguments else "_build/html").resolve()
    book = site / "book"
    pages = [book / f"{name}.html" for name in arguments[1:]] or sorted(book.glob("*.html"))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    print(f"{'page':<24}{'first':>8}{'all':>8}{'paint':>8}{'slow':>8}{'nodes':>8}{'shift':>8}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-gpu", "--disable-quic"])
        for page in pages:
            url = f"http://127.0.0.1:{server.server_address[1]}/{page.relative_to(site).as_posix()}"
            fast, slow = look(browser, url, slow=False), look(browser, url, slow=True)
            print(
                f"{page.stem:<24}{weigh(page)[0] / 1000:8.0f}{fast['bytes'] / 1000:8.0f}{fast['paint']:8.2f}"
                f"{slow['paint']:8.2f}{fast['nodes']:8.0f}{slow['shift']:8.3f}",
                flush=True,
            )
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
