"""Replicas and shards: two processes on one machine, with gloo.

Both processes are started once; each carries out every scenario below and writes down what
it got. The tests then compare the two with each other and with a network in one piece.
"""

from __future__ import annotations

import copy
import datetime
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

import wsp.perturb
from wsp.perturb import perturbed_parameters, shrink_perturb_

WORLD = 2
BLOCK = 32  # small enough that the parameters below are cut


class Network(nn.Module):
    """Sizes that two processes cannot share evenly: 7 rows, 3 rows, 1 row."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 9, padding_idx=2)
        self.hidden = nn.Linear(9, 3)
        self.norm = nn.BatchNorm1d(3)
        self.out = nn.Linear(3, 1)
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.norm(torch.tanh(self.hidden(self.embedding(x)))))
        return out


def build(dtype: torch.dtype = torch.float64, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(dtype)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def everything(name: str, p: Tensor) -> bool:
    return True


def whole(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter in one piece."""
    return {
        name.removeprefix("module."): (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
        for name, p in module.named_parameters()
    }


def shard(net: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    mesh = dist.device_mesh.init_device_mesh("cpu", (WORLD,))
    fully_shard(net.hidden, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net


def message(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


# ---------------------------------------------------------------- the scenarios


def replicas(rank: int) -> Any:
    """Wrapped networks that began unlike, seeded alike; then one step of training."""
    net = nn.parallel.DistributedDataParallel(build(seed=rank))
    start = whole(net)
    torch.manual_seed(rank)
    shrink_perturb_(net, 0.5, 0.1, generator=seeded())
    perturbed = whole(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.arange(4) + rank).square().sum().backward()
    optimizer.step()
    return start, perturbed, whole(net)


def before_wrapping(rank: int) -> Any:
    """The way the docstring advises: then DistributedDataParallel copies rank 0 to all."""
    net = build()
    torch.manual_seed(rank)
    return whole(nn.parallel.DistributedDataParallel(shrink_perturb_(net, 0.5, 0.1)))


def replicas_without_generator(rank: int) -> Any:
    net = nn.parallel.DistributedDataParallel(build())
    before = whole(net)
    said = message(lambda: shrink_perturb_(net))
    shrink_perturb_(copy.deepcopy(net), 0.5, 0.0)  # without noise there is nothing to agree on
    return said, before, whole(net)


def _shards(dtype: torch.dtype, sigma: float, include: Any) -> Any:
    net = shard(build(dtype))
    types = {type(p).__name__ for p in net.parameters()}
    generator = seeded()
    shrink_perturb_(net, 0.3, sigma, include=include, generator=generator)
    return types, whole(net), generator.get_state()


def shards_float64(rank: int) -> Any:
    return _shards(torch.float64, 0.1, None)


def shards_bfloat16(rank: int) -> Any:
    return _shards(torch.bfloat16, 0.1, None)


def shards_everything(rank: int) -> Any:
    return _shards(torch.float32, 0.1, everything)


def shards_without_noise(rank: int) -> Any:
    return _shards(torch.float64, 0.0, None)


def columns(rank: int) -> Any:
    """Tensor-parallel placements: the second dimension sharded, or not at all."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = dist.device_mesh.init_device_mesh("cpu", (WORLD,))
    net = build()
    placements = {net.embedding: Shard(1), net.hidden: Shard(1), net.out: Replicate()}
    for layer, placement in placements.items():
        values = distribute_tensor(layer.weight.detach(), mesh, [placement])
        layer.weight = nn.Parameter(values)
    shrink_perturb_(net, 0.3, 0.1, generator=seeded())
    return whole(net)


def after_evaluation(rank: int) -> Any:
    """A forward pass leaves a whole copy behind, which FSDP2 throws away later."""
    net = shard(build()).eval()
    try:
        with torch.no_grad():
            net(torch.arange(4))
    except AttributeError:  # torch 2.6 cannot run FSDP2 on a CPU
        return None
    listed = perturbed_parameters(net)
    shrink_perturb_(net, 0.3, 0.1, generator=seeded())
    with torch.no_grad():
        out = net(torch.arange(4))
    net.reshard()
    return {type(p).__name__ for p in listed.values()}, whole(net), out


def refusals(rank: int) -> Any:
    net = shard(build())
    before = whole(net)
    said = [
        message(lambda: shrink_perturb_(net)),
        message(lambda: shrink_perturb_(net, noise=build())),
        message(lambda: shrink_perturb_(net, noise=net)),
    ]
    unchanged = whole(net)
    with torch.no_grad():
        if rank == 1:  # this process alone holds the bad value
            net.hidden.weight.to_local()[0, 0] = float("nan")
    said.append(message(lambda: shrink_perturb_(net, generator=seeded())))
    return said, before, unchanged


def inside_the_wrapper(rank: int) -> Any:
    """What a hook of a framework hands over: only a warning can tell."""
    net = nn.parallel.DistributedDataParallel(build())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shrink_perturb_(net.module, 0.5, 0.0)
        shrink_perturb_(net.module, 0.5, 0.1, generator=seeded())
        quiet = len(caught)
        torch.manual_seed(rank)
        shrink_perturb_(copy.deepcopy(net.module), 0.5, 0.1)
        shrink_perturb_(copy.deepcopy(net.module), 0.5, 0.1, noise=build)
    return quiet, [str(w.message) for w in caught], whole(net)


def noise_for_replicas(rank: int) -> Any:
    net = nn.parallel.DistributedDataParallel(build())
    said = message(lambda: shrink_perturb_(net, 0.5, 0.1, noise=build))
    return said


def composable(rank: int) -> Any:
    """`replicate` marks the network itself."""
    from torch.distributed._composable.replicate import replicate

    net = build()
    replicate(net)
    return message(lambda: shrink_perturb_(net))


def fsdp1(rank: int) -> Any:
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

    said = []
    for strategy in (ShardingStrategy.NO_SHARD, ShardingStrategy.FULL_SHARD):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                net = FullyShardedDataParallel(
                    build(), sharding_strategy=strategy, use_orig_params=True, device_id=torch.device("cpu")
                )
        except Exception as error:  # some versions of torch cannot without a GPU
            return str(error)
        said.append(message(lambda net=net: shrink_perturb_(net)))
        said.append(message(lambda net=net: shrink_perturb_(net, generator=seeded(), include=everything)))
    return said


def relative(rank: int) -> Any:
    """The deviation of the whole, not of the part that is here."""
    net = shard(build())
    shrink_perturb_(net, 0.3, 0.1, noise="relative", generator=seeded())
    return whole(net)


SCENARIOS = [
    inside_the_wrapper, noise_for_replicas, composable, fsdp1, relative,
    replicas, before_wrapping, replicas_without_generator, shards_float64, shards_bfloat16,
    shards_everything, shards_without_noise, columns, after_evaluation, refusals,
]  # fmt: skip


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    wsp.perturb.CPU_BLOCK = BLOCK
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(f"{folder}/meeting", WORLD),  # an address file:// has no C: and no spaces
        rank=rank,
        world_size=WORLD,
        timeout=datetime.timedelta(seconds=300),
    )
    results: dict[str, Any] = {}
    for scenario in SCENARIOS:
        try:
            results[scenario.__name__] = scenario(rank)
        except Exception:
            results[scenario.__name__] = traceback.format_exc()
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder: Path = tmp_path_factory.mktemp("processes")
    mp.spawn(process, (str(folder),), nprocs=WORLD)
    both = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]
    for one in both:
        for name, outcome in one.items():
            failed = isinstance(outcome, str) and outcome.startswith("Traceback")
            assert not failed, f"{name}: {outcome}"
    return both


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsp.perturb, "CPU_BLOCK", BLOCK)


def check_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


# ---------------------------------------------------------------- what came of them


def test_replicas_get_the_same_noise_and_stay_equal(results: list[dict[str, Any]]) -> None:
    (start, perturbed, trained), other = results[0]["replicas"], results[1]["replicas"]
    for one, two in zip((start, perturbed, trained), other, strict=True):
        check_same(one, two)
    check_same(start, whole(build()))
    check_same(perturbed, whole(shrink_perturb_(build(), 0.5, 0.1, generator=seeded())))
    assert not torch.equal(trained["out.weight"], perturbed["out.weight"])


def test_calling_before_wrapping_makes_equal_replicas(results: list[dict[str, Any]]) -> None:
    check_same(results[0]["before_wrapping"], results[1]["before_wrapping"])
    net = build()
    torch.manual_seed(0)
    check_same(results[1]["before_wrapping"], whole(shrink_perturb_(net, 0.5, 0.1)))


def test_replicas_refuse_noise_that_would_part_them(results: list[dict[str, Any]]) -> None:
    for rank in range(WORLD):
        said, before, after = results[rank]["replicas_without_generator"]
        assert "every process must draw the same noise" in said
        check_same(before, after)


@pytest.mark.parametrize(
    ("scenario", "dtype", "sigma", "include"),
    [
        ("shards_float64", torch.float64, 0.1, None),
        ("shards_bfloat16", torch.bfloat16, 0.1, None),
        ("shards_everything", torch.float32, 0.1, everything),
        ("shards_without_noise", torch.float64, 0.0, None),
    ],
)
def test_shards_get_the_values_of_the_whole(
    results: list[dict[str, Any]], scenario: str, dtype: torch.dtype, sigma: float, include: Any
) -> None:
    generator = seeded()
    net = shrink_perturb_(build(dtype), 0.3, sigma, include=include, generator=generator)
    for rank in range(WORLD):
        types, parameters, state = results[rank][scenario]
        assert types == {"DTensor"}
        check_same(parameters, whole(net))
        assert torch.equal(state, generator.get_state())


def test_so_do_shards_of_columns(results: list[dict[str, Any]]) -> None:
    net = shrink_perturb_(build(), 0.3, 0.1, generator=seeded())
    for rank in range(WORLD):
        check_same(results[rank]["columns"], whole(net))


def test_a_copy_left_by_an_evaluation_is_not_mistaken_for_the_shards(
    results: list[dict[str, Any]],
) -> None:
    if results[0]["after_evaluation"] is None:
        pytest.skip("this torch cannot run FSDP2 on a CPU")
    net = shrink_perturb_(build(), 0.3, 0.1, generator=seeded()).eval()
    for rank in range(WORLD):
        types, parameters, out = results[rank]["after_evaluation"]
        assert types == {"DTensor"}
        check_same(parameters, whole(net))
        torch.testing.assert_close(out, net(torch.arange(4)))


def test_shards_refuse_what_they_cannot_do(results: list[dict[str, Any]]) -> None:
    for rank in range(WORLD):
        (no_generator, noise, itself, nan), before, after = results[rank]["refusals"]
        assert "pass a generator seeded alike" in no_generator
        assert "call before wrapping" in noise
        assert "call before wrapping" in itself
        assert "NaN or infinite values in hidden.weight:" in nan
        check_same(before, after)


def test_what_is_inside_a_wrapper_is_warned_of(results: list[dict[str, Any]]) -> None:
    (quiet, said, one), (_, _, other) = (results[rank]["inside_the_wrapper"] for rank in range(WORLD))
    assert quiet == 0, "without noise, or with a generator, there is nothing to agree on"
    assert len(said) == 2
    assert all("several processes are up" in words and "ddp.module" in words for words in said)
    assert "pass a generator seeded alike" in said[0] and "generator" not in said[1]
    check_same(one, other)


def test_for_replicas_with_given_noise_there_is_one_message(results: list[dict[str, Any]]) -> None:
    said = results[0]["noise_for_replicas"]
    assert said.endswith("call before wrapping") and "generator" not in said


def test_replicas_without_a_wrapper_are_known_by_their_marks(results: list[dict[str, Any]]) -> None:
    assert "every process must draw the same noise" in results[1]["composable"]


def test_fsdp1_is_refused(results: list[dict[str, Any]]) -> None:
    said = results[0]["fsdp1"]
    if isinstance(said, str):
        pytest.skip(f"no FSDP1 on this CPU: {said}")
    replicated, in_step, without, sharded = said
    assert "every process must draw the same noise" in replicated and in_step == ""
    for words in without, sharded:  # pieces in one dimension, or nothing at all, are in this process
        assert "call before" in words.lower()


def test_relative_noise_of_shards_is_that_of_the_whole(results: list[dict[str, Any]]) -> None:
    net = shrink_perturb_(build(), 0.3, 0.1, noise="relative", generator=seeded())
    for rank in range(WORLD):
        check_same(results[rank]["relative"], whole(net))
