"""Puts the stills of wsp.lab.figures.stills into the page itself, where they follow the theme.

A cell stores a still as ``image/svg+xml``. MyST-NB would show it as an image file, which
follows no theme; ``text/html`` would reach the page as it is, but notebooks that nobody has
run yet show such output without its drawing, and then the picture beside it is not shown either.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.typing import ExtensionMetadata

from wsp.lab.figures.stills import NARROW_BEGINS

TITLE = re.compile(r"<title>.*?</title>", re.S)
STILL = re.compile(
    r'<div class="still"><button[^>]*>.*?(<svg [^>]*class="narrow.*?</svg>)\s*</button></div>', re.S
)
OPENING = re.compile(r"<svg [^>]*>")


def for_a_page(still: str) -> str:
    """The drawing for a page and the one for a phone, side by side; the style sheet shows one."""
    wide, begins, rest = still.partition(NARROW_BEGINS)
    title, opening = TITLE.search(wide), OPENING.search(wide)
    if not begins or title is None or opening is None:
        raise ValueError("this is no still of wsp.lab.figures.show: it has no title or no drawing for phones")
    narrow = rest.strip().removesuffix("</svg>").strip()
    # The size is the second drawing's own, the rest as in the first.
    size = re.sub(r' (?:width|height|viewBox)="[^"]*"', "", opening[0]).replace(
        'class="wide', 'class="narrow'
    )
    own_size, _, drawing = narrow.partition(">")
    narrow = f"{size[:-1]} {own_size}>{title[0]}{drawing}"
    drawings = f"{wide.rstrip()}\n</svg>\n{narrow}"
    return f'<div class="still"><button type="button" class="figure-alone">\n{drawings}\n</button></div>'


def for_a_tip(html: str) -> str:
    """The tip of a figure: the drawing for phones alone.

    Examples
    --------
    >>> drawings = '<svg class="wide">a</svg> <svg class="narrow">b</svg>'
    >>> for_a_tip(f'<div class="still"><button class="figure-alone">{drawings}</button></div>')
    '<div class="still"><svg class="narrow">b</svg></div>'
    """
    return STILL.sub(r'<div class="still">\1</div>', html)


class InlineStills(SphinxPostTransform):
    """Replace the image file of a still by the still; just before MyST-NB chooses among the outputs."""

    default_priority = 3
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            for output in bundle.children:
                assert isinstance(output, nodes.Element)
                images = list(output.findall(nodes.image)) if output["mime_type"] == "image/svg+xml" else []
                for image in images:
                    still = (Path(self.env.srcdir) / image["uri"]).read_text()
                    if NARROW_BEGINS in still:
                        bundle.replace_self(nodes.raw("", for_a_page(still), format="html"))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_post_transform(InlineStills)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
