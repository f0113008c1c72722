"""The directive ``{which-start}``: eight questions, and one recommendation that stored results bear out.

Everything is computed while the book is built, by :mod:`wsp.studies.advice`. The page gets all cases as a
table, which reads without JavaScript, and the same cases as data. The script asks the questions and
looks up the first case that covers the answers; it computes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from wsp.lab.employees import find
from wsp.lab.report import NO_BREAK, in_words
from wsp.lab.results import stored
from wsp.studies import advice
from wsp.studies.advice import QUESTIONS, Case, Recommendation

WITHOUT_SCRIPTS = (
    "Your browser runs no JavaScript here, so nothing can be asked. The table holds every answer."
)
IMPORTS = "import torch\nfrom wsp import shrink_perturb_"
MEASURE_AGAIN = "torch.optim.swa_utils.update_bn(batches, model)  # BatchNorm: measure its statistics again"
THEN = {
    "split": "# train on old and new rows; keep the epoch with the lowest loss on rows held out",
    "fixed": "# train on old and new rows together",
    "fit": "# train on old and new rows until they are fitted",
}
ASK_YOUR_DATA = """\
from wsp.lab import choose

# old: your network; build(): a new one; train(network, rows, order): yields after every epoch
table = choose.choose(old, build, train, old_rows, new_rows, epochs=100)
print(choose.recommend(table))"""
NOT_MEASURED = "Not measured: run choose"
SHORT = {
    "cold": "cold",
    "warm": "warm",
    "shrink_perturb": "trick 0.5",
    "shrink_perturb_0.3": "trick 0.3",
    "official": "the paper's rule",
    "fresh_shrunk": "cold, halved",
    "fresh_shrunk_0.3": "cold, cut to 0.3",
}
ROWS = ("data", "batchnorm", "labels", "old", "stop", "spend")  # a row of the table; `new` is a column


def arm_of(start: str) -> str:
    """Whose color a start wears."""
    cold = start.startswith(("cold", "fresh"))
    return "arm-cold" if cold else "arm-warm" if start == "warm" else "arm-shrink-perturb"


def gain(found: Recommendation) -> str:
    """What may be expected, in a sentence."""
    decision = found.decision
    share = f"{100 * decision.cost:.0f}{NO_BREAK}% of its training"
    if decision.why == "better" and decision.gain:
        spent = f", for {share}" if found.found.cost else ", with as many epochs"
        return f"Expected: {in_words(decision.gain)} above a cold start{spent}."
    if decision.why == "cheaper" and decision.gain:
        return f"Hardly worse than a cold start, if at all: {in_words(decision.gain)}, for {share}."
    return "No other start was shown to be better than a cold one, or hardly worse and cheaper."


def more(found: Recommendation) -> str:
    """How the others stand."""
    others = [
        f"{SHORT[start]} {in_words(lead, unit='')}"
        for start, lead in found.found.minus_cold.items()
        if start != found.start.key
    ]
    words = f"Minus a cold start, in points: {'; '.join(others)}." if others else ""
    for setting, leads in found.found.elsewhere.items():
        if found.start.key in leads:
            words += f" With {setting} the gain is {in_words(leads[found.start.key])}."
    return words


def code(found: Recommendation) -> str:
    """The lines to paste."""
    when = found.case.when
    lines = [IMPORTS, "", found.start.code]
    if when["batchnorm"] == ("yes",) and found.start.shrinks:
        lines.append(MEASURE_AGAIN)
    lines += ["optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # new, with your rate"]
    return "\n".join([*lines, THEN[when["stop"][0]]])


def measured_on(found: Recommendation) -> str:
    """Data, protocol, and how many."""
    unit = "tables" if found.case.data.startswith("tables") else "splits"
    return f"Measured on {found.case.data}. {found.case.protocol}. {found.found.units} {unit}."


def page_of(case: Case, pages: frozenset[str]) -> str:
    """Its evidence page, or the chapter where that is not written yet."""
    wanted = f"evidence_{case.chapter:02d}"
    [chapter] = [page for page in pages if page.startswith(f"{case.chapter:02d}_")]
    return f"{wanted if wanted in pages else chapter}.html"


def content(found: Sequence[Recommendation], pages: frozenset[str]) -> dict[str, Any]:
    """Everything the script has to know: every case that counts, in order, a card for each."""
    return {
        "questions": [question.key for question in QUESTIONS],
        "cases": [
            {
                "when": [list(each.case.when[question.key]) for question in QUESTIONS],
                "start": each.start.words,
                "key": each.start.key,
                "arm": arm_of(each.start.key),
                "gain": gain(each),
                "more": more(each),
                "on": measured_on(each),
                "code": code(each),
                "page": page_of(each.case, pages),
                "link": f"The evidence, chapter {each.case.chapter}",
            }
            for each in found
        ],
        "none": {"start": NOT_MEASURED, "code": ASK_YOUR_DATA},
    }


def form() -> Iterator[str]:
    """The questions. Hidden until the script is there."""
    yield '<form class="ws-questions" hidden>'
    for question in QUESTIONS:
        yield f'<fieldset><legend>{escape(question.words)}</legend><div class="ws-options">'
        for key, words in question.options.items():
            name = f"ws-{question.key}"
            yield (
                f'<label><input type="radio" name="{name}" value="{key}"><span>{escape(words)}</span></label>'
            )
        yield "</div></fieldset>"
    yield '<p class="ws-again"><button type="reset">Clear all answers</button></p></form>'


def card() -> str:
    """Where the recommendation stands. The script fills it in."""
    return (
        '<section class="ws-card" aria-label="Recommendation" hidden><div role="status">'
        '<p class="ws-start"></p><p class="ws-gain"></p><p class="ws-more"></p></div>'
        '<pre class="ws-code" tabindex="0" aria-label="Code to paste"><code></code></pre>'
        '<p class="ws-copy"><button type="button">Copy the code</button></p>'
        '<p class="ws-on"></p><p class="ws-link"><a href="#which-start"></a></p></section>'
    )


def cell(found: Recommendation | None, page: str) -> str:
    """A cell of the table."""
    if found is None:
        return "<td>–</td>"
    lead = found.decision.gain
    words = f'<a class="{arm_of(found.start.key)}" href="{page}">{SHORT[found.start.key]}</a>'
    return f"<td>{words}<br>{in_words(lead, unit='')}</td>" if lead else f"<td>{words}</td>"


def table(found: Sequence[Recommendation], pages: frozenset[str]) -> Iterator[str]:
    """Every case, a column for each share of new rows."""
    shares = QUESTIONS[[question.key for question in QUESTIONS].index("new")].options
    options = {question.key: question.options for question in QUESTIONS}

    def row(each: Recommendation) -> tuple[str, ...]:
        return tuple(each.case.when[key][0] for key in ROWS)

    order = {key: list(words) for key, words in options.items()}
    ordered = sorted(found, key=lambda each: [order[key].index(a) for key, a in zip(ROWS, row(each))])
    for data, group in groupby(ordered, key=lambda each: row(each)[:2]):
        network = "with BatchNorm" if data[1] == "yes" else "without BatchNorm"
        yield f"<table><caption>{escape(options['data'][data[0]])}; {network}</caption><thead><tr>"
        heads = (
            "wrong labels",
            "old network",
            "training ends",
            "to spend",
            *(f"{words} new" for words in shares.values()),
        )
        yield "".join(f'<th scope="col">{head}</th>' for head in heads) + "</tr></thead><tbody>"
        for answers, cells in groupby(group, key=row):
            there = {share: each for each in cells for share in each.case.when["new"]}
            said = (escape(options[key][a]) for key, a in zip(ROWS[2:], answers[2:]))
            yield "<tr>" + "".join(f"<td>{words}</td>" for words in said)
            for share in shares:
                one = there.get(share)
                yield cell(one, page_of(one.case, pages) if one else "")
            yield "</tr>"
        yield "</tbody></table>"


@lru_cache(maxsize=2)
def answered() -> list[Recommendation]:
    """All cases whose results are there."""
    load = lru_cache(maxsize=None)(stored)
    found = (advice.answered(case, load) for case in advice.cases_met())
    return [each for each in found if each]


def as_html(found: Sequence[Recommendation], pages: frozenset[str]) -> str:
    """The questions, the card, and the table."""
    inlined = json.dumps(content(found, pages), separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div class="which-start" id="which-start"><script type="application/json">{inlined}</script>'
        f"{''.join(form())}{card()}<noscript><p>{WITHOUT_SCRIPTS}</p></noscript>"
        '<details class="ws-all" open><summary>All cases as a table</summary>'
        '<div tabindex="0" role="region" aria-label="All cases">'
        f"{''.join(table(found, pages))}</div></details></div>"
    )


def names_of_pages(root: Path) -> frozenset[str]:
    """The pages of the book."""
    return frozenset(path.stem for path in (*root.glob("book/*.ipynb"), *root.glob("book/*.md")))


class WhichStart(SphinxDirective):
    """The questions and the table."""

    def run(self) -> list[nodes.Node]:
        found = answered()
        for path in (__file__, *(Path(advice.__file__).parent.glob("*.py"))):
            self.env.note_dependency(str(path))
        for each in found:
            self.env.note_dependency(str(find(f"results/{each.case.result}.json")))
        html = as_html(found, names_of_pages(Path(self.env.srcdir)))
        return [nodes.raw("", html, format="html", which_start=True)]


def load_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load script and style on the pages that need them, and on no other."""
    if doctree and any(node.get("which_start") for node in doctree.findall(nodes.raw)):
        app.add_css_file("which-start.css")
        app.add_js_file("which-start.js", loading_method="defer")


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("which-start", WhichStart)
    app.connect("html-page-context", load_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
