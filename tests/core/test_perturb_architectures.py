"""A tour of real architectures: which of their parameters are shrunk and perturbed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsp.perturb import perturbed_parameters, shrink_perturb_


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.shortcut = nn.Sequential()
        if stride > 1 or inner != outer:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return torch.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.stages = nn.Sequential(Block(8, 8), Block(8, 16, 2))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.stages(self.stem(x)).mean((2, 3)))
        return out


class Language(nn.Module):
    """A decoder as in GPT: output tied to the input, a mask among the buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8, padding_idx=0)
        self.positions = nn.Embedding(6, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        out: Tensor = self.head(self.norm(self.layers(h, mask=self.mask)))
        return out


class Vision(nn.Module):
    """As in ViT: its class token and positions are bare parameters of three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, 8))
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.cls_token.expand(len(x), -1, -1), h], 1) + self.pos_embed
        out: Tensor = self.head(self.norm(self.attention(h, h, h)[0][:, 0]))
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 4)
        self.lstm = nn.LSTM(4, 6, 2, bidirectional=True, batch_first=True, proj_size=3)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(self.words(x))[0][:, -1])
        return out


ATTENTION = ["in_proj_weight", "out_proj.weight"]
FEED_FORWARD = ["linear1.weight", "linear2.weight"]
ENCODER = [f"self_attn.{name}" for name in ATTENTION] + FEED_FORWARD
DECODER = [f"{kind}.{name}" for kind in ("self_attn", "multihead_attn") for name in ATTENTION]
TRANSFORMER = [
    *[f"encoder.layers.{i}.{name}" for i in range(2) for name in ENCODER],
    *[f"decoder.layers.{i}.{name}" for i in range(2) for name in DECODER + FEED_FORWARD],
]

TOUR = {
    "transformer": (
        lambda: nn.Transformer(8, 2, 2, 2, 16, dropout=0.0, batch_first=True),
        (torch.randn(2, 4, 8), torch.randn(2, 3, 8)),
        TRANSFORMER,
    ),
    "resnet": (
        ResNet,
        (torch.randn(4, 3, 8, 8),),
        [
            "stem.0.weight",
            "stages.0.conv1.weight",
            "stages.0.conv2.weight",
            "stages.1.conv1.weight",
            "stages.1.conv2.weight",
            "stages.1.shortcut.0.weight",
            "head.weight",
        ],
    ),
    "lstm": (
        Recurrent,
        (torch.arange(8).view(2, 4),),
        [
            "words.weight",
            *[
                f"lstm.weight_{kind}_l{layer}{back}"
                for layer in range(2)
                for back in ("", "_reverse")
                for kind in ("ih", "hh", "hr")
            ],
            "head.weight",
        ],
    ),
    "language": (
        Language,
        (torch.arange(12).view(2, 6) % 11,),
        [
            "tokens.weight",
            "positions.weight",
            *[f"layers.layers.{i}.{name}" for i in range(2) for name in ENCODER],
        ],
    ),
    "vision": (
        Vision,
        (torch.randn(2, 3, 8, 8),),
        ["cls_token", "pos_embed", "patches.weight"]
        + [f"attention.{name}" for name in ATTENTION]
        + ["head.weight"],
    ),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", TOUR)
def test_the_weights_are_touched_and_nothing_else(name: str) -> None:
    build, inputs, expected = TOUR[name]
    torch.manual_seed(0)
    net = build()
    net(*inputs).square().mean().backward()  # running statistics and gradients exist
    assert list(perturbed_parameters(net)) == expected
    old = {key: value.clone() for key, value in net.state_dict().items()}

    shrink_perturb_(net, 0.5, 0.01, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    for key in expected:
        noise = torch.empty(old[key].shape).normal_(generator=generator)
        target = 0.5 * old[key] + 0.01 * noise
        if key == "tokens.weight":
            target[0] = old[key][0]
        assert torch.equal(net.get_parameter(key), target), key
    aliases = {"head.weight"} if name == "language" else set()
    for key, value in net.state_dict().items():
        if key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert value.eq(1 if key.endswith("var") else 0).all(), key
        elif key not in {*expected, *aliases}:
            assert torch.equal(value, old[key]), key

    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    net(*inputs).square().mean().backward()
    optimizer.step()


def test_tied_embeddings_stay_tied() -> None:
    net = shrink_perturb_(Language())
    assert net.head.weight is net.tokens.weight


def test_stale_statistics_are_why_running_stats_are_reset() -> None:
    """In eval mode, a network that keeps them sees signals half as large as it was told."""
    torch.manual_seed(0)
    x = torch.randn(256, 3, 8, 8)
    spread = {}
    for choice in ("keep", "reset"):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, momentum=None))
        net(x)
        shrink_perturb_(net, 0.5, 0.0, running_stats=choice)
        if choice == "reset":
            net(x)  # one pass in train mode, as update_bn makes
        spread[choice] = net.eval()(x).std().item()
    assert spread["keep"] == pytest.approx(0.5, abs=0.01)
    assert spread["reset"] == pytest.approx(1.0, abs=0.01)


# Two models of transformers, built from a configuration: nothing is downloaded.


def test_gpt2_of_transformers(transformers: Any) -> None:
    net = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=11, n_positions=6, n_embd=8, n_layer=1, n_head=2)
    )
    assert list(perturbed_parameters(net)) == [
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "transformer.h.0.attn.c_attn.weight",
        "transformer.h.0.attn.c_proj.weight",
        "transformer.h.0.mlp.c_fc.weight",
        "transformer.h.0.mlp.c_proj.weight",
    ]
    old = net.lm_head.weight.detach().clone()
    shrink_perturb_(net, 0.5, 0.0)
    assert torch.equal(net.lm_head.weight, 0.5 * old)


def test_bert_of_transformers(transformers: Any) -> None:
    net = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=11,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=6,
        )
    )
    layer = "encoder.layer.0."
    assert list(perturbed_parameters(net)) == [
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        *[f"{layer}attention.self.{name}.weight" for name in ("query", "key", "value")],
        f"{layer}attention.output.dense.weight",
        f"{layer}intermediate.dense.weight",
        f"{layer}output.dense.weight",
        "pooler.dense.weight",
    ]
    padding = net.embeddings.word_embeddings.weight[0].detach().clone()
    shrink_perturb_(net)
    assert torch.equal(net.embeddings.word_embeddings.weight[0], padding)
