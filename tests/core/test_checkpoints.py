"""`python -m wsp shrink-perturb`: a checkpoint in, a checkpoint out."""

from __future__ import annotations

import argparse
import math
import os
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import wsp.checkpoints
from wsp.checkpoints import add_arguments, run, shrink_perturb_file, shrink_perturb_state_dict_
from wsp.perturb import shrink_perturb_


class Network(nn.Module):
    """Tied weights, running statistics, an integer buffer, half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4)
        self.norm = nn.BatchNorm1d(4)
        self.hidden = nn.Linear(4, 4).to(torch.bfloat16)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("order", torch.arange(12).view(3, 4))

    @classmethod
    def trained(cls) -> Network:
        torch.manual_seed(0)
        net = cls()
        net.norm(torch.randn(8, 4) * 3)
        return net


@pytest.fixture
def pt(tmp_path: Path) -> Path:
    path = tmp_path / "old.pt"
    torch.save(Network.trained().state_dict(), path)
    return path


@pytest.fixture
def safetensors(tmp_path: Path) -> Path:
    state = Network.trained().state_dict()
    del state["head.weight"]  # the format has no ties; the name that is left stands for both
    path = tmp_path / "old.safetensors"
    save_file(state, path, metadata={"format": "pt", "head.weight": "tokens.weight"})
    return path


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(word) for word in words]))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a refused call prints."""
    assert call(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    return printed.err


def load(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


def check_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


# ---------------------------------------------------------------- what is written


def test_a_pt_file_gets_what_the_network_would_get(pt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = pt.with_name("new.pth")
    assert call(pt, new, "--lamda", 0.4, "--sigma", 0.1, "--seed", 3) == 0
    assert capsys.readouterr().out == (
        f"{new}: 2 weights shrunk and perturbed: tokens.weight, hidden.weight\n"
    )
    net = shrink_perturb_(Network.trained(), 0.4, 0.1, generator=torch.Generator().manual_seed(3))
    state = load(new)
    check_same(state, net.state_dict())
    assert state["head.weight"].data_ptr() == state["tokens.weight"].data_ptr()
    assert not torch.equal(state["hidden.weight"], Network.trained().hidden.weight)
    Network().load_state_dict(state)


def test_reset_statistics_are_fresh_and_integers_stay_integers(pt: Path) -> None:
    new = pt.with_name("new.pt")
    shrink_perturb_file(pt, new)
    state = load(new)
    assert state["norm.running_mean"].tolist() == [0] * 4
    assert state["norm.running_var"].tolist() == [1] * 4
    assert state["norm.num_batches_tracked"].item() == 0
    assert state["norm.num_batches_tracked"].dtype == torch.int64
    check_same({"order": state["order"]}, {"order": torch.arange(12).view(3, 4)})


def test_statistics_can_be_kept(pt: Path) -> None:
    new = pt.with_name("new.pt")
    assert call(pt, new, "--running-stats", "keep") == 0
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(load(new)[f"norm.{name}"], load(pt)[f"norm.{name}"])


def test_one_and_zero_copy(pt: Path) -> None:
    new = pt.with_name("new.pt")
    assert call(pt, new, "--lamda", 1, "--sigma", 0) == 0
    check_same(load(new), load(pt))


def test_excluded_tensors_are_left_alone(pt: Path) -> None:
    new = pt.with_name("new.pt")
    assert shrink_perturb_file(pt, new, exclude=["tokens.*", "head.*"]) == ["hidden.weight"]
    assert torch.equal(load(new)["tokens.weight"], load(pt)["tokens.weight"])
    with pytest.raises(ValueError, match=r"head\.weight shares memory with tokens\.weight.*excluded"):
        shrink_perturb_file(pt, new, exclude=["tokens.*"], force=True)


def test_statistics_can_be_excluded_like_the_weights_of_a_frozen_part(pt: Path) -> None:
    new = pt.with_name("new.pt")
    shrink_perturb_file(pt, new, exclude=["norm.*"])
    assert torch.equal(load(new)["norm.running_mean"], load(pt)["norm.running_mean"])


def test_an_infinite_mask_is_named_and_can_be_excluded(tmp_path: Path, capsys: Any) -> None:
    """It looks like a weight, so it must not go through unseen."""
    net = nn.Linear(3, 3)
    net.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(3))
    torch.save(net.state_dict(), tmp_path / "old.pt")
    line = refused(capsys, tmp_path / "old.pt", tmp_path / "new.pt")
    assert "NaN or infinite values in mask: take an earlier checkpoint or leave it out" in line
    assert call(tmp_path / "old.pt", tmp_path / "new.pt", "--exclude", "mask") == 0


def test_a_safetensors_file_keeps_its_notes_and_its_names(safetensors: Path) -> None:
    new = safetensors.with_name("new.safetensors")
    assert call(safetensors, new, "--lamda", 0.4, "--sigma", 0.1, "--seed", 3) == 0
    with safe_open(new, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "head.weight": "tokens.weight"}
    old, state = load_file(safetensors), load_file(new)
    generator = torch.Generator().manual_seed(3)
    for name in ("hidden.weight", "tokens.weight"):  # in alphabetical order
        noise = torch.empty(old[name].shape).normal_(generator=generator)
        expected = (old[name].float() * 0.4 + noise * 0.1).to(old[name].dtype)
        assert torch.equal(state[name], expected)
        assert state[name].dtype == old[name].dtype
    assert state["norm.running_var"].tolist() == [1] * 4
    for name in ("hidden.bias", "norm.weight", "norm.bias", "order"):
        assert torch.equal(state[name], old[name])


def test_the_order_and_the_extras_of_a_state_dict_are_kept(tmp_path: Path) -> None:
    net = Network.trained()
    state = net.state_dict()
    state["norm._extra_state"] = {"note": 1}
    torch.save(state, tmp_path / "old.pt")
    shrink_perturb_file(tmp_path / "old.pt", tmp_path / "new.pt")
    new = torch.load(tmp_path / "new.pt", weights_only=True)
    assert isinstance(new, OrderedDict)
    assert list(new) == list(state)
    assert new["norm._extra_state"] == {"note": 1}
    assert new._metadata == state._metadata


def test_the_same_seed_makes_the_same_file_and_another_another(pt: Path) -> None:
    one, two, three = (pt.with_name(f"{i}.pt") for i in range(3))
    for path, seed in (one, 7), (two, 7), (three, 8):
        shrink_perturb_file(pt, path, seed=seed)
    check_same(load(one), load(two))
    assert not torch.equal(load(one)["hidden.weight"], load(three)["hidden.weight"])


def test_the_source_is_not_touched(pt: Path, safetensors: Path) -> None:
    for path in pt, safetensors:
        before = path.read_bytes()
        shrink_perturb_file(path, path.with_stem("new"))
        assert path.read_bytes() == before


# ---------------------------------------------------------------- how it is written


def test_never_over_an_existing_file_unless_forced(pt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = pt.with_name("new.pt")
    new.write_bytes(b"precious")
    assert "exists already; --force replaces it" in refused(capsys, pt, new)
    assert "exists already" in refused(capsys, pt, pt)
    assert new.read_bytes() == b"precious"
    assert call(pt, new, "--force") == 0
    assert call(pt, pt, "--force") == 0
    check_same(load(pt), load(new))


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_write_that_fails_leaves_nothing_behind(
    kind: str, pt: Path, safetensors: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    source = pt if kind == "pt" else safetensors
    target = source.with_stem("new")
    target.write_bytes(b"precious")
    files = sorted(source.parent.iterdir())
    save = wsp.checkpoints._save

    def full(state: Any, metadata: Any, path: Path) -> None:
        save(state, metadata, path)
        path.write_bytes(path.read_bytes()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wsp.checkpoints, "_save", full)
    assert "No space left on device" in refused(capsys, source, target, "--force")
    assert sorted(source.parent.iterdir()) == files
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_place_that_cannot_be_written_is_one_line_and_code_2(
    kind: str, pt: Path, safetensors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = pt if kind == "pt" else safetensors
    target = source.with_stem("x" * 300)
    assert "cannot be written" in refused(capsys, source, target)


def test_a_file_that_appears_meanwhile_is_not_overwritten(pt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = pt.with_name("new.pt")
    save = wsp.checkpoints._save

    def slow(state: Any, metadata: Any, path: Path) -> None:
        save(state, metadata, path)
        target.write_bytes(b"precious")

    monkeypatch.setattr(wsp.checkpoints, "_save", slow)
    with pytest.raises(ValueError, match="exists already"):
        shrink_perturb_file(pt, target)
    assert target.read_bytes() == b"precious"
    assert sorted(path.name for path in pt.parent.iterdir()) == ["new.pt", "old.pt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_the_new_file_may_be_read_like_any_other(pt: Path) -> None:
    target = pt.with_name("new.pt")
    old_mask = os.umask(0o022)
    try:
        shrink_perturb_file(pt, target)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


# ---------------------------------------------------------------- what is refused


def damaged(path: Path, source: Path, how: str) -> Path:
    content = source.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"not a checkpoint at all, just words\n" * 9,
            "first half": content[: len(content) // 2],
            "one byte short": content[:-1],
            "flipped": content[:8] + bytes(b ^ 255 for b in content[8:200]) + content[200:],
        }[how]
    )
    return path


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize("how", ["empty", "text", "first half", "one byte short", "flipped"])
def test_a_damaged_file_is_one_line_and_code_2(
    kind: str, how: str, pt: Path, safetensors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = pt if kind == "pt" else safetensors
    bad = damaged(source.with_stem("bad"), source, how)
    line = refused(capsys, bad, source.with_stem("new"))
    assert f"{bad}: cannot be read as a state dict" in line
    assert not source.with_stem("new").exists()


class Trap:
    """Unpickling this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickled_object_is_refused_and_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"weight": torch.ones(2, 2), "x": Trap(tmp_path / "sprung")}, tmp_path / "trap.pt")
    assert "holds more than tensors" in refused(capsys, tmp_path / "trap.pt", tmp_path / "new.pt")
    torch.save(Network(), tmp_path / "whole.pt")
    assert "network.state_dict()" in refused(capsys, tmp_path / "whole.pt", tmp_path / "new.pt")
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "new.pt").exists()


NOT_STATE_DICTS = [
    (torch.ones(2, 2), "not a state dict, but a Tensor"),
    ([torch.ones(2, 2)], "not a state dict, but a list"),
    ({"model": {"weight": torch.ones(2, 2)}, "epoch": 3}, "'model' holds another dictionary"),
    ({"weight": torch.ones(2, 2), "epoch": 3}, "'epoch' holds no tensor, but int"),
    ({0: torch.ones(2, 2)}, "its key 0 is not a name"),
    ({}, "no parameter to change"),
    ({"bias": torch.ones(3)}, "no parameter to change"),
    ({"weight": torch.ones(2, 2, dtype=torch.complex64)}, "weight is torch.complex64"),
    ({"a": torch.ones(2, 2), "b": torch.full((2, 2), math.nan)}, "NaN or infinite values in b"),
]


@pytest.mark.parametrize(("content", "reason"), NOT_STATE_DICTS)
def test_what_is_not_a_state_dict_is_refused(
    content: Any, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "old.pt")
    assert reason in refused(capsys, tmp_path / "old.pt", tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()


def test_bad_arguments_are_refused(pt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pt.parent
    new = folder / "new.pt"
    for words, reason in [
        ([folder / "none.pt", new], "there is no such file"),
        ([folder, new], "must end in .pt, .pth or .safetensors"),
        ([pt, folder / "new.npz"], "must end in .pt, .pth or .safetensors"),
        ([pt, folder / "new.safetensors"], "must be of the same kind as old.pt"),
        ([pt, folder / "nowhere" / "new.pt"], "there is no folder"),
        ([pt, new, "--lamda", 2], "lamda must be from 0"),
        ([pt, new, "--lamda", "nan"], "lamda must be from 0"),
        ([pt, new, "--sigma=-1"], "sigma must be a finite number"),
        ([pt, new, "--sigma", "inf"], "sigma must be a finite number"),
        ([pt, new, "--seed=-1"], "seed must be from 0"),
        ([pt, new, "--seed", 2**32], "seed must be from 0"),
        ([pt, new, "--exclude", "hiden.*"], "no tensor is called hiden.*"),
    ]:
        assert reason in refused(capsys, *words)
    (folder / "folder.pt").mkdir()
    assert "is a folder" in refused(capsys, pt, folder / "folder.pt", "--force")
    with pytest.raises(SystemExit, match="2"):
        call(pt, new, "--lamda", "half")
    assert sorted(path.name for path in folder.iterdir()) == ["folder.pt", "old.pt"]


# ---------------------------------------------------------------- in memory


def test_a_state_dict_in_memory_is_changed_in_place() -> None:
    net, twin = Network.trained(), Network.trained()
    names = shrink_perturb_state_dict_(net.state_dict(), generator=torch.Generator().manual_seed(2))
    assert names == ["tokens.weight", "hidden.weight"]
    shrink_perturb_(twin, generator=torch.Generator().manual_seed(2))
    check_same(net.state_dict(), twin.state_dict())


def test_names_of_any_kind_are_allowed() -> None:
    """Also those that a module could not have, or already has."""
    state = {name: torch.ones(2, 2) for name in ("", ".", "training", "a.b", "weights", "é")}
    assert shrink_perturb_state_dict_(state, 0.5, 0.0) == list(state)
    assert all(value.eq(0.5).all() for value in state.values())
