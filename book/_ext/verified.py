"""The stored results, and when a slice of each last came out again: ``{stored-results}``.

The table is made while the book is built, from ``data/verified.json`` and the code of today. It is
no output of a notebook: code that changed must not make a stored output differ.
"""

from __future__ import annotations

from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from wsp.lab.employees import find
from wsp.studies.catalog import RESULTS, Result, noted, state

HEAD = ("result", "chapter", "minutes", "a slice of it")


def row(result: Result) -> tuple[str, ...]:
    """What the table says about one result."""
    there = result.path.is_file()
    minutes = f"{result.load()['provenance']['seconds'] / 60:.1f}" if there else ""
    return result.name.replace("_", " "), str(result.study.chapter), minutes, state(result, noted())


def as_html(rows: list[tuple[str, ...]]) -> str:
    """The rows as a table that scrolls."""
    head = "".join(f'<th scope="col">{name}</th>' for name in HEAD)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>\n" for cells in rows
    )
    table = f'<table class="table"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>'
    return f'<div class="pst-scrollable-table-container" tabindex="0">{table}</div>'


class StoredResults(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        for result in RESULTS.values():
            if result.path.is_file():
                self.env.note_dependency(str(result.path))
        self.env.note_dependency(str(find("results").parent / "verified.json"))
        self.env.note_reread()  # the code of today is not a file of this page
        rows = [row(result) for result in RESULTS.values()]
        return [nodes.raw("", as_html(rows), format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("stored-results", StoredResults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
