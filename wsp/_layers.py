"""What `shrink_perturb_` knows of layers: which parameters are weights, and what belongs to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from wsp import _checks
from wsp._coded import Coded, coded_weights
from wsp._shards import drop_gathered_copies

# ------------------------------------------------------------------ weights, biases and scales

# A parameter with two or more dimensions is a weight, unless its name or its owner says that it
# is a bias or a scale. Never its shape: the weight of nn.Linear(d, 1) has a side of length 1 too.
BIASES = {"bias", "biases", "rpb", "shift", "shifts", "offset", "offsets", "translate"}
SCALES = {
    "scale", "scales", "scaling", "scaler", "layerscale", "gain", "gains", "gamma", "gammas", "beta", "betas",
    "alpha", "alphas", "temperature", "temperatures", "temp", "tau", "multiplier", "magnitude", "slope",
    "slopes", "sigma", "sigmas", "std", "logstd", "stddev", "var", "logvar", "variance", "rho", "log", "logs",
    "decay", "mix", "threshold", "thresholds", "ia3", "mask", "masks",
}  # fmt: skip
# "scale_embedding" and "mask_token" are embeddings, "gamma_proj" is a projection.
WEIGHTS = {
    "weight", "weights", "kernel", "matrix", "proj", "projection", "embed", "embeds", "embedding",
    "embeddings", "emb", "token", "tokens", "query", "queries", "prompt", "prompts",
}  # fmt: skip
# Layers whose own parameters are all scales and shifts, or biases. Not: Normal, NormLinear, MultiScale.
NORMALIZATION = re.compile(r"[Nn]orm(alization|(?![a-z]|Linear|Conv|Dense|M[Ll][Pp]|Attention|Embed))")
SCALING = re.compile(
    r"((?<!Multi)Scale|Scaling|GRN|Gain|Temperature|Bias|^DoRA\w*|^Dora\w*)(\d+d?)?(Layer)?$"
)
# Layers that multiply by a matrix: their "weight" is one, whatever they are called.
MATRIX = re.compile(r"Linear|Conv|Dense|Bilinear|Attention|LSTM|GRU|RNN|Proj")


def words_of(name: str) -> list[str]:
    """The words of a name in snake or camel case: ``logit_scale``, ``logitScale``, ``A_log``."""
    name = re.sub(r"(?i)^ia3", "ia3_", name)
    return [w.lower() for w in re.findall(r"ia3|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


@lru_cache(maxsize=4096)
def is_called_bias_or_scale(name: str) -> bool:
    words = [word for word in words_of(name) if not word.isdigit()]
    if not words:
        return False
    if "bias" in words or "biases" in words:
        return True
    return words[-1] not in WEIGHTS and not (BIASES | SCALES).isdisjoint(words)


@lru_cache(maxsize=4096)
def _is_bias_or_scale(of_class: Hashable, leaf: str, attribute: str) -> bool:
    owner = cast(type, of_class)
    if is_called_bias_or_scale(leaf):
        return True
    kind = owner.__name__.removeprefix("Parametrized")
    if (
        issubclass(owner, (_NormBase, nn.LayerNorm, nn.GroupNorm))
        or NORMALIZATION.search(kind)
        or SCALING.search(kind)
    ):
        return True
    # nn.Embedding(users, 1) called user_bias, a nn.ParameterList called gammas, somebody's layer called scale
    return not MATRIX.search(kind) and is_called_bias_or_scale(attribute)


def is_b_of(leaf: str, names: Collection[str], before: str = "") -> bool:
    """Whether it is the ``b1`` to a ``w1`` or ``W1`` of a layer by hand, or the ``D`` to an ``A_log``."""
    if leaf in ("D", "Ds"):  # the skip connection of a state space
        return any(before + a in names for a in ("A_log", "A_logs"))
    match = re.fullmatch(r"b(_?\w{0,3})", leaf)
    return match is not None and any(
        f"{before}{w}{match[1]}" in names for w in ("w", "W", "weight", "kernel", "g")
    )


def is_weight(owner: nn.Module, leaf: str, attribute: str, dimensions: int) -> bool:
    """Two or more dimensions, and neither a bias nor a scale, told by its owner and its name."""
    if dimensions < 2:
        return False
    if leaf == "weight" and type(owner) is nn.Linear:
        return True  # the most frequent case, and quick
    kind = cast(Hashable, type(owner))
    return not (_is_bias_or_scale(kind, leaf, attribute) or is_b_of(leaf, owner._parameters))


# ------------------------------------------------------------------ one walk through the network

Include = Callable[[str, nn.Parameter], bool]
# A parameter by one of its names, and its owner: "layers.3.bias" is leaf "bias" of attribute "3".
Named = tuple[str, nn.Parameter, nn.Module, str, str]


class Survey:
    """What there is in a network; looked at, not touched."""

    def __init__(self, module: nn.Module) -> None:
        self.modules = dict(module.named_modules(remove_duplicate=False))
        self.named: list[Named] = []
        self.coded: dict[int, Coded] = {}  # by the identity of every parameter of the code
        for prefix, m in self.modules.items():
            if m._parameters:
                dot, attribute = (prefix + "." if prefix else ""), prefix.rpartition(".")[2]
                for leaf, p in m._parameters.items():
                    if p is not None:
                        self.named.append((dot + leaf, p, m, leaf, attribute))
            if "parametrizations" in m._modules or m._forward_pre_hooks:
                for coded in coded_weights(m, prefix):
                    for p in coded.codes.values():
                        self.coded.setdefault(id(p), coded)


def tied_together(named: Sequence[Named]) -> tuple[list[list[Named]], bool]:
    """The names of each tensor, and whether any two parameters share memory.

    Two parameters are one tensor if they have the same place and size: so do those tied through `.data`.
    """
    storages = {_storage_of(one[1]) for one in named}
    if len(storages) == len(named):
        return [[one] for one in named], False
    tied: dict[tuple[int, int], list[Named]] = {}
    for one in named:
        tied.setdefault((_address_of(one[1]), one[1].numel()), []).append(one)
    return list(tied.values()), True


def _storage_of(p: Tensor) -> int:
    try:
        return p.untyped_storage().data_ptr() or -id(p)
    except Exception:  # sparse tensors and some subclasses have none
        return -id(p)


def _address_of(p: Tensor) -> int:
    try:
        return p.data_ptr() or -id(p)
    except Exception:
        return -id(p)


# ------------------------------------------------------------------ what is to change


class Choice(NamedTuple):
    """What is to change, and what must be known for it."""

    parameters: dict[str, nn.Parameter]
    weights: dict[str, nn.Parameter | Coded]  # the same, but where a layer computes its weight
    rows: dict[str, list[int]]  # of these weights, that stay as they are
    undone: list[str]  # weights that their layer rescales
    modules: dict[str, nn.Module]


def choose(module: nn.Module, include: Include | None) -> Choice:
    """Say what is to change.

    A tied tensor has several names. It is frozen if it is under one of them, and chosen if it is
    under any; it goes by the first.
    """
    _checks.check_module(module, include)
    drop_gathered_copies(module)
    survey = Survey(module)
    _checks.check_classes(survey.modules)
    _checks.check_shapes(survey.named)
    tied, shared = tied_together(survey.named)
    padding = _padding_rows(survey.modules.values())

    parameters: dict[str, nn.Parameter] = {}
    weights: dict[str, nn.Parameter | Coded] = {}
    rows: dict[str, list[int]] = {}
    anew: dict[str, bool] = {}
    for names in tied:
        name, p, owner, leaf, attribute = names[0]
        coded = survey.coded.get(id(p)) if survey.coded else None
        if len(names) == 1 and coded is None:  # the common case, and quick
            wanted = p.requires_grad and _is_wanted(name, p, owner, leaf, attribute, include)
        elif not all(q.requires_grad for _, q, *_ in names):
            wanted = False
        elif coded is None:
            wanted = any(_is_wanted(*one, include) for one in names)
        else:
            wanted = _is_code_wanted(coded, include)
        if not wanted or p.numel() == 0:
            continue
        _checks.check_parameter(name, p)
        parameters[name] = p
        key: str = name
        weight: nn.Parameter | Coded = p
        if coded is not None:
            if coded.name not in anew:
                anew[coded.name] = coded.is_encoded_anew()
            if anew[coded.name]:
                key, weight = coded.name, coded
        weights[key] = weight
        if padding:
            stay = {row for _, q, *_ in names for row in padding.get(id(q), ())}
            if stay:
                rows[key] = sorted(stay)
    if not parameters:
        raise ValueError(
            "no parameter to change: it must be trainable and have two or more dimensions, and be no "
            "bias and no scale, unless include= says otherwise. Call before quantizing the network, "
            "and before FSDP1"
        )
    if shared:
        _checks.check_memory(survey.named, parameters)
    undone = {
        c.name
        for c in survey.coded.values()
        if c.undoes_shrinking and not parameters.keys().isdisjoint(c.codes)
    }
    return Choice(parameters, weights, rows, sorted(undone), survey.modules)


def _is_wanted(
    name: str, p: nn.Parameter, owner: nn.Module, leaf: str, attribute: str, include: Include | None
) -> bool:
    dimensions, elsewhere = p.dim(), None
    if p.numel() == 0:
        elsewhere = _checks.shape_elsewhere(p, owner, leaf)
        if elsewhere is None:
            return False
        dimensions = len(elsewhere)
    wanted = is_weight(owner, leaf, attribute, dimensions) if include is None else bool(include(name, p))
    if wanted and elsewhere is not None:
        raise ValueError(
            f"{name} has no elements in this process: gather it first (with DeepSpeed ZeRO-3 inside "
            "deepspeed.zero.GatheredParameters), or call before the network is partitioned"
        )
    return wanted


def _is_code_wanted(coded: Coded, include: Include | None) -> bool:
    if include is not None:
        return any(include(name, p) for name, p in coded.codes.items() if p.requires_grad)
    attribute = coded.name.rpartition(".")[0].rpartition(".")[2]
    return is_weight(coded.layer, coded.tensor, attribute, coded.dimensions())


def named_weights(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter by all of its names, and every computed weight."""
    survey = Survey(module)
    named: dict[str, Tensor] = {name: p for name, p, *_ in survey.named}
    return named | {c.name: c.value() for c in survey.coded.values() if not c.undoes_shrinking}


# ------------------------------------------------------------------ padding rows


def _padding_rows(modules: Iterable[nn.Module]) -> dict[int, list[int]]:
    """The rows of embeddings that stay, by the identity of the parameter that holds them."""
    rows: dict[int, list[int]] = {}
    for m in modules:
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.padding_idx is not None:
            for p in _holders(m):
                rows.setdefault(id(p), []).append(m.padding_idx % m.num_embeddings)
    return rows


def _holders(m: nn.Module) -> Iterable[Tensor]:
    """The parameters that hold an embedding's rows: its weight, or what it is computed from."""
    coded = [c for c in coded_weights(m, "") if c.tensor == "weight"]
    if coded:
        return [p for p in coded[0].codes.values() if p.dim() >= 1 and len(p) == m.num_embeddings]
    weight = m._parameters.get("weight", m._parameters.get("weight_orig"))  # pruned
    return [] if weight is None else [weight]


# ------------------------------------------------------------------ running statistics

STATISTIC = re.compile(r"(running|moving)_(mean|var|std)")
COUNTER = "num_batches_tracked"


def reset_running_stats_(modules: dict[str, nn.Module]) -> list[str]:
    """Start all running statistics afresh, or none; return the names of layers where they stay."""
    to_reset, stay = [], []
    module = modules[""]
    for name, m in modules.items():
        has_method = hasattr(type(m), "reset_running_stats")
        if not (has_method or m._buffers) or _is_frozen(m, module):
            continue
        if has_method or m._buffers.get(COUNTER) is not None:
            to_reset.append((name, m))
        elif any(map(STATISTIC.match, m._buffers)) and "Frozen" not in type(m).__name__:
            stay.append(name or type(m).__name__)
    buffers = [b for _, m in to_reset for b in m.buffers(recurse=False) if not nn.parameter.is_lazy(b)]
    old = [(b, b.clone()) for b in buffers]
    for name, m in to_reset:
        try:
            _reset_(m)
        except Exception as error:  # a lazy buffer, one from inference mode, somebody's own method
            for b, values in old:
                if not torch.equal(b, values):
                    b.copy_(values)
            reason = " ".join(str(error).split())[:100]
            raise ValueError(
                f"{name}: its running statistics cannot be reset ({reason}): run a batch through a lazy "
                'layer, clone what was made in inference mode, or say running_stats="keep"'
            ) from error
    return stay


def _reset_(m: nn.Module) -> None:
    if hasattr(m, "reset_running_stats"):
        m.reset_running_stats()  # type: ignore[operator]
        return
    for leaf, b in m._buffers.items():
        if b is not None and (leaf == COUNTER or STATISTIC.match(leaf)):
            b.fill_(0 if leaf == COUNTER or "mean" in leaf else 1)


def _is_frozen(m: nn.Module, network: nn.Module) -> bool:
    """Its own parameters are; or it has none, does not measure, and is part of something frozen."""
    own = [p.requires_grad for p in m._parameters.values() if p is not None]
    if own:
        return not any(own)
    if m.training:
        return False
    if network.training:  # the layer was put into evaluation mode by itself
        return True
    return _is_in_frozen_part(m, network)


def _is_in_frozen_part(m: nn.Module, network: nn.Module) -> bool:
    """Whether the smallest part around the layer that has parameters is frozen."""
    for part in reversed(list(network.modules())):  # inner parts come later
        if part is not m and any(inner is m for inner in part.modules()):
            trainable = [p.requires_grad for p in part.parameters()]
            if trainable:
                return not any(trainable)
    return False
