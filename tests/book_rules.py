"""The book's own rules, one function each: a notebook in, a list of faults out.

test_book.py applies them to every chapter, and to a good chapter spoiled in every way
that they are there to find.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

Notebook = dict[str, Any]
Cell = dict[str, Any]
Rule = Callable[[Notebook], list[str]]

SHORTEST_ALT = 20  # characters; shorter ones say what kind of thing it is, not what it shows
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}  # tags of code nobody sees at first
LONGEST_CELL, LONGEST_FOLDED_CELL = 25, 40  # lines of code
LONGEST_LINE = 88  # characters of code; longer ones wrap in the page's column

# A fence ```name or ~~~name; a directive, ```{name}, holds prose and stays.
CODE_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(?!\{)[^\n]*\n.*?^\1\2 *$", re.M | re.S)
CODE_DIRECTIVE = re.compile(
    r"^( *)([`~:]{3,})\{(?:code|code-block|code-cell|math|eval-rst)\}.*?^\1\2 *$", re.M | re.S
)
MATH = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.S)
# Roles whose content was not typed as a measurement.
MARKED = re.compile(
    r"\{(?:told|quoted|glue[\w:]*|math|seconds|cite[\w:]*|py[\w:]*|numref|ref|eq|doc|download)\}`[^`]*`"
)
FENCE_MARK = re.compile(r"^ *(?:`{3,}|~{3,}|:{3,})(?:\{[^}]*\})?", re.M)
CODE = re.compile(r"(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\1(?!`)", re.S)
LINK_TARGET = re.compile(r"\]\([^)\s]*\)|<https?://[^>]*>|^\([\w-]+\)=$", re.M)
COMMENT = re.compile(r"<!--.*?-->", re.S)
# The level of an interval is chosen, not measured.
LEVEL = re.compile(r"\b9[059] ?(?:%|percent) (?:\w+ )?(?:intervals?|confidence|limits?)", re.I)

NUMBER_WORD = (
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|fifteen|twenty|thirty|forty|fifty|"
    "sixty|seventy|eighty|ninety)"
)
MEASURED = [
    re.compile(pattern, re.I)
    for pattern in (
        r"\d[\d.,]*\s*(?:%|per ?cent\b|(?:percentage[ -])?points?\b)",
        rf"\b{NUMBER_WORD}(?:-\w+)?(?: and a half)? (?:per ?cent\b|percentage points?\b)",
        r"\b\d+ (?:out )?of (?:the )?(?:40|forty)\b",
        r"(?<![\d.])\d{2,3}\.\d+(?![\d.])",
        r"\b\d[\d.]*\s*(?:s|ms|seconds?|minutes?|hours?)\b",
        r"\b\d[\d.]*\s*(?:×|times) (?:as|faster|slower|more|less|longer|shorter|better|worse)\b",
    )
]
LOCAL_PATH = re.compile(r"(?<![\w:/.<~-])/(?:[\w.-]+/)+[\w.-]+|\b[A-Z]:\\\w+")


def text(source: str | list[str]) -> str:
    """Notebooks store text as one string or as a list of lines."""
    return source if isinstance(source, str) else "".join(source)


def cells(notebook: Notebook, kind: str) -> Iterator[tuple[int, Cell]]:
    """Cells of one kind that hold something, with their place counted from 1."""
    for place, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] == kind and text(cell["source"]).strip():
            yield place, cell


def story(notebook: Notebook) -> str:
    return "\n\n".join(text(cell["source"]) for _, cell in cells(notebook, "markdown"))


def executed(notebook: Notebook) -> list[str]:
    """Every cell has run, in order, without an error and without a word on stderr."""
    faults = []
    for count, (place, cell) in enumerate(cells(notebook, "code"), start=1):
        if cell["execution_count"] != count:
            faults.append(f"cell {place}: ran as number {cell['execution_count']}, expected {count}")
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                faults.append(f"cell {place}: {output['ename']}: {output['evalue']}")
            if output.get("name") == "stderr":
                faults.append(f"cell {place}: wrote to stderr: {text(output['text'])[:100]}")
    return faults


def no_local_paths(notebook: Notebook) -> list[str]:
    """Nothing tells where on whose machine the chapter ran."""
    faults = []
    for place, cell in enumerate(notebook["cells"], start=1):
        texts = [text(cell["source"])] if cell["cell_type"] == "code" else []
        for output in cell.get("outputs", []):
            texts.append(text(output.get("text", "")))
            texts += [
                text(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")
            ]
        for found in LOCAL_PATH.findall("\n".join(texts)):
            faults.append(f"cell {place}: a path of one machine: {found}")
    return faults


def alt_text(notebook: Notebook) -> list[str]:
    """Every picture is a still that says in words what it shows (wsp.lab.figures.stills)."""
    faults = []
    for place, cell in cells(notebook, "code"):
        pictures = [
            output["data"] for output in cell["outputs"] if any("image/" in k for k in output.get("data", {}))
        ]
        for output in cell["outputs"]:
            for tag in re.findall(r"<img[^>]*>", text(output.get("data", {}).get("text/html", ""))):
                if not re.search(r'alt="[^"]+"', tag):
                    faults.append(f"cell {place}: an <img> without alt")
        for picture in pictures:
            title = re.search(r"<title>(.*?)</title>", text(picture.get("image/svg+xml", "")), re.S)
            if not title or len(title[1]) < SHORTEST_ALT:
                faults.append(f"cell {place}: a picture without words; end the cell with figures.show(alt)")
        if pictures and cell["metadata"].get("mystnb", {}).get("image", {}).get("alt"):
            faults.append(f"cell {place}: alt text in two places; leave out metadata mystnb.image.alt")
        if len(pictures) > 1:
            faults.append(f"cell {place}: {len(pictures)} pictures; make them cells of their own")
    for place, cell in cells(notebook, "markdown"):
        faults += [f"cell {place}: {fault}" for fault in alt_text_in_markdown(text(cell["source"]))]
    return faults


def alt_text_in_markdown(markdown: str) -> list[str]:
    faults = []
    for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]*)", markdown):
        if len(alt) < SHORTEST_ALT:
            faults.append(f"picture {target}: alt text is missing or says too little: {alt!r}")
    directive = r"^ *([`:]{3,})\{(image|figure|glue:figure|glue:image)\} *(\S*)(.*?)^ *\1 *$"
    for _, name, target, body in re.findall(directive, markdown, re.M | re.S):
        found = re.search(r":alt: *(.*)", body)
        # A glued figure takes the alt text of the cell that glued it.
        if not name.startswith("glue") and (not found or len(found[1]) < SHORTEST_ALT):
            faults.append(f"{name} {target}: option alt is missing or says too little")
    return faults


def exercises(notebook: Notebook) -> list[str]:
    """One to four exercises, each with a solution in a dropdown, its code run."""
    faults = []
    markdown = story(notebook)
    labels = re.findall(r"\{exercise(?:-start)?\}.*?:label: *(\S+)", markdown, re.S)
    if not 1 <= len(labels) <= 4:
        faults.append(f"{len(labels)} exercises, expected one to four")
    solutions = dict(re.findall(r"\{solution(?:-start)?\} *(\S+)\n((?::[^\n]*\n)*)", markdown))
    for label in labels:
        if label not in solutions:
            faults.append(f"exercise {label}: no solution")
        elif not re.search(r":class:.*\bdropdown\b", solutions[label]):
            faults.append(f"exercise {label}: the solution is no dropdown")
    inside = False
    for place, cell in enumerate(notebook["cells"], start=1):
        source = text(cell["source"]) if cell["cell_type"] == "markdown" else ""
        inside = (inside or "{solution-start}" in source) and "{solution-end}" not in source
        if inside and re.search(r"^ *```python", source, re.M):
            faults.append(f"cell {place}: code of a solution that no test runs; make it a code cell")
    return faults


def prose(markdown: str) -> str:
    """What a person typed as words: no code, no math, no marked number, no address."""
    for skipped in (COMMENT, CODE_FENCE, CODE_DIRECTIVE, MATH, MARKED, FENCE_MARK, CODE, LINK_TARGET, LEVEL):
        markdown = skipped.sub(" ", markdown)
    return markdown


def typed_numbers_in(markdown: str) -> list[str]:
    words = prose(markdown)
    found = [match for pattern in MEASURED for match in pattern.finditer(words)]
    return [
        "a measured number typed by hand: "
        + " ".join(f"...{words[max(0, m.start() - 30) : m.end() + 10]}...".split())
        for m in found
    ]


def typed_numbers(notebook: Notebook) -> list[str]:
    """A number from a run is glued, a number of somebody else is {quoted}."""
    faults = []
    for place, cell in cells(notebook, "markdown"):
        faults += [f"cell {place}: {fault}" for fault in typed_numbers_in(text(cell["source"]))]
    for place, cell in cells(notebook, "code"):
        caption = cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption", "")
        for words in (caption, *typed_alt_texts(text(cell["source"]))):
            faults += [f"cell {place}, alt text or caption: {fault}" for fault in typed_numbers_in(words)]
    return faults


def typed_alt_texts(source: str) -> Iterator[str]:
    """What a person typed as the alt text of a still; what is computed in it does not count."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "show":
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def outputs_compared(notebook: Notebook) -> list[str]:
    """No cell is skipped; an output is ignored only where the cell times something."""
    faults = []
    for place, cell in cells(notebook, "code"):
        tags = set(cell["metadata"].get("tags", []))
        source = text(cell["source"])
        if tags & {"nbval-skip", "skip-execution"} or re.search(r"#\s*NBVAL_(SKIP|RAISES)", source):
            faults.append(f"cell {place}: skipped by nbval")
        ignored = "nbval-ignore-output" in tags or "NBVAL_IGNORE_OUTPUT" in source
        if ignored and not re.search(r"perf_counter|timeit|seconds|Timer", source):
            faults.append(f"cell {place}: its output is ignored, but it measures no time")
    return faults


def code_fits(notebook: Notebook) -> list[str]:
    """Code that a reader can see does not wrap."""
    return [
        f"cell {place}: a line of {len(line)} characters: {line.strip()[:40]}..."
        for place, cell in cells(notebook, "code")
        if not {"remove-cell", "remove-input"} & set(cell["metadata"].get("tags", []))
        for line in text(cell["source"]).splitlines()
        if len(line) > LONGEST_LINE
    ]


def folded(notebook: Notebook) -> list[str]:
    """What the page folds or leaves out is folded in JupyterLab too, and nothing else."""
    faults = []
    for place, cell in cells(notebook, "code"):
        hidden = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
        if hidden != is_folded(cell):
            faults.append(
                f"cell {place}: jupyter.source_hidden is {hidden}, but the page "
                f"{'folds' if is_folded(cell) else 'shows'} its code; run book/execute.py"
            )
    return faults


def is_folded(cell: Cell) -> bool:
    """Whether a reader of the page does not see the code of a cell at first."""
    return bool(FOLDED & set(cell["metadata"].get("tags", [])))


def code_is_short(notebook: Notebook) -> list[str]:
    """No cell is longer than what a reader takes in at once; a folded one may be a little longer."""
    return [f"cell {name}: {lines} lines" for name, lines in long_cells(notebook).items()]


def long_cells(notebook: Notebook) -> dict[str, int]:
    """Id of each code cell with too many lines -> its lines."""
    lines = {cell["id"]: len(text(cell["source"]).splitlines()) for _, cell in cells(notebook, "code")}
    most = {
        cell["id"]: LONGEST_FOLDED_CELL if is_folded(cell) else LONGEST_CELL
        for _, cell in cells(notebook, "code")
    }
    return {name: count for name, count in lines.items() if count > most[name]}


EVERYWHERE: tuple[Rule, ...] = (
    executed,
    no_local_paths,
    alt_text,
    typed_numbers,
    outputs_compared,
    code_fits,
    folded,
    code_is_short,
)
IN_CHAPTERS: tuple[Rule, ...] = (exercises,)
