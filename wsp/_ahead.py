"""Noise drawn ahead: a second thread draws, while the first one shrinks and adds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

Piece = tuple[Tensor, Tensor, Callable[[], object] | None]  # part of a weight, its noise, what to do then
BATCH = 2**18  # numbers that are drawn at a time


def ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The same pieces, in the same order, made in a second thread."""
    with ThreadPoolExecutor(1) as second:
        batch = second.submit(_some_of, pieces)
        while ready := batch.result():
            batch = second.submit(_some_of, pieces)
            yield from ready


@torch.no_grad()
def _some_of(pieces: Iterator[Piece]) -> list[Piece]:
    batch: list[Piece] = []
    n = 0
    for piece in pieces:
        batch.append(piece)
        n += piece[0].numel()
        if n >= BATCH:
            break
    return batch


def is_worth_a_thread(weights: Collection[Tensor], generator: torch.Generator | None) -> bool:
    """On a CPU drawing takes most of the time; a GPU needs no help."""
    devices = {p.device for p in weights}
    if generator is not None:
        devices.add(generator.device)
    return all(d.type == "cpu" for d in devices) and sum(p.numel() for p in weights) >= 4 * BATCH
