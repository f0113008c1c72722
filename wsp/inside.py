"""Look inside the trick: many networks opened, measured, and retrained side by side.

The explanations on offer say what shrinking changes: how sure the network is,
which rows pull at its weights, how far a step reaches. Here each of these is
measured at the restart, and changed *alone* by an :class:`Arm` of its own.

For a ReLU network without biases the parts are exact. Shrinking every weight of
a network of L layers by lamda multiplies its logits by lamda^L, and training it
by SGD is training the unshrunk network with logits times lamda^L ("softer") at
a rate divided by lamda^2 ("faster"). See chapter 7 for the proof.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from tqdm.auto import tqdm

from wsp import employees, images, sweep
from wsp.employees import Table
from wsp.network import MLP, ConvNet, seeded
from wsp.perturb import shrink_perturb_
from wsp.results import load_json, provenance, save_json
from wsp.retraining import OLD_ROWS, stream
from wsp.training import fit, progress_wanted

MODULES = ("employees", "images", "inside", "network", "perturb", "retraining", "training")
FORMAT = "wsp inside 1"
LAMDAS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
HALF = 0.5  # the lamda whose parts are taken apart
SATURATED = 0.95  # a tanh unit beyond ± this passes on less than a tenth of its gradient
STEPS = 21  # points on a straight line between two networks
UNITS_AT_ONCE = 50


class Lanes:
    """Multilayer perceptrons of one layout, a lane each, open to measurement.

    Slower than :class:`wsp.ensemble.Ensemble`, for it leaves the gradient to
    autograd and so can be asked for more.

    Parameters
    ----------
    networks : sequence of MLP
        All of one layout. Copied, never changed. Biases that do not require a
        gradient (see :func:`freeze_biases_`) are not trained.
    softness : float or Tensor
        What logits are multiplied by, for all lanes or (lanes,). Default 1.

    Examples
    --------
    >>> lanes = Lanes([MLP(generator=torch.Generator().manual_seed(s)) for s in range(5)])
    >>> lanes.logits(torch.zeros(5, 2, 6, dtype=torch.float64)).shape  # lanes, rows, classes
    torch.Size([5, 2, 3])

    See chapter 7.
    """

    def __init__(self, networks: Sequence[MLP], softness: Tensor | float = 1.0) -> None:
        layers = list(zip(*(network.linears for network in networks)))
        self.tanh = networks[0].activation == "tanh"
        self.weights = [torch.stack([layer.weight.detach() for layer in lanes]) for lanes in layers]
        self.biases = [torch.stack([layer.bias.detach() for layer in lanes]) for lanes in layers]
        self.trained = self.weights + (self.biases if layers[0][0].bias.requires_grad else [])
        self.softness = torch.as_tensor(softness, dtype=self.weights[0].dtype).expand(len(networks))
        for tensor in self.trained:
            tensor.requires_grad_()

    def layers(self, inputs: Tensor) -> list[Tensor]:
        """Outputs (lanes, rows, units) of every layer, logits last, for inputs (lanes, rows, features)."""
        found: list[Tensor] = []
        for weight, bias in zip(self.weights, self.biases):
            if found:
                inputs = found[-1] = torch.tanh(found[-1]) if self.tanh else torch.relu(found[-1])
            found.append(torch.baddbmm(bias.unsqueeze(1), inputs, weight.mT))
        return [*found[:-1], self.softness[:, None, None] * found[-1]]

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits (lanes, rows, classes) for inputs (lanes, rows, features)."""
        return self.layers(inputs)[-1]

    def loss(self, table: Table) -> Tensor:
        """Cross-entropy (lanes, rows), in nats; the table's columns have the lane first."""
        logits = self.logits(table.inputs)
        return nn.functional.cross_entropy(logits.mT, table.labels, reduction="none")

    def gradient(self, table: Table, weight: Tensor | float = 1.0) -> list[Tensor]:
        """Gradient of each lane's mean loss by its trained parameters; `weight` (lanes, rows) of the rows."""
        loss = (weight * self.loss(table)).mean(dim=1).sum()  # no lane's loss depends on another's weights
        return list(torch.autograd.grad(loss, self.trained))

    def train_epoch(
        self,
        table: Table,
        order: Tensor,
        *,
        learning_rate: float,
        batch_size: int,
        weight: Tensor | float = 1.0,
    ) -> None:
        """One epoch of SGD for every lane.

        Parameters
        ----------
        table : Table
            Inputs (lanes, rows, features), labels (lanes, rows).
        order : Tensor
            (lanes, rows): row numbers in the order they are met.
        learning_rate : float
        batch_size : int
        weight : Tensor or float
            Of the rows' losses, (lanes, rows). Default 1.
        """
        for gradient in self._batch_gradients(table, order, batch_size, weight):
            with torch.no_grad():
                for parameter, slope in zip(self.trained, gradient):
                    parameter.sub_(slope, alpha=learning_rate)

    def effective_rate(
        self, table: Table, order: Tensor, *, learning_rate: float, batch_size: int
    ) -> Tensor:
        """How far a step of :meth:`train_epoch` would reach: its norm over that of the parameters.

        Returns (lanes,), the mean over the batches. Nothing is trained.

        Source: Lyle et al. (2025). See chapter 7.
        """
        gradients = self._batch_gradients(table, order, batch_size)
        steps = torch.stack([learning_rate * norm(gradient) for gradient in gradients])
        return steps.mean(dim=0) / norm(self.trained)

    def _batch_gradients(
        self, table: Table, order: Tensor, batch_size: int, weight: Tensor | float = 1.0
    ) -> Iterator[list[Tensor]]:
        lane = torch.arange(len(order)).unsqueeze(1)
        weight = torch.as_tensor(weight, dtype=self.softness.dtype).expand(order.shape)
        for batch in torch.split(order, batch_size, dim=1):
            rows = Table(table.inputs[lane, batch], table.labels[lane, batch])
            yield self.gradient(rows, weight[lane, batch])

    def between(self, other: Lanes, share: float) -> Lanes:
        """The lanes that lie a `share` of the way to `other` on the straight line."""
        found = copy.copy(self)
        for name in ("weights", "biases"):
            pairs = zip(getattr(self, name), getattr(other, name))
            setattr(found, name, [torch.lerp(a.detach(), b.detach(), share) for a, b in pairs])
        return found


def freeze_biases_(network: MLP) -> MLP:
    """Let no training move the biases. They are zero in a new network, so this one has none.

    Examples
    --------
    >>> network = freeze_biases_(MLP((4, 3, 2), "relu"))
    >>> [name for name, p in network.named_parameters() if p.requires_grad]
    ['0.weight', '2.weight']
    """
    for layer in network.linears:
        layer.bias.requires_grad_(False)
    return network


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of each lane's tensors together: (lanes,).

    Examples
    --------
    >>> norm([torch.tensor([[3.0]]), torch.tensor([[4.0]])])
    tensor([5.])
    """
    squares = torch.stack([tensor.square().flatten(1).sum(dim=1) for tensor in tensors])
    return squares.sum(dim=0).sqrt()


def effective_rank(features: Tensor) -> Tensor:
    """How many directions features spread over: the exponential of the entropy of singular values.

    Parameters
    ----------
    features : Tensor
        (..., rows, units).

    Examples
    --------
    >>> effective_rank(torch.eye(3)), effective_rank(torch.ones(3, 3)).round()
    (tensor(3.), tensor(1.))

    Source: Roy and Vetterli (2007). See chapter 7.
    """
    values = torch.linalg.svdvals(features)
    share = values / values.sum(dim=-1, keepdim=True)
    return torch.exp(torch.special.entr(share).sum(dim=-1))


def stable_rank(features: Tensor) -> Tensor:
    """The sum of squared singular values over the largest one's square.

    Examples
    --------
    >>> stable_rank(torch.eye(3)), stable_rank(torch.ones(3, 3)).round()
    (tensor(3.), tensor(1.))

    See chapter 7.
    """
    squares: Tensor = torch.linalg.svdvals(features).square()
    return squares.sum(dim=-1) / squares.amax(dim=-1)


@torch.no_grad()
def softness_of(shrunk: Lanes, full: Lanes, inputs: Tensor) -> Tensor:
    """The factor (lanes,) by which full logits come nearest to the shrunk ones, in least squares.

    A softmax does not see a constant added to all logits of a row, so each row's
    mean is taken off first.

    Examples
    --------
    >>> network = freeze_biases_(MLP((4, 5, 3), "relu", generator=torch.Generator().manual_seed(0)))
    >>> full = Lanes([network])
    >>> shrunk = Lanes([shrink_perturb_(copy.deepcopy(network), 0.5, 0.0)])
    >>> softness_of(shrunk, full, torch.eye(4, dtype=torch.float64).unsqueeze(0))  # 0.5 for two layers
    tensor([0.2500], dtype=torch.float64)
    """
    one, other = (lanes.logits(inputs) for lanes in (shrunk, full))
    one, other = (logits - logits.mean(dim=2, keepdim=True) for logits in (one, other))
    return (one * other).sum(dim=(1, 2)) / other.square().sum(dim=(1, 2))


@torch.no_grad()
def measure(lanes: Lanes, table: Table) -> dict[str, Tensor]:
    """What each lane scores and how sure it is: accuracy (percent), loss (nats), confidence.

    Confidence is the mean of the largest probability.
    """
    logits = lanes.logits(table.inputs)
    return {
        "accuracy": 100 * (logits.argmax(dim=2) == table.labels).double().mean(dim=1),
        "loss": nn.functional.cross_entropy(logits.mT, table.labels, reduction="none").mean(dim=1),
        "confidence": logits.softmax(dim=2).amax(dim=2).mean(dim=1),
    }


def pulls(lanes: Lanes, table: Table, old_rows: int) -> tuple[Tensor, Tensor]:
    """Norm of the gradient of the mean loss on the old and on the new rows: (lanes,) each."""
    old, new = halves(table, old_rows)
    return norm(lanes.gradient(old)), norm(lanes.gradient(new))


@torch.no_grad()
def suspects(lanes: Lanes, table: Table) -> dict[str, Tensor]:
    """Everything said to explain the warm start's harm that can be read off a network, (lanes,) each.

    Parameters
    ----------
    lanes : Lanes
    table : Table
        The training rows of every lane.

    Returns
    -------
    dict
        `norm`: of the parameters; `confidence`: mean largest probability on these rows;
        `idle`: share of hidden tanh outputs beyond ±0.95, or of ReLU units that are
        silent on all rows; `effective_rank`, `stable_rank`: of the last hidden layer.
    """
    hidden = lanes.layers(table.inputs)[:-1]
    if lanes.tanh:
        idle = torch.cat([(units.abs() > SATURATED).double().flatten(1) for units in hidden], dim=1)
    else:
        idle = torch.cat([(units.amax(dim=1) <= 0).double() for units in hidden], dim=1)
    return {
        "norm": norm(lanes.trained),
        "confidence": measure(lanes, table)["confidence"],
        "idle": idle.mean(dim=1),
        "effective_rank": effective_rank(hidden[-1]),
        "stable_rank": stable_rank(hidden[-1]),
    }


def halves(table: Table, old_rows: int) -> tuple[Table, Table]:
    """The old and the new rows of a table whose columns have the lane first."""
    return (
        Table(*(column[:, :old_rows] for column in table)),
        Table(*(column[:, old_rows:] for column in table)),
    )


@dataclass(frozen=True)
class Arm:
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
        half would multiply them by (:func:`softness_of`). The weights stay.
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
ARMS = {
    arm.key: arm
    for arm in (
        Arm("cold", "cold", "fresh"),
        Arm("cold_faster", "cold, faster", "fresh", faster=True),
        Arm("warm", "warm"),
        Arm("faster", "warm, faster", faster=True),
        Arm("rewarmed", "warm, faster at first", rewarmed=True),
        Arm("softer", "warm, softer", softer=True),
        Arm("softer_faster", "warm, softer and faster", softer=True, faster=True),
        Arm("balanced", "warm, balanced", balanced=True),
        *(Arm(f"shrunk_{lamda}", f"shrunk to {lamda}", lamda=lamda) for lamda in (0.7, HALF, 0.3)),
        Arm("shrunk_all", "shrunk to 0.5, biases too", lamda=HALF, biases=True),
        Arm("shrunk_faster", "shrunk to 0.5, faster", lamda=HALF, faster=True),
    )
}
PATHS = (  # straight lines between a start or end and another
    ("warm start", "warm end"),
    ("shrunk start", "shrunk end"),
    ("warm start", "shrunk end"),
    ("warm end", "shrunk end"),
    ("warm end", "cold end"),
)


@dataclass(frozen=True)
class Case:
    """A problem to look inside: which network, which rows, how long.

    Attributes
    ----------
    key : str
        Its name in files.
    sizes, activation, biases
        The network; see :class:`wsp.network.MLP`.
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
        numbers = [sweep.FIRST_FRESH + unit for unit in units]
        train, test = sweep.draw_tables(numbers, case.test_rows, case.label_noise)
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
    """A random network for one of the streams of :mod:`wsp.retraining`."""
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


def shrunk(networks: Sequence[MLP], lamda: float, biases: bool = False) -> list[MLP]:
    """Copies, shrunk and not perturbed: their weights, or their biases as well."""
    include = (lambda name, parameter: True) if biases else None
    return [shrink_perturb_(copy.deepcopy(network), lamda, 0.0, include=include) for network in networks]


def start_lanes(arm: Arm, saved: Sequence[MLP], fresh: Sequence[MLP], inputs: Tensor) -> Lanes:
    """The lanes that an arm begins with."""
    networks = saved if arm.start == "saved" else fresh
    softness: Tensor | float = 1.0
    if arm.softer:
        softness = softness_of(Lanes(shrunk(networks, HALF)), Lanes(networks), inputs)
    return Lanes(shrunk(networks, arm.lamda, arm.biases), softness)


def train_first(case: Case, train: Table, seeds: Sequence[int]) -> list[MLP]:
    """The saved networks: one a lane, trained on its old rows."""
    lanes = Lanes([new_network(case, seed, "first weights") for seed in seeds])
    old, _ = halves(train, case.old_rows)
    generators = [stream(seed, "first order") for seed in seeds]
    for _ in range(case.first_epochs):
        order = torch.stack([torch.randperm(case.old_rows, generator=g) for g in generators])
        lanes.train_epoch(old, order, learning_rate=case.first_rate, batch_size=case.batch_size)
    return as_networks(case, lanes)


def balance(lanes: Lanes, train: Table, old_rows: int) -> Tensor:
    """Weights (lanes, rows) under which old and new rows pull equally hard; 1 on average over the two."""
    old, new = pulls(lanes, train, old_rows)
    weight = torch.empty(train.labels.shape, dtype=old.dtype)
    weight[:, :old_rows] = (2 * new / (old + new)).unsqueeze(1)
    weight[:, old_rows:] = (2 * old / (old + new)).unsqueeze(1)
    return weight


def rate_of(case: Case, arm: Arm, epoch: int) -> float:
    """An arm's rate in an epoch, counted from 0.

    Examples
    --------
    >>> case = CASES["digits"]
    >>> [round(rate_of(case, ARMS["rewarmed"], epoch), 3) for epoch in (0, 50, 100)]
    [0.2, 0.125, 0.05]
    """
    if arm.rewarmed:
        return case.rate * (FASTER + (1 - FASTER) * epoch / case.epochs)
    return case.rate * (FASTER if arm.faster else 1.0)


def retrain(
    case: Case, arm: Arm, lanes: Lanes, train: Table, test: Table, seeds: Sequence[int]
) -> dict[str, Tensor]:
    """Retrain the lanes in place; return what was read, (lanes, readings) by name.

    Accuracy on `test` and loss on `train` at the epochs of ``case.read_at``; `old`,
    `new` (norms of the gradient of the mean loss on old and on new rows) and `step`
    (effective learning rate of the epoch that begins there) at those of ``case.trace_at``.
    """
    generators = [stream(seed, "order") for seed in seeds]
    read: dict[str, list[Tensor]] = {}

    def note(**found: Tensor) -> None:
        for name, values in found.items():
            read.setdefault(name, []).append(values)

    for epoch in range(case.epochs + 1):
        if epoch in case.read_at:
            note(accuracy=measure(lanes, test)["accuracy"], loss=measure(lanes, train)["loss"])
        if epoch == case.epochs:
            break
        order = torch.stack([torch.randperm(case.rows, generator=g) for g in generators])
        rate, size = rate_of(case, arm, epoch), case.batch_size
        if epoch in case.trace_at:
            old, new = pulls(lanes, train, case.old_rows)
            step = lanes.effective_rate(train, order, learning_rate=rate, batch_size=size)
            note(old=old, new=new, step=step)
        weight = balance(lanes, train, case.old_rows) if arm.balanced else 1.0
        lanes.train_epoch(train, order, learning_rate=rate, batch_size=size, weight=weight)
    return {name: torch.stack(values, dim=1) for name, values in read.items()}


def shrink_function(
    networks: Sequence[MLP], train: Table, test: Table, old_rows: int, biases: bool = False
) -> dict[str, Tensor]:
    """What shrinking alone, without retraining, does to saved networks: (lanes, lamdas) each.

    `accuracy`, `loss`, `confidence` on test rows; `agreement`: percent of them for
    which the answer is still the unshrunk network's; `old`, `new`: how hard the
    training rows now pull (:func:`pulls`).
    """
    answers = Lanes(networks).logits(test.inputs).argmax(dim=2)
    read: dict[str, list[Tensor]] = {}
    for lamda in LAMDAS:
        lanes = Lanes(shrunk(networks, lamda, biases))
        found = measure(lanes, test)
        found["agreement"] = measure(lanes, Table(test.inputs, answers))["accuracy"]
        found["old"], found["new"] = pulls(lanes, train, old_rows)
        for name, values in found.items():
            read.setdefault(name, []).append(values)
    return {name: torch.stack(values, dim=1) for name, values in read.items()}


@torch.no_grad()
def losses_between(one: Lanes, other: Lanes, table: Table) -> Tensor:
    """Mean loss at `STEPS` points of the straight line from one to the other: (lanes, points)."""
    shares = np.linspace(0.0, 1.0, STEPS)
    return torch.stack([one.between(other, float(s)).loss(table).mean(dim=1) for s in shares], dim=1)


def barrier(losses: Tensor) -> Tensor:
    """How far a path (lanes, points) rises above the straight line between its ends: (lanes,), 0 or more.

    Examples
    --------
    >>> barrier(torch.tensor([[1.0, 3.0, 2.0], [3.0, 1.0, 0.0]]))
    tensor([1.5000, 0.0000])

    Source: Entezari et al. (2022). See chapter 7.
    """
    shares = torch.linspace(0, 1, losses.shape[1], dtype=losses.dtype)
    chord = torch.lerp(losses[:, :1], losses[:, -1:], shares)
    return (losses - chord).amax(dim=1).clamp(min=0)


def look_inside(case: Case, units: Sequence[int], arms: Mapping[str, Arm] = ARMS) -> dict[str, Any]:
    """Everything about these units: the function under shrinking, the arms, the paths between them.

    Parameters
    ----------
    case : Case
    units : sequence of int
        Numbers of fresh tables or of splits, from 0.
    arms : mapping
        Default: all.

    Returns
    -------
    dict
        `units`; `function` (and, where there are biases, `function_all`, with biases shrunk
        as well) and, by arm, `retraining` and `suspects` (at the restart): lists
        with a row a unit, averaged over seeds; `paths`: by path, the barrier of each unit in
        the training and test loss, and the sum of the losses over units at each point.
    """
    pairs = list(product(range(len(units)), range(case.seeds)))
    lane = torch.tensor([unit for unit, _ in pairs])
    # Digits have one seed a split, and every split its own; seeds are shared between tables.
    seeds = [seed if case.seeds > 1 else units[unit] for unit, seed in pairs]
    train, test = (Table(*(column[lane] for column in table)) for table in draw(case, units))
    saved = train_first(case, train, seeds)
    fresh = [new_network(case, seed, "fresh weights") for seed in seeds]

    def by_unit(values: Tensor) -> list[Any]:
        means = values.detach().view(len(units), case.seeds, *values.shape[1:]).mean(dim=1)
        return _rounded(means)

    functions = {"function": shrink_function(saved, train, test, case.old_rows)}
    if case.biases:
        functions["function_all"] = shrink_function(saved, train, test, case.old_rows, biases=True)
    found: dict[str, Any] = {
        "units": list(units),
        **{
            kind: {name: by_unit(values) for name, values in function.items()}
            for kind, function in functions.items()
        },
        "retraining": {},
        "suspects": {},
    }
    corners: dict[str, Lanes] = {}
    for key, arm in arms.items():
        if arm.biases and not case.biases:
            continue
        lanes = start_lanes(arm, saved, fresh, train.inputs)
        found["suspects"][key] = {
            name: by_unit(values) for name, values in suspects(lanes, train).items()
        }
        name = {"cold": "cold", "warm": "warm", f"shrunk_{HALF}": "shrunk"}.get(key)
        if name:
            corners[f"{name} start"] = start_lanes(arm, saved, fresh, train.inputs)
            corners[f"{name} end"] = lanes
        readings = retrain(case, arm, lanes, train, test, seeds)
        found["retraining"][key] = {what: by_unit(values) for what, values in readings.items()}
    found["paths"] = {}
    for one, other in PATHS:
        if one in corners and other in corners:
            path = {}
            for name, table in (("train", train), ("test", test)):
                losses = losses_between(corners[one], corners[other], table)
                path[name] = {
                    "barrier": by_unit(barrier(losses)),
                    "sum": _rounded(losses.sum(dim=0) / case.seeds),
                }
            found["paths"][f"{one} - {other}"] = path
    return found


def merge(one: Any, other: Any, key: str = "") -> Any:
    """Join what was found about some units and about others: lists a unit join, sums add.

    Examples
    --------
    >>> merge({"units": [0], "sum": [1.0]}, {"units": [1], "sum": [2.0]})
    {'units': [0, 1], 'sum': [3.0]}
    """
    if isinstance(one, dict):
        return {name: merge(one[name], other[name], name) for name in one}
    return [a + b for a, b in zip(one, other)] if key == "sum" else one + other


def shrink_convnets(splits: Sequence[int]) -> dict[str, Any]:
    """What shrinking does to a convolutional network with BatchNorm, without retraining.

    One :class:`wsp.network.ConvNet` a split of the digits, trained by the paper's
    rule on the old rows of the case ``"digits"``. Its running statistics are once
    left as they were ("stale"), once estimated again on the same rows.

    Returns
    -------
    dict
        `units`, and for ``"stale"`` and ``"estimated"`` the `accuracy`, `loss`,
        `confidence` and `agreement` of :func:`shrink_function`.
    """
    case = CASES["digits"]
    found: dict[str, Any] = {"units": list(splits), "stale": {}, "estimated": {}}
    for split in splits:
        train, test = images.split(images.digits(), case.rows, case.test_rows, seed=split)
        old = Table(*(column[: case.old_rows] for column in train))
        with seeded(split):
            network = ConvNet()
        fit(network, old, stream(split, "first order"), label="ConvNet")
        answers = network(test.inputs).argmax(dim=1)
        for kind in ("stale", "estimated"):
            read: dict[str, list[Tensor]] = {}
            for lamda in LAMDAS:
                shrunken = shrink_perturb_(copy.deepcopy(network), lamda, 0.0, running_stats="keep")
                if kind == "estimated":
                    update_bn(torch.split(old.inputs, len(old.inputs)), shrunken)
                with torch.no_grad():
                    logits = shrunken.eval()(test.inputs)
                scores = {
                    "accuracy": 100 * (logits.argmax(dim=1) == test.labels).double().mean(),
                    "loss": nn.functional.cross_entropy(logits, test.labels),
                    "confidence": logits.softmax(dim=1).amax(dim=1).mean(),
                    "agreement": 100 * (logits.argmax(dim=1) == answers).double().mean(),
                }
                for name, value in scores.items():
                    read.setdefault(name, []).append(value)
            for name, values in read.items():
                found[kind].setdefault(name, []).append(_rounded(torch.stack(values)))
    return found


def run(key: str, out: Path, command: str, units: Sequence[int] | None = None) -> dict[str, Any]:
    """Look inside one case, or what is left of it, and store what was found.

    Parameters
    ----------
    key : str
        Of `CASES`, or ``"convnets"``.
    out : Path
        Written after every chunk. If it exists, the run goes on from it.
    command : str
        What re-creates it, for the provenance.
    units : sequence of int, optional
        Default: all of the case.

    Raises
    ------
    ValueError
        If the key is unknown, or the file holds another case.
    """
    convnets = key == "convnets"
    if not convnets and key not in CASES:
        raise ValueError(f"unknown case {key!r}: choose from {', '.join(CASES)}, convnets")
    case = CASES["digits" if convnets else key]
    units = range(case.units) if units is None else units
    # Through JSON, since what is compared with has been there: tuples become lists.
    spec = json.loads(json.dumps({"format": FORMAT, "key": key, "case": asdict(case)}))
    total: dict[str, Any] | None = load_json(out) if out.exists() else None
    if total is not None and total.get("specification") != spec:
        raise ValueError(f"{out}: holds something else; name another file or move this one away")
    before = None if total is None else total["provenance"]
    done = [] if total is None else total["found"]["units"]
    left = [unit for unit in units if unit not in done]
    for start in tqdm(range(0, len(left), UNITS_AT_ONCE), desc=key, disable=not progress_wanted()):
        chunk, begin = left[start : start + UNITS_AT_ONCE], time.perf_counter()
        part = shrink_convnets(chunk) if convnets else look_inside(case, chunk)
        seconds = time.perf_counter() - begin + (0.0 if before is None else before["seconds"])
        found = part if total is None else merge(total["found"], part)
        before = provenance(command, MODULES, seconds, before=before)
        total = {"specification": spec, "found": found, "provenance": before}
        save_json(out, total)
    if total is None:
        raise ValueError("there is nothing to run: no units")
    return total


def _rounded(values: Tensor) -> list[Any]:
    """As nested lists, to four significant digits: a stored file stays small."""
    array = values.detach().double().numpy()
    return np.vectorize(lambda value: float(f"{value:.4g}"), otypes=[float])(array).tolist()  # type: ignore[no-any-return]
