"""Reading and writing checkpoint files: pickled ones, .safetensors, and .safetensors in shards."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickletools
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".pt.tar", ".tar")
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")


def kind_of(path: Path) -> str:
    """``pickled``, ``safetensors`` or ``index``, by the ending."""
    name = path.name.lower()
    if name.endswith(".index.json"):
        return "index"
    if name.endswith(".safetensors"):
        return "safetensors"
    if name.endswith(PICKLED):
        return "pickled"
    raise ValueError(
        f"{path}: must end in .pt, .pth or .safetensors (or .bin, .ckpt, .pth.tar, .safetensors.index.json)"
    )


def check_free(target: Path, force: bool) -> None:
    if os.path.isdir(target):
        raise ValueError(f"{target}: is a folder")
    if not os.path.isdir(target.parent):
        raise ValueError(f"{target}: there is no folder {target.parent}")
    if os.path.exists(target) and not force:
        raise ValueError(f"{target}: exists already; --force replaces it")


# ------------------------------------------------------------------ reading


def load(path: Path) -> tuple[Any, dict[str, str] | None]:
    """Return what a file holds, and the notes that a .safetensors file carries."""
    if not os.path.isfile(path):
        raise ValueError(f"{path}: there is no such file")
    try:
        if kind_of(path) == "safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in sorted(file.keys())}, file.metadata()
        return torch.load(path, map_location="cpu", weights_only=True), None
    except ImportError as error:
        raise ValueError(f"{path}: to read it, install safetensors") from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"{path}: {_why_unreadable(path, error)}") from error


def _why_unreadable(path: Path, error: Exception) -> str:
    reason = f"cannot be read as a state dict ({type(error).__name__}): it "
    classes, is_dictionary = _pickled_classes(path)
    if not classes:
        return (
            f"{reason}is damaged, or holds more than tensors. "
            "Save one with torch.save(network.state_dict(), path)"
        )
    where = '["model"]' if is_dictionary else ""
    return (
        f"{reason}holds more than tensors, objects of {', '.join(classes[:3])}, and to load these can "
        f"run any code. If you trust it, take the weights out in Python: "
        f'network = torch.load("{path}", weights_only=False){where}; '
        f'torch.save(network.state_dict(), "weights.pt")'
    )


def _pickled_classes(path: Path) -> tuple[list[str], bool]:
    """The classes that a pickle asks for beyond PyTorch's, and whether it is a dictionary; nothing is run."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickle = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            operations = list(pickletools.genops(archive.read(pickle)))
    except Exception:  # no such archive: damaged, or of another kind
        return [], False
    strings: list[str] = []
    classes: dict[str, None] = {}
    for operation, argument, _ in operations:
        if operation.name == "GLOBAL":
            classes[str(argument).replace(" ", ".")] = None
        elif operation.name == "STACK_GLOBAL" and len(strings) >= 2:
            classes[".".join(strings[-2:])] = None
        elif isinstance(argument, str):
            strings.append(argument)
    known = (
        "torch._utils",
        "collections.OrderedDict",
        "torch.FloatStorage",
        "torch.LongStorage",
        "torch.Half",
    )
    first = next((o.name for o, _, _ in operations if o.name not in ("PROTO", "FRAME")), "")
    return [c for c in classes if not c.startswith(known)], first == "EMPTY_DICT"


def load_index(path: Path) -> dict[str, Any]:
    """Read the index of a checkpoint in shards, and check that the shards are there."""
    if not os.path.isfile(path):
        raise ValueError(f"{path}: there is no such file")
    try:
        index = json.loads(path.read_bytes())
        shards = set(index["weight_map"].values())
        plain = all(isinstance(s, str) and s == os.path.basename(s) for s in shards)
    except Exception as error:  # damaged, or JSON of another shape
        raise ValueError(f"{path}: is not the index of a checkpoint, with a weight_map") from error
    if not shards or not plain:
        raise ValueError(f"{path}: its weight_map must give names of files in the same folder")
    for shard in sorted(shards):
        kind_of(Path(shard))
        if not os.path.isfile(path.with_name(shard)):
            raise ValueError(f"{path}: its shard {shard} is missing")
    return dict(index)


def weights_in(checkpoint: Any, key: str | None) -> Any:
    """The part of a training checkpoint under a key: ``state_dict``, or ``model.state_dict`` inside."""
    if key is None:
        return checkpoint
    part, rest = checkpoint, key
    while rest:
        if not isinstance(part, Mapping):
            raise ValueError(f"key: {key!r} is not in the file")
        names = [n for n in part if isinstance(n, str) and (rest == n or rest.startswith(n + "."))]
        if not names:
            inside = ", ".join(str(n) for n in list(part)[:8])
            raise ValueError(f"key: {key!r} is not in the file, which holds {inside}")
        name = max(names, key=len)
        part, rest = part[name], rest[len(name) + 1 :]
    return part


def check_state_dict(state: object, path: str = "") -> None:
    if not isinstance(state, Mapping):
        raise ValueError(f"not a state dict, but a {type(state).__name__}")
    odd = [n for n, v in state.items() if not isinstance(v, Tensor) and not str(n).endswith("_extra_state")]
    inside = list(_state_dicts_in(state))
    if odd and inside:
        dictionary = next((n for n, v in state.items() if isinstance(v, Mapping)), odd[0])
        raise ValueError(
            f"not a state dict: {dictionary!r} holds another dictionary. The weights seem to be in "
            f"{' or '.join(inside)}: save that one alone, or say --key {inside[0]}"
        )
    for name, value in state.items():
        if not isinstance(name, str):
            raise ValueError(f"not a state dict: its key {name!r} is not a name")
        if name not in odd:
            continue
        if isinstance(value, Mapping):
            raise ValueError(f"not a state dict: {name!r} holds another dictionary")
        raise ValueError(f"not a state dict: {name!r} holds no tensor, but {type(value).__name__}")


def _state_dicts_in(checkpoint: Mapping[Any, Any], before: str = "", depth: int = 3) -> Iterator[str]:
    """The keys under which dictionaries of named tensors stand, not those of optimizers."""
    for key, value in checkpoint.items():
        if isinstance(key, str) and isinstance(value, Mapping) and value and "param_groups" not in value:
            if all(isinstance(n, str) for n in value) and any(
                isinstance(v, Tensor) and v.dim() >= 2 for v in value.values()
            ):
                yield before + key
            elif depth > 1:
                yield from _state_dicts_in(value, f"{before}{key}.", depth - 1)


# ------------------------------------------------------------------ writing


def save(content: Any, metadata: dict[str, str] | None, path: Path) -> None:
    if kind_of(path) == "safetensors":
        from safetensors.torch import save_file

        save_file(dict(content), path, metadata=metadata)
    elif kind_of(path) == "index":
        path.write_text(json.dumps(content, indent=2) + "\n")
    else:
        torch.save(content, path)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())  # on the disk before it takes the target's name


@contextlib.contextmanager
def beside(target: Path, size: int) -> Iterator[Path]:
    """Where to write a file that then takes the target's name; gone if anything fails."""
    part = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        yield part
    except ValueError:
        raise
    except Exception as error:  # torch and safetensors have errors of their own for a full disk
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        with contextlib.suppress(OSError):
            full = full or shutil.disk_usage(target.parent).free < size
        what = "the disk is full" if full else "cannot be written"
        raise ValueError(f"{target}: {what}: {error}") from error
    finally:
        if os.path.exists(part):
            part.unlink()
