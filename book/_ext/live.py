"""What the interactive figures share; each of them is a directive in a file of its own.

A figure brings its data as JSON, a still and a table of its numbers. The still shows where no
script runs, and on paper; ``live.js`` and a script of the figure's own draw the rest. What stands
in the directive is its caption.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import matplotlib.pyplot as plt
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from inline_stills import for_a_page
from playground import squeeze
from wsp.lab import employees
from wsp.lab.figures import stills
from wsp.lab.report import typeset
from wsp.lab.results import stored
from wsp.lab.statistics import Interval

SHARED = "live"  # the script and the style sheet of all of them


def three(interval: Interval, digits: int = 2) -> list[float]:
    """An interval for a script.

    Examples
    --------
    >>> three(Interval(-0.004, -1.25, 0.126))
    [0.0, -1.25, 0.13]
    """
    bounds = (interval.estimate, interval.low, interval.high)
    return [round(float(value), digits) + 0.0 for value in bounds]


def inlined(content: Mapping[str, Any]) -> str:
    """Data as a block of a page."""
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json">{data}</script>'


def drawn(figure: Figure, alt: str) -> str:
    """A figure as a still for the page; closes it."""
    still, _ = stills.draw(figure, alt)
    plt.close(figure)
    return for_a_page(still)


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Some numbers of a figure. The first of a row is its head.

    Examples
    --------
    >>> "<th scope=\\"row\\">5</th><td>−1</td>" in table("Points", ["epoch", "lead"], [[5, "-1"]])
    True
    """

    def written(value: Any) -> str:
        return escape(typeset(str(value)))

    heads = "".join(f'<th scope="col">{written(name)}</th>' for name in columns)
    lines = [
        f'<tr><th scope="row">{written(first)}</th>'
        + "".join(f"<td>{written(value)}</td>" for value in others)
        + "</tr>"
        for first, *others in rows
    ]
    return (
        f"<table><caption>{written(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


class Live(SphinxDirective):
    """A figure to be played with. A subclass says what its data are, and draws its still."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"name": directives.unchanged}
    kind: ClassVar[str]  #: names its script, and its class in the page
    uses: ClassVar[Sequence[ModuleType]] = ()  #: code that its data come from

    def content_of(self) -> dict[str, Any]:
        """What the script has to know; with the figure's ``title``, its finding."""
        raise NotImplementedError

    def still(self, content: Mapping[str, Any]) -> str:
        """The finished figure, where no script runs."""
        raise NotImplementedError

    def numbers(self, content: Mapping[str, Any]) -> str:
        """The same as one or more tables."""
        raise NotImplementedError

    def result(self, name: str) -> Mapping[str, Any]:
        """A stored result; the page is built again when it changes."""
        try:
            found: Mapping[str, Any] = stored(name)
        except (FileNotFoundError, ValueError) as error:
            raise self.error(f"{self.name}: {error}") from None
        self.env.note_dependency(str(employees.find(f"results/{name}.json")))
        return found

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(__file__)
        self.env.note_dependency(inspect.getfile(type(self)))
        for module in self.uses:
            self.env.note_dependency(inspect.getfile(module))
        content = self.content_of()
        name = nodes.make_id(self.options.get("name", f"{self.kind}-{self.env.new_serialno(self.kind)}"))
        title = escape(typeset(content["title"]))
        caption = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, caption)
        before = (
            f'<figure class="live live-{self.kind}" id="{name}" data-live="{self.kind}">'
            f'{inlined(content)}<p class="live-title" id="{name}-title">{title}</p>'
            f'<div class="live-stage" role="group" aria-labelledby="{name}-title"></div>'
            f"{self.still(content)}<figcaption>"
        )
        after = (
            # It scrolls, so the keyboard has to reach it.
            '</figcaption><details class="live-table"><summary>The numbers as a table</summary>'
            f'<div tabindex="0" role="region" aria-label="Numbers">{self.numbers(content)}</div>'
            "</details></figure>"
        )
        return [
            nodes.raw("", before, format="html", live=self.kind),
            *caption.children,
            nodes.raw("", after, format="html"),
        ]


def load_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load scripts and style on the pages that need them, and on no other."""
    raws = doctree.findall(nodes.raw) if doctree else ()
    kinds = dict.fromkeys(node["live"] for node in raws if node.get("live"))
    if kinds:
        app.add_css_file(f"{SHARED}.css")
        for name in (SHARED, *kinds):
            app.add_js_file(f"{name}.js", loading_method="defer")


def squeeze_files(app: Sphinx, exception: Exception | None) -> None:
    """Readers load neither indentation nor comments."""
    if exception is None and app.builder.format == "html":
        kinds = (each.kind for each in Live.__subclasses__())
        for name in (f"{SHARED}.css", *(f"{kind}.js" for kind in (SHARED, *kinds))):
            path = Path(app.outdir, "_static", name)
            if path.exists():
                path.write_text(squeeze(path.read_text()))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("html-page-context", load_scripts)
    app.connect("build-finished", squeeze_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
