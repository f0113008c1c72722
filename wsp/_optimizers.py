"""What `reset_optimizer_state_` knows of optimizers, its own and those of other people."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from itertools import chain
from numbers import Number
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# What optimizers count or average for a whole group of parameters, or for all: the steps of timm's
# Lamb and Adan and of the fused Adams, the averages of schedule-free, the rate that Prodigy finds.
GROUP_STATE = {
    "step", "steps", "step_count", "num_steps", "global_step", "iteration", "iterations", "iter", "t", "k",
    "weight_sum", "lr_max", "lr_sum", "d", "d_max", "d_numerator", "d_denom", "s_norm_sq", "gsq_weighted",
    "sk_sq_weighted",
}  # fmt: skip


def tensors_of(parameters: object) -> list[Tensor]:
    """The tensors of a network, a dictionary, `named_parameters()`, parameter groups, or a list."""
    if isinstance(parameters, nn.Module):
        return list(parameters.parameters())
    if isinstance(parameters, Tensor):
        return [parameters]
    if isinstance(parameters, Mapping):
        return tensors_of(parameters["params"] if "params" in parameters else list(parameters.values()))
    if not isinstance(parameters, Iterable) or isinstance(parameters, str):
        raise TypeError(f"parameters must be tensors, as from network.parameters(), not {parameters!r}")
    found: list[Tensor] = []
    for one in parameters:
        if isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str):
            one = one[1]
        if isinstance(one, Mapping):
            found += tensors_of(one)
        elif isinstance(one, Tensor):
            found.append(one)
        else:
            raise TypeError(
                f"parameters must be tensors, not {type(one).__name__}: pass .values() or .parameters()"
            )
    return found


def inner_optimizers(optimizer: Any) -> list[Any]:
    """It, and those that it wraps: Lookahead, SAM and others keep a second one."""
    found: list[Any] = []
    todo = [optimizer]
    while todo:
        one = todo.pop()
        if not any(one is known for known in found):
            found.append(one)
            todo += [value for value in vars(one).values() if isinstance(value, Optimizer)]
    return found


def check_resettable(optimizer: Any, known: set[Tensor]) -> None:
    """Refuse what would not step like a new optimizer afterwards."""
    name = type(optimizer).__name__
    if _is_filled_when_built(optimizer, next(iter(known))):
        raise ValueError(f"{name} makes its state only when it is built: build a new one")
    for key, value in vars(optimizer).items():
        if key in ("param_groups", "defaults", "state") or value is optimizer:
            continue
        if _is_count(key, value) or _holds_state(value, optimizer):
            raise ValueError(f"{name} keeps state for all parameters together ({key}): build a new one")
    for group in optimizer.param_groups:
        ours = [p in known for p in group["params"]]
        counts = group_state(optimizer, group)
        if any(ours) and not all(ours) and counts:
            raise ValueError(
                f"{name} keeps state for a whole group of parameters ({', '.join(counts)}): "
                "pass all parameters of the group, or build a new one"
            )
    if isinstance(optimizer, torch.optim.LBFGS) and len(known) < len(optimizer.param_groups[0]["params"]):
        raise ValueError("LBFGS keeps one state for all parameters: pass all of them, or build a new one")


def group_state(optimizer: Any, group: dict[str, Any]) -> list[str]:
    """The counters of a group that are no longer as in a new optimizer."""
    fresh = optimizer.defaults
    return [key for key, v in group.items() if _is_count(key, v) and (key not in fresh or fresh[key] != v)]


def reset_group_(optimizer: Any, group: dict[str, Any]) -> None:
    for key in group_state(optimizer, group):
        if key in optimizer.defaults:
            group[key] = optimizer.defaults[key]
        elif isinstance(group[key], Tensor):
            group[key].zero_()  # which a captured graph may hold
        else:
            del group[key]


def _is_count(key: str, value: object) -> bool:
    number = isinstance(value, Number) or (isinstance(value, Tensor) and value.numel() == 1)
    return key.lstrip("_") in GROUP_STATE and number and not isinstance(value, bool) and bool(value != 0)


def _holds_state(value: Any, optimizer: Any) -> bool:
    """A collection of tensors that are none of the parameters, or of something for each parameter."""
    params = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if isinstance(value, Mapping):
        of_params = any(id(key) in params for key in value)
        return of_params or _holds_state(list(value.values()), optimizer)
    if isinstance(value, (list, tuple)):
        flat = chain.from_iterable(v if isinstance(v, (list, tuple)) else [v] for v in value)
        return any(isinstance(v, Tensor) and id(v) not in params for v in flat)
    return isinstance(value, Tensor) and value.numel() > 1 and id(value) not in params


def _is_filled_when_built(optimizer: Any, like: Tensor) -> bool:
    """Build another one and look; where it needs arguments that we do not know, read its code."""
    kind = type(optimizer)
    dummy = nn.Parameter(torch.zeros(1, 1, dtype=like.dtype, device=like.device))
    settings = {
        k: v for k, v in optimizer.defaults.items() if k in inspect.signature(kind.__init__).parameters
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(kind([dummy], **settings).state)
    except Exception:  # its own words for an argument that is missing
        pass
    try:
        return any(
            "state[" in inspect.getsource(vars(c)["__init__"]) for c in kind.__mro__ if _is_own_init(c)
        )
    except (OSError, TypeError):
        return False


def _is_own_init(kind: type) -> bool:
    return issubclass(kind, Optimizer) and kind is not Optimizer and "__init__" in vars(kind)
