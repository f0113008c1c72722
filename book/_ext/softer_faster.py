"""The directive ``{softer-faster}``: what shrinking does to an answer and to a step (chapter 7).

::

    :::{softer-faster}
    :case: digits_mislabeled
    What stands here is the caption.
    :::

The network of the chapter, without biases and with them, is trained while the page is built; what the
parts of the trick do to the accuracy is stored.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from docutils.parsers.rst import directives
from matplotlib import pyplot as plt
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

import explained
import live
from wsp.lab import employees, figures, inside, restarts
from wsp.lab.employees import Table
from wsp.lab.network import MLP
from wsp.lab.report import in_words
from wsp.lab.restarts import CASES, HALF, draw, train_first
from wsp.lab.statistics import Interval
from wsp.perturb import shrink_perturb_
from wsp.studies.inside import LAMDAS

STOPS = [round(1 - 0.05 * k, 2) for k in range(17)]  # of lamda, from keeping all to a fifth
STILLS = (1.0, HALF, 0.3)
ROWS = ("warm", "faster", "softer", "shrunk")


@cache
def networks() -> tuple[Table, Table, MLP, MLP]:
    """The first split of the digits, training and test rows; the chapter's network, and one with biases."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices: a second thread would mostly wait
    try:
        case = CASES["digits"]
        train, test = draw(case, [0])
        [plain] = train_first(case, train, seeds=[0])
        [biased] = train_first(replace(case, biases=True), train, seeds=[0])
    finally:
        torch.set_num_threads(threads)
    return train, test, plain, biased


def shrunk_logits(network: MLP, inputs: torch.Tensor, lamda: float) -> torch.Tensor:
    """Logits after shrinking the weights, biases left as they are."""
    with torch.no_grad():
        logits: torch.Tensor = shrink_perturb_(copy.deepcopy(network), lamda, 0.0)(inputs)
    return logits


def example() -> dict[str, Any]:
    """One old image: its pixels, and the logits of both networks. ``kept``: of the biased one's answers on
    test images, the percent that shrinking keeps.
    """
    train, test, plain, biased = networks()
    image = train.inputs[0, 0]
    full = shrunk_logits(biased, test.inputs[0], 1.0).argmax(dim=1)
    kept = [
        float((shrunk_logits(biased, test.inputs[0], lamda).argmax(dim=1) == full).double().mean())
        for lamda in STOPS
    ]
    return {
        "image": [round(float(value), 3) for value in image / train.inputs.max()],
        "label": int(train.labels[0, 0]),
        "layers": len(plain.linears),
        "logits": [round(float(value), 3) for value in shrunk_logits(plain, image, 1.0)],
        "biased": [
            [round(float(value), 3) for value in shrunk_logits(biased, image, lamda)] for lamda in STOPS
        ],
        "kept": [round(100 * share, 1) for share in kept],
    }


def chances(content: Mapping[str, Any], lamda: float) -> list[float]:
    """Probabilities of the ten digits after shrinking, without biases."""
    logits = torch.tensor(content["logits"], dtype=torch.float64) * lamda ** content["layers"]
    found: list[float] = torch.softmax(logits, dim=0).tolist()
    return found


def content_of(case: str, gaps: explained.Gaps, employees_inside: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the script has to know.

    Parameters
    ----------
    case : str
        What the accuracies were measured on.
    gaps : explained.Gaps
    employees_inside : mapping
        The result ``inside_employees``: how many answers the article's network keeps, biases left alone.
    """
    content: dict[str, Any] = {"lamdas": STOPS, **example()}
    before, after = (max(chances(content, lamda)) for lamda in (1.0, HALF))
    agreement = np.array(employees_inside["found"]["function"]["agreement"]).mean(axis=0)
    return {
        "title": f"Shrunk to one half: the same answer, {after:.2f} sure instead of {before:.2f}, and steps "
        f"{HALF**-2:.0f} times as large",
        **content,
        "half": HALF,
        "employees": {f"{lamda:g}": round(float(value)) for lamda, value in zip(LAMDAS, agreement)},
        "case": explained.CASES[case],
        "units": gaps.units,
        "rows": [
            {"key": key, "words": explained.WORDS[key], "interval": live.three(gaps.gaps[key])}
            for key in ROWS
        ],
    }


class SofterFaster(live.Live):
    kind = "softer-faster"
    uses: ClassVar[Sequence[ModuleType]] = (explained, inside, restarts)
    option_spec: ClassVar[dict[str, Any]] = live.Live.option_spec | {
        "case": lambda argument: directives.choice(argument, explained.CASES)
    }

    def content_of(self) -> dict[str, Any]:
        case = self.options.get("case", "digits_mislabeled")
        gaps = explained.gaps_of(
            case, self.result, lambda name: employees.find(f"results/{name}.json").is_file()
        )
        return content_of(case, gaps, self.result("inside_employees"))

    def still(self, content: Mapping[str, Any]) -> str:
        """Three bars for every digit, and the accuracies."""
        figures.use_style()
        fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=[1.3, 1])
        shades = (figures.COLORS["warm"], figures.COLORS["shrink_perturb"], figures.QUIET)
        for k, (lamda, color) in enumerate(zip(STILLS, shades)):
            axes[0].bar(np.arange(10) + 0.28 * (k - 1), chances(content, lamda), width=0.26, color=color)
        axes[0].set_xticks(range(10))
        axes[0].set(xlabel="digit", ylabel="probability", ylim=(0, 1.05))
        figures.key(axes[0], {f"lamda {lamda:g}": color for lamda, color in zip(STILLS, shades)})
        figures.forest(axes[1], {row["words"]: Interval(*row["interval"]) for row in content["rows"]})
        figures.zero_line(axes[1])
        axes[1].set(xlabel="points over a cold start")
        return live.drawn(
            fig,
            "Left: probabilities of the ten digits for one image at three values of lamda; the same digit "
            "leads, by less and less. Right: accuracy against a cold start of a warm start, of each part of "
            "the trick alone, and of shrinking.",
        )

    def numbers(self, content: Mapping[str, Any]) -> str:
        lamdas = [lamda for lamda in content["lamdas"] if round(10 * lamda) == 10 * lamda]
        rows = [[f"{lamda:g}", *(f"{p:.3f}" for p in chances(content, lamda))] for lamda in lamdas]
        gaps = [
            [row["words"], in_words(Interval(*row["interval"]), unit=""), content["case"]]
            for row in content["rows"]
        ]
        return live.table(
            "Probability of every digit, by lamda, without biases", ["lamda", *map(str, range(10))], rows
        ) + live.table(
            "Points over a cold start at equal training loss (95 % intervals that hold at once)",
            ["restart", "minus cold", "measured on"],
            gaps,
        )


def setup(app: Sphinx) -> ExtensionMetadata:
    app.setup_extension("live")
    app.add_directive("softer-faster", SofterFaster)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
