"""The networks of the book.

The article trains a 6-(10-10)-3 network: six inputs, two hidden layers of ten
tanh units, three classes. :class:`MLP` is that network and its relatives. The
networks for images (:func:`image_mlp`, :class:`ConvNet`, :class:`ThinResNet`)
start as PyTorch starts them, as the paper's do; :func:`seeded` fixes that start.
"""

from __future__ import annotations

import io
import math
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from wsp.lab.results import write_whole

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

    Raises
    ------
    OSError
        If the file cannot be written, such as on a full disk. An older file is then kept as
        it was.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "first.pt"
    >>> network = MLP()
    >>> save_network(network, path)
    >>> torch.equal(load_network(path)[0].weight, network[0].weight)
    True
    """
    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    write_whole(path, content.getvalue())


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


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is built inside starts from `seed`; the global generator is left as it was.

    PyTorch's layers fill themselves from the global generator of the CPU. Build
    on the CPU and move the network afterwards: one seed, one network, on every
    device.

    Examples
    --------
    >>> with seeded(0):
    ...     one = nn.Linear(3, 3)
    >>> with seeded(0):
    ...     other = nn.Linear(3, 3)
    >>> torch.equal(one.weight, other.weight)
    True
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs too and not restore them.
        torch.default_generator.manual_seed(seed)
        yield


def image_mlp(
    shape: Sequence[int] = (1, 8, 8),
    hidden: Sequence[int] = (100, 100),
    classes: int = 10,
    activation: str = "tanh",
) -> nn.Sequential:
    """A multilayer perceptron on flattened images, with PyTorch's initialization.

    Parameters
    ----------
    shape : sequence of int
        Channels, height and width of an image. Default: a digit's.
    hidden : sequence of int
        Units of the hidden layers. ``()`` is logistic regression. Default: two
        of 100, as in the paper's code.
    classes : int
        Default 10.
    activation : {"tanh", "relu"}
        The paper's code has ``"relu"``, its replication tanh. Default ``"tanh"``.

    Raises
    ------
    ValueError
        If `activation` is unknown.

    Examples
    --------
    >>> image_mlp(hidden=())
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=64, out_features=10, bias=True)
    )

    See chapters 10 and 11.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}: choose from {', '.join(ACTIVATIONS)}")
    sizes = [math.prod(shape), *hidden, classes]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


class ConvNet(nn.Sequential):
    """A small convolutional network with BatchNorm, for images of 8 by 8 pixels.

    Two 3 by 3 convolutions, the second with stride 2, each followed by BatchNorm
    and ReLU; then one linear layer.

    Parameters
    ----------
    channels : sequence of int
        Of the two convolutions. Default 16 and 32.

    Notes
    -----
    Inputs (rows, 1, 8, 8), logits (rows, 10).

    Examples
    --------
    >>> ConvNet()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])

    See chapter 10.
    """

    def __init__(self, channels: Sequence[int] = (16, 32)) -> None:
        first, second = channels
        super().__init__(
            nn.Conv2d(1, first, 3, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * 4 * 4, 10),
        )


class ResidualBlock(nn.Module):
    """Two 3 by 3 convolutions with BatchNorm, added to their input.

    Where the shape changes, the input goes through a 1 by 1 convolution with BatchNorm.

    Source: He et al. (2016), the basic block.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, inputs, height, width) to (rows, outputs, height / stride, width / stride)."""
        return torch.relu(self.residual(x) + self.shortcut(x))


class ThinResNet(nn.Sequential):
    """The paper's ResNet: 18 layers, but 16, 32, 64 and 128 channels.

    A quarter of the usual channels, a 3 by 3 first convolution and no pooling
    after it: made for images of 32 by 32 pixels.

    Parameters
    ----------
    classes : int
        Default 10.

    Notes
    -----
    Inputs (rows, 3, 32, 32), logits (rows, classes). About 700,000 parameters.

    Examples
    --------
    >>> ThinResNet().eval()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Source: He et al. (2016), with the widths of the code of Ash and Adams. See
    chapter 11.
    """

    def __init__(self, classes: int = 10) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        ]
        for inputs, outputs in pairwise((16, 16, 32, 64, 128)):
            layers += [
                ResidualBlock(inputs, outputs, stride=1 if inputs == outputs else 2),
                ResidualBlock(outputs, outputs, stride=1),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))
