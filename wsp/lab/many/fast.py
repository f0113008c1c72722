"""Ensembles on the compiled kernel, where it can be had: the same lanes, several times as fast.

:func:`ensemble_of` and :func:`orders_of` are what everything that trains lanes calls. With Numba (an
extra: ``pip install numba``) and on a CPU they give what ``wsp.lab.many.kernel`` compiles; else the plain
versions in PyTorch, and a warning says once what one would gain. Weights agree within 1e-9 after the longest
schedule of the book, counts agree, batch orders are equal (tested).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.network import MLP

AVAILABLE = find_spec("numba") is not None
WHY = "without Numba (pip install numba) many small networks train here six times as slowly"
Draw = Callable[[int], Tensor]
Array = NDArray[Any]
RULES = ("loss", "accuracy", "epoch")  # the kernel's numbers for them are 0, 1 and 2


def ensemble_of(networks: Sequence[MLP], device: str | torch.device = "cpu") -> Ensemble:
    """An ensemble of these networks, the fastest that can be had.

    Examples
    --------
    >>> lanes = ensemble_of([MLP(generator=torch.Generator().manual_seed(s)) for s in range(5)])
    >>> lanes.logits(torch.zeros(2, 6, dtype=torch.float64)).shape
    torch.Size([5, 3, 2])
    """
    if networks and torch.device(device).type == "cpu":
        if AVAILABLE:
            return FastEnsemble(networks)
        warnings.warn(WHY, stacklevel=2)
    return Ensemble(networks, device)


def orders_of(generators: Sequence[torch.Generator]) -> Draw:
    """``draw(rows)``: the next ``torch.randperm(rows)`` of every generator, (lanes, rows) int64.

    The generators themselves may be left behind: draw from the one or from the other.

    Examples
    --------
    >>> draw = orders_of([torch.Generator().manual_seed(7)])
    >>> torch.equal(draw(5)[0], torch.randperm(5, generator=torch.Generator().manual_seed(7)))
    True
    """
    if AVAILABLE:
        return Orders(generators)
    return lambda rows: torch.stack([torch.randperm(rows, generator=each) for each in generators])


class Orders:
    """Mersenne Twisters side by side, each where its generator stands.

    Examples
    --------
    >>> generator, same = (torch.Generator().manual_seed(7) for _ in range(2))
    >>> orders = Orders([generator])
    >>> torch.equal(orders(5)[0], torch.randperm(5, generator=same))
    True
    >>> orders.give_back([generator])
    >>> torch.equal(torch.randperm(5, generator=generator), torch.randperm(5, generator=same))
    True
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        # A state of PyTorch's: the seed, how many words are left, which is next, then the words.
        states = np.stack([each.get_state().numpy() for each in generators])
        left, following = (states[:, at : at + 4].copy().view(np.int32)[:, 0] for at in (8, 16))
        self.words = states[:, 24:5016].copy().view(np.uint64).astype(np.uint32)
        self.places = np.where(left == 1, self.words.shape[1], following).astype(np.int64)

    def __call__(self, rows: int) -> Tensor:
        """The next order of every lane, (lanes, rows) int64."""
        from wsp.lab.many.kernel import shuffle

        if rows >= 2**32 // 20 - 1:
            raise ValueError(f"PyTorch draws {rows} rows in another way; the most here is {2**32 // 20 - 2}")
        orders = np.empty((len(self.places), rows), dtype=np.int64)
        shuffle(self.words, self.places, orders)
        return torch.from_numpy(orders)

    def copy(self) -> Orders:
        """The same orders once more, from here on."""
        twin = object.__new__(Orders)
        twin.words, twin.places = self.words.copy(), self.places.copy()
        return twin

    def give_back(self, generators: Sequence[torch.Generator]) -> None:
        """Set PyTorch's generators to where these stand, so that they go on from here."""
        for generator, words, place in zip(generators, self.words, self.places, strict=True):
            state = generator.get_state().numpy()
            state[8:12] = np.array([len(words) + 1 - place], dtype=np.int32).view(np.uint8)
            state[16:24] = np.array([place], dtype=np.int64).view(np.uint8)
            state[24:5016] = words.astype(np.uint64).view(np.uint8)
            generator.set_state(torch.from_numpy(state))


class Kept:
    """What :meth:`FastEnsemble.train_epochs` keeps of each lane: the weights of its best epoch, rule by rule.

    Parameters
    ----------
    ensemble : FastEnsemble
    rules : sequence of (str, int)
        A rule, ``"loss"``, ``"accuracy"`` or ``"epoch"``, and how many epochs without anything better
        end the search.
    held : Table, optional
        (lanes, rows, ...) to score on.
    chosen : Tensor, optional
        (rules, lanes) int64: for the rule ``"epoch"``, which one to keep.

    ``best`` and ``spent``, (rules, lanes) int64, are the epoch kept, and epochs trained until the lane
    stopped or until now.
    """

    def __init__(
        self,
        ensemble: FastEnsemble,
        rules: Sequence[tuple[str, int]],
        held: Table | None = None,
        chosen: Tensor | None = None,
    ) -> None:
        packed, shape = ensemble.packed(), (len(rules), ensemble.lanes)
        self.ensemble, self.held = ensemble, held
        self.rules = np.array([RULES.index(rule) for rule, _ in rules], dtype=np.int64)
        self.patience = np.array([patience for _, patience in rules], dtype=np.int64)
        self.looking = ensemble.filled(np.ones(shape, dtype=bool), False)
        self.scores = ensemble.filled(np.full(shape, np.inf))
        self.best = ensemble.filled(np.zeros(shape, np.int64) if chosen is None else chosen.numpy())
        self.spent = np.zeros_like(self.best)
        self.weights = np.repeat(packed[None], len(rules), axis=0)

    def state(self, freeze: bool) -> tuple[Any, ...]:
        """What the kernel takes of it."""
        arrays = (self.looking, self.scores, self.best, self.spent, self.weights)
        return self.rules, self.patience, freeze, *arrays

    def of(self, rule: int) -> list[Tensor]:
        """The weights that were kept by one rule, as ``Ensemble.weights`` has them."""
        return self.ensemble.unpacked(self.weights[rule])


class FastEnsemble(Ensemble):
    """An :class:`wsp.lab.many.ensemble.Ensemble` whose epochs and counts run in compiled code.

    `temperature` and learning rates may be numbers, or tensors (lanes,).

    Examples
    --------
    >>> networks = [MLP(generator=torch.Generator().manual_seed(s)) for s in range(5)]
    >>> isinstance(ensemble_of(networks), FastEnsemble) == AVAILABLE
    True

    See chapter 6.
    """

    def __init__(self, networks: Sequence[MLP]) -> None:
        self._packed: Array | None = None
        super().__init__(networks)
        self._n = np.array([units + units % 2 for units in self.sizes])  # the kernel's: even

    @property
    def weights(self) -> list[Tensor]:
        """As the plain ensemble has them; whoever asks may change them, so they are packed again."""
        if self._packed is not None:
            self._weights, self._packed = self.unpacked(self._packed), None
        return self._weights

    @weights.setter
    def weights(self, weights: list[Tensor]) -> None:
        self._weights, self._packed = weights, None

    def packed(self) -> Array:
        """All weights, (groups, parameters, lanes of a group): what is filled up is 0."""
        if self._packed is None:
            from wsp.lab.many.kernel import LANES

            layers = []
            for weight, units, (below, above) in zip(self._weights, self.sizes[1:], pairwise(self._n)):
                layer = np.zeros((-(-self.lanes // LANES) * LANES, above, below + 1), weight.numpy().dtype)
                inputs = weight.shape[2] - 1
                layer[: self.lanes, :units, :inputs] = weight[:, :units, :-1].numpy()
                layer[: self.lanes, :units, below] = weight[:, :units, -1].numpy()
                layers.append(layer.reshape(len(layer), -1))
            flat = np.concatenate(layers, axis=1)
            self._packed = np.ascontiguousarray(flat.reshape(-1, LANES, flat.shape[1]).transpose(0, 2, 1))
        return self._packed

    def unpacked(self, packed: Array) -> list[Tensor]:
        """Weights as ``Ensemble.weights`` has them, with the classes that never happen."""
        flat = packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])[: self.lanes]
        weights, start = [], 0
        for old, units, (below, above) in zip(self._weights, self.sizes[1:], pairwise(self._n)):
            layer = flat[:, start : start + above * (below + 1)].reshape(-1, above, below + 1)
            start += above * (below + 1)
            weight, inputs = old.clone(), old.shape[2] - 1
            weight[:, :units, :-1] = torch.from_numpy(layer[:, :units, :inputs])
            weight[:, :units, -1] = torch.from_numpy(layer[:, :units, below])
            weights.append(weight)
        return weights

    def filled(self, values: Any, last: Any = 1) -> Array:
        """Of each lane (..., lanes), filled up to whole groups with `last`; a number is everybody's."""
        from wsp.lab.many.kernel import LANES

        values = np.asarray(values)
        if values.ndim == 0 or values.shape[-1] != self.lanes:
            values = np.broadcast_to(values[..., None], (*values.shape, self.lanes))
        more = np.full((*values.shape[:-1], -self.lanes % LANES), last, dtype=values.dtype)
        return np.concatenate([values, more], axis=-1)

    def _table(self, *tables: Table) -> tuple[Array, Array]:
        """Inputs, filled up to an even number, and labels of these tables, one below the other."""
        inputs = np.concatenate([t.inputs.reshape(-1, self.sizes[0]).numpy() for t in tables])
        labels = np.concatenate([t.labels.reshape(-1).numpy() for t in tables])
        if not 0 <= labels.min() <= labels.max() < self.classes:
            raise ValueError(
                f"labels must be from 0 to {self.classes - 1}, not {labels.min()} to {labels.max()}"
            )
        odd = self._n[0] - self.sizes[0]
        return np.pad(inputs, ((0, 0), (0, odd))) if odd else np.ascontiguousarray(inputs), labels

    def train_epoch(self, table: Table, order: Tensor, *, learning_rate: Any, batch_size: int) -> None:
        """One epoch for every lane; see :meth:`wsp.lab.many.ensemble.Ensemble.train_epoch`."""
        self.train_epochs(table, order, None, 1, learning_rate=learning_rate, batch_size=batch_size)

    def train_epochs(
        self,
        table: Table,
        rows: Tensor,
        orders: Orders | None,
        epochs: int,
        *,
        learning_rate: Any,
        batch_size: int,
        lengths: Tensor | None = None,
        temperatures: Sequence[Any] | None = None,
        kept: Kept | None = None,
        first: int = 1,
        freeze: bool = True,
    ) -> None:
        """Many epochs for every lane in one call, each in an order that is drawn on the way.

        Parameters
        ----------
        table : Table
            Rows for all lanes.
        rows : Tensor
            (lanes, rows) int64: which of them each lane trains on.
        orders : Orders or None
            Draws; moves on with every lane that trains. None: rows are met as they stand.
        epochs : int
        learning_rate : float or Tensor
            A number, or (lanes,).
        batch_size : int
            Rows a step. The last batch may be shorter.
        lengths : Tensor, optional
            (lanes,) int64: of `rows`, how many each lane trains on. Default: all.
        temperatures : sequence, optional
            For each epoch a number or (lanes,). Default: `temperature`, for all of them.
        kept : Kept, optional
            What to keep, and when to stop.
        first : int
            The number of the first epoch. Default 1.
        freeze : bool
            Whether a lane rests (and a group of lanes costs nothing) when none of the rules of
            `kept` is looking. Default True.
        """
        from wsp.lab.many.kernel import WORDS, train

        inputs, labels = table
        if not 0 <= int(rows.min()) <= int(rows.max()) < len(labels) == len(inputs):
            raise ValueError(
                f"rows go from {int(rows.min())} to {int(rows.max())}, but the table has {len(inputs)} "
                f"inputs and {len(labels)} labels: number its rows from 0"
            )
        if len(rows) != self.lanes or (orders is not None and len(orders.places) != self.lanes):
            raise ValueError(f"expected rows and orders for {self.lanes} lanes, not for {len(rows)}")
        kept = kept or Kept(self, ())
        warm = [self.temperature] if temperatures is None else list(temperatures)
        held, tables = np.zeros((self.lanes, 0), dtype=np.int64), [table]
        if kept.held is not None:
            held = np.arange(kept.held.labels.numel()).reshape(self.lanes, -1) + len(table.labels)
            tables.append(kept.held)
        train(
            self.packed(),
            self._n,
            self.classes,
            self.activation == "tanh",
            *self._table(*tables),
            np.ascontiguousarray(rows.numpy()),
            self.filled(rows.shape[1] if lengths is None else lengths.numpy(), 0),
            np.empty((0, WORDS), np.uint32) if orders is None else orders.words,
            np.empty(0, np.int64) if orders is None else orders.places,
            self.filled(np.asarray(learning_rate, dtype=np.float64)),
            np.stack([self.filled(np.asarray(each, dtype=np.float64)) for each in warm]),
            batch_size,
            epochs,
            first,
            held,
            *kept.state(freeze and len(kept.rules) > 0),
        )

    def measure(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Correct rows and mean cross-entropy; see :meth:`wsp.lab.many.ensemble.Ensemble.measure`."""
        from wsp.lab.many.kernel import score

        count, shared = inputs.shape[-2], inputs.dim() == 2 and labels.dim() == 1
        if not shared:
            inputs, labels = inputs.expand(self.lanes, -1, -1), labels.expand(self.lanes, -1)
        held = np.arange(labels.numel()).reshape(-1, count)
        correct, losses = self.filled(np.zeros(self.lanes, np.int64)), self.filled(np.zeros(self.lanes))
        warm = self.filled(np.asarray(self.temperature, dtype=np.float64))
        how = self.packed(), self._n, self.classes, self.activation == "tanh"
        score(*how, *self._table(Table(inputs, labels)), held, warm, correct, losses)
        sums = torch.from_numpy(losses[: self.lanes])
        return torch.from_numpy(correct[: self.lanes]), (sums / count).to(inputs.dtype)
