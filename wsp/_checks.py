"""What `shrink_perturb_` refuses, and why: all of it is checked before anything changes."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import lru_cache
from numbers import Real
from typing import Any, cast

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
    if not (noise is None or noise == "relative" or callable(noise)):
        raise TypeError(f'noise must be a module or a function that builds one, not {noise!r}; or "relative"')
    if running_stats not in ("reset", "keep"):
        raise ValueError(f'running_stats must be "reset" or "keep", not {running_stats!r}')
    if not (generator is None or isinstance(generator, torch.Generator)):
        raise TypeError(f"generator must be torch.Generator().manual_seed(...), not {generator!r}")
    if callable(noise) and generator is not None:
        raise ValueError("generator= has no say over noise=: seed it with torch.manual_seed")


def check_module(module: object, include: object) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if not (include is None or callable(include)):
        raise TypeError(f"include must be a function of name and parameter, not {include!r}")


def check_classes(modules: Mapping[str, nn.Module]) -> None:
    """A module that was exported has parameters and no layers: no padding rows, no biases."""
    odd = {kind for kind in {type(m) for m in modules.values()} if _may_be_exported(kind)}
    for name, m in modules.items() if odd else ():
        script = isinstance(m, torch.jit.ScriptModule)
        if type(m) in odd and (script or type(m).__name__ in EXPORTED or _calls_operators(m)):
            what = "a TorchScript module" if script else "a module of torch.export"
            raise ValueError(
                f"{name or 'module'} is {what}, which has lost the classes of its layers and with them "
                "their padding rows and biases: call before, on the network in Python"
            )


def _may_be_exported(kind: type) -> bool:
    return issubclass(kind, (torch.jit.ScriptModule, torch.fx.GraphModule)) or kind.__name__ in EXPORTED


EXPORTED = {"UnflattenedModule", "InterpreterModule"}


def _calls_operators(m: Any) -> bool:
    """A graph of operators instead of layers."""
    return any(isinstance(node.target, torch._ops.OpOverload) for node in m.graph.nodes)


def check_shapes(named: Iterable[Any]) -> None:
    for name, p, *_ in [one for one in named if type(one[1]) is not nn.Parameter]:
        if nn.parameter.is_lazy(p) and p.requires_grad:
            raise ValueError(f"{name} has no shape yet: run one batch through the network first")


def shape_elsewhere(p: Tensor, owner: nn.Module, leaf: str) -> tuple[int, ...] | None:
    """The shape of a parameter whose elements are in other processes, as ZeRO-3 and FSDP1 have it."""
    if p.numel() > 0:
        return None
    if getattr(p, "ds_numel", 0) or hasattr(p, "ds_shape"):
        return tuple(getattr(p, "ds_shape", (0, 0)))
    matrix = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.RNNBase, nn.MultiheadAttention)
    layer = isinstance(owner, (*matrix, nn.modules.conv._ConvNd)) and "weight" in leaf
    return (0, 0) if layer and p.dim() < 2 else None


def check_parameter(name: str, p: Tensor) -> None:
    _check_readable(name, p)
    if p.is_inference() and not torch.is_inference_mode_enabled():
        raise ValueError(f"{name} was made in inference mode: clone it first, outside of that mode")


def _check_readable(name: str, p: Tensor) -> None:
    if type(p) is not nn.Parameter:
        _check_type(name, p)
    if p.is_meta:
        raise ValueError(f"{name} is on the meta device, without values: load the weights first")
    if p.layout != torch.strided or p.is_nested or not (p.is_contiguous() or _is_injective(p)):
        raise ValueError(f"{name} is sparse or expanded: make it a dense, contiguous parameter")
    if p.dtype not in DTYPES:
        raise ValueError(
            f"{name} is {p.dtype}, and only float64, float32, float16 and bfloat16 will do: "
            "leave it out, or call before converting it"
        )
    if not is_sharded(p) and p.data_ptr() == 0:
        raise ValueError(f"{name} has no elements in this process: its memory was freed, gather it first")


def _check_type(name: str, p: Any) -> None:
    """Quantized and other wrappers claim to be float32 and lack what it takes."""
    for part in (p, p.to_local()) if is_sharded(p) else (p,):
        kind = type(part)
        own = getattr(kind, "__torch_dispatch__", None) is not Tensor.__torch_dispatch__
        if own and not is_sharded(part):
            raise ValueError(f"{name} is a {kind.__name__}, not a plain tensor: call before converting it")


def _is_injective(p: Tensor) -> bool:
    """No two elements of it in one place, as far as the strides tell."""
    reach = 1
    for stride, size in sorted((s, n) for s, n in zip(p.stride(), p.shape, strict=True) if n > 1):
        if stride < reach:
            return False
        reach += stride * (size - 1)
    return True


def check_memory(named: Iterable[Any], chosen: Mapping[str, Tensor]) -> None:
    """Refuse parameters that overlap in part: what is changed twice, or though it is frozen?"""
    spans = [
        (p.data_ptr(), p.data_ptr() + _reach(p), name, p)
        for name, p, *_ in named
        if p.layout == torch.strided and not is_sharded(p) and p.data_ptr()
    ]
    spans.sort(key=lambda span: span[:2])
    for i, (_, stop, name, p) in enumerate(spans):
        for start, _, other, q in spans[i + 1 :]:
            if start >= stop:
                break
            if (name in chosen or other in chosen) and p is not q and _overlap_in_part(p, q):
                raise ValueError(
                    f"{name} and {other} share a part of their memory: make each a tensor of its own"
                )


def _reach(p: Tensor) -> int:
    last = sum(s * (n - 1) for s, n in zip(p.stride(), p.shape, strict=True))
    return (last + 1) * p.element_size()


def _overlap_in_part(p: Tensor, q: Tensor) -> bool:
    """Neither the same elements nor none in common."""
    if p.dtype != q.dtype or p.layout != q.layout:
        return True
    if p.data_ptr() == q.data_ptr() and p.shape == q.shape and p.stride() == q.stride():
        return False
    size, low = p.element_size(), min(p.data_ptr(), q.data_ptr())
    high = max(t.data_ptr() + _reach(t) for t in (p, q))
    marks = torch.zeros((high - low) // size, dtype=torch.int8, device="cpu")
    for t in p, q:
        marks.as_strided(t.shape, t.stride(), (t.data_ptr() - low) // size).add_(1)
    return 0 < int((marks == 2).sum()) < max(p.numel(), q.numel())


LARGEST_NOISE = 10  # no normal number that float32 or float64 can draw is larger


def check_values(
    parameters: Mapping[str, Any], fresh: Mapping[str, Tensor], lamda: float, sigma: float, relative: bool
) -> None:
    """Refuse NaN and infinity by name, before and after the change, waiting for a device once."""
    ordinary = not fresh and not relative and sigma < 1e30
    if ordinary and all(p.dtype != torch.float16 and not is_sharded(p) for p in parameters.values()):
        sums: dict[Any, list[Tensor]] = {}
        for p in parameters.values():
            sums.setdefault((p.device, p.dtype), []).append(p.sum())
        # A sum of finite numbers may overflow, but with NaN or infinity among them it is never finite.
        totals: list[Any] = [torch.stack(s).sum().tolist() for s in sums.values()]
        if all(math.isfinite(total) for total in totals):
            return
    everything = {**parameters, **{f"noise.{name}": eps for name, eps in fresh.items()}}
    sizes = dict(zip(everything, _sizes(everything.values()), strict=True))
    bad = [name for name, size in sizes.items() if not math.isfinite(size)]
    if bad:
        raise ValueError(
            f"NaN or infinite values in {', '.join(bad)}: take an earlier checkpoint or leave it out"
        )
    given = max((sizes[f"noise.{name}"] for name in fresh), default=0.0)
    for name, p in parameters.items():
        noise = given if fresh else LARGEST_NOISE * (sizes[name] if relative else 1)
        if lamda * sizes[name] + sigma * noise > torch.finfo(p.dtype).max:
            raise ValueError(f"{name} would get infinite values in {p.dtype}: choose a smaller sigma")


def _sizes(tensors: Iterable[Any]) -> list[float]:
    """The largest magnitude in each, or a bound for it if it is sharded; NaN if there is one."""
    found = []
    for p in tensors:
        if is_sharded(p):
            bound, finite = torch.linalg.vector_norm(p).full_tensor(), (p * 0).sum().full_tensor()
            found.append(bound.clamp_max(torch.finfo(p.dtype).max) + finite)
        else:
            found.append(torch.stack(torch.aminmax(p)).abs().max())
    sizes: list[float] = torch.stack([size.to(found[0].device) for size in found]).tolist()
    return sizes


def check_seeded_alike(modules: Iterable[nn.Module], chosen: Mapping[str, Any], noise: object) -> None:
    """Processes that train together must draw alike; say so where it can be told, else warn."""
    seeded = "pass a generator seeded alike in each of them, or call before wrapping"
    if callable(noise):
        seeded = "call before wrapping"
    if any(_is_wrapper(kind) for kind in {cast(Hashable, type(m)) for m in modules}) or any(
        map(is_sharded, chosen.values())
    ):
        raise ValueError(f"every process must draw the same noise for this distributed network: {seeded}")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        if torch.distributed.get_world_size() > 1:
            warnings.warn(
                "several processes are up: if this network is replicated already (as ddp.module is), its "
                f"replicas part, as each process draws noise of its own; {seeded}",
                stacklevel=4,
            )


WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "DDP", "ReplicateModule"}


@lru_cache(maxsize=4096)
def _is_wrapper(kind: Hashable) -> bool:
    """DDP, FSDP1, or marked by the composable `replicate`, without importing any of them."""
    return any(c.__name__ in WRAPPERS and c.__module__.startswith("torch.") for c in cast(type, kind).__mro__)


def check_unsharded(modules: Iterable[nn.Module]) -> None:
    """FSDP1 leaves every process pieces in one dimension, which would all get the same noise."""
    for m in modules:
        strategy = getattr(m, "sharding_strategy", None) if _is_wrapper(cast(Hashable, type(m))) else None
        if strategy is not None and getattr(strategy, "name", "NO_SHARD") != "NO_SHARD":
            raise ValueError("this network is sharded by FSDP1: call before wrapping, or use FSDP2")


# What wrappers put into names: compile, DataParallel and DDP, FSDP1, checkpointing, Opacus.
WRAPPED = re.compile(
    r"(^|\.)(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|_module)(?=\.)"
)


def plain_name(name: str) -> str:
    return WRAPPED.sub("", name).lstrip(".")


def fresh_parameters(
    noise: nn.Module | Callable[[], nn.Module],
    weights: Mapping[str, Any],
    named_weights: Callable[[nn.Module], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """The parameters of `noise` that have the names and shapes of the weights that are to change."""
    network = noise if isinstance(noise, nn.Module) else noise()
    if not isinstance(network, nn.Module):
        raise TypeError(f"noise must build a torch.nn.Module, not a {type(network).__name__}")
    named = named_weights(network)
    plain = {plain_name(name): p for name, p in named.items()}
    addresses = {p.data_ptr() for p in weights.values() if isinstance(p, Tensor)}
    fresh = {}
    for name, p in weights.items():
        other = named.get(name)
        if other is None:
            other = plain.get(plain_name(name))
        shape = p.shape if isinstance(p, Tensor) else p.value().shape
        if other is None or nn.parameter.is_lazy(other) or other.shape != shape:
            raise ValueError(f"noise has no parameter {name} of shape {tuple(shape)}")
        _check_readable(f"noise.{name}", other)
        if is_sharded(p) or is_sharded(other) or other.data_ptr() in addresses:
            raise ValueError(
                f"{name} is sharded, or shared with noise: build noise= separately, and call before wrapping"
            )
        fresh[name] = other
    return fresh
