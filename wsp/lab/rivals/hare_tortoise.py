"""Hare and Tortoise: one network runs, a slow average of it stays behind, and the first goes back to it."""

from __future__ import annotations

import copy

import torch
from torch import nn


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
