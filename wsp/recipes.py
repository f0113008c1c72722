"""How one phase of training may be changed, for many networks side by side.

A :class:`Recipe` says how a network is trained: rate, batch, momentum, and the
usual regularizers. A :class:`Plan` says what happens when data arrive: how the
first network was trained, where the next one starts, and how it goes on.
:func:`train_plans` carries plans out for many (table, seed) lanes at once,
with the streams of :mod:`wsp.retraining`: a plan that changes nothing gives the
arms of chapter 4, network by network (tested), and every change gives what an
ordinary loop with autograd and ``torch.optim.SGD`` gives (tested).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wsp.employees import Table
from wsp.ensemble import FORWARD, Ensemble, _Buffers, _multiply_by_slope
from wsp.network import MLP
from wsp.retraining import ARMS, OLD_ROWS, Arm, random_network, start_network, stream
from wsp.training import BATCH_SIZE, EPOCHS, LEARNING_RATE

MODULES = ("employees", "ensemble", "network", "perturb", "recipes", "retraining", "training")
NUMERIC = (1, 5)  # the input columns that noise can move: age and income; a branch has no neighbor
PHASES = ("first", "then")

Read = Callable[[str, int, Ensemble], None]
Firsts = dict["Recipe", tuple[list[MLP], list[Tensor]]]


@dataclass(frozen=True)
class Recipe:
    """How one phase of training goes. Every default is the book's.

    Attributes
    ----------
    epochs : int
        Passes over the rows. Default 1000.
    learning_rate : float
        Default 0.05.
    batch_size : int
        Rows a step. Default 10.
    momentum : float
        Of ``torch.optim.SGD``, 0 to less than 1. Default 0.
    weight_decay : float
        Of ``torch.optim.SGD``: the gradient of ``weight_decay / 2`` times the sum
        of squares of all weights and biases is added. Default 0.
    label_smoothing : float
        Share of the target spread evenly over all classes, 0 to less than 1. Default 0.
    confidence_penalty : float
        The loss is lowered by this many times the entropy (nats) of the
        prediction. Default 0.
    dropout : float
        Chance that a hidden unit is left out for a row, 0 to less than 1. Default 0.
    input_noise : float
        Standard deviation of the noise on age and income whenever a row is met,
        in encoded units: 0.01 is one year and 1,000 dollars. Default 0.

    Examples
    --------
    >>> Recipe(dropout=1.5)
    Traceback (most recent call last):
    ValueError: dropout must be from 0 to less than 1, not 1.5

    Source: label smoothing, Szegedy et al. (2016); confidence penalty, Pereyra et
    al. (2017); dropout, Srivastava et al. (2014). See chapter 9.
    """

    epochs: int = EPOCHS
    learning_rate: float = LEARNING_RATE
    batch_size: int = BATCH_SIZE
    momentum: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    confidence_penalty: float = 0.0
    dropout: float = 0.0
    input_noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")
        for name in ("momentum", "label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to less than 1, not {getattr(self, name)}")
        for name in ("weight_decay", "confidence_penalty", "input_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, not {getattr(self, name)}")


@dataclass(frozen=True)
class Plan:
    """What to do when data arrive: a start, and a recipe for each phase.

    Attributes
    ----------
    start : {"fresh", "saved"}
        A random network (cold start), or the one that was trained on the old
        rows (warm start).
    first, then : Recipe
        How that first network was trained, and how training goes on when all
        rows are there. `first` plays no part in a cold start.
    lamda, sigma : float
        What :func:`wsp.shrink_perturb_` does to the start. Default (1, 0): nothing.
    reset_last : bool
        Give the last layer fresh random weights. Default False.
    keep_velocity : bool
        Let the momentum of the first training carry on. Default False: a new
        optimizer.
    new_share : float or None
        Share of the arrived rows among those met in an epoch, 0 to 1. An epoch
        has as many rows as ever: some are met more often, others not in every
        epoch. Default None: every row once.
    average : float
        Read an exponential moving average of the weights, updated after every
        epoch, with this decay, 0 to less than 1. Default 0: the weights themselves.

    Examples
    --------
    >>> Plan(new_share=2.0)
    Traceback (most recent call last):
    ValueError: new_share must be from 0 to 1, not 2.0

    See chapter 9.
    """

    start: str = "saved"
    first: Recipe = Recipe()
    then: Recipe = Recipe()
    lamda: float = 1.0
    sigma: float = 0.0
    reset_last: bool = False
    keep_velocity: bool = False
    new_share: float | None = None
    average: float = 0.0

    def __post_init__(self) -> None:
        if self.start not in ("fresh", "saved"):
            raise ValueError(f"start must be 'fresh' or 'saved', not {self.start!r}")
        if self.new_share is not None and not 0 <= self.new_share <= 1:
            raise ValueError(f"new_share must be from 0 to 1, not {self.new_share}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be from 0 to less than 1, not {self.average}")
        if self.keep_velocity and (self.start == "fresh" or not self.first.momentum):
            raise ValueError("keep_velocity needs a saved start and momentum in the first training")


def draws(seed: int, phase: str) -> torch.Generator:
    """The CPU generator of dropout masks and input noise in one phase, ``"first"`` or ``"then"``.

    A stream beside those of :func:`wsp.retraining.stream`, whose numbers are taken.

    Examples
    --------
    >>> draws(0, "first").initial_seed() == draws(0, "then").initial_seed()
    False
    """
    entropy = np.random.SeedSequence((seed, PHASES.index(phase)))
    return torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))


def epoch_order(rows: int, new_share: float | None, generator: torch.Generator) -> Tensor:
    """The row numbers of one epoch, in the order they are met.

    Parameters
    ----------
    rows : int
        All rows; the first 100 are the old ones.
    new_share : float or None
        See :class:`Plan`.
    generator : torch.Generator
        A CPU generator; with ``new_share=None`` it gives one ``torch.randperm(rows)``.

    Examples
    --------
    >>> order = epoch_order(200, 0.75, torch.Generator())
    >>> len(order), int((order >= 100).sum())
    (200, 150)
    """
    if new_share is None:
        return torch.randperm(rows, generator=generator)

    def take(of: int, count: int) -> Tensor:
        """`count` of them, nobody twice before everybody was met once."""
        passes = max(1, -(-count // of))
        return torch.cat([torch.randperm(of, generator=generator) for _ in range(passes)])[:count]

    new = round(new_share * rows)
    met = torch.cat([take(OLD_ROWS, rows - new), OLD_ROWS + take(rows - OLD_ROWS, new)])
    return met[torch.randperm(rows, generator=generator)]


class RecipeEnsemble(Ensemble):
    """An :class:`wsp.ensemble.Ensemble` that trains by a recipe.

    Parameters
    ----------
    networks : sequence of MLP
        A lane each, on the CPU.
    recipe : Recipe
        For all lanes. Its `epochs` are the caller's business.
    generators : sequence of torch.Generator
        A CPU generator a lane, for dropout masks and input noise.
    velocity : sequence of Tensor, optional
        Where momentum begins. Default: zero.

    Examples
    --------
    >>> networks = [random_network(seed, "fresh weights") for seed in range(3)]
    >>> recipe = Recipe(dropout=0.2, weight_decay=0.001)
    >>> lanes = RecipeEnsemble(networks, recipe, [draws(seed, "then") for seed in range(3)])
    >>> lanes.logits(torch.zeros(2, 6, dtype=torch.float64)).shape
    torch.Size([3, 3, 2])

    See chapter 9.
    """

    def __init__(
        self,
        networks: Sequence[MLP],
        recipe: Recipe,
        generators: Sequence[torch.Generator],
        velocity: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__(networks)
        self.recipe, self.generators = recipe, generators
        self.velocity = [weight.clone() for weight in velocity] if velocity else self._zeros()
        self.average: list[Tensor] | None = None
        self._masks: list[Tensor] = []  # a hidden layer each: lanes, units, rows of the epoch
        self._noise: Tensor | None = None  # lanes, rows of the epoch, numeric columns
        self._met = 0  # rows of this epoch that have gone by

    def _zeros(self) -> list[Tensor]:
        return [torch.zeros_like(weight) for weight in self.weights]

    def _real(self, k: int, tensor: Tensor) -> Tensor:
        """Without the classes that never happen, whose bias nothing may move."""
        return tensor[:, : self.classes] if k == len(self.weights) - 1 else tensor

    def _draw(self, rows: int) -> None:
        """All noise and masks of an epoch, drawn lane by lane: noise first, then the masks."""
        recipe, units, new = self.recipe, self.sizes[1:-1], self.weights[0].new_empty
        if recipe.input_noise:
            self._noise = new(self.lanes, rows, len(NUMERIC))
            for generator, lane in zip(self.generators, self._noise):
                lane.normal_(generator=generator)
            self._noise.mul_(recipe.input_noise)
        if recipe.dropout:
            kept = new(self.lanes, rows, sum(units))
            for generator, lane in zip(self.generators, kept):
                lane.uniform_(generator=generator)
            kept.ge_(recipe.dropout).div_(1 - recipe.dropout)
            self._masks = [mask.mT for mask in torch.split(kept, list(units), dim=2)]

    def train_epoch(self, table: Table, order: Tensor, *, learning_rate: float, batch_size: int) -> None:
        """One epoch for every lane; see :meth:`wsp.ensemble.Ensemble.train_epoch`."""
        self._draw(order.shape[1])
        self._met = 0
        super().train_epoch(table, order, learning_rate=learning_rate, batch_size=batch_size)

    def _step(self, table: Table, rows: Tensor, learning_rate: float) -> None:
        """One step on `rows` (lane by lane) of a table whose last input column is 1."""
        size = len(rows) // self.lanes
        if size not in self._buffers:
            self._buffers[size] = _Buffers(self.weights, size)
        b, last, met = self._buffers[size], len(self.weights) - 1, slice(self._met, self._met + size)
        self._met += size
        torch.index_select(table.inputs, 0, rows, out=b.inputs)
        torch.index_select(table.labels, 0, rows, out=b.labels)
        if self._noise is not None:
            b.inputs.view(self.lanes, size, -1)[:, :, NUMERIC] += self._noise[:, met]

        # Forward. A dropped unit is 0 to the layer above; its own slope is needed below.
        full = []
        for k in range(last):
            torch.bmm(self.weights[k], b.layer[k], out=b.delta[k])
            FORWARD[self.activation](b.delta[k], out=b.units[k])
            full.append(b.units[k])
            if self._masks:
                full[k] = b.units[k].clone()
                b.units[k].mul_(self._masks[k][:, :, met])
        torch.bmm(self.weights[last], b.layer[last], out=b.delta[last])
        self._loss_gradient(b)

        # Backward: from the top layer down, pass the gradient on, then step.
        for k in range(last, -1, -1):
            if k > 0:
                torch.bmm(self.weights[k][:, :, :-1].mT, b.delta[k], out=b.delta[k - 1])
                if self._masks:
                    b.delta[k - 1].mul_(self._masks[k - 1][:, :, met])
                _multiply_by_slope(b.delta[k - 1], full[k - 1], self.activation)
            self._update(k, b.delta[k], b.layer[k], learning_rate)

    def _loss_gradient(self, b: _Buffers) -> None:
        """Turn the top layer's logits into the gradient of the loss by them, in place."""
        recipe, top = self.recipe, b.delta[-1]
        real = top[:, : self.classes]
        surplus: Tensor | float = 0.0
        if recipe.confidence_penalty:  # loss - c H, and dH/dz = -p (log p + H)
            log_p = torch.log_softmax(real, dim=1)
            entropy = -(log_p.exp() * log_p).sum(dim=1, keepdim=True)
            surplus = recipe.confidence_penalty * log_p.exp() * (log_p + entropy)
        torch.softmax(top, dim=1, out=top)
        top.scatter_add_(1, b.label_rows, b.minus_one * (1 - recipe.label_smoothing))
        real += surplus - recipe.label_smoothing / self.classes

    def _update(self, k: int, delta: Tensor, layer: Tensor, learning_rate: float) -> None:
        """Step the weights of layer `k` as ``torch.optim.SGD`` does."""
        recipe, weight, scale = self.recipe, self.weights[k], 1 / layer.shape[2]
        if not recipe.momentum:
            if recipe.weight_decay:
                self._real(k, weight).mul_(1 - learning_rate * recipe.weight_decay)
            weight.baddbmm_(delta, layer.mT, alpha=-learning_rate * scale)
            return
        velocity = self.velocity[k]
        velocity.baddbmm_(delta, layer.mT, beta=recipe.momentum, alpha=scale)
        if recipe.weight_decay:
            self._real(k, velocity).add_(self._real(k, weight), alpha=recipe.weight_decay)
        weight.add_(velocity, alpha=-learning_rate)

    def update_average(self, decay: float) -> None:
        """Take the weights into the moving average; the first ones are its beginning."""
        if self.average is None:
            self.average = [weight.clone() for weight in self.weights]
        for mean, weight in zip(self.average, self.weights):
            mean.lerp_(weight, 1 - decay)

    def averaged(self) -> Ensemble:
        """The lanes with averaged weights, to measure; the lanes themselves without an average."""
        if self.average is None:
            return self
        shown = copy.copy(self)
        shown.weights = self.average
        return shown


def start_plan(plan: Plan, seed: int, saved: MLP | None) -> MLP:
    """The network that a plan starts from; see :func:`wsp.retraining.start_network`.

    Examples
    --------
    >>> first = random_network(0, "first weights")
    >>> start = start_plan(Plan(reset_last=True), seed=0, saved=first)
    >>> torch.equal(start[0].weight, first[0].weight), torch.equal(start[4].weight, first[4].weight)
    (True, False)
    """
    network = start_network(Arm("plan", plan.start, plan.lamda, plan.sigma), seed, saved)
    if plan.reset_last:
        fresh = random_network(seed, "fresh weights").linears[-1]
        network.linears[-1].load_state_dict(fresh.state_dict())
    return network


def train_plans(
    tables: Sequence[Table],
    pairs: Sequence[tuple[int, int]],
    plans: Mapping[str, Plan],
    read: Read,
    *,
    read_at: Iterable[int],
    tick: Callable[[int], None] = lambda samples: None,
    saved: Firsts | None = None,
) -> None:
    """Carry out every plan for every pair, side by side, on the CPU.

    Parameters
    ----------
    tables : sequence of Table
        Training tables, all of the same number of rows.
    pairs : sequence of (int, int)
        A lane each: the table's number in `tables`, and the seed.
    plans : mapping
        Name → plan. First networks that several plans share are trained once.
    read : callable
        ``read(name, epoch, ensemble)`` is called for every plan after each
        epoch of `read_at` that it reaches.
    read_at : iterable of int
        Epochs of the second phase.
    tick : callable
        Is told how many training samples have gone by; may raise to stop.
    saved : dict, optional
        Recipe → first networks of these pairs and their velocities, taken from here
        where they are and put here where they are not, for another call with the same pairs.

    Examples
    --------
    >>> from wsp import employees
    >>> table, test = employees.load_train(), employees.load_test()
    >>> def read(name, epoch, ensemble):
    ...     print(name, epoch, len(ensemble.measure(*test)[0]), "lanes")
    >>> short = Recipe(epochs=2, weight_decay=0.01)
    >>> plans = {"warm": Plan(first=short, then=short), "cold": Plan("fresh", then=short)}
    >>> train_plans([table], [(0, 7), (0, 8)], plans, read, read_at=[2])
    warm 2 2 lanes
    cold 2 2 lanes

    See chapter 9.
    """
    read_at = set(read_at)
    rows = len(tables[0].labels)
    stacked = Table(*(torch.cat(columns) for columns in zip(*tables)))
    first_row = torch.tensor([[table * rows] for table, _ in pairs])
    seeds = [seed for _, seed in pairs]

    def train_epoch(ensemble: RecipeEnsemble, order: Tensor) -> None:
        ensemble.train_epoch(
            stacked,
            order + first_row,
            learning_rate=ensemble.recipe.learning_rate,
            batch_size=ensemble.recipe.batch_size,
        )
        tick(order.numel())

    # First networks: one training for all plans whose first recipes differ in epochs alone.
    saved = {} if saved is None else saved
    wanted = {plan.first for plan in plans.values() if plan.start == "saved"}
    for kind in dict.fromkeys(replace(recipe, epochs=1) for recipe in wanted):
        members = {recipe.epochs: recipe for recipe in wanted if replace(recipe, epochs=1) == kind}
        if all(recipe in saved for recipe in members.values()):
            tick(max(members) * OLD_ROWS * len(pairs))
            continue
        networks = [start_network(ARMS["initial"], seed) for seed in seeds]
        first = RecipeEnsemble(networks, kind, [draws(seed, "first") for seed in seeds])
        orders = [stream(seed, "first order") for seed in seeds]
        for epoch in range(1, max(members) + 1):
            train_epoch(first, torch.stack([epoch_order(OLD_ROWS, None, order) for order in orders]))
            if epoch in members:
                saved[members[epoch]] = first.networks(), [weight.clone() for weight in first.velocity]

    ensembles: dict[str, RecipeEnsemble] = {}
    for name, plan in plans.items():
        olds, velocity = saved[plan.first] if plan.start == "saved" else ([None] * len(seeds), None)
        ensembles[name] = RecipeEnsemble(
            [start_plan(plan, seed, old) for seed, old in zip(seeds, olds)],
            plan.then,
            [draws(seed, "then") for seed in seeds],
            velocity if plan.keep_velocity else None,
        )
    # One set of orders for all plans with the same share of new rows: they are paired.
    shares = dict.fromkeys(plan.new_share for plan in plans.values())
    streams = {share: [stream(seed, "order") for seed in seeds] for share in shares}
    for epoch in range(1, max(plan.then.epochs for plan in plans.values()) + 1):
        order = {
            share: torch.stack([epoch_order(rows, share, generator) for generator in generators])
            for share, generators in streams.items()
        }
        for name, plan in plans.items():
            if epoch > plan.then.epochs:
                continue
            train_epoch(ensembles[name], order[plan.new_share])
            if plan.average:
                ensembles[name].update_average(plan.average)
            if epoch in read_at:
                read(name, epoch, ensembles[name].averaged())


def samples_of(plans: Mapping[str, Plan], rows: int) -> int:
    """Training samples that one lane meets in all plans, shared first networks once.

    Examples
    --------
    >>> samples_of({"warm": Plan(), "cold": Plan("fresh")}, 200)
    500000
    """
    firsts: dict[Recipe, int] = {}
    for plan in plans.values():
        if plan.start == "saved":
            kind = replace(plan.first, epochs=1)
            firsts[kind] = max(plan.first.epochs, firsts.get(kind, 0))
    return sum(firsts.values()) * OLD_ROWS + sum(plan.then.epochs for plan in plans.values()) * rows
