"""Shrink and perturb: keep a fraction of what a network knows, and add a little noise.

Call :func:`shrink_perturb_` once when new data have arrived: after loading the old weights,
before building the optimizer and the schedule, before compiling the network or wrapping it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from wsp import _checks, _optimizers
from wsp._ahead import Piece, ahead, is_worth_a_thread
from wsp._coded import Coded
from wsp._layers import COUNTER, Choice, Include, choose, named_weights, reset_running_stats_
from wsp._shards import is_sharded, part_of, rows_of_part, standard_deviation

__all__ = ["perturbed_parameters", "reset_optimizer_state_", "shrink_perturb_"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)
OptimizerT = TypeVar("OptimizerT", bound=torch.optim.Optimizer)

# The canonical order of the draws. One generator serves the parameters in the order of
# `named_parameters()`, each tensor once, its elements in row-major order whatever its memory
# layout. A parameter is cut into blocks of so many elements, one `normal_` call each; a tail
# shorter than 16 joins the block before it.
# On a CPU `normal_` works in groups of 16, so the cuts leave the numbers of one call over the
# whole parameter. The block is then just small enough to stay in the cache, and in one thread.
# On a GPU the cuts show: another BLOCK, other results. There 2**22 numbers take 16 MiB.
BLOCK, CPU_BLOCK = 2**22, 2**15 - 16


@torch.no_grad()
def shrink_perturb_(
    module: ModuleT,
    lamda: float = 0.5,
    sigma: float = 0.01,
    *,
    noise: nn.Module | Callable[[], nn.Module] | Literal["relative"] | None = None,
    include: Include | None = None,
    running_stats: Literal["reset", "keep"] = "reset",
    generator: torch.Generator | None = None,
) -> ModuleT:
    r"""Shrink the weights of a trained network and add noise, in place.

    .. math:: p \leftarrow \lambda p + \sigma \varepsilon

    for every trainable parameter :math:`p` with two or more dimensions: the weights of
    linear, convolution, recurrent, attention and embedding layers; class and mask tokens too.
    Biases and scales stay, whatever their shape: they are told by the name and the owner (``bias``,
    ``gamma``, ``logit_scale``, ``A_log``, IA3, any parameter of a normalization layer), never by
    a side of length 1. A tied tensor is changed once; the padding row of an embedding is left
    alone. A weight that is computed (``weight_norm``) follows the rule itself.

    Parameters
    ----------
    module : torch.nn.Module
        The trained network.
    lamda : float
        Fraction of each weight that is kept, from 0 (forget everything) to 1.
    sigma : float
        Standard deviation of the noise, 0 or more. With 0 nothing is drawn.
    noise : torch.nn.Module or callable or "relative", optional
        A freshly built network, or a function that builds one: its parameter of the same name
        replaces the standard normal :math:`\varepsilon`, as in the code of
        Ash and Adams. Such a function
        draws from the global generator; seed it with ``torch.manual_seed``. With ``"relative"``
        the standard normal is multiplied by the parameter's own standard deviation before
        shrinking: the unbiased one, 0 for a single element.
    include : callable, optional
        ``include(name, parameter)`` says whether to change a trainable parameter, in place of
        the rule above. A tied tensor is included if this says so for any of its names, and frozen
        if it is frozen under one.
    running_stats : {"reset", "keep"}
        Old running statistics describe old activations. ``"reset"`` starts them afresh, except
        in layers that are frozen: whose own parameters all are, or that have none, are in
        evaluation mode and part of something frozen. Somebody else's layer is reset if it has
        ``num_batches_tracked`` or ``reset_running_stats``; else you are warned. ``"keep"`` leaves
        all. ``update_bn`` knows BatchNorm alone, so an ``InstanceNorm`` that tracks must train
        for a while before evaluation. Until they are
        measured again a network with BatchNorm may answer hardly better than chance: call
        ``torch.optim.swa_utils.update_bn`` before you evaluate it untrained, and after a
        training of less than some hundred steps. Chapter 10 of the book shows a short one in
        which reset statistics did far worse than kept ones or ``update_bn``.
    generator : torch.Generator, optional
        Source of the standard normal noise, which is drawn on its device. By default the
        global generator of each parameter's device. Processes that train together need one
        each, seeded alike: replicas (also ``ddp.module``, where nothing but a warning can tell)
        then stay equal, and FSDP2 shards (DTensor) get the values
        of the unsharded network, every process drawing the noise of the whole parameter.

    Returns
    -------
    torch.nn.Module
        The same ``module``.

    Raises
    ------
    ValueError, TypeError
        If an argument or a parameter will not do: complex, quantized, sparse, without values,
        computed in a way that cannot be shrunk (``orthogonal``), overlapping another in part, in
        TorchScript or ``torch.export``, or about to become infinite. Then nothing has been changed.

    Notes
    -----
    Noise is drawn and added in float64 for float64 parameters, else in float32, and the sum is
    rounded once to the parameter's own type. It takes the memory of a few blocks, under 64 MiB, or
    of one parameter that is sharded, computed or not contiguous. On a CPU a second thread draws
    the noise of a large network. ``lamda=1, sigma=0`` changes nothing. ``spectral_norm`` undoes
    the shrinking (you are warned). Shrinking LoRA's two factors scales their product by
    ``lamda**2``: merge them first.

    References
    ----------
    Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.

    Examples
    --------
    >>> net = torch.nn.Linear(2, 1)
    >>> _ = torch.nn.init.ones_(net.weight)
    >>> shrink_perturb_(net, lamda=0.5, sigma=0.0).weight.tolist()
    [[0.5, 0.5]]

    With a fresh network for noise and every parameter included, 0 and 1 make a cold start:

    >>> new = torch.nn.Linear(2, 1)
    >>> net = shrink_perturb_(net, 0.0, 1.0, noise=new, include=lambda name, p: True)
    >>> torch.equal(net.weight, new.weight) and torch.equal(net.bias, new.bias)
    True
    """
    _checks.check_arguments(lamda, sigma, noise, running_stats, generator)
    choice = choose(module, include)
    if sigma > 0 and generator is None:
        _checks.check_seeded_alike(choice.modules.values(), choice.parameters, noise)
    _checks.check_unsharded(choice.modules.values())
    fresh: dict[str, Tensor] = {}
    if callable(noise) and sigma > 0:
        fresh = _checks.fresh_parameters(noise, choice.weights, named_weights)
    _checks.check_values(choice.parameters, fresh, lamda, sigma, noise == "relative")
    if lamda == 1 and sigma == 0:
        return module
    if lamda < 1 and choice.undone:
        undone = ", ".join(choice.undone)
        warnings.warn(f"shrinking does nothing under spectral_norm, which rescales: {undone}", stacklevel=3)
    if running_stats == "reset":
        stay = ", ".join(reset_running_stats_(choice.modules))
        if stay:
            warnings.warn(f"the running statistics of {stay} stay: no {COUNTER} beside them", stacklevel=3)

    pieces = _pieces(choice, sigma, noise, fresh, generator)
    if sigma > 0 and is_worth_a_thread(choice.parameters.values(), generator):
        pieces = ahead(pieces)
    for part, eps, finish in pieces:
        part.mul_(lamda).add_(eps.mul_(sigma))  # the rule: p <- lamda * p + sigma * eps
        if finish is not None:
            finish()
    return module


def _pieces(
    choice: Choice, sigma: float, noise: object, fresh: dict[str, Tensor], generator: torch.Generator | None
) -> Iterator[Piece]:
    """Cut all weights into parts that the rule may change in place, each with its own noise.

    A part is a view of the weight where there can be one; else it is a copy, which is to be written
    back when the rule has changed it.
    """
    for name, holder in choice.weights.items():
        p: Any = holder.value() if isinstance(holder, Coded) else holder
        dtype = torch.float64 if p.dtype == torch.float64 else torch.float32
        device = p.device if generator is None else generator.device
        spread = standard_deviation(p) if noise == "relative" else None
        given, whole, rows = fresh.get(name), p, choice.rows.get(name)
        stay: Any = rows
        if is_sharded(p):  # draw for all of it, go on with the part that this process holds
            given = torch.empty(p.numel(), dtype=dtype, device=device)
            for block in _cut(given, device) if sigma > 0 else ():
                block.normal_(generator=generator)
            given, whole = part_of(given, p), p.to_local()
            stay = None if rows is None else rows_of_part(rows, p)
        kept = None if stay is None else whole[stay]  # such an index copies
        here = device == p.device
        flat = whole.detach().reshape(-1)
        blocks = _cut(flat, device)
        ready = None if given is None else _cut(given.detach().reshape(-1), device)
        for i, block in enumerate(blocks):
            part = block if block.dtype == dtype else block.to(dtype)
            if sigma == 0:
                eps = torch.tensor(-0.0, device="cpu")  # nothing is drawn; x + -0.0 is x, whatever x
            elif ready is None:
                eps = torch.empty_like(part) if here else torch.empty(part.shape, dtype=dtype, device=device)
                eps = eps.normal_(generator=generator).to(part.device)
            else:
                eps = ready[i].to(part.device, dtype, copy=True)
            if spread is not None:
                eps.mul_(spread)
            yield part, eps, None if part is block else partial(block.copy_, part)
        if p is not holder or kept is not None or flat.data_ptr() != whole.data_ptr():
            nothing = flat.new_empty(0)
            yield nothing, nothing, partial(_put_back, holder, whole, flat, stay, kept)


def _put_back(holder: Any, p: Tensor, flat: Tensor, rows: Any, kept: Tensor | None) -> None:
    """Write a copy back, padding rows as they were, and a computed weight in code."""
    if flat.data_ptr() != p.data_ptr():
        p.copy_(flat.view(p.shape))
    if kept is not None:
        p[rows] = kept
    if isinstance(holder, Coded):
        holder.encode(p)


def _cut(flat: Tensor, device: torch.device) -> Sequence[Tensor]:
    """Views of the blocks, in each of which numbers are drawn by one call."""
    if flat.numel() < CPU_BLOCK:  # one block in any case, and quick
        return [flat]
    return torch.split(flat, [stop - start for start, stop in _blocks(flat.numel(), device)])


def _blocks(n: int, device: torch.device) -> Iterator[tuple[int, int]]:
    size, start = CPU_BLOCK if device.type == "cpu" else BLOCK, 0
    while start < n:
        stop = n if n - start < size + 16 else start + size
        yield start, stop
        start = stop


def perturbed_parameters(module: nn.Module, *, include: Include | None = None) -> dict[str, nn.Parameter]:
    """Return the parameters that :func:`shrink_perturb_` would change, and change nothing.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    include : callable, optional
        As in :func:`shrink_perturb_`.

    Returns
    -------
    dict of str to torch.nn.Parameter
        The parameters by name, in the order in which their noise is drawn.

    Raises
    ------
    ValueError
        If there are none, or one of them cannot be shrunk and perturbed.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    >>> _ = torch.nn.init.ones_(net[0].weight)
    >>> for name, p in perturbed_parameters(net).items():
    ...     print(name, tuple(p.shape), round(p.norm().item(), 3))
    0.weight (4, 3) 3.464
    """
    return choose(module, include).parameters


def reset_optimizer_state_(optimizer: OptimizerT, parameters: nn.Module | Iterable[Any]) -> OptimizerT:
    """Make an optimizer forget its momentum for some parameters, in place.

    Best build a new optimizer after :func:`shrink_perturb_`. Where the old one must live on,
    call this before its next step: its momentum belongs to weights that are gone. The learning
    rate stays as it is, so restart its schedule too.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimizer of the same network object.
    parameters : iterable of torch.Tensor, mapping or torch.nn.Module
        For instance ``perturbed_parameters(module)``, ``module.parameters()`` or ``module``.

    Returns
    -------
    torch.optim.Optimizer
        The same ``optimizer``.

    Raises
    ------
    ValueError
        If it holds none of the parameters, makes its state only when it is built, or counts
        something for more parameters than these. Then nothing has been changed.

    Examples
    --------
    >>> net = torch.nn.Linear(2, 1)
    >>> adam = torch.optim.Adam(net.parameters())
    >>> net(torch.ones(1, 2)).sum().backward()
    >>> adam.step()
    >>> _ = reset_optimizer_state_(adam, perturbed_parameters(net).values())
    >>> net.weight in adam.state, net.bias in adam.state
    (False, True)
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")
    given = _optimizers.tensors_of(parameters)
    known = {p for group in optimizer.param_groups for p in group["params"]}.intersection(given)
    if not known:
        raise ValueError(
            "the optimizer holds none of these parameters: is it another network's, or does it keep copies?"
        )
    optimizers = _optimizers.inner_optimizers(optimizer)
    for one in optimizers:
        _optimizers.check_resettable(one, known)
    for one in optimizers:
        for p in known:
            one.state.pop(p, None)
        for group in one.param_groups:
            if known.issuperset(group["params"]):
                _optimizers.reset_group_(one, group)
    return optimizer
