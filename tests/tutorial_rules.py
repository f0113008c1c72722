"""What makes a chapter a tutorial and not its log: rules like those of book_rules, for chapters alone.

The log is the evidence page of a chapter, which keeps all that these rules leave no room for.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator

from bs4 import BeautifulSoup

from book_rules import (
    CODE_DIRECTIVE,
    CODE_FENCE,
    COMMENT,
    MATH,
    Notebook,
    Rule,
    cells,
    is_folded,
    story,
    text,
)

MOST_WORDS = 1000  # outside code, tables, captions and folds; prose that cells print counts
MOST_INTERVALS = 3  # in running text
MOST_ROWS = 6  # of a table
LINES_TO_REMEMBER = 3
QUESTIONS = 3

OPENING = re.compile(r"\A# [^\n]+\n+:::\{div\} opening\n\*\*[^*]+\?\*\* .+?\n:::", re.S)
FOLD = re.compile(
    r"^([`:]{3,})\{[\w-]+\}[^\n]*\n(?::[\w-]+:[^\n]*\n)*?:class:[^\n]*dropdown.*?^\1 *$", re.M | re.S
)
ROLE = re.compile(r"\{[\w:-]+\}`([^`<|]*)(?:<[^`]*>)?`")
MARKUP = re.compile(r"^:[\w-]+:.*$|\]\([^)]*\)|^[`:~]{3,}.*$|^\([\w-]+\)=$|[*_`\[\]|#]", re.M)
INTERVAL = re.compile(r"\([^()]*\d[^()]*\bto\b[^()]*\d[^()]*\)")
WORD = re.compile(r"[^\W\d_]{2,}")
END = re.compile(r"^## (?:Check yourself|Exercises)$", re.M)


def before_the_end(notebook: Notebook) -> Iterator[tuple[int, dict[str, object]]]:
    """Cells up to the self-check and the exercises."""
    for place, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == "markdown" and END.search(text(cell["source"])):
            yield place, {**cell, "source": END.split(text(cell["source"]), maxsplit=1)[0]}
            return
        yield place, cell


def running_text(notebook: Notebook) -> str:
    """The prose of a chapter as a reader meets it: folds, tables, code and formulas left out."""
    parts = []
    for _, cell in before_the_end(notebook):
        if cell["cell_type"] == "markdown":
            markdown = text(cell["source"])  # type: ignore[arg-type]
            for skipped in (COMMENT, FOLD, CODE_FENCE, CODE_DIRECTIVE, MATH):
                markdown = skipped.sub(" ", markdown)
            parts.append("\n".join(line for line in markdown.splitlines() if not line.startswith("|")))
    return "\n\n".join(parts)


def printed_prose(notebook: Notebook) -> str:
    """Sentences that cells print: lines with more words than figures."""
    lines = []
    for _, cell in before_the_end(notebook):
        hidden = {"hide-output", "remove-output", "hide-cell", "remove-cell"} & set(
            cell["metadata"].get("tags", [])  # type: ignore[attr-defined]
        )
        for output in [] if hidden or cell["cell_type"] != "code" else cell["outputs"]:  # type: ignore[attr-defined]
            for line in text(output.get("text", "")).splitlines():
                if len(WORD.findall(line)) >= 8:
                    lines.append(line)
    return "\n".join(lines)


def words(notebook: Notebook) -> int:
    """How many words a reader of the chapter meets."""
    prose = MARKUP.sub(" ", ROLE.sub(r" \1 ", running_text(notebook)))
    return len(prose.split()) + len(printed_prose(notebook).split())


def brief(notebook: Notebook) -> list[str]:
    """A chapter is read at one sitting."""
    count = words(notebook)
    return [f"{count} words, at most {MOST_WORDS}"] if count > MOST_WORDS else []


def glued_intervals(notebook: Notebook) -> set[str]:
    """Names under which the chapter's cells glued an interval."""
    names = set()
    for _, cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name and any(INTERVAL.search(text(value)) for value in output["data"].values()):
                names.add(name)
    return names


def few_intervals(notebook: Notebook) -> list[str]:
    """An interval in a sentence stops a reader; it belongs behind {told}, or on the evidence page."""
    prose = running_text(notebook)
    shown = [
        name for name in re.findall(r"\{glue:text\}`([\w.-]+)", prose) if name in glued_intervals(notebook)
    ]
    count = len(shown) + len(INTERVAL.findall(re.sub(r"\{[\w:]+\}`[^`]*`", " ", prose)))
    return [f"{count} intervals in running text, at most {MOST_INTERVALS}"] if count > MOST_INTERVALS else []


def small_tables(notebook: Notebook) -> list[str]:
    """A table that a reader takes in at once; longer ones are for the evidence page."""
    faults = []
    for place, cell in before_the_end(notebook):
        if cell["cell_type"] == "markdown":
            rows = [
                len(block.splitlines()) - 2
                for block in re.findall(r"(?:^\|.*\n?)+", text(cell["source"]), re.M)
            ]  # type: ignore[arg-type]
        else:
            html = "".join(text(o.get("data", {}).get("text/html", "")) for o in cell["outputs"])  # type: ignore[attr-defined]
            rows = [
                len(table.select("tbody tr")) for table in BeautifulSoup(html, "html.parser").select("table")
            ]
        faults += [f"cell {place}: a table of {n} rows, at most {MOST_ROWS}" for n in rows if n > MOST_ROWS]
    return faults


def answer_first(notebook: Notebook) -> list[str]:
    """A chapter opens with its question and the answer, and a figure comes before the second section."""
    faults = (
        [] if OPENING.match(story(notebook)) else ["it does not open with '**Question?** Answer.' in a div"]
    )
    sections = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            sections += len(re.findall(r"^## ", text(cell["source"]), re.M))
        elif any("image/svg+xml" in output.get("data", {}) for output in cell["outputs"]):
            break
    return faults + (["no figure before the second section"] if sections > 1 else [])


def ending(notebook: Notebook) -> list[str]:
    """What to remember, a self-check, one or two exercises, the next step; in this order."""
    markdown = story(notebook)
    faults = []
    sections = ("## What to remember", "## Check yourself", "## Exercises", "**Next:**")
    places = [markdown.rfind(f"\n{section}") for section in sections]
    if min(places) < 0 or places != sorted(places):
        return [f"it does not end with {', '.join(sections)}, in this order"]
    remember = markdown[places[0] : places[1]]
    if (lines := len(re.findall(r"^- ", remember, re.M))) != LINES_TO_REMEMBER:
        faults.append(f"{lines} lines to remember, expected {LINES_TO_REMEMBER}")
    if (asked := len(re.findall(r"\{quiz\}", markdown[places[1] : places[2]]))) != QUESTIONS:
        faults.append(f"{asked} questions to check yourself, expected {QUESTIONS}")
    return faults


def names_used_before(tree: ast.Module, known: set[str]) -> set[str]:
    """Names that a cell reads and neither it nor `known` defines; adds what it defines to `known`."""
    made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            made.add(node.name)
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    missing = read - made - known - set(dir(builtins))
    known |= made
    return missing


def visible_code_stands_alone(notebook: Notebook) -> list[str]:
    """What a reader copies from the top of the page runs: no name comes from a cell that is folded."""
    known: set[str] = set()
    faults = []
    for place, cell in cells(notebook, "code"):
        if not is_folded(cell) and (missing := names_used_before(ast.parse(text(cell["source"])), known)):
            faults.append(f"cell {place}: {', '.join(sorted(missing))} from a folded cell")
    return faults


TUTORIAL: tuple[Rule, ...] = (
    answer_first,
    brief,
    few_intervals,
    small_tables,
    ending,
    visible_code_stands_alone,
)
