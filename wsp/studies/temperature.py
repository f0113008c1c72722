"""A soft start: logits divided by a temperature in training, warm, cold, and after the trick.

Rules, written before any run of this study larger than a test:

- What was looked at before: 60 tables with two seeds, epoch 500, minus cold at T = 1: warm -2.19 at T = 1,
  -0.97 at 2, +0.01 at 4, +0.80 (0.61 to 0.98) at 8; the trick -0.93; cold +1.15 at 4, and at 8 above warm
  by 0.29; with T falling to 1 it was gone. These tables (4000 on) are in no result stored
  before.
- Hypotheses: (a) warm at its best T is above cold at T = 1; (b) cold at its best T is above warm at its;
  (c) falling to 1, neither differs from the same start at T = 1 by more than half a point; (d) the trick at
  its best T is level with warm at its: it is nothing but a soft start.
- T is chosen from 1, 2, 4, 8, 16 for each start, protocol and schedule apart, on one half of the tables, at
  even or odd places, and reported on the other (:func:`wsp.studies.tables.choose_elsewhere`). If a half
  chooses 16 the grid is extended before anything is told. (Halves did; it was extended to 32, and for T
  that stays no half chooses that. Falling T gains a little with every doubling and has no inner best.)
- Protocols, one joint family each, comparisons (a), (b), (d) and those of (c) as they stand: *equal*, all
  rows, epoch 500; *stopped* by the loss of 40 rows, patience 50. By accuracy, and trained again: checks.
- The loss that stops is that of training, at the temperature of the epoch. Where T falls, losses of
  different epochs are of different temperatures; so for falling T the rule by accuracy is told beside it.
- Falling: from T at the first epoch to 1 at epoch 250, by equal factors, then 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsp.lab.employees import LABEL_NOISE
from wsp.lab.many.stopping import HELD, PATIENCE
from wsp.lab.retraining import ARMS
from wsp.lab.statistics import Floats
from wsp.lab.training import EPOCHS, LEARNING_RATE
from wsp.studies.parts import Content, at_least_1, positive
from wsp.studies.protocols import Protocols, Way, accuracy
from wsp.studies.tables import best_elsewhere, some_of

STARTS = ("cold", "warm", "shrink_perturb")
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
READ_AT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
BUDGETS = (100, 500, 1000)
FALLS_BY = 250


class Temperature(Protocols):
    """Every start with every temperature, which stays, or falls to 1."""

    name, chapter = "temperature", 7
    words = "logits divided by a temperature in training: a soft start"
    chunk = 20

    def specification(
        self,
        *,
        starts: Sequence[str] = STARTS,
        temperatures: Sequence[float] = TEMPERATURES,
        falls_by: int = FALLS_BY,
        seeds: int = 2,
        held: int = HELD,
        held_from: str = "all",
        old: str = "end",
        first_epochs: int = EPOCHS,
        patience: int = PATIENCE,
        read_at: Sequence[int] = READ_AT,
        budgets: Sequence[int] = BUDGETS,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What is computed.

        Parameters
        ----------
        starts : sequence of str
            Of cold, warm, shrink_perturb
        temperatures : sequence of float
            What logits are divided by, from 1 on; all but 1 also falling
        falls_by : int
            The epoch at which a falling temperature is 1
        seeds : int
            Of each table's own
        held, held_from, old, first_epochs, patience
            As for the study stopped
        read_at, budgets : sequence of int
            When to read what is trained on all rows, and budgets for the best epoch by the split
        test_rows : int
            Drawn anew with every table
        label_noise, learning_rate : float
            Of the tables, and of every training

        Examples
        --------
        >>> Temperature().specification(temperatures=[0.0])
        Traceback (most recent call last):
        ValueError: temperature must be positive, not 0.0
        """
        for temperature in temperatures:
            positive(temperature=temperature)
        at_least_1(falls_by=falls_by)
        return self.shared(
            seeds=seeds,
            held=held,
            held_from=held_from,
            old=old,
            first_epochs=first_epochs,
            patience=patience,
            read_at=read_at,
            budgets=budgets,
            test_rows=test_rows,
            label_noise=label_noise,
            learning_rate=learning_rate,
        ) | {
            "starts": some_of("start", starts, STARTS),
            "temperatures": list(temperatures),
            "falls_by": falls_by,
        }

    def ways(self, spec: Content) -> list[Way]:
        """Every start at every temperature, constant, then falling."""
        return [
            Way(name_of(start, temperature, bool(falls)), ARMS[start], temperature, falls)
            for start in spec["starts"]
            for falls in (0, spec["falls_by"])
            for temperature in spec["temperatures"]
            if temperature != 1 or not falls
        ]

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, one start at one temperature, constant and falling."""
        less = {"starts": ["warm"], "temperatures": [max(content["specification"]["temperatures"])]}
        return content["specification"] | less, self.done(content)[-1:]


STUDY = Temperature()


def name_of(start: str, temperature: float, falls: bool = False) -> str:
    """What a way is called.

    Examples
    --------
    >>> name_of("warm", 8.0), name_of("warm", 8.0, falls=True)
    ('warm 8', 'warm 8 falling')
    """
    return f"{start} {temperature:g}" + " falling" * falls


def at_its_best(
    found: Mapping[str, Any], start: str, protocol: str, falls: bool = False, **how: Any
) -> Floats:
    """Accuracy of a start, one value a table, each at the temperature that was best on the other half.

    Parameters
    ----------
    found : mapping
        A result of this study.
    start : str
    protocol : str
        As for :func:`wsp.studies.protocols.accuracy`, and so are further words.
    falls : bool
        Whether the temperature falls. T = 1 is always among the candidates.
    """
    return best_elsewhere(
        {
            f"{temperature:g}": accuracy(
                found, name_of(start, temperature, falls and temperature != 1), protocol, **how
            )
            for temperature in found["specification"]["temperatures"]
        }
    )
