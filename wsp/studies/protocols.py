"""Ways to start, under all protocols at once: what the studies *stopped* and *temperature* share.

Every way is trained twice from the same start. On all rows: read after fixed epochs (the protocols
*article* and *equal*), and kept after the epochs that stopping chose (*again*). On the rows that are left
when some are held out: stopped with patience (*stopped*), and the best epoch up to each budget (*budget*).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wsp.lab.employees import TRAIN_ROWS
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import ensemble_of, orders_of
from wsp.lab.many.lanes import Drawn, draw_lanes, train_epochs
from wsp.lab.many.stopping import RULES, Split, hold_out, split_lanes, train_again, train_stopped
from wsp.lab.network import MLP
from wsp.lab.retraining import HALF, OLD_ROWS, Arm, random_network, start_network, stream
from wsp.lab.statistics import Floats, Interval, simultaneous
from wsp.lab.training import EPOCHS
from wsp.studies.engine import Tick
from wsp.studies.parts import Content, at_least_1
from wsp.studies.tables import ByTable, common, in_percent

FIRST_TABLE = 4000  # these tables are in no other result
OLD = ("end", "stopped")


@dataclass(frozen=True)
class Way:
    """One way to start and to go on.

    Attributes
    ----------
    key : str
    arm : wsp.lab.retraining.Arm
        Where it starts.
    temperature : float
        What the logits are divided by in training.
    falls_by : int
        The temperature falls to 1, by equal factors, until this epoch. 0: it stays.
    """

    key: str
    arm: Arm
    temperature: float = 1.0
    falls_by: int = 0

    def temperatures(self, epochs: int) -> list[float]:
        """Of each epoch.

        Examples
        --------
        >>> Way("warm 4", Arm("warm", "saved"), 4.0, falls_by=3).temperatures(5)
        [4.0, 2.0, 1.0, 1.0, 1.0]
        """
        steps = max(self.falls_by - 1, 1)
        left = (max(0.0, 1 - epoch / steps) if self.falls_by else 1.0 for epoch in range(epochs))
        return [float(self.temperature**share) for share in left]


class Protocols(ByTable):
    """For each table a list over its seeds. ``all``: way → test rows right after each epoch of ``read_at``,
    trained on all rows. By rule and way: ``budget``, test rows right at the best epoch up to each of
    ``budgets``; ``stopped``, at the best epoch when patience ran out; ``epoch``, that one; ``spent``, epochs
    trained by then; ``again``, after that many epochs on all rows. ``old``: of the old network, test rows
    right, and the ``epoch`` of its weights.
    """

    first = FIRST_TABLE

    def ways(self, spec: Content) -> list[Way]:
        """What is compared."""
        raise NotImplementedError

    def shared(
        self,
        *,
        seeds: int,
        held: int,
        held_from: str,
        old: str,
        first_epochs: int,
        patience: int,
        read_at: Sequence[int],
        budgets: Sequence[int],
        test_rows: int,
        label_noise: float,
        learning_rate: float,
    ) -> Content:
        """The specification that both studies share, checked."""
        for epochs in (*read_at, *budgets):
            at_least_1(epochs=epochs)
        at_least_1(held=held, first_epochs=first_epochs, patience=patience)
        hold_out(TRAIN_ROWS, OLD_ROWS, held, 0, held_from)
        if old not in OLD:
            raise ValueError(f"old must be {' or '.join(OLD)}, not {old!r}")
        if old == "stopped" and held_from != "all":
            raise ValueError("the old network can stop by old rows alone: hold rows out of all")
        return {
            **common(self.name, seeds, test_rows, label_noise, learning_rate),
            "held": held,
            "held_from": held_from,
            "old": old,
            "first_epochs": first_epochs,
            "patience": patience,
            "read_at": sorted(read_at),
            "budgets": sorted(budgets),
        }

    def samples(self, spec: Content, units: Sequence[int]) -> int:
        """Training samples."""
        first = OLD_ROWS - (spec["held"] // 2 if spec["old"] == "stopped" else 0)
        rows = 2 * TRAIN_ROWS - spec["held"]
        a_lane = first * spec["first_epochs"] + rows * last_epoch(spec) * len(self.ways(spec))
        return int(len(units) * spec["seeds"] * a_lane)

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """All ways under all protocols on these tables."""
        drawn = draw_lanes(units, spec["seeds"], spec["test_rows"], spec["label_noise"], own=True)
        split = split_lanes(drawn.train, OLD_ROWS, spec["held"], drawn.seeds, spec["held_from"])
        ways, last, rate = self.ways(spec), last_epoch(spec), spec["learning_rate"]
        warmth = {way.key: way.temperatures(last) for way in ways}

        def count(ensemble: Ensemble) -> list[list[int]]:
            return drawn.by_seed(ensemble.measure(*drawn.test)[0])

        saved, old = old_networks(drawn, split, spec, tick)
        starts = {way.key: started(way.arm, drawn, saved) for way in ways}
        budget: dict[str, dict[str, list[torch.Tensor]]] = {
            rule: {way.key: [] for way in ways} for rule in RULES
        }
        stopped = train_stopped(
            {key: ensemble_of(networks) for key, networks in starts.items()},
            split,
            orders_of([stream(seed, "order") for seed in drawn.seeds]),
            last,
            patience=spec["patience"],
            budgets=spec["budgets"],
            read=lambda key, _, rule, best: budget[rule][key].append(best.measure(*drawn.test)[0]),
            tick=tick,
            learning_rate=rate,
            temperatures=warmth,
        )
        everything: dict[str, list[torch.Tensor]] = {way.key: [] for way in ways}
        again = train_again(
            {key: ensemble_of(networks) for key, networks in starts.items()},
            drawn.stacked,
            drawn.lanes,
            TRAIN_ROWS,
            orders_of([stream(seed, "order") for seed in drawn.seeds]),
            last,
            {key: {rule: best.epoch for rule, best in rules.items()} for key, rules in stopped.items()},
            budgets=spec["read_at"],
            read=lambda key, _, ensemble: everything[key].append(ensemble.measure(*drawn.test)[0]),
            tick=tick,
            learning_rate=rate,
            temperatures=warmth,
        )

        def by_rule(take: Any) -> dict[str, dict[str, list[list[int]]]]:
            return {rule: {way.key: take(way.key, rule) for way in ways} for rule in RULES}

        def lists(readings: Sequence[torch.Tensor]) -> list[list[int]]:
            return drawn.by_seed(torch.stack(list(readings), dim=1))

        yield {
            "tables": list(units),
            "old": {"correct": count(ensemble_of(saved)), "epoch": drawn.by_seed(old)},
            "all": {key: lists(readings) for key, readings in everything.items()},
            "budget": by_rule(lambda key, rule: lists(budget[rule][key])),
            "stopped": by_rule(lambda key, rule: count(stopped[key][rule].shown())),
            "epoch": by_rule(lambda key, rule: drawn.by_seed(stopped[key][rule].epoch)),
            "spent": by_rule(lambda key, rule: drawn.by_seed(stopped[key][rule].spent)),
            "again": by_rule(lambda key, rule: count(again[key][rule])),
        }

    def as_text(self, content: Content) -> str:
        """Every way minus cold, in points, under the protocols; joint intervals by column."""
        spec, names = content["specification"], list(content["all"])
        base = names[0]
        columns: dict[str, Content] = {
            f"equal, {spec['read_at'][-1]}": {"protocol": "equal"},
            "stopped, loss": {"protocol": "stopped"},
            "stopped, accuracy": {"protocol": "stopped", "rule": "accuracy"},
            "again, loss": {"protocol": "again"},
        }
        found = {
            column: {name: accuracy(content, name, **how) for name in names}
            for column, how in columns.items()
        }
        minus = {column: leads(values, base) for column, values in found.items()}
        cold = "; ".join(f"{column} {values[base].mean():.2f}" for column, values in found.items())
        lines = [f"{base}, %: {cold}", "", f"{'minus ' + base:20s}" + "".join(f"{c:>28s}" for c in columns)]
        for name in names[1:]:
            lines.append(f"{name:20s}" + "".join(f"{minus[column][name]:>28s}" for column in columns))
        lines += ["", f"{'epochs trained':20s}{'loss':>10s}{'accuracy':>10s}"]
        for name in names:
            means = (np.mean(content["spent"][rule][name]) for rule in RULES)
            lines.append(f"{name:20s}" + "".join(f"{mean:10.1f}" for mean in means))
        return "\n".join(lines)


def leads(values: Mapping[str, Floats], base: str) -> dict[str, str]:
    """Each minus the base, with intervals that hold at once; alone where there is one table."""
    minus = {name: value - values[base] for name, value in values.items() if name != base}
    if len(values[base]) < 2:
        return {name: f"{value.mean():+.2f}" for name, value in minus.items()}
    return {name: str(interval) for name, interval in simultaneous(minus).items()} if minus else {}


def last_epoch(spec: Mapping[str, Any]) -> int:
    """The longest training."""
    return int(max(*spec["read_at"], *spec["budgets"]))


def started(arm: Arm, drawn: Drawn, saved: Sequence[MLP]) -> list[MLP]:
    """The networks with which an arm starts, a lane each."""
    return [start_network(arm, seed, old) for seed, old in zip(drawn.seeds, saved)]


def old_networks(
    drawn: Drawn, split: Split, spec: Mapping[str, Any], tick: Tick
) -> tuple[list[MLP], torch.Tensor]:
    """The network of each lane's old rows, and the epoch of its weights.

    To the end: on all old rows. Stopped: by the loss of the old ones among the rows held out,
    which it then has not seen.
    """
    old = ensemble_of([random_network(seed, "first weights") for seed in drawn.seeds])
    orders, epochs = orders_of([stream(seed, "first order") for seed in drawn.seeds]), spec["first_epochs"]
    if spec["old"] == "stopped":
        best = train_stopped(
            {"old": old},
            split.of_old(),
            orders,
            epochs,
            patience=spec["patience"],
            tick=tick,
            learning_rate=spec["learning_rate"],
        )["old"]["loss"]
        return best.shown().networks(), best.epoch
    for _ in train_epochs(
        {"old": old}, drawn.stacked, drawn.lanes, OLD_ROWS, orders, epochs, tick, spec["learning_rate"]
    ):
        pass
    return old.networks(), torch.full((len(drawn.seeds),), epochs)


def accuracy(
    found: Mapping[str, Any], way: str, protocol: str, *, epochs: int | None = None, rule: str = "loss"
) -> Floats:
    """Test accuracy of a way in percent, one value a table.

    Parameters
    ----------
    found : mapping
        A result of *stopped* or *temperature*.
    way : str
    protocol : {"article", "equal", "stopped", "again", "budget"}
        *Article*: what is shrunk and kept after 500 epochs, all else after 1000.
    epochs : int, optional
        Of *equal*, one of ``read_at``; of *budget*, one of ``budgets``. Default: the last.
    rule : {"loss", "accuracy"}
        What stops.
    """
    spec = found["specification"]
    if protocol in ("article", "equal"):
        if protocol == "article":
            epochs = HALF if way.startswith("shrink_perturb") else EPOCHS
        place = -1 if epochs is None else spec["read_at"].index(epochs)
        return in_percent(spec, found["all"][way], further=1)[:, place]
    if protocol == "budget":
        place = -1 if epochs is None else spec["budgets"].index(epochs)
        return in_percent(spec, found["budget"][rule][way], further=1)[:, place]
    if protocol not in ("stopped", "again"):
        raise ValueError(f"no protocol {protocol!r}: choose from article, equal, stopped, again, budget")
    return in_percent(spec, found[protocol][rule][way])


def cost(found: Mapping[str, Any], way: str, base: str = "cold", rule: str = "loss") -> float:
    """Epochs trained until stopped, as a share of those of `base`: a ratio of sums over all runs."""
    spent = found["spent"][rule]
    return float(np.sum(spent[way]) / np.sum(spent[base]))


def against(
    found: Mapping[str, Any],
    protocol: str,
    *,
    base: str = "cold",
    epochs: int | None = None,
    rule: str = "loss",
) -> dict[str, Interval]:
    """Every way minus `base` under one protocol, in points: one joint family.

    Parameters
    ----------
    found, protocol, epochs, rule
        As for :func:`accuracy`.

    Returns
    -------
    dict
        Way → interval over tables, in the order of the file.
    """
    how: dict[str, Any] = {"epochs": epochs, "rule": rule}
    reference = accuracy(found, base, protocol, **how)
    ways = [way for way in found["all"] if way != base]
    return simultaneous({way: accuracy(found, way, protocol, **how) - reference for way in ways})


def within_budgets(
    found: Mapping[str, Any], *, base: str = "cold", rule: str = "loss"
) -> dict[tuple[str, int], Interval]:
    """Every way minus `base` with the same budget, in points: all ways and budgets are one joint family.

    Returns
    -------
    dict
        (way, budget in epochs) → interval over tables.
    """
    budgets = found["specification"]["budgets"]
    pairs = [(way, budget) for way in found["all"] if way != base for budget in budgets]

    def best(way: str, budget: int) -> Floats:
        return accuracy(found, way, "budget", epochs=budget, rule=rule)

    family = {str(pair): best(*pair) - best(base, pair[1]) for pair in pairs}
    return dict(zip(pairs, simultaneous(family).values()))
