"""Numbers in words rest on what a cell glued, and a reversed sentence is caught; so do self-checks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx

import told
from helpers import ROOT
from wsp.lab import comparisons
from wsp.lab.results import stored
from wsp.studies import protocols, sweep

GAP = "−2.11 points (−2.39 to −1.84)"


@pytest.mark.parametrize(
    "expected, glued, holds",
    [
        ("-2", GAP, True),
        ("2", GAP, False),
        ("-3", GAP, False),
        ("<0", GAP, True),
        (">0", GAP, False),
        ("~0", GAP, False),
        ("~0", "0.10 points (−0.20 to 0.40)", True),
        ("0.5", "0.74 points (0.42 to 1.06)", True),
        ("0.5", "−0.1 points (−0.3 to 0.1)", False),
        ("1,000", "1,000", True),
        ("1000", "1,034 rows", True),
        ("6 of 6", "6 of 6", True),
        ("6 of 6", "5 of 6", False),
        (">0", "nothing", False),
        ("1", "nothing", False),
    ],
)
def test_what_was_said_holds_or_not(expected: str, glued: str, holds: bool) -> None:
    assert (told.contradiction(expected, glued) is None) is holds


def uses(path: Path) -> list[tuple[str, str, str]]:
    """Words, name and what they rest on, of every number in words on a page."""
    return re.findall(
        r"\{told\}`([^`<]+)<([^`|>]+)\|([^`]+)>`", path.read_text(encoding="utf-8").replace("\\n", " ")
    )


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_number_in_words_rests_on_a_cell(path: Path) -> None:
    values = told.glued(path)
    for words, name, expected in uses(path):
        assert name in values, f"{words}: no cell glued {name}"
        assert told.contradiction(expected, values[name]) is None, words


def test_what_the_readme_says() -> None:
    """Its answer in two sentences, written by hand."""
    text = " ".join((ROOT / "README.md").read_text().split())
    found = stored("stopped_noise_0.05_rate_0.05")
    lead = protocols.against(found, "stopped")
    assert "ends a little above a cold start in about half of its epochs" in text
    assert 0 < lead["shrink_perturb"].low and lead["shrink_perturb"].high < 1.5
    assert 0.4 < protocols.cost(found, "shrink_perturb") < 0.6
    assert "simply going on ends about two points below" in text
    assert -2.5 < lead["warm"].low and lead["warm"].high < -1
    assert (
        "if it was stopped in time, going on is level with a cold start, and the trick gains nothing" in text
    )
    for noise, rate in sweep.SETTINGS:
        early = protocols.against(stored(f"stopped_noise_{noise}_rate_{rate}_old_stopped"), "stopped")
        assert early["warm"].low <= 0 <= early["warm"].high and early["shrink_perturb"].low <= 0
    photographs = comparisons.resnet()["one arrival"]
    assert "the trick and a cold start cannot be told apart, both are above a plain warm start" in text
    assert photographs["shrink_perturb", "cold"].low < 0 < photographs["shrink_perturb", "cold"].high
    assert photographs["cold", "warm"].low > 0 and photographs["shrink_perturb", "warm"].low > 0


def build(folder: Path, page: str) -> tuple[BeautifulSoup, str]:
    """A page of one small book, and what the build warned of."""
    source, out = folder / "source", folder / "out"
    source.mkdir()
    (source / "conf.py").write_text(
        f"import sys\nsys.path.append({str(ROOT / 'book' / '_ext')!r})\n"
        "extensions = ['myst_parser', 'told', 'quiz']\nmyst_enable_extensions = ['colon_fence']\n"
    )
    (source / "index.md").write_text(page)
    warnings = folder / "warnings.txt"
    with warnings.open("w") as stream:
        Sphinx(str(source), str(source), str(out), str(out), "html", status=None, warning=stream).build()
    return BeautifulSoup((out / "index.html").read_text(), "html.parser"), warnings.read_text()


QUIZ = """# Page

:::{quiz} Which arm is *ahead*?
- [ ] warm | It is
  behind `cold`.
- [x] cold | By two points.
:::
"""


def test_a_question_says_why(tmp_path: Path) -> None:
    page, warnings = build(tmp_path, QUIZ)
    assert not warnings
    box = page.select_one("fieldset.quiz")
    assert box and "Which arm is ahead?" in box.legend.get_text()  # type: ignore[union-attr]
    inputs = box.select("input[type=radio]")
    assert len({each["name"] for each in inputs}) == 1 and len({each["id"] for each in inputs}) == 2
    assert [each["for"] for each in box.select("label")] == [each["id"] for each in inputs]
    assert [each.get_text(" ", strip=True) for each in box.select(".why")] == [
        "Not quite. It is behind cold .",
        "Right. By two points.",
    ]


@pytest.mark.parametrize(
    "spoiled, message",
    [
        (QUIZ.replace("[x]", "[ ]"), "exactly one answer"),
        (QUIZ.replace("[ ]", "[x]"), "exactly one answer"),
        (QUIZ.replace(" | By two points.", ""), "expected lines"),
    ],
)
def test_a_bad_question_is_refused(tmp_path: Path, spoiled: str, message: str) -> None:
    assert message in build(tmp_path, spoiled)[1]


def test_words_without_a_cell_are_reported(tmp_path: Path) -> None:
    for page in ("# P\n\n{told}`about two <gap|2>`\n", "# P\n\n{told}`about two`\n"):
        folder = tmp_path / str(len(page))
        folder.mkdir()
        assert "told:" in build(folder, page)[1]
