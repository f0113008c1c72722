"""Numbers are written as people write them, and kept for the text of a chapter."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup

from wsp.lab import report
from wsp.lab.claims import SOURCE_CLAIMS, finding
from wsp.lab.report import NO_BREAK
from wsp.lab.statistics import Interval


@pytest.mark.parametrize(
    "typed, printed",
    [
        ("-0.56", "−0.56"),
        ("-0.00 points", "0.00_points"),
        ("-0", "0"),
        ("-0.01", "−0.01"),
        ("(-1.0 to -0.0)", "(−1.0_to_0.0)"),
        ("-.5", "−.5"),
        ("0.5-0.7, 2021-02-01, x-1, shrink-and-perturb", "0.5-0.7, 2021-02-01, x-1, shrink-and-perturb"),
        ("1e-08", "1e-08"),
        ("77.5 %", "77.5_%"),
        ("from 1 to 2 points", "from 1 to 2_points"),  # no interval: may break
        ("(95 % interval 2.0 to 2.6)", "(95_% interval 2.0_to_2.6)"),
    ],
)
def test_typeset(typed: str, printed: str) -> None:
    assert report.typeset(typed) == printed.replace("_", NO_BREAK)
    assert report.typeset(printed.replace("_", NO_BREAK)) == printed.replace("_", NO_BREAK)  # once is enough


def test_an_interval_is_one_format() -> None:
    found = Interval(-0.004, -0.02, 0.011)
    assert f"{found}" == str(found) == "+0.00 (-0.02 to +0.01)", "what rounds to zero has no minus"
    assert f"{found:.1f}" == "0.0 (0.0 to 0.0)"
    assert f"{Interval(1234.5, -2, 3e3):,.0f}" == "1,234 (-2 to 3,000)"
    assert f"{Interval(0.5, 0.25, 0.75):.0%}" == "50% (25% to 75%)"
    with pytest.raises(ValueError):
        format(found, "x")


def test_in_words() -> None:
    found = Interval(-0.56, -0.9, -0.21)
    assert report.in_words(found) == "−0.56_points (−0.90_to_−0.21)".replace("_", NO_BREAK)
    assert report.in_words(found, ".0f", unit="") == "−1 (−1_to_0)".replace("_", NO_BREAK)
    assert report.in_words(found, "+.1f", "nats", "95 % interval") == (
        "−0.6 nats (95_% interval −0.9_to_−0.2)".replace("_", NO_BREAK)
    )


def test_relation() -> None:
    assert report.relation(Interval(1, 0.1, 2)) == "above"
    assert report.relation(Interval(-1, -2, -0.1)) == "below"
    assert report.relation(Interval(0.1, 0.0, 1), "as good as") == "as good as"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What has been glued, by a stand-in for MyST-NB."""
    found: dict[str, Any] = {}
    stand_in = ModuleType("myst_nb")
    stand_in.glue = lambda name, value, display: found.update({name: (value, display)})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "myst_nb", stand_in)
    return found


def test_glue(kept: dict[str, Any]) -> None:
    report.glue(
        {"cold_minus_warm": Interval(1.0, 0.5, 1.5)}, n=np.int64(3), share=np.float64(0.25), who="it's"
    )
    values = {name: value for name, (value, _) in kept.items()}
    assert values == {
        "cold_minus_warm": "+1.00 points (+0.50 to +1.50)".replace(" ", NO_BREAK, 1).replace(
            " to ", f"{NO_BREAK}to{NO_BREAK}"
        ),
        "n": 3,
        "share": 0.25,
        "who": "it's",
    }
    assert [type(value) for value in (values["n"], values["share"])] == [int, float]
    assert not any(display for _, display in kept.values())
    assert NO_BREAK in repr(values["cold_minus_warm"]), "glue stores the repr, which must not be escaped"
    report.glue(spec=".0f", unit="%", level="about", gap=Interval(10.2, 4.9, 15.3))
    assert kept["gap"][0] == "10_% (about 5_to_15)".replace("_", NO_BREAK)


@pytest.mark.parametrize("value", [None, True, [1], math.nan + 1j])
def test_glue_refuses_before_anything_is_kept(value: object, kept: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"bad is a .*; expected a number, text or Interval"):
        report.glue(good=1, bad=value)
    assert kept == {}


def test_a_chapter_shows_what_was_glued() -> None:
    """The role strips the quotes from what a real notebook stores."""
    from IPython.core.formatters import format_display_data

    data, _ = format_display_data(report._AsWritten("a\u00a0b"))
    assert data["text/plain"] == "'a\u00a0b'"


def test_table() -> None:
    html = report.table(["a<b", "c"], [("<i>", report.Markup("<b>x</b>"))]).data
    assert html == (
        '<table class="dataframe"><thead><tr><th scope="col">a&lt;b</th><th scope="col">c</th></tr></thead>'
        "<tr><td>&lt;i&gt;</td><td><b>x</b></td></tr></table>"
    )
    groups = report.table(["a", "b"], {"one & two": [(1, 2)], "rest": []}).data
    assert '<tbody><tr><th colspan="2" scope="rowgroup">one &amp; two</th></tr><tr><td>1' in groups
    assert groups.count("<tbody>") == 2


def test_the_scorecard_has_a_dot_for_every_setting() -> None:
    settings = {"employees, stopped": (1.0, 3.0), "digits, equal": (-3.0, -1.0), "CIFAR-10": (-0.4, 0.4)}
    found = [
        ("evidence_06", finding("mlp_gap", where, Interval((low + high) / 2, low, high), 2.5, "fig-one"))
        for where, (low, high) in settings.items()
    ]
    page = BeautifulSoup(report.strips({"mlp_gap": found}).data, "html.parser")
    dots = page.select(".dot")
    kinds = [(dot["data-data"], *dot["class"][1:]) for dot in dots]
    assert kinds == [("employees", "as-claimed", "sized"), ("digits", "against"), ("CIFAR-10", "open")]
    assert {dot["href"] for dot in dots} == {"evidence_06.html#fig-one"}
    assert all("points" in dot["aria-label"] for dot in dots)
    assert [row.td.get_text() for row in page.select("tbody tr")] == list(settings)  # type: ignore[union-attr]
    claims = page.select(".claimed")
    assert len(claims) == len(SOURCE_CLAIMS)
    assert sum("not tested" in claim.get_text() for claim in claims) == len(SOURCE_CLAIMS) - 1
    assert "1 of 3 settings in direction, 1 in size, 1 against" in page.get_text()
