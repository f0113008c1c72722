"""L2 Init: a pull to where the weights began."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wsp.lab.fitting import Loss


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
    >>> import torch
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
