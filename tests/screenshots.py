"""Pictures of pages, to be looked at: python tests/screenshots.py OUT [PAGE ...]

PAGE is a file of the built site, such as _build/html/book/index.html; without one, every
page of _build/html/book. Each is taken whole, at two widths and in both themes. With
--fold, only what is seen before scrolling.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(arguments: list[str]) -> None:
    fold = "--fold" in arguments
    arguments = [argument for argument in arguments if argument != "--fold"]
    if not arguments:
        sys.exit(__doc__)
    out = Path(arguments[0])
    pages = [Path(name) for name in arguments[1:]] or sorted(Path("_build/html/book").glob("*.html"))
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-sync",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        for width in (1400, 390):
            for theme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
                )
                tab = context.new_page()
                for page in pages:
                    tab.goto(page.resolve().as_uri(), wait_until="load")
                    tab.wait_for_timeout(600)  # formulas and fonts
                    picture = out / f"{page.stem}-{width}-{theme}.png"
                    tab.screenshot(path=picture, full_page=not fold)
                    print(picture)
                context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
