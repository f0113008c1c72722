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

from wsp.lab.employees import find
from wsp.lab.results import load_json
from wsp.lab.statistics import Interval, Verdict, verdict

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
class Claim:
    """That one arm beats another, as a source put it: by `points`, in our `words`."""

    better: str
    worse: str
    points: float
    words: str

    @property
    def name(self) -> str:
        """The comparison's name in :func:`wsp.studies.sweep.summarize`."""
        return f"{self.better} - {self.worse}"


#: What the Pure AI article claims, with its gaps (77.5 - 70, and so on).
CLAIMS = (
    Claim("cold", "warm", 7.5, "a cold start beats a warm start"),
    Claim("shrink_perturb", "cold", 2.5, "the trick beats a cold start, in half the epochs"),
    Claim("shrink_perturb", "warm", 10.0, "the trick beats a warm start, in half the epochs"),
    Claim("warm", "initial", 10.0, "a warm start beats not retraining"),
)


@dataclass(frozen=True)
class Finding:
    """What one chapter found about a claim, in one setting.

    Attributes
    ----------
    claim : str
        Key of ``SOURCE_CLAIMS``.
    setting : str
        Data, network and protocol, for people.
    interval : str
        The estimate and its interval, with its unit.
    direction : {"as claimed", "exceeded", "against", "open"}
        Whether the sign is the claimed one; open where it is not told apart. A claim that one is no
        worse than the other is exceeded if it is better. A claim that both are level is met if the whole
        interval lies inside half a point, and contradicted by any other that leaves zero out.
    verdict : str
        Sign and size in words (:class:`wsp.lab.statistics.Verdict`).
    figure : str
        Label of the figure or section that shows it, such as ``"fig-forest"``.
    """

    claim: str
    setting: str
    interval: str
    direction: str
    verdict: str
    figure: str

    def __post_init__(self) -> None:
        if self.claim not in SOURCE_CLAIMS:
            raise ValueError(f"unknown claim {self.claim!r}: choose from {', '.join(SOURCE_CLAIMS)}")


def finding(
    claim: str,
    setting: str,
    interval: Interval,
    claimed: float | str,
    figure: str,
    unit: str = "points",
) -> Finding:
    """Judge a claim by the book's rule (:func:`wsp.lab.statistics.verdict`).

    Parameters
    ----------
    claim : str
        Key of ``SOURCE_CLAIMS``.
    setting : str
        Data, network and protocol, for people.
    interval : Interval
        Of the difference that the claim is about: what is said to be better (or no worse) comes first.
    claimed : float or {"above", "no worse", "level"}
        The gap in points that the source has. Where it has none, or another setting, that it is above
        0; that it is not below; or that it is neither.
    figure : str
        Label of the figure or section that shows it.
    unit : str
        Default ``"points"``; half a point goes with them, so in another unit nothing is small.

    Examples
    --------
    >>> found = finding("cold_over_warm", "tables", Interval(1.8, 1.7, 1.9), 7.5, "fig-forest")
    >>> found.direction, found.verdict, found.interval
    ('as claimed', 'above, smaller', '+1.80 (+1.70 to +1.90) points')
    >>> finding("logistic_level", "digits", Interval(0.0, -0.3, 0.2), "no worse", "fig-one").direction
    'as claimed'
    >>> [finding("every_step", "tables", Interval(low + 0.1, low, low + 0.2), "level", "fig-one").direction
    ...  for low in (0.2, 0.4)]
    ['as claimed', 'against']
    """
    if isinstance(claimed, str) and claimed not in ("above", "no worse", "level"):
        raise ValueError(
            f"claimed must be a gap in points, 'above' or 'no worse', or 'level', not {claimed!r}"
        )
    said = verdict(interval, claimed if isinstance(claimed, float | int) else None)
    if unit != "points":
        said = Verdict(said.sign, "" if said.sign != "not told apart" else "too wide to say")
    direction = {"above": "as claimed", "below": "against", "not told apart": "open"}[said.sign]
    if claimed == "no worse":
        if said.sign == "above":
            direction = "exceeded"
        elif said == Verdict("not told apart", "small"):
            direction = "as claimed"
    if claimed == "level":
        direction = "as claimed" if said.size == "small" else "open" if direction == "open" else "against"
    return Finding(claim, setting, f"{interval} {unit}", direction, str(said), figure)


def count(findings: Sequence[Finding]) -> str:
    """How many settings agree with a claim, for people.

    Examples
    --------
    >>> one = finding("cold_over_warm", "tables", Interval(1.8, 1.7, 1.9), 7.5, "fig-forest")
    >>> other = finding("cold_over_warm", "digits", Interval(7.0, 6.0, 8.0), 7.5, "fig-rounds")
    >>> count([one, other]), count([])
    ('2 of 2 settings in direction, 1 in size', 'not tested')
    """
    if not findings:
        return "not tested"
    agree = [each for each in findings if each.direction in ("as claimed", "exceeded")]
    said = f"{len(agree)} of {len(findings)} settings in direction"
    sized = [each for each in findings if each.verdict.endswith(("as claimed", "smaller", "larger"))]
    if sized:
        said += f", {sum(each.verdict.endswith('as claimed') for each in sized)} in size"
    against = sum(each.direction == "against" for each in findings)
    return said + (f", {against} against" if against else "")


def record(findings: Iterable[Finding]) -> None:
    """Keep a chapter's findings in its outputs, for the scorecard.

    Examples
    --------
    >>> record([])
    """
    from myst_nb import glue  # a chapter has it; the module does without

    glue(GLUED, json.dumps([asdict(each) for each in findings]), display=False)


def first_edition(chapter: str) -> list[dict[str, str]]:
    """What a chapter recorded in the first edition, whose studies shared their seeds among tables.

    Its verdicts were of another rule, in which "no difference" was whatever lay within half a point.

    Parameters
    ----------
    chapter : str
        Such as ``"06_luck"``.

    Examples
    --------
    >>> first_edition("06_luck")[0]["verdict"]
    'direction reproduced, size not'
    """
    found: list[dict[str, str]] = load_json(find("first_edition.json"))["findings"][chapter]
    return found


def collect(folder: str | Path) -> dict[str, list[Finding]]:
    """The findings of all pages in a folder, by the page's file name without its ending.

    Raises
    ------
    ValueError
        If a page's findings cannot be read.

    Examples
    --------
    >>> collect(getfixture("tmp_path"))
    {}
    """
    found = {}
    pages = [*Path(folder).glob("[0-9][0-9]_*.ipynb"), *Path(folder).glob("evidence_[0-9][0-9].ipynb")]
    for path in sorted(pages, key=lambda path: ("".join(filter(str.isdigit, path.stem)), path.stem)):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if output.get("metadata", {}).get("scrapbook", {}).get("name") == GLUED:
                    [text] = (value for kind, value in output["data"].items() if kind.endswith("text/plain"))
                    try:
                        records = json.loads(ast.literal_eval("".join(text)))
                    except (ValueError, SyntaxError) as error:
                        raise ValueError(f"{path}: its findings cannot be read: {error}") from None
                    found[path.stem] = [Finding(**each) for each in records]
    return found
