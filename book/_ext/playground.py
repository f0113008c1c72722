"""The directive ``{playground}``: the network of the book, trained in the reader's browser.

::

    ```{playground}
    :starts: cold warm
    :start: warm
    :controls: few
    ```

``starts`` are the arms to choose from (default: all three), ``start`` the one chosen at first
(default: the first of them). ``controls`` is ``all`` or ``few``: without sliders and the run
of many seeds. A page may hold several. The tables and every constant are read here, from
``data/`` and ``wsp``, so that no number is typed twice.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from wsp import employees, network, retraining, training

SOURCES = (employees, network, retraining, training)
STARTS = ("cold", "warm", "shrink_perturb")
TABLES = ("employees_train.csv", "employees_test.csv")
WITHOUT_SCRIPTS = (
    "This is where you would train the network yourself, but your browser runs no JavaScript "
    "here. On your own machine <code>python -m wsp --seed N</code> trains the same networks "
    "and prints the same counts."
)


def pack(frame: pd.DataFrame) -> dict[str, str]:
    """A raw table, small: a fixed number of letters or digits a row, income in hundreds."""

    def digits(numbers: Iterable[int], width: int) -> str:
        written = [f"{number:0{width}d}" for number in numbers]
        if any(len(digits) > width for digits in written):
            raise ValueError(f"playground: {max(written, key=len)} has more than {width} digits")
        return "".join(written)

    if any(frame["income"] % 100):
        raise ValueError("playground: an income is not in whole hundreds")
    return {
        "sex": "".join(frame["sex"]),
        "age": digits(frame["age"], 2),
        "branch": digits(map(employees.BRANCHES.index, frame["branch"]), 1),
        "income": digits(frame["income"] // 100, 3),
        "job": digits(map(employees.JOBS.index, frame["job"]), 1),
    }


def book(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """Everything the script has to know."""
    return {
        "seed": retraining.SEED,
        "maxSeed": retraining.MAX_SEED,
        "streams": retraining.STREAMS,
        "oldRows": retraining.OLD_ROWS,
        "batchSize": training.BATCH_SIZE,
        "learningRate": training.LEARNING_RATE,
        "sizes": inspect.signature(network.MLP).parameters["sizes"].default,
        "arms": {
            key: {"start": arm.start, "lamda": arm.lamda, "sigma": arm.sigma, "epochs": arm.epochs}
            for key, arm in retraining.ARTICLE.items()
        },
        "branches": employees.BRANCHES,
        "jobs": employees.JOBS,
        "train": pack(train),
        "test": pack(test),
    }


def as_script(content: dict[str, Any]) -> str:
    """The same as a block of data for the page."""
    inlined = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" class="playground-book">{inlined}</script>'


def container(options: dict[str, Any]) -> str:
    """Where the script puts one playground."""
    inlined = json.dumps(options).replace("&", "&amp;").replace("'", "&#39;")
    return (f"<div class=\"playground\" data-options='{inlined}'>"
            f"<noscript><p>{WITHOUT_SCRIPTS}</p></noscript></div>")


def start(argument: str) -> str:
    return str(directives.choice(argument, STARTS))


def starts(argument: str) -> list[str]:
    return [start(word) for word in argument.replace(",", " ").split()]


def controls(argument: str) -> str:
    return str(directives.choice(argument, ("all", "few")))


class Playground(SphinxDirective):
    option_spec: ClassVar[dict[str, Any]] = {"starts": starts, "start": start, "controls": controls}

    def run(self) -> list[nodes.Node]:
        offered = self.options.get("starts") or list(STARTS)
        chosen = self.options.get("start", offered[0])
        if chosen not in offered:
            raise self.error(f"playground: start {chosen!r} is not among its starts {offered}")
        options = {"starts": offered, "start": chosen, "few": self.options.get("controls") == "few"}
        html = container(options)
        paths = [employees.find(name) for name in TABLES]
        for source in (*paths, *(inspect.getfile(module) for module in SOURCES)):
            self.env.note_dependency(str(source))
        if not self.env.temp_data.get("playground"):  # once a page
            self.env.temp_data["playground"] = True
            html = as_script(book(*map(employees.read, paths))) + html
        return [nodes.raw("", html, format="html", playground=True)]


def load_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load script and style on the pages that need them, and on no other."""
    if doctree and any(node.get("playground") for node in doctree.findall(nodes.raw)):
        app.add_css_file("playground.css")
        app.add_js_file("playground.js", loading_method="defer")


def squeeze(text: str) -> str:
    """A script or style sheet without its indentation and the comments that fill a line."""
    return re.sub(r"^\s*(?://.*\n\s*)*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.S), flags=re.M)


def squeeze_files(app: Sphinx, exception: Exception | None) -> None:
    """Let readers load a tenth less; whoever reads the code finds it in book/_static/."""
    if exception is None and app.builder.format == "html":
        for name in ("playground.js", "playground.css"):
            path = Path(app.outdir, "_static", name)
            if path.exists():
                path.write_text(squeeze(path.read_text()))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("playground", Playground)
    app.connect("html-page-context", load_script)
    app.connect("build-finished", squeeze_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
