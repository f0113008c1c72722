"""Files that other people have: what must come out right, or be refused by name."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import wsp.checkpoints
from wsp.checkpoints import add_arguments, run, shrink_perturb_file, shrink_perturb_state_dict_
from wsp.perturb import shrink_perturb_

old_style = pytest.mark.filterwarnings("ignore:.*(deprecated|torch.nn.utils):FutureWarning")


def call(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(word) for word in words]))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a refused call prints."""
    assert call(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("error: ")
    return printed.err


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).state_dict())


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


# ---------------------------------------------------------------- where the weights are


CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "ImageNet example": (
        {"epoch": 3, "arch": "resnet18", "state_dict": state(), "best_acc1": 0.5},
        "state_dict",
    ),
    "Lightning": (
        {
            "epoch": 3,
            "pytorch-lightning_version": "2.5",
            "state_dict": state(),
            "loops": {"fit_loop": {"n": 3}},
            "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}],
        },
        "state_dict",
    ),
    "weights first": (
        {"model": state(), "optimizer": {"state": {}, "param_groups": []}, "epoch": 3},
        "model",
    ),
    "optimizer first": ({"optimizer": {"state": {}, "param_groups": []}, "model": state()}, "model"),
    "one further in": ({"epoch": 1, "ckpt": {"model": state(), "step": 2}}, "ckpt.model"),
    "a name with a dot": ({"epoch": 1, "model.ema": state()}, "model.ema"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("ending", [".pt", ".ckpt", ".bin", ".pth.tar", ".PT", ".Pth"])
def test_a_training_checkpoint_is_taken_by_its_key(
    kind: str, ending: str, tmp_path: Path, capsys: Any
) -> None:
    content, key = CHECKPOINTS[kind]
    old, new = tmp_path / f"old{ending}", tmp_path / f"new{ending}"
    torch.save(content, old)
    line = refused(capsys, old, new)
    assert f"The weights seem to be in {key}" in line and f"--key {key}" in line
    assert call(old, new, "--key", key, "--seed", 3) == 0
    found = load(new)
    expected = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    expected.load_state_dict(state())
    shrink_perturb_(expected, generator=torch.Generator().manual_seed(3))
    assert list(found) == list(content), "what stands beside the weights is copied"
    inside = found
    for part in [key] if key in found else key.split("."):
        inside = inside[part]
    for name, value in expected.state_dict().items():
        assert torch.equal(inside[name], value), name


def test_two_sets_of_weights_are_both_named_and_a_wrong_key_lists_what_there_is(
    tmp_path: Path, capsys: Any
) -> None:
    torch.save({"epoch": 3, "state_dict": state(), "state_dict_ema": state()}, tmp_path / "a.pt")
    assert "in state_dict or state_dict_ema" in refused(capsys, tmp_path / "a.pt", tmp_path / "b.pt")
    line = refused(capsys, tmp_path / "a.pt", tmp_path / "b.pt", "--key", "model")
    assert "key: 'model' is not in the file, which holds epoch, state_dict, state_dict_ema" in line
    line = refused(capsys, tmp_path / "a.pt", tmp_path / "b.pt", "--key", "epoch.x")
    assert "is not in the file" in line
    save_file(state(), tmp_path / "a.safetensors")
    refused(capsys, tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--key", "model")


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("content", "where"), [(lambda: {"epoch": 3, "model": Whole(), "ema": None}, '["model"]'), (Whole, "")]
)
def test_a_pickled_network_is_refused_with_the_two_lines_that_help(
    content: Any, where: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "best.pt"
    torch.save(content(), old)
    line = refused(capsys, old, tmp_path / "new.pt")
    assert "test_checkpoint_kinds.Whole" in line
    first = f'network = torch.load("{old}", weights_only=False){where}'
    second = 'torch.save(network.state_dict(), "weights.pt")'
    assert first in line and second in line
    monkeypatch.chdir(tmp_path)
    exec(f"import torch\n{first}\n{second}")  # they do help
    assert shrink_perturb_file("weights.pt", "new.pt") == ["layer.weight"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_what_wrappers_put_before_names_changes_nothing(prefix: str) -> None:
    wrapped = {prefix + name: value.clone() for name, value in state().items()}
    plain = state()
    for one in wrapped, plain:
        shrink_perturb_state_dict_(one, generator=torch.Generator().manual_seed(1))
    for name, value in plain.items():
        assert torch.equal(value, wrapped[prefix + name]), name
    if prefix != "model.":
        assert shrink_perturb_state_dict_(wrapped, exclude=["0.*"]) == [f"{prefix}2.weight"]


# ---------------------------------------------------------------- shards


TENSORS = {f"layers.{i}.weight": torch.full((16, 16), float(i)) for i in range(6)} | {
    "norm.bias": torch.ones(16)
}


def shards(folder: Path, cuts: list[list[int]], ending: str = "safetensors") -> Path:
    folder.mkdir()
    stem = "model" if ending == "safetensors" else "pytorch_model"
    weight_map = {}
    names = list(TENSORS)
    for k, cut in enumerate(cuts):
        file = f"{stem}-{k + 1:05d}-of-{len(cuts):05d}.{ending}"
        part = {names[i]: TENSORS[names[i]].clone() for i in cut}
        weight_map |= dict.fromkeys(part, file)
        if ending == "safetensors":
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def all_of(index: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in set(json.loads(index.read_text())["weight_map"].values()):
        path = index.with_name(file)
        found |= load_file(path) if path.suffix == ".safetensors" else load(path)
    return found


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_the_noise_of_a_tensor_does_not_hang_on_its_shard(ending: str, tmp_path: Path) -> None:
    results = []
    for k, cuts in enumerate(
        [[[0, 1, 2, 3, 4, 5, 6]], [[0, 1, 2], [3, 4, 5], [6]], [[5, 0], [6, 3, 1], [2, 4]]]
    ):
        old = shards(tmp_path / f"old{k}", cuts, ending)
        new = tmp_path / f"new{k}"
        new.mkdir()
        names = shrink_perturb_file(old, new / old.name, 0.5, 0.1, seed=3)
        assert sorted(names) == sorted(TENSORS)[:6]
        assert json.loads((new / old.name).read_text()) == json.loads(old.read_text())
        results.append(all_of(new / old.name))
    noise = {}
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]) and torch.equal(value, results[2][name]), name
        noise[name] = value - 0.5 * TENSORS[name]
    assert torch.equal(results[0]["norm.bias"], TENSORS["norm.bias"])
    one, other = noise["layers.0.weight"], noise["layers.1.weight"]
    assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.3
    assert 0.08 < one.std() < 0.12


def test_a_shard_alone_gets_the_noise_that_the_index_gives_it(tmp_path: Path) -> None:
    old = shards(tmp_path / "old", [[0, 1], [2, 3], [4, 5], [6]])
    (tmp_path / "new").mkdir()
    shrink_perturb_file(old, tmp_path / "new" / old.name)
    shard = "model-00002-of-00004.safetensors"
    shrink_perturb_file(old.with_name(shard), tmp_path / "alone.safetensors")
    for name, value in load_file(tmp_path / "alone.safetensors").items():
        assert torch.equal(value, load_file(tmp_path / "new" / shard)[name])


def test_shards_are_written_all_or_none(tmp_path: Path, capsys: Any) -> None:
    old = shards(tmp_path / "old", [[0, 1], [2, 3, 4, 5, 6]])
    new = tmp_path / "new" / old.name
    new.parent.mkdir()
    second = old.with_name("model-00002-of-00002.safetensors")
    whole = load_file(second)
    save_file(whole | {"layers.9.weight": torch.full((2, 2), float("nan"))}, second)
    assert "NaN or infinite values in layers.9.weight" in refused(capsys, old, new)
    assert list(new.parent.iterdir()) == []
    save_file(whole, second)
    (new.parent / second.name).write_bytes(b"precious")
    assert "exists already" in refused(capsys, old, new)
    assert [p.name for p in new.parent.iterdir()] == [second.name]
    assert call(old, new, "--force") == 0
    capsys.readouterr()
    second.unlink()
    assert f"its shard {second.name} is missing" in refused(capsys, old, new, "--force")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../x.safetensors"}}',
        '{"weight_map": []}',
        "[" * 100_000,
    ],
)
def test_a_damaged_index_is_one_line(content: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    (tmp_path / "new").mkdir()
    line = refused(
        capsys, tmp_path / "model.safetensors.index.json", tmp_path / "new" / "model.safetensors.index.json"
    )
    assert "index" in line or "weight_map" in line


def test_statistics_whose_counter_is_in_another_shard_are_reset(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    files = {
        "a-00001-of-00002.safetensors": {"bn.running_mean": torch.ones(2), "w.weight": torch.ones(2, 2)},
        "a-00002-of-00002.safetensors": {"bn.num_batches_tracked": torch.tensor(3)},
    }
    for file, part in files.items():
        save_file(part, tmp_path / "old" / file)
    weight_map = {name: file for file, part in files.items() for name in part}
    index = tmp_path / "old" / "a.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "new").mkdir()
    shrink_perturb_file(index, tmp_path / "new" / index.name)
    assert all_of(tmp_path / "new" / index.name)["bn.running_mean"].eq(0).all()


# ---------------------------------------------------------------- what is a weight


MASK = torch.tril(torch.ones(6, 6)).view(1, 1, 6, 6)
M = torch.arange(12.0).view(3, 4) / 7
LEFT: dict[str, tuple[str, Tensor]] = {
    "nanoGPT's mask": ("h.0.attn.bias", MASK),
    "a mask under any name": ("h.0.attn.tri", MASK),
    "Swin's mask": ("attn_mask", torch.tensor([[0.0, -100.0], [-100.0, 0.0]])),
    "BART's bias": ("final_logits_bias", torch.zeros(1, 9)),
    "rsl_rl mean": ("actor_obs_normalizer._mean", M),
    "rsl_rl deviation": ("actor_obs_normalizer._std", M),
    "pixel mean": ("pixel_mean", torch.ones(3, 1, 1)),
    "GPTQ scales": ("layers.0.q_proj.scales", M),
    "scale of fp8": ("layers.0.weight_scale", M),
    "absmax": ("layers.0.weight.absmax", M),
    "VQ codebook": ("quantizer._codebook.embed", M),
    "EMA of a codebook": ("quantizer.embed_avg", M),
    "layer scale": ("blocks.0.ls1.gamma", torch.ones(4, 1, 1)),
    "GRN": ("stages.0.mlp.grn.weight", torch.ones(1, 1, 1, 4)),
    "norm of two dimensions": ("encoder.layer_norm.weight", M),
    "logit scale": ("logit_scale", torch.ones(2, 1, 1)),
    "bias_k": ("attn.bias_k", torch.zeros(1, 1, 4)),
    "relative bias": ("encoder.relative_attention_bias.weight", M),
    "anchors": ("model.24.anchors", M),
    "rotary": ("rotary.cos_cached", M),
    "IA3": ("layers.0.ia3_l.default", torch.ones(4, 1)),
    "an integer weight": ("layers.0.qweight", torch.ones(2, 2, dtype=torch.int32)),
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_no_weight_is_left_alone_and_told(kind: str, tmp_path: Path, capsys: Any) -> None:
    name, value = LEFT[kind]
    torch.save({"proj.weight": M.clone(), name: value}, tmp_path / "old.pt")
    assert call(tmp_path / "old.pt", tmp_path / "new.pt") == 0
    assert torch.equal(load(tmp_path / "new.pt")[name], value)
    printed = capsys.readouterr()
    assert printed.out.endswith(": 1 weights shrunk and perturbed: proj.weight\n")
    if value.is_floating_point():
        assert f"note: {name} is left alone: " in printed.err
        assert call(tmp_path / "old.pt", tmp_path / "new.pt", "--force", "--include", name) == 0
        assert not torch.equal(load(tmp_path / "new.pt")[name], value)


def test_all_zeros_or_all_ones_may_be_weights() -> None:
    values = {"a.weight": torch.zeros(3, 3), "c.weight": torch.ones(3, 3), "lora_B": torch.zeros(3, 2)}
    assert shrink_perturb_state_dict_(values) == list(values)


def test_a_pruned_weight_keeps_its_mask() -> None:
    net = prune.l1_unstructured(nn.Linear(6, 6), "weight", 0.5)
    mask = net.weight_mask.clone()
    assert shrink_perturb_state_dict_(net.state_dict()) == ["weight_orig"]
    assert torch.equal(net.weight_mask, mask)


@pytest.mark.parametrize("reset", ["reset", "keep"])
def test_the_counter_decides_what_is_reset(reset: Any) -> None:
    values = {
        "w.weight": torch.ones(2, 2),
        "bn.running_mean": torch.full((2,), 5.0),
        "bn.running_var": torch.full((2,), 9.0),
        "bn.num_batches_tracked": torch.tensor(7),
        "frozen.running_mean": torch.full((2,), 5.0),
        "frozen.running_var": torch.full((2,), 9.0),
        "rl.running_mean": torch.full((2,), 5.0),
        "rl.count": torch.tensor(1e6),
    }
    shrink_perturb_state_dict_(values, running_stats=reset)
    assert values["bn.running_mean"].eq(0 if reset == "reset" else 5).all()
    assert values["bn.num_batches_tracked"] == (0 if reset == "reset" else 7)
    for name in ("frozen", "rl"):
        assert values[f"{name}.running_mean"].eq(5).all()


# ---------------------------------------------------------------- names, ties and computed weights


@pytest.mark.parametrize("name", ["layers[0].weight", "a[1-2]*?.weight", "x!.weight"])
def test_a_name_that_is_written_out_always_matches(name: str) -> None:
    values = {name: torch.ones(2, 2), "layers[1].weight": torch.ones(2, 2)}
    assert shrink_perturb_state_dict_(values, exclude=[name]) == ["layers[1].weight"]


@pytest.mark.parametrize("rows", [slice(None), slice(1, 3)])
def test_memory_shared_with_what_is_excluded_is_an_error(rows: slice) -> None:
    whole = torch.randn(4, 4)
    values = {"a.weight": whole, "c.weight": whole[rows], "d.weight": torch.ones(2, 2)}
    before = whole.clone()
    for excluded, other in (("a.weight", "c.weight"), ("c.weight", "a.weight")):
        with pytest.raises(ValueError, match=rf"{other} shares memory with {excluded}.*exclude both"):
            shrink_perturb_state_dict_(values, exclude=[excluded])
    assert torch.equal(whole, before)
    assert shrink_perturb_state_dict_(values, exclude=["a.*", "c.*"]) == ["d.weight"]


@old_style
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_weight_norm_in_a_file_follows_the_rule(wrap: Any, dim: int | None) -> None:
    net = wrap(nn.Linear(4, 3), dim=dim)
    with torch.no_grad():
        max(net.parameters(), key=lambda p: p.numel()).mul_(50)
    net(torch.ones(1, 4))
    before = net.weight.detach().clone()
    names = shrink_perturb_state_dict_(net.state_dict(), 0.5, 0.1, generator=torch.Generator().manual_seed(1))
    net(torch.ones(1, 4))
    eps = torch.empty(3, 4).normal_(generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.weight.detach(), 0.5 * before + 0.1 * eps)
    assert len(names) == 1
    one = next(name for name in net.state_dict() if name.endswith(("_g", "original0")))
    with pytest.raises(ValueError, match="make one weight: exclude both or none"):
        shrink_perturb_state_dict_(net.state_dict() | {"w.weight": torch.ones(2, 2)}, exclude=[one])


@old_style
@pytest.mark.parametrize("wrap", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm_in_a_file_is_warned_of(wrap: Any, tmp_path: Path, capsys: Any) -> None:
    torch.save(wrap(nn.Linear(4, 4)).state_dict(), tmp_path / "old.pt")
    assert call(tmp_path / "old.pt", tmp_path / "new.pt") == 0
    printed = capsys.readouterr()
    assert (
        printed.err.startswith("warning: shrinking does nothing under spectral_norm")
        and "weight" in printed.out
    )
    with pytest.warns(UserWarning, match="spectral_norm.*orig"):
        shrink_perturb_state_dict_(wrap(nn.Linear(4, 4)).state_dict())


@pytest.mark.parametrize(
    "net",
    [
        lambda: parametrizations.orthogonal(nn.Linear(6, 3)),
        lambda: parametrizations.orthogonal(nn.Linear(4, 4), use_trivialization=False),
        lambda: parametrizations.orthogonal(nn.Linear(6, 3), orthogonal_map="householder"),
    ],
)
def test_other_parametrizations_in_a_file_are_refused_by_name(net: Any) -> None:
    values = nn.Sequential(net(), nn.Linear(3, 2)).state_dict()
    before = {name: value.clone() for name, value in values.items()}
    with pytest.raises(
        ValueError, match=r"0\.parametrizations\.weight\.\S+ is what a weight is computed from"
    ):
        shrink_perturb_state_dict_(values)
    for name, value in values.items():
        assert torch.equal(value, before[name]), name
    assert shrink_perturb_state_dict_(values, exclude=["0.parametrizations.*"]) == ["1.weight"]


def test_tensors_from_inference_mode_are_refused_by_name() -> None:
    with torch.inference_mode():
        values = nn.Linear(3, 3).state_dict()
        norm = nn.BatchNorm1d(3).state_dict()
    with pytest.raises(ValueError, match=r"^weight was made in inference mode"):
        shrink_perturb_state_dict_(values)
    weights = {"w.weight": torch.ones(2, 2), **norm}
    with pytest.raises(ValueError, match=r"^running_mean was made in inference mode"):
        shrink_perturb_state_dict_(weights)
    assert weights["w.weight"].eq(1).all()


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_are_one_line(tmp_path: Path, capsys: Any) -> None:
    for k, values in enumerate((torch.eye(4).to_sparse(), torch.eye(4).to_sparse_csr())):
        torch.save({"w.weight": values}, tmp_path / f"{k}.pt")
        assert "w.weight is sparse" in refused(capsys, tmp_path / f"{k}.pt", tmp_path / "new.pt")


def test_infinite_results_are_refused(tmp_path: Path, capsys: Any) -> None:
    torch.save({"w.weight": torch.ones(8, 8).half()}, tmp_path / "old.pt")
    line = refused(capsys, tmp_path / "old.pt", tmp_path / "new.pt", "--sigma", 1e6)
    assert "w.weight would get infinite values in torch.float16" in line
    assert not (tmp_path / "new.pt").exists()


# ---------------------------------------------------------------- what is said


def test_a_dry_run_lists_everything_and_writes_nothing(tmp_path: Path, capsys: Any) -> None:
    values = state() | {"attn.bias": MASK, "rl.running_mean": torch.ones(2)}
    torch.save(values, tmp_path / "old.pt")
    assert call(tmp_path / "old.pt", "--dry-run", "--exclude", "2.*") == 0
    lines = capsys.readouterr().out.splitlines()
    norm = values["0.weight"].norm().item()
    assert lines[0] == f"change  0.weight  (4, 3)  norm {norm:.6g}"
    assert lines[1].startswith("leave   0.bias  (4,)  fewer than two dimensions")
    assert "reset   1.running_mean  (4,)" in lines
    assert "leave   2.weight  (2, 4)  excluded" in lines
    assert "leave   attn.bias  (1, 1, 6, 6)  a bias or a scale, by its name" in lines
    assert any(line.startswith("leave   rl.running_mean  (2,)  statistics without") for line in lines)
    assert lines[-1].endswith("1 tensors would be changed; nothing was written")
    assert len(lines) == len(values) + 1
    assert [p.name for p in tmp_path.iterdir()] == ["old.pt"]
    assert "OUT is missing" in refused(capsys, tmp_path / "old.pt")


def test_a_dry_run_of_shards(tmp_path: Path, capsys: Any) -> None:
    old = shards(tmp_path / "old", [[0, 1], [2, 3, 4, 5, 6]])
    assert call(old, "--dry-run") == 0
    assert capsys.readouterr().out.count("change  layers.") == 6


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("file write failed")])
def test_a_full_disk_is_named(
    error: Exception, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(content: Any, metadata: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    torch.save(state(), tmp_path / "old.pt")
    monkeypatch.setattr(wsp.checkpoints, "_save", full)
    monkeypatch.setattr("shutil.disk_usage", lambda path: argparse.Namespace(free=3))
    assert "new.pt: the disk is full" in refused(capsys, tmp_path / "old.pt", tmp_path / "new.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["old.pt"]


def test_a_code_page_that_lacks_a_sign_does_not_lose_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"größe.→.weight": torch.ones(2, 2)}, tmp_path / "old.pt")
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", out)
    assert call(tmp_path / "old.pt", tmp_path / "new.pt") == 0
    out.flush()
    printed = out.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert printed.endswith(": größe.\\u2192.weight\n")


def test_torch_alone_will_do_and_safetensors_is_imported_only_for_its_files(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2, 2)}, tmp_path / "old.pt")
    code = (
        "import sys\n"
        "for name in ('safetensors', 'numpy', 'scipy', 'pandas', 'tqdm', 'matplotlib', 'sklearn', 'pooch'):\n"
        "    sys.modules[name] = None\n"
        "from wsp.checkpoints import shrink_perturb_file as f\n"
        f"folder = {str(tmp_path)!r}\n"
        "print(f(folder + '/old.pt', folder + '/new.pt'))\n"
        "open(folder + '/old.safetensors', 'wb').close()\n"
        "try: f(folder + '/old.safetensors', folder + '/new.safetensors')\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "['a.weight']"
    assert "install safetensors" in done.stdout
