"""The problems of chapter 7, and the ways to restart on them: the trick, and each part of it alone.

For a ReLU network without biases the parts are exact. Shrinking every weight of
a network of L layers by lamda multiplies its logits by lamda^L, and training it
by SGD is training the unshrunk network with logits times lamda^L ("softer") at
a rate divided by lamda^2 ("faster"). See chapter 7 for the proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from wsp.lab import employees, images
from wsp.lab.employees import Table
from wsp.lab.inside import Lanes, freeze_biases_, halves, pulls, shrunk, softness_of
from wsp.lab.many.lanes import FIRST_FRESH, draw_tables
from wsp.lab.network import MLP
from wsp.lab.retraining import OLD_ROWS, stream

HALF = 0.5  # the lamda whose parts are taken apart


@dataclass(frozen=True)
class Case:
    """A problem to look inside: which network, which rows, how long.

    Attributes
    ----------
    key : str
        Its name in files.
    sizes, activation, biases
        The network; see :class:`wsp.lab.network.MLP`.
    units : int
        Fresh tables or resampled splits: the unit of account.
    seeds : int
        Training seeds on each.
    old_rows, rows, test_rows : int
    first_epochs, first_rate : int, float
        How the saved network was trained on the old rows.
    epochs, rate, batch_size : int, float, int
        How it is retrained on all rows.
    read_at, trace_at : tuple of int
        Epochs at which accuracy and loss, and the gradients, are read.
    label_noise : float
        Share of wrong labels: of all rows for the employees, of the training
        images for the digits.
    """

    key: str
    sizes: tuple[int, ...]
    activation: str
    biases: bool
    units: int
    seeds: int
    old_rows: int
    rows: int
    test_rows: int
    first_epochs: int
    first_rate: float
    epochs: int
    rate: float
    batch_size: int
    read_at: tuple[int, ...]
    trace_at: tuple[int, ...]
    label_noise: float


_DIGITS = Case(
    key="digits",
    sizes=(64, 50, 50, 10),
    activation="relu",
    biases=False,
    units=30,
    seeds=1,
    old_rows=300,
    rows=600,
    test_rows=1000,
    first_epochs=200,
    first_rate=0.05,
    epochs=100,
    rate=0.05,
    batch_size=20,
    read_at=(0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100),
    trace_at=(0, 1, 2, 5, 10, 20),
    label_noise=0.0,
)
CASES = {
    "employees": Case(
        key="employees",
        sizes=(6, 10, 10, 3),
        activation="tanh",
        biases=True,
        units=100,
        seeds=1,
        old_rows=OLD_ROWS,
        rows=employees.TRAIN_ROWS,
        test_rows=2000,
        first_epochs=1000,
        first_rate=0.05,
        epochs=300,
        rate=0.0125,
        batch_size=10,
        read_at=(0, 2, 5, 10, 20, 50, 100, 200, 300),
        trace_at=(0, 1, 5, 20),
        label_noise=0.05,
    ),
    "digits": _DIGITS,
    "digits_mislabeled": Case(**(asdict(_DIGITS) | {"key": "digits_mislabeled", "label_noise": 0.2})),
}


def draw(case: Case, units: Sequence[int]) -> tuple[Table, Table]:
    """Training and test rows of these units, one unit a lane: inputs (units, rows, features)."""
    if case.key == "employees":
        numbers = [FIRST_FRESH + unit for unit in units]
        train, test = draw_tables(numbers, case.test_rows, case.label_noise)
    else:
        train, test = [], []
        for unit in units:
            one, other = images.split(_flat_digits(), case.rows, case.test_rows, seed=unit)
            train.append(images.mislabel(one, case.label_noise, stream(unit, "noise")))
            test.append(other)
    return Table(*map(torch.stack, zip(*train))), Table(*map(torch.stack, zip(*test)))


def _flat_digits() -> Table:
    table = images.digits()
    return Table(table.inputs.flatten(1).double(), table.labels)


def new_network(case: Case, seed: int, name: str) -> MLP:
    """A random network for one of the streams of :mod:`wsp.lab.retraining`."""
    network = MLP(case.sizes, case.activation, generator=stream(seed, name))
    return network if case.biases else freeze_biases_(network)


def as_networks(case: Case, lanes: Lanes) -> list[MLP]:
    """The lanes as networks of their own."""
    networks = []
    for lane in range(len(lanes.softness)):
        network = new_network(case, 0, "fresh weights")
        with torch.no_grad():
            for layer, weight, bias in zip(network.linears, lanes.weights, lanes.biases):
                layer.weight.copy_(weight[lane])
                layer.bias.copy_(bias[lane])
        networks.append(network)
    return networks


def train_first(case: Case, train: Table, seeds: Sequence[int]) -> list[MLP]:
    """The saved networks: one a lane, trained on its old rows."""
    lanes = Lanes([new_network(case, seed, "first weights") for seed in seeds])
    old, _ = halves(train, case.old_rows)
    generators = [stream(seed, "first order") for seed in seeds]
    for _ in range(case.first_epochs):
        order = torch.stack([torch.randperm(case.old_rows, generator=g) for g in generators])
        lanes.train_epoch(old, order, learning_rate=case.first_rate, batch_size=case.batch_size)
    return as_networks(case, lanes)


@dataclass(frozen=True)
class Restart:
    """A way to restart: the parts of the trick, together and one at a time.

    Attributes
    ----------
    key, words : str
        Its name in files, and for people.
    start : {"saved", "fresh"}
        The network trained on the old rows, or a new one.
    lamda : float
        Fraction of the weights that is kept; no noise.
    biases : bool
        Shrink the biases as well, as the paper's code does. Left out where the
        network has none.
    faster : bool
        Multiply the learning rate by 4 = 1/lamda² for lamda = 1/2.
    rewarmed : bool
        The same at first, falling linearly to the usual rate at the end.
    softer : bool
        Multiply the logits, in training and afterwards, by what shrinking to one
        half would multiply them by (:func:`~wsp.lab.inside.softness_of`). The weights stay.
    balanced : bool
        Before every epoch, weight the losses of old and new rows so that both
        pull equally hard.
    """

    key: str
    words: str
    start: str = "saved"
    lamda: float = 1.0
    biases: bool = False
    faster: bool = False
    rewarmed: bool = False
    softer: bool = False
    balanced: bool = False


FASTER = HALF**-2
RESTARTS = {
    restart.key: restart
    for restart in (
        Restart("cold", "cold", "fresh"),
        Restart("cold_faster", "cold, faster", "fresh", faster=True),
        Restart("warm", "warm"),
        Restart("faster", "warm, faster", faster=True),
        Restart("rewarmed", "warm, faster at first", rewarmed=True),
        Restart("softer", "warm, softer", softer=True),
        Restart("softer_faster", "warm, softer and faster", softer=True, faster=True),
        Restart("balanced", "warm, balanced", balanced=True),
        *(Restart(f"shrunk_{lamda}", f"shrunk to {lamda}", lamda=lamda) for lamda in (0.7, HALF, 0.3)),
        Restart("shrunk_all", "shrunk to 0.5, biases too", lamda=HALF, biases=True),
        Restart("shrunk_faster", "shrunk to 0.5, faster", lamda=HALF, faster=True),
    )
}


def start_lanes(restart: Restart, saved: Sequence[MLP], fresh: Sequence[MLP], inputs: Tensor) -> Lanes:
    """The lanes that a restart begins with."""
    networks = saved if restart.start == "saved" else fresh
    softness: Tensor | float = 1.0
    if restart.softer:
        softness = softness_of(Lanes(shrunk(networks, HALF)), Lanes(networks), inputs)
    return Lanes(shrunk(networks, restart.lamda, restart.biases), softness)


def balance(lanes: Lanes, train: Table, old_rows: int) -> Tensor:
    """Weights (lanes, rows) under which old and new rows pull equally hard; 1 on average over the two."""
    old, new = pulls(lanes, train, old_rows)
    weight = torch.empty(train.labels.shape, dtype=old.dtype)
    weight[:, :old_rows] = (2 * new / (old + new)).unsqueeze(1)
    weight[:, old_rows:] = (2 * old / (old + new)).unsqueeze(1)
    return weight


def rate_of(case: Case, restart: Restart, epoch: int) -> float:
    """A restart's rate in an epoch, counted from 0.

    Examples
    --------
    >>> case = CASES["digits"]
    >>> [round(rate_of(case, RESTARTS["rewarmed"], epoch), 3) for epoch in (0, 50, 100)]
    [0.2, 0.125, 0.05]
    """
    if restart.rewarmed:
        return case.rate * (FASTER + (1 - FASTER) * epoch / case.epochs)
    return case.rate * (FASTER if restart.faster else 1.0)
