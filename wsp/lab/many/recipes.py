"""How one phase of training may be changed, for many networks side by side.

A :class:`Recipe` says how a network is trained: rate, batch, momentum, and the
usual regularizers. A :class:`Plan` says what happens when data arrive: how the
first network was trained, where the next one starts, and how it goes on.
:func:`train_plans` carries plans out for many (table, seed) lanes at once,
with the streams of :mod:`wsp.lab.retraining`: a plan that changes nothing gives the
arms of chapter 4, network by network (tested), and every change gives what an
ordinary loop with autograd and ``torch.optim.SGD`` gives (tested).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsp.lab.employees import Table
from wsp.lab.many.ensemble import FORWARD, Buffers, Ensemble, multiply_by_slope
from wsp.lab.many.lanes import side_stream
from wsp.lab.network import MLP
from wsp.lab.retraining import OLD_ROWS
from wsp.lab.training import BATCH_SIZE, EPOCHS, LEARNING_RATE

NUMERIC = (1, 5)  # the input columns that noise can move: age and income; a branch has no neighbor
PHASES = ("first", "then")


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
    temperature : float
        The loss is that of the logits divided by this. Default 1.

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
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("momentum", "label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to less than 1, not {getattr(self, name)}")
        for name in ("weight_decay", "confidence_penalty", "input_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, not {getattr(self, name)}")


def draws(seed: int, phase: str) -> torch.Generator:
    """The CPU generator of dropout masks and input noise in one phase, ``"first"`` or ``"then"``.

    A stream beside those of :func:`wsp.lab.retraining.stream`, whose numbers are taken.

    Examples
    --------
    >>> draws(0, "first").initial_seed() == draws(0, "then").initial_seed()
    False
    """
    return side_stream(seed, PHASES.index(phase))


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
    """An :class:`wsp.lab.many.ensemble.Ensemble` that trains by a recipe.

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
    >>> from wsp.lab.retraining import random_network
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
        self.temperature = recipe.temperature
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
        """One epoch for every lane; see :meth:`wsp.lab.many.ensemble.Ensemble.train_epoch`."""
        self._draw(order.shape[1])
        self._met = 0
        super().train_epoch(table, order, learning_rate=learning_rate, batch_size=batch_size)

    def _step(self, table: Table, rows: Tensor, learning_rate: float) -> None:
        """One step on `rows` (lane by lane) of a table whose last input column is 1."""
        size = len(rows) // self.lanes
        if size not in self._buffers:
            self._buffers[size] = Buffers(self.weights, size)
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
                multiply_by_slope(b.delta[k - 1], full[k - 1], self.activation)
            self._update(k, b.delta[k], b.layer[k], learning_rate)

    def _loss_gradient(self, b: Buffers) -> None:
        """Turn the top layer's logits into the gradient of the loss by them, in place."""
        recipe, top = self.recipe, b.delta[-1]
        real = top[:, : self.classes]
        if recipe.temperature != 1:
            top.div_(recipe.temperature)
        surplus: Tensor | float = 0.0
        if recipe.confidence_penalty:  # loss - c H, and dH/dz = -p (log p + H)
            log_p = torch.log_softmax(real, dim=1)
            entropy = -(log_p.exp() * log_p).sum(dim=1, keepdim=True)
            surplus = recipe.confidence_penalty * log_p.exp() * (log_p + entropy)
        torch.softmax(top, dim=1, out=top)
        top.scatter_add_(1, b.label_rows, b.minus_one * (1 - recipe.label_smoothing))
        real += surplus - recipe.label_smoothing / self.classes
        if recipe.temperature != 1:
            top.div_(recipe.temperature)

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
