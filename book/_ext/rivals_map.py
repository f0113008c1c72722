"""The directive ``{rivals-map}``: what every rival gains and what it costs, one contest a tab (chapter 12).

::

    :::{rivals-map}
    :still: fig-contest
    What stands here is the caption.
    :::

With ``still`` a figure of the page is the still: it is hidden where this one runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from docutils.parsers.rst import directives
from matplotlib import pyplot as plt
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

import live
from wsp.lab import figures
from wsp.lab.report import in_words
from wsp.lab.rivals import methods
from wsp.lab.rivals.methods import METHODS
from wsp.lab.statistics import Interval
from wsp.studies import contest

#: The contests: a tab's name -> the stored result.
STORED = {
    "clean labels": "rivals_digits_wrong_0.0",
    "1 in 5 labels wrong": f"rivals_digits_wrong_{contest.WRONG}",
    "CIFAR-10": "rivals_cifar10_wrong_0.0",
}
BASE = "warm"
ALWAYS = ("cold", "warm", "shrink_perturb", "l2_init", "layer_norm", "warm_stopped")  # labeled from the start
Result = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Point:
    """One method: what it costs, in percent of a cold start's images, and gains over a warm start."""

    key: str
    name: str
    cost: float
    gain: Interval
    stopped: bool


def points_of(found: Mapping[str, Any]) -> list[Point]:
    """All methods of a stored contest."""
    accuracy, cost = contest.averages(found, "accuracy"), contest.averages(found, "cost")
    gains = contest.against(accuracy, BASE)
    return [
        Point(
            key,
            method.name,
            100 * float(cost[key].sum() / cost["cold"].sum()),
            gains.get(key, Interval(0.0, 0.0, 0.0)),
            "stopped" in key,
        )
        for key, method in METHODS.items()
        if key in accuracy
    ]


def all_points(result: Result) -> dict[str, list[Point]]:
    """The points of every contest, with the intervals that the book quotes."""
    found = {name: result(file) for name, file in STORED.items()}
    of_study = getattr(contest, "scatter", None)
    if of_study is None:
        return {name: points_of(each) for name, each in found.items()}
    return {
        name: [Point(p.key, p.name, p.cost.estimate, p.gain, p.stopped) for p in listed]
        for name, listed in of_study().items()
    }


def arm_of(key: str) -> str:
    """Whose color a method wears.

    Examples
    --------
    >>> arm_of("warm_stopped"), arm_of("official"), arm_of("dash")
    ('warm', 'shrink-perturb', 'part')
    """
    for arm in ("cold", "warm", "shrink_perturb"):
        if key.startswith(arm):
            return arm.replace("_", "-")
    return "shrink-perturb" if key == "official" else "part"


def content_of(contests: Mapping[str, Sequence[Point]]) -> dict[str, Any]:
    """Everything the script has to know."""
    better = [
        f"{sum(point.gain.low > 0 for point in listed)} of {len(listed) - 1} ({name})"
        for name, listed in contests.items()
    ]
    return {
        "title": f"Above a warm start: {', '.join(better)}",
        "tabs": [
            {
                "words": name,
                "points": [
                    {
                        "key": point.key,
                        "words": point.name,
                        "mark": arm_of(point.key),
                        "cost": round(point.cost, 1),
                        "gain": live.three(point.gain),
                        "stopped": point.stopped,
                    }
                    for point in listed
                ],
            }
            for name, listed in contests.items()
        ],
        "always": list(ALWAYS),
    }


class RivalsMap(live.Live):
    kind = "rivals-map"
    uses: ClassVar[Sequence[ModuleType]] = (contest, methods)
    option_spec: ClassVar[dict[str, Any]] = live.Live.option_spec | {"still": directives.unchanged}

    def content_of(self) -> dict[str, Any]:
        return content_of(all_points(self.result)) | {"still": self.options.get("still", "")}

    def still(self, content: Mapping[str, Any]) -> str:
        """A forest for every contest, unless the page has one."""
        if content["still"]:
            return ""
        figures.use_style()
        fig, axes = plt.subplots(1, len(content["tabs"]), figsize=(9, 4.6), sharey=True)
        for ax, tab in zip(axes, content["tabs"]):
            figures.forest(ax, {point["words"]: Interval(*point["gain"]) for point in tab["points"]})
            figures.zero_line(ax)
            ax.set(title=tab["words"], xlabel="points over warm")
        return live.drawn(
            fig,
            "A panel for each contest with an interval for each method: points over a warm start. Few "
            "methods are above zero where labels are clean, more where some are wrong.",
        )

    def numbers(self, content: Mapping[str, Any]) -> str:
        return live.table(
            "Accuracy minus that of a warm start in points (95 % intervals that hold at once in a contest), "
            "and training images seen, in percent of a cold start's (a ratio of sums)",
            ["method", "contest", "minus warm", "cost, %"],
            [
                [
                    point["words"], tab["words"],
                    in_words(Interval(*point["gain"]), unit="") if point["key"] != BASE else "0",
                    f"{point['cost']:.0f}",
                ]
                for tab in content["tabs"]
                for point in tab["points"]
            ],
        )  # fmt: skip


def setup(app: Sphinx) -> ExtensionMetadata:
    app.setup_extension("live")
    app.add_directive("rivals-map", RivalsMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
