"""Let the rivals meet: one protocol, one grid for all that share a knob, and a cold arm for each.

Digits arrive in five rounds; every method trains the same small network on the same
splits, by the same stop rule. Its settings are compared on a few splits, and the best of them alone is
run on the splits that are reported. On CIFAR-10, where a run takes minutes, nothing is tuned: every
method has the setting of its source. FIRE and weight clipping came later: they are studies of their own
on the same splits, and meet the others in :mod:`wsp.studies.field.standings`.

Rules, written before the second edition's run on digits (for the grids see
:mod:`wsp.lab.rivals.methods`):

- What was looked at before: the first edition's contest, with narrower grids and without cold arms, and
  first looks at FIRE and clipping on these digits. The hypotheses are not blind.
- Of one contest one joint family (:func:`wsp.studies.field.standings.family`): every rival minus warm, minus
  cold, and minus its own cold arm; every cold arm minus cold; and the pairs of its `BESIDES`.
- A rival is *above warm* by the first; it is a *better start* only if it is above its own cold arm, too,
  and a better training if its cold arm is above cold.
- Splits of the digits overlap: intervals are corrected (:mod:`wsp.lab.comparisons`).
"""

from __future__ import annotations

from collections.abc import Sequence

from wsp.lab.rivals.methods import METHODS
from wsp.lab.rounds import Arm
from wsp.studies.field.standings import as_text, chosen, present
from wsp.studies.parts import Content, at_least_1
from wsp.studies.rounds import CIFAR, DIGITS, Rounds, Run

TUNE, REPORT = 4, 20  # splits to choose on, and further splits to report
WRONG = 0.2  # the share of wrong labels in the second condition
DATA: dict[str, Content] = {
    "digits": {"size": 160, "images": 800, "test": 997, "precision": "float32"},
    "cifar10": {},
}
FIRE = ("fire", "cold_fire")
CLIPPING = ("clipping", "cold_clipping")
RIVALS = tuple(key for key in METHODS if key not in FIRE + CLIPPING)
#: What runs on CIFAR-10, where a run takes minutes.
#:
#: :meta hide-value:
ON_CIFAR = (
    *("cold", "warm", "cold_stopped", "warm_stopped", "shrink_perturb", "shrink_perturb_stopped"),
    *("official", "dash", "l2_init", "redo", "hare", "layer_norm"),
)


class Contest(Rounds):
    """``runs`` as of the rounds; an arm is named by its method and setting."""

    def __init__(self, name: str, words: str, methods: Sequence[str]) -> None:
        super().__init__(name, "", 12, words)
        self.minutes, self.methods = 1.0, tuple(methods)

    def specification(  # type: ignore[override]  # fewer settings: the rest is as chapter 12 has it
        self,
        *,
        data: str = "digits",
        wrong: float = 0.0,
        tune: int = TUNE,
        images: int | None = None,
        size: int | None = None,
        max_epochs: int = 1000,
        precision: str | None = None,
        note: str = "",
    ) -> Content:
        """What all runs of one file share.

        Parameters
        ----------
        data : str
            digits or cifar10.
        wrong : float
            Share of wrong training labels.
        tune : int
            Splits to choose settings on; 0: every method has the setting of its source.
        images : int
            To train on.
        size : int
            Images a round.
        max_epochs : int
            Of one training.
        precision : str
            float64, float32 or bfloat16.
        note : str
            Kept with the result, such as where the images are from.

        Examples
        --------
        >>> STUDY.specification(data="cifar10", tune=0, note="JPEG copy")["note"]
        'JPEG copy'
        """
        if data not in DATA:
            raise ValueError(f"unknown data {data!r}: choose from {', '.join(DATA)}")
        if isinstance(tune, bool) or not isinstance(tune, int) or tune < 0:
            raise ValueError(f"tune must be an integer, 0 or more, not {tune!r}")
        given = {"images": images, "size": size, "precision": precision}
        settings = DATA[data] | {name: value for name, value in given.items() if value is not None}
        study = DIGITS if data == "digits" else CIFAR
        return {
            **study.specification(
                activation="relu", wrong=wrong, max_epochs=max_epochs, note=note, **settings
            ),
            "tune": tune,
        }

    def units(  # type: ignore[override]
        self,
        spec: Content,
        content: Content | None,
        *,
        report: int = REPORT,
        methods: Sequence[str] = (),
    ) -> Sequence[Run]:
        """All settings on the splits to choose on; once they are there, the best on the others too.

        Parameters
        ----------
        report : int
            Further splits, on which the chosen settings are compared.
        methods : sequence of str
            Keys of ``wsp.lab.rivals.methods.METHODS``. None: those of the study.
        """
        at_least_1(report=report)
        methods = methods or self.methods
        for key in methods:
            if key not in METHODS:
                raise ValueError(f"unknown method {key!r}: choose from {', '.join(METHODS)}")
        tune = spec["tune"]
        if not tune:
            return [(seed, key) for seed in range(report) for key in methods]
        names = [name for key in methods for name in METHODS[key].arms()]
        runs = [(seed, name) for seed in range(tune) for name in names]
        if content is None or not set(runs) <= set(self.done(content)):
            return runs
        best = chosen({"specification": spec, **content}, methods).values()
        return [*runs, *((seed, name) for seed in range(tune, tune + report) for name in best)]

    def arm(self, spec: Content, key: str) -> Arm:
        """The arm of this name."""
        method = METHODS[key.split()[0]]
        return method.arms()[key] if spec["tune"] else method.as_published(spec["learning_rate"])

    def holds(self, content: Content) -> bool:
        """Its specification says on how many splits to choose."""
        return content.get("format") == "wsp rounds 1" and "tune" in content.get("specification", {})

    def slice(self, content: Content) -> tuple[Content, Sequence[Run]]:
        """Two rounds of the last split: one that changes the start, one that bends the loss, one that
        acts between steps, one that ends early. On CIFAR-10 one with two networks and one with another.
        """
        spec, there = content["specification"], present(content)
        if spec["data"] == "cifar10":
            return spec | {"rounds": 2}, [(0, key) for key in ("hare", "layer_norm", "fire") if key in there]
        best, last = chosen(content), max(seed for seed, _ in self.done(content))
        methods = ("warm", "dash", "l2_init", "hare", "cold_stopped", *FIRE, *CLIPPING)
        return spec | {"rounds": 2}, [(last, best[key]) for key in methods if key in there]

    def as_text(self, content: Content) -> str:
        """Accuracy, cost and differences of all methods, each with its chosen setting."""
        return as_text(content)


STUDY = Contest("rivals", "what came after the trick, tuned alike", RIVALS)
FIRE_STUDY = Contest("fire", "FIRE, and the control that its authors have not", FIRE)
CLIPPING_STUDY = Contest("clipping", "weight clipping, warm and cold", CLIPPING)
