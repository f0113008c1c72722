"""Numbers as a colleague says them, with the exact figure behind them.

``{told}`about two points <warm_cold|-2>``` shows "about two points"; hover, focus or a tap shows
what the page's cell glued as ``warm_cold``, with its interval. After the bar stands what the sentence
rests on, and if the cell no longer says so, the build warns:

- a number: the estimate has this sign and about this size;
- ``>0``, ``<0``: the whole interval lies on that side; ``~0``: it contains 0;
- anything else: the glued text, word for word.
"""

from __future__ import annotations

import ast
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import ReferenceRole
from sphinx.util.typing import ExtensionMetadata

logger = logging.getLogger(__name__)

NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?")
ABOUT, AT_LEAST = (
    0.25,
    0.35,
)  # a number said in words is right within a quarter of it, or about a third of a unit


def numbers_in(text: str) -> list[float]:
    """Estimate and bounds of ``"−0.56 points (−0.90 to −0.21)"``; of a plain number, itself thrice."""
    found = [float(each.replace("−", "-").replace(",", "")) for each in NUMBER.findall(text)]
    return found[:3] if "(" in text and len(found) >= 3 else found[:1] * 3


def contradiction(expected: str, glued: str) -> str | None:
    """Why what was glued does not bear what was said; None if it does.

    Examples
    --------
    >>> contradiction("-2", "−2.11 points (−2.39 to −1.84)")
    >>> contradiction("2", "−2.11 points (−2.39 to −1.84)")
    'about 2 was said, but it is −2.11 points (−2.39 to −1.84)'
    >>> contradiction("~0", "0.10 points (−0.20 to 0.40)"), contradiction("6 of 6", "6 of 6")
    (None, None)
    """
    numbers = numbers_in(glued)
    if expected in (">0", "<0", "~0"):
        if not numbers:
            return f"an interval was expected, but it is {glued}"
        _, low, high = numbers
        holds = {">0": low > 0, "<0": high < 0, "~0": low <= 0 <= high}[expected]
        return None if holds else f"{expected} was said, but it is {glued}"
    try:
        said = float(expected.replace(",", ""))
    except ValueError:
        return None if expected == glued else f"{expected!r} was said, but it is {glued!r}"
    if not numbers:
        return f"a number was expected, but it is {glued}"
    near = abs(numbers[0] - said) <= max(ABOUT * abs(said), AT_LEAST)
    return None if near and numbers[0] * said >= 0 else f"about {expected} was said, but it is {glued}"


@lru_cache(maxsize=4)
def _glued(path: str, changed: float) -> dict[str, str]:
    if not path.endswith(".ipynb"):
        return {}
    found = {}
    for cell in json.loads(Path(path).read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                [raw] = [
                    value for kind, value in output["data"].items() if kind.endswith("record/text/plain")
                ] or [""]
                text = "".join(raw)
                try:
                    found[name] = str(ast.literal_eval(text))
                except (ValueError, SyntaxError):
                    found[name] = text
    return found


def glued(path: Path) -> dict[str, str]:
    """What the cells of a notebook glued: name -> text. Read anew when the file changes."""
    return _glued(str(path), path.stat().st_mtime)


class told(nodes.inline):
    """Words with the exact figure behind them."""


class ToldRole(ReferenceRole):
    """``words <name|what they rest on>``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        name, bar, expected = self.target.partition("|")
        values = glued(Path(self.env.doc2path(self.env.docname)))
        if not self.has_explicit_title or not bar:
            logger.warning(
                "told: write {told}`words <name|what they rest on>`, not %r",
                self.text,
                location=self.get_location(),
            )
        elif name not in values:
            logger.warning("told: no cell of this page glued %r", name, location=self.get_location())
        elif why := contradiction(expected, values[name]):
            logger.warning("told: %r: %s", self.title, why, location=self.get_location())
        node = told(self.rawtext, self.title, exact=values.get(name, ""))
        self.set_source_info(node)
        return [node], []


def visit_html(self: Any, node: told) -> None:
    exact = self.attval(node["exact"])
    words = self.attval(node.astext())
    self.body.append(
        f'<span class="told" tabindex="0" role="note" aria-label="{words}: {exact}" data-exact="{exact}">'
    )


def depart_html(self: Any, node: told) -> None:
    self.body.append("</span>")


def visit_other(self: Any, node: told) -> None:
    """Other builders show the words alone."""


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_role("told", ToldRole())
    app.add_node(
        told,
        html=(visit_html, depart_html),
        text=(visit_other, visit_other),
        latex=(visit_other, visit_other),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
