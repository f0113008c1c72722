"""The article's network: how it begins, and that a file brings it back or is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsp.lab import network as networks
from wsp.lab.network import MLP, ConvNet, ThinResNet, image_mlp, load_network, save_network


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(p, q) for (a, p), (b, q) in pairs)


def test_is_the_article_s_network() -> None:
    net = MLP(generator=seeded())
    layers = [(type(m).__name__, *getattr(m, "weight", torch.empty(0)).shape) for m in net]
    assert layers == [("Linear", 10, 6), ("Tanh", 0), ("Linear", 10, 10), ("Tanh", 0), ("Linear", 3, 10)]
    assert all(p.dtype == torch.float64 and p.requires_grad for p in net.parameters())
    assert not any(m.bias.any() for m in net if isinstance(m, nn.Linear))


def test_weights_are_xavier_uniform() -> None:
    """Glorot and Bengio, equation 16: uniform within the root of 6 over inputs plus outputs."""
    net = MLP((300, 200, 100), generator=seeded())
    for layer in (net[0], net[2]):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.999 * bound
        assert abs(layer.weight.mean()) < 0.01 * bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)


def test_one_generator_one_network_and_the_global_one_stays() -> None:
    state = torch.get_rng_state()
    one, twin, other = MLP(generator=seeded(1)), MLP(generator=seeded(1)), MLP(generator=seeded(2))
    assert same(one, twin) and not same(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    MLP()
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("activation, function", [("tanh", torch.tanh), ("relu", torch.relu)])
def test_forward_is_affine_maps_and_activations(activation: str, function: Any) -> None:
    net = MLP((4, 7, 5, 2), activation, generator=seeded(), dtype=torch.float32)
    rows = torch.randn(6, 4, generator=seeded(9))
    layer = rows
    for k in (0, 2, 4):
        layer = layer @ net[k].weight.T + net[k].bias
        layer = function(layer) if k < 4 else layer
    torch.testing.assert_close(net(rows), layer)
    assert (net.sizes, net.activation) == ((4, 7, 5, 2), activation)


def test_a_slice_is_an_ordinary_sequential() -> None:
    net = MLP(generator=seeded())
    hidden = net[:4]
    assert type(hidden) is nn.Sequential and hidden[0] is net[0]
    assert hidden(torch.zeros(2, 6, dtype=torch.float64)).shape == (2, 10)


@pytest.mark.parametrize("sizes", [(), (6,), (6, 0, 3), (6, -1, 3), (6, 2.5, 3), ("6", "3")])
def test_bad_sizes(sizes: Any) -> None:
    with pytest.raises(ValueError, match="at least two positive integers"):
        MLP(sizes)


def test_bad_activation() -> None:
    with pytest.raises(ValueError, match="unknown activation 'gelu': choose from tanh, relu"):
        MLP(activation="gelu")


def test_saved_and_loaded(tmp_path: Path) -> None:
    net = MLP((6, 4, 3), "relu", generator=seeded(3))
    save_network(net, tmp_path / "net.pt")
    state = torch.get_rng_state()
    back = load_network(tmp_path / "net.pt", (6, 4, 3), "relu")
    assert same(net, back) and back.activation == "relu"
    assert torch.equal(torch.get_rng_state(), state)
    # As the article does it: the file is a state dict, nothing of ours.
    loaded = torch.load(tmp_path / "net.pt", weights_only=True)
    assert list(loaded) == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.skipif(os.name != "posix", reason="a limit on the size of files as POSIX has it")
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """In a process that may write no file longer than 100 bytes, as on a disk with no more room."""
    path = tmp_path / "net.pt"
    save_network(MLP(generator=seeded()), path)
    before = path.read_bytes()
    code = f"""
import resource, signal
from wsp.lab.network import MLP, save_network
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
save_network(MLP(), {str(path)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = f"OSError: {path}: could not be written (File too large); the file is kept as it was"
    assert done.returncode == 1 and said in done.stderr
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_pickled_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(b"old")
    net = MLP(generator=seeded())
    net._register_state_dict_hook(lambda module, state, *_: state.update(extra=lambda: None))
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_network(net, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


class Bomb:
    """Unpickling it would leave a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for save in (torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb, protocol=2))):
        save(Bomb(trace), tmp_path / "bomb.pt")
        with pytest.raises(ValueError, match=r"bomb\.pt: not the weights of a"):
            load_network(tmp_path / "bomb.pt")
        assert not trace.exists()


def damaged(kind: str, path: Path) -> None:
    """Write a file that is no 6-(10-10)-3 state dict."""
    net = MLP(generator=seeded())
    save_network(net, path)
    whole = path.read_bytes()
    contents: dict[str, Any] = {
        "empty": b"",
        "text": b"weights: none\n",
        "half": whole[: len(whole) // 2],
        "all but the end": whole[:-1000],
        "zeros": bytes(1000),
        "another layout": MLP((6, 10, 3)).state_dict(),
        "another width": MLP((6, 10, 11, 3)).state_dict(),
        "a tensor": torch.zeros(3),
        "a list": [1, 2],
        "nothing": None,
        "numbers": dict.fromkeys(net.state_dict(), 1.0),
        "a weight missing": {k: v for k, v in net.state_dict().items() if k != "2.bias"},
        "a checkpoint": {"model": net.state_dict(), "epoch": 3},
        "a whole module": net,
    }
    if isinstance(contents[kind], bytes):
        path.write_bytes(contents[kind])
    else:
        torch.save(contents[kind], path)


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "text",
        "half",
        "all but the end",
        "zeros",
        "another layout",
        "another width",
        "a tensor",
        "a list",
        "nothing",
        "numbers",
        "a weight missing",
        "a checkpoint",
        "a whole module",
    ],
)
def test_bad_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    damaged(kind, path)
    with pytest.raises(ValueError) as refused:
        load_network(path)
    assert str(refused.value).startswith(f"{path}: not the weights of a (6, 10, 10, 3) network (")
    assert "expected a state dict" in str(refused.value) and "\n" not in str(refused.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        load_network(tmp_path / "nowhere.pt")


def test_a_loaded_network_trains_on_its_own(tmp_path: Path) -> None:
    net = MLP(generator=seeded())
    save_network(net, tmp_path / "net.pt")
    before: list[Tensor] = [p.detach().clone() for p in net.parameters()]
    back = load_network(tmp_path / "net.pt")
    with torch.no_grad():
        for p in back.parameters():
            p += 1
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


def test_seeded_fixes_what_is_built_and_leaves_no_trace() -> None:
    state = torch.get_rng_state()
    built = []
    for seed in (5, 5, 6):
        with networks.seeded(seed):
            built.append(ConvNet())
    assert same(built[0], built[1]) and not same(built[0], built[2])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert same(ConvNet(), built[0])  # PyTorch's own initialization, nothing else


def test_image_mlp_is_affine_maps_and_activations() -> None:
    net = image_mlp((2, 3, 3), (7, 5), 4, "relu")
    images = torch.randn(6, 2, 3, 3, generator=seeded(9))
    layer = images.reshape(6, 18)
    linears = [m for m in net if isinstance(m, nn.Linear)]
    for k, linear in enumerate(linears):
        layer = layer @ linear.weight.T + linear.bias
        layer = layer.clamp(min=0) if k < 2 else layer
    torch.testing.assert_close(net(images), layer)
    assert [m.weight.shape for m in linears] == [(7, 18), (5, 7), (4, 5)]


def test_logistic_regression_is_an_image_mlp_without_hidden_layers() -> None:
    net = image_mlp((3, 32, 32), hidden=())
    assert [type(m) for m in net] == [nn.Flatten, nn.Linear]
    assert sum(p.numel() for p in net.parameters()) == 30_730


def test_image_mlp_refuses_an_unknown_activation() -> None:
    with pytest.raises(ValueError, match="unknown activation 'gelu': choose from tanh, relu"):
        image_mlp(activation="gelu")


def test_the_paper_s_resnet() -> None:
    """18 weight layers of 16 to 128 channels; down to 4 by 4 pixels before the mean."""
    net = ThinResNet()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) + 1 == 18
    assert [m.out_channels for m in convolutions if m.kernel_size == (1, 1)] == [32, 64, 128]
    assert all(m.bias is None for m in convolutions)
    per_block = [2 * 9 * 16 * 16] * 2
    for inputs, outputs in ((16, 32), (32, 64), (64, 128)):
        per_block += [9 * inputs * outputs + 9 * outputs**2 + inputs * outputs, 18 * outputs**2]
    weights = 9 * 3 * 16 + sum(per_block) + 1280
    assert sum(p.numel() for p in net.parameters() if p.dim() > 1) == weights
    images = torch.randn(2, 3, 32, 32, generator=seeded(1))
    assert nn.Sequential(*list(net)[:-3])(images).shape == (2, 128, 4, 4)
    assert net(images).shape == (2, 10)


def test_a_residual_block_adds_its_input() -> None:
    block = networks.ResidualBlock(4, 4, stride=1).eval()
    images = torch.randn(2, 4, 6, 6, generator=seeded(2))
    nn.init.zeros_(block.residual[-1].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(block(images), images.clamp(min=0))
    smaller = networks.ResidualBlock(4, 8, stride=2).eval()
    nn.init.zeros_(smaller.residual[-1].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(smaller(images), smaller.shortcut(images).clamp(min=0))
    assert smaller(images).shape == (2, 8, 3, 3)
