"""Let labeled images arrive in rounds: how each start does, and what it costs.

In every round an arm makes a starting network out of its old one, and trains it
on all that has arrived, by the paper's stop rule. Two rounds of one half each
are the two-phase runs of the paper's Table 1.

One integer, the seed, fixes a run. It draws the split into training and test
images (the unit of account), the wrong labels if there are any, and in every
round a fresh network, the batch orders and the noise: each from a stream of its
own, the same for all arms. The first round is the same for all arms that train
alike; it is trained once.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from wsp.lab.employees import Table
from wsp.lab.fitting import Fit, fit
from wsp.lab.network import seeded
from wsp.lab.retraining import LAMDA, SIGMA
from wsp.perturb import shrink_perturb_

STREAMS = ("weights", "order", "noise", "labels")
OFFICIAL_LAMDA, OFFICIAL_SIGMA = 0.4, 0.1  # of the code of Ash and Adams
AT_ONCE = 1000  # test images scored in one go, to bound memory

Build = Callable[[], nn.Module]
Start = Callable[[nn.Module, nn.Module, Table, torch.Generator], nn.Module]
Train = Callable[..., Fit]


def plain(network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any) -> Fit:
    """Train as :func:`wsp.lab.fitting.fit` does. `first` is not looked at."""
    return fit(network, table, order, **options)


def reestimated(
    network: nn.Module, first: nn.Module, table: Table, order: torch.Generator, **options: Any
) -> Fit:
    """Train as :func:`plain` does, then estimate BatchNorm's running statistics anew.

    It takes one more pass over the table, without gradients, in which every batch
    counts the same. Whoever stops after a few steps needs it: running statistics
    move a tenth of the way at every step, and begin far off where weights were shrunk.
    """
    found = plain(network, first, table, order, **options)
    torch.optim.swa_utils.update_bn(torch.split(table.inputs, options.get("batch_size", 128)), network)
    return found


def as_built(network: nn.Module) -> nn.Module:
    """Leave a new network as it is."""
    return network


@dataclass(frozen=True)
class Arm:
    """One answer to "new data have arrived".

    Attributes
    ----------
    key : str
        Its name in tables, files and figures.
    start
        ``start(old, fresh, table, generator)`` gives the network to train: from
        a copy of the one trained in the round before, a new one, all that has
        arrived, and a CPU generator for noise. It may change and return `old`
        or `fresh`. Not called in the first round, which starts from `fresh`.
    train
        ``train(network, first, table, order, **options)`` trains in place, as
        :func:`wsp.lab.fitting.fit` does, whose options these are. `first` is the
        network that the run began with, untrained. Default: :func:`plain`.
    prepare
        ``prepare(network)`` may change the layers of every new network.
        Default: :func:`as_built`.

    Examples
    --------
    >>> half = Arm("half", lambda old, fresh, table, generator: shrink_perturb_(old, 0.5, 0.0))
    >>> half.train is plain
    True
    """

    key: str
    start: Start
    train: Train = plain
    prepare: Callable[[nn.Module], nn.Module] = as_built


def start_cold(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
    """Start again."""
    return fresh


def start_warm(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
    """Go on."""
    return old


def start_official(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
    """The rule of the paper's code: 0.4 of every parameter, and 0.1 of a fresh network's."""
    return shrink_perturb_(
        old, OFFICIAL_LAMDA, OFFICIAL_SIGMA, noise=fresh, include=lambda name, parameter: True
    )


def start_shrunk(lamda: float) -> Start:
    """The article's rule with another `lamda`: weights alone, normal noise of `sigma` 0.01."""

    def start(old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator) -> nn.Module:
        return shrink_perturb_(old, lamda, SIGMA, generator=generator)

    return start


def start_keeping_statistics(
    old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator
) -> nn.Module:
    """The article's rule, with BatchNorm's running statistics as the old network left them."""
    return shrink_perturb_(old, LAMDA, SIGMA, running_stats="keep", generator=generator)


def start_fresh_shrunk(
    old: nn.Module, fresh: nn.Module, table: Table, generator: torch.Generator
) -> nn.Module:
    """The article's rule on a network that knows nothing: a control."""
    return shrink_perturb_(fresh, LAMDA, SIGMA, generator=generator)


ARMS = {
    arm.key: arm
    for arm in (
        Arm("cold", start_cold),
        Arm("warm", start_warm),
        Arm("shrink_perturb", start_shrunk(LAMDA)),
        Arm("official", start_official),
        *(Arm(f"shrink_perturb_{lamda}", start_shrunk(lamda)) for lamda in (0.3, 0.6, 0.8)),
        Arm("fresh_shrunk", start_fresh_shrunk),
        Arm("shrink_perturb_keep_bn", start_keeping_statistics),
        Arm("cold_update_bn", start_cold, reestimated),
        Arm("warm_update_bn", start_warm, reestimated),
        Arm("shrink_perturb_update_bn", start_shrunk(LAMDA), reestimated),
        Arm("official_update_bn", start_official, reestimated),
    )
}


def stream(seed: int, number: int, name: str) -> torch.Generator:
    """The CPU generator of one stream of a run in round `number`, counted from 1.

    Examples
    --------
    >>> one, other = (stream(3, number, "order") for number in (1, 2))
    >>> one.initial_seed() == other.initial_seed()
    False
    """
    words = np.random.SeedSequence((seed, number, STREAMS.index(name))).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


@dataclass(frozen=True)
class Round:
    """One round of one arm: what training took, and what the network can do.

    Attributes
    ----------
    rows : int
        Training images so far.
    fit : Fit
    seconds : float
        Wall-clock time of making the start and training.
    correct, of : int
        Test images that are right; all test images.
    """

    rows: int
    fit: Fit
    seconds: float
    correct: int
    of: int


@torch.no_grad()
def count_correct(network: nn.Module, table: Table) -> int:
    """Right images of a table, with the network in evaluation mode."""
    network.eval()
    parts = zip(torch.split(table.inputs, AT_ONCE), torch.split(table.labels, AT_ONCE))
    return sum(int((network(inputs).argmax(dim=1) == labels).sum()) for inputs, labels in parts)


def run_arms(
    arms: Iterable[Arm],
    build: Build,
    arrived: Sequence[Table],
    test: Table,
    seed: int,
    *,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    **options: Any,
) -> Iterator[tuple[Arm, list[Round]]]:
    """Run arms through the rounds, one after the other.

    Parameters
    ----------
    arms : iterable of Arm
    build : callable
        Builds a network on the CPU from PyTorch's global generator, which is
        seeded for it. It is moved to the device and dtype of the inputs.
    arrived : sequence of Table
        All training images by each round; see :func:`wsp.lab.images.rounds`.
    test : Table
        Scored after every round, never trained on.
    seed : int
        Fixes fresh networks, batch orders and noise, the same for all arms.
    autocast : callable
        Makes the context of training and scoring, such as one of
        ``torch.autocast``. Default: none.
    **options
        For the arm's training; see :func:`wsp.lab.fitting.fit`.

    Yields
    ------
    arm : Arm
    rounds : list of Round
        As soon as the arm has gone through all of them.

    Examples
    --------
    >>> from wsp.lab import images
    >>> from wsp.lab.network import image_mlp
    >>> train, test = images.split(images.digits(), 200, 100, seed=0)
    >>> found = run_arms([ARMS["cold"], ARMS["warm"]], lambda: image_mlp(hidden=(20,)),
    ...                  images.rounds(train, 100), test, seed=0, max_epochs=3)
    >>> for arm, rounds in found:
    ...     print(arm.key, [round.rows for round in rounds])
    cold [100, 200]
    warm [100, 200]

    Source: Ash and Adams (2020), sections 2 and 5. See chapters 10 and 11.
    """
    begun: dict[tuple[Train, Callable[[nn.Module], nn.Module]], tuple[nn.Module, Round]] = {}

    def new_network(arm: Arm, number: int) -> nn.Module:
        with seeded(stream(seed, number, "weights").initial_seed()):
            network = arm.prepare(build())
        network = network.to(test.inputs.device, test.inputs.dtype)
        if _is_channels_last(test.inputs):
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def go(arm: Arm, number: int, old: nn.Module | None, first: nn.Module) -> tuple[nn.Module, Round]:
        table, begin = arrived[number - 1], time.perf_counter()
        fresh = new_network(arm, number)
        with autocast():
            if old is None:
                network = fresh
            else:
                network = arm.start(copy.deepcopy(old), fresh, table, stream(seed, number, "noise"))
            label = f"seed {seed}, {arm.key}, {len(table.labels)} images"
            found = arm.train(network, first, table, stream(seed, number, "order"), label=label, **options)
            seconds = time.perf_counter() - begin
            correct = count_correct(network, test)
        return network, Round(len(table.labels), found, seconds, correct, len(test.labels))

    for arm in arms:
        first = new_network(arm, 1)
        alike = arm.train, arm.prepare
        if alike not in begun:
            begun[alike] = go(arm, 1, None, first)
        network, record = begun[alike]
        records = [record]
        for number in range(2, len(arrived) + 1):
            network, record = go(arm, number, network, first)
            records.append(record)
        yield arm, records


def _is_channels_last(inputs: torch.Tensor) -> bool:
    return not inputs.is_contiguous() and inputs.is_contiguous(memory_format=torch.channels_last)
