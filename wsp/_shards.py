"""The little that `shrink_perturb_` must know of FSDP2 and of DTensor, its parameters."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def is_sharded(p: Any) -> bool:
    return hasattr(p, "placements")  # a DTensor


def drop_gathered_copies(module: nn.Module) -> None:
    """A forward pass can leave a whole copy behind, which FSDP2 would take for the parameters."""
    for m in module.modules():
        if "FSDPModule" in [c.__name__ for c in type(m).__mro__]:
            m.reshard()  # type: ignore[operator]


def part_of(whole: Tensor, p: Any) -> Tensor:
    """Cut the part out of a tensor that this process holds of the DTensor p."""
    from torch.distributed.tensor import DTensor, Replicate  # slow to import

    mesh, whole = p.device_mesh, whole.to(p.device).view(p.shape)
    everywhere = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=p.placements).to_local()
