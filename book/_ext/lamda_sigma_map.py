"""The directive ``{lamda-sigma-map}``: the map of lamda and sigma, to be explored.

::

    ```{lamda-sigma-map} lamda_sigma
    ```

The argument is the name of a stored map in ``data/results/``. The page gets the map as a
table of its numbers, which reads without JavaScript, and a table of everything that is known
about each pair. The script makes pairs selectable and draws their learning curves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from wsp.lab import employees
from wsp.lab.results import stored
from wsp.lab.statistics import Interval
from wsp.studies import landscape
from wsp.studies.grid import WARM, accuracy, cell
from wsp.studies.landscape import Cell

START = cell(0.5, 0.01)  # the article's, where the map has it
WITHOUT_SCRIPTS = (
    "Your browser runs no JavaScript here, so there are no learning curves to choose. The map "
    "and the table below it hold the same numbers."
)
COLUMNS = (
    "lamda",
    "sigma",
    "accuracy, %",
    "minus cold, points",
    "minus warm, points",
    "epochs to match cold",
    "runs that match it, %",
)


def signed(number: float, digits: int = 2) -> str:
    """With its sign, and a real minus; what rounds to zero has none.

    Examples
    --------
    >>> signed(-0.284), signed(0.001), signed(1.5, 1)
    ('−0.28', '0.00', '+1.5')
    """
    rounded = round(number, digits) or 0.0
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def three(interval: Interval) -> list[float]:
    return [round(value, 2) for value in (interval.estimate, interval.low, interval.high)]


def captions(found: Mapping[str, Any]) -> dict[str, str]:
    """What each view of the map shows, and under which protocol."""
    last, tables = found["specification"]["epochs"][-1], len(found["tables"])
    return {
        "end": f"Points of test accuracy above a cold start, after {last} epochs for everybody (protocol: "
        f"equal). Mean over {tables} tables",
        "time": f"Epochs until the test accuracy that a cold start has after {last} (protocol: equal). Mean "
        f"over {tables} tables",
    }


def content(found: Mapping[str, Any], cells: Iterable[Cell]) -> dict[str, Any]:
    """Everything the script has to know."""
    spec = found["specification"]

    def curve(name: str) -> list[float]:
        return [round(float(value), 2) for value in landscape.curve(found, name)]

    return {
        "lamdas": spec["lamdas"],
        "sigmas": spec["sigmas"],
        "epochs": spec["epochs"],
        "captions": captions(found),
        "start": START,
        "initial": round(float(accuracy(found, "initial").mean()), 2),
        "cold": {"curve": curve("cold"), "epochs": round(landscape.epochs(found, "cold").estimate)},
        "warm": {"curve": curve(WARM)},
        "cells": {
            c.name: {
                "accuracy": three(c.accuracy),
                "minusCold": three(c.minus_cold),
                "minusWarm": three(c.minus_warm),
                "epochs": [round(value) for value in (c.epochs.estimate, c.epochs.low, c.epochs.high)],
                "reached": round(100 * c.reached, 1),
                "curve": curve(c.name),
            }
            for c in cells
        },
    }


def map_rows(cells: Sequence[Cell]) -> Iterator[str]:
    """The map: lamda down, from what keeps all to what keeps nothing; sigma across."""
    rows = [list(row) for _, row in groupby(cells, key=lambda c: c.lamda)]
    heads = "".join(f'<th scope="col">{c.sigma:g}</th>' for c in rows[0])
    yield f'<thead><tr><th></th><th scope="colgroup" colspan="{len(rows[0])}">sigma</th></tr>'
    yield f'<tr><th scope="col">lamda</th>{heads}</tr></thead><tbody>'
    for row in reversed(rows):
        fields = (f'<td data-cell="{c.name}">{signed(c.minus_cold.estimate, 1)}</td>' for c in row)
        yield f'<tr><th scope="row">{row[0].lamda:g}</th>{"".join(fields)}</tr>'
    yield "</tbody>"


def table_rows(cells: Sequence[Cell]) -> Iterator[str]:
    """Every pair in a line of its own."""

    def spread(interval: Interval, write: Callable[[float], str]) -> str:
        return f"{write(interval.estimate)} ({write(interval.low)} to {write(interval.high)})"

    heads = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    yield f"<thead><tr>{heads}</tr></thead><tbody>"
    for c in cells:
        fields = (
            f"{c.lamda:g}",
            f"{c.sigma:g}",
            spread(c.accuracy, "{:.2f}".format),
            spread(c.minus_cold, signed),
            spread(c.minus_warm, signed),
            spread(c.epochs, "{:.0f}".format),
            f"{100 * c.reached:.1f}",
        )
        yield "<tr>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>"
    yield "</tbody>"


def as_html(found: Mapping[str, Any]) -> str:
    """The map, its data, and the table."""
    cells = landscape.cells_of(found)
    inlined = json.dumps(content(found, cells), separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<div class="lamda-sigma-map">'
        f'<script type="application/json">{inlined}</script>'
        '<div class="lsm-parts"><div class="lsm-map"><table class="lsm-cells">'
        f"<caption>{captions(found)['end']}</caption>"
        f"{''.join(map_rows(cells))}</table></div></div>"
        f"<noscript><p>{WITHOUT_SCRIPTS}</p></noscript>"
        # It scrolls, so the keyboard has to reach it.
        "<details><summary>All pairs as a table</summary>"
        '<div tabindex="0" role="region" aria-label="All pairs"><table>'
        "<caption>In brackets: 95 % intervals over tables. For the differences they hold for all pairs "
        "at once.</caption>"
        f"{''.join(table_rows(cells))}</table></div></details></div>"
    )


class LamdaSigmaMap(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        try:
            found = stored(name)
        except (FileNotFoundError, ValueError) as error:
            raise self.error(f"lamda-sigma-map: {error}") from None
        for path in (employees.find(f"results/{name}.json"), __file__, landscape.__file__):
            self.env.note_dependency(str(path))
        return [nodes.raw("", as_html(found), format="html", lamda_sigma_map=True)]


def load_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load script and style on the pages that need them, and on no other."""
    if doctree and any(node.get("lamda_sigma_map") for node in doctree.findall(nodes.raw)):
        app.add_css_file("lamda-sigma-map.css")
        app.add_js_file("lamda-sigma-map.js", loading_method="defer")


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("lamda-sigma-map", LamdaSigmaMap)
    app.connect("html-page-context", load_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
