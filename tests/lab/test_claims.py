"""The scorecard's parts: what sources claim, how a finding is judged, how findings are collected."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from helpers import ROOT
from wsp.lab.claims import GLUED, SOURCE_CLAIMS, Finding, collect, count, finding
from wsp.lab.results import load_json
from wsp.lab.statistics import Interval


def judged(low: float, high: float, claimed: float | str, unit: str = "points") -> tuple[str, str]:
    middle = (low + high) / 2
    found = finding("mlp_gap", "here", Interval(middle, low, high), claimed, "fig", unit)
    return found.direction, found.verdict


@pytest.mark.parametrize(
    "low, high, claimed, direction, said",
    [
        (1.0, 3.0, 2.0, "as claimed", "above, as claimed"),
        (1.0, 3.0, 7.5, "as claimed", "above, smaller"),
        (1.0, 3.0, "above", "as claimed", "above"),
        (0.1, 0.4, "above", "as claimed", "above, small"),
        (-3.0, -1.0, "above", "against", "below"),
        (-3.0, -1.0, 7.5, "against", "below"),
        (-0.4, 0.4, 2.0, "open", "not told apart, small"),
        (-1.0, 1.0, 2.0, "open", "not told apart, too wide to say"),
        (-0.4, 0.4, "no worse", "as claimed", "not told apart, small"),
        (0.1, 0.4, "no worse", "exceeded", "above, small"),
        (0.6, 1.4, "no worse", "exceeded", "above"),
        (-0.4, -0.1, "no worse", "against", "below, small"),
        (-1.0, 1.0, "no worse", "open", "not told apart, too wide to say"),
    ],
)
def test_verdicts(low: float, high: float, claimed: float | str, direction: str, said: str) -> None:
    assert judged(low, high, claimed) == (direction, said)


@pytest.mark.parametrize(
    "low, high, direction, said",
    [
        (0.1, 0.3, "as claimed", "above"),
        (-0.3, -0.1, "against", "below"),
        (-0.1, 0.1, "open", "not told apart, too wide to say"),
    ],
)
def test_another_unit_knows_no_half_a_point(low: float, high: float, direction: str, said: str) -> None:
    assert judged(low, high, "above", "epochs") == (direction, said)


def test_only_two_words_stand_for_a_gap() -> None:
    with pytest.raises(ValueError, match="claimed must be a gap in points, 'above' or 'no worse'"):
        judged(0, 1, "better")


def test_settings_are_counted() -> None:
    intervals = [(1.0, 3.0), (1.0, 1.2), (-3.0, -1.0), (-0.1, 0.1)]
    found = [finding("mlp_gap", "here", Interval((a + b) / 2, a, b), 2.0, "fig") for a, b in intervals]
    assert count(found) == "2 of 4 settings in direction, 1 in size, 1 against"


def test_an_unknown_claim_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown claim 'sideways': choose from cold_over_warm"):
        Finding("sideways", "", "", "", "", "")


def notebook(text: str) -> dict[str, Any]:
    """A chapter with one glued text."""
    output = {
        "data": {"application/papermill.record/text/plain": text},
        "metadata": {"scrapbook": {"name": GLUED}},
        "output_type": "display_data",
    }
    return {"cells": [{"cell_type": "code", "outputs": [output]}, {"cell_type": "markdown"}]}


def test_findings_are_collected_by_chapter(tmp_path: Path) -> None:
    one = finding("mlp_gap", "digits", Interval(1.0, 0.6, 1.4), "above", "fig-one")
    said = repr(json.dumps([asdict(one)]))
    (tmp_path / "10_images.ipynb").write_text(json.dumps(notebook(said)))
    (tmp_path / "evidence_10.ipynb").write_text(json.dumps(notebook(said)))
    (tmp_path / "scorecard.ipynb").write_text(json.dumps(notebook("not a chapter")))
    assert collect(tmp_path) == {"10_images": [one], "evidence_10": [one]}


def test_the_first_edition_judged_only_claims_that_are_known() -> None:
    found = load_json(ROOT / "data" / "first_edition.json")["findings"]
    assert {each["claim"] for chapter in found.values() for each in chapter} <= set(SOURCE_CLAIMS)
    assert all(chapter in found for chapter in ("06_luck", "12_rivals"))


def test_damaged_findings_are_named(tmp_path: Path) -> None:
    (tmp_path / "10_images.ipynb").write_text(json.dumps(notebook("no repr")))
    with pytest.raises(ValueError, match=r"10_images\.ipynb: its findings cannot be read"):
        collect(tmp_path)


def test_every_finding_of_the_book_names_a_figure_or_section_of_its_page() -> None:
    found = collect(ROOT / "book")
    assert found
    for chapter, findings in found.items():
        cells = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text())["cells"]
        names = {cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") for cell in cells}
        story = "\n".join("".join(cell["source"]) for cell in cells)
        names |= set(re.findall(r"^\(([\w-]+)\)=", story, re.M))
        for each in findings:
            assert each.figure in names, (chapter, each)


def test_every_claim_says_where_it_stands() -> None:
    for key, claim in SOURCE_CLAIMS.items():
        assert claim.words and claim.where and claim.source in ("the article", "the paper"), key
