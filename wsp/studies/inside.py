"""Look inside the trick: what shrinking changes in a network, and which part of it matters.

The same networks are shrunk and not retrained, restarted in the ways of :mod:`wsp.lab.restarts`, and
joined by straight lines, over fresh tables and splits. Measured with :mod:`wsp.lab.inside`;
:mod:`wsp.lab.explain` judges explanations by it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from wsp.lab import images
from wsp.lab.employees import Table
from wsp.lab.fitting import fit
from wsp.lab.inside import STEPS, Lanes, barrier, losses_between, pulls, scores, shrunk, suspects
from wsp.lab.network import MLP, ConvNet, seeded
from wsp.lab.restarts import (
    CASES,
    HALF,
    RESTARTS,
    Case,
    Restart,
    balance,
    draw,
    new_network,
    rate_of,
    start_lanes,
    train_first,
)
from wsp.lab.retraining import stream
from wsp.perturb import shrink_perturb_
from wsp.studies.engine import Study, Tick
from wsp.studies.parts import Content, differences, rows_of, uneven

LAMDAS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
CONVNETS = "convnets"  # on the splits of the case "digits"
FOUR_DIGITS = 2e-3  # relative: as many are stored, and lanes round as they lie side by side
PATHS = (  # straight lines between a start or end and another
    ("warm start", "warm end"),
    ("shrunk start", "shrunk end"),
    ("warm start", "shrunk end"),
    ("warm end", "shrunk end"),
    ("warm end", "cold end"),
)


class Inside(Study):
    """``found`` holds the ``units`` as they came, and what :func:`look_inside` or
    :func:`shrink_convnets` says about them; the ``sum`` along a path is over all of them.
    """

    name, chapter, parallel = "inside", 7, False
    words = "what shrinking changes in a network, and which part of it matters"

    def specification(self, *, case: str = "employees") -> Content:
        """What to look inside.

        Parameters
        ----------
        case : str
            employees, digits, digits_mislabeled, or convnets, which are shrunk alone.

        Examples
        --------
        >>> Inside().specification(case="apples")
        Traceback (most recent call last):
        ValueError: unknown case 'apples': choose from employees, digits, digits_mislabeled, convnets
        """
        if case not in (*CASES, CONVNETS):
            raise ValueError(f"unknown case {case!r}: choose from {', '.join(CASES)}, {CONVNETS}")
        problem = CASES["digits" if case == CONVNETS else case]
        return {"format": "wsp inside 1", "key": case, "case": asdict(problem)}

    def units(self, spec: Content, content: Content | None) -> Sequence[int]:
        """Every fresh table, or every split."""
        return range(spec["case"]["units"])

    def work(self, spec: Content, units: Sequence[int], tick: Tick, device: str) -> Iterator[Content]:
        """Look inside the networks of these units, side by side."""
        fields: Content = {name: tuple(v) if isinstance(v, list) else v for name, v in spec["case"].items()}
        restarts = {key: RESTARTS[key] for key in spec.get("restarts", RESTARTS)}
        if spec["key"] == CONVNETS:
            yield {"found": shrink_convnets(Case(**fields), units)}
        else:
            yield {"found": look_inside(Case(**fields), units, restarts)}
        tick(len(units))

    def done(self, content: Content) -> list[int]:
        """Tables or splits, as they came."""
        return list(content["found"]["units"])

    def merge(self, parts: Sequence[Content]) -> Content:
        """Rows as they came, for sums of floats depend on the order.

        Examples
        --------
        >>> Inside().merge([{"found": {"units": [1], "sum": [1.0]}}, {"found": {"units": [0], "sum": [2.0]}}])
        {'found': {'units': [1, 0], 'sum': [3.0]}}
        """

        def joined(one: Any, other: Any, name: str) -> Any:
            if isinstance(one, Mapping):
                return {inner: joined(one[inner], other[inner], inner) for inner in one}
            return [a + b for a, b in zip(one, other, strict=True)] if name == "sum" else one + other

        whole = parts[0]["found"]
        for part in parts[1:]:
            whole = joined(whole, part["found"], "found")
        return {"found": whole}

    def rows(self, content: Content, units: Sequence[int]) -> Content:
        """What was found about these units; not their paths, which end where a retraining ends."""
        places = [self.done(content).index(unit) for unit in units]
        found = {name: values for name, values in content["found"].items() if name != "paths"}
        return dict(rows_of(found, places))

    def missing(self, content: Content) -> list[str]:
        """Lists without a row for each unit, and paths without all of their points."""
        found = content["found"]
        lacks = list(uneven(found, len(found["units"]), skip=["sum"]))
        for name, path in found.get("paths", {}).items():
            for table, read in path.items():
                lacks += uneven({"sum": read["sum"]}, STEPS, where=f"{name} {table}")
        return lacks

    def slice(self, content: Content) -> tuple[Content, Sequence[int]]:
        """The last unit: three restarts, and no further than their third reading."""
        spec, case = content["specification"], content["specification"]["case"]
        read_at = case["read_at"][:3]
        short = {
            "epochs": read_at[-1],
            "read_at": read_at,
            "trace_at": [epoch for epoch in case["trace_at"] if epoch < read_at[-1]],
        }
        changes = {"case": case | short, "restarts": ["cold", "warm", "softer"]}
        return spec | changes, self.done(content)[-1:]

    def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
        """To four digits. Convnets train in single precision: elsewhere some images go otherwise."""
        if at_home or "stale" not in again:
            yield from differences(kept, again, FOUR_DIGITS)
            return
        for kind in ("stale", "estimated"):
            for name, bound in (("accuracy", 3.0), ("confidence", 0.03)):
                apart = float(np.abs(np.subtract(again[kind][name], kept[kind][name])).max())
                if apart > bound:
                    yield f"{kind} {name}: {apart:.3g} apart"

    def as_text(self, content: Content) -> str:
        """How accurate every restart ends, or what is left by shrinking."""
        found = content["found"]
        lines = [f"{content['specification']['key']}: {len(found['units'])} tables or splits"]
        for key, read in found.get("retraining", {}).items():
            end = np.array(read["accuracy"])[:, -1].mean()
            lines.append(f"{RESTARTS[key].words:28s}{end:8.2f} % at the last epoch")
        for kind in ("function", "function_all", "stale", "estimated"):
            if kind in found:
                full, half = (
                    np.array(found[kind]["accuracy"])[:, LAMDAS.index(lamda)].mean() for lamda in (1.0, HALF)
                )
                lines.append(f"{kind:28s}{full:8.2f} % as saved, {half:.2f} % shrunk to one half")
        return "\n".join(lines)


STUDY = Inside()


def retrain(
    case: Case, restart: Restart, lanes: Lanes, train: Table, test: Table, seeds: Sequence[int]
) -> dict[str, Tensor]:
    """Retrain the lanes in place; return what was read, (lanes, readings) by name.

    Accuracy on `test` and loss on `train` at the epochs of ``case.read_at``; `old`,
    `new` (norms of the gradient of the mean loss on old and on new rows) and `step`
    (effective learning rate of the epoch that begins there) at those of ``case.trace_at``.
    """
    generators = [stream(seed, "order") for seed in seeds]
    read: dict[str, list[Tensor]] = {}

    def note(**found: Tensor) -> None:
        for name, values in found.items():
            read.setdefault(name, []).append(values)

    for epoch in range(case.epochs + 1):
        if epoch in case.read_at:
            note(accuracy=scores(lanes, test)["accuracy"], loss=scores(lanes, train)["loss"])
        if epoch == case.epochs:
            break
        order = torch.stack([torch.randperm(case.rows, generator=g) for g in generators])
        rate, size = rate_of(case, restart, epoch), case.batch_size
        if epoch in case.trace_at:
            old, new = pulls(lanes, train, case.old_rows)
            step = lanes.effective_rate(train, order, learning_rate=rate, batch_size=size)
            note(old=old, new=new, step=step)
        weight = balance(lanes, train, case.old_rows) if restart.balanced else 1.0
        lanes.train_epoch(train, order, learning_rate=rate, batch_size=size, weight=weight)
    return {name: torch.stack(values, dim=1) for name, values in read.items()}


def shrink_function(
    networks: Sequence[MLP], train: Table, test: Table, old_rows: int, biases: bool = False
) -> dict[str, Tensor]:
    """What shrinking alone, without retraining, does to saved networks: (lanes, lamdas) each.

    `accuracy`, `loss`, `confidence` on test rows; `agreement`: percent of them for
    which the answer is still the unshrunk network's; `old`, `new`: how hard the
    training rows now pull (:func:`~wsp.lab.inside.pulls`).
    """
    answers = Lanes(networks).logits(test.inputs).argmax(dim=2)
    read: dict[str, list[Tensor]] = {}
    for lamda in LAMDAS:
        lanes = Lanes(shrunk(networks, lamda, biases))
        found = scores(lanes, test)
        found["agreement"] = scores(lanes, Table(test.inputs, answers))["accuracy"]
        found["old"], found["new"] = pulls(lanes, train, old_rows)
        for name, values in found.items():
            read.setdefault(name, []).append(values)
    return {name: torch.stack(values, dim=1) for name, values in read.items()}


def look_inside(case: Case, units: Sequence[int], restarts: Mapping[str, Restart] = RESTARTS) -> Content:
    """Everything about these units: the function under shrinking, the restarts, the paths between them.

    Parameters
    ----------
    case : Case
    units : sequence of int
        Numbers of fresh tables or of splits, from 0.
    restarts : mapping
        Default: all.

    Returns
    -------
    dict
        `units`; `function` (and, where there are biases, `function_all`, with biases shrunk
        as well) and, by restart, `retraining` and `suspects` (at the restart): lists
        with a row a unit, averaged over seeds; `paths`: by path, the barrier of each unit in
        the training and test loss, and the sum of the losses over units at each point.
    """
    pairs = list(product(range(len(units)), range(case.seeds)))
    lane = torch.tensor([unit for unit, _ in pairs])
    # Digits have one seed a split, and every split its own; seeds are shared between tables.
    seeds = [seed if case.seeds > 1 else units[unit] for unit, seed in pairs]
    train, test = (Table(*(column[lane] for column in table)) for table in draw(case, units))
    saved = train_first(case, train, seeds)
    fresh = [new_network(case, seed, "fresh weights") for seed in seeds]

    def by_unit(values: Tensor) -> list[Any]:
        means = values.detach().view(len(units), case.seeds, *values.shape[1:]).mean(dim=1)
        return _rounded(means)

    functions = {"function": shrink_function(saved, train, test, case.old_rows)}
    if case.biases:
        functions["function_all"] = shrink_function(saved, train, test, case.old_rows, biases=True)
    found: Content = {
        "units": list(units),
        **{
            kind: {name: by_unit(values) for name, values in function.items()}
            for kind, function in functions.items()
        },
        "retraining": {},
        "suspects": {},
    }
    corners: dict[str, Lanes] = {}
    for key, restart in restarts.items():
        if restart.biases and not case.biases:
            continue
        lanes = start_lanes(restart, saved, fresh, train.inputs)
        found["suspects"][key] = {name: by_unit(values) for name, values in suspects(lanes, train).items()}
        name = {"cold": "cold", "warm": "warm", f"shrunk_{HALF}": "shrunk"}.get(key)
        if name:
            corners[f"{name} start"] = start_lanes(restart, saved, fresh, train.inputs)
            corners[f"{name} end"] = lanes
        readings = retrain(case, restart, lanes, train, test, seeds)
        found["retraining"][key] = {what: by_unit(values) for what, values in readings.items()}
    found["paths"] = {}
    for one, other in PATHS:
        if one in corners and other in corners:
            path = {}
            for name, table in (("train", train), ("test", test)):
                losses = losses_between(corners[one], corners[other], table)
                path[name] = {
                    "barrier": by_unit(barrier(losses)),
                    "sum": _rounded(losses.sum(dim=0) / case.seeds),
                }
            found["paths"][f"{one} - {other}"] = path
    return found


def shrink_convnets(case: Case, splits: Sequence[int]) -> Content:
    """What shrinking does to a convolutional network with BatchNorm, without retraining.

    One :class:`wsp.lab.network.ConvNet` a split of the digits, trained by the paper's
    rule on the old rows of the case. Its running statistics are once
    left as they were ("stale"), once estimated again on the same rows.

    Returns
    -------
    dict
        `units`, and for ``"stale"`` and ``"estimated"`` the `accuracy`, `loss`,
        `confidence` and `agreement` of :func:`shrink_function`.
    """
    found: Content = {"units": list(splits), "stale": {}, "estimated": {}}
    for split in splits:
        train, test = images.split(images.digits(), case.rows, case.test_rows, seed=split)
        old = Table(*(column[: case.old_rows] for column in train))
        with seeded(split):
            network = ConvNet()
        fit(network, old, stream(split, "first order"), label="ConvNet")
        answers = network(test.inputs).argmax(dim=1)
        for kind in ("stale", "estimated"):
            read: dict[str, list[Tensor]] = {}
            for lamda in LAMDAS:
                shrunken = shrink_perturb_(copy.deepcopy(network), lamda, 0.0, running_stats="keep")
                if kind == "estimated":
                    update_bn(torch.split(old.inputs, len(old.inputs)), shrunken)
                with torch.no_grad():
                    logits = shrunken.eval()(test.inputs)
                scores = {
                    "accuracy": 100 * (logits.argmax(dim=1) == test.labels).double().mean(),
                    "loss": nn.functional.cross_entropy(logits, test.labels),
                    "confidence": logits.softmax(dim=1).amax(dim=1).mean(),
                    "agreement": 100 * (logits.argmax(dim=1) == answers).double().mean(),
                }
                for name, value in scores.items():
                    read.setdefault(name, []).append(value)
            for name, values in read.items():
                found[kind].setdefault(name, []).append(_rounded(torch.stack(values)))
    return found


def _rounded(values: Tensor) -> list[Any]:
    """As nested lists, to four significant digits: a stored file stays small."""
    array = values.detach().double().numpy()
    rounded = np.vectorize(lambda value: float(f"{value:.4g}"), otypes=[float])(array)
    return rounded.tolist()  # type: ignore[no-any-return]
