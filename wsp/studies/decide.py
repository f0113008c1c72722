"""Cold, warm, or shrink and perturb: by what is old, what is new, and what training may cost.

Three things vary on the same fresh tables: the share of the rows that are new, how long the
old network was trained on the old ones, and how long it is trained now, on all of them. Every
retraining is run twice: on all rows for fixed epochs, and on four fifths of them, stopped by the rest.

Rules, written before the run with seeds of their own:

- Hypotheses, after the run with seeds 0 to 3 on all tables: with 20 epochs the trick is best in most cases,
  with 500 cold. New: stopped by a split, the trick is above cold in most cases.
- Protocols, each told apart: *fixed*, all rows, read after 20, 100 and 500 epochs; *budget*, the epoch of
  the lowest loss on 40 rows held out (and, recorded beside, of the most right), at any epoch up to 20, 100,
  500; *stopped*, the same with patience 50, up to 500 epochs.
- A choice is the start with the highest mean on the first half of the tables, in one case under one
  protocol with one budget. Its leads over the other two are reported on the second half. The leads of one
  protocol are one joint family. Leads by the loss are the verdicts; by accuracy they are a check.
- Contrasts, one joint family a protocol (:func:`contrasts`): warm minus cold, the trick minus cold and the
  trick minus warm, averaged over the four shares of new rows, for every age of the old network and every
  budget. Declared after the run was started, and before anything of it was read.
- The rows held out are the same for all starts and cases of a lane. The old network was trained on some of
  them, which favors warm and, less, the trick: :mod:`wsp.studies.stopped` measures by how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsp.lab.employees import LABEL_NOISE, TRAIN_ROWS
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import Draw, ensemble_of, orders_of
from wsp.lab.many.lanes import draw_lanes, train_epochs
from wsp.lab.many.stopping import HELD, PATIENCE, RULES, hold_out, split_lanes, train_stopped
from wsp.lab.network import MLP
from wsp.lab.retraining import ARMS, OLD_ROWS, start_network, stream
from wsp.lab.statistics import Interval, simultaneous
from wsp.lab.training import LEARNING_RATE
from wsp.studies.engine import Tick
from wsp.studies.parts import Content, at_least_1
from wsp.studies.tables import ByTable, common, in_percent

STARTS = ("cold", "warm", "shrink_perturb")
NEW_SHARES = (0.10, 0.25, 0.50, 0.75)  # of the 200 rows
FIRST_EPOCHS = (50, 200, 1000)  # of the old network, on the old rows
BUDGETS = (20, 100, 500)  # epochs on all rows
FIRST_TABLE = 3000  # these tables served for nothing else
PROTOCOLS = ("fixed", "budget", "stopped")

Floats = NDArray[np.float64]


class Decide(ByTable):
    """By :func:`label`, for each table a list over its seeds. ``correct``: test rows right, after fixed
    epochs on all rows. By rule (loss or accuracy), then label: ``budget``, the same at the best epoch so
    far by rows held out; ``stopped``, at the best epoch when patience ran out; ``epoch``, that one; and
    ``spent``, epochs trained by then.
    """

    name, chapter = "decide", 13
    words = "the best start by what is new, how long the old network was trained, and what training may cost"
    chunk, first = 25, FIRST_TABLE

    def specification(
        self,
        *,
        seeds: int = 2,
        new_shares: Sequence[float] = NEW_SHARES,
        first_epochs: Sequence[int] = FIRST_EPOCHS,
        budgets: Sequence[int] = BUDGETS,
        held: int = HELD,
        patience: int = PATIENCE,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What is computed.

        Parameters
        ----------
        seeds : int
            Of each table's own
        new_shares : sequence of float
            Shares of the table's 200 rows that are new, between 0 and 1
        first_epochs, budgets : sequence of int
            Epochs of the old network, and epochs at which a retraining is read
        held, patience : int
            Rows held out of the 200, and epochs without a better one until a lane has stopped
        test_rows : int
            Drawn anew with every table
        label_noise, learning_rate : float
            Of the tables, and of every training

        Examples
        --------
        >>> Decide().specification(new_shares=[1.0])
        Traceback (most recent call last):
        ValueError: a share of new rows must leave old ones and be above 0, not 1.0
        """
        for epochs in (*first_epochs, *budgets):
            at_least_1(epochs=epochs)
        at_least_1(held=held, patience=patience)
        for share in new_shares:
            if not 0 < old_rows(share) < TRAIN_ROWS:
                raise ValueError(f"a share of new rows must leave old ones and be above 0, not {share}")
        hold_out(TRAIN_ROWS, OLD_ROWS, held, 0)
        return {
            **common(self.name, seeds, test_rows, label_noise, learning_rate),
            "new_shares": list(new_shares),
            "first_epochs": sorted(first_epochs),
            "budgets": sorted(budgets),
            "held": held,
            "patience": patience,
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        first = sum(map(old_rows, spec["new_shares"])) * max(spec["first_epochs"])
        starts = 1 + 2 * len(spec["new_shares"]) * len(spec["first_epochs"])
        then = starts * (2 * TRAIN_ROWS - spec["held"]) * max(spec["budgets"])
        return int(len(units) * spec["seeds"] * (first + then))

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Train everything on these tables."""
        drawn = draw_lanes(units, spec["seeds"], spec["test_rows"], spec["label_noise"], own=True)
        rate, budgets = spec["learning_rate"], spec["budgets"]
        found: Content = {
            "tables": list(units),
            "correct": {},
            **{what: {rule: {} for rule in RULES} for what in ("budget", "stopped", "epoch", "spent")},
        }

        def orders(name: str) -> Draw:
            return orders_of([stream(seed, name) for seed in drawn.seeds])

        def count(ensemble: Ensemble) -> list[list[int]]:
            return drawn.by_seed(ensemble.measure(*drawn.test)[0])

        def started(key: str, saved: Sequence[MLP | None]) -> list[MLP]:
            return [start_network(ARMS[key], seed, old) for seed, old in zip(drawn.seeds, saved)]

        nothing = [None] * len(drawn.seeds)
        starts = {"cold": started("cold", nothing)}
        for share in spec["new_shares"]:
            old, last = ensemble_of(started("initial", nothing)), max(spec["first_epochs"])
            first, rows = orders("first order"), old_rows(share)
            for epoch in train_epochs(
                {"old": old}, drawn.stacked, drawn.lanes, rows, first, last, tick, rate
            ):
                if epoch in spec["first_epochs"]:
                    found["correct"][label("old", share, epoch)] = count(old)
                    for key in ("warm", "shrink_perturb"):
                        starts[label(key, share, epoch)] = started(key, list(old.networks()))

        ensembles = {key: ensemble_of(networks) for key, networks in starts.items()}
        for epoch in train_epochs(
            ensembles, drawn.stacked, drawn.lanes, TRAIN_ROWS, orders("order"), max(budgets), tick, rate
        ):
            if epoch in budgets:
                found["correct"] |= {label(key, epoch): count(each) for key, each in ensembles.items()}

        def read(key: str, budget: int, rule: str, best: Ensemble) -> None:
            found["budget"][rule][label(key, budget)] = count(best)

        stopped = train_stopped(
            {key: ensemble_of(networks) for key, networks in starts.items()},
            split_lanes(drawn.train, OLD_ROWS, spec["held"], drawn.seeds),
            orders("order"),
            max(budgets),
            patience=spec["patience"],
            budgets=budgets,
            read=read,
            tick=tick,
            learning_rate=rate,
        )
        for key, by_rule in stopped.items():
            for rule, best in by_rule.items():
                found["stopped"][rule][key] = count(best.shown())
                found["epoch"][rule][key] = drawn.by_seed(best.epoch)
                found["spent"][rule][key] = drawn.by_seed(best.spent)
        yield found

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, the smallest old half, the shortest old training, all budgets."""
        spec = content["specification"]
        less = {"new_shares": [max(spec["new_shares"])], "first_epochs": [min(spec["first_epochs"])]}
        return spec | less, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """The choices as a table for people."""
        spec = content["specification"]
        lines = [f"{len(content['tables'])} tables × {spec['seeds']} seeds, conditional on tables like these"]
        for protocol in PROTOCOLS:
            lines += ["", protocol, f"{'epochs now':>10s} {'new rows':>9s} {'old epochs':>11s}  best"]
            for c in choices(content, protocol):
                leads = "; ".join(f"{other} {lead}" for other, lead in c.leads.items())
                lines.append(f"{c.budget:10d} {c.new_share:9.0%} {c.first_epochs:11d}  {c.best:16s} {leads}")
        return "\n".join(lines)


STUDY = Decide()


def old_rows(new_share: float) -> int:
    """How many of the 200 rows are old.

    Examples
    --------
    >>> old_rows(0.75)
    50
    """
    return TRAIN_ROWS - round(new_share * TRAIN_ROWS)


def label(*parts: object) -> str:
    """What a count is called: the start, its case unless it is cold, and the epochs of now.

    Examples
    --------
    >>> label("warm", 0.5, 1000, 20), label("cold", 20), label("old", 0.5, 1000)
    ('warm 0.5 1000 20', 'cold 20', 'old 0.5 1000')
    """
    return " ".join(map(str, parts))


def accuracy(found: Mapping[str, Any], *parts: object, protocol: str = "fixed", rule: str = "loss") -> Floats:
    """Test accuracy in percent, one value a table; `parts` as for :func:`label`, if stopped no budget."""
    counts = found["correct"] if protocol == "fixed" else found[protocol][rule]
    return in_percent(found["specification"], counts[label(*parts)])


@dataclass(frozen=True)
class Choice:
    """How to start in one case and with one budget.

    Attributes
    ----------
    new_share, first_epochs, budget
        The case, and epochs on all rows.
    best : str
        The start with the highest mean on the tables that choose.
    leads : dict
        Each other start → the lead of `best` over it, in points, on the tables that report.
    """

    new_share: float
    first_epochs: int
    budget: int
    best: str
    leads: dict[str, Interval]

    @property
    def as_good(self) -> list[str]:
        """Starts that the chosen one is not shown to beat."""
        return [other for other, lead in self.leads.items() if lead.low <= 0]

    @property
    def runner_up(self) -> str:
        """The start that comes nearest, on the tables that report."""
        return min(self.leads, key=lambda other: self.leads[other].estimate)


def choices(found: Mapping[str, Any], protocol: str = "fixed", rule: str = "loss") -> list[Choice]:
    """The best start in every case, with every budget.

    It is chosen on half of the tables and its leads are reported on the other half, with
    intervals that hold for all of them at once.

    Parameters
    ----------
    found : mapping
    protocol : {"fixed", "budget", "stopped"}
        See the module's text. Stopped has the last budget alone.
    rule : {"loss", "accuracy"}
        What stops.

    Examples
    --------
    >>> from wsp.lab.results import stored
    >>> choices(stored("decided"))[0].budget
    20

    See chapter 13.
    """
    spec, half = found["specification"], len(found["tables"]) // 2
    best: dict[tuple[float, int, int], str] = {}
    leads: dict[str, Floats] = {}
    for budget in spec["budgets"][-1:] if protocol == "stopped" else spec["budgets"]:
        read_at = [] if protocol == "stopped" else [budget]
        for share in spec["new_shares"]:
            for epochs in spec["first_epochs"]:
                values = {
                    key: accuracy(
                        found,
                        *([key] if key == "cold" else [key, share, epochs]),
                        *read_at,
                        protocol=protocol,
                        rule=rule,
                    )
                    for key in STARTS
                }
                winner = max(STARTS, key=lambda key: values[key][:half].mean())
                best[share, epochs, budget] = winner
                for other in STARTS:
                    if other != winner:
                        leads[label(other, share, epochs, budget)] = (values[winner] - values[other])[half:]
    intervals = simultaneous(leads)
    return [
        Choice(*case, winner, {o: intervals[label(o, *case)] for o in STARTS if o != winner})
        for case, winner in best.items()
    ]


def tiles(
    found: Mapping[str, Any], protocol: str, budget: int
) -> dict[tuple[int, int], tuple[list[str], str | None]]:
    """Who is best in every case, as a grid: for the figures of chapter 13.

    Returns
    -------
    dict
        (column, row), by share of new rows and epochs of the old network → the start that was chosen, with
        those that it is not shown to beat; and the start alone if it beats both others, else None.
    """
    spec = found["specification"]
    grid: dict[tuple[int, int], tuple[list[str], str | None]] = {}
    for choice in choices(found, protocol):
        if choice.budget == budget:
            place = (
                spec["new_shares"].index(choice.new_share),
                spec["first_epochs"].index(choice.first_epochs),
            )
            able = [start for start in STARTS if start == choice.best or start in choice.as_good]
            grid[place] = able, choice.best if len(able) == 1 else None
    return grid


def averaged(
    found: Mapping[str, Any], start: str, old_epochs: int, budget: int, protocol: str = "fixed"
) -> Floats:
    """Test accuracy in percent, one value a table: the mean over all shares of new rows."""
    read_at = [] if protocol == "stopped" else [budget]
    if start == "cold":
        return accuracy(found, start, *read_at, protocol=protocol)
    shares = found["specification"]["new_shares"]
    values = [accuracy(found, start, share, old_epochs, *read_at, protocol=protocol) for share in shares]
    mean: Floats = np.mean(values, axis=0)
    return mean


def contrasts(found: Mapping[str, Any], protocol: str = "fixed") -> dict[tuple[int, int, str], Interval]:
    """The starts against each other, averaged over the shares of new rows, in points: one joint family.

    Returns
    -------
    dict
        (epochs of the old network, budget, ``"warm - cold"``, ``"shrink_perturb - cold"`` or
        ``"shrink_perturb - warm"``) → interval over tables.
    """
    spec = found["specification"]
    budgets = spec["budgets"][-1:] if protocol == "stopped" else spec["budgets"]
    pairs = (("warm", "cold"), ("shrink_perturb", "cold"), ("shrink_perturb", "warm"))
    family = {
        (age, budget, f"{first} - {second}"): averaged(found, first, age, budget, protocol)
        - averaged(found, second, age, budget, protocol)
        for age in spec["first_epochs"]
        for budget in budgets
        for first, second in pairs
    }
    found_intervals = simultaneous({str(key): values for key, values in family.items()})
    return dict(zip(family, found_intervals.values()))
