"""The page that asks eight questions, as a reader uses it; and its code, run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bs4 import BeautifulSoup
from torch import nn

import which_start
from helpers import ROOT
from wsp.studies import advice
from wsp.studies.advice import QUESTIONS, all_answers, cases_met

STATIC = ROOT / "book" / "_static"
NAME = "which-start"
CONF = """
import sys
sys.path[:0] = [{root!r}, {extensions!r}]
project = "Start"
extensions = ["myst_parser", "which_start"]
html_theme = "basic"
html_static_path = ["_static"]
html_css_files = ["warm-starts.css"]
suppress_warnings = ["toc.not_included"]
"""
PAGES = {
    "index": "# Start\n\n```{which-start}\n```\n",
    "without": "---\norphan: true\n---\n\n# Without\n\nNothing.\n",
}
NAMES = frozenset({"13_x", "06_x", "10_x", "11_x", "12_x", "evidence_06"})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small site with the questions."""
    source = tmp_path_factory.mktemp("start")
    (source / "_static").mkdir()
    (source / "book").mkdir()
    for name in NAMES:
        (source / "book" / f"{name}.md").write_text(f"---\norphan: true\n---\n\n# {name}\n")
    for name in (f"{NAME}.js", f"{NAME}.css", "warm-starts.css"):
        shutil.copy(STATIC / name, source / "_static")
    (source / "conf.py").write_text(CONF.format(root=str(ROOT), extensions=str(ROOT / "book" / "_ext")))
    for name, text in PAGES.items():
        (source / f"{name}.md").write_text(text)
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", str(source), str(source / "html")],
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0 and not build.stderr, build.stderr
    return source / "html"


@pytest.fixture(scope="module")
def cases(built: Path) -> dict[str, Any]:
    page = BeautifulSoup((built / "index.html").read_text(), "html.parser")
    return dict(json.loads(page.select_one(".which-start script").string))


# The page as it is built -----------------------------------------------------------------


def test_loaded_where_needed_and_small(built: Path) -> None:
    assert f"{NAME}.js" in (built / "index.html").read_text()
    assert f"{NAME}.js" not in (built / "without.html").read_text()
    assert (STATIC / f"{NAME}.js").stat().st_size < 8_000
    assert len((built / "index.html").read_bytes()) < 200_000


def test_without_scripts_the_table_has_every_answer(built: Path, cases: dict[str, Any]) -> None:
    page = BeautifulSoup((built / "index.html").read_text(), "html.parser")
    box = page.select_one(".which-start")
    assert box.form.has_attr("hidden") and box.select_one(".ws-card").has_attr("hidden")
    assert box.details.has_attr("open") and "no JavaScript" in box.noscript.text
    said = [link.text for link in box.select("td a")]
    shares = sum(len(each["when"][4]) for each in cases["cases"])
    assert len(said) == shares
    heads = {len(row.find_all("th")) for row in box.select("thead tr")}
    assert heads == {8} and {len(row.find_all("td")) for row in box.select("tbody tr")} == {8}
    for link in box.select("td a"):
        assert link["href"].endswith(".html")


def test_evidence_where_it_is_written_else_the_chapter() -> None:
    pages = {case.chapter: which_start.page_of(case, NAMES) for case in cases_met()}
    assert pages[6] == "evidence_06.html" and pages[13] == "13_x.html"


def test_every_card_tells_its_gain_and_where_it_was_measured(cases: dict[str, Any]) -> None:
    for card in cases["cases"]:
        assert re.search(r"\d (tables|splits)\.$", card["on"]), card["on"]
        assert "points" in card["gain"] or card["key"] == "cold"
        assert card["code"] and card["page"] and len(card["when"]) == len(QUESTIONS)


@pytest.mark.parametrize("found", which_start.answered(), ids=lambda found: found.case.result)
def test_the_code_to_paste_runs(
    found: advice.Recommendation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives the start that it says: cold is new, warm is old, the trick is between."""
    monkeypatch.chdir(tmp_path)
    tracked = found.case.when["batchnorm"] == ("yes",)

    def build() -> nn.Module:
        middle = [nn.BatchNorm1d(8)] if tracked else []
        return nn.Sequential(nn.Linear(6, 8), *middle, nn.Tanh(), nn.Linear(8, 3))

    old = build()
    torch.save(old.state_dict(), "old.pth")
    given: dict[str, Any] = {"build": build, "batches": [torch.randn(9, 6)]}
    exec(which_start.code(found), given)
    weights, start = given["model"][0].weight.detach(), found.start.key
    if start == "warm":
        assert torch.equal(weights, old[0].weight)
    elif start.startswith("shrink_perturb"):
        lamda = 0.3 if start.endswith("0.3") else 0.5
        torch.testing.assert_close(weights, lamda * old[0].weight.detach(), atol=0.06, rtol=0)
    elif start == "official":
        torch.testing.assert_close(weights, 0.4 * old[0].weight.detach(), atol=0.06, rtol=0)
    if tracked and found.start.shrinks:
        assert given["model"][1].num_batches_tracked == 1
    assert given["optimizer"].param_groups[0]["params"][0] is given["model"][0].weight


def starts_where(**answers: str) -> set[str]:
    """What is recommended wherever these answers were given."""
    return {
        found.start.key
        for found in which_start.answered()
        if all(answer in found.case.when[key] for key, answer in answers.items())
    }


def test_the_four_lines_below_the_questions() -> None:
    """The prose of the page, line by line."""
    trick = {"shrink_perturb", "shrink_perturb_0.3"}
    for old in ("short", "best"):
        assert starts_where(data="tables", spend="little", old=old) == {"warm"}
    assert starts_where(data="tables", spend="little", old="past") <= trick
    assert starts_where(data="tables", spend="plenty", stop="split", old="past") <= trick
    for new in ("10", "25", "50"):
        assert starts_where(data="tables", spend="plenty", stop="split", old="best", new=new) == {"warm"}
    assert starts_where(spend="plenty", stop="fixed", old="past") == {"cold", "fresh_shrunk_0.3"}
    assert starts_where(data="small_images", stop="fit") == {"cold"}
    assert starts_where(data="photographs", batchnorm="no") == {"cold"}
    assert starts_where(data="photographs", batchnorm="yes", new="25") == {"official"}
    assert starts_where(data="photographs", batchnorm="yes", new="50") == {"cold"}


# In a browser ----------------------------------------------------------------------------


@pytest.fixture
def page(browser: Any, built: Path) -> Any:
    context = browser.new_context(viewport={"width": 390, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((built / "index.html").as_uri())
    yield page
    assert errors == []
    context.close()


def choose(page: Any, answers: dict[str, str]) -> None:
    for key, answer in answers.items():
        page.locator(f'[name="ws-{key}"][value="{answer}"]').check()


def shown(page: Any) -> str:
    return str(page.locator(".ws-start").inner_text())


def test_every_answer_gives_what_the_rule_gives(page: Any, cases: dict[str, Any]) -> None:
    """All of them, by the script's own lookup."""
    every = list(all_answers())
    said = page.evaluate(
        "all => all.map(a => document.querySelector('.which-start').whichStart.find(a).start)", every
    )
    there = [found.case for found in which_start.answered()]
    starts = {found.case: found.start.words for found in which_start.answered()}
    for answers, start in zip(every, said, strict=True):
        case = next((case for case in there if case.covers(answers)), None)
        assert start == (starts[case] if case else which_start.NOT_MEASURED), answers


def test_a_reader_answers_and_is_answered(page: Any, cases: dict[str, Any]) -> None:
    assert shown(page) == "8 questions left"
    card = cases["cases"][0]
    answers = {question.key: card["when"][place][0] for place, question in enumerate(QUESTIONS)}
    choose(page, dict(list(answers.items())[:7]))
    assert shown(page) == "1 question left" and page.locator(".ws-code").is_hidden()
    choose(page, answers)
    assert shown(page) == card["start"]
    assert page.locator(".ws-gain").inner_text() == card["gain"]
    assert page.locator(".ws-code code").inner_text() == card["code"]
    assert page.locator(".ws-link a").get_attribute("href") == card["page"]


def test_what_was_never_measured_says_so_at_once(page: Any) -> None:
    choose(page, {"augmentation": "yes"})
    assert shown(page) == which_start.NOT_MEASURED
    assert "would be a guess" in page.locator(".ws-gain").inner_text()
    assert "Do you augment the data?" in page.locator(".ws-gain").inner_text()
    assert "choose.recommend(table)" in page.locator(".ws-code code").inner_text()
    page.locator(".ws-again button").click()
    page.wait_for_function("document.querySelector('.ws-start').textContent.startsWith('8')")


def test_answers_are_kept_in_the_address(page: Any, built: Path, cases: dict[str, Any]) -> None:
    choose(page, {"data": "tables", "labels": "few"})
    assert page.url.endswith("#data=tables&labels=few")
    card = cases["cases"][0]
    said = "&".join(f"{question.key}={card['when'][k][0]}" for k, question in enumerate(QUESTIONS))
    page.goto("about:blank")
    page.goto(f"{(built / 'index.html').as_uri()}#{said}")
    assert shown(page) == card["start"]


def test_by_keyboard(page: Any) -> None:
    """Tab goes from question to question, arrows through the answers of one."""
    page.locator('[name="ws-data"]').first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    assert page.locator('[name="ws-data"]').nth(1).is_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert page.locator('[name="ws-batchnorm"]:checked').count() == 1
    assert shown(page) == "6 questions left"


def test_it_fits_a_phone(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = page.evaluate(
        "[...document.querySelectorAll('.ws-options label')].filter(e => e.offsetHeight < 34).length"
    )
    assert small == 0
