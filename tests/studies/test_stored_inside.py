"""What chapter 7 promises about its stored measurements."""

from __future__ import annotations

import numpy as np
import pytest

from wsp.lab.explain import equal_fit
from wsp.lab.restarts import CASES, RESTARTS
from wsp.lab.results import stored
from wsp.studies.inside import LAMDAS


def test_the_evidence_is_as_large_as_was_promised() -> None:
    assert CASES["employees"].units >= 100
    assert all(CASES[key].units >= 20 for key in ("digits", "digits_mislabeled"))


@pytest.mark.parametrize("key", list(CASES))
def test_every_restart_has_a_row_a_unit(key: str) -> None:
    case, found = CASES[key], stored(f"inside_{key}")["found"]
    restarts = {name for name, restart in RESTARTS.items() if case.biases or not restart.biases}
    assert set(found["retraining"]) == set(found["suspects"]) == restarts
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
    one, other = (found["retraining"][restart] for restart in ("shrunk_0.5", "softer_faster"))
    for name in ("accuracy", "loss", "step"):
        np.testing.assert_allclose(one[name], other[name], rtol=2e-3)


@pytest.mark.parametrize("key", list(CASES))
def test_every_restart_reaches_the_loss_at_which_it_is_compared(key: str) -> None:
    retraining = stored(f"inside_{key}")["found"]["retraining"]
    _, target = equal_fit(retraining)
    for read in retraining.values():
        assert (np.array(read["loss"]).min(axis=1) <= target + 1e-9).all()
