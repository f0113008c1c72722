"""The arms: how to start when data arrive, and what each start gives.

The article compares three ways to start; the controls are what it leaves out.
One integer, the seed, fixes a run. It feeds five separate generators, so that
arms share exactly what they should share and nothing else:

=================  ====================================================
stream             what it draws
=================  ====================================================
``first weights``  the network trained on the old rows
``fresh weights``  the networks that start from scratch when data arrive
``first order``    the batches of the first training
``order``          the batches of every retraining: the same for all arms
``noise``          the perturbation
=================  ====================================================

The generator of stream *k* is seeded with ``5 * seed + k``. A run of 500
epochs is a run of 1000 epochs read at epoch 500. The ensemble
(:mod:`wsp.lab.many.ensemble`) and the playground in the browser follow this page.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from wsp.lab.employees import Table
from wsp.lab.network import MLP
from wsp.lab.training import EPOCHS, LEARNING_RATE, Measurement, train
from wsp.perturb import shrink_perturb_

STREAMS = ("first weights", "fresh weights", "first order", "order", "noise")
OLD_ROWS = 100  # what the company had; the rest of the table arrived later
MAX_SEED = 2**32 // len(STREAMS) - 1  # the Mersenne Twister takes 32 bits of seed
LAMDA, SIGMA = 0.5, 0.01  # the article's
SEED = 244  # the book's: the smallest eligible one that gives the counts (selection.py)


@dataclass(frozen=True)
class Arm:
    """One way to start, and how long to train.

    Attributes
    ----------
    key : str
        Its name in tables, files and figures.
    start : {"first", "fresh", "saved"}
        A random network trained on the old rows alone, another random network
        trained on all rows, or the saved first network trained on all rows.
    lamda, sigma : float
        What :func:`wsp.shrink_perturb_` does to the start. (1, 0): nothing.
    epochs : int
        When it is read.
    quoted : int or None
        Correct test rows, of 40, that the article reports.
    """

    key: str
    start: str
    lamda: float = 1.0
    sigma: float = 0.0
    epochs: int = EPOCHS
    quoted: int | None = None

    @property
    def run(self) -> tuple[str, float, float]:
        """What identifies the training run; arms that share it differ in `epochs` alone."""
        return self.start, self.lamda, self.sigma


HALF = EPOCHS // 2
ARTICLE = {
    arm.key: arm
    for arm in (
        Arm("initial", "first", quoted=24),
        Arm("cold", "fresh", quoted=31),
        Arm("warm", "saved", quoted=28),
        Arm("shrink_perturb", "saved", LAMDA, SIGMA, HALF, quoted=32),
    )
}
CONTROLS = {
    arm.key: arm
    for arm in (
        Arm("cold_500", "fresh", epochs=HALF),
        Arm("warm_500", "saved", epochs=HALF),
        Arm("shrink_perturb_1000", "saved", LAMDA, SIGMA),
        Arm("fresh_shrunk_500", "fresh", LAMDA, SIGMA, HALF),
        Arm("shrink_only_500", "saved", LAMDA, 0.0, HALF),
        Arm("perturb_only_500", "saved", 1.0, SIGMA, HALF),
    )
}
ARMS = ARTICLE | CONTROLS


@dataclass(frozen=True)
class Result:
    """What one arm gives: its final measurements, where it began, what it cost.

    Attributes
    ----------
    arm : Arm
    train, test : Measurement
        On the rows it was trained on, and on the test rows.
    seconds : float
        Training time up to the arm's last epoch, measuring excluded.
    network : MLP
        The trained network (of the run's last epoch, which for a ``_500`` arm
        that shares its run with a longer one is later than the arm's).
    """

    arm: Arm
    train: Measurement
    test: Measurement
    seconds: float
    network: MLP


def find_arms(keys: Iterable[str]) -> list[Arm]:
    """The arms of these keys; ``ValueError`` for an unknown one.

    Examples
    --------
    >>> [arm.epochs for arm in find_arms(["warm", "warm_500"])]
    [1000, 500]
    """
    keys = list(keys)
    for key in keys:
        if key not in ARMS:
            raise ValueError(f"unknown arm {key!r}: choose from {', '.join(ARMS)}")
    return [ARMS[key] for key in keys]


def runs(arms: Iterable[Arm]) -> list[list[Arm]]:
    """The training runs these arms need, each with the arms read from it.

    The first network comes first, and is added where an arm starts from it.

    Examples
    --------
    >>> for members in runs(find_arms(["warm", "warm_500"])):
    ...     print([arm.key for arm in members])
    ['initial']
    ['warm', 'warm_500']
    """
    arms = list(arms)
    if any(arm.start in ("first", "saved") for arm in arms):
        arms = [ARMS["initial"], *(arm for arm in arms if arm.start != "first")]
    grouped: dict[tuple[str, float, float], list[Arm]] = {}
    for arm in arms:
        grouped.setdefault(arm.run, []).append(arm)
    return list(grouped.values())


def check_seed(seed: int) -> int:
    """Return `seed`, or raise ``ValueError`` if it is no integer from 0 to 858993458."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"the seed must be an integer from 0 to {MAX_SEED}, not {seed!r}")
    return seed


def stream(seed: int, name: str) -> torch.Generator:
    """The CPU generator of one stream of a run.

    Examples
    --------
    >>> stream(3, "order").initial_seed()
    18
    """
    if name not in STREAMS:
        raise ValueError(f"unknown stream {name!r}: choose from {', '.join(STREAMS)}")
    return torch.Generator().manual_seed(len(STREAMS) * check_seed(seed) + STREAMS.index(name))


def random_network(seed: int, name: str, nudge: float = 0.0) -> MLP:
    """A new network for stream ``"first weights"`` or ``"fresh weights"``.

    `nudge` is added to every weight: a run that ends elsewhere after 1e-12
    is chaotic, and its figures would depend on the processor.
    """
    network = MLP(generator=stream(seed, name))
    if nudge:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(nudge)
    return network


def start_network(arm: Arm, seed: int, saved: MLP | None = None, nudge: float = 0.0) -> MLP:
    """The network an arm starts from, on the CPU.

    Parameters
    ----------
    arm : Arm
    seed : int
        Fixes the random weights and the noise.
    saved : MLP, optional
        The trained first network. Copied, never changed. Needed where
        ``arm.start`` is ``"saved"``.
    nudge : float
        Added to every random weight; see :func:`random_network`.

    Raises
    ------
    ValueError
        If the arm needs a saved network and gets none.

    Examples
    --------
    >>> first = start_network(ARMS["initial"], seed=0)
    >>> warm = start_network(ARMS["warm"], seed=0, saved=first)
    >>> torch.equal(warm[0].weight, first[0].weight), warm is first
    (True, False)

    See chapters 4 and 5.
    """
    if arm.start == "saved":
        if saved is None:
            raise ValueError(f"arm {arm.key!r} starts from the saved first network: pass `saved`")
        network = copy.deepcopy(saved).cpu()
    else:
        network = random_network(seed, f"{arm.start} weights", nudge)
    return shrink_perturb_(network, arm.lamda, arm.sigma, generator=stream(seed, "noise"))


def rows_and_order(arm: Arm, table: Table, seed: int) -> tuple[Table, torch.Generator]:
    """The rows an arm trains on and the generator of its batches."""
    if arm.start == "first":
        return Table(*(column[:OLD_ROWS] for column in table)), stream(seed, "first order")
    return table, stream(seed, "order")


def run_arms(
    table: Table,
    test: Table,
    seed: int,
    *,
    arms: Iterable[str] = ARMS,
    device: str | torch.device = "cpu",
    learning_rate: float = LEARNING_RATE,
    nudge: float = 0.0,
) -> dict[str, Result]:
    """Train the arms on one table, with one seed.

    Parameters
    ----------
    table, test : Table
        Training rows in order of arrival (the first 100 are the old ones) and
        test rows, on any device.
    seed : int
        0 to 858993458; see the module's text for what it fixes.
    arms : iterable of str
        Keys of `ARMS`. Default: all ten. The first network is trained whenever
        an arm needs it.
    device : str or torch.device
        Where to train. Random numbers are drawn on the CPU.
    learning_rate : float
        Default 0.05, for every arm.
    nudge : float
        Added to every random weight; see :func:`random_network`.

    Returns
    -------
    dict
        Arm key → :class:`Result`, in the order asked for.

    Raises
    ------
    ValueError
        For an unknown arm, a bad seed, or too few rows.

    Examples
    --------
    >>> from wsp.lab import employees
    >>> old, new = employees.load_train(), employees.load_test()
    >>> run_arms(old, new, seed=0, arms=["sideways"])
    Traceback (most recent call last):
    ValueError: unknown arm 'sideways': choose from initial, cold, warm, ...
    """
    wanted = find_arms(arms)
    if len(table.labels) <= OLD_ROWS:
        raise ValueError(
            f"the table has {len(table.labels)} rows; the first {OLD_ROWS} are the old ones, "
            "so there must be more"
        )
    table, test = (Table(*(column.to(device) for column in rows)) for rows in (table, test))

    results: dict[str, Result] = {}
    saved: MLP | None = None
    for members in runs(wanted):
        arm = members[0]
        network = start_network(arm, seed, saved, nudge).to(device)
        rows, order = rows_and_order(arm, table, seed)
        readings = train(
            network,
            rows,
            order,
            test=test,
            learning_rate=learning_rate,
            label=arm.key,
            epochs=max(member.epochs for member in members),
            read_at={member.epochs for member in members},
        )
        if arm.start == "first":
            saved = network
        for member in members:
            reading = next(r for r in readings if r.epoch == member.epochs)
            assert reading.test is not None  # for the type checker: we passed `test`
            results[member.key] = Result(member, reading.train, reading.test, reading.seconds, network)
    return {arm.key: results[arm.key] for arm in wanted}
