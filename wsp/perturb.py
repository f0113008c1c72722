"""Shrink and perturb: keep a fraction of what a network knows, and add a little noise.

Call :func:`shrink_perturb_` once when new data have arrived: after loading the old weights,
before building the optimizer and the schedule, before compiling the network or wrapping it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from wsp import _checks
from wsp._shards import drop_gathered_copies, is_sharded, part_of

__all__ = ["perturbed_parameters", "reset_optimizer_state_", "shrink_perturb_"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)
OptimizerT = TypeVar("OptimizerT", bound=torch.optim.Optimizer)
Include = Callable[[str, nn.Parameter], bool]

# The canonical order of the draws. One generator serves the parameters in the order of
# `named_parameters()`, each tensor once, its elements in row-major order whatever its memory
# layout. A parameter is cut into blocks of so many elements, one `normal_` call each; a tail
# shorter than 16 joins the block before it.
# On a CPU `normal_` works in groups of 16, so the cuts leave the numbers of one call over the
# whole parameter. The block is then just small enough to stay in the cache, and in one thread.
# On a GPU the cuts show: another BLOCK, other results. There 2**22 numbers take 16 MiB.
BLOCK, CPU_BLOCK = 2**22, 2**15 - 16


@torch.no_grad()
def shrink_perturb_(
    module: ModuleT,
    lamda: float = 0.5,
    sigma: float = 0.01,
    *,
    noise: nn.Module | Callable[[], nn.Module] | None = None,
    include: Include | None = None,
    running_stats: Literal["reset", "keep"] = "reset",
    generator: torch.Generator | None = None,
) -> ModuleT:
    r"""Shrink the weights of a trained network and add noise, in place.

    .. math:: p \leftarrow \lambda p + \sigma \varepsilon

    for every trainable parameter :math:`p` with two or more dimensions: the weights of
    linear, convolution, recurrent, attention and embedding layers. Biases and normalization
    scales stay. A tied tensor is changed once; the padding row of an embedding is left alone.

    Parameters
    ----------
    module : torch.nn.Module
        The trained network.
    lamda : float
        Fraction of each weight that is kept, from 0 (forget everything) to 1.
    sigma : float
        Standard deviation of the noise, 0 or more. With 0 nothing is drawn.
    noise : torch.nn.Module or callable, optional
        A freshly built network, or a function that builds one: its parameter of the same name
        replaces the standard normal :math:`\varepsilon`, as in the code of
        Ash and Adams. Such a function
        draws from the global generator; seed it with ``torch.manual_seed``.
    include : callable, optional
        ``include(name, parameter)`` says whether to change a trainable parameter, in place of
        the rule of two dimensions. A tied parameter goes by the first of its names.
    running_stats : {"reset", "keep"}
        Old running statistics describe old activations. ``"reset"`` starts them afresh, except
        in layers whose own parameters are all frozen; ``"keep"`` leaves them. Until they are
        measured again a network with BatchNorm may answer hardly better than chance: call
        ``torch.optim.swa_utils.update_bn`` before you evaluate it untrained, and after a
        training of less than some hundred steps. Chapter 10 of the book shows a short one in
        which reset statistics did far worse than kept ones or ``update_bn``.
    generator : torch.Generator, optional
        Source of the standard normal noise, which is drawn on its device. By default the
        global generator of each parameter's device. Processes that train together need one
        each, seeded alike: replicas then stay equal, and FSDP2 shards (DTensor) get the values
        of the unsharded network, every process drawing the noise of the whole parameter.

    Returns
    -------
    torch.nn.Module
        The same ``module``.

    Raises
    ------
    ValueError, TypeError
        If an argument or a parameter will not do. Then nothing has been changed.

    Notes
    -----
    Noise is drawn and added in float64 for float64 parameters, else in float32, and the sum is
    rounded once to the parameter's own type. It takes the memory of one block, under 64 MiB, or
    of one parameter that is sharded or not contiguous. ``lamda=1, sigma=0`` changes nothing.
    ``spectral_norm`` undoes the shrinking (you are warned); under ``weight_norm`` it works. The
    scale of a LayerNorm over several dimensions counts as a weight: use ``include``.

    References
    ----------
    Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.

    Examples
    --------
    >>> net = torch.nn.Linear(2, 1)
    >>> _ = torch.nn.init.ones_(net.weight)
    >>> shrink_perturb_(net, lamda=0.5, sigma=0.0).weight.tolist()
    [[0.5, 0.5]]

    With a fresh network for noise and every parameter included, 0 and 1 make a cold start:

    >>> new = torch.nn.Linear(2, 1)
    >>> net = shrink_perturb_(net, 0.0, 1.0, noise=new, include=lambda name, p: True)
    >>> torch.equal(net.weight, new.weight) and torch.equal(net.bias, new.bias)
    True
    """
    _checks.check_arguments(lamda, sigma, noise, running_stats, generator)
    chosen = perturbed_parameters(module, include=include)
    if sigma > 0 and generator is None:
        _checks.check_seeded_alike(module, chosen)
    fresh = {} if noise is None or sigma == 0 else _checks.fresh_parameters(noise, chosen)
    _checks.check_finite({**chosen, **{f"noise.{name}": eps for name, eps in fresh.items()}})
    if lamda == 1 and sigma == 0:
        return module
    if lamda < 1 and _checks.has_spectral_norm(module):
        warnings.warn("shrinking does nothing under spectral_norm, which rescales", stacklevel=3)

    padding = _padding_rows(module)
    for name, p in chosen.items():
        _update_(p, float(lamda), float(sigma), fresh.get(name), padding.get(p), generator)
    if running_stats == "reset":
        _reset_running_stats_(module)
    return module


def _update_(
    p: Any,
    lamda: float,
    sigma: float,
    eps: Tensor | None,
    rows: Tensor | None,
    generator: torch.Generator | None,
) -> None:
    """``p = lamda * p + sigma * eps``, block by block, all but the padding rows."""
    dtype = torch.float64 if p.dtype == torch.float64 else torch.float32
    device = p.device if generator is None else generator.device
    new = partial(torch.empty, dtype=dtype, device=device)
    if is_sharded(p):  # draw for all of it, go on with the part that this process holds
        eps = new(p.numel())
        for start, stop in _blocks(p.numel() if sigma > 0 else 0, device):
            eps[start:stop].normal_(generator=generator)
        if rows is not None:
            rows = part_of(torch.zeros(p.shape, dtype=torch.bool).index_fill_(0, rows, True), p)
        p, eps = p.to_local(), part_of(eps, p)

    kept = None if rows is None else p[rows]  # such an index copies
    flat = p.reshape(-1)  # a view where there can be one, else a copy of this parameter
    given = None if eps is None else eps.reshape(-1)
    for start, stop in _blocks(p.numel(), device):
        block = flat[start:stop]
        wide = block.to(dtype).mul_(lamda)  # the block itself, unless in half precision
        if sigma > 0:
            if given is None:
                noise = new(stop - start).normal_(generator=generator).mul_(sigma)
            else:
                noise = given[start:stop].to(dtype).mul(sigma)
            wide.add_(noise.to(p.device))
        block.copy_(wide)
    if flat.data_ptr() != p.data_ptr():
        p.copy_(flat.view(p.shape))
    if rows is not None:
        p[rows] = kept


def _blocks(n: int, device: torch.device) -> Iterator[tuple[int, int]]:
    size, start = CPU_BLOCK if device.type == "cpu" else BLOCK, 0
    while start < n:
        stop = n if n - start < size + 16 else start + size
        yield start, stop
        start = stop


def _padding_rows(module: nn.Module) -> dict[Tensor, Tensor]:
    rows: dict[Tensor, list[int]] = {}
    for m in module.modules():
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.padding_idx is not None:
            rows.setdefault(m.weight, []).append(m.padding_idx)
    return {p: torch.tensor(indices) for p, indices in rows.items()}


def _reset_running_stats_(module: nn.Module) -> None:
    for m in module.modules():
        own = [p.requires_grad for p in m.parameters(recurse=False)]
        if hasattr(m, "reset_running_stats") and (any(own) or not own):
            m.reset_running_stats()  # type: ignore[operator]


def perturbed_parameters(module: nn.Module, *, include: Include | None = None) -> dict[str, nn.Parameter]:
    """Return the parameters that :func:`shrink_perturb_` would change, and change nothing.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    include : callable, optional
        As in :func:`shrink_perturb_`.

    Returns
    -------
    dict of str to torch.nn.Parameter
        The parameters by name, in the order in which their noise is drawn.

    Raises
    ------
    ValueError
        If there are none, or one of them cannot be shrunk and perturbed.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> _ = torch.nn.init.ones_(net[0].weight)
    >>> for name, p in perturbed_parameters(net).items():
    ...     print(name, tuple(p.shape), round(p.norm().item(), 3))
    0.weight (4, 3) 3.464
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if not (include is None or callable(include)):
        raise TypeError(f"include must be a function of name and parameter, not {include!r}")
    drop_gathered_copies(module)
    chosen: dict[str, nn.Parameter] = {}
    seen: set[int] = set()  # addresses, so that parameters tied through `.data` count once too
    for name, p in module.named_parameters():
        if not p.requires_grad:
            continue
        if nn.parameter.is_lazy(p):
            raise ValueError(f"{name} has no shape yet: run one batch through the network first")
        if p.numel() == 0 or not (p.dim() >= 2 if include is None else include(name, p)):
            continue
        _checks.check_parameter(name, p)
        address = p.data_ptr()  # 0 for a DTensor
        if address not in seen:
            chosen[name] = p
        seen |= {address} - {0}
    if not chosen:
        raise ValueError(
            "no parameter to change: it must be trainable and have two or more dimensions, unless "
            "include= says otherwise. Call before quantizing the network, and before FSDP1"
        )
    return chosen


def reset_optimizer_state_(optimizer: OptimizerT, parameters: Iterable[Tensor]) -> OptimizerT:
    """Make an optimizer forget its momentum for some parameters, in place.

    Best build a new optimizer after :func:`shrink_perturb_`. Where the old one must live on,
    call this before its next step: its momentum belongs to weights that are gone. The learning
    rate stays as it is, so restart its schedule too.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimizer of the same network object.
    parameters : iterable of torch.Tensor
        For instance ``perturbed_parameters(module).values()`` or ``module.parameters()``.

    Returns
    -------
    torch.optim.Optimizer
        The same ``optimizer``.

    Raises
    ------
    ValueError
        If it holds none of the parameters, or cannot build its state again.

    Examples
    --------
    >>> net = torch.nn.Linear(2, 1)
    >>> adam = torch.optim.Adam(net.parameters())
    >>> net(torch.ones(1, 2)).sum().backward()
    >>> adam.step()
    >>> _ = reset_optimizer_state_(adam, perturbed_parameters(net).values())
    >>> net.weight in adam.state, net.bias in adam.state
    (False, True)
    """
    if isinstance(optimizer, torch.optim.Adagrad):
        raise ValueError("Adagrad makes its state only when it is built: build a new one")
    held = {p for group in optimizer.param_groups for p in group["params"]}
    known = [p for p in parameters if p in held]
    if not known:
        raise ValueError("the optimizer holds none of these parameters: is it another network's?")
    for p in known:
        optimizer.state.pop(p, None)
    return optimizer
