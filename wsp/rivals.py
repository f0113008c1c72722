"""What came after shrink and perturb: each published rival in a screen of code.

:func:`dash_` changes a network once, when data have arrived, as :func:`shrink_perturb_
<wsp.perturb.shrink_perturb_>` does. :func:`l2_init` bends the loss of the training;
:class:`Redo` and :class:`HareTortoise` are hooks between its steps;
:func:`add_layer_norm_` changes the architecture; :func:`fit_stopped` ends in time.
Written from the papers; where a paper leaves something open, the docstring says what we
took. :mod:`wsp.contest` lets them meet.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from wsp.employees import Table
from wsp.training import Fit, Loss, fit, measure

ModuleT = TypeVar("ModuleT", bound=nn.Module)
WEIGHTED = (nn.Linear, nn.Conv2d)


def dash_(network: ModuleT, batches: Iterable[Table], lamda: float = 0.3, alpha: float = 0.3) -> ModuleT:
    r"""Shrink each weight vector the less, the better it points where the data push it.

    .. math:: w \leftarrow w \cdot \min(\max(\cos(w, -g), \lambda), 1)

    for the weights of each unit of a linear layer, for each kernel (one input channel, one
    output channel) of a convolution, and for the biases of a layer taken together. Here
    :math:`-g` is a moving average over batches of the direction in which training would move
    them: per batch, :math:`1 - \alpha` of the old average and :math:`\alpha` of the new one.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place, in its linear and convolution layers.
    batches : iterable of Table
        All the data, old and new, in chunks; the last weigh most. Each costs one forward and
        one backward pass, in training mode, on a copy of the network.
    lamda : float
        The least that is kept, from 0 to 1. Default 0.3. With 1 nothing changes.
    alpha : float
        Weight of the newest batch, from 0 to 1. Default 0.3.

    Returns
    -------
    torch.nn.Module
        The same ``network``.

    Raises
    ------
    ValueError
        If there are no batches, or a number is not from 0 to 1.

    Examples
    --------
    A weight vector that the data would lengthen stays; what they push elsewhere shrinks.

    >>> layer = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.eye_(layer.weight)
    >>> _ = dash_(layer, [Table(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))])
    >>> [[round(value, 2) for value in row] for row in layer.weight.tolist()]
    [[1.0, 0.0], [0.0, 0.3]]

    Source: Shin et al. (2024), algorithm 1. See chapter 12.
    """
    if not (0 <= lamda <= 1 and 0 <= alpha <= 1):
        raise ValueError(f"lamda and alpha must be from 0 to 1, not {lamda} and {alpha}")
    probe = copy.deepcopy(network).train()  # its running statistics are not the network's
    directions: list[Tensor] | None = None
    for inputs, labels in batches:
        loss = cross_entropy(probe(inputs), labels)
        gradients = torch.autograd.grad(loss, list(_weights_and_biases(probe)))
        directions = directions or [torch.zeros_like(gradient) for gradient in gradients]
        for direction, gradient in zip(directions, gradients, strict=True):
            direction.lerp_(-gradient, alpha)
    if directions is None:
        raise ValueError("there are no batches: DASH needs the data to know what to keep")
    with torch.no_grad():
        for p, direction in zip(_weights_and_biases(network), directions, strict=True):
            first = p.dim() // 2  # from here on the dimensions turn as one: 0 of a bias, 1, or 2 of a kernel
            cosine = cosine_similarity(p.flatten(first), direction.flatten(first), dim=-1)
            p.mul_(cosine.clamp(lamda, 1.0).reshape(*cosine.shape, *(1,) * (p.dim() - first)))
    return network


def _weights_and_biases(network: nn.Module) -> Iterable[nn.Parameter]:
    """The parameters of its linear and convolution layers."""
    for layer in network.modules():
        if isinstance(layer, WEIGHTED):
            yield from layer.parameters(recurse=False)


def l2_init(initial: nn.Module, strength: float) -> Loss:
    r"""Make a loss that pulls the weights back to where they once began.

    .. math:: \text{cross-entropy} + s \sum_i (p_i - p_i^{\text{initial}})^2

    over every trainable parameter. Weight decay pulls to zero instead.

    Parameters
    ----------
    initial : torch.nn.Module
        The network before its very first training, not that of the round before. Copied.
    strength : float
        :math:`s`, 0 or more.

    Returns
    -------
    callable
        ``loss(network, inputs, labels)``, in nats, for a network of the same layout.

    Examples
    --------
    >>> begun, now = nn.Linear(1, 2), nn.Linear(1, 2)
    >>> _ = now.load_state_dict({name: p + 2 for name, p in begun.state_dict().items()})
    >>> inputs, labels = torch.ones(1, 1), torch.tensor([0])
    >>> penalty = l2_init(begun, 0.5)(now, inputs, labels) - cross_entropy(now(inputs), labels)
    >>> round(penalty.item(), 4)  # four parameters, each 2 away
    8.0

    Source: Kumar, Marklund and Van Roy (2023), section 4. See chapter 12.
    """
    if not strength >= 0:
        raise ValueError(f"strength must be 0 or more, not {strength}")
    begun = {name: p.detach().clone() for name, p in initial.named_parameters()}

    def loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        apart = sum(
            ((p - begun[name]) ** 2).sum() for name, p in network.named_parameters() if p.requires_grad
        )
        return cross_entropy(network(inputs), labels) + strength * apart

    return loss


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
            if isinstance(child, WEIGHTED):
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


class HareTortoise:
    r"""A hare that learns, and a tortoise that follows it: a hook for the training loop.

    .. math:: \text{tortoise} \leftarrow m \cdot \text{tortoise} + (1 - m) \cdot \text{hare}

    after every step, and every so many steps the hare is put back to where the tortoise is.
    The tortoise is what you keep.

    Parameters
    ----------
    network : torch.nn.Module
        The hare, before training. The tortoise is a copy of it: parameters and running
        statistics.
    momentum : float
        :math:`m`, from 0 to 1. Default 0.999.
    every : int
        Steps between two resets. Default 100. The optimizer keeps its momentum.

    Attributes
    ----------
    tortoise : torch.nn.Module

    Examples
    --------
    >>> hare = nn.Linear(1, 1)
    >>> _ = nn.init.zeros_(hare.weight)
    >>> hook = HareTortoise(hare, momentum=0.75, every=2)
    >>> sgd = torch.optim.SGD(hare.parameters())
    >>> for step in (1, 2):
    ...     _ = nn.init.ones_(hare.weight)
    ...     hook(hare, sgd, step)
    ...     print(hook.tortoise.weight.item(), hare.weight.item())
    0.25 1.0
    0.4375 0.4375

    Source: Lee et al. (2024), section 4. See chapter 12.
    """

    def __init__(self, network: nn.Module, momentum: float = 0.999, every: int = 100) -> None:
        if not 0 <= momentum <= 1 or every < 1:
            raise ValueError(f"momentum must be from 0 to 1 and every at least 1, not {momentum} and {every}")
        self.tortoise, self.momentum, self.every = copy.deepcopy(network), momentum, every

    @torch.no_grad()
    def __call__(self, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Step in after training step number `step`, counted from 1."""
        hare, tortoise = network.state_dict(), self.tortoise.state_dict()
        for name, value in tortoise.items():
            if value.is_floating_point():
                value.lerp_(hare[name], 1 - self.momentum)
            else:  # a count of batches
                value.copy_(hare[name])
        if step % self.every == 0:
            network.load_state_dict(tortoise)


def add_layer_norm_(network: ModuleT) -> ModuleT:
    """Give a network layer normalization, in place: half of "layer norm and weight decay".

    In a ``Sequential``, every linear layer that an activation follows gets a ``LayerNorm``
    after it. A ``BatchNorm2d`` anywhere becomes a ``GroupNorm`` with one group, which
    normalizes over channels and places.

    Examples
    --------
    >>> [type(layer).__name__ for layer in add_layer_norm_(nn.Sequential(nn.Linear(2, 3), nn.Tanh()))]
    ['Linear', 'LayerNorm', 'Tanh']

    Source: Lyle et al. (2023) and (2024): layer normalization with weight decay kept networks
    trainable most reliably. The other half is the optimizer's ``weight_decay``. See chapter 12.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.GroupNorm(1, child.num_features))
        if isinstance(parent, nn.Sequential):
            for place in reversed(range(len(parent) - 1)):
                layer = parent[place]
                if isinstance(layer, nn.Linear) and not isinstance(parent[place + 1], WEIGHTED):
                    norm = nn.LayerNorm(layer.out_features)
                    parent.insert(place + 1, norm.to(layer.weight))
    return network


HELD_OUT = 5  # every fifth row


class _Stopped(Exception):
    """Raised between two steps to leave the training."""


def fit_stopped(
    network: nn.Module,
    table: Table,
    order: torch.Generator,
    *,
    patience: int = 10,
    max_epochs: int = 1000,
    batch_size: int = 128,
    **options: Any,
) -> Fit:
    """Train until rows held out from training no longer get better: plain early stopping.

    Every fifth row of the table is held out. Rows keep their places when more arrive, so
    what was held out in one round is held out in the next. After each epoch the
    cross-entropy of these rows is measured; the network ends with the weights of the
    lowest. Wrong labels among them are left as they are.

    Parameters
    ----------
    network, table, order, max_epochs, batch_size
        As for :func:`wsp.training.fit`. The table needs at least five rows.
    patience : int
        Stop after so many epochs without a lower loss. Default 10.
    **options
        For :func:`wsp.training.fit`. `stop_at` is not looked at.

    Returns
    -------
    Fit
        `epochs` and `samples` count the rows trained on, those after the best epoch too;
        `train_accuracy` is that of the network you get, in evaluation mode; `reached` says
        whether it was `patience` that ended it.

    Examples
    --------
    >>> table = Table(torch.eye(10), torch.arange(10))
    >>> found = fit_stopped(nn.Linear(10, 10), table, torch.Generator(), patience=3)
    >>> found.reached, found.samples == 8 * found.epochs
    (True, True)

    See chapter 12.
    """
    if len(table.labels) < HELD_OUT:
        raise ValueError(f"early stopping holds out every fifth row; the table has {len(table.labels)}")
    held_out = torch.arange(len(table.labels), device=table.labels.device) % HELD_OUT == HELD_OUT - 1
    seen, unseen = (Table(table.inputs[rows], table.labels[rows]) for rows in (~held_out, held_out))
    steps_an_epoch = -(-len(seen.labels) // batch_size)
    best, best_epoch, epoch = float("inf"), 0, 0
    state = copy.deepcopy(network.state_dict())

    def look(network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        nonlocal best, best_epoch, epoch, state
        if step % steps_an_epoch:
            return
        epoch += 1
        loss = measure(network.eval(), unseen).loss
        network.train()
        if loss < best:
            best, best_epoch, state = loss, epoch, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= patience:
            raise _Stopped

    begin, reached = time.perf_counter(), False
    options |= {"stop_at": 2.0, "patience": max_epochs, "max_epochs": max_epochs, "batch_size": batch_size}
    try:
        fit(network, seen, order, after_step=look, **options)
    except _Stopped:
        reached = True
    network.load_state_dict(state)
    rows, accuracy = len(seen.labels), measure(network, seen).accuracy
    return Fit(epoch, epoch * steps_an_epoch, epoch * rows, time.perf_counter() - begin, accuracy, reached)
