"""The directive ``{two-ropes}``: who pulls at the weights, old rows or new ones (chapter 7).

::

    :::{two-ropes}
    :cases: digits, digits_mislabeled, employees
    What stands here is the caption.
    :::

How hard both pull at a restart is measured by the study *inside*, what balancing does to the accuracy
by what `explained` finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from docutils.parsers.rst import directives
from matplotlib import pyplot as plt
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

import explained
import live
from wsp.lab import employees, figures
from wsp.lab.report import in_words
from wsp.lab.restarts import HALF
from wsp.lab.statistics import Interval, mean_interval
from wsp.studies.inside import LAMDAS

ROWS = ("warm", "muted", "raised", "turned", "shrunk")
VERDICTS = {
    "a cause": "So the imbalance is a cause: evening it out helps.",
    "the cause": "So the imbalance is the cause: evening it out closes the gap.",
    "a symptom": "So the imbalance is a symptom: evening it out leaves most of the gap.",
    "open": "Whether the imbalance is a cause stays open here.",
    "no gap": "Here a warm start is not below cold, so there is no gap to explain.",
}


def pulls_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """At every lamda: how hard old and new rows pull, and new over old (geometric means)."""
    old, new = (np.log(np.array(found["found"]["function"][half])) for half in ("old", "new"))
    pulls = []
    for place, lamda in enumerate(LAMDAS):
        ratio = mean_interval(new[:, place] - old[:, place])
        bounds = Interval(*(float(np.exp(value)) for value in (ratio.estimate, ratio.low, ratio.high)))
        pulls.append(
            {
                "lamda": lamda,
                "old": round(float(np.exp(old[:, place].mean())), 5),
                "new": round(float(np.exp(new[:, place].mean())), 5),
                "ratio": live.three(bounds, 3),
            }
        )
    return pulls


def balanced_by(gaps: explained.Gaps) -> str:
    """How rows are balanced in a source: old ones raised where that was measured, else new ones muted."""
    return "raised" if "raised" in gaps.gaps else "muted"


def case_of(key: str, found: Mapping[str, Any], gaps: explained.Gaps) -> dict[str, Any]:
    """Everything the script has to know of one case."""
    return {
        "key": key,
        "words": explained.CASES[key],
        "pulls": pulls_of(found),
        "units": len(found["found"]["units"]),
        "unit": "tables" if key == "employees" else "splits",
        "rows": [
            {"key": row, "words": explained.WORDS[row], "interval": live.three(gaps.gaps[row])}
            for row in ROWS
            if row in gaps.gaps
        ],
        "gapUnits": gaps.units,
        "balanced": balanced_by(gaps),
        "verdict": VERDICTS.get(gaps.verdict, ""),
    }


def content_of(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The cases, and what the first of them shows."""
    pulls = {pull["lamda"]: pull["ratio"][0] for pull in cases[0]["pulls"]}
    where = cases[0]["words"].capitalize()
    return {
        "title": f"{where}: new rows pull {pulls[1.0]:.0f} times as hard as old ones; after shrinking to one "
        f"half, {pulls[HALF]:.1f} times",
        "half": HALF,
        "cases": list(cases),
    }


def some_cases(argument: str) -> list[str]:
    return [directives.choice(word, explained.CASES) for word in argument.replace(",", " ").split()]


class TwoRopes(live.Live):
    kind = "two-ropes"
    uses: ClassVar[Sequence[ModuleType]] = (explained,)
    option_spec: ClassVar[dict[str, Any]] = live.Live.option_spec | {"cases": some_cases}

    def content_of(self) -> dict[str, Any]:
        def is_stored(name: str) -> bool:
            return employees.find(f"results/{name}.json").is_file()

        return content_of(
            [
                case_of(key, self.result(f"inside_{key}"), explained.gaps_of(key, self.result, is_stored))
                for key in self.options.get("cases", ["digits", "digits_mislabeled", "employees"])
            ]
        )

    def still(self, content: Mapping[str, Any]) -> str:
        """New over old against lamda, and the accuracies."""
        figures.use_style()
        case = content["cases"][0]
        fig, axes = plt.subplots(1, 2, figsize=(9, 3.4))
        lamdas = [pull["lamda"] for pull in case["pulls"]]
        ratio, low, high = np.array([pull["ratio"] for pull in case["pulls"]]).T
        color = figures.COLORS["shrink_perturb"]
        axes[0].semilogy(lamdas, ratio, color=color)
        axes[0].fill_between(lamdas, low, high, color=color, alpha=0.2, lw=0)
        axes[0].axhline(1, color="black", lw=0.8)
        axes[0].set(xlabel="lamda", ylabel="pull of new rows ÷ old rows", xlim=(1, 0))
        ticks = [tick for tick in (1, 3, 10, 30, 100) if tick < 1.5 * max(high)]
        axes[0].set_yticks(ticks, [str(tick) for tick in ticks])
        axes[0].minorticks_off()
        figures.forest(axes[1], {row["words"]: Interval(*row["interval"]) for row in case["rows"]})
        figures.zero_line(axes[1])
        axes[1].set(xlabel="points over a cold start")
        return live.drawn(
            fig,
            "Left: the pull of new rows over that of old ones against lamda; far above one at a warm start, "
            "about one from a half on. Right: accuracy against a cold start: a warm start, balanced ones, a "
            "shrunk one.",
        )

    def numbers(self, content: Mapping[str, Any]) -> str:
        pulls = [
            [
                f"{pull['lamda']:g}", case["words"], f"{pull['old']:.3f}", f"{pull['new']:.3f}",
                in_words(Interval(*pull["ratio"]), ".2f", ""),
            ]
            for case in content["cases"]
            for pull in case["pulls"]
        ]  # fmt: skip
        gaps = [
            [row["words"], case["words"], in_words(Interval(*row["interval"]), unit="")]
            for case in content["cases"]
            for row in case["rows"]
        ]
        return live.table(
            "Norm of the gradient of the mean loss at a restart, geometric means (95 % intervals)",
            ["lamda", "case", "old rows", "new rows", "new over old"],
            pulls,
        ) + live.table(
            "Points over a cold start at equal training loss (95 % intervals that hold at once in a case)",
            ["restart", "case", "minus cold"],
            gaps,
        )


def setup(app: Sphinx) -> ExtensionMetadata:
    app.setup_extension("live")
    app.add_directive("two-ropes", TwoRopes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
