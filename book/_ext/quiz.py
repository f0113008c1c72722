"""Self-checks: a question, its answers, and why each is right or wrong. No script is needed.

    :::{quiz} Which arm is ahead at epoch 500?
    - [ ] warm | Why this is wrong.
    - [x] cold | Why this is right.
    :::

Exactly one answer is right, and every answer says why.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

OPTION = re.compile(r"- \[([ x])\] (.+?) \| (.+)")


class quiz(nodes.General, nodes.Element):
    """A question."""


class answer(nodes.General, nodes.Element):
    """An answer; its children are the answer itself and why."""


class Quiz(SphinxDirective):
    """A question with its answers."""

    has_content, required_arguments, final_argument_whitespace = True, 1, True

    def words(self, text: str) -> list[nodes.Node]:
        """Inline markup of one paragraph."""
        box = nodes.container()
        self.state.nested_parse(StringList([text], self.env.docname), self.content_offset, box)
        return list(box.children[0].children) if box.children else []

    def run(self) -> list[nodes.Node]:
        text = "\n".join(self.content)
        found = [OPTION.fullmatch(" ".join(each.split())) for each in re.split(r"\n(?=- \[)", text.strip())]
        if None in found or len(found) < 2:
            raise self.error("quiz: expected lines '- [ ] answer | why' and one '- [x] answer | why'")
        if [match[1] for match in found if match].count("x") != 1:
            raise self.error("quiz: exactly one answer must be right")
        name = f"quiz-{self.env.new_serialno('quiz')}"
        box = quiz("", name=name)
        question = nodes.inline("", "", *self.words(self.arguments[0]))
        box += question
        for number, match in enumerate(found):
            assert match  # of the check above
            one = answer("", name=name, id=f"{name}-{number}", right=match[1] == "x")
            one += nodes.inline("", "", *self.words(match[2]))
            one += nodes.inline("", "", *self.words(match[3]))
            box += one
        return [box]


def visit_quiz(self: Any, node: quiz) -> None:
    self.body.append('<fieldset class="quiz"><legend>')
    node.children[0].walkabout(self)
    self.body.append("</legend>")
    for each in node.children[1:]:
        each.walkabout(self)
    self.body.append("</fieldset>\n")
    raise nodes.SkipNode


def visit_answer(self: Any, node: answer) -> None:
    said, why = node.children
    mark, word = ("right", "Right.") if node["right"] else ("wrong", "Not quite.")
    self.body.append(
        f'<div class="option"><input type="radio" name="{node["name"]}" id="{node["id"]}">'
        f'<label for="{node["id"]}">'
    )
    said.walkabout(self)
    self.body.append(f'</label><div class="why {mark}" aria-live="polite"><strong>{word}</strong> ')
    why.walkabout(self)
    self.body.append("</div></div>")
    raise nodes.SkipNode


def visit_text(self: Any, node: nodes.Node) -> None:
    """Other builders read the words one after the other."""


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("quiz", Quiz)
    other = (visit_text, visit_text)
    app.add_node(quiz, html=(visit_quiz, None), text=other, latex=other)
    app.add_node(answer, html=(visit_answer, None), text=other, latex=other)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
