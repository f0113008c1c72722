"""The directive ``{goes-wrong}``: how a warm start goes wrong, to be dragged (chapter 4).

::

    :::{goes-wrong}
    What stands here is the caption.
    :::

Above, what the networks of the book's table predict, cold and warm, and where they disagree
(``frames``); below, warm minus cold over fresh tables (``head_start``). One handle is how long the
first network was trained, the other how long both have trained since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from matplotlib import pyplot as plt
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

import live
from wsp.lab import employees, figures
from wsp.lab.report import in_words
from wsp.lab.retraining import OLD_ROWS
from wsp.lab.statistics import SMALL, Interval
from wsp.studies import head_start
from wsp.studies.head_start import COLD

FRAMES = ("maps", "correct", "apart")


def longest_flat(leads: Mapping[tuple[int, int], Interval], last: int) -> int:
    """The longest first training up to which warm is, at the last reading, within half a point of cold.

    Examples
    --------
    >>> small, large = Interval(-0.1, -0.3, 0.1), Interval(-2.0, -2.3, -1.7)
    >>> longest_flat({(10, 500): small, (100, 500): small, (1000, 500): large}, last=500)
    100
    """
    flat = 0
    for first in sorted(first for first, epoch in leads if epoch == last):
        if not -SMALL < leads[first, last].low <= leads[first, last].high < SMALL:
            break
        flat = first
    return flat


def people(spec: Mapping[str, Any]) -> list[list[int]]:
    """The training rows of the map's branch: age, income in hundreds, job, whether new."""
    rows = employees.read(employees.find("employees_train.csv"))
    here = rows[rows["branch"] == spec["branch"]]
    return [
        [int(row.age), int(row.income) // 100, employees.JOBS.index(row.job), int(place >= OLD_ROWS)]
        for place, row in zip(here.index, here.itertuples())
    ]


def content_of(found: Mapping[str, Any], frames: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the script has to know, of a result of ``head_start`` and one of ``frames``.

    Raises
    ------
    ValueError
        If the two do not tell of the same epochs.
    """
    spec, drawn = found["specification"], frames["specification"]
    for name in ("first_epochs", "read_at"):
        if spec[name] != drawn[name]:
            raise ValueError(f"head_start has {name} {spec[name]}, and frames {drawn[name]}")
    leads, accuracy = head_start.leads(found), head_start.accuracies(found)
    first, last = spec["first_epochs"], spec["read_at"][-1]
    starts = [str(epochs) for epochs in first]
    flat, end = longest_flat(leads, last), leads[first[-1], last]
    rows = {start: place for place, start in enumerate(frames["starts"])}

    def means(start: str) -> list[float]:
        return [round(float(value), 2) for value in accuracy[start].mean(axis=0)]

    return {
        "title": f"Up to {flat} epochs of first training the head start is free. After {first[-1]} it costs "
        f"{-end.estimate:.1f} points",
        "first": first,
        "readAt": spec["read_at"],
        "leads": [[live.three(leads[epochs, epoch]) for epoch in spec["read_at"]] for epochs in first],
        "cold": means(COLD),
        "warm": [means(start) for start in starts],
        "tables": len(found["tables"]),
        "seeds": spec["seeds"],
        "small": SMALL,
        "ages": drawn["ages"],
        "incomes": [value // 1000 for value in drawn["incomes"]],
        "grid": drawn["grid"],
        "branch": drawn["branch"],
        "sex": {"F": "women", "M": "men"}[drawn["sex"]],
        "people": drawn["people"],
        "jobs": employees.JOBS,
        "testRows": employees.TEST_ROWS,
        "rows": people(drawn),
        **{what: [frames[what][rows[start]] for start in (COLD, *starts)] for what in FRAMES},
    }


def columns_of(content: Mapping[str, Any]) -> list[list[str]]:
    """Warm minus cold: a row for every first training, its readings across."""
    return [
        [f"{first}", *(in_words(Interval(*lead), unit="") for lead in leads)]
        for first, leads in zip(content["first"], content["leads"])
    ]


class GoesWrong(live.Live):
    kind = "goes-wrong"
    uses: ClassVar[Sequence[ModuleType]] = (head_start,)

    def content_of(self) -> dict[str, Any]:
        try:
            return content_of(self.result("head_start"), self.result("frames"))
        except ValueError as error:
            raise self.error(f"goes-wrong: {error}") from None

    def still(self, content: Mapping[str, Any]) -> str:
        """At the last reading, and after the longest first training."""
        figures.use_style()
        fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=False)
        color, stops = figures.COLORS["warm"], np.array(content["leads"])
        for ax, values, names, what in (
            (axes[0], stops[:, -1], content["first"], "epochs of the first training"),
            (axes[1], stops[-1, 3:], content["readAt"][3:], "epochs of the second training"),
        ):
            places = range(len(names))
            ax.plot(places, values[:, 0], color=color)
            ax.vlines(places, values[:, 1], values[:, 2], color=color)
            ax.axhline(0, color="black", lw=0.8)
            ax.set_xticks(places, names)
            ax.set(xlabel=what, ylabel="warm minus cold, points")
        axes[0].set_title(f"after {content['readAt'][-1]} epochs on all rows")
        axes[1].set_title(f"first training: {content['first'][-1]} epochs")
        return live.drawn(
            fig,
            "Left: warm minus cold at the end against the epochs of the first training; level at first, "
            "then falling. Right: the same after the longest first training against the epochs since; warm "
            "leads at first and ends below cold.",
        )

    def numbers(self, content: Mapping[str, Any]) -> str:
        return live.table(
            f"Warm minus cold in points, mean over {content['tables']} tables (95 % intervals that hold for "
            "all at once), by epochs of the first training, down, and of the second, across",
            ["first training", *map(str, content["readAt"])],
            columns_of(content),
        )


def setup(app: Sphinx) -> ExtensionMetadata:
    app.setup_extension("live")
    app.add_directive("goes-wrong", GoesWrong)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
