"""The directive ``{stop-line}``: accuracy against epochs, with a line to drag and the ranking (chapter 6).

::

    :::{stop-line} fresh_noise_0.05_rate_0.05
    :still: fig-epochs
    What stands here is the caption.
    :::

The argument is a stored sweep over fresh tables. With ``still`` a figure of the page is the still: it is
hidden where this one runs. Without it the directive draws its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

from docutils.parsers.rst import directives
from matplotlib import pyplot as plt
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

import live
from wsp.lab import figures
from wsp.lab.retraining import ARMS
from wsp.lab.statistics import Interval, simultaneous
from wsp.studies import sweep

EARLY, LATE = ARMS["shrink_perturb"].epochs, ARMS["cold"].epochs
TRICK, COLD = "shrink_perturb", "cold"
#: Where the trick and all others are read -> the comparison of the trick with cold that is stored for it.
STORED = {
    (EARLY, EARLY): "shrink_perturb - cold_500",
    (LATE, LATE): "shrink_perturb_1000 - cold",
    (EARLY, LATE): "shrink_perturb - cold",
}
OTHERS = {"fresh_shrunk": "part-a", "shrink_only": "part-b", "perturb_only": "part-c"}


def intervals(found: Mapping[str, Any]) -> Mapping[str, Interval]:
    """The comparisons of a sweep, with intervals that hold for all at once."""
    of_study = getattr(sweep, "intervals", None)
    if of_study is not None:
        book: Mapping[str, Interval] = of_study(found)
        return book
    percent = sweep.accuracies(found)[1]
    return simultaneous({f"{a} - {b}": (percent[a] - percent[b]).mean(axis=1) for a, b in sweep.COMPARISONS})


def called(run: str) -> tuple[str, str, str]:
    """A training run's key, name and class in the page; how long it went is no part of its name.

    Examples
    --------
    >>> called("fresh_shrunk_500"), called("initial")
    (('fresh_shrunk', 'fresh, shrunk', 'part-a'), ('initial', 'initial, old rows alone', 'initial'))
    """
    key = run.removesuffix("_500").removesuffix("_1000")
    name = "initial, old rows alone" if key == "initial" else figures.name_of(key)
    return key, name, OTHERS.get(key, key.replace("_", "-"))


def content_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the script has to know, of a sweep over fresh tables."""
    rows = len(found["pairs"]) * found["specification"]["test_rows"]
    runs: list[dict[str, Any]] = []
    for run, curve in found["curves"].items():
        key, words, mark = called(run)
        means = [round(100 * total / rows, 2) for total in curve["sum"]]
        runs.append({"key": key, "words": words, "mark": mark, "epochs": curve["epoch"], "means": means})
    longest = max((run["epochs"] for run in runs), key=len)
    best = {run["key"]: run["epochs"][run["means"].index(max(run["means"]))] for run in runs}
    gaps = intervals(found)
    return {
        "title": f"Cold is best near epoch {best[COLD]}, shrink and perturb near {best[TRICK]}",
        "epochs": longest,
        "runs": runs,
        "tables": found["specification"]["tables"],
        "seeds": found["specification"]["seeds"],
        "early": EARLY,
        "late": LATE,
        "trick": TRICK,
        "cold": COLD,
        "gaps": [[*read, *live.three(gaps[name])] for read, name in STORED.items()],
    }


class StopLine(live.Live):
    kind = "stop-line"
    required_arguments = 1
    uses: ClassVar[Sequence[ModuleType]] = (sweep,)
    option_spec: ClassVar[dict[str, Any]] = live.Live.option_spec | {"still": directives.unchanged}

    def content_of(self) -> dict[str, Any]:
        found = self.result(self.arguments[0])
        if not found["specification"].get("tables") or "pairs" not in found:
            raise self.error(f"stop-line: {self.arguments[0]} is no sweep over fresh tables")
        return content_of(found) | {"still": self.options.get("still", "")}

    def still(self, content: Mapping[str, Any]) -> str:
        """All curves, unless the page has them."""
        if content["still"]:
            return ""
        figures.use_style()
        fig, ax = plt.subplots(figsize=(9, 4.4))
        names, ends = {}, []
        for run in content["runs"]:
            color = figures.color_of(run["key"] if run["key"] in figures.COLORS else f"{run['key']}_500")
            ax.semilogx(
                run["epochs"], run["means"], "-" if run["key"] in figures.COLORS else ":", color=color
            )
            names[run["words"]] = color
            ends.append((run["epochs"][-1], run["means"][-1]))
        ax.axvline(content["early"], color="black", lw=0.8, ls="--")
        ax.set(xlabel="epoch (logarithmic)", ylabel="test accuracy, %", ylim=(55, None))
        ax.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
        figures.label_points(ax, ends, names, column=True, fontsize="small")
        return live.drawn(
            fig,
            "Mean test accuracy against epochs for all runs. Every run rises, reaches a maximum within the "
            "first few hundred epochs, and falls.",
        )

    def numbers(self, content: Mapping[str, Any]) -> str:
        runs = content["runs"]
        read = [dict(zip(run["epochs"], run["means"])) for run in runs]
        return live.table(
            f"Mean test accuracy in percent, {content['tables']} tables × {content['seeds']} seeds",
            ["epoch", *(run["words"] for run in runs)],
            [
                [epoch, *(f"{each[epoch]:.2f}" if epoch in each else "–" for each in read)]
                for epoch in content["epochs"]
            ],
        )


def setup(app: Sphinx) -> ExtensionMetadata:
    app.setup_extension("live")
    app.add_directive("stop-line", StopLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
