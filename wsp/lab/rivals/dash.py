"""DASH: shrink each weight vector the less, the better it points where the data push it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from wsp.lab.employees import Table

ModuleT = TypeVar("ModuleT", bound=nn.Module)


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
        if isinstance(layer, nn.Linear | nn.Conv2d):
            yield from layer.parameters(recurse=False)
