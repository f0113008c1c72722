"""Judge explanations: which one goes with the generalization gap?

What was measured in :mod:`wsp.studies.inside` is compared here: arms at one and the same
training loss, and quantities with the gap over tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from wsp.lab.statistics import Floats, Interval


def equal_fit(
    retraining: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Floats], Floats]:
    """Accuracy of every arm at one and the same training loss, unit by unit.

    A unit's target is the lowest loss that *every* arm reaches there: so nobody
    chooses it. Between readings the accuracy is interpolated, linearly in the
    logarithm of the loss.

    Parameters
    ----------
    retraining : mapping
        Arm → `accuracy` and `loss`, each (units, readings).

    Returns
    -------
    accuracy : dict
        Arm → (units,).
    target : array (units,)
        In nats.

    Examples
    --------
    >>> slow = {"accuracy": [[50.0, 60.0]], "loss": [[1.0, 0.5]]}
    >>> fast = {"accuracy": [[50.0, 70.0]], "loss": [[1.0, 0.25]]}
    >>> accuracy, target = equal_fit({"slow": slow, "fast": fast})
    >>> accuracy["slow"], accuracy["fast"], target
    (array([60.]), array([60.]), array([0.5]))

    See chapter 7.
    """
    # A loss that rises again does not count as unlearned: the lowest so far.
    lowest = {
        key: np.minimum.accumulate(np.asarray(values["loss"], dtype=float), axis=1)
        for key, values in retraining.items()
    }
    target = np.max([losses[:, -1] for losses in lowest.values()], axis=0)
    return {
        key: np.array(
            [
                np.interp(-np.log(aim), -np.log(losses), accuracies)
                for aim, losses, accuracies in zip(target, lowest[key], np.asarray(values["accuracy"]))
            ]
        )
        for key, values in retraining.items()
    }, target


def rank_correlations(
    gap: Floats, suspects: Mapping[str, Floats], level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[str, Interval]:
    """Spearman correlations of a gap with each suspect over units, with simultaneous intervals.

    Units are resampled; on Fisher's scale the largest standardized deviation of
    a resample gives the width for all (bootstrap max-t, as in
    :func:`wsp.lab.statistics.simultaneous`).

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> gap = random.normal(size=60)
    >>> near, apart = gap + 0.1 * random.normal(size=60), random.normal(size=60)
    >>> found = rank_correlations(gap, {"near": near, "apart": apart})
    >>> found["near"].low > 0.9, found["apart"].low < 0 < found["apart"].high
    (True, True)

    Source: Fisher (1915). See chapter 7.
    """
    columns = np.column_stack([gap, *suspects.values()])

    def fisher(rows: Floats) -> Floats:
        correlation: Floats = np.corrcoef(stats.rankdata(rows, axis=0), rowvar=False)[0, 1:]
        z: Floats = np.arctanh(correlation.clip(-0.999999, 0.999999))
        return z

    random = np.random.default_rng(seed)
    estimate = fisher(columns)
    resampled = np.array(
        [fisher(columns[random.integers(0, len(columns), len(columns))]) for _ in range(draws)]
    )
    error = resampled.std(axis=0, ddof=1)
    half = np.quantile(np.abs((resampled - estimate) / error).max(axis=1), level) * error
    return {
        name: Interval(*(float(np.tanh(z)) for z in (e, e - h, e + h)))
        for name, e, h in zip(suspects, estimate, half)
    }
