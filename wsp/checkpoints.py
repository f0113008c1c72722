"""Shrink and perturb a checkpoint file: ``python -m wsp shrink-perturb OLD NEW``.

A state dict holds names and tensors, and no word on what they are for. What is assumed:

- a floating-point tensor with two or more dimensions is a trainable weight, unless its name says
  that it is a bias, a scale, a mask, a codebook or another constant, or it holds zeros and ones
  only. Frozen weights look the same as others: name them in ``exclude``;
- ``running_mean`` and ``running_var`` with a ``num_batches_tracked`` beside them are a BatchNorm's,
  and become 0 and 1. Without it nothing would measure them again, and they stay;
- no embedding has a padding row.

Everything else is copied as it is. ``--dry-run`` writes nothing and says what would be touched,
and why the rest would not be. Where that is too coarse, load the network and call
:func:`wsp.perturb.shrink_perturb_` yourself.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import torch
from torch import Tensor, nn

from wsp._checks import check_parameter
from wsp._files import SHARD, beside, check_free, check_state_dict, kind_of, load, load_index, weights_in
from wsp._files import save as _save
from wsp._state_dicts import FRESH_STATISTICS, TOLD, Plan, leaf_of, make_plan, norm_dimension
from wsp.perturb import perturbed_parameters, shrink_perturb_

__all__ = ["add_arguments", "run", "shrink_perturb_file", "shrink_perturb_state_dict_"]


def shrink_perturb_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    lamda: float = 0.5,
    sigma: float = 0.01,
    *,
    seed: int = 0,
    key: str | None = None,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    running_stats: Literal["reset", "keep"] = "reset",
    force: bool = False,
) -> list[str]:
    """Read a state dict, shrink and perturb its weights, and write it to another file.

    Parameters
    ----------
    source, target : path
        Pickled files (``.pt``, ``.pth``, ``.bin``, ``.ckpt``, ``.pth.tar``), ``.safetensors``
        files, or the ``.index.json`` of a checkpoint in shards, which are then written beside the
        new index. A pickled file is loaded with ``weights_only=True``, so that it cannot run code.
        The target appears only when it is complete. Its tensors are on the CPU.
    lamda, sigma : float
        As in :func:`wsp.perturb.shrink_perturb_`.
    seed : int
        Seed of the noise. A pickled file gets the noise that the network itself would get from
        ``generator=torch.Generator().manual_seed(seed)``; a ``.safetensors`` file keeps its
        tensors, and so draws, in an order of its own. In shards the noise of a tensor hangs on the
        seed and on its name, so not on which tensors are in the same file.
    key : str, optional
        Where the weights stand in a training checkpoint: ``"state_dict"``, ``"model"``, or
        ``"model.weights"`` one dictionary further in. What stands beside them is copied.
    exclude, include : sequence of str
        Names of tensors to leave alone, running statistics too, and of tensors that are weights
        whatever they look like. ``*`` stands for anything; a name that is written out always
        matches, and ``module.`` and ``_orig_mod.`` may be left out.
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
        If the file is damaged, is not a state dict, or cannot be written as asked; if a weight is
        computed from others in a way that the file does not tell, shares memory with what is to
        stay, or would become infinite. Then nothing is written.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> torch.save(torch.nn.Linear(2, 3).state_dict(), folder / "old.pt")
    >>> shrink_perturb_file(folder / "old.pt", folder / "new.pt", lamda=0.4, sigma=0.1, seed=1)
    ['weight']
    """
    job = _Job(lamda, sigma, exclude, include, running_stats)
    source, target = Path(source), Path(target)
    if kind_of(source) != kind_of(target):
        raise ValueError(f"{target}: must be of the same kind as {source.name}")
    check_free(target, force)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to 2**32 - 1, not {seed}")
    if kind_of(source) == "index":
        return _shrink_perturb_shards(source, target, job, seed, force)
    content, metadata = load(source)
    state = _weights_of(source, content, key)
    by_name = seed if SHARD.search(source.name) else None
    names = _apply_(state, job, torch.Generator().manual_seed(seed), by_name)
    if not names:
        raise ValueError(f"{source}: no parameter to change in this shard: give the .index.json of all")
    # The whole file is written beside the target and then takes its name, all at once.
    with beside(target, _size_of(state)) as part:
        _save(content, metadata, part)
        check_free(target, force)
        os.replace(part, target)
    return names


def _shrink_perturb_shards(source: Path, target: Path, job: _Job, seed: int, force: bool) -> list[str]:
    """One shard after the other, so that a checkpoint need not fit into memory; names at the end."""
    index = load_index(source)
    shards = sorted(set(index["weight_map"].values()))
    for shard in shards:
        check_free(target.with_name(shard), force)
    job = replace(job, names=index["weight_map"])
    names, parts = [], []
    try:
        for shard in shards:
            content, metadata = load(source.with_name(shard))
            state = _weights_of(source.with_name(shard), content, None)
            names += _apply_(state, job, None, seed)
            part = target.with_name(f".{os.getpid()}-new-{shard}")
            parts.append((part, target.with_name(shard)))
            with beside(target.with_name(shard), _size_of(state)) as written:
                _save(content, metadata, written)
                os.replace(written, part)
        if not names:
            raise ValueError(f"{source}: no tensor to change")
        with beside(target, 0) as written:
            _save(index, None, written)
            parts.append((written, target))
            for part, final in parts:
                os.replace(part, final)
    finally:
        for part, _ in parts:
            if os.path.exists(part):
                part.unlink()
    return names


def shrink_perturb_state_dict_(
    state: Mapping[str, Any],
    lamda: float = 0.5,
    sigma: float = 0.01,
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
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
    exclude, include, running_stats
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
    check_state_dict(state)
    return _apply_(state, _Job(lamda, sigma, exclude, include, running_stats), generator)


@dataclass(frozen=True)
class _Job:
    """What to do, and how to find what to do it to."""

    lamda: float
    sigma: float
    exclude: Sequence[str]
    include: Sequence[str]
    running_stats: str
    names: Collection[str] | None = None  # of all shards

    def plan(self, state: Mapping[str, Any]) -> Plan:
        if self.running_stats not in ("reset", "keep"):
            raise ValueError(f'running_stats must be "reset" or "keep", not {self.running_stats!r}')
        return make_plan(state, self.exclude, self.include, self.running_stats, self.names)


def _apply_(
    state: Mapping[str, Any], job: _Job, generator: torch.Generator | None, seed: int | None = None
) -> list[str]:
    """Carry out a plan in place; with a seed each tensor's noise comes from it and its name alone."""
    plan = job.plan(state)
    weights = {name: nn.Parameter(value.detach()) for name, value in _writable(plan.weights).items()}
    for name, pair in plan.norms.items():
        g, v = _writable({n: state[n] for n in pair}).values()
        dim = norm_dimension(g, v)
        weights[name] = nn.Parameter(torch._weight_norm(v, g, -1 if dim is None else dim))
    _writable(plan.statistics)
    weights = {name: weights[name] for name in state if name in weights}  # in the file's order
    if not weights and seed is not None:
        return []  # a shard may have none
    if plan.warnings and job.lamda < 1:
        names = ", ".join(plan.warnings)
        warnings.warn(f"shrinking does nothing under spectral_norm, which rescales: {names}", stacklevel=3)

    changed = list(perturbed_parameters(_network(weights), include=_all))
    groups = [weights] if seed is None else [{name: weights[name]} for name in changed]
    for group in groups:
        if seed is not None:
            generator = torch.Generator().manual_seed(_seed_for(seed, *group))
        shrink_perturb_(
            _network(group), job.lamda, job.sigma, include=_all, running_stats="keep", generator=generator
        )
    if (job.lamda, job.sigma) != (1, 0):
        with torch.no_grad():
            for name, value in plan.statistics.items():
                value.fill_(FRESH_STATISTICS[leaf_of(name)])
            for name, (norm, direction) in plan.norms.items():
                dim = norm_dimension(state[norm], state[direction])
                state[norm].copy_(torch.norm_except_dim(weights[name], 2, -1 if dim is None else dim))
                state[direction].copy_(weights[name])
    return changed


def _network(weights: Mapping[str, nn.Parameter]) -> nn.Module:
    """A module with parameters of any names, dots and all."""
    module = nn.Module()
    module._parameters.update(weights)
    return module


def _all(name: str, parameter: Tensor) -> bool:
    return True


def _writable(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for name, value in tensors.items():
        if value.is_inference() and not torch.is_inference_mode_enabled():
            raise ValueError(f"{name} was made in inference mode: clone it first, outside of that mode")
        if value.layout != torch.strided or value.is_meta:
            raise ValueError(f"{name} is sparse or without values: make it a plain tensor or exclude it")
    return tensors


def _seed_for(seed: int, *names: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {' '.join(names)}".encode()).digest()[:8], "big")


def _weights_of(path: Path, content: Any, key: str | None) -> Mapping[str, Any]:
    try:
        state = weights_in(content, key)
        check_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return cast(Mapping[str, Any], state)


def _size_of(state: Mapping[str, Any]) -> int:
    return sum(value.numel() * value.element_size() for value in state.values() if isinstance(value, Tensor))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``python -m wsp shrink-perturb`` to a parser."""
    add = parser.add_argument
    add(
        "source",
        metavar="IN",
        help="a state dict or training checkpoint (.pt, .pth, .bin, .ckpt, .pth.tar), a .safetensors file, "
        "or the .index.json of one in shards (give that one: a shard alone is only a part)",
    )
    add("target", metavar="OUT", nargs="?", help="the file to write, of the same kind; not with --dry-run")
    add("--lamda", type=float, default=0.5, help="fraction of each weight to keep (%(default)s)")
    add("--sigma", type=float, default=0.01, help="standard deviation of the noise (%(default)s)")
    add("--seed", type=int, default=0, help="seed of the noise (%(default)s)")
    add("--key", help="where the weights are in a training checkpoint: state_dict, model, ...")
    names: dict[str, Any] = {"metavar": "NAME", "action": "append", "default": []}
    add("--exclude", **names, help="leave tensors of this name alone, as 'backbone.*'; may be repeated")
    add("--include", **names, help="tensors of this name are weights, whatever they look like; likewise")
    add(
        "--running-stats",
        choices=["reset", "keep"],
        default="reset",
        help="what to do with the running statistics of normalization layers (%(default)s)",
    )
    add("--force", action="store_true", help="replace OUT if it exists")
    add(
        "--dry-run",
        action="store_true",
        help="write nothing; list what would be touched, with shapes and norms, and why the rest would not",
    )


def run(args: argparse.Namespace) -> int:
    """Carry out ``python -m wsp shrink-perturb`` and return its exit code."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            lines, notes = _dry_run(args) if args.dry_run else _carry_out(args)
    except ValueError as error:
        _say(f"error: {' '.join(str(error).split())}", sys.stderr)
        return 2
    for warning in caught:
        _say(f"warning: {' '.join(str(warning.message).split())}", sys.stderr)
    for note in notes:
        _say(f"note: {note}", sys.stderr)
    for line in lines:
        _say(line, sys.stdout)
    return 0


def _carry_out(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    if args.target is None:
        raise ValueError("OUT is missing: which file is to be written? (Or say --dry-run.)")
    names = shrink_perturb_file(
        args.source,
        args.target,
        args.lamda,
        args.sigma,
        seed=args.seed,
        key=args.key,
        exclude=args.exclude,
        include=args.include,
        running_stats=args.running_stats,
        force=args.force,
    )
    notes = []
    for _, plan in _plans(args):
        told = {n: why for n, why in plan.left.items() if why.endswith(TOLD)}
        notes += [f"{name} is left alone: {why}" for name, why in told.items()]
    return [f"{args.target}: {len(names)} weights shrunk and perturbed: {', '.join(names)}"], notes


def _dry_run(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """A line for every tensor, in the file's order."""
    lines, count = [], 0
    for state, plan in _plans(args):
        pairs = {name for pair in plan.norms.values() for name in pair}
        for name, value in state.items():
            shape = tuple(value.shape) if isinstance(value, Tensor) else ""
            if name in plan.weights or name in pairs:
                try:
                    check_parameter(name, value)
                except ValueError as error:
                    lines.append(f"refuse  {name}  {shape}  {error}")
                    continue
                count += 1
                norm = torch.linalg.vector_norm(value.detach().to(torch.float64)).item()
                lines.append(f"change  {name}  {shape}  norm {norm:.6g}")
            elif name in plan.statistics:
                lines.append(f"reset   {name}  {shape}")
            else:
                lines.append(f"leave   {name}  {shape}  {plan.left[name]}")
    return [*lines, f"{args.source}: {count} tensors would be changed; nothing was written"], []


def _plans(args: argparse.Namespace) -> Iterator[tuple[Mapping[str, Any], Plan]]:
    """What is done with every tensor, file by file."""
    source = Path(args.source)
    job = _Job(args.lamda, args.sigma, args.exclude, args.include, args.running_stats)
    paths = [source]
    if kind_of(source) == "index":
        index = load_index(source)
        job = replace(job, names=index["weight_map"])
        paths = [source.with_name(shard) for shard in sorted(set(index["weight_map"].values()))]
    for path in paths:
        state = _weights_of(path, load(path)[0], args.key)
        yield state, job.plan(state)


def _say(line: str, stream: TextIO) -> None:
    """Print what a code page can show; a sign that it lacks must not lose a run."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream)
