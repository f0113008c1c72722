"""What the book holds, gathered while it is built, so that nothing is listed by hand.

- ``{chapters}`` maps the chapters of ``_toc.yml`` by part: what each one finds out, the
  minutes to read it and the seconds to run it.
- ``{exercises}`` lists every exercise of every chapter, with a link to it.
- The role ``{seconds}`` gives the time that running a chapter took, as book/execute.py
  noted it: ``{seconds}`05_shrink_perturb```.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.typing import ExtensionMetadata

logger = logging.getLogger(__name__)

WORDS_A_MINUTE = 200  # of prose
MINUTES_A_CELL = 0.5  # for a figure, or for code that is shown

# The question that opens a chapter, and its answer.
OPENING = re.compile(r":::\{div\} opening\n(?:\*\*In this chapter\*\*\n: )?(.+?)\n *(?:\n|:::)", re.S)
TOLD = re.compile(r"\{told\}`([^`<]*?)\s*<[^`]*`")  # words, whose exact figure is on the chapter's page
END = re.compile(r"^## (?:Check yourself|Exercises)$", re.M)
EXERCISE = re.compile(r"^([`:]{3,})\{exercise(?:-start)?\} *([^\n]*)\n(.*?)^\1 *$", re.M | re.S)
LABEL = re.compile(r"^:label: *(\S+)$", re.M)
OPTIONS = re.compile(r"\A(?::[^\n]*\n)*\n*")
MARKUP = re.compile(r"^:[\w-]+:.*$|\{[\w:-]+\}|\]\([^)]*\)|^[`:~]{3,}.*$|^\([\w-]+\)=$|[*_`\[\]|#]", re.M)


class Chapter(NamedTuple):
    """One notebook of the book."""

    path: Path
    cells: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def story(self) -> str:
        """Its prose, as written."""
        return "\n\n".join(source(cell) for cell in self.cells if cell["cell_type"] == "markdown")

    @property
    def about(self) -> str:
        found = OPENING.search(self.story)
        return " ".join(TOLD.sub(r"\1", found[1]).split()) if found else ""

    @property
    def minutes(self) -> int:
        """To read it, without its questions and exercises."""
        minutes = 0.0
        for cell in self.cells:
            if cell["cell_type"] == "code":
                hidden = {"remove-cell", "remove-input", "hide-input"} & set(cell["metadata"].get("tags", []))
                pictured = any("image/png" in output.get("data", {}) for output in cell["outputs"])
                minutes += MINUTES_A_CELL * (pictured or not hidden)
                continue
            prose, *rest = END.split(source(cell), maxsplit=1)
            minutes += len(MARKUP.sub(" ", prose).split()) / WORDS_A_MINUTE
            if rest:
                break
        return math.ceil(minutes)

    @property
    def exercises(self) -> Iterator[tuple[str, str]]:
        """Label and text of each."""
        for _, title, body in EXERCISE.findall(self.story):
            label = LABEL.search(body)
            if label:
                yield label[1], f"{title}\n\n{OPTIONS.sub('', body)}".strip()


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def read_chapter(path: Path) -> Chapter:
    return Chapter(path, json.loads(path.read_text())["cells"])


def read_parts(root: Path) -> list[tuple[str, list[Chapter]]]:
    """The parts of ``_toc.yml`` that hold chapters, which are those that number them."""
    contents = yaml.safe_load((root / "_toc.yml").read_text())
    parts = []
    for part in contents["parts"]:
        if part.get("numbered"):
            chapters = [read_chapter(root / f"{entry['file']}.ipynb") for entry in part["chapters"]]
            parts.append((part["caption"], chapters))
    return parts


def read_seconds(root: Path) -> dict[str, int]:
    path = root / "book" / "seconds.json"
    return dict(json.loads(path.read_text())["seconds"]) if path.exists() else {}


class Listing(SphinxDirective):
    """A list made of what the chapters say, in MyST."""

    def lines(self, parts: list[tuple[str, list[Chapter]]]) -> Iterator[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        parts = read_parts(root)
        sources = [root / "_toc.yml", root / "book" / "seconds.json"]
        sources += [chapter.path for _, chapters in parts for chapter in chapters]
        for path in sources:
            self.env.note_dependency(str(path))
        box = nodes.container(classes=[self.name])
        lines = StringList(list(self.lines(parts)), self.env.docname)
        self.state.nested_parse(lines, self.content_offset, box)
        return [box]


class Chapters(Listing):
    def lines(self, parts: list[tuple[str, list[Chapter]]]) -> Iterator[str]:
        seconds = read_seconds(Path(self.env.srcdir))
        number = 0
        for caption, chapters in parts:
            yield from ("", f"**{caption}**", "")
            for chapter in chapters:
                number += 1
                cost = f"{chapter.minutes} minutes to read"
                if chapter.name in seconds:
                    cost += f", {seconds[chapter.name]} seconds to run"
                mark = f"{number}. "  # what belongs to an item is indented as far as its text
                yield f"{mark}[](/book/{chapter.name}) [{cost}]{{.cost}}"
                yield from ("", " " * len(mark) + chapter.about, "")


class Exercises(Listing):
    def lines(self, parts: list[tuple[str, list[Chapter]]]) -> Iterator[str]:
        for _, chapters in parts:
            for chapter in chapters:
                yield from ("", f"**[](/book/{chapter.name})**", "")
                for label, body in chapter.exercises:
                    first, *rest = body.split("\n")
                    yield f"- {{ref}}`{label}`: {first}"
                    yield from (f"  {line}" for line in rest)


class ChapterSeconds(Listing):
    """What running each chapter took. No output of a notebook: a new time must not make one differ."""

    def lines(self, parts: list[tuple[str, list[Chapter]]]) -> Iterator[str]:
        noted = json.loads((Path(self.env.srcdir) / "book" / "seconds.json").read_text())
        taken = {
            chapter.name: noted["seconds"][chapter.name] for _, chapters in parts for chapter in chapters
        }
        yield f"All {len(taken)} chapters: {sum(taken.values())} seconds, measured on {noted['machine']},"
        yield from (f"Python {noted['python']}.", "", "| chapter | seconds |", "|---|--:|")
        yield from (f"| [](/book/{name}) | {seconds} |" for name, seconds in taken.items())


class SecondsRole(SphinxRole):
    """``chapter``: how long running it took, from book/seconds.json."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root / "book" / "seconds.json"))
        noted = read_seconds(root)
        if self.text not in noted:
            logger.warning(
                "seconds: book/seconds.json has no %r; run `make notebooks`",
                self.text,
                location=self.get_location(),
            )
        return [nodes.Text(f"{noted.get(self.text, '?')} seconds")], []


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("chapters", Chapters)
    app.add_directive("exercises", Exercises)
    app.add_directive("chapter-seconds", ChapterSeconds)
    app.add_role("seconds", SecondsRole())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
