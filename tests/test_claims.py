"""The scorecard's parts: what sources claim, how a finding is judged, how findings are collected."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from wsp.claims import GLUED, SOURCE_CLAIMS, Finding, collect, finding, overall
from wsp.statistics import Interval


def judged(low: float, high: float, claimed: float, unit: str = "points") -> str:
    middle = (low + high) / 2
    return finding("mlp_gap", "here", Interval(middle, low, high), claimed, "fig", unit).verdict


@pytest.mark.parametrize(
    "low, high, claimed, said",
    [
        (1.0, 3.0, 2.0, "reproduced"),
        (1.0, 3.0, 7.5, "direction reproduced, size not"),
        (1.0, 3.0, 1, "direction reproduced"),  # a sign: there is no size
        (0.6, 1.4, 1, "direction reproduced"),
        (-3.0, -1.0, 1, "contradicted"),
        (-3.0, -1.0, -1, "direction reproduced"),
        (-0.4, 0.4, 2.0, "no difference"),
        (-1.0, 1.0, 2.0, "cannot tell"),
        (-0.4, 0.4, 0, "reproduced: no difference"),
        (0.1, 0.4, 0, "reproduced: no difference"),
        (0.6, 1.4, 0, "contradicted"),
        (-1.4, -0.6, 0, "contradicted"),
        (-1.0, 1.0, 0, "cannot tell"),
    ],
)
def test_verdicts(low: float, high: float, claimed: float, said: str) -> None:
    assert judged(low, high, claimed) == said


@pytest.mark.parametrize(
    "low, high, said",
    [(0.1, 0.3, "direction reproduced"), (-0.3, -0.1, "contradicted"), (-0.1, 0.1, "cannot tell")],
)
def test_another_unit_knows_no_half_a_point(low: float, high: float, said: str) -> None:
    assert judged(low, high, 1, "epochs") == said


@pytest.mark.parametrize(
    "verdicts, word",
    [
        ([], "not tested"),
        (["cannot tell"], "cannot tell"),
        (["reproduced", "cannot tell"], "reproduced"),
        (["reproduced: no difference"], "reproduced"),
        (["reproduced", "direction reproduced"], "partly"),
        (["direction reproduced, size not"], "partly"),
        (["reproduced", "contradicted"], "partly"),
        (["no difference", "contradicted"], "not reproduced"),
    ],
)
def test_one_word_for_a_claim(verdicts: list[str], word: str) -> None:
    assert overall([Finding("mlp_gap", "here", "", said, "fig") for said in verdicts]) == word


def test_an_unknown_claim_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown claim 'sideways': choose from cold_over_warm"):
        Finding("sideways", "", "", "", "")


def notebook(text: str) -> dict[str, Any]:
    """A chapter with one glued text."""
    output = {
        "data": {"application/papermill.record/text/plain": text},
        "metadata": {"scrapbook": {"name": GLUED}},
        "output_type": "display_data",
    }
    return {"cells": [{"cell_type": "code", "outputs": [output]}, {"cell_type": "markdown"}]}


def test_findings_are_collected_by_chapter(tmp_path: Path) -> None:
    one = finding("mlp_gap", "digits", Interval(1.0, 0.6, 1.4), 1, "fig-one")
    said = repr(json.dumps([asdict(one)]))
    (tmp_path / "10_images.ipynb").write_text(json.dumps(notebook(said)))
    (tmp_path / "scorecard.ipynb").write_text(json.dumps(notebook("not a chapter")))
    assert collect(tmp_path) == {"10_images": [one]}


def test_damaged_findings_are_named(tmp_path: Path) -> None:
    (tmp_path / "10_images.ipynb").write_text(json.dumps(notebook("no repr")))
    with pytest.raises(ValueError, match=r"10_images\.ipynb: its findings cannot be read"):
        collect(tmp_path)


def test_every_finding_of_the_book_names_a_figure_of_its_chapter() -> None:
    found = collect(ROOT / "book")
    assert found
    for chapter, findings in found.items():
        cells = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text())["cells"]
        names = {cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") for cell in cells}
        for each in findings:
            assert each.figure in names, (chapter, each)


def test_every_claim_says_where_it_stands() -> None:
    for key, claim in SOURCE_CLAIMS.items():
        assert claim.words and claim.where and claim.source in ("the article", "the paper"), key
