"""What to do when data arrive: a plan says where the next network starts and how it goes on.

:func:`train_plans` carries plans out for many (table, seed) lanes at once, with the streams of
:mod:`wsp.lab.retraining`: a plan that changes nothing gives the arms of chapter 4, network by network
(tested).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.recipes import Recipe, RecipeEnsemble, draws, epoch_order
from wsp.lab.network import MLP
from wsp.lab.retraining import ARMS, OLD_ROWS, Arm, random_network, start_network, stream

Read = Callable[[str, int, Ensemble], None]
Firsts = dict[Recipe, tuple[list[MLP], list[Tensor]]]


@dataclass(frozen=True)
class Plan:
    """What to do when data arrive: a start, and a recipe for each phase.

    Attributes
    ----------
    start : {"fresh", "saved"}
        A random network (cold start), or the one that was trained on the old
        rows (warm start).
    first, then : Recipe
        How that first network was trained, and how training goes on when all
        rows are there. `first` plays no part in a cold start.
    lamda, sigma : float
        What :func:`wsp.shrink_perturb_` does to the start. Default (1, 0): nothing.
    reset_last : bool
        Give the last layer fresh random weights. Default False.
    keep_velocity : bool
        Let the momentum of the first training carry on. Default False: a new
        optimizer.
    new_share : float or None
        Share of the arrived rows among those met in an epoch, 0 to 1. An epoch
        has as many rows as ever: some are met more often, others not in every
        epoch. Default None: every row once.
    average : float
        Read an exponential moving average of the weights, updated after every
        epoch, with this decay, 0 to less than 1. Default 0: the weights themselves.

    Examples
    --------
    >>> Plan(new_share=2.0)
    Traceback (most recent call last):
    ValueError: new_share must be from 0 to 1, not 2.0

    See chapter 9.
    """

    start: str = "saved"
    first: Recipe = Recipe()  # noqa: RUF009 (frozen)
    then: Recipe = Recipe()  # noqa: RUF009 (frozen)
    lamda: float = 1.0
    sigma: float = 0.0
    reset_last: bool = False
    keep_velocity: bool = False
    new_share: float | None = None
    average: float = 0.0

    def __post_init__(self) -> None:
        if self.start not in ("fresh", "saved"):
            raise ValueError(f"start must be 'fresh' or 'saved', not {self.start!r}")
        if self.new_share is not None and not 0 <= self.new_share <= 1:
            raise ValueError(f"new_share must be from 0 to 1, not {self.new_share}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be from 0 to less than 1, not {self.average}")
        if self.keep_velocity and (self.start == "fresh" or not self.first.momentum):
            raise ValueError("keep_velocity needs a saved start and momentum in the first training")


def start_plan(plan: Plan, seed: int, saved: MLP | None) -> MLP:
    """The network that a plan starts from; see :func:`wsp.lab.retraining.start_network`.

    Examples
    --------
    >>> first = random_network(0, "first weights")
    >>> start = start_plan(Plan(reset_last=True), seed=0, saved=first)
    >>> torch.equal(start[0].weight, first[0].weight), torch.equal(start[4].weight, first[4].weight)
    (True, False)
    """
    network = start_network(Arm("plan", plan.start, plan.lamda, plan.sigma), seed, saved)
    if plan.reset_last:
        fresh = random_network(seed, "fresh weights").linears[-1]
        network.linears[-1].load_state_dict(fresh.state_dict())
    return network


def train_plans(
    tables: Sequence[Table],
    pairs: Sequence[tuple[int, int]],
    plans: Mapping[str, Plan],
    read: Read,
    *,
    read_at: Iterable[int],
    tick: Callable[[int], object] = lambda samples: None,
    saved: Firsts | None = None,
) -> None:
    """Carry out every plan for every pair, side by side, on the CPU.

    Parameters
    ----------
    tables : sequence of Table
        Training tables, all of the same number of rows.
    pairs : sequence of (int, int)
        A lane each: the table's number in `tables`, and the seed.
    plans : mapping
        Name → plan. First networks that several plans share are trained once.
    read : callable
        ``read(name, epoch, ensemble)`` is called for every plan after each
        epoch of `read_at` that it reaches.
    read_at : iterable of int
        Epochs of the second phase.
    tick : callable
        Is told how many training samples have gone by; may raise to stop.
    saved : dict, optional
        Recipe → first networks of these pairs and their velocities, taken from here
        where they are and put here where they are not, for another call with the same pairs.

    Examples
    --------
    >>> from wsp.lab import employees
    >>> table, test = employees.load_train(), employees.load_test()
    >>> def read(name, epoch, ensemble):
    ...     print(name, epoch, len(ensemble.measure(*test)[0]), "lanes")
    >>> short = Recipe(epochs=2, weight_decay=0.01)
    >>> plans = {"warm": Plan(first=short, then=short), "cold": Plan("fresh", then=short)}
    >>> train_plans([table], [(0, 7), (0, 8)], plans, read, read_at=[2])
    warm 2 2 lanes
    cold 2 2 lanes

    See chapter 9.
    """
    read_at = set(read_at)
    rows = len(tables[0].labels)
    stacked = Table(*(torch.cat(columns) for columns in zip(*tables)))
    first_row = torch.tensor([[table * rows] for table, _ in pairs])
    seeds = [seed for _, seed in pairs]

    def train_epoch(ensemble: RecipeEnsemble, order: Tensor) -> None:
        ensemble.train_epoch(
            stacked,
            order + first_row,
            learning_rate=ensemble.recipe.learning_rate,
            batch_size=ensemble.recipe.batch_size,
        )
        tick(order.numel())

    # First networks: one training for all plans whose first recipes differ in epochs alone.
    saved = {} if saved is None else saved
    wanted = {plan.first for plan in plans.values() if plan.start == "saved"}
    for kind in dict.fromkeys(replace(recipe, epochs=1) for recipe in wanted):
        members = {recipe.epochs: recipe for recipe in wanted if replace(recipe, epochs=1) == kind}
        if all(recipe in saved for recipe in members.values()):
            tick(max(members) * OLD_ROWS * len(pairs))
            continue
        networks = [start_network(ARMS["initial"], seed) for seed in seeds]
        first = RecipeEnsemble(networks, kind, [draws(seed, "first") for seed in seeds])
        orders = [stream(seed, "first order") for seed in seeds]
        for epoch in range(1, max(members) + 1):
            train_epoch(first, torch.stack([epoch_order(OLD_ROWS, None, order) for order in orders]))
            if epoch in members:
                saved[members[epoch]] = first.networks(), [weight.clone() for weight in first.velocity]

    ensembles: dict[str, RecipeEnsemble] = {}
    for name, plan in plans.items():
        olds, velocity = saved[plan.first] if plan.start == "saved" else ([None] * len(seeds), None)
        ensembles[name] = RecipeEnsemble(
            [start_plan(plan, seed, old) for seed, old in zip(seeds, olds)],
            plan.then,
            [draws(seed, "then") for seed in seeds],
            velocity if plan.keep_velocity else None,
        )
    # One set of orders for all plans with the same share of new rows: they are paired.
    shares = dict.fromkeys(plan.new_share for plan in plans.values())
    streams = {share: [stream(seed, "order") for seed in seeds] for share in shares}
    for epoch in range(1, max(plan.then.epochs for plan in plans.values()) + 1):
        order = {
            share: torch.stack([epoch_order(rows, share, generator) for generator in generators])
            for share, generators in streams.items()
        }
        for name, plan in plans.items():
            if epoch > plan.then.epochs:
                continue
            train_epoch(ensembles[name], order[plan.new_share])
            if plan.average:
                ensembles[name].update_average(plan.average)
            if epoch in read_at:
                read(name, epoch, ensembles[name].averaged())


def samples_of(plans: Mapping[str, Plan], rows: int) -> int:
    """Training samples that one lane meets in all plans, shared first networks once.

    Examples
    --------
    >>> samples_of({"warm": Plan(), "cold": Plan("fresh")}, 200)
    500000
    """
    firsts: dict[Recipe, int] = {}
    for plan in plans.values():
        if plan.start == "saved":
            kind = replace(plan.first, epochs=1)
            firsts[kind] = max(plan.first.epochs, firsts.get(kind, 0))
    return sum(firsts.values()) * OLD_ROWS + sum(plan.then.epochs for plan in plans.values()) * rows
