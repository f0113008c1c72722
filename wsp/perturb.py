"""Shrink and perturb: keep a fraction of what a network knows, and add a little noise.

Call :func:`shrink_perturb_` once when new data have arrived: after loading the old weights,
before building the optimizer and the schedule, before compiling the network or wrapping it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

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
        in layers whose own parameters are all frozen; ``"keep"`` leaves them for you to
        re-estimate, say with ``torch.optim.swa_utils.update_bn``.
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
    J. T. Ash and R. P. Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.

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
    _check_arguments(lamda, sigma, noise, running_stats, generator)
    chosen = perturbed_parameters(module, include=include)
    if sigma > 0 and generator is None:
        _check_one_process(module, chosen)
    fresh = {} if noise is None or sigma == 0 else _fresh_parameters(noise, chosen)
    _check_finite({**chosen, **{f"noise.{name}": eps for name, eps in fresh.items()}})
    if lamda == 1 and sigma == 0:
        return module
    if lamda < 1 and _has_spectral_norm(module):
        warnings.warn("shrinking does nothing under spectral_norm, which rescales", stacklevel=3)

    padding = _padding_rows(module)
    for name, p in chosen.items():
        _update_(p, float(lamda), float(sigma), fresh.get(name), padding.get(p), generator)
    if running_stats == "reset":
        for m in module.modules():
            own = [p.requires_grad for p in m.parameters(recurse=False)]
            if hasattr(m, "reset_running_stats") and (any(own) or not own):
                m.reset_running_stats()  # type: ignore[operator]
    return module


def _update_(
    p: Any,
    lamda: float,
    sigma: float,
    eps: Tensor | None,
    rows: Tensor | None,
    generator: torch.Generator | None,
) -> None:
    """Do the arithmetic for one parameter, but for its padding rows, block by block."""
    dtype = torch.float64 if p.dtype == torch.float64 else torch.float32
    device = p.device if generator is None else generator.device
    if _is_sharded(p):  # a process goes on with the part that it holds
        eps = torch.empty(p.numel(), dtype=dtype, device=device)
        for start, stop in _blocks(p.numel() if sigma > 0 else 0, device):
            eps[start:stop].normal_(generator=generator)
        if rows is not None:
            rows = _part_of(torch.zeros(p.shape, dtype=torch.bool).index_fill_(0, rows, True), p)
        p, eps = p.to_local(), _part_of(eps, p)

    kept = None if rows is None else p[rows]  # such an index copies
    if sigma == 0:
        p.mul_(lamda)
    else:
        flat = p.reshape(-1)  # a view where there can be one, else a copy of this parameter
        for start, stop in _blocks(p.numel(), device):
            if eps is None:
                noise = torch.empty(stop - start, dtype=dtype, device=device)
                noise.normal_(generator=generator).mul_(sigma)
            else:
                noise = eps.reshape(-1)[start:stop].to(dtype).mul(sigma)
            block = flat[start:stop]
            wide = block.to(dtype)  # the block itself, unless in half precision
            block.copy_(wide.mul_(lamda).add_(noise.to(p.device)))
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
    for m in module.modules():
        if "FSDPModule" in [c.__name__ for c in type(m).__mro__]:
            m.reshard()  # type: ignore[operator]  # drop a whole copy left by a forward pass
    chosen: dict[str, nn.Parameter] = {}
    seen: set[int] = set()  # addresses, so that parameters tied through `.data` count once too
    for name, p in module.named_parameters():
        if not p.requires_grad:
            continue
        if nn.parameter.is_lazy(p):
            raise ValueError(f"{name} has no shape yet: run one batch through the network first")
        if p.numel() == 0 or not (p.dim() >= 2 if include is None else include(name, p)):
            continue
        _check_parameter(name, p)
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


def _check_arguments(
    lamda: object, sigma: object, noise: object, running_stats: object, generator: object
) -> None:
    if not (isinstance(lamda, Real) and 0 <= float(lamda) <= 1):
        raise ValueError(f"lamda must be from 0 (forget all) to 1 (keep all), not {lamda!r}")
    if not (isinstance(sigma, Real) and 0 <= float(sigma) < math.inf):
        raise ValueError(f"sigma must be a finite number, 0 or more, not {sigma!r}")
    if not (noise is None or callable(noise)):
        raise TypeError(f"noise must be a module or a function that builds one, not {noise!r}")
    if running_stats not in ("reset", "keep"):
        raise ValueError(f'running_stats must be "reset" or "keep", not {running_stats!r}')
    if not (generator is None or isinstance(generator, torch.Generator)):
        raise TypeError(f"generator must be torch.Generator().manual_seed(...), not {generator!r}")
    if not (noise is None or generator is None):
        raise ValueError("generator= has no say over noise=: seed it with torch.manual_seed")


def _check_parameter(name: str, p: Tensor) -> None:
    if p.is_meta:
        raise ValueError(f"{name} is on the meta device, without values: load the weights first")
    expanded = any(p.stride(d) == 0 and p.shape[d] > 1 for d in range(p.dim()))
    if p.layout != torch.strided or expanded:
        raise ValueError(f"{name} is sparse or expanded: make it a dense, contiguous parameter")
    if p.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(
            f"{name} is {p.dtype}, and only float64, float32, float16 and bfloat16 will do: "
            "leave it out, or call before converting it"
        )


def _check_finite(parameters: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity by name, waiting for the device once."""
    extremes = [
        (p * 0).sum().full_tensor() if _is_sharded(p) else torch.stack(torch.aminmax(p))
        for p in parameters.values()
    ]
    device = extremes[0].device
    finite = torch.stack([e.isfinite().all().to(device) for e in extremes]).tolist()
    if not all(finite):
        bad = ", ".join(name for name, ok in zip(parameters, finite, strict=True) if not ok)
        raise ValueError(f"NaN or infinite values in {bad}: take an earlier checkpoint or leave it out")


def _check_one_process(module: nn.Module, chosen: Mapping[str, Any]) -> None:
    replicated = any(isinstance(m, nn.parallel.DistributedDataParallel) for m in module.modules())
    if replicated or any(map(_is_sharded, chosen.values())):
        raise ValueError(
            "every process must draw the same noise for this distributed network: "
            "pass a generator seeded alike in each of them, or call before wrapping"
        )


def _fresh_parameters(
    noise: nn.Module | Callable[[], nn.Module], chosen: Mapping[str, Any]
) -> dict[str, nn.Parameter]:
    network = noise if isinstance(noise, nn.Module) else noise()
    if not isinstance(network, nn.Module):
        raise TypeError(f"noise must build a torch.nn.Module, not a {type(network).__name__}")
    prefix = "_orig_mod."  # what torch.compile puts into names
    named = {n.replace(prefix, ""): p for n, p in network.named_parameters(remove_duplicate=False)}
    addresses = {p.data_ptr() for p in chosen.values()}
    fresh = {}
    for name, p in chosen.items():
        other = named.get(name.replace(prefix, ""))
        if other is None or nn.parameter.is_lazy(other) or other.shape != p.shape:
            raise ValueError(f"noise has no parameter {name} of shape {tuple(p.shape)}")
        _check_parameter(f"noise.{name}", other)
        if _is_sharded(p) or _is_sharded(other) or other.data_ptr() in addresses:
            raise ValueError(
                f"{name} is sharded, or shared with noise: build noise= separately, and call before wrapping"
            )
        fresh[name] = other
    return fresh


def _padding_rows(module: nn.Module) -> dict[Tensor, Tensor]:
    rows: dict[Tensor, list[int]] = {}
    for m in module.modules():
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.padding_idx is not None:
            rows.setdefault(m.weight, []).append(m.padding_idx)
    return {p: torch.tensor(indices) for p, indices in rows.items()}


def _has_spectral_norm(module: nn.Module) -> bool:
    hooks = [hook for m in module.modules() for hook in m._forward_pre_hooks.values()]
    return any("SpectralNorm" in type(x).__name__ for x in [*hooks, *module.modules()])


def _is_sharded(p: Any) -> bool:
    return hasattr(p, "placements")  # a DTensor


def _part_of(whole: Tensor, p: Any) -> Tensor:
    """Cut the part out of a tensor that this process holds of the DTensor p."""
    from torch.distributed.tensor import DTensor, Replicate  # slow to import

    mesh, whole = p.device_mesh, whole.to(p.device).view(p.shape)
    everywhere = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=p.placements).to_local()
