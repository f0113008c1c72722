"""`shrink_perturb_`, one promise at a time."""

from __future__ import annotations

import ast
import copy
import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import wsp.perturb
from wsp.perturb import perturbed_parameters, reset_optimizer_state_, shrink_perturb_


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everything(name: str, p: Tensor) -> bool:
    return True


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def mlp(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3)).to(dtype)


def small_convnet() -> nn.Sequential:
    """One of most things: buffers, one-dimensional weights, three sorts of statistics."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.PReLU(4),
        nn.Conv2d(4, 4, 3, bias=False),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    net(torch.randn(8, 2, 6, 6))
    return net


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_is_the_loop_of_the_article_given_the_same_noise(dtype: torch.dtype) -> None:
    """Element by element over the two-dimensional tensors whose name holds "weight"."""
    net = mlp(dtype)
    old = snapshot(net)
    new = snapshot(shrink_perturb_(net, 0.37, 0.013, generator=seeded()))
    generator = seeded()
    for name, values in old.items():
        if "weight" in name:
            table = torch.empty(values.shape, dtype=dtype).normal_(generator=generator)
            for i in range(values.shape[0]):
                for j in range(values.shape[1]):
                    kept = values[i, j] * 0.37
                    values[i, j] = kept + table[i, j] * 0.013
    assert same(new, old)


def test_is_the_rule_of_the_paper_s_code_given_the_same_fresh_network() -> None:
    """There: every parameter, a fraction kept plus a fraction of a newly built network."""
    net, fresh = small_convnet(), small_convnet()
    expected = [
        old.detach() * 0.4 + new.detach() * 0.1
        for old, new in zip(net.parameters(), fresh.parameters(), strict=True)
    ]
    assert shrink_perturb_(net, 0.4, 0.1, noise=fresh, include=everything) is net
    for p, values in zip(net.parameters(), expected, strict=True):
        assert torch.equal(p, values)


def test_zero_and_one_with_a_fresh_network_are_a_cold_start() -> None:
    net, fresh = small_convnet(), small_convnet()
    untrained = copy.deepcopy(fresh)
    for m in untrained.modules():
        if hasattr(m, "reset_running_stats"):
            m.reset_running_stats()
    shrink_perturb_(net, 0.0, 1.0, noise=fresh, include=everything)
    assert same(snapshot(net), snapshot(untrained))


@pytest.mark.parametrize("running_stats", ["reset", "keep"])
def test_one_and_zero_change_nothing_and_draw_nothing(running_stats: Any) -> None:
    net, generator = small_convnet(), seeded()
    old = snapshot(net)
    versions = [t._version for t in net.state_dict().values()]
    states = generator.get_state(), torch.get_rng_state()
    shrink_perturb_(net, 1.0, 0.0, running_stats=running_stats, generator=generator)
    shrink_perturb_(net, 1, 0, noise=lambda: pytest.fail("built"), running_stats=running_stats)
    assert same(old, snapshot(net))
    assert versions == [t._version for t in net.state_dict().values()]
    assert torch.equal(states[0], generator.get_state())
    assert torch.equal(states[1], torch.get_rng_state())


def test_without_noise_nothing_is_drawn() -> None:
    net, generator = mlp(), seeded()
    old = net[0].weight.detach().clone()
    states = generator.get_state(), torch.get_rng_state()
    shrink_perturb_(net, 0.3, 0.0, generator=generator)
    shrink_perturb_(net, 0.3, 0.0, noise=lambda: pytest.fail("built"))
    assert torch.equal(net[0].weight, old * 0.3 * 0.3)
    assert torch.equal(states[0], generator.get_state())
    assert torch.equal(states[1], torch.get_rng_state())


def test_a_generator_leaves_the_global_one_alone() -> None:
    net = mlp()
    state = torch.get_rng_state()
    shrink_perturb_(net, generator=seeded())
    assert torch.equal(state, torch.get_rng_state())


def test_without_a_generator_the_global_one_serves() -> None:
    one, other = mlp(), mlp()
    other.load_state_dict(one.state_dict())
    torch.manual_seed(5)
    shrink_perturb_(one)
    torch.manual_seed(5)
    shrink_perturb_(other)
    assert same(snapshot(one), snapshot(other))
    assert not same(snapshot(shrink_perturb_(other, 1.0)), snapshot(one))


# ---------------------------------------------------------------- the canonical order


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [1, 15, 16, 17, 31, 32, 47, 48, 49, 63, 64, 80, 95, 1000])
def test_the_cuts_leave_the_numbers_of_a_single_call(
    n: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wsp.perturb, "CPU_BLOCK", 32)
    net = nn.Linear(n, 1, bias=False, dtype=dtype)
    old = net.weight.detach().clone()
    shrink_perturb_(net, 0.7, 0.1, generator=seeded())
    noise = torch.empty(1, n, dtype=dtype).normal_(generator=seeded())
    assert torch.equal(net.weight, old * 0.7 + noise * 0.1)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("n", "sizes"),
    [(5, [5]), (32, [32]), (47, [47]), (48, [32, 16]), (64, [32, 32]), (79, [32, 47]), (0, [])],
)
def test_a_short_tail_joins_the_block_before_it(
    n: int, sizes: list[int], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wsp.perturb, "CPU_BLOCK", 32 if device == "cpu" else 16)
    monkeypatch.setattr(wsp.perturb, "BLOCK", 32 if device == "cuda" else 16)
    cuts = wsp.perturb._blocks(n, torch.device(device))
    assert [stop - start for start, stop in cuts] == sizes


def test_blocks_are_whole_numbers_of_groups_and_small_enough() -> None:
    assert wsp.perturb.BLOCK % 16 == wsp.perturb.CPU_BLOCK % 16 == 0
    assert wsp.perturb.BLOCK == 2**22, "seeded results on a GPU depend on it"
    assert (wsp.perturb.BLOCK + 15) * 8 <= 64 * 2**20, "bytes of one block in float64"
    assert wsp.perturb.CPU_BLOCK + 15 < 2**15, "from there on torch uses more threads"


def test_parameters_come_in_the_order_of_their_names_one_after_the_other() -> None:
    net = mlp()
    old = snapshot(net)
    generator = seeded()
    shrink_perturb_(net, 0.5, 0.01, generator=seeded())
    for name in ("0.weight", "2.weight"):
        noise = torch.empty_like(old[name]).normal_(generator=generator)
        assert torch.equal(net.get_parameter(name), 0.5 * old[name] + 0.01 * noise)


class Allocations(TorchDispatchMode):
    """Notes the size of every new piece of memory, and every wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        self.waits += "_local_scalar_dense" in str(func) or "nonzero" in str(func)
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in known:
                self.sizes.append(t.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_extra_memory_is_a_block_or_two_and_one_wait_checks_all(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wsp.perturb, "CPU_BLOCK", 1024)
    net = nn.Sequential(nn.Linear(300, 100), nn.Linear(100, 200)).to(dtype)
    with Allocations() as seen:
        shrink_perturb_(net, 0.5, 0.01, generator=seeded())
    width = 8 if dtype == torch.float64 else 4
    assert max(seen.sizes) <= (1024 + 15) * width
    assert seen.waits == 0, "the check of all parameters is read in one go, by tolist()"


# ---------------------------------------------------------------- which parameters


def test_touches_weights_and_leaves_the_rest_alone() -> None:
    net = small_convnet()
    old = snapshot(net)
    assert list(perturbed_parameters(net)) == ["0.weight", "3.weight", "7.weight"]
    new = snapshot(shrink_perturb_(net, generator=seeded(), running_stats="keep"))
    changed = [name for name in old if not torch.equal(old[name], new[name])]
    assert changed == ["0.weight", "3.weight", "7.weight"]


def test_include_replaces_the_rule_of_two_dimensions() -> None:
    net = small_convnet()
    old = snapshot(net)
    shrink_perturb_(net, 0.5, 0.0, running_stats="keep", include=lambda name, p: name.startswith("1."))
    changed = [name for name, value in snapshot(net).items() if not torch.equal(value, old[name])]
    assert changed == ["1.weight"], "a bias of zeros stays zero"
    assert list(perturbed_parameters(net, include=lambda name, p: p.dim() == 1)) == [
        "0.bias", "1.weight", "1.bias", "2.weight", "5.weight", "5.bias", "7.bias",
    ]  # fmt: skip


def test_a_scalar_parameter_can_be_included() -> None:
    net = nn.Linear(2, 2)
    net.temperature = nn.Parameter(torch.tensor(2.0))
    shrink_perturb_(net, 0.5, 0.0, include=lambda name, p: name == "temperature")
    assert net.temperature.item() == 1.0


@pytest.mark.parametrize("include", [None, everything])
def test_frozen_parameters_stay_frozen(include: Any) -> None:
    net = mlp()
    net[0].requires_grad_(False)
    old = snapshot(net)
    shrink_perturb_(net, include=include, generator=seeded())
    assert torch.equal(net[0].weight, old["0.weight"])
    assert torch.equal(net[0].bias, old["0.bias"])
    assert not torch.equal(net[2].weight, old["2.weight"])
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4, padding_idx=2)
        self.hidden = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("how", ["parameter", "data"])
def test_a_tied_tensor_is_changed_once(how: str) -> None:
    net = Tied()
    if how == "data":
        net.head.weight = nn.Parameter(torch.empty(0))
        net.head.weight.data = net.embedding.weight.data
    old = snapshot(net)
    shrink_perturb_(net, 0.5, 0.01, generator=seeded())
    noise = torch.empty(7 * 4 + 4 * 4)
    generator = seeded()
    noise[:28].normal_(generator=generator)
    noise[28:].normal_(generator=generator)
    expected = 0.5 * old["embedding.weight"] + 0.01 * noise[:28].view(7, 4)
    expected[2] = old["embedding.weight"][2]
    assert torch.equal(net.embedding.weight, expected)
    assert torch.equal(net.head.weight, expected)
    assert torch.equal(net.hidden.weight, 0.5 * old["hidden.weight"] + 0.01 * noise[28:].view(4, 4))
    assert net.head.weight.data_ptr() == net.embedding.weight.data_ptr()


@pytest.mark.parametrize("how", ["parameter", "data"])
def test_a_tied_tensor_is_included_by_any_of_its_names_and_listed_by_the_first(how: str) -> None:
    net = Tied()
    if how == "data":
        net.head.weight = nn.Parameter(torch.empty(0))
        net.head.weight.data = net.embedding.weight.data
    assert list(perturbed_parameters(net, include=lambda name, p: "bias" not in name)) == [
        "embedding.weight",
        "hidden.weight",
    ]
    for one in ("head.weight", "embedding.weight"):
        listed = perturbed_parameters(net, include=lambda name, p, one=one: name == one)
        assert list(listed) == ["embedding.weight"]
        assert listed["embedding.weight"] is net.embedding.weight


def test_every_element_of_a_kernel_gets_noise_of_its_own() -> None:
    net = nn.Conv2d(16, 16, 3)
    old = net.weight.detach().clone()
    shrink_perturb_(net, 1.0, 0.1, generator=seeded())
    noise = (net.weight - old).detach().reshape(256, 9)
    assert noise.std(dim=1).min() > 0.02
    assert torch.corrcoef(noise.T).fill_diagonal_(0).abs().max() < 0.25  # 4 standard errors


@pytest.mark.parametrize("layer", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("padding_idx", [0, 3, -1])
def test_the_padding_row_is_left_alone(layer: Any, padding_idx: int) -> None:
    net = layer(6, 3, padding_idx=padding_idx)
    with torch.no_grad():
        net.weight[padding_idx] = 7.0
    old = net.weight.detach().clone()
    expected = 0.5 * old + 0.1 * torch.empty(6, 3).normal_(generator=seeded())
    expected[padding_idx] = 7.0
    shrink_perturb_(net, 0.5, 0.1, generator=seeded())
    assert torch.equal(net.weight, expected)
    shrink_perturb_(net, 0.5, 0.0)
    shrink_perturb_(net, 0.5, 0.1, noise=layer(6, 3))
    assert net.weight[padding_idx].tolist() == [7.0] * 3


# ---------------------------------------------------------------- running statistics


def trained_norms() -> nn.Sequential:
    net = nn.Sequential(
        nn.Linear(3, 4),
        nn.BatchNorm1d(4),
        nn.BatchNorm1d(4, affine=False),
        nn.BatchNorm1d(4).requires_grad_(False),
        nn.BatchNorm1d(4, track_running_stats=False),
    )
    net(5 * torch.randn(16, 3) + 2)
    return net


def test_running_statistics_start_afresh_unless_frozen() -> None:
    net = trained_norms()
    frozen = snapshot(net[3])
    shrink_perturb_(net, generator=seeded())
    for norm in net[1], net[2]:
        assert norm.running_mean.tolist() == [0] * 4
        assert norm.running_var.tolist() == [1] * 4
        assert norm.num_batches_tracked.item() == 0
        assert norm.num_batches_tracked.dtype == torch.int64
    assert same(frozen, snapshot(net[3]))
    assert frozen["num_batches_tracked"].item() == 1


def test_running_statistics_can_be_kept() -> None:
    net = trained_norms()
    buffers = {name: b.clone() for name, b in net.named_buffers()}
    shrink_perturb_(net, running_stats="keep", generator=seeded())
    assert same(buffers, dict(net.named_buffers()))


# ---------------------------------------------------------------- types, layouts, devices


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_and_rounded_once(dtype: torch.dtype) -> None:
    net = nn.Linear(50, 40).to(dtype)
    wide = net.weight.detach().float()
    shrink_perturb_(net, 0.9, 0.003, generator=seeded())
    noise = torch.empty(40, 50).normal_(generator=seeded())
    assert net.weight.dtype == dtype
    assert torch.equal(net.weight, (wide * 0.9 + noise * 0.003).to(dtype))
    twice = (wide * 0.9).to(dtype) + (noise * 0.003).to(dtype)
    assert not torch.equal(net.weight, twice), "this test could not tell one rounding from two"


def test_mixed_types_each_get_noise_of_their_own_width() -> None:
    net = nn.Sequential(nn.Linear(4, 4).double(), nn.Linear(4, 4).half(), nn.Linear(4, 4))
    old = snapshot(net)
    shrink_perturb_(net, 0.5, 0.25, generator=seeded())
    generator = seeded()
    for i, width in enumerate([torch.float64, torch.float32, torch.float32]):
        noise = torch.empty(4, 4, dtype=width).normal_(generator=generator)
        expected = (old[f"{i}.weight"].to(width) * 0.5 + noise * 0.25).to(net[i].weight.dtype)
        assert torch.equal(net[i].weight, expected)


def channels_last(net: nn.Module) -> None:
    net.to(memory_format=torch.channels_last)


def transposed(net: nn.Module) -> None:
    for p in net.parameters():
        if p.dim() >= 2:
            p.data = p.data.transpose(0, 1).contiguous().transpose(0, 1)


def strided(net: nn.Module) -> None:
    for p in net.parameters():
        wide = torch.zeros(*p.shape, 2)
        wide[..., 0] = p.data
        p.data = wide[..., 0]


@pytest.mark.parametrize("layout", [channels_last, transposed, strided])
@pytest.mark.parametrize("given", [False, True])
def test_the_memory_layout_does_not_change_the_values(
    layout: Callable[[nn.Module], None], given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wsp.perturb, "CPU_BLOCK", 32)
    plain = nn.Conv2d(4, 6, 3)
    net, fresh = copy.deepcopy(plain), nn.Conv2d(4, 6, 3)
    layout(net)
    assert not net.weight.is_contiguous()
    before = net.weight.stride(), net.weight.data_ptr()
    options: dict[str, Any] = {"noise": fresh} if given else {}
    for m in plain, net:
        shrink_perturb_(m, 0.5, 0.1, **options, **({} if given else {"generator": seeded()}))
    assert torch.equal(net.weight, plain.weight)
    assert before == (net.weight.stride(), net.weight.data_ptr())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_parameters_on_two_devices() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3).cuda())
    twin = copy.deepcopy(net).cpu()
    for m in net, twin:
        shrink_perturb_(m, 0.5, 0.1, generator=seeded())
    assert torch.equal(net[0].weight, twin[0].weight)
    assert torch.equal(net[1].weight.cpu(), twin[1].weight)
    on_device = torch.Generator("cuda").manual_seed(1)
    shrink_perturb_(net, generator=on_device)


def test_noise_of_another_type_is_converted() -> None:
    net, fresh = mlp(torch.float64), mlp(torch.float32)
    old = snapshot(net)
    shrink_perturb_(net, 0.5, 0.1, noise=fresh)
    assert net[0].weight.dtype == torch.float64
    assert torch.equal(net[0].weight, old["0.weight"] * 0.5 + fresh[0].weight.double() * 0.1)


# ---------------------------------------------------------------- autograd and compilation


def test_builds_no_graph_and_keeps_gradients() -> None:
    net = mlp()
    net(torch.randn(4, 6, dtype=torch.float64)).sum().backward()
    grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    identities = [(id(p), p.data_ptr()) for p in net.parameters()]
    shrink_perturb_(net, generator=seeded())
    for p, grad in zip(net.parameters(), grads, strict=True):
        assert p.requires_grad and p.is_leaf and p.grad_fn is None
        assert p.grad is not None and torch.equal(p.grad, grad)
    assert identities == [(id(p), p.data_ptr()) for p in net.parameters()]


@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_a_stale_graph_is_caught(sigma: float) -> None:
    net = mlp()
    loss = net(torch.randn(4, 6, dtype=torch.float64)).square().sum()
    shrink_perturb_(net, 0.5, sigma)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_compiled_network_uses_the_new_weights() -> None:
    net = mlp()
    twin = copy.deepcopy(net)
    compiled: Any = torch.compile(net, backend="eager")
    x = torch.randn(4, 6, dtype=torch.float64)
    compiled(x)
    assert shrink_perturb_(compiled, generator=seeded()) is compiled
    shrink_perturb_(twin, generator=seeded())
    assert torch.equal(compiled(x), twin(x))
    shrink_perturb_(compiled, 0.4, 0.1, noise=copy.deepcopy(twin))
    shrink_perturb_(twin, 0.4, 0.1, noise=copy.deepcopy(twin))
    assert torch.equal(compiled(x), twin(x))


# ---------------------------------------------------------------- noise= and its draws


def test_a_function_that_builds_the_noise_draws_from_the_global_generator() -> None:
    one, other = mlp(), mlp()
    other.load_state_dict(one.state_dict())
    torch.manual_seed(3)
    shrink_perturb_(one, 0.4, 0.1, noise=mlp)
    torch.manual_seed(3)
    shrink_perturb_(other, 0.4, 0.1, noise=mlp())
    assert same(snapshot(one), snapshot(other))


def test_names_of_a_tied_parameter_in_the_noise_are_all_known() -> None:
    net = Tied()
    fresh = Tied()
    fresh.embedding.weight = nn.Parameter(torch.ones(7, 4))
    shrink_perturb_(net, 0.0, 1.0, noise=fresh, include=lambda name, p: "embedding" in name)
    assert net.head.weight[0].tolist() == [1.0] * 4


# ---------------------------------------------------------------- what is refused

REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"lamda": -0.1}, ValueError, "lamda must be from 0 .* to 1 .*, not -0.1"),
    ({"lamda": 1.1}, ValueError, "lamda"),
    ({"lamda": math.nan}, ValueError, "lamda .* not nan"),
    ({"lamda": "0.5"}, ValueError, "lamda .* not '0.5'"),
    ({"lamda": None}, ValueError, "lamda"),
    ({"sigma": -1e-9}, ValueError, "sigma must be a finite number, 0 or more, not -1e-09"),
    ({"sigma": math.inf}, ValueError, "sigma"),
    ({"sigma": math.nan}, ValueError, "sigma"),
    ({"running_stats": "forget"}, ValueError, "running_stats must be .* not 'forget'"),
    ({"generator": 1}, TypeError, "torch.Generator.*not 1"),
    ({"include": ["0.weight"]}, TypeError, "include must be a function"),
    ({"include": lambda name, p: False}, ValueError, "no parameter to change"),
    ({"noise": 0.1}, TypeError, "noise must be a module or a function that builds one, not 0.1"),
    ({"noise": lambda: torch.ones(3)}, TypeError, "must build a torch.nn.Module, not a Tensor"),
    ({"noise": nn.Linear(6, 10)}, ValueError, r"has no parameter 0.weight of shape \(10, 6\)"),
    (
        {"noise": nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4))},
        ValueError,
        r"noise has no parameter 2.weight of shape \(3, 10\)",
    ),
    (
        {"noise": nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.LazyLinear(3))},
        ValueError,
        "noise has no parameter 2.weight",
    ),
    ({"noise": mlp().to("meta")}, ValueError, "noise.0.weight is on the meta device"),
    ({"noise": mlp(), "generator": torch.Generator()}, ValueError, "torch.manual_seed"),
]


@pytest.mark.parametrize(("options", "error", "match"), REFUSED)
def test_refuses_bad_arguments_and_changes_nothing(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    net = mlp()
    old = snapshot(net)
    versions = [p._version for p in net.parameters()]
    with pytest.raises(error, match=match) as raised:
        shrink_perturb_(net, **options)
    assert "\n" not in str(raised.value)
    assert same(old, snapshot(net))
    assert versions == [p._version for p in net.parameters()]


@pytest.mark.parametrize("module", [{"weight": torch.ones(2, 2)}, [torch.ones(2, 2)], None])
def test_refuses_what_is_not_a_module(module: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, not"):
        shrink_perturb_(module)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_refuses_values_that_are_not_finite_by_name(value: float, dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.Linear(10, 3)).to(dtype)
    with torch.no_grad():
        net[2].weight[1, 7] = value
        net[0].bias[0] = value  # not to be changed, so not looked at
    old = {name: b.clone() for name, b in net.named_buffers()}
    weight = net[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"NaN or infinite values in 2\.weight:"):
        shrink_perturb_(net, generator=seeded())
    assert torch.equal(net[0].weight, weight)
    assert same(old, dict(net.named_buffers()))


def test_refuses_noise_that_is_not_finite() -> None:
    fresh = mlp()
    with torch.no_grad():
        fresh[2].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"in noise\.2\.weight:"):
        shrink_perturb_(mlp(), noise=fresh)


def test_large_finite_values_are_not_taken_for_infinite() -> None:
    net = nn.Linear(100, 100).half()
    nn.init.constant_(net.weight, 60000.0)
    shrink_perturb_(net, 0.5, 0.0)
    assert net.weight.min() == 30000


def test_refuses_noise_that_shares_tensors_with_the_network() -> None:
    net = mlp()
    fresh = mlp()
    fresh[2] = net[2]
    for noise in net, fresh:
        with pytest.raises(ValueError, match="shared with noise"):
            shrink_perturb_(net, noise=noise)


def with_parameter(values: Tensor) -> nn.Module:
    net = nn.Linear(2, 2)
    net.extra = nn.Parameter(values)
    return net


UNSUITABLE = [
    (lambda: nn.Sequential(nn.Linear(2, 3), nn.LazyLinear(2)), "1.weight has no shape yet: run"),
    (lambda: nn.Linear(2, 2, device="meta"), "weight is on the meta device.*load the weights"),
    (lambda: with_parameter(torch.ones(2, 2, dtype=torch.complex64)), "extra is torch.complex64"),
    (lambda: with_parameter(torch.ones(2, 2).to(torch.float8_e4m3fn)), "extra is torch.float8"),
    (lambda: with_parameter(torch.eye(3).to_sparse()), "extra is sparse"),
    (lambda: with_parameter(torch.ones(1, 2).expand(3, 2)), "extra is sparse or expanded"),
    (lambda: nn.BatchNorm1d(3), "no parameter to change"),
    (lambda: mlp().requires_grad_(False), "no parameter to change.*must be trainable"),
    (lambda: nn.Flatten(), "no parameter to change"),
    (lambda: nn.Linear(0, 3), "no parameter to change"),
]


@pytest.mark.parametrize(("build", "match"), UNSUITABLE)
@pytest.mark.filterwarnings("ignore:Lazy modules", "ignore:Initializing zero-element")
def test_refuses_unsuitable_parameters_and_changes_nothing(
    build: Callable[[], nn.Module], match: str
) -> None:
    net = build()
    versions = [p._version for p in net.parameters() if not nn.parameter.is_lazy(p)]
    for call in shrink_perturb_, perturbed_parameters:
        with pytest.raises(ValueError, match=match):
            call(net)
    assert versions == [p._version for p in net.parameters() if not nn.parameter.is_lazy(p)]


def test_include_can_leave_an_unsuitable_parameter_out() -> None:
    net = with_parameter(torch.ones(2, 2, dtype=torch.complex64))
    shrink_perturb_(net, include=lambda name, p: name == "weight")
    assert torch.equal(net.extra, torch.ones(2, 2, dtype=torch.complex64))


@pytest.mark.filterwarnings("ignore")
def test_a_quantized_network_has_nothing_to_change() -> None:
    quantize = getattr(getattr(torch.ao, "quantization", None), "quantize_dynamic", None)
    if quantize is None or torch.backends.quantized.engine == "none":
        pytest.skip("this torch has no dynamic quantization")
    with pytest.raises(ValueError, match="before quantizing"):
        shrink_perturb_(quantize(mlp().float()))


# ---------------------------------------------------------------- reparametrized weights


@pytest.mark.filterwarnings("ignore:`torch.nn.utils:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.parametrize("spectral_norm", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_warns_that_spectral_norm_undoes_the_shrinking(spectral_norm: Any) -> None:
    net = nn.Sequential(nn.Linear(5, 4), spectral_norm(nn.Linear(4, 4))).eval()
    x = torch.randn(3, 4)
    before = net[1](x)
    with pytest.warns(UserWarning, match="spectral_norm") as caught:
        shrink_perturb_(net, 0.5, 0.0)
    assert caught[0].filename == __file__, "the warning points at the caller"
    torch.testing.assert_close(net[1](x), before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shrink_perturb_(net, 1.0, 0.01)
        shrink_perturb_(nn.Linear(2, 2), 0.5, 0.0)


def test_weight_norm_shrinks_as_usual() -> None:
    net = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))
    before = net.weight.detach().clone()
    shrink_perturb_(net, 0.5, 0.0)
    torch.testing.assert_close(net.weight, 0.5 * before)


# ---------------------------------------------------------------- optimizers


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = net(torch.ones(4, 6, dtype=torch.float64)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)


OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "NAdam": {},
    "RAdam": {},
    "Adamax": {},
    "Adadelta": {},
    "ASGD": {},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Rprop": {},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_after_a_reset_an_optimizer_steps_like_a_new_one(name: str) -> None:
    build: Any = getattr(torch.optim, name)
    net = mlp()
    old = build(net.parameters(), **OPTIMIZERS[name])
    for _ in range(3):
        step(net, old)
    shrink_perturb_(net, generator=seeded())
    kept = dict(old.state)
    twin = copy.deepcopy(net)
    assert reset_optimizer_state_(old, perturbed_parameters(net).values()) is old
    for bias in net[0].bias, net[2].bias:
        assert old.state[bias] is kept[bias], "the biases were not changed: theirs stays"
    assert reset_optimizer_state_(old, net.parameters()) is old
    step(net, old)
    step(twin, build(twin.parameters(), **OPTIMIZERS[name]))
    assert same(snapshot(net), snapshot(twin))


def test_a_reset_of_the_optimizer_keeps_its_learning_rate() -> None:
    net = mlp()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    step(net, optimizer)
    schedule.step()
    reset_optimizer_state_(optimizer, net.parameters())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_resetting_the_wrong_optimizer_is_refused() -> None:
    net = mlp()
    with pytest.raises(ValueError, match="another network"):
        reset_optimizer_state_(torch.optim.Adam(mlp().parameters()), net.parameters())
    with pytest.raises(ValueError, match=r"Adagrad .* build a new one"):
        reset_optimizer_state_(torch.optim.Adagrad(net.parameters()), net.parameters())


# ---------------------------------------------------------------- the module itself


def test_imports_torch_and_the_standard_library_alone() -> None:
    """The trick and its private files."""
    private = {"_ahead", "_checks", "_coded", "_layers", "_optimizers", "_shards"}
    for module in ("perturb", *private):
        tree = ast.parse(Path(wsp.perturb.__file__).with_name(f"{module}.py").read_text())
        names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        others = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
        ours = {name for name in others if not name.startswith("torch")}
        assert ours <= {"wsp", *(f"wsp.{name}" for name in private)}


def test_does_not_import_what_is_slow_until_it_is_needed() -> None:
    """torch.distributed.tensor, for a DTensor."""
    code = (
        "import sys, torch; before = set(sys.modules); import wsp.perturb; "
        "wsp.perturb.shrink_perturb_(torch.nn.Linear(2, 2)); "
        "print('torch.distributed.tensor' in set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
