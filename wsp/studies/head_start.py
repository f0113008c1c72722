"""How a warm start goes wrong: by how long the first network was trained, and how long the second.

Two studies. ``head_start`` measures warm minus cold over fresh tables. ``frames`` says what the networks
of the book's own table predict on the way, for the figure of chapter 4; it is a picture, and no evidence.

Rules of ``head_start``, written before any run of it larger than a test:

- What was known before: trained 1000 and 1000 epochs, warm is about 1.8 points below cold (chapter 6, other
  tables); a first look had warm minus cold flat until a first training of about 100 epochs, and falling
  after. These tables (6000 on) are in no other result.
- Hypotheses: (a) after a first training of at most 100 epochs warm is, when both have trained 1000 epochs on
  all rows, within half a point of cold; (b) after one of 1000 epochs it is below cold; (c) early in the
  retraining, by epoch 5, every warm start whose first training had 10 epochs or more is above cold.
- Protocol: cold and warm read after the same epochs on all rows, for every one of them (*equal*, and with
  1000 epochs what the *article* does with these two).
- One joint family: all first trainings at all readings. The unit is the table; its seeds are averaged first.
- A first training of 0 epochs is a control: a second random network, whose lead over cold is zero by
  construction. Nothing is chosen.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsp.lab import employees
from wsp.lab.employees import LABEL_NOISE, TRAIN_ROWS, Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import ensemble_of, orders_of
from wsp.lab.many.lanes import draw_lanes, train_epochs
from wsp.lab.network import MLP
from wsp.lab.retraining import OLD_ROWS, SEED, random_network, stream
from wsp.lab.statistics import Floats, Interval, simultaneous
from wsp.lab.training import LEARNING_RATE
from wsp.studies.engine import Study, Tick
from wsp.studies.parts import Content, differences
from wsp.studies.tables import ByTable, common, in_percent

FIRST_TABLE = 6000
FIRST_EPOCHS = (0, 10, 20, 50, 100, 150, 200, 300, 500, 1000)
READ_AT = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
COLD = "cold"


def not_negative(name: str, epochs: Sequence[int]) -> list[int]:
    """Some epochs in their order; ``ValueError`` where there is none, or one below 0.

    Examples
    --------
    >>> not_negative("read_at", [5, 0])
    [0, 5]
    """
    if not epochs or min(epochs) < 0:
        raise ValueError(f"{name} must be epochs, 0 or more, not {list(epochs)!r}")
    return sorted(set(epochs))


def first_networks(
    stacked: Table, lanes: Tensor, seeds: Sequence[int], spec: Content, tick: Tick
) -> dict[int, list[MLP]]:
    """The network of each lane's old rows, after each of the first trainings."""
    old = ensemble_of([random_network(seed, "first weights") for seed in seeds])
    draw, last = orders_of([stream(seed, "first order") for seed in seeds]), max(spec["first_epochs"])
    saved = {0: old.networks()}
    for epoch in train_epochs(
        {"old": old}, stacked, lanes, OLD_ROWS, draw, last, tick, spec["learning_rate"]
    ):
        if epoch in spec["first_epochs"]:
            saved[epoch] = old.networks()
    return {epochs: list(saved[epochs]) for epochs in spec["first_epochs"]}


def retrain(
    starts: Mapping[str, Sequence[MLP]],
    stacked: Table,
    lanes: Tensor,
    seeds: Sequence[int],
    spec: Content,
    tick: Tick,
) -> Iterator[dict[str, Ensemble]]:
    """All starts on all rows, in the same orders; at every reading the networks as they are."""
    ensembles = {key: ensemble_of(networks) for key, networks in starts.items()}
    draw, last = orders_of([stream(seed, "order") for seed in seeds]), max(spec["read_at"])
    if 0 in spec["read_at"]:
        yield ensembles
    for epoch in train_epochs(ensembles, stacked, lanes, TRAIN_ROWS, draw, last, tick, spec["learning_rate"]):
        if epoch in spec["read_at"]:
            yield ensembles


class HeadStart(ByTable):
    """``correct``: start → for each table a list over its seeds of test rows right at each of ``read_at``.
    A start is cold, or the epochs of the first training.
    """

    name, chapter, first, chunk = "head_start", 4, FIRST_TABLE, 25
    words = "warm minus cold, by how long the first network was trained, and how long the second"

    def specification(
        self,
        *,
        seeds: int = 2,
        first_epochs: Sequence[int] = FIRST_EPOCHS,
        read_at: Sequence[int] = READ_AT,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What is computed.

        Parameters
        ----------
        seeds : int
            Of each table's own
        first_epochs, read_at : sequence of int
            Epochs of the first training, and epochs on all rows after which both starts are read
        test_rows : int
            Drawn anew with every table
        label_noise, learning_rate : float
            Of the tables, and of every training

        Examples
        --------
        >>> HeadStart().specification(first_epochs=[-1])
        Traceback (most recent call last):
        ValueError: first_epochs must be epochs, 0 or more, not [-1]
        """
        return {
            **common(self.name, seeds, test_rows, label_noise, learning_rate),
            "first_epochs": not_negative("first_epochs", first_epochs),
            "read_at": not_negative("read_at", read_at),
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        then = (1 + len(spec["first_epochs"])) * TRAIN_ROWS * max(spec["read_at"])
        return int(len(units) * spec["seeds"] * (OLD_ROWS * max(spec["first_epochs"]) + then))

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Train cold and every warm start on these tables."""
        drawn = draw_lanes(units, spec["seeds"], spec["test_rows"], spec["label_noise"], own=True)
        saved = first_networks(drawn.stacked, drawn.lanes, drawn.seeds, spec, tick)
        starts = {COLD: [random_network(seed, "fresh weights") for seed in drawn.seeds]}
        starts |= {str(epochs): networks for epochs, networks in saved.items()}
        read: dict[str, list[Tensor]] = {key: [] for key in starts}
        for ensembles in retrain(starts, drawn.stacked, drawn.lanes, drawn.seeds, spec, tick):
            for key, ensemble in ensembles.items():
                read[key].append(ensemble.measure(*drawn.test)[0])
        yield {
            "tables": list(units),
            "correct": {key: drawn.by_seed(torch.stack(counts, dim=1)) for key, counts in read.items()},
        }

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, and of the first trainings the shortest and one in the middle."""
        first = content["specification"]["first_epochs"]
        less = {"first_epochs": sorted({first[0], first[len(first) // 2]})}
        return content["specification"] | less, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """Warm minus cold as a table: first trainings down, readings across."""
        spec, found = content["specification"], leads(content)
        head = f"{'first epochs':12s}" + "".join(f"{epoch:>24d}" for epoch in spec["read_at"])
        lines = [f"{len(content['tables'])} tables; warm minus cold, points; joint intervals", head]
        for first in spec["first_epochs"]:
            row = (str(found[first, epoch]) for epoch in spec["read_at"])
            lines.append(f"{first:12d}" + "".join(f"{interval:>24s}" for interval in row))
        return "\n".join(lines)


STUDY = HeadStart()


def accuracies(found: Mapping[str, Any]) -> dict[str, Floats]:
    """Test accuracy in percent by start, (tables, readings)."""
    return {
        key: in_percent(found["specification"], counts, further=1) for key, counts in found["correct"].items()
    }


def leads(found: Mapping[str, Any]) -> dict[tuple[int, int], Interval]:
    """Warm minus cold in points, by epochs of the first training and of the second: one joint family.

    Parameters
    ----------
    found : mapping
        A result of ``head_start``.
    """
    spec, accuracy = found["specification"], accuracies(found)
    minus = {
        (first, epoch): (accuracy[str(first)] - accuracy[COLD])[:, place]
        for first in spec["first_epochs"]
        for place, epoch in enumerate(spec["read_at"])
    }
    names = {f"{first} {epoch}": (first, epoch) for first, epoch in minus}
    joint = simultaneous({name: minus[pair] for name, pair in names.items()})
    return {names[name]: interval for name, interval in joint.items()}


# ------------------------------------------------------------------ frames of the book's own table

BRANCH, SEX = "concord", "F"  # where chapter 4 finds the two networks to differ most
AGES, INCOMES = (18, 67), (20_000, 100_000)  # what the map spans
COLUMNS, ROWS = 96, 72  # cells of the map, age across and income up
PEOPLE, PEOPLE_SEED = 20_000, 900_005  # on whom disagreement is counted, as in chapter 4
LONGEST_RUN = 64


class Frames(Study):
    """For each start, at every reading: ``maps``, the predicted jobs on a grid (:func:`pack`); ``correct``,
    test rows right; ``apart``, on how many further people it disagrees with cold.
    """

    name, chapter, key = "frames", 4, "starts"
    words = "what the networks of the book's own table predict along the way"

    def specification(
        self,
        *,
        first_epochs: Sequence[int] = FIRST_EPOCHS,
        read_at: Sequence[int] = READ_AT,
        branch: str = BRANCH,
        sex: str = SEX,
    ) -> Content:
        """What is drawn.

        Parameters
        ----------
        first_epochs, read_at : sequence of int
            Epochs of the first training and of the second
        branch, sex : str
            Whose jobs the maps show, over age and income

        Examples
        --------
        >>> Frames().specification(branch="denver")
        Traceback (most recent call last):
        ValueError: branch must be one of anaheim, boulder, concord, not 'denver'
        """
        for name, value, known in (
            ("branch", branch, employees.BRANCHES),
            ("sex", sex, employees.SEXES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        return {
            "format": "wsp frames 1",
            "seed": SEED,
            "learning_rate": LEARNING_RATE,
            "first_epochs": not_negative("first_epochs", first_epochs),
            "read_at": not_negative("read_at", read_at),
            "branch": branch,
            "sex": sex,
            "ages": list(AGES),
            "incomes": list(INCOMES),
            "grid": [COLUMNS, ROWS],
            "people": PEOPLE,
        }

    def units(self, spec: Content, content: Content | None) -> Sequence[str]:
        """Cold, and every first training."""
        return [*map(str, spec["first_epochs"]), COLD]

    def chunks(self, units: Sequence[str], workers: int) -> list[Sequence[str]]:
        """All at once: every one is compared with cold."""
        return [units]

    def work(self, spec: Content, units: Sequence[str], tick: Tick, device: str) -> Iterator[Content]:
        """Train cold and these starts on the book's table."""
        train, test = employees.load_train(), employees.load_test()
        people, grid = employees.encode(employees.draw(PEOPLE, PEOPLE_SEED)), grid_of(spec)
        lanes, seeds = torch.zeros(1, dtype=torch.int64), [spec["seed"]]

        def nothing(count: int) -> None:
            """Units are counted here, not samples."""

        saved = first_networks(train, lanes, seeds, spec, nothing)
        starts = {COLD: [random_network(SEED, "fresh weights")]}
        starts |= {key: saved[int(key)] for key in units if key != COLD}
        found: dict[str, dict[str, list[Any]]] = {
            what: {key: [] for key in starts} for what in ("maps", "correct", "apart")
        }
        for ensembles in retrain(starts, train, lanes, seeds, spec, nothing):
            says = {key: ensemble.logits(people.inputs)[0] for key, ensemble in ensembles.items()}
            answers = {key: logits.argmax(dim=0) for key, logits in says.items()}
            for key, ensemble in ensembles.items():
                found["maps"][key].append(pack(ensemble.logits(grid)[0].argmax(dim=0).numpy()))
                found["correct"][key].append(int(ensemble.measure(*test)[0][0]))
                found["apart"][key].append(int((answers[key] != answers[COLD]).sum()))
        tick(len(units))
        yield {"starts": list(units)} | {
            what: [values[key] for key in units] for what, values in found.items()
        }

    def slice(self, content: Content) -> tuple[Content, Sequence[str]]:
        """A short first training, and no further than the sixth reading."""
        spec = content["specification"]
        less = {"first_epochs": spec["first_epochs"][:2], "read_at": spec["read_at"][:6]}
        return spec | less, [str(spec["first_epochs"][1])]

    def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
        """On another processor a person on a border may get another job: there counts alone must agree."""
        if not at_home:
            again = {name: values for name, values in again.items() if name in ("starts", "correct")}
        yield from differences(kept, again)

    def as_text(self, content: Content) -> str:
        """How many test rows are right at the end, and on how many people the start and cold disagree."""
        lines = [f"{'first epochs':12s}{'right, of 40':>14s}{'apart, %':>10s}"]
        for start, correct, apart in zip(content["starts"], content["correct"], content["apart"]):
            share = 100 * apart[-1] / content["specification"]["people"]
            lines.append(f"{start:12s}{correct[-1]:14d}{share:10.1f}")
        return "\n".join(lines)


FRAMES = Frames()


def grid_of(spec: Mapping[str, Any]) -> Tensor:
    """Encoded people in the middle of every cell of a map, row by row, from the lowest income up."""
    (columns, rows), ages, incomes = spec["grid"], spec["ages"], spec["incomes"]
    across = ages[0] + (np.arange(columns) + 0.5) * (ages[1] - ages[0]) / columns
    up = incomes[0] + (np.arange(rows) + 0.5) * (incomes[1] - incomes[0]) / rows
    people = pd.DataFrame(
        {
            "sex": spec["sex"],
            "age": np.tile(across, rows),
            "branch": spec["branch"],
            "income": np.repeat(up, columns),
            "job": employees.JOBS[0],
        }
    )
    return employees.encode(people).inputs


def pack(jobs: NDArray[np.int64]) -> str:
    """A map as runs of one job, a byte each: the job times 64, and the length less one; in base64.

    Examples
    --------
    >>> pack(np.array([0, 0, 0, 2, 2])), unpack(pack(np.array([0, 0, 0, 2, 2]))).tolist()
    ('AoE=', [0, 0, 0, 2, 2])
    """
    ends = [int(end) + 1 for end in np.flatnonzero(np.diff(jobs, append=-1))]
    packed = bytearray()
    for start, end in zip([0, *ends[:-1]], ends):
        for begin in range(start, end, LONGEST_RUN):
            packed.append(int(jobs[start]) * LONGEST_RUN + min(LONGEST_RUN, end - begin) - 1)
    return base64.b64encode(bytes(packed)).decode()


def unpack(packed: str) -> NDArray[np.int64]:
    """The jobs of a map that was packed."""
    runs = np.frombuffer(base64.b64decode(packed), dtype=np.uint8).astype(np.int64)
    return np.repeat(runs // LONGEST_RUN, runs % LONGEST_RUN + 1)
