"""Numbers as people write them, in the text and in the figures of a chapter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from numbers import Integral, Real
from typing import Any

from wsp.lab.claims import SOURCE_CLAIMS, Finding, count
from wsp.lab.statistics import Interval

NO_BREAK = "\u00a0"


def typeset(text: str) -> str:
    """Set numbers as printers do: a true minus, no minus before a zero, intervals in one piece.

    Text for people only: what prints in columns, and what a program reads, stays as it is.

    Examples
    --------
    >>> typeset("-0.56 points (-0.90 to -0.21)").replace(NO_BREAK, "_")
    '−0.56_points (−0.90_to_−0.21)'
    >>> typeset("-0.00, shrink-and-perturb, 2-3")
    '0.00, shrink-and-perturb, 2-3'
    """
    text = re.sub(r"(?<![\w.])[-−](?=0(?:\.0+)?(?![\d.]))", "", text)
    text = re.sub(r"(?<![\w.])-(?=\.?\d)", "−", text)
    text = re.sub(r"(?<=\d) (?=points?\b|%)", NO_BREAK, text)
    return re.sub(
        r"\([^()]* to [^()]*\)", lambda interval: re.sub(r" (?=to\b)|(?<=to) ", NO_BREAK, interval[0]), text
    )


def in_words(found: Interval, spec: str = "+.2f", unit: str = "points", level: str = "") -> str:
    """An interval for running text, in one place for the whole book.

    Parameters
    ----------
    found : Interval
    spec : str
        Format of its three figures. Default two decimals and a sign.
    unit : str
        What follows the estimate. Default "points"; "" for nothing.
    level : str
        What opens the bracket, such as "95 % interval". Default nothing.

    Examples
    --------
    >>> in_words(Interval(-0.562, -0.9, -0.21)).replace(NO_BREAK, " ")
    '−0.56 points (−0.90 to −0.21)'
    >>> in_words(Interval(2.31, 1.96, 2.6), ".1f", level="95 % interval").replace(NO_BREAK, " ")
    '2.3 points (95 % interval 2.0 to 2.6)'
    """
    estimate, _, bracket = format(found, spec).partition(" (")
    opening = f"{level} " if level else ""
    return typeset(f"{estimate}{unit and ' '}{unit} ({opening}{bracket}")


def relation(difference: Interval, level_with: str = "level with") -> str:
    """Whether a difference is "above", "below" or `level_with` zero, by its interval.

    Examples
    --------
    >>> relation(Interval(0.4, 0.1, 0.7)), relation(Interval(0.4, -0.1, 0.9))
    ('above', 'level with')
    """
    return "above" if difference.low > 0 else "below" if difference.high < 0 else level_with


class _AsWritten(str):
    """Text whose repr shows its spaces that do not break; glue stores the repr."""

    def __repr__(self) -> str:
        return f"'{self}'"


def glue(
    values: Mapping[str, Any] | None = None,
    /,
    *,
    spec: str = "+.2f",
    unit: str = "points",
    level: str = "",
    **more: Any,
) -> None:
    """Keep results for the text of a chapter, where ``{glue:text}`` shows them by their name.

    Parameters
    ----------
    values : mapping, optional
        Name -> number, text or Interval; `more` the same by keywords. Text is set as printers do
        (see `typeset`); an interval is kept as text (see `in_words`); a number with all its digits,
        and the chapter's text says how to round it.
    spec, unit, level : str
        How intervals are written: see `in_words`.

    Raises
    ------
    TypeError
        For anything else, before anything is kept.
    """
    from myst_nb import glue as keep  # only chapters need it, and only they have it

    kept: dict[str, Any] = {}
    for name, value in {**(values or {}), **more}.items():
        if isinstance(value, Interval):
            kept[name] = _AsWritten(in_words(value, spec, unit, level))
        elif isinstance(value, str):
            text = typeset(value)
            kept[name] = text if text.isprintable() else _AsWritten(text)
        elif isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"glue: {name} is a {type(value).__name__}; expected a number, text or Interval")
        else:
            kept[name] = int(value) if isinstance(value, Integral) else float(value)
    for name, value in kept.items():
        keep(name, value, display=False)


class Markup(str):
    """Text of a table that is HTML already."""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]] | Mapping[str, Iterable[Sequence[Any]]]
) -> Any:
    """A table as HTML. What is not `Markup` is escaped; an interval is set as printers do.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns.
    rows : iterable of sequences, or mapping
        The rows; a mapping gives them in groups, each below its name.
    """
    from IPython.display import HTML  # only where a table is shown

    def one(row: Sequence[Any]) -> str:
        words = (in_words(each, unit="") if isinstance(each, Interval) else each for each in row)
        cells = (each if isinstance(each, Markup) else escape(str(each)) for each in words)
        return "<tr>" + "".join(f"<td>{each}</td>" for each in cells) + "</tr>"

    def group(name: str, inside: Iterable[Sequence[Any]]) -> str:
        title = f'<tr><th colspan="{len(columns)}" scope="rowgroup">{escape(name)}</th></tr>'
        return f"<tbody>{title}{''.join(map(one, inside))}</tbody>"

    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in columns)
    body = [group(*item) for item in rows.items()] if isinstance(rows, Mapping) else map(one, rows)
    shown = f'<table class="dataframe"><thead><tr>{head}</tr></thead>{"".join(body)}</table>'
    return HTML(shown)  # type: ignore[no-untyped-call]


def rules(docstring: str | None) -> Any:
    """The rules of a study as its docstring has them, from the line that begins with "Rules" on, as HTML.

    Parameters
    ----------
    docstring : str
        Of a module of ``wsp.studies``. Its rules are a list of dashes.

    Raises
    ------
    ValueError
        If it has no rules.

    Examples
    --------
    >>> words = "A study.\\n\\nRules, set before:\\n\\n- Ask ``one`` thing\\n  *first*.\\n- Then stop.\\n"
    >>> print(rules(words).data.replace("><", ">\\n<"))
    <blockquote>
    <p>Rules, set before:</p>
    <ul>
    <li>Ask <code>one</code> thing <em>first</em>.</li>
    <li>Then stop.</li>
    </ul>
    </blockquote>
    """
    from IPython.display import HTML  # only where a table is shown

    found = re.search(r"^(Rules\b.*?):\n\n(- .*)", inspect.cleandoc(docstring or ""), re.M | re.S)
    if not found:
        raise ValueError("the docstring has no rules; expected a line 'Rules ...:' and a list below it")
    words = [escape(" ".join(part.split()), quote=False) for part in (found[1], *found[2][2:].split("\n- "))]
    for markup, tag in (
        (r":\w+:`~?([^`]+)`", "code"),
        (r"``([^`]+)``", "code"),
        (r"\*([^*\s][^*]*)\*", "em"),
    ):
        words = [re.sub(markup, rf"<{tag}>\1</{tag}>", each) for each in words]
    items = "".join(f"<li>{item}</li>" for item in words[1:])
    return HTML(f"<blockquote><p>{words[0]}:</p><ul>{items}</ul></blockquote>")  # type: ignore[no-untyped-call]


DATA = ("employees", "digits", "CIFAR-10")  # with one of these a finding's setting begins


def strips(found: Mapping[str, Sequence[tuple[str, Finding]]], page: str = "{}.html") -> Any:
    """Every claim with a strip of dots, one a setting; press a claim and its settings unfold.

    A dot is filled where the direction is the claimed one, crossed where it is the opposite, hollow where
    it is open; it is large where the size is the claimed one, too. Radio buttons leave one data set.

    Parameters
    ----------
    found : mapping
        Key of ``SOURCE_CLAIMS`` -> (page without its ending, finding) of all settings.
    page : str
        Address of a page, by its name.
    """
    from IPython.display import HTML  # only where it is shown

    def dot(name: str, each: Finding) -> str:
        kind = each.direction.replace(" ", "-") + (" sized" if each.verdict.endswith("as claimed") else "")
        words = escape(typeset(f"{each.setting}: {each.interval}; {each.verdict}; {each.direction}"))
        data = next((data for data in DATA if each.setting.startswith(data)), "other")
        place, said = f"{page.format(name)}#{each.figure}", f'title="{words}" aria-label="{words}"'
        return f'<a class="dot {kind}" data-data="{data}" href="{place}" {said}></a>'

    def row(name: str, each: Finding) -> str:
        data = next((data for data in DATA if each.setting.startswith(data)), "other")
        cells = (each.setting, typeset(each.interval), each.verdict, each.direction)
        place = f'<a href="{page.format(name)}#{each.figure}">evidence</a>'
        return (
            f'<tr data-data="{data}">'
            + "".join(f"<td>{escape(c)}</td>" for c in cells)
            + f"<td>{place}</td></tr>"
        )

    def claim(key: str) -> str:
        source, rows = SOURCE_CLAIMS[key], found.get(key, [])
        head = (
            f'<span class="claim">{escape(source.words)}</span> '
            f'<span class="source">{escape(source.source)}, {escape(source.where)}</span> '
            f'<span class="count">{escape(count([each for _, each in rows]))}</span>'
        )
        if not rows:
            return f'<div class="claimed">{head}</div>'
        columns = "".join(
            f'<th scope="col">{c}</th>' for c in ("setting", "found", "sign, size", "direction", "shown in")
        )
        table = f'<table class="dataframe"><thead><tr>{columns}</tr></thead><tbody>'
        table += "".join(row(*each) for each in rows) + "</tbody></table>"
        dots = "".join(dot(*each) for each in rows)
        return (
            f'<div class="claimed">{head}<span class="dots">{dots}</span>'
            f"<details><summary>{len(rows)} settings</summary>{table}</details></div>"
        )

    choices = "".join(
        f'<label><input type="radio" name="data" value="{value}"{checked}> {value}</label>'
        for value, checked in zip(("all", *DATA), (" checked", "", "", ""))
    )
    body = f'<fieldset class="filter"><legend>Show settings on</legend>{choices}</fieldset>'
    return HTML(f'<div class="scorecard">{body}{"".join(map(claim, SOURCE_CLAIMS))}</div>')  # type: ignore[no-untyped-call]
