"""FIRE: keep the directions of a weight matrix, give all of them the same length."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)
#: Layers whose weight is a matrix, or one at each place of a kernel.
#:
#: :meta hide-value:
MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def fire_(network: ModuleT) -> ModuleT:
    r"""Replace each weight matrix by the orthogonal one that is nearest to it, scaled.

    .. math:: W = U \Sigma V^\top \quad\leftarrow\quad
        \frac{1}{k} \sqrt{\frac{d_{\text{out}}}{d_{\text{in}}}} \; U V^\top

    for every linear layer (:math:`k = 1`), and for each of the :math:`k` places of a convolution's kernel
    by itself. Biases, normalization layers and running statistics stay.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place. On a CPU the decomposition is computed in double precision.

    Returns
    -------
    torch.nn.Module
        The same ``network``.

    Raises
    ------
    ValueError
        If there is no layer to change, or a weight is not finite; nothing is changed then.

    Examples
    --------
    All directions count alike afterwards, and where they point stays.

    >>> layer = nn.Linear(2, 2, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[0.0, 3.0], [0.5, 0.0]]))
    >>> fire_(layer).weight.tolist()
    [[0.0, 1.0], [1.0, 0.0]]

    Source: Han et al. (2026). Their code approaches :math:`U V^\top` by Newton and Schulz's iteration;
    here it is computed. See chapter 12.
    """
    layers = network.named_modules()
    weights = {name: layer.weight for name, layer in layers if isinstance(layer, MATRIX_LAYERS)}
    if not weights:
        raise ValueError("there is no linear layer and no convolution to make orthogonal")
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise ValueError(f"{name}.weight holds values that are not finite")
    for weight in weights.values():
        weight.copy_(orthogonalized(weight))
    return network


def orthogonalized(weight: Tensor) -> Tensor:
    """What :func:`fire_` makes of one weight tensor.

    Parameters
    ----------
    weight : torch.Tensor
        Shape (out, in), or (out, in, \\*kernel).

    Examples
    --------
    A wide matrix gets rows of one length, at right angles to each other.

    >>> rows = orthogonalized(torch.randn(2, 8, dtype=torch.float64))
    >>> (rows @ rows.T).round(decimals=9).tolist()
    [[0.25, 0.0], [0.0, 0.25]]
    """
    out, into, *kernel = weight.shape
    places = weight.double().flatten(2).movedim(2, 0) if kernel else weight.double()[None]
    left, _, right = torch.linalg.svd(places, full_matrices=False)
    scale = math.sqrt(out / into) / math.prod(kernel)
    nearest: Tensor = scale * left @ right
    return nearest.movedim(0, -1).reshape(weight.shape).to(weight.dtype)
