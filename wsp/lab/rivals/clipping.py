"""Weight clipping: no weight gets larger than a fresh one could be, times a factor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wsp.lab.rivals.fire import MATRIX_LAYERS


class WeightClipping:
    r"""Cut every weight back to what a fresh network could have: a hook for the training loop.

    .. math:: w \leftarrow \min(\max(w, -\kappa b), \kappa b), \quad b = 1 / \sqrt{\text{fan-in}}

    after every step, for weights and biases of linear layers and convolutions; :math:`\pm b` is what
    PyTorch draws their first weights from.

    Parameters
    ----------
    network : torch.nn.Module
        The one that will be trained.
    kappa : float
        :math:`\kappa`, above 0. With 1, no weight leaves the range of fresh ones.

    Examples
    --------
    >>> layer = nn.Linear(4, 1)
    >>> _ = nn.init.constant_(layer.weight, 3.0)
    >>> hook = WeightClipping(layer, kappa=2.0)
    >>> hook(layer, torch.optim.SGD(layer.parameters()), 1)
    >>> layer.weight.tolist()
    [[1.0, 1.0, 1.0, 1.0]]

    Source: Elsayed et al. (2024). See chapter 12.
    """

    def __init__(self, network: nn.Module, kappa: float = 1.0) -> None:
        if not kappa > 0:
            raise ValueError(f"kappa must be above 0, not {kappa}")
        self.bounds: list[tuple[Tensor, float]] = []
        for layer in (each for each in network.modules() if isinstance(each, MATRIX_LAYERS)):
            bound = kappa / math.sqrt(layer.weight[0].numel())  # the fan-in
            self.bounds += [(p, bound) for p in (layer.weight, layer.bias) if p is not None]

    @torch.no_grad()
    def __call__(self, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Clip after training step number `step`."""
        for p, bound in self.bounds:
            p.clamp_(-bound, bound)
