"""The claims of the article and the paper, and what the chapters found about each.

A chapter that tests a claim ends with :func:`record`; its verdict is then part of
the chapter's stored output, which nbval compares like any other. The scorecard
collects them with :func:`collect`, so that no verdict is typed twice, or at all.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wsp.statistics import Interval, verdict

GLUED = "findings"  # the name under which a chapter's findings are glued


@dataclass(frozen=True)
class SourceClaim:
    """What a source says, in our words, and where it says so."""

    words: str
    source: str
    where: str


ARTICLE, PAPER = "the article", "the paper"
#: Every claim that the book looks at, by key. The chapters refer to them by key.
SOURCE_CLAIMS = {
    "cold_over_warm": SourceClaim("A cold start ends above a warm start", ARTICLE, "figures 1, 2"),
    "trick_over_cold": SourceClaim(
        "Shrink and perturb ends above a cold start, in half the epochs", ARTICLE, "figures 1, 2"
    ),
    "trick_over_warm": SourceClaim(
        "Shrink and perturb ends above a warm start, in half the epochs", ARTICLE, "figure 2"
    ),
    "warm_over_initial": SourceClaim(
        "A warm start ends above not retraining at all", ARTICLE, "figures 1, 2"
    ),
    "trick_faster": SourceClaim("Shrink and perturb needs less training than a cold start", ARTICLE, "text"),
    "resnet_gap": SourceClaim(
        "A ResNet on images ends lower when it is started warm", PAPER, "section 3, table 1"
    ),
    "mlp_gap": SourceClaim("So does a multilayer perceptron", PAPER, "section 3, table 1"),
    "logistic_level": SourceClaim("Logistic regression does not", PAPER, "section 3, table 1"),
    "rounds_gap": SourceClaim("Over many rounds a warm start falls behind", PAPER, "section 3, figure 2"),
    "warm_faster": SourceClaim("A warm start trains faster than a cold one", PAPER, "section 3, figure 2"),
    "no_setting": SourceClaim(
        "No learning rate and batch size makes a warm start as good as a cold one, and faster",
        PAPER,
        "section 3, figure 3",
    ),
    "early_stop": SourceClaim(
        "Stopping the first fit early helps only if it is very early", PAPER, "section 3, figure 4"
    ),
    "regularizers": SourceClaim(
        "Weight decay and confidence penalties leave the gap", PAPER, "section 3, table 3"
    ),
    "last_layer": SourceClaim("Working on the last layer alone is no cure", PAPER, "appendix"),
    "noise_alone": SourceClaim("Noise without shrinking leaves a gap", PAPER, "appendix, table 4"),
    "pull": SourceClaim(
        "After a warm start the new rows pull much harder than the old ones, and shrinking balances them",
        PAPER,
        "section 4, figure 5",
    ),
    "function_kept": SourceClaim(
        "Shrinking keeps most of the predictions; without biases, in a ReLU network, all of them",
        PAPER,
        "section 4, figure 6",
    ),
    "trick_level_rounds": SourceClaim(
        "Over rounds, shrink and perturb is as accurate as a cold start", PAPER, "section 4, figure 7"
    ),
    "trick_cheaper_rounds": SourceClaim("And it trains faster", PAPER, "section 4, figure 7"),
    "noise_helps": SourceClaim("Noise after shrinking helps", PAPER, "section 4, figure 8"),
    "pretraining": SourceClaim(
        "After pretraining on other data, shrink and perturb is no worse than warm and fresh starts",
        PAPER,
        "section 5, figure 9",
    ),
    "every_step": SourceClaim(
        "At every step of SGD the trick would act as a strong, noisy weight decay", PAPER, "section 4"
    ),
}


@dataclass(frozen=True)
class Finding:
    """What one chapter found about a claim, in one setting.

    Attributes
    ----------
    claim : str
        Key of :data:`SOURCE_CLAIMS`.
    setting : str
        Network and data, for people.
    interval : str
        The estimate and its interval, with its unit where that is not points.
    verdict : str
    figure : str
        Label of the figure or section that shows it, such as ``"fig-forest"``.
    """

    claim: str
    setting: str
    interval: str
    verdict: str
    figure: str

    def __post_init__(self) -> None:
        if self.claim not in SOURCE_CLAIMS:
            raise ValueError(f"unknown claim {self.claim!r}: choose from {', '.join(SOURCE_CLAIMS)}")


def finding(
    claim: str, setting: str, interval: Interval, claimed: float, figure: str, unit: str = "points"
) -> Finding:
    """Judge a claim by the book's rule (:func:`wsp.statistics.verdict`).

    Parameters
    ----------
    claim : str
        Key of :data:`SOURCE_CLAIMS`.
    setting : str
        Network and data, for people.
    interval : Interval
        Of the difference that the claim is about.
    claimed : float
        What the source has for it, or just its sign, as 1 or -1, in another setting
        or where it gives no figure. 0: that there is no difference.
    figure : str
        Label of the figure or section that shows it.
    unit : str
        Default ``"points"``, and the rule's half a point goes with them; in another unit
        only the direction is judged.

    Examples
    --------
    >>> found = finding("cold_over_warm", "tables", Interval(1.8, 1.7, 1.9), 7.5, "fig-forest")
    >>> found.verdict, found.interval
    ('direction reproduced, size not', '+1.80 (+1.70 to +1.90) points')
    >>> finding("logistic_level", "digits", Interval(0.0, -0.3, 0.2), 0, "fig-one").verdict
    'reproduced: no difference'
    """
    if unit != "points":
        said = "cannot tell"
        if interval.low > 0 or interval.high < 0:
            said = "direction reproduced" if (interval.estimate > 0) == (claimed > 0) else "contradicted"
    elif claimed == 0:
        said = verdict(interval, 1.0)
        if said == "no difference":
            said = "reproduced: no difference"
        elif said != "cannot tell":
            said = "contradicted"
    else:
        said = verdict(interval, claimed)
        if abs(claimed) == 1:  # a sign has no size to reproduce
            said = said.replace("direction reproduced, size not", "direction reproduced")
            said = "direction reproduced" if said == "reproduced" else said
    return Finding(claim, setting, f"{interval} {unit}", said, figure)


def overall(findings: Sequence[Finding]) -> str:
    """One word for a claim, from what was found in all settings.

    Returns
    -------
    str
        ``"reproduced"``: direction and size, everywhere. ``"not reproduced"``: no
        difference, or the opposite, everywhere. ``"partly"``: anything between.
        ``"cannot tell"`` and ``"not tested"``: nowhere more than that.

    Examples
    --------
    >>> overall([])
    'not tested'
    >>> one = finding("cold_over_warm", "tables", Interval(1.8, 1.7, 1.9), 7.5, "fig-forest")
    >>> other = finding("cold_over_warm", "digits", Interval(0.1, -0.1, 0.3), 7.5, "fig-rounds")
    >>> overall([one]), overall([other]), overall([one, other])
    ('partly', 'not reproduced', 'partly')
    """
    told = {each.verdict for each in findings} - {"cannot tell"}
    if not told:
        return "cannot tell" if findings else "not tested"
    if all(said.startswith("reproduced") for said in told):
        return "reproduced"
    return "not reproduced" if told <= {"no difference", "contradicted"} else "partly"


def record(findings: Iterable[Finding]) -> None:
    """Keep a chapter's findings in its outputs, for the scorecard.

    Examples
    --------
    >>> record([])
    """
    from myst_nb import glue  # a chapter has it; the module does without

    glue(GLUED, json.dumps([asdict(each) for each in findings]), display=False)


def collect(folder: str | Path) -> dict[str, list[Finding]]:
    """The findings of all chapters in a folder, by the chapter's file name without its ending.

    Raises
    ------
    ValueError
        If a chapter's findings cannot be read.

    Examples
    --------
    >>> collect(getfixture("tmp_path"))
    {}
    """
    found = {}
    for path in sorted(Path(folder).glob("[0-9][0-9]_*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            for output in cell.get("outputs", []):
                if output.get("metadata", {}).get("scrapbook", {}).get("name") == GLUED:
                    [text] = (value for kind, value in output["data"].items() if kind.endswith("text/plain"))
                    try:
                        records = json.loads(ast.literal_eval("".join(text)))
                    except (ValueError, SyntaxError) as error:
                        raise ValueError(f"{path}: its findings cannot be read: {error}") from None
                    found[path.stem] = [Finding(**each) for each in records]
    return found
