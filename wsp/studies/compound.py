"""Shrink and perturb again and again: what is left of the old network, what piles up of the noise.

The rows of a table arrive a few at a time. In every round each arm starts from its own last
network (cold: from a new one) and is trained on all rows so far, in the same batch orders as
the others. Two kinds of twin measure what compounds. One began with another first network:
the distance between the two says how much the beginning still counts. The other has all the
same but draws other noise: the distance is what the noise of all rounds has become.

Rules, written before the run with seeds of their own:

- Hypotheses, after the run with one seed on all tables: warm falls behind cold, the more the more rounds;
  lamda 0.6 is level with cold or a little behind. A look at six crossed seeds gave warm -2.92 (-3.32 to
  -2.52) and lamda 0.6 -0.20 (-0.33 to -0.06): the verdict on 0.6 is open.
- Comparisons, one joint family: every pair of lamda and sigma minus cold in the last round, after 200
  epochs (*equal*). After 20 epochs: another joint family (both: :func:`last_round`). Round by round, warm
  minus cold: a third (:func:`warm_by_round`); the last round is in the first family, and not here again.
- Nothing is chosen: all pairs are told. Which pair is best of them is not a finding.
- Twins are described (mean and share by round), without verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsp.lab.employees import LABEL_NOISE, TRAIN_ROWS
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import ensemble_of, orders_of
from wsp.lab.many.lanes import draw_lanes, train_epochs
from wsp.lab.network import MLP
from wsp.lab.retraining import stream
from wsp.lab.statistics import Floats, Interval, simultaneous
from wsp.lab.training import LEARNING_RATE
from wsp.perturb import shrink_perturb_
from wsp.studies.engine import Tick
from wsp.studies.grid import WARM, cell
from wsp.studies.parts import Content, at_least_1, differences
from wsp.studies.tables import ByTable, common

LAMDAS = (1.0, 0.9, 0.8, 0.6, 0.4, 0.2)  # with sigma 0.01, warm without
FURTHER = ((0.6, 0.1), (1.0, 0.1))  # pairs with more noise
TWINS = (1.0, 0.8, 0.6, 0.4)  # lamdas of the pairs that get twins, with sigma 0.01
SIGMA = 0.01
ROUNDS, EPOCHS, EARLY = 10, 200, 20  # epochs a round, and one at which to read as well
OTHER = 100_000_000  # added to a seed: what a twin draws of its own; above all seeds of tables
DIGITS = 4  # significant, of a distance between twins


@dataclass(frozen=True)
class Line:
    """One way to go through all rounds.

    Attributes
    ----------
    pair : (float, float) or None
        The lamda and sigma of every round; None is a cold start in every round.
    twin : {"", "first", "noise"}
        What is drawn with another seed than in the line of the same pair.
    """

    pair: tuple[float, float] | None
    twin: str = ""

    @property
    def base(self) -> str:
        """``"cold"`` or a cell such as ``"0.6, 0.01"``: what a twin has in common."""
        return cell(*self.pair) if self.pair else "cold"

    @property
    def key(self) -> str:
        """Its name, which says what is different in a twin."""
        return f"{self.base}, other {self.twin}" if self.twin else self.base

    def streams(self, kind: str, name: str, seeds: Sequence[int]) -> list[torch.Generator]:
        """Generators, one a lane; a twin of this kind has its own."""
        return [stream(seed + OTHER * (self.twin == kind), name) for seed in seeds]


def lines(pairs: Iterable[Sequence[float]], twins: Iterable[Sequence[float]]) -> list[Line]:
    """Cold with a twin, a line for each pair, and for those of `twins` two twins each.

    Examples
    --------
    >>> [line.key for line in lines([(1, 0)], [(1, 0)])]
    ['cold', 'cold, other first', '1, 0', '1, 0, other first', '1, 0, other noise']
    """
    twin_pairs = [(lamda, sigma) for lamda, sigma in twins]
    all_pairs = dict.fromkeys([*((lamda, sigma) for lamda, sigma in pairs), *twin_pairs])
    return [
        Line(None),
        Line(None, "first"),
        *(Line(pair) for pair in all_pairs),
        *(Line(pair, twin) for pair in twin_pairs for twin in ("first", "noise")),
    ]


def lines_of(spec: Mapping[str, Any]) -> list[Line]:
    """The lines of a specification."""
    return lines(spec["pairs"], spec["twins"])


def starts(
    line: Line, old: Sequence[MLP], fresh: Sequence[torch.Generator], noise: Sequence[torch.Generator]
) -> list[MLP]:
    """The networks with which a line goes into its next round, one a lane."""
    if line.pair is None:
        return [MLP(generator=generator) for generator in fresh]
    return [
        shrink_perturb_(network, *line.pair, generator=generator) for network, generator in zip(old, noise)
    ]


def weights(networks: Sequence[MLP]) -> Tensor:
    """Their weights, without the biases: (networks, weights)."""
    return torch.stack([torch.cat([k.weight.detach().flatten() for k in n.linears]) for n in networks])


class Compound(ByTable):
    """For each table a list over its seeds, each a list over the rounds. ``correct``: line → test rows
    right ``early`` and at the ``end`` of a round. ``apart``: twin → the mean square of the difference
    of the weights of the two, to four digits, at the ``start`` and at the ``end`` of a round, and of how
    many test rows they ``disagree`` at the end.
    """

    name, chapter = "compound", 8
    words = "shrink and perturb round after round: what is left, what piles up"
    chunk = 100

    def specification(
        self,
        *,
        seeds: int = 2,
        lamdas: Sequence[float] = LAMDAS,
        twins: Sequence[float] = TWINS,
        rounds: int = ROUNDS,
        epochs: int = EPOCHS,
        early: int = EARLY,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What is computed.

        Parameters
        ----------
        seeds : int
            Of each table's own
        lamdas, twins : sequence of float
            Of the lines, and of those that get twins, all with sigma 0.01; warm and two pairs with
            more noise are always there
        rounds : int
            The 200 rows of a table arrive in so many equal parts
        epochs, early : int
            Epochs a round, and after how many of them to read a first time
        test_rows : int
            Drawn anew with every table
        label_noise, learning_rate : float
            Of the tables, and of every training

        Examples
        --------
        >>> Compound().specification(rounds=3)
        Traceback (most recent call last):
        ValueError: 3 rounds do not divide 200 rows
        """
        at_least_1(rounds=rounds, epochs=epochs, early=early)
        if TRAIN_ROWS % rounds:
            raise ValueError(f"{rounds} rounds do not divide {TRAIN_ROWS} rows")
        if early > epochs:
            raise ValueError(f"early must be from 1 to epochs, {epochs}, not {early}")
        for lamda in (*lamdas, *twins):
            if not 0 <= lamda <= 1:
                raise ValueError(f"a lamda must be from 0 to 1, not {lamda}")
        warm = (1.0, 0.0)
        pairs = [warm, *((lamda, SIGMA) for lamda in lamdas if lamda < 1), *FURTHER]
        return {
            **common(self.name, seeds, test_rows, label_noise, learning_rate),
            "pairs": [list(pair) for pair in pairs],
            "twins": [[lamda, SIGMA] for lamda in twins],
            "rounds": rounds,
            "epochs": epochs,
            "early": early,
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        rows = sum(range(1, spec["rounds"] + 1)) * TRAIN_ROWS // spec["rounds"]
        return int(len(units) * spec["seeds"] * rows * spec["epochs"] * len(lines_of(spec)))

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """All lines through all rounds, on these tables."""
        drawn = draw_lanes(units, spec["seeds"], spec["test_rows"], spec["label_noise"], own=True)
        every, rate = lines_of(spec), spec["learning_rate"]
        twins = [line for line in every if line.twin]
        orders = orders_of([stream(seed, "order") for seed in drawn.seeds])
        fresh = {line.key: line.streams("first", "fresh weights", drawn.seeds) for line in every}
        noise = {line.key: line.streams("noise", "noise", drawn.seeds) for line in every}
        networks = {
            line.key: [MLP(generator=g) for g in line.streams("first", "first weights", drawn.seeds)]
            for line in every
        }
        # Of every round (lanes,) values, at each reading.
        correct: dict[str, dict[str, list[Tensor]]] = {
            line.key: {"early": [], "end": []} for line in every if not line.twin
        }
        apart: dict[str, dict[str, list[Tensor]]] = {
            line.key: {"start": [], "end": [], "disagree": []} for line in twins
        }

        def count(when: str, ensembles: Mapping[str, Ensemble]) -> None:
            for key, counts in correct.items():
                counts[when].append(ensembles[key].measure(*drawn.test)[0])

        def note(when: str) -> None:
            for line in twins:
                between = weights(networks[line.key]) - weights(networks[line.base])
                apart[line.key][when].append(between.square().mean(dim=1))

        for number in range(1, spec["rounds"] + 1):
            if number > 1:
                for line in every:
                    networks[line.key] = starts(line, networks[line.key], fresh[line.key], noise[line.key])
            note("start")
            ensembles = {line.key: ensemble_of(networks[line.key]) for line in every}
            rows = number * TRAIN_ROWS // spec["rounds"]
            for epoch in train_epochs(
                ensembles, drawn.stacked, drawn.lanes, rows, orders, spec["epochs"], tick, rate
            ):
                if epoch == spec["early"]:
                    count("early", ensembles)
            count("end", ensembles)
            networks = {key: ensemble.networks() for key, ensemble in ensembles.items()}
            note("end")
            inputs = drawn.test.inputs
            said = {key: ensemble.logits(inputs).argmax(dim=1) for key, ensemble in ensembles.items()}
            for line in twins:
                apart[line.key]["disagree"].append((said[line.key] != said[line.base]).sum(dim=1))

        def lists(found: Mapping[str, Mapping[str, Sequence[Tensor]]]) -> dict[str, dict[str, Any]]:
            return {
                key: {what: drawn.by_seed(torch.stack(list(values), dim=1)) for what, values in of.items()}
                for key, of in found.items()
            }

        yield {"tables": list(units), "correct": lists(correct), "apart": rounded(lists(apart))}

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, one pair with its twins."""
        pair = content["specification"]["twins"][-1:]
        return content["specification"] | {"pairs": pair, "twins": pair}, self.done(content)[-1:]

    def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
        """Counts to the row; distances, elsewhere, within a digit of the last place."""
        yield from differences(kept["correct"], again["correct"])
        yield from differences(kept["apart"], again["apart"], 0.0 if at_home else 0.01)

    def as_text(self, content: Content) -> str:
        """The last round as a table for people."""
        lines = [f"accuracy in round {content['specification']['rounds']}, %"]
        lines += [f"{key:12s}{percent(content, key)[-1].mean():8.2f}" for key in content["correct"]]
        return "\n".join(lines)


STUDY = Compound()


def rounded(found: Any) -> Any:
    """Floats to four significant digits, at any depth.

    Examples
    --------
    >>> rounded({"start": [[0.123456, 3]]})
    {'start': [[0.1235, 3]]}
    """
    if isinstance(found, Mapping):
        return {name: rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return float(f"{found:.{DIGITS}g}") if isinstance(found, float) else found


def percent(found: Mapping[str, Any], key: str, when: str = "end") -> Floats:
    """Test accuracy of a line in percent: (rounds, tables). `when` is ``"early"`` or ``"end"``."""
    counts = np.array(found["correct"][key][when], dtype=float)  # tables, seeds, rounds
    accuracy: Floats = 100 * counts.mean(axis=1).T / found["specification"]["test_rows"]
    return accuracy


def last_round(found: Mapping[str, Any], when: str = "end") -> dict[str, Interval]:
    """Every pair minus cold in the last round, in points; intervals that hold for all pairs at once.

    `when` is as for :func:`percent`; each of the two readings is a joint family of its own.
    """
    last = {key: percent(found, key, when)[-1] for key in found["correct"]}
    cold = last.pop("cold")
    return simultaneous({key: values - cold for key, values in last.items()})


def warm_by_round(found: Mapping[str, Any]) -> dict[int, Interval]:
    """Warm minus cold at the end of every round between the first and the last; they hold at once.

    In the first round there is nothing to go on from: all lines are one. The last is in :func:`last_round`.
    """
    ahead = percent(found, WARM) - percent(found, "cold")
    later = range(2, len(ahead))
    return dict(zip(later, simultaneous({str(k): ahead[k - 1] for k in later}).values()))


def mean_apart(found: Mapping[str, Any], key: str, what: str) -> Floats:
    """Mean over all (table, seed) of what is ``apart``, by round; ``"disagree"`` in percent of the rows."""
    mean: Floats = np.mean(found["apart"][key][what], axis=(0, 1))
    return 100 * mean / found["specification"]["test_rows"] if what == "disagree" else mean
