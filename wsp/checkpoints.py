"""Shrink and perturb a checkpoint file: ``python -m wsp shrink-perturb OLD NEW``.

A state dict holds names and tensors, and no word on what they are for. What is assumed:

- every floating-point tensor with two or more dimensions is a trainable weight. Frozen weights
  and buffers of that shape (positional encodings, masks) look the same: name them in ``exclude``;
- tensors called ``running_mean``, ``running_var`` and ``num_batches_tracked`` are running
  statistics, and become 0, 1 and 0;
- no embedding has a padding row.

Everything else is copied as it is. Where that is too coarse, load the network and call
:func:`wsp.perturb.shrink_perturb_` yourself.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wsp.perturb import perturbed_parameters, shrink_perturb_

__all__ = ["add_arguments", "run", "shrink_perturb_file", "shrink_perturb_state_dict_"]

FRESH_STATISTICS = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}


def shrink_perturb_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    lamda: float = 0.5,
    sigma: float = 0.01,
    *,
    seed: int = 0,
    exclude: Sequence[str] = (),
    running_stats: Literal["reset", "keep"] = "reset",
    force: bool = False,
) -> list[str]:
    """Read a state dict, shrink and perturb its weights, and write it to another file.

    Parameters
    ----------
    source, target : path
        ``.pt`` or ``.pth`` files, or ``.safetensors`` files. A pickled file is loaded with
        ``weights_only=True``, so that it cannot run code. The target appears only when it is
        complete. Its tensors are on the CPU.
    lamda, sigma : float
        As in :func:`wsp.perturb.shrink_perturb_`.
    seed : int
        Seed of the noise. A ``.pt`` file gets the noise that the network itself would get from
        ``generator=torch.Generator().manual_seed(seed)``; a ``.safetensors`` file keeps its
        tensors, and so draws, in an order of its own.
    exclude : sequence of str
        Names of tensors to leave alone, running statistics included; ``*`` stands for anything.
    running_stats : {"reset", "keep"}
        What to do with running statistics.
    force : bool
        Whether ``target`` may exist. It is then replaced.

    Returns
    -------
    list of str
        The names of the tensors that were shrunk and perturbed; of tied tensors, the first.

    Raises
    ------
    ValueError
        If the file is damaged, is not a state dict, or cannot be written as asked.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> torch.save(torch.nn.Linear(2, 3).state_dict(), folder / "old.pt")
    >>> shrink_perturb_file(folder / "old.pt", folder / "new.pt", lamda=0.4, sigma=0.1, seed=1)
    ['weight']
    """
    source, target = Path(source), Path(target)
    if _is_safetensors(source) != _is_safetensors(target):
        raise ValueError(f"{target}: must be of the same kind as {source.name}")
    _check_free(target, force)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to 2**32 - 1, not {seed}")
    state, metadata = _load(source)
    names = shrink_perturb_state_dict_(
        state,
        lamda,
        sigma,
        exclude=exclude,
        running_stats=running_stats,
        generator=torch.Generator().manual_seed(seed),
    )
    # The whole file is written beside the target and then takes its name, all at once.
    part = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        _save(state, metadata, part)
        _check_free(target, force)
        os.replace(part, target)
    except ValueError:
        raise
    except Exception as error:  # torch and safetensors have errors of their own for a full disk
        raise ValueError(f"{target}: cannot be written: {error}") from error
    finally:
        if os.path.exists(part):
            part.unlink()
    return names


def shrink_perturb_state_dict_(
    state: Mapping[str, Any],
    lamda: float = 0.5,
    sigma: float = 0.01,
    *,
    exclude: Sequence[str] = (),
    running_stats: Literal["reset", "keep"] = "reset",
    generator: torch.Generator | None = None,
) -> list[str]:
    """Shrink and perturb the weights of a state dict in place, and return their names.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        The state dict. Tensors that share memory are changed once and stay shared.
    lamda, sigma, generator
        As in :func:`wsp.perturb.shrink_perturb_`.
    exclude, running_stats
        As in :func:`shrink_perturb_file`.

    Returns
    -------
    list of str
        The names of the tensors that were shrunk and perturbed; of tied tensors, the first.

    Raises
    ------
    ValueError
        If this is not a state dict, or a weight cannot be shrunk and perturbed.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    >>> shrink_perturb_state_dict_(net.state_dict(), lamda=0.5, sigma=0.0)
    ['0.weight']
    """
    _check_state_dict(state)
    unused = [pattern for pattern in exclude if not any(_matches(n, [pattern]) for n in state)]
    if unused:
        raise ValueError(f"exclude: no tensor is called {', '.join(unused)}")
    weights = _Weights(state, exclude)
    names = list(perturbed_parameters(weights))
    shrink_perturb_(weights, lamda, sigma, running_stats="keep", generator=generator)
    if running_stats == "reset" and (lamda, sigma) != (1, 0):
        with torch.no_grad():
            for name, value in state.items():
                if _leaf(name) in FRESH_STATISTICS and not _matches(name, exclude):
                    value.fill_(FRESH_STATISTICS[_leaf(name)])
    return names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``python -m wsp shrink-perturb`` to a parser."""
    parser.add_argument("source", metavar="IN", help="a .pt, .pth or .safetensors state dict")
    parser.add_argument("target", metavar="OUT", help="the file to write, of the same kind")
    parser.add_argument(
        "--lamda", type=float, default=0.5, help="fraction of each weight to keep (%(default)s)"
    )
    parser.add_argument(
        "--sigma", type=float, default=0.01, help="standard deviation of the noise (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (%(default)s)")
    parser.add_argument(
        "--exclude",
        metavar="NAME",
        action="append",
        default=[],
        help="leave tensors of this name alone, for instance 'backbone.*'; may be repeated",
    )
    parser.add_argument(
        "--running-stats",
        choices=["reset", "keep"],
        default="reset",
        help="what to do with the running statistics of normalization layers (%(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> int:
    """Carry out ``python -m wsp shrink-perturb`` and return its exit code."""
    try:
        names = shrink_perturb_file(
            args.source,
            args.target,
            args.lamda,
            args.sigma,
            seed=args.seed,
            exclude=args.exclude,
            running_stats=args.running_stats,
            force=args.force,
        )
    except ValueError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    print(f"{args.target}: {len(names)} weights shrunk and perturbed: {', '.join(names)}")
    return 0


class _Weights(nn.Module):
    """The tensors of a state dict that count as weights, as the parameters of a module."""

    def __init__(self, state: Mapping[str, Any], exclude: Sequence[str]) -> None:
        super().__init__()
        self.weights = {
            name: nn.Parameter(value.detach())
            for name, value in state.items()
            if isinstance(value, Tensor)
            and (value.is_floating_point() or value.is_complex())
            and _leaf(name) not in FRESH_STATISTICS
            and not _matches(name, exclude)
        }

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self.weights.items()


def _check_state_dict(state: object) -> None:
    if not isinstance(state, Mapping):
        raise ValueError(f"not a state dict, but a {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(name, str):
            raise ValueError(f"not a state dict: its key {name!r} is not a name")
        if isinstance(value, Tensor) or _leaf(name) == "_extra_state":
            continue
        if isinstance(value, Mapping):
            raise ValueError(
                f"not a state dict: {name!r} holds another dictionary. "
                "If the weights are in there, save that one alone"
            )
        raise ValueError(f"not a state dict: {name!r} holds no tensor, but {type(value).__name__}")


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_free(target: Path, force: bool) -> None:
    if os.path.isdir(target):
        raise ValueError(f"{target}: is a folder")
    if not os.path.isdir(target.parent):
        raise ValueError(f"{target}: there is no folder {target.parent}")
    if os.path.exists(target) and not force:
        raise ValueError(f"{target}: exists already; --force replaces it")


def _is_safetensors(path: Path) -> bool:
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise ValueError(f"{path}: must end in .pt, .pth or .safetensors")
    return path.suffix == ".safetensors"


def _load(path: Path) -> tuple[Mapping[str, Any], dict[str, str] | None]:
    """Return a state dict, and the notes that a .safetensors file carries."""
    if not os.path.isfile(path):
        raise ValueError(f"{path}: there is no such file")
    try:
        if _is_safetensors(path):
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
                return tensors, file.metadata()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(
            f"{path}: cannot be read as a state dict ({type(error).__name__}): it is damaged, or "
            "holds more than tensors. Save one with torch.save(network.state_dict(), path)"
        ) from error
    try:
        _check_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return state, None


def _save(state: Mapping[str, Any], metadata: dict[str, str] | None, path: Path) -> None:
    if _is_safetensors(path):
        from safetensors.torch import save_file

        save_file(dict(state), path, metadata=metadata)
    else:
        torch.save(state, path)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())  # on the disk before it takes the target's name
