"""The networks of the book.

The article trains a 6-(10-10)-3 network: six inputs, two hidden layers of ten
tanh units, three classes. :class:`MLP` is that network and its relatives.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


class MLP(nn.Sequential):
    """A multilayer perceptron: linear layers with an activation between them.

    Weights are Xavier-uniform, biases zero, as in the article. The draws are
    made on the CPU, so that one generator gives one network on every device.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, inputs first, classes last. Default: the article's
        ``(6, 10, 10, 3)``.
    activation : {"tanh", "relu"}
        What follows every layer but the last. Default ``"tanh"``.
    generator : torch.Generator, optional
        A CPU generator for the weights. Default: PyTorch's global one.
    dtype : torch.dtype
        Default ``torch.float64``: in double precision the article's network
        trains to the same accuracies on every processor we tried (chapter 3).

    Raises
    ------
    ValueError
        If `sizes` holds fewer than two numbers or one that is not a positive
        integer, or if `activation` is unknown.

    Notes
    -----
    ``forward`` takes inputs of shape ``(rows, sizes[0])`` and returns logits of
    shape ``(rows, sizes[-1])``; the softmax belongs to the loss.

    Examples
    --------
    >>> network = MLP(generator=torch.Generator().manual_seed(0))
    >>> network(torch.zeros(2, 6, dtype=torch.float64)).shape
    torch.Size([2, 3])
    >>> [name for name, parameter in network.named_parameters()][:2]
    ['0.weight', '0.bias']

    References
    ----------
    Glorot and Bengio (2010), equation 16. Written out in chapter 3.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (6, 10, 10, 3),
        activation: str = "tanh",
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        sizes = tuple(sizes)
        if len(sizes) < 2 or any(not isinstance(n, int) or n < 1 for n in sizes):
            raise ValueError(
                f"sizes must be at least two positive integers (inputs, ..., classes), not {sizes}"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: choose from {', '.join(ACTIVATIONS)}")
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            # Linear fills itself from the global generator; skip_init leaves that one alone.
            linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
                nn.Linear, inputs, outputs, dtype=dtype
            )
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            layers += [linear, ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])
        self.sizes = sizes
        self.activation = activation

    def __getitem__(self, index: int | slice) -> Any:  # a slice of an MLP is no MLP
        return nn.Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers, from the inputs up."""
        return [layer for layer in self if isinstance(layer, nn.Linear)]


def save_network(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Save a network's weights as the article does: ``torch.save`` of the state dict.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "first.pt"
    >>> network = MLP()
    >>> save_network(network, path)
    >>> torch.equal(load_network(path)[0].weight, network[0].weight)
    True
    """
    torch.save(network.state_dict(), path)


def load_network(
    path: str | os.PathLike[str], sizes: Sequence[int] = (6, 10, 10, 3), activation: str = "tanh"
) -> MLP:
    """Load the weights that :func:`save_network` wrote into a new network, on the CPU.

    Parameters
    ----------
    path : path
        Loaded with ``weights_only=True``: a file cannot run code.
    sizes, activation
        The network's layout; see :class:`MLP`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no state dict, or one of another layout.

    Examples
    --------
    See :func:`save_network`.
    """
    network = MLP(sizes, activation, generator=torch.Generator())
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (pickle.UnpicklingError, RuntimeError, TypeError, AttributeError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path}: not the weights of a {sizes} network ({reason}); expected a state dict "
            "written by save_network"
        ) from error
    return network
