"""What a state dict gives away by its names and values: which of its tensors are weights, and why not.

A state dict holds no classes, and no word on what is trained. So names decide, and whoever reads
the result is told about every tensor with two or more dimensions that is left alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from wsp._checks import DTYPES, plain_name
from wsp._layers import COUNTER, is_b_of, is_called_bias_or_scale, words_of

FRESH_STATISTICS = {"running_mean": 0, "running_var": 1, COUNTER: 0}
NORMALIZATION = {
    "norm",
    "layernorm",
    "batchnorm",
    "rmsnorm",
    "groupnorm",
    "instancenorm",
    "ln",
    "bn",
    "gn",
    "grn",
}
# The last word of constants that networks keep as buffers, of two dimensions and more.
CONSTANTS = {
    "mean", "std", "var", "variance", "avg", "zeros", "absmax", "anchor", "anchors", "grid", "coords", "pe",
    "freqs", "freq", "sin", "cos", "cached", "fb", "window", "stride", "strides", "count", "size",
}  # fmt: skip


@dataclass
class Plan:
    """What is to be done with each tensor of a state dict."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)  # to start afresh
    left: dict[str, str] = field(default_factory=dict)  # name: why
    norms: dict[str, tuple[str, str]] = field(default_factory=dict)  # weight_norm: its two tensors
    warnings: list[str] = field(default_factory=list)


# The reasons that the command tells although nobody asked: one may take them for wrong.
TOLD = ("by its name", "by the name of its layer", "as a mask has", "would measure them again", "weight")


def make_plan(
    state: Mapping[str, Any],
    exclude: Sequence[str],
    include: Sequence[str],
    running_stats: str,
    names: Collection[str] | None = None,
) -> Plan:
    """Sort the tensors of a state dict; `names` are all that there are, if it is one shard of several."""
    names = state if names is None else names
    for option, patterns in (("exclude", exclude), ("include", include)):
        unused = [pattern for pattern in patterns if not any(matches(n, [pattern]) for n in names)]
        if unused:
            raise ValueError(f"{option}: no tensor is called {', '.join(unused)}")
    plan = Plan()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            plan.left[name] = "no tensor"
            continue
        why = why_left(name, value, names)
        if matches(name, exclude):
            plan.left[name] = "excluded"
        elif matches(name, include):
            plan.weights[name] = value
        elif leaf_of(name) in FRESH_STATISTICS and has_counter(name, names):
            if running_stats == "reset":
                plan.statistics[name] = value
            else:
                plan.left[name] = "running statistics, to keep"
        elif why is not None:
            plan.left[name] = why
        else:
            plan.weights[name] = value
    _find_computed(plan, state, exclude)
    _check_shared(plan, state)
    return plan


def why_left(name: str, value: Tensor, names: Collection[str]) -> str | None:
    """Why a tensor is no weight, or None if it is one."""
    if leaf_of(name) in FRESH_STATISTICS:
        return f"statistics without {COUNTER} beside them: no BatchNorm would measure them again"
    if not (value.is_floating_point() or value.is_complex()):
        return "no floating-point numbers"
    if value.numel() == 0:
        return "no elements"
    if value.dim() < 2:
        return "fewer than two dimensions: a bias, a scale or a statistic"
    parts = name.split(".")
    leaf, attribute = parts[-1], parts[-2] if len(parts) > 1 else ""
    words = [w for w in words_of(leaf) if not w.isdigit()]
    if f"{name.removesuffix('_mask')}_orig" in names and name.endswith("_mask"):
        return "the mask of a pruned weight"
    if "mask" in words[-1:] and _has_plain_values(value) and value.isfinite().all():
        return "a mask, by its name"
    by_hand = is_b_of(leaf, names, name.removesuffix(leaf))
    if by_hand or ("mask" not in words and is_called_bias_or_scale(leaf)):
        return "a bias or a scale, by its name"
    if words[-1:] and words[-1] in CONSTANTS:
        return "a constant, by its name"
    of_owner = [w for w in words_of(attribute) if not w.isdigit()]
    if of_owner and of_owner[-1] in NORMALIZATION:
        return "a scale, by the name of its layer"
    if (leaf != "weight" or {"bias", "biases"} & set(of_owner)) and is_called_bias_or_scale(attribute):
        return "a bias or a scale, by the name of its layer"
    if any("codebook" in part.lower() for part in parts):
        return "a codebook, by its name"
    if value.numel() > 1 and is_zeros_and_ones(value):
        return "zeros and ones only, as a mask has"
    return None


def is_zeros_and_ones(value: Tensor) -> bool:
    """Both, and nothing else. All zeros or all ones may be a weight that was never trained."""
    if not _has_plain_values(value):
        return False
    low, high = value.aminmax() if value.numel() else (value.new_tensor(0), value.new_tensor(0))
    return bool(low == 0) and bool(high == 1) and bool(((value == 0) | (value == 1)).all())


def _has_plain_values(value: Tensor) -> bool:
    """Values that can be compared here and now."""
    return value.dtype in DTYPES and value.layout == torch.strided and not value.is_meta


def has_counter(name: str, names: Collection[str]) -> bool:
    return name.removesuffix(leaf_of(name)) + COUNTER in names


def leaf_of(name: str) -> str:
    return name.rpartition(".")[2]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """An exact name always matches, brackets and all; and a name without what wrappers put before it."""
    names = (name, plain_name(name))
    return any(n == pattern or fnmatchcase(n, pattern) for pattern in patterns for n in names)


# ------------------------------------------------------------------ weights that are computed


def _find_computed(plan: Plan, state: Mapping[str, Any], exclude: Sequence[str]) -> None:
    """Weight_norm is understood, spectral_norm warned of, every other parametrization refused."""
    for name in list(state):
        single = re.fullmatch(r"(.*\.)?parametrizations\.([^.]+)\.original", name)
        double = re.fullmatch(r"((?:.*\.)?parametrizations\.[^.]+\.original)(0)", name) or re.fullmatch(
            r"(.*_)(g)", name
        )
        if single and name in plan.weights:
            prefix = name.removesuffix("original")
            if f"{prefix}0._u" in state:
                plan.warnings.append(name)
            elif not is_called_bias_or_scale(single[2]):
                raise _computed(name)
        elif double and isinstance(state[name], Tensor):
            other = double[1] + ("1" if double[2] == "0" else "v")
            if isinstance(state.get(other), Tensor):
                _pair(plan, state, name, other, exclude)
            elif double[2] == "0" and name in plan.weights:
                raise _computed(name)
        elif name.endswith("_orig") and f"{name.removesuffix('orig')}u" in state and name in plan.weights:
            plan.warnings.append(name)
    stray = [n for n in plan.weights if re.search(r"(^|\.)parametrizations\.[^.]+\.\d+\.", n)]
    if stray:
        raise _computed(stray[0])


def _pair(plan: Plan, state: Mapping[str, Any], norm: str, direction: str, exclude: Sequence[str]) -> None:
    """The two tensors of weight_norm; both change or none does."""
    g, v = state[norm], state[direction]
    if v.dim() < 2 or not v.is_floating_point():
        return
    if matches(norm, exclude) or matches(direction, exclude):
        if not (matches(norm, exclude) and matches(direction, exclude)):
            raise ValueError(f"{norm} and {direction} make one weight: exclude both or none")
        return
    extra = any(n.startswith(f"{norm.removesuffix('original0')}0.") for n in state)
    if extra or f"{norm.removesuffix('0')}2" in state or norm_dimension(g, v) is None:
        if norm.endswith("original0"):
            raise _computed(norm)
        return
    for name in norm, direction:
        plan.weights.pop(name, None)
        plan.left.pop(name, None)
    plan.norms[direction] = (norm, direction)


def norm_dimension(g: Tensor, v: Tensor) -> int | None:
    """The `dim` of weight_norm, -1 for the norm of all; None if these are not its tensors."""
    if g.dim() == 0:
        return -1
    for dim in range(v.dim()):
        if tuple(g.shape) == tuple(n if d == dim else 1 for d, n in enumerate(v.shape)):
            return dim
    return None


def _computed(name: str) -> ValueError:
    return ValueError(
        f"{name} is what a weight is computed from, and the file does not say how: load the network and "
        "call shrink_perturb_, or exclude it"
    )


# ------------------------------------------------------------------ shared memory


def _check_shared(plan: Plan, state: Mapping[str, Any]) -> None:
    """A weight that shares memory with what is to stay cannot have both."""
    changed = [*plan.weights, *(n for pair in plan.norms.values() for n in pair), *plan.statistics]
    spans = []
    for name in state:
        value = state[name]
        if (
            isinstance(value, Tensor)
            and value.layout == torch.strided
            and value.numel()
            and not value.is_meta
        ):
            last = sum(s * (n - 1) for s, n in zip(value.stride(), value.shape, strict=True))
            start = value.data_ptr()
            spans.append((start, start + (last + 1) * value.element_size(), name))
    spans.sort()
    moving, reach, holder = set(changed), -math.inf, ""
    for start, stop, name in spans:
        if start < reach and (name in moving) != (holder in moving):
            stays, goes = (name, holder) if holder in moving else (holder, name)
            raise ValueError(
                f"{goes} shares memory with {stays}, which stays as it is "
                f"({plan.left.get(stays, 'left alone')}): exclude both or none"
            )
        if stop > reach:
            reach, holder = stop, name
