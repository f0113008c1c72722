"""Kinds of networks that other people have: what must come out right, or be refused by name."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from wsp.perturb import perturbed_parameters, shrink_perturb_

old_style = pytest.mark.filterwarnings("ignore:.*(deprecated|torch.nn.utils):FutureWarning")


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def refused(net: nn.Module, match: str, **options: Any) -> None:
    """A ValueError with these words, and nothing changed."""
    before = state_of(net)
    with pytest.raises(ValueError, match=match):
        shrink_perturb_(net, 0.5, 0.1, **options)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) or not value.isfinite().all(), name


# ---------------------------------------------------------------- weights that are computed


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


class InvertibleSymmetric(Symmetric):
    def right_inverse(self, x: Tensor) -> Tensor:
        return x.triu()


class Circulant(nn.Module):
    """A matrix from a vector: its code has one dimension."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.roll(i) for i in range(len(x))])


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()

    def right_inverse(self, x: Tensor) -> Tensor:
        return x.log()


class Tanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lora_A, self.lora_B = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.lora_B @ self.lora_A


class Scaled(nn.Module):
    """A fixed multiple: linear, and its inverse is known."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * x

    def right_inverse(self, x: Tensor) -> Tensor:
        return x / 3


def parametrized(*steps: nn.Module, layer: nn.Module | None = None) -> nn.Module:
    net = nn.Linear(4, 4) if layer is None else layer
    for step in steps:
        parametrize.register_parametrization(net, "weight", step, unsafe=True)
    return net


def circulant() -> nn.Module:
    net = nn.Linear(4, 4)
    net.weight = nn.Parameter(torch.arange(1.0, 5.0))
    return parametrized(Circulant(), layer=net)


def frozen_original() -> nn.Module:
    net = parametrized(LowRank())
    net.parametrizations.weight.original.requires_grad_(False)
    return net


def frozen_magnitude() -> nn.Module:
    net = parametrizations.weight_norm(nn.Linear(4, 3))
    net.parametrizations.weight.original0.requires_grad_(False)
    return net


HALVED: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "weight_norm of all": lambda: parametrizations.weight_norm(nn.Linear(4, 3), dim=None),
    "weight_norm of columns": lambda: parametrizations.weight_norm(nn.Linear(4, 3), dim=1),
    "weight_norm of a convolution": lambda: parametrizations.weight_norm(nn.Conv1d(3, 4, 3)),
    "weight_norm in half": lambda: parametrizations.weight_norm(nn.Linear(4, 3).bfloat16()),
    "old weight_norm": lambda: nn.utils.weight_norm(nn.Linear(4, 3)),
    "old weight_norm of all": lambda: nn.utils.weight_norm(nn.Linear(4, 3), dim=None),
    "symmetric": lambda: parametrized(Symmetric()),
    "symmetric with an inverse": lambda: parametrized(InvertibleSymmetric()),
    "a multiple": lambda: parametrized(Scaled()),
    "two steps": lambda: parametrized(Scaled(), Scaled()),
    "circulant": circulant,
    "pruned": lambda: prune.random_unstructured(nn.Linear(4, 3), "weight", 0.3),
}


@old_style
@pytest.mark.parametrize("kind", HALVED)
def test_a_computed_weight_is_halved(kind: str) -> None:
    net = HALVED[kind]().train()
    x = torch.ones(2, 3, 5) if "conv" in kind else torch.ones(2, 4, dtype=next(net.parameters()).dtype)
    net(x)
    before = net.weight.detach().clone()
    shrink_perturb_(net, 0.5, 0.0)
    net(x)
    assert before.abs().max() > 0
    torch.testing.assert_close(net.weight.detach(), before / 2)
    assert all(p.requires_grad and p.is_leaf for p in net.parameters())


@old_style
@pytest.mark.parametrize("kind", ["weight_norm", "weight_norm of all", "old weight_norm", "a multiple"])
@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_the_noise_of_a_computed_weight_has_the_size_that_was_asked_for(kind: str, size: float) -> None:
    """However long the vector is that gives only the direction."""
    net = HALVED[kind]()
    with torch.no_grad():
        max(net.parameters(), key=lambda p: p.numel()).mul_(size)
    before = net(torch.eye(4)).detach()
    shrink_perturb_(net, 1.0, 0.25, generator=seeded())
    noise = torch.empty(3, 4) if "multiple" not in kind else torch.empty(4, 4)
    torch.testing.assert_close(net(torch.eye(4)) - before, (0.25 * noise.normal_(generator=seeded())).T)


@old_style
@pytest.mark.parametrize("kind", ["weight_norm", "old weight_norm"])
def test_noise_for_a_computed_weight_may_come_from_a_plain_network(kind: str) -> None:
    net, fresh = nn.Sequential(HALVED[kind]()), nn.Sequential(nn.Linear(4, 3))
    before = net[0](torch.eye(4)).detach()
    shrink_perturb_(net, 0.5, 0.1, noise=fresh)
    bias, weight = net[0].bias.detach(), fresh[0].weight.detach()
    torch.testing.assert_close(net[0](torch.eye(4)) - bias, 0.5 * (before - bias) + 0.1 * weight.T)
    shrink_perturb_(net, 0.0, 1.0, noise=lambda: nn.Sequential(HALVED[kind]()))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "orthogonal": (
        lambda: parametrizations.orthogonal(nn.Linear(6, 3)),
        r"0\.weight is computed \(Orthogonal",
    ),
    "square": (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), r"0\.weight is computed"),
    "cayley": (lambda: parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley"), "computed"),
    "householder": (
        lambda: parametrizations.orthogonal(nn.Linear(6, 3), orthogonal_map="householder"),
        "computed",
    ),
    "no trivialization": (
        lambda: parametrizations.orthogonal(nn.Linear(4, 4), use_trivialization=False),
        "computed",
    ),
    "exponential": (lambda: parametrized(Tanh(), Exponential()), r"\(Tanh, Exponential\)"),
    "tanh": (lambda: parametrized(Tanh()), r"\(Tanh\)"),
    "low rank": (lambda: parametrized(LowRank()), r"\(LowRank\)"),
    "low rank on a frozen weight": (frozen_original, r"\(LowRank\)"),
    "half frozen": (frozen_magnitude, "WeightNorm"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_weight_that_cannot_follow_the_rule_is_refused_by_name(kind: str) -> None:
    build, match = REFUSED[kind]
    net = nn.Sequential(build(), nn.Linear(3, 2))
    if kind != "exponential":
        refused(net, match)
    else:
        with pytest.raises(ValueError, match=match):
            shrink_perturb_(net)
    before = state_of(net)
    shrink_perturb_(net, include=lambda name, p: name == "1.weight")
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == (name != "1.weight"), name


def test_looking_at_a_computed_weight_changes_and_draws_nothing() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (1 + torch.rand(()) * self.training)

    net = parametrized(Noisy()).train()
    random, before = torch.get_rng_state(), state_of(net)
    assert list(perturbed_parameters(net)) == ["parametrizations.weight.original"]
    assert torch.equal(random, torch.get_rng_state())
    assert all(m.training for m in net.modules())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_parametrized_bias_or_scale_stays() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm([2, 4]))
    parametrize.register_parametrization(net[0], "bias", Scaled())
    parametrize.register_parametrization(net[1], "weight", Scaled())
    assert list(perturbed_parameters(net)) == ["0.weight"]


@old_style
@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.spectral_norm,
        parametrizations.spectral_norm,
        lambda e: prune.random_unstructured(e, "weight", 0.2),
        lambda e: parametrizations.weight_norm(e, dim=None),
        lambda e: nn.utils.weight_norm(e, dim=None),
        lambda e: parametrized(Scaled(), layer=e),
    ],
)
@pytest.mark.filterwarnings("ignore:shrinking does nothing under spectral_norm")
@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_the_padding_row_of_a_computed_embedding_stays(wrap: Any, kind: Any) -> None:
    net = wrap(kind(6, 4, padding_idx=2))
    shrink_perturb_(net, 0.5, 0.1)
    net(torch.tensor([[2, 1]]))
    assert net.weight[2].tolist() == [0] * 4
    assert net.weight[1].abs().max() > 0


def test_the_warning_of_spectral_norm_names_the_layer() -> None:
    net = nn.Sequential(nn.Linear(3, 3), parametrizations.spectral_norm(nn.Linear(3, 3)))
    with pytest.warns(UserWarning, match=r"spectral_norm.*: 1\.weight"):
        shrink_perturb_(net, 0.5, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shrink_perturb_(net, 0.5, 0.0, include=lambda name, p: name == "0.weight")


# ---------------------------------------------------------------- biases and scales of any shape


class Own(nn.Module):
    """A module that holds parameters of these names."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.ones(shape)))


def of_class(name: str, **shapes: tuple[int, ...]) -> nn.Module:
    return type(name, (Own,), {})(**shapes)  # type: ignore[no-any-return]


def matrix_factorization() -> nn.Module:
    return nn.ModuleDict(
        {
            "users": nn.Embedding(5, 3),
            "user_bias": nn.Embedding(5, 1),
            "item_biases": nn.Embedding(7, 1),
            "user_factors": nn.Embedding(5, 3),
        }
    )


C = (1, 1, 1, 8)
NAMED: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "attention": (
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
        ["in_proj_weight", "out_proj.weight"],
    ),
    "attention of other sizes": (
        lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=4),
        ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
    ),
    "one output": (lambda: nn.Linear(8, 1), ["weight"]),
    "one input": (lambda: nn.Linear(1, 8), ["weight"]),
    "depthwise": (lambda: nn.Conv2d(8, 8, 1, groups=8), ["weight"]),
    "one channel": (lambda: nn.Conv1d(1, 1, 3), ["weight"]),
    "class token": (
        lambda: Own(cls_token=(1, 1, 8), pos_embed=(1, 5, 8), mask_token=(1, 1, 8)),
        ["cls_token", "pos_embed", "mask_token"],
    ),
    "GRN": (lambda: of_class("GRN", weight=C, bias=C, other=(8, 8)), []),
    "GRN of others": (lambda: of_class("GlobalResponseNorm", gamma=C, beta=C), []),
    "layer norm": (lambda: nn.LayerNorm([2, 4]), []),
    "RMS norm": (lambda: nn.RMSNorm([2, 4]), []),
    "own norms": (
        lambda: nn.ModuleList(
            [
                of_class(name, weight=(1, 8, 1, 1), g=(1, 8, 1, 1))
                for name in (
                    "LayerNorm2d",
                    "LlamaRMSNorm",
                    "BatchNormAct2d",
                    "Layernorm",
                    "RMSNormGated",
                    "InstanceNormalization",
                    "EvoNorm2dS0",
                    "ChanLayerNorm",
                )
            ]
        ),
        [],
    ),
    "no norms": (
        lambda: nn.ModuleList(
            [
                of_class(name, weight=(4, 8))
                for name in ("NormalFlow", "NormedLinear", "NormLinear", "MultiScale", "ScaledLinear")
            ]
        ),
        [f"{i}.weight" for i in range(5)],
    ),
    "layer scale": (lambda: of_class("LayerScale", gamma=(8, 1, 1)), []),
    "layer scale 2d": (lambda: of_class("LayerScale2d", weight=(8, 1, 1)), []),
    "block": (
        lambda: Own(layer_scale_1=(8, 1, 1), gamma_2=(1, 8), logit_scale=(4, 1, 1), weight=(3, 3)),
        ["weight"],
    ),
    "affine": (lambda: of_class("Affine", alpha=(1, 1, 8), beta=(1, 1, 8)), []),
    "biases": (
        lambda: Own(
            r_w_bias=(2, 4),
            pos_bias_u=(2, 4),
            attention_biases=(2, 9),
            bias_k=(1, 1, 4),
            biasK=(2, 2),
            relative_position_bias_table=(9, 2),
            bias=(1, 8),
            dt_bias=(2, 2),
        ),
        [],
    ),
    "temperature": (
        lambda: Own(temperature=(4, 1, 1), temp=(2, 2), gain=(8, 1, 1, 1), weight=(8, 8, 1, 1)),
        ["weight"],
    ),
    "state space": (lambda: Own(A_log=(8, 4), x_proj_weight=(2, 8, 3), log_dt=(2, 4)), ["x_proj_weight"]),
    "policy": (lambda: Own(log_std=(1, 4), logstd=(1, 4), actor_logstd=(1, 4)), []),
    "noisy": (lambda: Own(weight_mu=(3, 4), weight_sigma=(3, 4), weight_rho=(3, 4)), ["weight_mu"]),
    "IA3": (lambda: nn.ModuleDict({"ia3_l": nn.ParameterDict({"default": torch.ones(8, 1)})}), []),
    "LoRA": (
        lambda: nn.ModuleDict({"lora_A": nn.Linear(8, 2, bias=False), "lora_B": nn.Linear(2, 8, bias=False)}),
        ["lora_A.weight", "lora_B.weight"],
    ),
    "DoRA": (lambda: nn.ModuleDict({"default": of_class("DoraConv2dLayer", weight=(1, 8, 1, 1))}), []),
    "lists": (
        lambda: nn.ModuleDict(
            {"gammas": nn.ParameterList([torch.ones(1, 8)]), "experts": nn.ParameterList([torch.ones(4, 8)])}
        ),
        ["experts.0"],
    ),
    "T5": (
        lambda: nn.ModuleDict({"relative_attention_bias": nn.Embedding(32, 4), "shared": nn.Embedding(9, 4)}),
        ["shared.weight"],
    ),
    "factorization": (matrix_factorization, ["users.weight", "user_factors.weight"]),
    "FiLM": (
        lambda: nn.ModuleDict({"gamma": nn.Linear(4, 8), "beta": nn.Linear(4, 8)}),
        ["gamma.weight", "beta.weight"],
    ),
    "scale embedding": (
        lambda: Own(scale_embedding=(3, 8), level_embed=(3, 8)),
        ["scale_embedding", "level_embed"],
    ),
    "by hand": (lambda: Own(W1=(4, 8), b1=(1, 8), W_z=(4, 4), b_z=(1, 4)), ["W1", "W_z"]),
    "no bias": (lambda: Own(a=(4, 8), b=(8, 4), unbiased=(2, 2)), ["a", "b", "unbiased"]),
    "snake": (lambda: of_class("Snake1d", alpha=(1, 8, 1)), []),
    "zero point": (lambda: Own(weight=(2, 2), weight_scale=(2, 1), input_scale=(1, 1)), ["weight"]),
    "mixing": (lambda: Own(time_mix_key=(1, 1, 8), time_decay=(2, 4), key=(8, 8)), ["key"]),
    "adaptive norm": (lambda: Own(scale_shift_table=(6, 8), weight=(2, 2)), ["weight"]),
}


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("nested", [False, True])
def test_biases_and_scales_stay_whatever_their_shape(kind: str, nested: bool) -> None:
    build, expected = NAMED[kind]
    net = build()
    if nested:
        net = nn.ModuleDict({"part": net, "head": nn.Linear(2, 2)})
        expected = [*(f"part.{name}" for name in expected), "head.weight"]
    if not expected:
        refused(net, "no parameter to change")
        expected = [name for name, p in net.named_parameters() if p.dim() >= 2]
        assert list(perturbed_parameters(net, include=lambda n, p: p.dim() >= 2)) == expected
    else:
        assert list(perturbed_parameters(net)) == expected


# ---------------------------------------------------------------- tied, frozen, overlapping


class Two(nn.Module):
    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other


def tied(how: str, one: nn.Module | None = None, other: nn.Module | None = None) -> Two:
    net = Two(one or nn.Linear(4, 4), other or nn.Linear(4, 4))
    if how == "data":
        net.other.weight.data = net.one.weight.data
    else:
        net.other.weight = net.one.weight
    return net


@pytest.mark.parametrize("how", ["data", "parameter"])
@pytest.mark.parametrize("which", ["one", "other"])
def test_any_name_includes_and_any_name_freezes(how: str, which: str) -> None:
    net = tied(how)
    before = net.one.weight.detach().clone()
    shrink_perturb_(net, 0.5, 0.0, include=lambda name, p: name == f"{which}.weight")
    assert torch.equal(net.one.weight, before / 2)
    getattr(net, which).weight.requires_grad_(False)
    refused(net, "no parameter to change")


def test_a_transposed_tie_is_one_tensor() -> None:
    net = Two(nn.Linear(3, 5), nn.Linear(5, 3))
    net.other.weight.data = net.one.weight.data.T
    before = net.one.weight.detach().clone()
    shrink_perturb_(net, 0.5, 0.0)
    assert torch.equal(net.one.weight, before / 2) and torch.equal(net.other.weight, before.T / 2)


@pytest.mark.parametrize("first", ["one", "other"])
@pytest.mark.parametrize("how", ["data", "parameter"])
def test_padding_rows_are_found_by_memory(first: str, how: str) -> None:
    read, write = nn.Embedding(6, 4, padding_idx=0), nn.Linear(4, 6, bias=False)
    net = Two(read, write) if first == "one" else Two(write, read)
    if how == "data":
        write.weight.data = read.weight.data
    else:
        write.weight = read.weight
    shrink_perturb_(net, 0.5, 0.1)
    assert read.weight[0].tolist() == [0] * 4 and read.weight[1].abs().min() > 0


def test_two_padding_rows_of_one_tensor_stay() -> None:
    net = tied("data", nn.Embedding(6, 4, padding_idx=0), nn.Embedding(6, 4, padding_idx=-1))
    before = net.one.weight.detach().clone()
    shrink_perturb_(net, 0.5, 0.1)
    assert torch.equal(net.one.weight[[0, 5]], before[[0, 5]])


def test_parts_of_one_matrix_that_do_not_overlap_are_fine() -> None:
    whole = torch.randn(4, 8)
    net = Two(nn.Linear(4, 4), nn.Linear(4, 4))
    net.one.weight.data, net.other.weight.data = whole[:, :4], whole[:, 4:]
    before = whole.clone()
    shrink_perturb_(net, 0.5, 0.0)
    assert torch.equal(whole, before / 2)


def overlapping(start: int, stop: int, frozen: bool = False) -> nn.Module:
    whole = torch.randn(6, 4)
    net = Two(nn.Linear(4, 4), nn.Linear(4, stop - start))
    net.one.weight.data, net.other.weight.data = whole[:4], whole[start:stop]
    net.other.weight.requires_grad_(not frozen)
    return net


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("start", "stop"), [(2, 6), (3, 5), (0, 2), (1, 3), (0, 6)])
def test_memory_that_overlaps_in_part_is_refused_by_name(start: int, stop: int, frozen: bool) -> None:
    refused(
        overlapping(start, stop, frozen),
        r"one\.weight and other\.weight share a part of their memory"
        "|other.weight and one.weight share",
    )


def test_a_frozen_slice_of_a_weight_is_no_excuse_to_change_it() -> None:
    net = nn.Linear(4, 4)
    net.row = nn.Parameter(net.weight.data[1], requires_grad=False)
    refused(net, "share a part of their memory")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(1, 2).expand(3, 2),
        lambda: torch.arange(6.0).as_strided((4, 3), (1, 1)),
        lambda: torch.arange(9.0).unfold(0, 4, 2),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(4).to_sparse_csr(),
        lambda: torch.eye(4).to_sparse_csc(),
        lambda: torch.eye(4).to_sparse_bsr((2, 2)),
        lambda: torch.eye(4).to_sparse_bsc((2, 2)),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_and_expanded_parameters_get_the_sentence(make: Callable[[], Tensor]) -> None:
    net = nn.Linear(2, 2)
    net.extra = nn.Parameter(make())
    before = net.weight.detach().clone()
    with pytest.raises(ValueError, match=r"extra is sparse or expanded: make it a dense"):
        shrink_perturb_(net)
    assert torch.equal(net.weight, before)


# ---------------------------------------------------------------- elements that are elsewhere


class Quantized(Tensor):
    """Claims to be float32, and can do nothing."""

    @staticmethod
    def __new__(cls, values: Tensor) -> Quantized:
        return Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, requires_grad=True)  # type: ignore[attr-defined, no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "detach" in str(func):
            return args[0]
        raise NotImplementedError(func)


def test_a_tensor_subclass_that_lacks_operators_is_refused_by_name_and_type() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = nn.Parameter(Quantized(torch.ones(4, 4)))
    before = net[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"1\.weight is a Quantized, not a plain tensor"):
        shrink_perturb_(net)
    assert torch.equal(net[0].weight, before)


def elsewhere(layer: nn.Module, name: str, shape: tuple[int, ...] | None) -> nn.Module:
    p = getattr(layer, name)
    p.data = torch.empty(0)
    if shape is not None:
        p.ds_shape = shape
    return nn.Sequential(layer, nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("layer", "name", "shape"),
    [
        (lambda: nn.Linear(5, 5), "weight", (5, 5)),
        (lambda: nn.Linear(5, 5), "weight", None),
        (lambda: nn.Conv2d(2, 3, 3), "weight", None),
        (lambda: nn.Embedding(5, 3), "weight", (5, 3)),
        (lambda: nn.LSTM(3, 4), "weight_hh_l0", None),
        (lambda: nn.MultiheadAttention(4, 2), "in_proj_weight", None),
    ],
)
def test_a_weight_without_elements_here_is_refused(layer: Any, name: str, shape: Any) -> None:
    refused(elsewhere(layer(), name, shape), rf"0\.{name} has no elements in this process: gather it first")


def test_biases_scales_and_frozen_weights_may_be_elsewhere() -> None:
    for layer, name, shape in ((nn.Linear(5, 5), "bias", (5,)), (nn.LayerNorm([2, 3]), "weight", (2, 3))):
        net = elsewhere(layer, name, shape)
        assert f"0.{name}" not in perturbed_parameters(net)
    net = elsewhere(nn.Linear(5, 5), "weight", (5, 5))
    net[0].requires_grad_(False)
    assert list(perturbed_parameters(net)) == ["1.weight"]
    with pytest.raises(ValueError, match=r"0\.bias has no elements in this process"):
        perturbed_parameters(elsewhere(nn.Linear(5, 5), "bias", (5,)), include=lambda n, p: True)


def test_memory_that_was_freed_is_not_read() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight.data.untyped_storage().resize_(0)
    before = net[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"1\.weight has no elements in this process"):
        shrink_perturb_(net)
    assert torch.equal(net[0].weight, before)


# ---------------------------------------------------------------- nothing half-changed


def test_weights_from_inference_mode_are_refused_before_anything_changes() -> None:
    first = nn.Linear(3, 3)
    with torch.inference_mode():
        second = nn.Linear(3, 3)
    refused(nn.Sequential(first, second), r"1\.weight was made in inference mode: clone it first")
    with torch.inference_mode():
        shrink_perturb_(second)  # there it can be done


def lazy() -> nn.Module:
    return nn.LazyBatchNorm1d(affine=False)


def from_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return nn.BatchNorm1d(3, affine=False)


class Raises(nn.BatchNorm1d):
    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        if hasattr(self, "armed"):
            raise RuntimeError("not now")


def raises() -> nn.Module:
    norm = Raises(3)
    norm.armed = True
    return norm


@pytest.mark.parametrize("build", [lazy, from_inference_mode, raises])
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_statistics_that_cannot_be_reset_leave_everything_as_it_was(build: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), build())
    net[1].running_mean.fill_(5)
    before = {name: value.clone() for name, value in nn.Sequential(*net[:2]).state_dict().items()}
    with pytest.raises(ValueError, match=r'^2: its running statistics cannot be reset.*running_stats="keep"'):
        shrink_perturb_(net)
    for name, value in nn.Sequential(*net[:2]).state_dict().items():
        assert torch.equal(value, before[name]), name
    shrink_perturb_(net, running_stats="keep")


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_default_device_has_no_say(device: str) -> None:
    net = nn.Sequential(nn.Embedding(6, 4, padding_idx=1), nn.Linear(4, 4), nn.BatchNorm1d(4))
    twin = copy.deepcopy(net)
    with torch.device(device):
        shrink_perturb_(net, generator=seeded())
        shrink_perturb_(net, 0.5, 0.0)
    shrink_perturb_(shrink_perturb_(twin, generator=seeded()), 0.5, 0.0)
    for name, value in net.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


@pytest.mark.parametrize(
    ("dtype", "sigma", "options"),
    [
        (torch.float16, 1e6, {}),
        (torch.float32, 1e38, {}),
        (torch.float16, 3e5, {"noise": "relative"}),
        (torch.bfloat16, 1e39, {}),
    ],
)
def test_results_that_would_be_infinite_are_refused(dtype: torch.dtype, sigma: float, options: Any) -> None:
    net = nn.Linear(8, 8).to(dtype)
    before = net.weight.detach().clone()
    with pytest.raises(ValueError, match="weight would get infinite values in torch"):
        shrink_perturb_(net, 0.5, sigma, **options)
    assert torch.equal(net.weight, before)
    shrink_perturb_(net, 0.5, 100.0)
    assert net.weight.isfinite().all()


# ---------------------------------------------------------------- modules without their class


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(5, 4, padding_idx=0), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.words(x))
        return out


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(Small())  # type: ignore[no-any-return]


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(Small(), torch.tensor([1, 2]))  # type: ignore[no-any-return]


def exported() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(Small().eval(), (torch.tensor([1, 2]),)).module()


def unflattened() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.unflatten(torch.export.export(Small().eval(), (torch.tensor([1, 2]),)))


@pytest.mark.parametrize("build", [scripted, traced, exported, unflattened])
@pytest.mark.parametrize("inside", [False, True])
def test_a_module_that_lost_its_classes_is_refused(build: Any, inside: bool) -> None:
    net = build()
    net = nn.Sequential(nn.Linear(2, 2), net) if inside else net
    where = "1" if inside else "module"
    refused(net, rf"{where} is a (TorchScript module|module of torch\.export)")


def test_a_symbolic_trace_keeps_its_classes() -> None:
    net = torch.fx.symbolic_trace(Small())
    shrink_perturb_(net)
    assert net.words.weight[0].tolist() == [0] * 4


# ---------------------------------------------------------------- running statistics


class Statistics(nn.Module):
    """Somebody's layer that keeps statistics."""

    def __init__(self, trainable: bool = True, counter: str | None = None) -> None:
        super().__init__()
        if trainable:
            self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.full((3,), 5.0))
        self.register_buffer("running_var", torch.full((3,), 9.0))
        if counter:
            self.register_buffer(counter, torch.tensor(1000))


class FrozenBatchNorm2d(Statistics):
    pass


class WithMethod(Statistics):
    def reset_running_stats(self) -> None:
        self.running_mean.zero_()
        self.running_var.fill_(1)


def reset(net: nn.Module) -> bool:
    means = [b for name, b in net.named_buffers() if name.endswith("running_mean")]
    assert len({bool(b.eq(0).all()) for b in means}) == 1
    return bool(means[0].eq(0).all())


@pytest.mark.parametrize(
    ("layer", "is_reset", "is_told"),
    [
        (Statistics(), False, True),
        (Statistics(trainable=False), False, True),
        (Statistics(trainable=False, counter="count"), False, True),
        (FrozenBatchNorm2d(trainable=False), False, False),
        (Statistics(counter="num_batches_tracked"), True, False),
        (Statistics(trainable=False, counter="num_batches_tracked"), True, False),
        (WithMethod(), True, False),
        (Statistics(counter="num_batches_tracked").requires_grad_(False), False, False),
    ],
)
def test_statistics_of_layers_that_are_not_pytorch_s(layer: Any, is_reset: bool, is_told: bool) -> None:
    net = nn.Sequential(nn.Linear(3, 3), copy.deepcopy(layer))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shrink_perturb_(net)
    assert reset(net) == is_reset
    assert [str(w.message) for w in caught] == is_told * [
        "the running statistics of 1 stay: no num_batches_tracked beside them"
    ]
    if is_reset and "num_batches_tracked" in net[1]._buffers:
        assert net[1].num_batches_tracked == 0


def measured(affine: bool) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(3, affine=affine)
    norm.running_mean.fill_(5.0)
    return norm


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("network_trains", [True, False])
def test_what_is_frozen_and_in_evaluation_mode_keeps_its_statistics(
    affine: bool, network_trains: bool
) -> None:
    backbone = nn.Sequential(nn.Linear(3, 3), measured(affine)).requires_grad_(False)
    net = nn.Sequential(backbone, nn.Linear(3, 3)).train(network_trains)
    backbone.eval()
    shrink_perturb_(net)
    assert not reset(net)


def test_a_layer_put_into_evaluation_mode_by_itself_keeps_its_statistics() -> None:
    net = nn.Sequential(nn.Linear(3, 3), measured(False)).train()
    net[1].eval()
    shrink_perturb_(net)
    assert not reset(net)


@pytest.mark.parametrize("affine", [True, False])
def test_a_trained_network_that_was_put_into_evaluation_mode_is_reset(affine: bool) -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 3), measured(affine)), nn.Linear(3, 3)).eval()
    shrink_perturb_(net)
    assert reset(net)


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_relative_noise_is_in_units_of_each_parameter_s_own_deviation(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Linear(30, 20), nn.Conv1d(4, 5, 3)).to(dtype)
    with torch.no_grad():
        net[1].weight.mul_(100).add_(7)
    old = state_of(net)
    shrink_perturb_(net, 0.5, 0.2, noise="relative", generator=seeded())
    generator, wide = seeded(), torch.float64 if dtype == torch.float64 else torch.float32
    for name in ("0.weight", "1.weight"):
        before = old[name].to(wide)
        eps = torch.empty(before.shape, dtype=wide).normal_(generator=generator)
        expected = (0.5 * before + 0.2 * (before.std() * eps)).to(dtype)
        torch.testing.assert_close(net.get_parameter(name).detach(), expected)


def test_relative_noise_of_a_single_element_and_of_constants_is_none() -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(3, 3))
    nn.init.constant_(net[1].weight, 2.0)
    before = net[0].weight.item()
    shrink_perturb_(net, 0.5, 1.0, noise="relative")
    assert net[0].weight.item() == before / 2
    assert net[1].weight.eq(1).all()


def test_relative_noise_of_a_computed_weight_and_beside_a_padding_row() -> None:
    net = nn.Sequential(nn.Embedding(50, 8, padding_idx=0), parametrizations.weight_norm(nn.Linear(8, 40)))
    old = net[1].weight.detach().clone()
    shrink_perturb_(net, 1.0, 0.5, noise="relative", generator=seeded())
    assert net[0].weight[0].eq(0).all()
    assert (net[1].weight - old).std().item() == pytest.approx(0.5 * old.std().item(), rel=0.15)


def test_wrong_words_for_noise_are_refused() -> None:
    with pytest.raises(TypeError, match="noise must be a module or a function"):
        shrink_perturb_(nn.Linear(2, 2), noise="relativ")  # type: ignore[arg-type]


class Held(nn.Module):
    """As wrappers hold a network."""

    def __init__(self, attribute: str, net: nn.Module) -> None:
        super().__init__()
        self.add_module(attribute, net)


@pytest.mark.parametrize("attribute", ["module", "_orig_mod", "_fsdp_wrapped_module", "_module", "other"])
@pytest.mark.parametrize("side", ["network", "noise", "both"])
def test_what_wrappers_put_into_names_does_not_matter(attribute: str, side: str) -> None:
    net, fresh = nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3))
    old = net[0].weight.detach().clone()
    one: nn.Module = Held(attribute, net) if side != "noise" else net
    other: nn.Module = Held(attribute, fresh) if side != "network" else fresh
    if attribute == "other" and side != "both":
        with pytest.raises(ValueError, match="noise has no parameter"):
            shrink_perturb_(one, 0.5, 0.1, noise=other)
        return
    shrink_perturb_(one, 0.5, 0.1, noise=other)
    assert torch.equal(net[0].weight, 0.5 * old + 0.1 * fresh[0].weight)


def test_data_parallel_takes_a_plain_network_for_noise() -> None:
    net = nn.Linear(3, 3)
    old, fresh = net.weight.detach().clone(), nn.Linear(3, 3)
    shrink_perturb_(nn.DataParallel(net), 0.5, 0.1, noise=fresh)
    assert torch.equal(net.weight, 0.5 * old + 0.1 * fresh.weight)


def test_a_large_network_is_drawn_in_a_second_thread_and_gets_the_same() -> None:
    net = nn.Sequential(*(nn.Linear(300, 300) for _ in range(8)), nn.Linear(300, 300).bfloat16())
    old = state_of(net)
    shrink_perturb_(net, 0.5, 0.1, generator=seeded())
    generator = seeded()
    for name in (f"{i}.weight" for i in range(9)):
        eps = torch.empty(300, 300).normal_(generator=generator)
        expected = (0.5 * old[name].float() + 0.1 * eps).to(old[name].dtype)
        assert torch.equal(net.get_parameter(name), expected), name


def test_an_error_while_drawing_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    import wsp.perturb

    net = nn.Sequential(*(nn.Linear(400, 400) for _ in range(5)))
    cut = wsp.perturb._cut

    def fails(flat: Tensor, device: torch.device) -> Any:
        if flat.data_ptr() == net[4].weight.data_ptr():
            raise MemoryError("as if")
        return cut(flat, device)

    monkeypatch.setattr(wsp.perturb, "_cut", fails)
    with pytest.raises(MemoryError, match="as if"):
        shrink_perturb_(net)


def test_signs_of_zero_are_kept() -> None:
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[-0.0, 0.0]]))
    shrink_perturb_(net, 0.5, 0.0)
    assert [math.copysign(1, v) for v in net.weight[0].tolist()] == [-1, 1]
