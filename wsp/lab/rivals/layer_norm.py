"""Layer normalization before every activation."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


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
                if isinstance(layer, nn.Linear) and not isinstance(parent[place + 1], nn.Linear | nn.Conv2d):
                    norm = nn.LayerNorm(layer.out_features)
                    parent.insert(place + 1, norm.to(layer.weight))
    return network
