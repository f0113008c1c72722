"""Weights that a layer computes from parameters of another shape: parametrizations, weight_norm.

There the parameters are a code, and to shrink the code is not to shrink the weight: it may leave
the weight as it is or wipe it out. So the weight itself is shrunk and perturbed and put into code
again; where that cannot be, but halving the code halves the weight, the code is; else it is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm


class Coded:
    """One computed weight: its name, the names and parameters of its code, its layer."""

    def __init__(self, layer: nn.Module, path: str, tensor: str, codes: dict[str, nn.Parameter]) -> None:
        self.layer, self.tensor, self.codes = layer, tensor, codes
        self.name = f"{path}.{tensor}" if path else tensor
        self.undoes_shrinking = False  # spectral_norm: you are warned

    def value(self) -> Tensor:
        """The weight, computed as in evaluation, with no effect on the layer."""
        raise NotImplementedError

    def encode(self, value: Tensor) -> None:
        """Set the code in place, so that it makes this weight."""
        raise NotImplementedError

    def dimensions(self) -> int:
        most = max(p.dim() for p in self.codes.values())
        return most if most >= 2 else self.value().dim()

    def can_encode(self) -> bool:
        """Whether any weight can be put into code: tried with this one halved and reversed."""
        if not all(p.requires_grad for p in self.codes.values()):
            return False
        twin = copy.copy(self)
        try:
            twin.layer = copy.deepcopy(self.layer)
            goal = twin.value().mul(-0.5)
            twin.encode(goal)
            return _close(twin.value(), goal)
        except Exception:  # somebody else's code refuses in its own words
            return False

    def halves_with_its_code(self) -> bool:
        """Whether the weight is halved when the trainable part of its code is."""
        twin = copy.copy(self)
        twin.layer = copy.deepcopy(self.layer)
        goal = twin.value().mul(0.5)
        for p in twin.parameters():
            if p.requires_grad:
                p.mul_(0.5)
        return _close(twin.value(), goal)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of the layer that hold the code."""
        raise NotImplementedError

    @torch.no_grad()
    def is_encoded_anew(self) -> bool:
        """Say how this weight is shrunk: anew, or through its code; or refuse it by name."""
        if self.undoes_shrinking:
            return False
        with torch.random.fork_rng(devices=[]):  # a parametrization may draw
            if not self.value().isfinite().all():
                raise ValueError(f"NaN or infinite values in {self.name}: take an earlier checkpoint")
            if self.can_encode():
                return True
            if self.halves_with_its_code():
                return False
        raise ValueError(
            f"{self.name} is computed ({self.how()}) and cannot be shrunk by shrinking what it is computed "
            "from: leave it out with include=, or first make it a plain parameter again "
            "(torch.nn.utils.parametrize.remove_parametrizations)"
        )

    def how(self) -> str:
        return "weight_norm"


class Parametrized(Coded):
    """A weight under torch.nn.utils.parametrize."""

    def list(self) -> Any:
        return self.layer.parametrizations[self.tensor]  # type: ignore[index]

    def how(self) -> str:
        return ", ".join(type(m).__name__.strip("_") for m in self.list())

    def parameters(self) -> Iterator[nn.Parameter]:
        yield from self.list().parameters()

    def value(self) -> Tensor:
        steps = self.list()
        modes = [(m, m.training) for m in steps.modules()]
        steps.eval()  # no step of a power iteration, no dropout
        try:
            value: Tensor = steps().detach().clone()
        finally:
            for m, mode in modes:
                m.training = mode
        return value

    def encode(self, value: Tensor) -> None:
        steps = self.list()
        code: Any = value
        for step in reversed(steps):
            code = step.right_inverse(code)
        originals = [steps.original] if steps.is_tensor else _originals(steps)
        for p, new in zip(originals, [code] if steps.is_tensor else code, strict=True):
            p.copy_(new)  # the same parameter, the same memory


class OldWeightNorm(Coded):
    """A weight under torch.nn.utils.weight_norm, which keeps ``weight_g`` and ``weight_v``."""

    def hook(self) -> Any:
        hooks = self.layer._forward_pre_hooks.values()
        return next(h for h in hooks if isinstance(h, WeightNorm) and h.name == self.tensor)

    def parameters(self) -> Iterator[nn.Parameter]:
        for end in "_g", "_v":
            yield self.layer.get_parameter(self.tensor + end)

    def can_encode(self) -> bool:
        return all(p.requires_grad for p in self.codes.values())

    def halves_with_its_code(self) -> bool:
        return False  # half of the code is frozen

    def value(self) -> Tensor:
        value: Tensor = self.hook().compute_weight(self.layer).detach().clone()
        return value

    def encode(self, value: Tensor) -> None:
        norm, direction = self.parameters()
        norm.copy_(torch.norm_except_dim(value, 2, self.hook().dim))
        direction.copy_(value)
        setattr(self.layer, self.tensor, value)  # until the next forward pass computes it


def coded_weights(layer: nn.Module, path: str) -> Iterator[Coded]:
    """The computed weights of one layer."""
    dot = path + "." if path else ""
    if parametrize.is_parametrized(layer):
        for tensor, steps in layer.parametrizations.items():  # type: ignore[operator, union-attr]
            prefix = f"{dot}parametrizations.{tensor}"
            coded: Coded = Parametrized(layer, path, tensor, dict(steps.named_parameters(prefix)))
            coded.undoes_shrinking = any("SpectralNorm" in type(step).__name__ for step in steps)
            yield coded
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            ends = [f"{hook.name}_g", f"{hook.name}_v"]
            yield OldWeightNorm(layer, path, hook.name, {dot + end: layer.get_parameter(end) for end in ends})
        elif "SpectralNorm" in type(hook).__name__:
            name = f"{getattr(hook, 'name', 'weight')}_orig"
            codes = {dot + name: layer.get_parameter(name)}
            coded = Coded(layer, path, name.removesuffix("_orig"), codes)
            coded.undoes_shrinking = True
            yield coded


def _originals(steps: Any) -> list[nn.Parameter]:
    return [getattr(steps, f"original{i}") for i in range(steps.ntensors)]


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    size = other.abs().max().clamp_min(torch.finfo(other.dtype).tiny)
    tolerance = 100 * torch.finfo(other.dtype).eps
    return bool((one - other).abs().max() <= tolerance * size)
