"""What `shrink_perturb_` refuses, and why: all of it is checked before anything changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from wsp._shards import is_sharded

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def check_arguments(
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


def check_parameter(name: str, p: Tensor) -> None:
    if p.is_meta:
        raise ValueError(f"{name} is on the meta device, without values: load the weights first")
    expanded = any(p.stride(d) == 0 and p.shape[d] > 1 for d in range(p.dim()))
    if p.layout != torch.strided or expanded:
        raise ValueError(f"{name} is sparse or expanded: make it a dense, contiguous parameter")
    if p.dtype not in DTYPES:
        raise ValueError(
            f"{name} is {p.dtype}, and only float64, float32, float16 and bfloat16 will do: "
            "leave it out, or call before converting it"
        )


def check_finite(parameters: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity by name, waiting for the device once."""
    extremes = [
        (p * 0).sum().full_tensor() if is_sharded(p) else torch.stack(torch.aminmax(p))
        for p in parameters.values()
    ]
    device = extremes[0].device
    finite = torch.stack([e.isfinite().all().to(device) for e in extremes]).tolist()
    if not all(finite):
        bad = ", ".join(name for name, ok in zip(parameters, finite, strict=True) if not ok)
        raise ValueError(f"NaN or infinite values in {bad}: take an earlier checkpoint or leave it out")


def check_seeded_alike(module: nn.Module, chosen: Mapping[str, Any]) -> None:
    replicated = any(isinstance(m, nn.parallel.DistributedDataParallel) for m in module.modules())
    if replicated or any(map(is_sharded, chosen.values())):
        raise ValueError(
            "every process must draw the same noise for this distributed network: "
            "pass a generator seeded alike in each of them, or call before wrapping"
        )


def fresh_parameters(
    noise: nn.Module | Callable[[], nn.Module], chosen: Mapping[str, Any]
) -> dict[str, nn.Parameter]:
    """The parameters of `noise` that have the names and shapes of the chosen ones."""
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
        check_parameter(f"noise.{name}", other)
        if is_sharded(p) or is_sharded(other) or other.data_ptr() in addresses:
            raise ValueError(
                f"{name} is sharded, or shared with noise: build noise= separately, and call before wrapping"
            )
        fresh[name] = other
    return fresh


def has_spectral_norm(module: nn.Module) -> bool:
    hooks = [hook for m in module.modules() for hook in m._forward_pre_hooks.values()]
    return any("SpectralNorm" in type(x).__name__ for x in [*hooks, *module.modules()])
