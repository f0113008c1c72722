"""A small transformer when new text arrives: what to start from, and at which learning rate.

A seed has a cut of three plays, a network and batch orders of its own. The old network learns half of the
cut with AdamW, a warm-up, a constant rate and a decay. Then the other half arrives, and every arm trains on
all of it, for as many steps, in the same batches. Two results: *much text*, of which training sees each
character twice or five times, and *little text*, seen twenty or forty times. The first is how language
models are trained, the second how the paper's image networks are.

Rules, written before the runs of which anything is reported:

- Score: minus the loss on held-out lines, the mean of those after the old half and those after the new one,
  in hundredths of a nat a character. One such point is about one percent of perplexity. Above is better.
- Protocol *equal*: all arms the same steps and batches; all but ``warm_low`` the same schedule, to its end.
  The old network was trained besides, as long again: that is the point of a warm start, and its cost is past.
- The unit is the seed. One joint family a result (:data:`PAIRS`): every arm minus cold, every way to keep
  something minus the plain warm start, and what Adam's state adds. Verdicts by the book's rule, half a point
  as small. Cuts of much text overlap: corrected by held-out over training characters. Those of little text
  do not.
- Hypotheses. Much text: warm is above cold, and the trick, by either rule, between the two. Little text: warm
  is below cold, the trick above warm. Both: Adam's state changes nothing (small); the checkpoint before
  the decay is better than the one after it; a constant low rate is below the re-warmed one; a fresh network
  shrunk is not told from cold, so that what the trick gains over cold is not its scale alone.
- Steps until cold's last score, read at 23 places from the held-out lines: a description, no saving that
  somebody without these lines could have, and of one long schedule, not of shorter ones. What never gets
  there counts with all steps (a restricted mean). Joint too.
- The rate was chosen by cold starts on plays that are not in the file: 0.002, 0.005, 0.01, 0.02; the smallest
  within a point of the best, for both results. Sizes were set so that ten seeds take half an hour on a core.
- Changed while much text was running, before anything of little text was read: this has 600 steps, not 900,
  because the machine was busier than reckoned.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from wsp.lab.language import (
    CUTS,
    LENGTH,
    Cut,
    Saved,
    cut,
    held_out_loss,
    load_text,
    new_transformer,
    rates,
    train,
    train_old,
)
from wsp.lab.retraining import LAMDA, SIGMA
from wsp.lab.rivals.fire import fire_
from wsp.lab.rounds import OFFICIAL_SIGMA, stream
from wsp.lab.statistics import Floats, Interval, simultaneous, verdict
from wsp.perturb import shrink_perturb_
from wsp.studies.engine import Study, Tick
from wsp.studies.parts import Content, a_share, at_least_1, differences, positive

LOW = 0.1  # of the peak: the rate that is advised for going on
READ_AT = (0.0, 0.01, 0.02, *(k / 20 for k in range(1, 21)))  # shares of the steps
FEWEST = 100  # steps
SLICE = 0.05  # of the steps: what is run again
ELSEWHERE = 0.05  # nats: single precision goes other ways on another processor
POINT = 0.01  # nats

Start = Callable[[nn.Module, nn.Module, torch.Generator], nn.Module]


def warm(old: nn.Module, fresh: nn.Module, generator: torch.Generator) -> nn.Module:
    """Go on."""
    return old


def cold(old: nn.Module, fresh: nn.Module, generator: torch.Generator) -> nn.Module:
    """Start again."""
    return fresh


def article(old: nn.Module, fresh: nn.Module, generator: torch.Generator) -> nn.Module:
    """The article's rule: half of the weights, normal noise."""
    return shrink_perturb_(old, LAMDA, SIGMA, generator=generator)


def paper(old: nn.Module, fresh: nn.Module, generator: torch.Generator) -> nn.Module:
    """The paper's rule, as much kept as by the article's: half of everything, a tenth of a fresh network."""
    return shrink_perturb_(old, LAMDA, OFFICIAL_SIGMA, noise=fresh, include=lambda name, parameter: True)


def fire(old: nn.Module, fresh: nn.Module, generator: torch.Generator) -> nn.Module:
    """FIRE: every matrix made orthogonal."""
    return fire_(old)


def fresh_shrunk(old: nn.Module, fresh: nn.Module, generator: torch.Generator) -> nn.Module:
    """The article's rule on a network that knows nothing."""
    return shrink_perturb_(fresh, LAMDA, SIGMA, generator=generator)


@dataclass(frozen=True)
class Arm:
    """How to start when new text arrives.

    Attributes
    ----------
    words : str
        Its name for people.
    start
        ``start(old, fresh, generator)`` gives the network to train; it may change both.
    before_decay : bool
        Whether `old` is the checkpoint before its decay, not the one after it.
    adam : bool
        Whether the state of AdamW goes on too.
    low : bool
        Whether the rate is constant and low, not warmed up again and decayed.
    """

    words: str
    start: Start
    before_decay: bool = False
    adam: bool = False
    low: bool = False


ARMS: dict[str, Arm] = {
    "cold": Arm("cold", cold),
    "warm": Arm("warm", warm),
    "warm_adam": Arm("warm, with Adam's state", warm, adam=True),
    "before_decay": Arm("warm from before the decay", warm, before_decay=True),
    "before_decay_adam": Arm("the same, with Adam's state", warm, before_decay=True, adam=True),
    "warm_low": Arm("warm, constant low rate", warm, low=True),
    "shrink_perturb": Arm("article's rule", article),
    "paper": Arm("paper's rule, half kept", paper),
    "fire": Arm("FIRE", fire),
    "fresh_shrunk": Arm("fresh, shrunk", fresh_shrunk),
}
#: What is compared: the first minus the second.
#:
#: :meta hide-value:
PAIRS: tuple[tuple[str, str], ...] = (
    *((key, "cold") for key in ARMS if key != "cold"),
    *((key, "warm") for key in ARMS if key not in ("cold", "warm", "fresh_shrunk")),
    ("before_decay_adam", "before_decay"),
    ("paper", "shrink_perturb"),
)


class Transformer(Study):
    """For each seed, by arm: ``old`` and ``new``, the loss in nats on the held-out lines after each half, at
    every reading; ``fit``, the loss at the end on the first lines of the old half and of the new one. The
    old network's own losses, before its decay and after it, are under ``first``: `old`, `new`, `fit`.
    """

    name, chapter, key, parallel = "transformer", 11, "seeds", False
    words = "a small transformer when new text arrives: checkpoints, rates, Adam's state, the trick"
    minutes = 0.5

    def specification(
        self,
        *,
        train: int = 190_000,
        held: int = 8_200,
        steps: int = 900,
        learning_rate: float = 0.01,
        until: float = 1.0,
    ) -> Content:
        """What the runs of a file have in common.

        Parameters
        ----------
        train : int
            Characters of each half.
        held : int
            Held out after each half.
        steps : int
            Of the old training, and of every one that follows.
        learning_rate : float
            Its peak.
        until : float
            The share of the steps after which what follows breaks off, as a slice does.

        Examples
        --------
        >>> STUDY.specification(train=15_880, held=4_100)["steps"]
        900
        >>> STUDY.specification(until=1.5)
        Traceback (most recent call last):
        ValueError: until must be from 0 to 1, not 1.5
        """
        at_least_1(train=train, held=held, steps=steps)
        if steps < FEWEST:
            raise ValueError(f"steps must be at least {FEWEST}, to be read at every hundredth; not {steps}")
        positive(learning_rate=learning_rate)
        a_share(until=until)
        cut(load_text(), 0, train, held)
        return {
            "train": train,
            "held": held,
            "steps": steps,
            "learning_rate": learning_rate,
            "until": until,
            "format": f"wsp {self.name} 1",
        }

    def units(self, spec: Content, content: Content | None, *, seeds: int = CUTS) -> Sequence[int]:
        """Which seeds a file is to hold.

        Parameters
        ----------
        seeds : int
            At most ten, a cut of the text each.
        """
        at_least_1(seeds=seeds)
        if seeds > CUTS:
            raise ValueError(f"the text has {CUTS} cuts, a seed each; {seeds} are too many")
        return range(seeds)

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Steps."""
        return len(units) * (int(spec["steps"]) + len(ARMS) * broken_off(spec))

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Train seed after seed, all arms of each."""
        text = load_text()
        for seed in units:
            parts = cut(text, seed, spec["train"], spec["held"])
            saved = train_old(
                fresh_of(seed, 1), parts.old, spec["steps"], spec["learning_rate"], stream(seed, 1, "order")
            )
            tick(spec["steps"])
            part: Content = {"seeds": [seed], "first": first_of(saved, parts)}
            part |= {name: {} for name in ("old", "new", "fit")}
            for key, arm in ARMS.items():
                for name, found in retrained(arm, saved, parts, seed, spec, tick).items():
                    part[name][key] = [found]
            yield part

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last seed: its old network, and the beginning of every arm."""
        return content["specification"] | {"until": SLICE}, self.done(content)[-1:]

    def rows(self, content: Content, units: Sequence[int]) -> Content:
        """What a result holds of these seeds; the fit of what broke off is that of another step."""
        found = super().rows(content, units)
        whole = content["specification"]["until"] == 1
        return found if whole else {name: value for name, value in found.items() if name != "fit"}

    def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
        """To the last digit on the processor that made them; elsewhere within a twentieth of a nat."""
        if at_home:
            yield from differences(kept, again)
            return
        for name in ("old", "new"):
            for key, [found] in again[name].items():
                apart = float(np.mean(np.array(found) - kept[name][key][0][: len(found)]))
                if not abs(apart) < ELSEWHERE:
                    yield f"{name} {key}: {apart:+.3f} nats off what is stored"

    def as_text(self, content: Content) -> str:
        """Loss, steps, and every declared difference."""
        lines = [f"{'arm':30s}{'loss, nats':>12s}{'fit':>8s}{'steps to cold, %':>18s}"]
        steps, fitted = steps_to_cold(content), fit_of(content)
        for key, values in score(content).items():
            loss, fit = -POINT * values.mean(), fitted[key].mean()
            lines.append(f"{ARMS[key].words:30s}{loss:12.3f}{fit:8.3f}{steps[key].mean():18.0f}")
        if len(content["seeds"]) > 1:
            for (one, other), gap in compared(content).items():
                words = f"{ARMS[one].words} - {ARMS[other].words}"
                lines.append(f"{words:60s}{gap:+.2f}  {verdict(gap)}")
        return "\n".join(lines)


STUDY = Transformer()


def broken_off(spec: Mapping[str, Any]) -> int:
    """How many steps follow when the new text has arrived."""
    count: int = round(spec["until"] * spec["steps"])
    return count


def fresh_of(seed: int, number: int) -> nn.Module:
    """The new network of a seed: number 1 learns the old half, 2 is there when the new one arrives."""
    return new_transformer(stream(seed, number, "weights").initial_seed())


def losses(network: nn.Module, parts: Cut) -> tuple[float, float]:
    """On the held-out lines after the old half, and after the new one."""
    old, new = (held_out_loss(network, part) for part in (parts.old_held, parts.new_held))
    return round(old, 5), round(new, 5)


def fit_to(network: nn.Module, parts: Cut) -> list[float]:
    """On the first lines of each half, which are trained on; as many as are held out."""
    length = len(parts.old_held)
    return [round(held_out_loss(network, part[:length]), 5) for part in (parts.old, parts.new)]


def first_of(saved: Sequence[Saved], parts: Cut) -> Content:
    """What the old network can do, before its decay and after it."""
    old, new = zip(*(losses(each.network, parts) for each in saved))
    return {"old": [list(old)], "new": [list(new)], "fit": [[fit_to(each.network, parts) for each in saved]]}


def retrained(
    arm: Arm, saved: Sequence[Saved], parts: Cut, seed: int, spec: Mapping[str, Any], tick: Tick
) -> dict[str, list[float]]:
    """Train one arm on all of the text: its held-out losses at every reading, and its fit."""
    steps, peak = spec["steps"], spec["learning_rate"]
    kept = saved[0 if arm.before_decay else 1]
    network = arm.start(copy.deepcopy(kept.network), fresh_of(seed, 2), stream(seed, 2, "noise"))
    plan = [LOW * peak] * steps if arm.low else rates(steps, peak)
    read_at = {round(share * steps) for share in READ_AT}
    readings = [losses(network, parts)]

    def after_step(step: int, optimizer: torch.optim.Optimizer) -> None:
        tick(1)
        if step in read_at:
            readings.append(losses(network, parts))

    train(
        network,
        [parts.old, parts.new],
        plan[: broken_off(spec)],
        stream(seed, 2, "order"),
        adam=kept.adam if arm.adam else None,
        after_step=after_step,
    )
    old, new = zip(*readings)
    return {"old": list(old), "new": list(new), "fit": fit_to(network, parts)}


def curves(content: Mapping[str, Any]) -> dict[str, Floats]:
    """The score by arm, (seeds, readings): minus the mean loss on both held-out parts, in points."""
    return {
        key: -(np.array(content["old"][key]) + np.array(content["new"][key])) / 2 / POINT
        for key in content["old"]
    }


def score(content: Mapping[str, Any]) -> dict[str, Floats]:
    """The score at the end, one value a seed."""
    return {key: curve[:, -1] for key, curve in curves(content).items()}


def fit_of(content: Mapping[str, Any]) -> dict[str, Floats]:
    """The loss in nats at the end on lines that were trained on, one value a seed."""
    return {key: np.array(each).mean(axis=1) for key, each in content["fit"].items()}


def overlap_of(content: Mapping[str, Any]) -> float:
    """Held-out over training characters where cuts share text, for the intervals; else 0.

    Examples
    --------
    >>> round(overlap_of({"specification": {"train": 190_000, "held": 8_200}}), 3)
    0.043
    >>> overlap_of({"specification": {"train": 15_880, "held": 4_100}})
    0.0
    """
    spec = content["specification"]
    apart = 2 * CUTS * (spec["train"] + spec["held"]) <= LENGTH
    return 0.0 if apart else float(spec["held"] / spec["train"])


def compared(content: Mapping[str, Any]) -> dict[tuple[str, str], Interval]:
    """The family of a result: each difference of scores in points, above is better."""
    values = score(content)
    gaps = {f"{one} - {other}": values[one] - values[other] for one, other in PAIRS}
    return dict(zip(PAIRS, simultaneous(gaps, overlap=overlap_of(content)).values()))


def steps_to_cold(content: Mapping[str, Any]) -> dict[str, Floats]:
    """The share of the steps, in percent, until an arm first has its seed's cold start's last score.

    One value a seed. What never gets there counts with all steps.
    """
    found, shares = curves(content), 100 * np.array(READ_AT)
    target = found["cold"][:, -1:]
    hits = {key: curve >= target for key, curve in found.items()}
    return {key: np.where(hit.any(axis=1), shares[hit.argmax(axis=1)], 100.0) for key, hit in hits.items()}


def reached_cold(content: Mapping[str, Any]) -> dict[str, int]:
    """In how many seeds an arm ever has cold's last score."""
    found = curves(content)
    return {key: int((curve >= found["cold"][:, -1:]).any(axis=1).sum()) for key, curve in found.items()}


def saved_steps(content: Mapping[str, Any]) -> dict[str, Interval]:
    """Restricted means of :func:`steps_to_cold`, joint for all arms but cold."""
    values = {key: steps for key, steps in steps_to_cold(content).items() if key != "cold"}
    return simultaneous(values, overlap=overlap_of(content))
