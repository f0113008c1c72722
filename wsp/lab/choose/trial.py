"""One candidate in one fold, for :mod:`wsp.lab.choose`: copied, trained, scored."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsp.lab.choose.scores import Score, score_rows
from wsp.lab.employees import Table
from wsp.lab.retraining import stream

Build = Callable[[], nn.Module]
Train = Callable[[nn.Module, Table, torch.Generator], Iterator[object]]


def copy_of(network: nn.Module, build: Build) -> nn.Module:
    """A copy, by ``copy.deepcopy`` or, where that fails, by `build` and the state dict.

    Networks that hold a computed tensor cannot be copied by PyTorch: after a pass through
    old-style ``weight_norm`` or a pruned layer, or with an activation kept for later.

    Raises
    ------
    ValueError
        If neither way works.

    Examples
    --------
    >>> network = nn.Linear(2, 2)
    >>> network.kept = network(torch.ones(1, 2))
    >>> copied = copy_of(network, lambda: nn.Linear(2, 2))
    >>> torch.equal(copied.weight, network.weight), copied.weight is network.weight
    (True, False)
    """
    try:
        return copy.deepcopy(network)
    except Exception as error:  # RuntimeError of such a tensor; TypeError of a lock, a file
        reason = _one_line(error)
    copied = built(build)
    try:
        copied.load_state_dict(network.state_dict())
    except (RuntimeError, AttributeError) as error:
        raise ValueError(
            f"the old network cannot be copied ({reason}), and what build() makes does not take its state "
            f"dict: build() must make a network like it, pruned or normalized alike ({_one_line(error)})"
        ) from None
    modes = {name: module.training for name, module in network.named_modules()}
    for name, module in copied.named_modules():
        module.training = modes.get(name, module.training)
    trainable = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    for name, parameter in copied.named_parameters():
        parameter.requires_grad_(trainable.get(name, parameter.requires_grad))
    return copied


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def built(build: Build) -> nn.Module:
    """What ``build()`` makes; ``TypeError`` if that is no network."""
    network = build()
    if not isinstance(network, nn.Module):
        raise TypeError(f"build must make a torch.nn.Module, not a {type(network).__name__}")
    return network


def at(rows: Table, which: Tensor) -> Table:
    """These rows of a table, by number or by a mask."""
    return Table(*(column[which.to(column.device)] for column in rows))


def joined(first: Table, second: Table) -> Table:
    """All rows of both."""
    return Table(*(torch.cat(pair) for pair in zip(first, second)))


def set_aside(rows: Table, share: float, seed: int) -> tuple[Table, Table]:
    """A share of the rows to stop by, at least one, and the others."""
    order = torch.randperm(len(rows.labels), generator=torch.Generator().manual_seed(seed))
    watched = max(1, round(share * len(rows.labels)))
    return at(rows, order[:watched]), at(rows, order[watched:])


class Training:
    """One candidate in one fold."""

    def __init__(self, train: Train, network: nn.Module, seed: int, temperature: float, judge: Score) -> None:
        self.train, self.network, self.seed, self.judge = train, network, seed, judge
        self.temperature, self.divides, self.divided = temperature, True, temperature == 1
        if temperature != 1:
            network.register_forward_hook(self._divide)

    def _divide(self, network: nn.Module, inputs: Any, outputs: Any) -> Any:
        if not self.divides:
            return outputs
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"a temperature divides a tensor, but the network gives a {type(outputs).__name__}"
            )
        self.divided = True
        return outputs / self.temperature

    def score(self, rows: Table) -> NDArray[Any]:
        """Score rows, with the outputs as they are."""
        self.divides = False
        try:
            return score_rows(self.network, rows, self.judge)
        finally:
            self.divides = True

    def epochs(self, rows: Table, epochs: int, bar: Any) -> Iterator[int]:
        """Train; give the number of every finished epoch."""
        torch.manual_seed(stream(self.seed, "order").initial_seed())  # for dropout and the like
        training = self.train(self.network, rows, stream(self.seed, "order"))
        if not isinstance(training, Iterator):
            raise TypeError("train must be a generator: write `yield` at the end of every epoch")
        epoch = 0
        for epoch, _ in zip(range(1, epochs + 1), training):
            if not self.divided:
                raise ValueError("a temperature has no say where train does not call network(inputs)")
            bar.update()
            yield epoch
        if epoch < epochs:
            raise ValueError(f"train stopped after {epoch} epochs, but {epochs} were asked for")

    def to_the_end(
        self, rows: Table, unseen: Table, readings: Sequence[int], bar: Any
    ) -> dict[int, NDArray[Any]]:
        """The scores of the unseen rows at each reading."""
        last = readings[-1]
        return {e: self.score(unseen) for e in self.epochs(rows, last, bar) if e in readings}

    def stopped(
        self, rows: Table, watched: Table, unseen: Table, epochs: int, patience: int, bar: Any
    ) -> tuple[NDArray[Any], int]:
        """The scores of the unseen rows at the epoch that is best on the watched ones; epochs trained."""
        best, best_epoch, values, epoch = -math.inf, 0, None, 0
        for epoch in self.epochs(rows, epochs, bar):
            reached = float(self.score(watched).mean())
            if values is None or reached > best:
                best, best_epoch, values = reached, epoch, self.score(unseen)
            if epoch - best_epoch >= patience:
                bar.update(epochs - epoch)
                break
        return np.asarray(values), epoch


def try_out(old: nn.Module, build: Build, old_rows: Table, new_rows: Table, judge: Score) -> NDArray[Any]:
    """Build, copy and score once, so that what cannot work fails before the first training.

    Returns what the old network, as it is, scores on the new rows.
    """
    fresh, other = built(build), built(build)
    for one, known, words in (
        (fresh, old, "the old network, or one that shares"),
        (fresh, other, "the same network twice, or two that share"),
    ):
        taken = _memory(known)
        shared = [name for place, name in _memory(one).items() if place in taken]
        if shared:
            raise ValueError(
                f"build() hands out {words} the trainable parameter {shared[0]}: what one candidate learns "
                "the next would start with. Make everything new inside build()"
            )
    device = new_rows.labels.device
    scored: dict[str, NDArray[Any]] = {}
    for what, network, rows in (
        ("build() on old_rows", fresh, old_rows),
        ("old on new_rows", copy_of(old, build), new_rows),
    ):
        try:
            scored[what] = score_rows(network.to(device), rows, judge)
        except Exception as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"the network of {what}: {error}") from error
    first, last = scored.values()
    if first.dtype != last.dtype:
        raise ValueError(f"score must give bools always or never, not {first.dtype} and {last.dtype}")
    return last


def _memory(network: nn.Module) -> dict[int, str]:
    """Where the trainable parameters lie, with their names."""
    return {
        parameter.untyped_storage().data_ptr(): name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
        and not nn.parameter.is_lazy(parameter)
        and parameter.untyped_storage().data_ptr()
    }
