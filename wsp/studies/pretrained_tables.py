"""Pretraining on other data, on fresh employee tables: units that share nothing.

All splits of the digits are of the same 1,797 images, so :mod:`wsp.studies.pretrained` can tell large
differences alone. Tables are drawn anew, as many as one likes.

Rules, written before the run, after a pilot of eight other tables, and after the digits with other classes
were seen, whose intervals were wide:

- *Data.* ``jobs``: 1,000 people with two of the three jobs first; the target is all three. ``branches``:
  1,000 people of a company whose branches trade places first (all is as in the target, but for the names of
  the branches); the target is the book's company. 20, 50, 100, 200 and 400 rows of it, 2,000 to test.
- *Training.* The article's network, rate 0.05, batches of ten: 100 epochs first, then 500 for everybody
  (protocol: equal). Label noise 0.05.
- *Arms.* Fresh (cold), warm, the article's rule with lamda 0.5 and 0.3, the paper's rule, and a fresh network
  that is shrunk by the article's rule. Same batches, same noise, same fresh network for all.
- *Unit.* The table, 100 of them; two seeds of its own are averaged.
- *Verdicts.* As for the digits: for each source one joint family, few rows (20 and 50) and many (200 and
  400); the claim is judged by the paper's rule minus fresh and minus warm: eight settings.
- *Expected* before the pilot: many rows as in chapter 6, warm below fresh and the trick between or above;
  with few rows warm above fresh for ``jobs``, below for ``branches``. The pilot has them the other way round.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from wsp.lab import employees
from wsp.lab.comparisons import Pair
from wsp.lab.employees import LABEL_NOISE, Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import ensemble_of, orders_of
from wsp.lab.many.lanes import seeds_of, train_epochs
from wsp.lab.network import MLP
from wsp.lab.retraining import HALF, random_network, stream
from wsp.lab.rounds import ARMS
from wsp.lab.statistics import Floats, Interval, simultaneous
from wsp.lab.training import LEARNING_RATE
from wsp.studies.engine import Tick
from wsp.studies.parts import Content, at_least_1
from wsp.studies.tables import ByTable, common, in_percent

SIZES = (20, 50, 100, 200, 400)
GROUPS = {"few": (20, 50), "many": (200, 400)}
OLD_ROWS, OLD_EPOCHS, POOL = 1000, 100, 400
SOURCES = ("jobs", "branches")
NAMES = ("cold", "warm", "shrink_perturb", "shrink_perturb_0.3", "official", "fresh_shrunk")
PAIRS: tuple[Pair, ...] = (
    ("warm", "cold"),
    ("official", "cold"),
    ("official", "warm"),
    ("shrink_perturb", "cold"),
    ("shrink_perturb", "warm"),
    ("shrink_perturb_0.3", "cold"),
    ("shrink_perturb_0.3", "warm"),
    ("shrink_perturb", "fresh_shrunk"),
)
BRANCHES = [2, 3, 4]  # their columns
ANOTHER = 10**8  # added to a table's number: the seed of its people to train on first


class PretrainedTables(ByTable):
    """``correct``: size -> arm -> for each table a list over its seeds, test rows right at the end.
    ``old``: the same of the first network as it is.
    """

    name, chapter = "pretrained_tables", 13
    words = "pretraining on another employee table, then few rows of the target"

    def specification(
        self,
        *,
        source: str = "jobs",
        sizes: Sequence[int] = SIZES,
        seeds: int = 2,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        epochs: int = HALF,
    ) -> Content:
        """What a file is about.

        Parameters
        ----------
        source : str
            What the network is trained on first: jobs or branches
        sizes : sequence of int
            Rows of the target, at most 400
        seeds : int
            Of each table's own
        test_rows : int
            Drawn anew with every table
        label_noise : float
            Of all tables
        epochs : int
            Of retraining, for all sizes

        Examples
        --------
        >>> PretrainedTables().specification(source="letters")
        Traceback (most recent call last):
        ValueError: unknown source 'letters': choose from jobs, branches
        """
        if source not in SOURCES:
            raise ValueError(f"unknown source {source!r}: choose from {', '.join(SOURCES)}")
        at_least_1(epochs=epochs, sizes=min(sizes, default=0))
        if max(sizes) > POOL:
            raise ValueError(f"sizes go up to {POOL}, not {max(sizes)}")
        return {
            **common(self.name, seeds, test_rows, label_noise, LEARNING_RATE),
            "source": source,
            "sizes": list(sizes),
            "arms": list(NAMES),
            "epochs": epochs,
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        later = len(spec["arms"]) * spec["epochs"] * sum(spec["sizes"])
        return int(len(units) * spec["seeds"] * (OLD_ROWS * OLD_EPOCHS + later))

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Train the first networks of these tables, and all that start from them."""
        noise, count = spec["label_noise"], spec["seeds"]
        first = [before(spec["source"], number, noise) for number in units]
        pool, test = draw_tables(units, POOL, spec["test_rows"], noise)
        seeds = [seed for number in units for seed in seeds_of(number, count)]
        lanes = torch.arange(len(units)).repeat_interleave(count)
        test_of = Table(*(torch.stack(columns)[lanes] for columns in zip(*test)))

        def counted(ensemble: Ensemble) -> list[list[int]]:
            right: list[list[int]] = ensemble.measure(*test_of)[0].view(len(units), count).tolist()
            return right

        def end_of(
            networks: Mapping[str, list[MLP]], tables: list[Table], rows: int, order: str, epochs: int
        ) -> dict[str, Ensemble]:
            ensembles = {name: ensemble_of(each) for name, each in networks.items()}
            stacked = Table(*(torch.cat(columns) for columns in zip(*tables)))
            draw = orders_of([stream(seed, order) for seed in seeds])
            for _ in train_epochs(ensembles, stacked, lanes, rows, draw, epochs, tick):
                pass
            return ensembles

        begin = {"old": [random_network(seed, "first weights") for seed in seeds]}
        old = end_of(begin, first, OLD_ROWS, "first order", OLD_EPOCHS)["old"]
        olds, correct = old.networks(), dict[str, Content]()
        for size in spec["sizes"]:
            starts = {arm: [start(arm, *each) for each in zip(olds, seeds)] for arm in spec["arms"]}
            ends = end_of(starts, pool, size, "order", spec["epochs"])
            correct[str(size)] = {arm: counted(ensemble) for arm, ensemble in ends.items()}
        yield {"tables": list(units), "old": counted(old), "correct": correct}

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, its two smallest sizes."""
        spec = content["specification"]
        return spec | {"sizes": spec["sizes"][:2]}, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """Accuracy by arm and size, in percent."""
        spec = content["specification"]
        lines = [f"{len(content['tables'])} tables, source {spec['source']}; accuracy, %"]
        lines.append(f"{'rows':20s}" + "".join(f"{size:8d}" for size in spec["sizes"]))
        for arm in spec["arms"]:
            means = [accuracy(content, arm, size).mean() for size in spec["sizes"]]
            lines.append(f"{arm:20s}" + "".join(f"{mean:8.2f}" for mean in means))
        return "\n".join(lines)


STUDY = PretrainedTables()


def before(source: str, number: int, label_noise: float) -> Table:
    """The people of a table to train on first.

    Examples
    --------
    >>> people = before("jobs", 1000, 0.05)
    >>> people.inputs.shape, sorted(set(people.labels.tolist()))
    (torch.Size([1000, 6]), [0, 1])
    """
    drawn = employees.encode(employees.draw(2 * OLD_ROWS, ANOTHER + number, label_noise))
    inputs, labels = drawn.inputs, drawn.labels
    if source == "jobs":
        kept = labels < len(employees.JOBS) - 1
        inputs, labels = inputs[kept], labels[kept]
    else:
        inputs[:, BRANCHES] = inputs[:, [*BRANCHES[1:], BRANCHES[0]]]
    return Table(inputs[:OLD_ROWS], labels[:OLD_ROWS])


def draw_tables(
    numbers: Sequence[int], rows: int, test_rows: int, label_noise: float
) -> tuple[list[Table], list[Table]]:
    """So many rows of the target, and test rows, of each table: seeds 2t and 2t + 1."""
    return (
        [employees.encode(employees.draw(rows, 2 * number, label_noise)) for number in numbers],
        [employees.encode(employees.draw(test_rows, 2 * number + 1, label_noise)) for number in numbers],
    )


def start(arm: str, old: MLP, seed: int) -> MLP:
    """The network with which an arm goes on.

    Examples
    --------
    >>> old = random_network(0, "first weights")
    >>> torch.equal(start("warm", old, 0)[0].weight, old[0].weight)
    True
    """
    fresh, noise = random_network(seed, "fresh weights"), stream(seed, "noise")
    nothing = Table(torch.empty(0), torch.empty(0))  # no start looks at the rows
    begun = ARMS[arm].start(copy.deepcopy(old), fresh, nothing, noise)
    assert isinstance(begun, MLP)
    return begun


def accuracy(content: Mapping[str, Any], arm: str, *sizes: int) -> Floats:
    """Test accuracy in percent, one value a table, the mean over seeds and these sizes.

    Examples
    --------
    >>> content = {"specification": {"seeds": 2, "test_rows": 10}, "correct": {"20": {"cold": [[4, 6]]}}}
    >>> accuracy(content, "cold", 20)
    array([50.])
    """
    spec, correct = content["specification"], content["correct"]
    means = [in_percent(spec, correct[str(size)][arm]) for size in sizes]
    return np.asarray(np.mean(means, axis=0))


def compared(content: Mapping[str, Any]) -> dict[tuple[str, Pair], Interval]:
    """The family of a file: few or many rows, and which arms -> their difference in points."""
    keys = [(group, pair) for group in GROUPS for pair in PAIRS]
    values = {
        str((group, pair)): accuracy(content, pair[0], *GROUPS[group])
        - accuracy(content, pair[1], *GROUPS[group])
        for group, pair in keys
    }
    return dict(zip(keys, simultaneous(values).values()))


def by_size(content: Mapping[str, Any], base: str = "cold") -> dict[tuple[str, int], Interval]:
    """Every arm minus `base` at every size, in points; they hold for all at once. A description."""
    spec = content["specification"]
    keys = [(arm, size) for arm in spec["arms"] if arm != base for size in spec["sizes"]]
    values = {
        str((arm, size)): accuracy(content, arm, size) - accuracy(content, base, size) for arm, size in keys
    }
    return dict(zip(keys, simultaneous(values).values()))
