"""A small character transformer, a text for it, and the training that it gets in practice.

Half of a cut of the text is old, the other half arrives. Training is AdamW with a warm-up, a
constant rate and a decay; what the network and its optimizer are *before* the decay is kept as well.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from wsp.lab.employees import find
from wsp.lab.network import seeded

TEXT = "plays.txt"
TEXT_HASH = "8256a020fbc19d31e553583a6c8c0fbaccb3e3f8104c876f2f6921068a52dc7c"
LENGTH, CHARACTERS = 399_862, 63  # of the text: all characters, different ones
CUTS = 10
CONTEXT = 64  # characters that the network sees
BATCH = 16  # pieces of a text in a step
CLIP = 1.0  # longest gradient
WARM_UP, DECAY = 0.05, 0.3  # shares of the steps
AT_ONCE = 128  # pieces scored in one go, to bound memory


def load_text() -> Tensor:
    """The frozen text: one number a character, in the order of the alphabet that it uses.

    Returns
    -------
    Tensor
        (characters,) int64, from 0 to ``CHARACTERS`` - 1.

    Raises
    ------
    FileNotFoundError
        If it is not there: it stays in the repository, not in the wheel.
    ValueError
        If the file was altered.

    Examples
    --------
    >>> text = load_text()
    >>> len(text), int(text.max())
    (399862, 62)

    Source: three plays of Shakespeare, in the public domain; see ``data/README.md`` and chapter 11.
    """
    path = find(TEXT)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such text; the book's repository holds it in data/")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != TEXT_HASH:
        raise ValueError(f"{path}: not the text that the results come from (another SHA-256); restore it")
    return encoded(content.decode("ascii"))


def encoded(text: str) -> Tensor:
    """A text in numbers, one a character.

    Examples
    --------
    >>> encoded("noon").tolist()
    [0, 1, 1, 0]
    """
    places = {character: place for place, character in enumerate(sorted(set(text)))}
    return torch.tensor([places[character] for character in text])


@dataclass(frozen=True)
class Cut:
    """What one seed gets of the text. Held-out lines follow those that are trained on.

    Attributes
    ----------
    old, new : Tensor
        To train on: what was there, and what arrives.
    old_held, new_held : Tensor
        The lines after each, never trained on.
    """

    old: Tensor
    new: Tensor
    old_held: Tensor
    new_held: Tensor


def cut(text: Tensor, number: int, train: int, held: int) -> Cut:
    """Cut number `number` of ten: it begins so many tenths into the text, and goes on at its beginning.

    Parameters
    ----------
    text : Tensor
        (characters,)
    number : int
        0 to 9.
    train, held : int
        Characters of each of the two parts to train on, and of the held-out lines after each.

    Raises
    ------
    ValueError
        If there is no such cut, or the text is too short for it.

    Examples
    --------
    >>> found = cut(torch.arange(400), 8, train=70, held=65)
    >>> [(int(part[0]), int(part[-1])) for part in (found.old, found.old_held, found.new, found.new_held)]
    [(320, 389), (390, 54), (55, 124), (125, 189)]
    """
    if not 0 <= number < CUTS:
        raise ValueError(f"the text has {CUTS} cuts, 0 to {CUTS - 1}; there is no {number}")
    if min(train, held) <= CONTEXT or 2 * (train + held) > len(text):
        raise ValueError(
            f"two parts of {train} + {held} characters: each needs more than {CONTEXT}, "
            f"and together at most the text's {len(text)}"
        )
    turned = torch.roll(text, -(number * len(text) // CUTS))[: 2 * (train + held)]
    old, old_held, new, new_held = torch.split(turned, [train, held, train, held])
    return Cut(old, new, old_held, new_held)


class Block(nn.Module):
    """Causal attention, then two layers, each added to what comes in; both see it normalized.

    Examples
    --------
    >>> Block(8, heads=2)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Of shape (pieces, characters, width), as it comes in and goes out."""
        normal = self.before_attention(x)
        query, key, value = (
            layer(normal).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        seen = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        found: Tensor = x + self.narrow(gelu(self.wide(self.before_layers(x))))
        return found


class CharTransformer(nn.Module):
    """Predict the next character from up to 64 before it.

    Parameters
    ----------
    characters : int
        Different ones. Default: those of the text.
    width, heads, blocks : int
        Default 64, 4 and 2: about 110,000 parameters, as PyTorch initializes them.

    Examples
    --------
    >>> CharTransformer(characters=5)(torch.zeros(2, 9, dtype=torch.int64)).shape
    torch.Size([2, 9, 5])
    """

    def __init__(
        self, characters: int = CHARACTERS, width: int = 64, heads: int = 4, blocks: int = 2
    ) -> None:
        super().__init__()
        self.character, self.place = nn.Embedding(characters, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.last_norm, self.head = nn.LayerNorm(width), nn.Linear(width, characters)

    def forward(self, pieces: Tensor) -> Tensor:
        """Logits (pieces, characters of each, different characters) of (pieces, characters of each)."""
        x = self.character(pieces) + self.place.weight[: pieces.shape[1]]
        logits: Tensor = self.head(self.last_norm(self.blocks(x)))
        return logits


def new_transformer(seed: int) -> CharTransformer:
    """The network of a seed, the same every time.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in new_transformer(0).parameters())
    112319
    """
    with seeded(seed):
        return CharTransformer()


def rates(steps: int, peak: float) -> list[float]:
    """A learning rate for every step: up in the first twentieth, constant, down to nothing in three tenths.

    Examples
    --------
    >>> rates(20, 1.0)[:2], [round(rate, 2) for rate in rates(20, 1.0)[12:]]
    ([1.0, 1.0], [1.0, 1.0, 1.0, 0.83, 0.67, 0.5, 0.33, 0.17])
    """
    up, down = max(1, round(WARM_UP * steps)), max(1, round(DECAY * steps))
    return [peak * min((k + 1) / up, 1.0, (steps - k) / down) for k in range(steps)]


def decays_after(steps: int) -> int:
    """Steps before the decay of :func:`rates` begins.

    Examples
    --------
    >>> decays_after(20)
    14
    """
    return steps - max(1, round(DECAY * steps))


def train(
    network: nn.Module,
    parts: Sequence[Tensor],
    rates: Sequence[float],
    order: torch.Generator,
    *,
    adam: dict[str, Any] | None = None,
    after_step: Callable[[int, torch.optim.Optimizer], object] | None = None,
) -> dict[str, Any]:
    """Train in place with AdamW, weight decay 0.1, on random pieces of a text.

    Parameters
    ----------
    network : torch.nn.Module
    parts : sequence of Tensor
        Of the text; no piece reaches from one into the next.
    rates : sequence of float
        The learning rate of every step, which also says how many there are.
    order : torch.Generator
        Draws the pieces: 16 of 64 characters a step.
    adam : dict, optional
        The state of AdamW to go on from. Default: a new one.
    after_step : callable, optional
        ``after_step(step, optimizer)`` after every step, counted from 1.

    Returns
    -------
    dict
        The state of AdamW at the end.

    Raises
    ------
    FloatingPointError
        If the loss is no longer finite.

    Examples
    --------
    >>> network = CharTransformer(characters=2, width=8, heads=2, blocks=1)
    >>> text = encoded("ab" * 50)
    >>> before = held_out_loss(network, text)
    >>> _ = train(network, [text], [0.01] * 20, torch.Generator().manual_seed(0))
    >>> held_out_loss(network, text) < before
    True
    """
    starts, offset = [], 0
    for part in parts:
        starts.append(torch.arange(offset, offset + len(part) - CONTEXT))
        offset += len(part)
    start, text = torch.cat(starts), torch.cat(list(parts))
    reach = torch.arange(CONTEXT + 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=0.1)
    if adam is not None:
        optimizer.load_state_dict(copy.deepcopy(adam))
    network.train()
    for step, rate in enumerate(rates, start=1):
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = start[torch.randint(len(start), (BATCH, 1), generator=order)]
        pieces = text[chosen + reach]
        loss = cross_entropy(network(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss became {float(loss.detach())} in step {step}: lower the rate")
        if after_step is not None:
            after_step(step, optimizer)
    return optimizer.state_dict()


@torch.no_grad()
def held_out_loss(network: nn.Module, text: Tensor) -> float:
    """Mean cross-entropy of the next character, in nats, over whole pieces of a text side by side.

    Examples
    --------
    What knows nothing and says so has the logarithm of the number of characters.

    >>> network = CharTransformer(characters=4)
    >>> with torch.no_grad():
    ...     _ = network.head.weight.zero_(), network.head.bias.zero_()
    >>> round(held_out_loss(network, torch.arange(200) % 4), 4)
    1.3863
    """
    network.eval()
    count = (len(text) - 1) // CONTEXT
    before, after = (text[k : k + count * CONTEXT].view(count, CONTEXT) for k in (0, 1))
    total = 0.0
    for pieces, next_ in zip(torch.split(before, AT_ONCE), torch.split(after, AT_ONCE)):
        total += float(cross_entropy(network(pieces).flatten(0, 1), next_.flatten(), reduction="sum"))
    return total / (count * CONTEXT)


@dataclass(frozen=True)
class Saved:
    """A checkpoint: the network, and the state of AdamW beside it."""

    network: nn.Module
    adam: dict[str, Any]


def train_old(
    network: nn.Module, old: Tensor, steps: int, peak: float, order: torch.Generator
) -> list[Saved]:
    """Train in place on what there is, by the whole schedule.

    Returns
    -------
    list of Saved
        Copies from before the decay, and from the end.

    Examples
    --------
    >>> network = CharTransformer(characters=2, width=8, heads=2, blocks=1)
    >>> before, end = train_old(network, encoded("ab" * 50), 20, 0.01, torch.Generator().manual_seed(0))
    >>> [int(saved.adam["state"][0]["step"]) for saved in (before, end)]
    [14, 20]
    """
    found: list[Saved] = []

    def keep(step: int, optimizer: torch.optim.Optimizer) -> None:
        if step in (decays_after(steps), steps):
            found.append(Saved(copy.deepcopy(network), copy.deepcopy(optimizer.state_dict())))

    train(network, [old], rates(steps, peak), order, after_step=keep)
    return found
