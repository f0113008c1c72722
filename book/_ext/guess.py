"""The directive ``{guess}``: the reader guesses first and then sees.

Pick an answer; exactly one is right::

    :::{guess} Which arm is ahead at epoch 500?
    - [ ] cold
    - [x] all three are level

    What there is to see, with {told}`numbers <name|text>` that the page's cells glued.
    :::

Or drag a dot; the answer is a number that a cell of the page glued::

    :::{guess} How far below cold does warm end?
    :range: 0 to 15
    :unit: points
    :answer: gap

    What there is to see.
    :::

Without JavaScript, what there is to see is folded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from told import glued, numbers_in
from wsp.lab.report import typeset

CHOICE = re.compile(r"- \[([ x])\] (.+)")
RANGE = re.compile(r"([-−]?[\d.]+) to ([-−]?[\d.]+)")


class guess(nodes.General, nodes.Element):
    """A question; its children are the question, the choices if there are any, and what there is to see."""


def range_of(argument: str) -> tuple[float, float]:
    """The ends of the scale.

    Examples
    --------
    >>> range_of("-5 to 15")
    (-5.0, 15.0)
    """
    found = RANGE.fullmatch(argument.strip())
    if not found:
        raise ValueError(f"expected such as '0 to 15', not {argument!r}")
    low, high = (float(end.replace("−", "-")) for end in found.groups())
    if low >= high:
        raise ValueError(f"a scale goes up, not from {low:g} to {high:g}")
    return low, high


class Guess(SphinxDirective):
    has_content, required_arguments, final_argument_whitespace = True, 1, True
    option_spec: ClassVar[dict[str, Any]] = {
        "range": range_of, "unit": directives.unchanged, "answer": directives.unchanged_required,
    }  # fmt: skip

    def parsed(self, lines: list[str]) -> list[nodes.Node]:
        box = nodes.container()
        self.state.nested_parse(StringList(lines, self.env.docname), self.content_offset, box)
        return list(box.children)

    def words(self, text: str) -> nodes.inline:
        """One paragraph's markup."""
        found = self.parsed([text])
        return nodes.inline("", "", *(found[0].children if found else []))

    def answer(self) -> float:
        """The number that a cell glued."""
        name = self.options["answer"]
        values = glued(Path(self.env.doc2path(self.env.docname)))
        if name not in values:
            raise self.error(f"guess: no cell of this page glued {name!r}")
        numbers = numbers_in(values[name])
        low, high = self.options["range"]
        if not numbers or not low <= numbers[0] <= high:
            raise self.error(
                f"guess: the answer {values[name]!r} is not on the scale from {low:g} to {high:g}"
            )
        return numbers[0]

    def run(self) -> list[nodes.Node]:
        lines = list(self.content)
        count = next((k for k, line in enumerate(lines) if not line.startswith("- [")), len(lines))
        choices = [CHOICE.fullmatch(line) for line in lines[:count]]
        if None in choices:
            raise self.error("guess: a choice is a line '- [ ] words' or '- [x] words'")
        if ("range" in self.options) != ("answer" in self.options) or ("range" in self.options) == bool(
            choices
        ):
            raise self.error("guess: give either choices, or both a range and an answer")
        right = [place for place, match in enumerate(choices) if match and match[1] == "x"]
        if choices and len(right) != 1:
            raise self.error("guess: exactly one choice must be right")
        seen = self.parsed(lines[count:])
        if not seen:
            raise self.error("guess: it says nothing of what there is to see")
        name = f"guess-{self.env.new_serialno('guess')}"
        if choices:
            node = guess("", name=name, right=right[0])
        else:
            scale = (*self.options["range"], self.options.get("unit", ""), self.answer())
            node = guess("", name=name, scale=scale)
        node += self.words(self.arguments[0])
        for match in choices:
            assert match  # of the check above
            node += self.words(match[2])
        node += nodes.container("", *seen)
        return [node]


def visit_html(self: Any, node: guess) -> None:
    question, *choices, seen = node.children
    if "scale" in node:
        low, high, unit, answer = node["scale"]
        data = f'data-low="{low:g}" data-high="{high:g}" data-answer="{answer:g}"'
        data += f' data-unit="{self.attval(unit)}"'
    else:
        data = f'data-right="{node["right"]}"'
    self.body.append(f'<fieldset class="guess" {data}><legend>Guess first: ')
    question.walkabout(self)
    self.body.append("</legend>")
    for place, choice in enumerate(choices):
        label = f"{node['name']}-{place}"
        self.body.append(
            f'<div class="option"><input type="radio" name="{node["name"]}" id="{label}" value="{place}">'
            f'<label for="{label}">'
        )
        choice.walkabout(self)
        self.body.append("</label></div>")
    if "scale" in node:
        ends = typeset(f"{low:g} to {high:g} {unit}")
        self.body.append(f'<p class="guess-ends">(From {ends}.)</p>')
    self.body.append('<details class="guess-seen"><summary>Just show me</summary><div>')
    for child in seen.children:
        child.walkabout(self)
    self.body.append("</div></details></fieldset>\n")
    raise nodes.SkipNode


def visit_other(self: Any, node: guess) -> None:
    """Other builders read the words one after the other."""


def load_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load script and style on the pages that need them, and on no other."""
    if doctree and next(iter(doctree.findall(guess)), None) is not None:
        app.add_css_file("guess.css")
        app.add_js_file("guess.js", loading_method="defer")


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("guess", Guess)
    other = (visit_other, visit_other)
    app.add_node(guess, html=(visit_html, None), text=other, latex=other)
    app.connect("html-page-context", load_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
