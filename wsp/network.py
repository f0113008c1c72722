"""The networks of the book.

The article trains a 6-(10-10)-3 network: six inputs, two hidden layers of ten
tanh units, three classes. :class:`MLP` is that network and its relatives.
"""

from __future__ import annotations

from collections.abc import Sequence

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
            raise ValueError(
                f"unknown activation {activation!r}: choose from {', '.join(ACTIVATIONS)}"
            )
        layers: list[nn.Module] = []
        for inputs, outputs in zip(sizes[:-1], sizes[1:]):
            # Linear fills itself from the global generator; skip_init leaves that one alone.
            linear = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=dtype)
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            layers += [linear, ACTIVATIONS[activation]()]
        super().__init__(*layers[:-1])
        self.sizes = sizes
        self.activation = activation
