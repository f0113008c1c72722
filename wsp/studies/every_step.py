"""Shrink and perturb at every step of SGD, beside weight decay and beside the trick once.

The paper's section 4 says that this would be another treatment: a strong, noisy weight decay. On paper it
is one: after a step at rate r, ``w <- lamda * w + sigma * noise`` multiplies what the step left by lamda, as
a decay of (1 - lamda) / r does with what the step found. What differs is of the order of 1 - lamda in the
rate, and that PyTorch's decay takes the biases, too, which the trick leaves alone. This study asks whether
that is all, in accuracy, on the fresh tables of chapter 9.

Rules, written before the run, after a pilot of eight other tables:

- *Protocol*: equal. An old network of 1000 epochs on half of the rows, then 500 epochs on all for everybody,
  rate 0.05, batches of ten. Cold, warm, and the trick once before retraining (lamda 0.5, 0.2, 0.05; sigma
  0.01) are those of chapter 9, count for count.
- *Every step*: 1 - lamda is 0.001, 0.0003, 0.0001 or 0.00003; weights alone, as in the article's rule. Two
  noises. *Scaled*: sigma is 0.01 times the root of 1 - lamda squared, so that what piles up has the
  article's 0.01. *Full*: 0.01 at each of the 10,000 steps.
- *Decay*: PyTorch's, of (1 - lamda) / rate, alone; and *noisy*: with the same full noise.
- *Claim, one joint family* (:func:`as_decay`): full noise minus noisy decay, and scaled noise minus decay
  alone, at four strengths each. To act as it does is to be level: the whole interval within half a point. A
  difference that is told apart and not small is against the claim. Eight settings, all counted.
- *Another treatment than once*, a second joint family (:func:`against_once`): every step with scaled noise,
  with full noise, and decay alone, each minus the trick once; and these and once minus cold. Strengths and
  lamda are chosen on one half of the tables and reported on the other.
- *Expected* before the pilot: level in all eight; full noise below decay alone; scaled noise level with the
  trick once, as weight decay is in chapter 9. The pilot has it below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wsp.lab.employees import LABEL_NOISE, TRAIN_ROWS, Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.lanes import Drawn, draw_lanes, side_stream
from wsp.lab.many.plans import Firsts, Plan, samples_of, train_plans
from wsp.lab.many.recipes import Recipe, RecipeEnsemble, draws, epoch_order
from wsp.lab.network import MLP
from wsp.lab.retraining import HALF, SIGMA, stream
from wsp.lab.statistics import Floats, Interval, simultaneous
from wsp.lab.training import BATCH_SIZE, LEARNING_RATE
from wsp.studies.engine import Tick
from wsp.studies.parts import Content
from wsp.studies.tables import ByTable, best_elsewhere, choose_elsewhere, common, in_percent

READ_AT = (20, 50, 100, 200, HALF)
LOST = (1e-3, 3e-4, 1e-4, 3e-5)  # 1 - lamda, at every step
ONCE = (0.5, 0.2, 0.05)  # lamda, once
STEP_STREAM = 4  # of :func:`wsp.lab.many.lanes.side_stream`, for noise at every step
KINDS = ("scaled", "full", "decay", "noisy")


class StepEnsemble(RecipeEnsemble):
    """A :class:`wsp.lab.many.recipes.RecipeEnsemble` that is shrunk and perturbed after every step.

    Parameters
    ----------
    networks, recipe, generators
        As there.
    lamda, sigma : float
        Of each step, for weights alone. The caller puts `noise`, (lanes, steps, weights), before an epoch.
    """

    def __init__(
        self,
        networks: Sequence[MLP],
        recipe: Recipe,
        generators: Sequence[torch.Generator],
        lamda: float,
        sigma: float,
    ) -> None:
        super().__init__(networks, recipe, generators)
        self.lamda, self.sigma = lamda, sigma
        self.noise: Tensor | None = None
        self.taken = 0  # steps of this epoch

    def train_epoch(self, table: Table, order: Tensor, *, learning_rate: float, batch_size: int) -> None:
        """One epoch for every lane; see :meth:`wsp.lab.many.ensemble.Ensemble.train_epoch`."""
        self.taken = 0
        super().train_epoch(table, order, learning_rate=learning_rate, batch_size=batch_size)

    def _step(self, table: Table, rows: Tensor, learning_rate: float) -> None:
        super()._step(table, rows, learning_rate)
        start = 0
        for k, weight in enumerate(self.weights):
            kept = self._real(k, weight)[:, :, :-1]  # the last column is the bias
            kept.mul_(self.lamda)
            if self.noise is not None and self.sigma:
                end = start + kept[0].numel()
                drawn = self.noise[:, self.taken, start:end].view(kept.shape)
                kept.add_(drawn, alpha=self.sigma)
                start = end
        self.taken += 1


@dataclass(frozen=True)
class StepArm:
    """What happens after every step.

    Attributes
    ----------
    kind : str
        Of ``KINDS``: the trick with scaled or with full noise, decay alone, or decay with full noise.
    lost : float
        1 - lamda; a decay takes as much.

    Examples
    --------
    >>> arm = StepArm("scaled", 1e-3)
    >>> arm.name, round(arm.lamda, 4), round(arm.sigma, 6), arm.decay
    ('scaled 0.001', 0.999, 0.000447, 0.0)
    >>> StepArm("noisy", 1e-3).decay
    0.02
    """

    kind: str
    lost: float

    @property
    def name(self) -> str:
        """How it is called in the stored file."""
        return f"{self.kind} {self.lost:g}"

    @property
    def lamda(self) -> float:
        """What the trick keeps at a step."""
        return 1 - self.lost if self.kind in ("scaled", "full") else 1.0

    @property
    def sigma(self) -> float:
        """Of the noise at a step."""
        if self.kind == "scaled":  # a sum of lamda ** k times such noise has the variance SIGMA ** 2
            return float(SIGMA * (1 - self.lamda**2) ** 0.5)
        return SIGMA if self.kind in ("full", "noisy") else 0.0

    @property
    def decay(self) -> float:
        """PyTorch's weight decay."""
        return self.lost / LEARNING_RATE if self.kind in ("decay", "noisy") else 0.0


class EveryStep(ByTable):
    """``correct``: arm -> for each table a list over its seeds, each a list over the epochs read."""

    name, chapter = "every_step", 9
    words = "the trick at every step, beside weight decay and the trick once"

    def specification(
        self,
        *,
        seeds: int = 2,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        epochs: Sequence[int] = READ_AT,
    ) -> Content:
        """What a file is about.

        Parameters
        ----------
        seeds : int
            Of each table's own
        test_rows : int
            Drawn anew with every table
        label_noise : float
            Of the tables
        epochs : sequence of int
            At which all are read; the last is the end of retraining

        Examples
        --------
        >>> EveryStep().specification(epochs=[20, 10])
        Traceback (most recent call last):
        ValueError: epochs must rise from 1 or more, not [20, 10]
        """
        marks = list(epochs)
        if not marks or marks != sorted(set(marks)) or marks[0] < 1:
            raise ValueError(f"epochs must rise from 1 or more, not {marks}")
        return {
            **common(self.name, seeds, test_rows, label_noise, LEARNING_RATE),
            "lost": list(LOST),
            "once": list(ONCE),
            "epochs": marks,
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        steps = len(step_arms(spec)) * spec["epochs"][-1] * TRAIN_ROWS
        return int(len(units) * spec["seeds"] * (samples_of(plans_of(spec), TRAIN_ROWS) + steps))

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Train all arms on these tables."""
        drawn = draw_lanes(units, spec["seeds"], spec["test_rows"], spec["label_noise"], own=True)
        read_at, saved = spec["epochs"], Firsts()
        correct: dict[str, list[Tensor]] = {}

        def read(name: str, epoch: int, ensemble: Ensemble) -> None:
            correct.setdefault(name, []).append(ensemble.measure(*drawn.test)[0])

        plans = plans_of(spec)
        train_plans(drawn.tables, drawn.pairs, plans, read, read_at=read_at, tick=tick, saved=saved)
        olds, _ = saved[Recipe()]
        for epoch, ensembles in train_steps(drawn, olds, step_arms(spec), read_at[-1], tick):
            for name, ensemble in ensembles.items() if epoch in read_at else ():
                read(name, epoch, ensemble)
        yield {
            "tables": list(units),
            "correct": {name: drawn.by_seed(torch.stack(counts, dim=1)) for name, counts in correct.items()},
        }

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, the first epochs."""
        spec = content["specification"]
        return spec | {"epochs": spec["epochs"][:1]}, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """Accuracy at each epoch read, in percent."""
        lines = [f"{'epoch':16s}" + "".join(f"{n:8d}" for n in content["specification"]["epochs"])]
        for name in content["correct"]:
            means = curves(content, name).mean(axis=0)
            lines.append(f"{name:16s}" + "".join(f"{mean:8.2f}" for mean in means))
        return "\n".join(lines)


STUDY = EveryStep()


def plans_of(spec: Mapping[str, Any]) -> dict[str, Plan]:
    """Cold, warm, the trick once, and weight decay alone, from the second phase on."""
    then = Recipe(epochs=spec["epochs"][-1])
    plans = {"cold": Plan("fresh", then=then), "warm": Plan(then=then)}
    plans |= {f"once {lamda:g}": Plan(then=then, lamda=lamda, sigma=SIGMA) for lamda in spec["once"]}
    for lost in spec["lost"]:
        arm = StepArm("decay", lost)
        plans[arm.name] = Plan(then=Recipe(epochs=then.epochs, weight_decay=arm.decay))
    return plans


def step_arms(spec: Mapping[str, Any]) -> list[StepArm]:
    """All arms in which something happens after every step that no plan can do."""
    return [StepArm(kind, lost) for kind in ("scaled", "full", "noisy") for lost in spec["lost"]]


def train_steps(
    drawn: Drawn, olds: Sequence[MLP], arms: Sequence[StepArm], epochs: int, tick: Tick
) -> Iterator[tuple[int, dict[str, StepEnsemble]]]:
    """Train all arms from the old networks, in the batch orders of the plans; yield after every epoch.

    All arms of a lane get the same standard normal numbers.
    """
    ensembles = {
        arm.name: StepEnsemble(
            olds,
            Recipe(weight_decay=arm.decay),
            [draws(seed, "then") for seed in drawn.seeds],
            arm.lamda,
            arm.sigma,
        )
        for arm in arms
    }
    stacked, rows = drawn.stacked, len(drawn.tables[0].labels)
    first_row = drawn.lanes[:, None] * rows
    orders = [stream(seed, "order") for seed in drawn.seeds]
    generators = [side_stream(seed, STEP_STREAM) for seed in drawn.seeds]
    weights = sum(layer.weight.numel() for layer in olds[0].linears)
    noise = torch.empty(len(olds), -(-rows // BATCH_SIZE), weights, dtype=torch.float64)
    for epoch in range(1, epochs + 1):
        order = torch.stack([epoch_order(rows, None, each) for each in orders]) + first_row
        for lane, generator in zip(noise, generators):
            lane.normal_(generator=generator)
        for ensemble in ensembles.values():
            ensemble.noise = noise
            ensemble.train_epoch(stacked, order, learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE)
            tick(order.numel())
        yield epoch, ensembles


def curves(content: Mapping[str, Any], name: str) -> Floats:
    """Test accuracy in percent, (tables, epochs), the mean over seeds.

    Examples
    --------
    >>> content = {"specification": {"seeds": 2, "test_rows": 10}, "correct": {"cold": [[[4, 8], [6, 7]]]}}
    >>> curves(content, "cold")
    array([[50., 75.]])
    """
    return in_percent(content["specification"], content["correct"][name], further=1)


def at_end(content: Mapping[str, Any], name: str) -> Floats:
    """Test accuracy at the last epoch, one value a table."""
    last: Floats = curves(content, name)[:, -1]
    return last


def as_decay(content: Mapping[str, Any]) -> dict[tuple[str, float], Interval]:
    """The claim's family: (kind of noise, 1 - lamda) -> every step minus the decay that it should be."""
    twins = {"full": "noisy", "scaled": "decay"}
    keys = [(kind, lost) for kind in twins for lost in content["specification"]["lost"]]
    values = {
        f"{kind} {lost}": at_end(content, f"{kind} {lost:g}") - at_end(content, f"{twins[kind]} {lost:g}")
        for kind, lost in keys
    }
    return dict(zip(keys, simultaneous(values).values()))


def candidates(content: Mapping[str, Any], kind: str) -> dict[str, Floats]:
    """What there is to choose from: a kind of step arm, ``"decay"`` or ``"once"``, at the last epoch."""
    return {name: at_end(content, name) for name in content["correct"] if name.split()[0] == kind}


def chosen(content: Mapping[str, Any], kind: str) -> list[str]:
    """The strengths that the two halves of the tables chose for each other, most often first."""
    names = choose_elsewhere(candidates(content, kind)).tolist()
    return sorted({name.split()[1] for name in names}, key=lambda each: -names.count(f"{kind} {each}"))


def against_once(content: Mapping[str, Any]) -> dict[tuple[str, str], Interval]:
    """The second family: (one, other) -> their difference in points, each at its chosen strength."""
    best = {kind: best_elsewhere(candidates(content, kind)) for kind in ("once", "scaled", "full", "decay")}
    best["cold"] = at_end(content, "cold")
    pairs = [(kind, "once") for kind in ("scaled", "full", "decay")]
    pairs += [(kind, "cold") for kind in ("once", "scaled", "full", "decay")]
    values = {f"{one} - {other}": best[one] - best[other] for one, other in pairs}
    return dict(zip(pairs, simultaneous(values).values()))
