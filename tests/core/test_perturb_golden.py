"""The noise of every tensor, bit for bit: what is stored and printed in the book hangs on it.

Each hash below is of the weights after one call, made with the code of November 2026 and never to
be made anew. 10 x 6 and 10 x 10 numbers drawn at once are not what two draws give, so a change
that draws for several tensors together changes them, and so does another order of the parameters.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsp.perturb import CPU_BLOCK, shrink_perturb_

# torch has two ways to draw 16 or more numbers in float32: by AVX2, and plainly.
VECTOR = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")

SHAPES = [
    (1, 1), (2, 3), (1, 15), (1, 16), (1, 17), (10, 6), (10, 10), (3, 10), (4, 4), (31, 1), (5, 3, 3),
    (4, 2, 3, 3), (64, 64), (1, CPU_BLOCK - 1), (1, CPU_BLOCK), (1, CPU_BLOCK + 1), (1, CPU_BLOCK + 15),
    (1, CPU_BLOCK + 16), (2, CPU_BLOCK), (1, 2 * CPU_BLOCK + 15), (7, 2 * CPU_BLOCK // 7 + 3), (3, 50_021),
]  # fmt: skip


def plain(values: Tensor) -> Tensor:
    return values.contiguous()


def transposed(values: Tensor) -> Tensor:
    return values.transpose(0, 1).contiguous().transpose(0, 1)


def strided(values: Tensor) -> Tensor:
    wide = torch.zeros(*values.shape, 2, dtype=values.dtype)
    wide[..., 0] = values
    return wide[..., 0]


def values(shape: tuple[int, ...], dtype: torch.dtype, shift: int = 0) -> Tensor:
    """The same numbers on every machine: they are drawn by nobody."""
    n = math.prod(shape)
    return ((torch.arange(n) + shift).remainder(193).double() / 64 - 1.5).view(shape).to(dtype)


class Bag(nn.Module):
    """Weights of many shapes."""

    def __init__(
        self,
        dtype: torch.dtype,
        layout: Callable[[Tensor], Tensor] = plain,
        shapes: list[tuple[int, ...]] = SHAPES,
        shift: int = 0,
    ) -> None:
        super().__init__()
        for i, shape in enumerate(shapes):
            self.register_parameter(f"weight{i}", nn.Parameter(layout(values(shape, dtype, i + shift))))


def digest(net: nn.Module) -> str:
    sha = hashlib.sha256()
    for p in net.parameters():
        row_major = torch.empty(p.numel(), dtype=p.dtype).copy_(p.detach().reshape(-1))
        sha.update(row_major.view(torch.int16).numpy().tobytes())
    return sha.hexdigest()[:16]


def mixed() -> nn.Module:
    """Networks as they are: biases between the weights, three types, a tie, a padding row."""
    net = nn.Sequential(
        nn.Linear(6, 10).double(),
        nn.Embedding(11, 8, padding_idx=2),
        nn.Linear(8, 8).bfloat16(),
        nn.LSTM(5, 7, 2).double(),
        nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last),
        nn.Linear(8, 11, bias=False),
        nn.MultiheadAttention(8, 2).double(),
        nn.Linear(3, 4).half(),
    )
    net[5].weight = net[1].weight
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(values(tuple(p.shape), p.dtype, i))
    return net


HALF, SINGLE, DOUBLE, BRAIN = torch.float16, torch.float32, torch.float64, torch.bfloat16
EVERYTHING = {"include": lambda name, p: True}
CASES: dict[str, tuple[Callable[[], nn.Module], float, float, dict[str, Any]]] = {
    **{
        f"{name} {layout.__name__}": (lambda d=dtype, f=layout: Bag(d, f), 0.4, 0.1, {})  # type: ignore[misc]
        for name, dtype in {"float64": DOUBLE, "float32": SINGLE, "float16": HALF, "bfloat16": BRAIN}.items()
        for layout in (plain, transposed, strided)
    },
    "short float32": (lambda: Bag(SINGLE, shapes=[s for s in SHAPES if math.prod(s) < 16]), 0.4, 0.1, {}),
    "only noise float64": (lambda: Bag(DOUBLE), 1.0, 0.37, {}),
    "only noise float64, lamda 0": (lambda: Bag(DOUBLE), 0.0, 0.37, {}),
    "only shrunk float32": (lambda: Bag(SINGLE), 0.37, 0.0, {}),
    "only shrunk bfloat16": (lambda: Bag(BRAIN), 0.37, 0.0, {}),
    "given noise float32": (lambda: Bag(SINGLE), 0.37, 0.3, {"noise": Bag(DOUBLE, strided, shift=5)}),
    "given noise float16": (lambda: Bag(HALF, strided), 0.37, 0.3, {"noise": Bag(SINGLE, shift=5)}),
    "many small float64": (lambda: Bag(DOUBLE, shapes=[(10, 6), (10, 10), (3, 10)] * 40), 0.5, 0.01, {}),
    "many small float32": (lambda: Bag(SINGLE, shapes=[(64, 64), (3, 5), (16, 2)] * 40), 0.5, 0.01, {}),
    "mixed": (mixed, 0.5, 0.02, {}),
    "mixed, everything": (mixed, 0.5, 0.02, EVERYTHING),
    "article's": (
        lambda: Bag(DOUBLE, shapes=[(10, 6), (10,), (10, 10), (10,), (3, 10), (3,)]), 0.5, 0.01, {}
    ),
}  # fmt: skip

GOLDEN: dict[str, str] = {
    "float64 plain": "d6f0389e1c5ff212",
    "float64 transposed": "d6f0389e1c5ff212",
    "float64 strided": "d6f0389e1c5ff212",
    "float32 plain": "a88fa60bc22fe5ab",
    "float32 transposed": "a88fa60bc22fe5ab",
    "float32 strided": "a88fa60bc22fe5ab",
    "float16 plain": "a998b4521d66781d",
    "float16 transposed": "a998b4521d66781d",
    "float16 strided": "a998b4521d66781d",
    "bfloat16 plain": "e545e9f24c250487",
    "bfloat16 transposed": "e545e9f24c250487",
    "bfloat16 strided": "e545e9f24c250487",
    "short float32": "1fa4a619c6e980ee",
    "only noise float64": "366b1ef9da8ded91",
    "only noise float64, lamda 0": "aa7f34d48cfc7056",
    "only shrunk float32": "e8306830dc645cf6",
    "only shrunk bfloat16": "ed0b8d8232ae9e53",
    "given noise float32": "8a819b57f37842cc",
    "given noise float16": "d4b92396e06c5446",
    "many small float64": "0ab4c7c2a36e09a9",
    "many small float32": "5d4b6d0d855bac59",
    "mixed": "355edb4e16bafa4d",
    "mixed, everything": "32e3e95d93887e7d",
    "article's": "0ada4a256a6eb938",
}
# Hashes that are other ones where torch draws plainly.
PLAIN: dict[str, str] = {
    "float32 plain": "4577b986e4afcc64",
    "float32 transposed": "4577b986e4afcc64",
    "float32 strided": "4577b986e4afcc64",
    "float16 plain": "92dd0614eb1ae940",
    "float16 transposed": "92dd0614eb1ae940",
    "float16 strided": "92dd0614eb1ae940",
    "bfloat16 plain": "62f9a80b1380f667",
    "bfloat16 transposed": "62f9a80b1380f667",
    "bfloat16 strided": "62f9a80b1380f667",
    "many small float32": "d787bb35c969d1e2",
    "mixed": "412c7ddddccb165e",
    "mixed, everything": "31c06372828993dc",
}


def run(case: str) -> str:
    build, lamda, sigma, options = CASES[case]
    generator = {} if "noise" in options else {"generator": torch.Generator().manual_seed(2026)}
    return digest(shrink_perturb_(build(), lamda, sigma, **options, **generator))


@pytest.mark.parametrize("case", CASES)
def test_the_weights_are_what_they_always_were(case: str) -> None:
    expected = GOLDEN[case] if VECTOR else PLAIN.get(case, GOLDEN[case])
    assert run(case) == expected


def test_the_hashes_tell_one_draw_from_two() -> None:
    """What the hashes are for: numbers drawn at once for two tensors are others."""
    once = torch.empty(160, dtype=torch.float64).normal_(generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    apart = [torch.empty(n, dtype=torch.float64).normal_(generator=generator) for n in (60, 100)]
    assert not torch.equal(once, torch.cat(apart))
