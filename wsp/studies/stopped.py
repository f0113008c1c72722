"""The starts under the protocol that people use: each stops by rows that it holds out.

Rules, written before any run of this study larger than a test:

- What was looked at before: 60 tables with two seeds, label noise 0.05, rate 0.05: stopped by the loss of
  40 rows, the trick (lamda 0.5) stood at +0.74 (0.42 to 1.06) against cold in half of its epochs, warm at
  -0.96. So the hypotheses are not blind; these tables (4000 on) are in no
  result stored before.
- Hypotheses: stopped, warm is below cold and the trick above it, in less training; the trick owes it to
  what it keeps, so that it is above a fresh network shrunk alike.
- The verdict is drawn under *stopped, by the loss, 40 of all rows held out, patience 50, no second
  training, the old network trained to the end*. In each setting of label noise and learning rate one joint
  family: every arm minus cold. Besides, single and declared here: ``shrink_perturb`` minus
  ``fresh_shrunk``.
- Checks, told with how many agree in sign, not as verdicts: by accuracy; trained again on all rows; 20 rows
  held out; rows held out of the new ones alone; the old network itself stopped (by the loss of 20 of its
  100 rows, which stay held out). Where rows are held out of all and the old network was trained to the end,
  it has seen half of them: the stop may then be too kind to warm, and a check without that is among these.
- *Budget*: the best epoch by the split up to 20, 50, 100, 200, 500, 1000 epochs, patience or not: one joint
  family of all arms and budgets minus cold with the same budget. *Article* and *equal* stand beside, from
  all rows.
- Cost: epochs trained until stopped, patience included, as a ratio of sums to cold's.
- Nothing is chosen: lamda 0.5 is the article's, 0.3 was named before; both are told.
- "Above in k of six settings" counts settings whose joint interval is above 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from wsp.lab.employees import LABEL_NOISE
from wsp.lab.many.stopping import HELD, PATIENCE
from wsp.lab.retraining import ARMS, LAMDA, SIGMA, Arm
from wsp.lab.training import EPOCHS, LEARNING_RATE
from wsp.studies.parts import Content
from wsp.studies.protocols import Protocols, Way
from wsp.studies.tables import some_of

BUDGETS = (20, 50, 100, 200, 500, 1000)
LESS = 0.3  # the other lamda
STARTS = {
    arm.key: arm
    for arm in (
        ARMS["cold"],
        ARMS["warm"],
        ARMS["shrink_perturb"],
        Arm("shrink_perturb_0.3", "saved", LESS, SIGMA),
        Arm("fresh_shrunk", "fresh", LAMDA, SIGMA),
        Arm("fresh_shrunk_0.3", "fresh", LESS, SIGMA),
        Arm("shrink_only", "saved", LAMDA, 0.0),
        Arm("perturb_only", "saved", 1.0, SIGMA),
    )
}


class Stopped(Protocols):
    """The arms of the book and their controls, each stopped by rows of its own."""

    name, chapter = "stopped", 6
    words = "every arm stops by rows that it holds out, as people train"
    chunk = 40

    def specification(
        self,
        *,
        arms: Sequence[str] = ("all",),
        seeds: int = 2,
        held: int = HELD,
        held_from: str = "all",
        old: str = "end",
        first_epochs: int = EPOCHS,
        patience: int = PATIENCE,
        read_at: Sequence[int] = BUDGETS,
        budgets: Sequence[int] = BUDGETS,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What is computed.

        Parameters
        ----------
        arms : sequence of str
            Keys of ``wsp.studies.stopped.STARTS``, or all; cold is always there
        seeds : int
            Of each table's own
        held : int
            Rows held out of the 200, the same for all arms
        held_from : str
            all, old and new in proportion; or new
        old : str
            The old network is trained to the end, or stopped by its own share of the rows held out
        first_epochs : int
            Of the old network, at most
        patience : int
            Epochs without a better one until a lane has stopped
        read_at, budgets : sequence of int
            When to read what is trained on all rows, and budgets for the best epoch by the split; the
            last of all is the longest training
        test_rows : int
            Drawn anew with every table
        label_noise, learning_rate : float
            Of the tables, and of every training

        Examples
        --------
        >>> Stopped().specification(held=1, held_from="old")
        Traceback (most recent call last):
        ValueError: rows can be held out of all or new, not of 'old'
        """
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
        ) | {"arms": some_of("arm", ["cold", *arms], STARTS)}

    def ways(self, spec: Content) -> list[Way]:
        """The arms."""
        return [Way(key, STARTS[key]) for key in spec["arms"]]

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, the trick and cold."""
        spec = content["specification"]
        arms = [key for key in ("cold", "shrink_perturb") if key in spec["arms"]]
        return spec | {"arms": arms}, self.done(content)[-1:]


STUDY = Stopped()
