"""The little that `shrink_perturb_` must know of FSDP2 and of DTensor, its parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(p: Any) -> bool:
    return hasattr(p, "placements")  # a DTensor


def drop_gathered_copies(module: nn.Module) -> None:
    """A forward pass can leave a whole copy behind, which FSDP2 would take for the parameters."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    for m in module.modules():
        if "FSDPModule" in [c.__name__ for c in type(m).__mro__]:
            m.reshard()  # type: ignore[operator]


def part_of(whole: Tensor, p: Any) -> Tensor:
    """Cut the part out of a tensor that this process holds of the DTensor p."""
    from torch.distributed.tensor import DTensor, Replicate  # slow to import

    mesh, whole = p.device_mesh, whole.to(p.device).view(p.shape)
    everywhere = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=p.placements).to_local()


def rows_of_part(rows: list[int], p: Any) -> Tensor:
    """Which elements of this process's part are in these rows of the whole."""
    inside = torch.zeros(p.shape, dtype=torch.bool, device=p.device)
    for row in rows:
        inside[row] = True
    return part_of(inside, p)


def standard_deviation(p: Any) -> float:
    """Unbiased, over all of p; 0 for a single element."""
    whole = p.full_tensor() if is_sharded(p) else p.detach()
    wide = whole if whole.dtype == torch.float64 else whole.float()
    return float(wide.std()) if p.numel() > 1 else 0.0
