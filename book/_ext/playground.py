"""The directive ``{playground}``: the network of the book, trained in the reader's browser.

::

    ```{playground}
    :starts: cold warm
    :start: warm
    :controls: few
    ```

``starts`` are the arms to choose from (default: all three), ``start`` the one chosen at first
(default: the first of them). ``controls`` is ``all`` or ``few``: without sliders and the run
of many seeds. A page may hold several.

A guided tour is a numbered list in the directive, and the option ``tour`` says what each of
its items sets up: a start, its epochs, and the figure to look at, with ``|`` between items::

    ```{playground}
    :tour: warm 1000 curves | shrink_perturb 500 weights

    1. Press *Play*.
    2. Look at the weights.
    ```

 The tables and every constant are read here, from
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

from wsp.lab import employees, network, retraining, training

SOURCES = (employees, network, retraining, training)
STARTS = ("cold", "warm", "shrink_perturb")
FIGURES = ("curves", "regions", "weights", "seeds")
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
    return (
        f"<div class=\"playground\" data-options='{inlined}'>"
        f"<noscript><p>{WITHOUT_SCRIPTS}</p></noscript></div>"
    )


def start(argument: str) -> str:
    return str(directives.choice(argument, STARTS))


def starts(argument: str) -> list[str]:
    return [start(word) for word in argument.replace(",", " ").split()]


def controls(argument: str) -> str:
    return str(directives.choice(argument, ("all", "few")))


def tour(argument: str) -> list[tuple[str, int, str]]:
    """What each card sets up."""
    cards = []
    for card in argument.split("|"):
        words = card.split()
        if len(words) != 3 or not words[1].isdigit():
            raise ValueError(f"a card is a start, a number of epochs and a figure, not {card.strip()!r}")
        cards.append((start(words[0]), int(words[1]), str(directives.choice(words[2], FIGURES))))
    return cards


class Playground(SphinxDirective):
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "starts": starts, "start": start, "controls": controls, "tour": tour,
    }  # fmt: skip

    def run(self) -> list[nodes.Node]:
        offered = self.options.get("starts") or list(STARTS)
        chosen = self.options.get("start", offered[0])
        if chosen not in offered:
            raise self.error(f"playground: start {chosen!r} is not among its starts {offered}")
        options = {"starts": offered, "start": chosen, "few": self.options.get("controls") == "few"}
        if "tour" in self.options:
            options["tour"] = self.options["tour"]
        html = container(options)
        paths = [employees.find(name) for name in TABLES]
        for source in (*paths, *(inspect.getfile(module) for module in SOURCES)):
            self.env.note_dependency(str(source))
        if not self.env.temp_data.get("playground"):  # once a page
            self.env.temp_data["playground"] = True
            html = as_script(book(*map(employees.read, paths))) + html
        cards = self.cards()
        return [*cards, nodes.raw("", html, format="html", playground=True)]

    def cards(self) -> list[nodes.Node]:
        """The tour as a list, which reads without JavaScript."""
        box = nodes.container(classes=["playground-tour"])
        if self.content:
            self.state.nested_parse(self.content, self.content_offset, box)
        items = [item for listed in box.findall(nodes.enumerated_list) for item in listed.children]
        wanted = len(self.options.get("tour", []))
        if len(items) != wanted:
            raise self.error(f"playground: the tour sets up {wanted} cards, but lists {len(items)}")
        return [box] if items else []


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
