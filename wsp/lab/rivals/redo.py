"""ReDo: units that hardly ever fire are dormant; give them new incoming weights on the way.

:class:`Redo` is the hook between the steps of a training, :func:`redo_` what it does every so often.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn


class Redo:
    """Recycle dormant units every so many steps (ReDo): a hook for the training loop.

    A unit (a filter of a convolution) is dormant when its mean absolute activation, divided
    by the mean over its layer, is at most `tau`. What comes into it is drawn anew and what
    goes out of it is set to zero, so that it starts over without being heard; the optimizer
    forgets its momentum for both.

    Parameters
    ----------
    inputs : torch.Tensor
        What to judge activations on, such as a batch of the training rows.
    fresh : callable
        Builds a new network of the same layout: the source of what comes in.
    tau : float
        Default 0.1. With 0 only units that never fire are recycled.
    every : int
        Steps between two checks. Default 100.

    Notes
    -----
    Judged are units between two linear or convolution layers that follow each other; the
    last layer is left alone. Normalization in between counts as part of what comes in.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> _ = nn.init.constant_(network[0].bias, -100.0)  # nothing fires
    >>> with torch.no_grad():
    ...     _ = network[0].bias[0].fill_(100.0)  # but unit 0
    >>> layers = unit_layers(network)
    >>> dormant(network, torch.zeros(4, 2), layers)[0].tolist()
    [False, True, True]

    Source: Sokar et al. (2023), definition 3.1 and algorithm 1; that the momentum is
    forgotten as well is in the authors' code. See chapter 12.
    """

    def __init__(
        self, inputs: Tensor, fresh: Callable[[], nn.Module], tau: float = 0.1, every: int = 100
    ) -> None:
        if not tau >= 0 or every < 1:
            raise ValueError(f"tau must be 0 or more and every at least 1, not {tau} and {every}")
        self.inputs, self.fresh, self.tau, self.every = inputs, fresh, tau, every
        self.recycled = 0

    def __call__(self, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Step in after training step number `step`, counted from 1."""
        if step % self.every == 0:
            self.recycled += redo_(network, self.inputs, self.fresh(), self.tau, optimizer)


Between = tuple[list[str], str]  # the modules that make units what they are, and the layer they feed


def unit_layers(network: nn.Module) -> list[Between]:
    """Where a network's hidden units are: names of the modules before and after them.

    Followed are linear and convolution layers that come one after the other within one
    module, as in a ``Sequential`` or a residual block; over a nested block we do not look.

    Examples
    --------
    >>> unit_layers(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)))
    [(['0', '1', '2'], '3')]
    """
    found: list[Between] = []
    for prefix, parent in network.named_modules():
        before: list[str] = []
        for name, child in parent.named_children():
            name = f"{prefix}.{name}" if prefix else name
            if isinstance(child, nn.Linear | nn.Conv2d):
                found += [(before, name)] if before else []
                before = [name]
            elif any(True for _ in child.children()):
                before = []
            elif before:
                before = [*before, name]
    return found


@torch.no_grad()
def dormant(network: nn.Module, inputs: Tensor, layers: list[Between], tau: float = 0.1) -> list[Tensor]:
    """Which units of these layers are dormant on these inputs, as one boolean mask a layer.

    See :class:`Redo` for what dormant means.
    """
    scores: list[Tensor] = []

    def judge(layer: nn.Module, arguments: tuple[Tensor], units: int) -> None:
        size = arguments[0].abs().reshape(len(arguments[0]), units, -1).mean(dim=(0, 2))
        scores.append(size / size.mean().clamp_min(1e-9))

    handles = [
        network.get_submodule(after).register_forward_pre_hook(
            partial(judge, units=len(network.get_parameter(f"{first}.weight")))
        )
        for (first, *_), after in layers
    ]
    training = network.training
    network.eval()(inputs)
    network.train(training)
    for handle in handles:
        handle.remove()
    return [score <= tau for score in scores]


@torch.no_grad()
def redo_(
    network: nn.Module,
    inputs: Tensor,
    fresh: nn.Module,
    tau: float = 0.1,
    optimizer: torch.optim.Optimizer | None = None,
) -> int:
    """Recycle the dormant units of a network once, in place; return how many there were.

    See :class:`Redo`, which calls this. `fresh` is a new network of the same layout.

    Examples
    --------
    >>> network, fresh = (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in "ab")
    >>> _ = nn.init.constant_(network[0].bias, -100.0), nn.init.constant_(network[0].weight, 0.0)
    >>> before = network(torch.ones(1, 2))
    >>> redo_(network, torch.ones(4, 2), fresh), torch.equal(network(torch.ones(1, 2)), before)
    (3, True)
    """
    layers = unit_layers(network)
    masks = dormant(network, inputs, layers, tau)
    for (before, after), mask in zip(layers, masks, strict=True):
        if not mask.any():
            continue
        for name in before:
            module, new = network.get_submodule(name), fresh.get_submodule(name).state_dict()
            for key, value in chain(module.named_parameters(), module.named_buffers()):
                if value.shape[:1] == mask.shape:
                    value[mask] = new[key][mask]
                    for moment in _moments(optimizer, value):
                        moment[mask] = 0.0
        outgoing = network.get_parameter(f"{after}.weight")
        for value in (outgoing, *_moments(optimizer, outgoing)):
            value.view(len(value), len(mask), -1)[:, mask] = 0.0
    return sum(int(mask.sum()) for mask in masks)


def _moments(optimizer: torch.optim.Optimizer | None, p: Tensor) -> list[Tensor]:
    """What an optimizer remembers of each element of a parameter."""
    state = {} if optimizer is None else optimizer.state.get(p, {})
    return [value for value in state.values() if torch.is_tensor(value) and value.shape == p.shape]
