"""The stored measurements of chapter 7 are whole, and a slice of each comes out again."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

from wsp import inside
from wsp.explain import equal_fit
from wsp.inside import ARMS, CASES, LAMDAS
from wsp.results import stored

KEYS = (*CASES, "convnets")


@pytest.mark.parametrize("key", KEYS)
def test_it_says_what_it_is_and_where_it_comes_from(key: str) -> None:
    found = stored(f"inside_{key}")
    case = CASES["digits" if key == "convnets" else key]
    assert found["specification"]["case"] == json.loads(json.dumps(asdict(case)))
    assert found["provenance"]["command"] == f"python -m wsp inside {key}"
    assert {"code", "torch", "processor", "seconds", "date"} <= set(found["provenance"])
    assert sorted(found["found"]["units"]) == list(range(case.units))


def test_the_evidence_is_as_large_as_was_promised() -> None:
    assert CASES["employees"].units >= 100
    assert all(CASES[key].units >= 20 for key in ("digits", "digits_mislabeled"))


@pytest.mark.parametrize("key", list(CASES))
def test_every_arm_has_a_row_a_unit(key: str) -> None:
    case, found = CASES[key], stored(f"inside_{key}")["found"]
    arms = {name for name, arm in ARMS.items() if case.biases or not arm.biases}
    assert set(found["retraining"]) == set(found["suspects"]) == arms
    for read in found["retraining"].values():
        for name, rows in read.items():
            epochs = case.read_at if name in ("accuracy", "loss") else case.trace_at
            assert np.array(rows).shape == (case.units, len(epochs))
            assert np.isfinite(np.array(rows)).all()
    for rows in found["function"].values():
        assert np.array(rows).shape == (case.units, len(LAMDAS))


@pytest.mark.parametrize("key", ["digits", "digits_mislabeled"])
def test_the_two_propositions_hold_in_what_is_stored(key: str) -> None:
    found = stored(f"inside_{key}")["found"]
    assert np.array(found["function"]["agreement"]).min() == 100.0
    one, other = (found["retraining"][arm] for arm in ("shrunk_0.5", "softer_faster"))
    for name in ("accuracy", "loss", "step"):
        np.testing.assert_allclose(one[name], other[name], rtol=2e-3)


@pytest.mark.parametrize("key", list(CASES))
def test_every_arm_reaches_the_loss_at_which_it_is_compared(key: str) -> None:
    retraining = stored(f"inside_{key}")["found"]["retraining"]
    _, target = equal_fit(retraining)
    for read in retraining.values():
        assert (np.array(read["loss"]).min(axis=1) <= target + 1e-9).all()


def rerun(key: str, unit: int, arms: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """One unit, and only the first epochs of its retraining; and the stored unit."""
    case = CASES[key]
    epochs = case.read_at[2]
    short = dataclasses.replace(
        case,
        epochs=epochs,
        read_at=case.read_at[:3],
        trace_at=tuple(epoch for epoch in case.trace_at if epoch < epochs),
    )
    again = inside.look_inside(short, [unit], {arm: ARMS[arm] for arm in arms})
    return again, stored(f"inside_{key}")["found"]


@pytest.mark.parametrize("key", list(CASES))
def test_a_slice_is_reproduced(key: str) -> None:
    torch.set_num_threads(1)
    unit, arms = CASES[key].units - 1, ("cold", "warm", "softer")
    again, found = rerun(key, unit, arms)
    place = found["units"].index(unit)
    for name in ("accuracy", "loss", "old", "new"):
        stored_row, row = found["function"][name][place], again["function"][name][0]
        np.testing.assert_allclose(row, stored_row, rtol=2e-3, atol=1e-4)
    for arm in arms:
        for name, rows in again["retraining"][arm].items():
            expected = found["retraining"][arm][name][place][: len(rows[0])]
            np.testing.assert_allclose(rows[0], expected, rtol=2e-3, atol=1e-4)
        for name, rows in again["suspects"][arm].items():
            np.testing.assert_allclose(rows[0], found["suspects"][arm][name][place], rtol=2e-3)


def test_a_network_with_batchnorm_is_reproduced() -> None:
    torch.set_num_threads(1)
    found, unit = stored("inside_convnets")["found"], 7
    again, place = inside.shrink_convnets([unit]), found["units"].index(unit)
    for kind in ("stale", "estimated"):
        # Trained in single precision: another processor may answer a few images otherwise.
        np.testing.assert_allclose(again[kind]["accuracy"][0], found[kind]["accuracy"][place], atol=3.0)
        np.testing.assert_allclose(again[kind]["confidence"][0], found[kind]["confidence"][place], atol=0.03)
