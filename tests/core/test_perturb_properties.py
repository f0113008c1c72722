"""`shrink_perturb_` on random networks, against a second way to say what it does."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

import wsp.perturb
from wsp.perturb import perturbed_parameters, shrink_perturb_

few = settings(max_examples=60, derandomize=True, deadline=None, database=None)

LAYERS = {
    "linear": lambda: nn.Linear(4, 4),
    "large linear": lambda: nn.Linear(4, 4).to(torch.float64),
    "half linear": lambda: nn.Linear(4, 4).to(torch.bfloat16),
    "bilinear": lambda: nn.Bilinear(2, 3, 4),
    "conv1d": lambda: nn.Conv1d(2, 4, 3),
    "conv2d": lambda: nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last),
    "transposed conv": lambda: nn.ConvTranspose2d(2, 4, 3, bias=False),
    "batch norm": lambda: nn.BatchNorm1d(4),
    "bare batch norm": lambda: nn.BatchNorm2d(3, affine=False),
    "instance norm": lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
    "layer norm": lambda: nn.LayerNorm([2, 4]),  # its scale has two dimensions, and stays
    "group norm": lambda: nn.GroupNorm(2, 4),
    "prelu": lambda: nn.PReLU(4),
    "embedding": lambda: nn.Embedding(5, 4),
    "padded embedding": lambda: nn.Embedding(4, 4, padding_idx=1),
    "padded bag": lambda: nn.EmbeddingBag(4, 4, padding_idx=0),
    "lstm": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "gru": lambda: nn.GRU(3, 4),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "relu": lambda: nn.ReLU(),
}


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """A tree of layers; some frozen, some tied, statistics anywhere, one weight to change."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    kinds = draw(st.lists(st.sampled_from(sorted(LAYERS)), max_size=6))
    layers = [LAYERS[kind]() for kind in ["linear", *kinds]]
    for layer in layers[1:]:
        for p in layer.parameters():
            p.requires_grad_(draw(st.integers(0, 3)) > 0)
        weight = getattr(layer, "weight", None)
        alike = isinstance(weight, nn.Parameter) and weight.shape == layers[0].weight.shape
        if alike and weight.dtype == torch.float32 and draw(st.booleans()):
            layer.weight = layers[0].weight
    for layer in layers:
        for b in layer.buffers():
            b.copy_(torch.rand(b.shape) * 5 if b.is_floating_point() else torch.tensor(7))
    tree: list[nn.Module] = []
    while layers:
        n = draw(st.integers(1, len(layers)))
        branch = nn.Sequential if draw(st.booleans()) else lambda *members: nn.ModuleList(members)
        tree.append(branch(*layers[:n]))
        layers = layers[n:]
    return nn.Sequential(*tree)


lamdas = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
sigmas = st.one_of(st.sampled_from([0.0, 0.01, 1.0]), st.floats(0, 10))
seeds = st.integers(0, 2**32 - 1)


def expected(module: nn.Module, lamda: float, sigma: float, seed: int) -> dict[str, Tensor]:
    """The state that is to come, worked out layer by layer from the description alone."""
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    if (lamda, sigma) == (1, 0):
        return state
    generator = torch.Generator().manual_seed(seed)
    padding = {
        id(m.weight): m.padding_idx
        for m in module.modules()
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.padding_idx is not None
    }
    done: dict[int, Tensor] = {}
    for prefix, m in module.named_modules(remove_duplicate=False):
        dot = prefix + "." if prefix else ""
        for name, p in m._parameters.items():
            if p is None or not p.requires_grad or p.dim() < 2 or isinstance(m, nn.LayerNorm):
                continue
            if id(p) not in done:
                wide = torch.float64 if p.dtype == torch.float64 else torch.float32
                new = p.detach().to(wide) * lamda
                if sigma > 0:
                    noise = torch.empty(p.shape, dtype=wide).normal_(generator=generator)
                    new = new + sigma * noise
                new = new.to(p.dtype)
                if id(p) in padding:
                    new[padding[id(p)]] = p.detach()[padding[id(p)]]
                done[id(p)] = new
            state[dot + name] = done[id(p)]
        own = [p.requires_grad for p in m.parameters(recurse=False)]
        if "running_mean" in dict(m.named_buffers(recurse=False)) and (not own or any(own)):
            state[dot + "running_mean"].zero_()
            state[dot + "running_var"].fill_(1)
            state[dot + "num_batches_tracked"].zero_()
    return state


def check_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@few
@given(networks(), lamdas, sigmas, seeds)
def test_does_what_the_description_says_and_nothing_else(
    net: nn.Module, lamda: float, sigma: float, seed: int
) -> None:
    target = expected(net, lamda, sigma, seed)
    frozen = [(name, p.requires_grad, p.data_ptr()) for name, p in net.named_parameters()]
    strides = [p.stride() for p in net.parameters()]
    shrink_perturb_(net, lamda, sigma, generator=torch.Generator().manual_seed(seed))
    check_same(state_of(net), target)
    assert frozen == [(name, p.requires_grad, p.data_ptr()) for name, p in net.named_parameters()]
    assert strides == [p.stride() for p in net.parameters()]


@few
@given(networks(), lamdas, st.floats(0.001, 10), seeds)
def test_is_a_function_of_the_network_and_the_generator(
    net: nn.Module, lamda: float, sigma: float, seed: int
) -> None:
    twin, third = copy.deepcopy(net), copy.deepcopy(net)
    one, other = (torch.Generator().manual_seed(seed) for _ in range(2))
    torch.manual_seed(0)
    shrink_perturb_(net, lamda, sigma, generator=one)
    torch.manual_seed(1)
    shrink_perturb_(twin, lamda, sigma, generator=other)
    check_same(state_of(net), state_of(twin))
    assert torch.equal(one.get_state(), other.get_state())
    shrink_perturb_(third, lamda, sigma, generator=torch.Generator().manual_seed(seed ^ 1))
    for name in perturbed_parameters(net):
        assert not torch.equal(net.get_parameter(name), third.get_parameter(name)), name


@few
@given(networks(), st.integers(1, 4))
def test_the_cuts_do_not_matter_on_a_cpu(net: nn.Module, groups: int) -> None:
    whole = copy.deepcopy(net)
    shrink_perturb_(whole, 0.5, 0.1, generator=torch.Generator().manual_seed(3))
    block, wsp.perturb.CPU_BLOCK = wsp.perturb.CPU_BLOCK, 16 * groups
    try:
        shrink_perturb_(net, 0.5, 0.1, generator=torch.Generator().manual_seed(3))
    finally:
        wsp.perturb.CPU_BLOCK = block
    check_same(state_of(net), state_of(whole))


@few
@given(networks())
def test_the_list_of_parameters_is_what_changes(net: nn.Module) -> None:
    before = state_of(net)
    listed = perturbed_parameters(net)
    check_same(before, state_of(net))
    shrink_perturb_(net, 0.5, 0.1, running_stats="keep", noise=_of_ones(net))
    after = state_of(net)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    tied = net.named_parameters(remove_duplicate=False)
    assert changed == {name for name, p in tied if id(p) in map(id, listed.values())}


def _of_ones(net: nn.Module) -> nn.Module:
    """Noise that moves every element, also of a scale that happens to be one: 0.5 + 0.3."""
    ones = copy.deepcopy(net)
    with torch.no_grad():
        for p in ones.parameters():
            p.fill_(3.0)
    return ones


@few
@given(networks(), lamdas)
def test_one_and_zero_are_the_identity_and_zero_and_one_a_cold_start(net: nn.Module, lamda: float) -> None:
    before, versions = state_of(net), [v._version for v in net.state_dict().values()]
    shrink_perturb_(net, 1.0, 0.0)
    check_same(before, state_of(net))
    assert versions == [v._version for v in net.state_dict().values()]

    fresh = copy.deepcopy(net)
    with torch.no_grad():
        for p in fresh.parameters():
            p.copy_(torch.randn(p.shape))
    for m in (m for module in (net, fresh) for m in module.modules()):
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag)):
            m.padding_idx = None  # a new embedding's row is zero, as the old one's is
    shrink_perturb_(net, 0.0, 1.0, noise=fresh, include=lambda name, p: True)
    for (name, p), q in zip(net.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q if p.requires_grad else before[name]), name


@few
@given(networks(), st.floats(0, 1), st.floats(0, 1))
def test_shrinking_twice_is_shrinking_by_the_product(net: nn.Module, a: float, b: float) -> None:
    once = copy.deepcopy(net)
    shrink_perturb_(shrink_perturb_(net, a, 0.0), b, 0.0)
    shrink_perturb_(once, a * b, 0.0)
    for p, q in zip(net.parameters(), once.parameters(), strict=True):
        rtol = 4 * torch.finfo(p.dtype).eps
        torch.testing.assert_close(p, q, rtol=rtol, atol=torch.finfo(p.dtype).tiny)


# The noise itself. Its seed is fixed, so each of these either holds for ever or never did; the
# bounds are wide enough (4 standard errors) for nearly any seed.


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=str)
def noise(request: Any) -> Tensor:
    """The noise of 8,192 kernels of 3 by 3, in units of sigma, a kernel a row."""
    conv = nn.Conv2d(64, 128, 3, bias=False, dtype=request.param)
    old = conv.weight.detach().clone()
    shrink_perturb_(conv, 0.25, 0.2, generator=torch.Generator().manual_seed(20))
    return ((conv.weight.detach() - 0.25 * old) / 0.2).reshape(-1, 9)


def test_noise_has_mean_zero_and_deviation_one(noise: Tensor) -> None:
    n = noise.numel()
    assert abs(noise.mean().item()) < 4 / n**0.5
    assert abs(noise.std().item() - 1) < 4 / (2 * n) ** 0.5
    for position in noise.T:
        assert abs(position.mean().item()) < 4 / len(position) ** 0.5
        assert abs(position.std().item() - 1) < 4 / (2 * len(position)) ** 0.5


def test_noise_is_normal(noise: Tensor) -> None:
    assert stats.kstest(noise.flatten().double().numpy(), "norm").pvalue > 0.001
    assert 4 < noise.abs().max() < 6


def test_noise_is_independent_within_and_between_kernels(noise: Tensor) -> None:
    bound = 4 / len(noise) ** 0.5
    assert torch.corrcoef(noise.T).fill_diagonal_(0).abs().max() < bound
    flat = noise.flatten()
    for lag in (1, 8, 9, 16, 64):
        assert abs(torch.corrcoef(torch.stack([flat[:-lag], flat[lag:]]))[0, 1]) < bound
