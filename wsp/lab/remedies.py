"""The obvious fixes, as data: what each changes of a plan, how strongly, and who proposed it.

:mod:`wsp.studies.remedies` carries them out on fresh tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wsp.lab.many.plans import Plan
from wsp.lab.many.recipes import Recipe
from wsp.lab.retraining import SIGMA

EPOCHS = 500  # of every retraining: where the article reads its trick
THEN = Recipe(epochs=EPOCHS)
WARM_START = Plan(then=THEN)
MOMENTUM = Recipe(learning_rate=0.005, momentum=0.9)  # a tenth of the rate: in the long run the same step
MOMENTUM_START = Plan(first=MOMENTUM, then=replace(MOMENTUM, epochs=EPOCHS))


@dataclass(frozen=True)
class Remedy:
    """One fix, as data.

    Attributes
    ----------
    key : str
        Its name in files and figures.
    words : str
        Its name for people.
    source : str
        Who tried or proposed it.
    changes : tuple of str
        Fields of :class:`wsp.lab.many.plans.Plan` that take the strength; ``first.`` and
        ``then.`` lead into the recipes of the two phases.
    strengths : tuple
        What is tried. Empty: the remedy has none.
    arms : tuple of str
        Who gets it: ``"warm"``, ``"cold"``, or both.
    base : Plan
        What is changed. Default: the book's warm start.

    Examples
    --------
    >>> remedy = REMEDIES["weight_decay"]
    >>> plan = remedy.plan("warm", 0.01)
    >>> plan.first.weight_decay, plan.then.weight_decay
    (0.01, 0.01)
    >>> remedy.plan("cold", 0.01).start
    'fresh'

    See chapter 9.
    """

    key: str
    words: str
    source: str
    changes: tuple[str, ...] = ()
    strengths: tuple[float, ...] = ()
    arms: tuple[str, ...] = ("warm", "cold")
    base: Plan = WARM_START

    def plan(self, arm: str, strength: float | None = None) -> Plan:
        """What an arm does under this remedy."""
        plan = self.base
        for change in self.changes if strength is not None else ():
            phase, _, field = change.rpartition(".")
            if phase:
                change, value = phase, replace(getattr(plan, phase), **{field: strength})
            else:
                value = strength
            plan = replace(plan, **{change: value})
        return plan if arm == "warm" else replace(plan, start="fresh")

    def plans(self) -> dict[str, Plan]:
        """All plans by name: the arm, and the strength where there is one.

        Examples
        --------
        >>> list(REMEDIES["mix"].plans())
        ['warm 0.25', 'warm 0.75', 'warm 0.9', 'cold 0.25', 'cold 0.75', 'cold 0.9']
        """
        return {
            plan_name(arm, strength): self.plan(arm, strength)
            for arm in self.arms
            for strength in self.strengths or (None,)
        }


def plan_name(arm: str, strength: float | None = None) -> str:
    """How a plan is called in the stored files.

    Examples
    --------
    >>> plan_name("warm", 0.01), plan_name("cold")
    ('warm 0.01', 'cold')
    """
    return arm if strength is None else f"{arm} {strength:g}"


BATCHES = (5, 10, 20, 50, 100, 200)
RATES = (0.05, 0.01)
WARM = ("warm",)
LAMDAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
PAPER = "Ash and Adams (2020)"
#: All remedies by key. Where cold has none of its own, it is cold itself, or another's of the table.
#:
#: :meta hide-value:
REMEDIES = {
    remedy.key: remedy
    for remedy in (
        Remedy("none", "nothing changed", "the article"),
        Remedy(
            "shrink_perturb", "shrink and perturb", f"{PAPER}, section 4", ("lamda",), LAMDAS,
            base=Plan(then=THEN, sigma=SIGMA),
        ),
        Remedy(
            "temperature", "logits over a temperature", "chapter 7; Hinton et al. (2015) for the word",
            ("then.temperature",), (2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
        ),
        Remedy(
            "early_first", "first fit stopped early", f"{PAPER}, figure 4", ("first.epochs",),
            (2, 5, 10, 20, 50, 100, 200, 300, 500), WARM,
        ),
        Remedy(
            "weight_decay", "weight decay, both phases", f"{PAPER}, table 3",
            ("first.weight_decay", "then.weight_decay"), (0.001, 0.003, 0.01),
        ),
        Remedy(
            "weight_decay_first", "weight decay, first phase", f"{PAPER}, table 3",
            ("first.weight_decay",), (0.001, 0.003, 0.01, 0.03, 0.1), WARM,
        ),
        Remedy(
            "weight_decay_second", "weight decay, second phase", f"{PAPER}, table 3",
            ("then.weight_decay",), (0.001, 0.003, 0.01), WARM,
        ),
        Remedy(
            "label_smoothing", "label smoothing", "Szegedy et al. (2016)",
            ("first.label_smoothing", "then.label_smoothing"), (0.1, 0.3, 0.6, 0.8, 0.9, 0.95),
        ),
        Remedy(
            "confidence_penalty", "confidence penalty", f"{PAPER}, table 3",
            ("first.confidence_penalty", "then.confidence_penalty"), (0.1, 0.3, 1.0, 3.0, 10.0),
        ),
        Remedy(
            "dropout", "dropout, both phases", "Srivastava et al. (2014)",
            ("first.dropout", "then.dropout"), (0.1, 0.2, 0.4, 0.6),
        ),
        Remedy(
            "dropout_second", "dropout, second phase", "Srivastava et al. (2014)",
            ("then.dropout",), (0.1, 0.2, 0.4, 0.6), WARM,
        ),
        Remedy(
            "input_noise", "noise on age and income", "Kireev et al. (2021), augmentation",
            ("first.input_noise", "then.input_noise"), (0.02, 0.05, 0.1),
        ),
        Remedy(
            "reset_last", "last layer reset", "Nikishin et al. (2022)",
            arms=WARM, base=Plan(then=THEN, reset_last=True),
        ),
        Remedy("momentum", "momentum, optimizer reset", "Asadi et al. (2023)", base=MOMENTUM_START),
        Remedy(
            "momentum_kept", "momentum, optimizer kept", "Asadi et al. (2023)",
            arms=WARM, base=replace(MOMENTUM_START, keep_velocity=True),
        ),
        Remedy("noise_only", "noise only", f"{PAPER}, table 4", ("sigma",), (0.1, 0.3, 1.0, 2.0)),
        Remedy(
            "mix", "old and new rows mixed", "replay in continual learning", ("new_share",),
            (0.25, 0.75, 0.9),
        ),
        Remedy("new_only", "new rows only", "fine-tuning", base=Plan(then=THEN, new_share=1.0)),
        Remedy(
            "average", "averaged weights", "Izmailov et al. (2018)", ("average",), (0.9, 0.99, 0.995, 0.998)
        ),
        *(
            Remedy(
                f"rate_{rate}", f"learning rate {rate}", f"{PAPER}, figure 3", ("then.batch_size",), BATCHES,
                base=Plan(then=Recipe(EPOCHS, rate)),
            )
            for rate in RATES
        ),
    )
}  # fmt: skip
