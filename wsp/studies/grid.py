"""The map of lamda and sigma: every pair of them on the same fresh tables.

Each lane, a table and a seed of its own, trains the old network once and every pair of the map from it, in
the same batch orders, beside a cold start. Tables of even number may choose a pair, those of odd number
report on it. :mod:`wsp.studies.landscape` reads the map.

Rules, written before the run with seeds of their own:

- The first 200 tables are those of the first edition, which had seeds 0 and 1 on all of them; 100 more are
  new here. So the hypotheses are not blind: keep little (0 to 0.1) for the best end, more (about 0.3) to
  be there soon; noise up to 0.1 adds nothing.
- Protocol: *equal*, 500 epochs for all. Two joint families: every pair minus cold, every pair minus warm;
  one of what a sigma adds at every lamda.
- The best pair is chosen on the tables of even number and reported on the others.
- Epochs until cold's accuracy at its last epoch are read from test rows: a description, not a saving that
  somebody without those rows could have. Runs that never get there count with the last epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsp.lab.employees import LABEL_NOISE, TRAIN_ROWS
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.lanes import draw_lanes, samples_per_lane, train_lanes
from wsp.lab.retraining import HALF, Arm
from wsp.lab.statistics import Floats
from wsp.lab.training import LEARNING_RATE
from wsp.studies.engine import Tick
from wsp.studies.parts import Content
from wsp.studies.tables import ByTable, common, in_percent

LAMDAS = tuple(k / 10 for k in range(11))
SIGMAS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.7)  # 0.35 is the scale of the initialization
READ_AT = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 400, HALF)
HALVES = ("choose", "report")  # tables of even and of odd number


class Grid(ByTable):
    """Of every pair, and of ``"cold"``, for each table a list over its seeds: ``correct`` test rows at
    the last epoch; ``epochs`` until the test accuracy is that of this lane's cold start at its last epoch;
    whether it is ``reached``, 1 or 0 (what is not counts with the last epoch). ``initial``: the old
    network's correct test rows. ``curves``, for each half, sums over tables at every epoch read: of the
    correct test rows, of the squares of their differences to cold, of the correct training rows.
    """

    name, chapter = "grid", 8
    words = "the map of lamda and sigma over fresh tables"
    sums = ("sum", "squares_minus_cold", "train")

    def specification(
        self,
        *,
        seeds: int = 2,
        lamdas: Sequence[float] = LAMDAS,
        sigmas: Sequence[float] = SIGMAS,
        test_rows: int = 2000,
        label_noise: float = LABEL_NOISE,
        learning_rate: float = LEARNING_RATE,
    ) -> Content:
        """What a map computes.

        Parameters
        ----------
        seeds : int
            Of each table's own
        lamdas, sigmas : sequence of float
            The map's rows, and its columns
        test_rows : int
            Drawn anew with every table
        label_noise, learning_rate : float
            Of the tables, and of every training

        Examples
        --------
        >>> Grid().specification(seeds=0)
        Traceback (most recent call last):
        ValueError: seeds must be a positive integer, not 0
        """
        if not all(0 <= lamda <= 1 for lamda in lamdas) or not all(sigma >= 0 for sigma in sigmas):
            raise ValueError(f"lamdas must be from 0 to 1, sigmas not negative; not {lamdas} and {sigmas}")
        return {
            **common(self.name, seeds, test_rows, label_noise, learning_rate),
            "lamdas": list(lamdas),
            "sigmas": list(sigmas),
            "epochs": list(READ_AT),
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        return len(units) * int(spec["seeds"]) * samples_per_lane(arms_of(spec), TRAIN_ROWS)

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Train all of the map on these tables."""
        drawn = draw_lanes(units, spec["seeds"], spec["test_rows"], spec["label_noise"], own=True)
        # Made beforehand: small tensors that stay, left among large ones that go, would break up
        # the memory until none is left.
        shape = (len(READ_AT), len(units), spec["seeds"])
        curves = {arm.key: torch.zeros(shape, dtype=torch.int64) for arm in arms_of(spec)}
        fitted = {arm.key: torch.zeros(shape, dtype=torch.int64) for arm in arms_of(spec)}
        initial = torch.zeros(shape[1:], dtype=torch.int64)

        def read(members: list[Arm], epoch: int, ensemble: Ensemble) -> None:
            arm = members[0]
            if arm.start != "first":
                k = READ_AT.index(epoch)
                curves[arm.key][k] = ensemble.measure(*drawn.test)[0].view(shape[1:])
                fitted[arm.key][k] = ensemble.measure(*drawn.train)[0].view(shape[1:])
            elif epoch == arm.epochs:
                initial.copy_(ensemble.measure(*drawn.test)[0].view(shape[1:]))

        train_lanes(
            drawn.tables,
            drawn.pairs,
            arms_of(spec),
            read,
            read_at=READ_AT,
            learning_rate=spec["learning_rate"],
            tick=tick,
        )
        chooses = torch.tensor(units) % 2 == 0
        cold = curves["cold"].sum(dim=2)
        part: Content = {
            "tables": list(units),
            "initial": initial.tolist(),
            **{kind: {} for kind in ("correct", "epochs", "reached", "curves")},
        }
        for name, curve in curves.items():
            by_table = curve.sum(dim=2)
            epochs, reached = epochs_to(curves["cold"][-1], curve, READ_AT)
            part["correct"][name] = curve[-1].tolist()
            part["epochs"][name] = epochs.tolist()
            part["reached"][name] = reached.int().tolist()
            part["curves"][name] = {
                half: {
                    "sum": by_table[:, tables].sum(dim=1).tolist(),
                    "squares_minus_cold": ((by_table - cold)[:, tables] ** 2).sum(dim=1).tolist(),
                    "train": fitted[name][:, tables].sum(dim=(1, 2)).tolist(),
                }
                for half, tables in zip(HALVES, (chooses, ~chooses))
            }
        yield part

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last table, two cells."""
        return content["specification"] | {"lamdas": [0.5], "sigmas": [0.0, 0.35]}, self.done(content)[-1:]

    def as_text(self, content: Content) -> str:
        """Accuracy minus cold, in points: rows lamda, columns sigma."""
        spec, cold = content["specification"], accuracy(content, "cold").mean()
        lines = [f"cold {cold:.2f} %; points above it:", f"{'lamda | sigma':>13s}"]
        lines[-1] += "".join(f"{sigma:>7g}" for sigma in spec["sigmas"])
        for lamda in spec["lamdas"]:
            means = [accuracy(content, cell(lamda, sigma)).mean() - cold for sigma in spec["sigmas"]]
            lines.append(f"{lamda:>13g}" + "".join(f"{mean:+7.2f}" for mean in means))
        return "\n".join(lines)


STUDY = Grid()


def cell(lamda: float, sigma: float) -> str:
    """The name of a cell of the map.

    Examples
    --------
    >>> cell(0.5, 0.01)
    '0.5, 0.01'
    """
    return f"{lamda:g}, {sigma:g}"


WARM = cell(1, 0)


def cells(lamdas: Iterable[float] = LAMDAS, sigmas: Iterable[float] = SIGMAS) -> list[Arm]:
    """The arms of a map: the old network, shrunk and perturbed, for every pair.

    Examples
    --------
    >>> [arm.key for arm in cells([0, 1], [0])]
    ['0, 0', '1, 0']
    """
    sigmas = list(sigmas)
    return [Arm(cell(lamda, sigma), "saved", lamda, sigma, HALF) for lamda in lamdas for sigma in sigmas]


def arms_of(spec: Mapping[str, Any]) -> list[Arm]:
    """A cold start, and the cells."""
    return [Arm("cold", "fresh", epochs=HALF), *cells(spec["lamdas"], spec["sigmas"])]


def epochs_to(target: Tensor, curve: Tensor, read_at: Sequence[int]) -> tuple[Tensor, Tensor]:
    """When each lane first reaches its target, and whether it does.

    Parameters
    ----------
    target : Tensor
        (...,) what to reach.
    curve : Tensor
        (readings, ...) what was read.
    read_at : sequence of int
        The epochs of the readings.

    Returns
    -------
    epochs, reached : Tensor
        The first epoch read at which ``curve >= target``. A lane that never gets there
        is censored: it has the last epoch, and `reached` is False.

    Examples
    --------
    >>> curve = torch.tensor([[1, 1], [3, 1], [2, 2]])
    >>> epochs_to(torch.tensor([2, 4]), curve, read_at=(10, 20, 30))
    (tensor([20, 30]), tensor([ True, False]))
    """
    hit = curve >= target
    reached = hit.any(dim=0)
    first = hit.to(torch.int64).argmax(dim=0)
    return torch.where(reached, torch.tensor(read_at)[first], read_at[-1]), reached


def accuracy(content: Mapping[str, Any], name: str) -> Floats:
    """Test accuracy of a cell, ``"cold"`` or ``"initial"`` at the end, in percent, one value a table."""
    return in_percent(
        content["specification"], content["initial"] if name == "initial" else content["correct"][name]
    )
