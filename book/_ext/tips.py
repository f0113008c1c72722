"""What links in the text lead to, for tips.js to show.

sphinx-tippy collects it and writes one script a page that makes all tips of a page at once,
which loads the pictures in them. Here that script shrinks to the contents alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from inline_stills import for_a_tip

CONTENTS = re.compile(r"^selector_to_html = (\{.*\})$", re.M)
SELECTOR = re.compile(r'a\[href="(.*)"\]', re.S)


def contents_only(script: str) -> str:
    """``address of a link -> its tip``, from a script of sphinx-tippy."""
    found = CONTENTS.search(script)
    if not found:
        return script
    tips = {}
    for selector, html in json.loads(found[1]).items():
        address = SELECTOR.fullmatch(selector)
        if address:
            tips[address[1]] = for_a_tip(html)
    return f"window.tips = {json.dumps(tips, ensure_ascii=False, separators=(',', ':'))};\n"


def shorten(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir, "_static", "tippy").rglob("*.js"):
            path.write_text(contents_only(path.read_text()))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("build-finished", shorten, priority=600)  # sphinx-tippy writes at 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
