"""The directive ``{rivals-map}``: what every rival gains and what it costs, one contest a tab (chapter 12).

::

    :::{rivals-map}
    :still: fig-contest
    What stands here is the caption.
    :::

With ``still`` a figure of the page is the still: it is hidden where this one runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
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
from wsp.lab.statistics import Interval
from wsp.studies.field import standings

ALWAYS = ("cold", "warm", "shrink_perturb", "l2_init", "fire", "dash", "warm_stopped")  # always labeled


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


def content_of(contests: Mapping[str, Sequence[standings.Point]]) -> dict[str, Any]:
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
                        "cost": round(point.cost.estimate, 1),
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
    uses: ClassVar[Sequence[ModuleType]] = (standings, methods)
    option_spec: ClassVar[dict[str, Any]] = live.Live.option_spec | {"still": directives.unchanged}

    def content_of(self) -> dict[str, Any]:
        for file in itertools.chain(*standings.STORED.values()):
            self.result(file)  # notes that the page hangs on it
        return content_of(standings.scatter()) | {"still": self.options.get("still", "")}

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
                    in_words(Interval(*point["gain"]), unit="") if point["key"] != "warm" else "0",
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
