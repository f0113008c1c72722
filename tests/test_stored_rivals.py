"""A slice of the stored contests is run again and must come out as stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wsp.contest import METHODS, REPORT, TUNE, WRONG, chosen
from wsp.images import rounds
from wsp.results import processor, stored
from wsp.rounds import OPTIONS, PRECISIONS, load, network_named, run_arms

STORED = ["rivals_digits_wrong_0.0", f"rivals_digits_wrong_{WRONG}"]
# One that changes the start, one that bends the loss, one between steps, one that ends early.
SLICE = ["warm", "dash", "l2_init", "hare", "cold_stopped"]


@pytest.mark.parametrize("name", STORED)
def test_a_slice_is_reproduced(name: str) -> None:
    """To the image on the processor that stored it; elsewhere single precision goes other ways."""
    found = stored(name)
    spec, best = found["specification"], chosen(found)
    arms = {arm.key: arm for key in SLICE for arm in METHODS[key].arms().values()}
    seed = spec["tune"] + REPORT - 1
    train, test = load(spec["data"], "cpu", PRECISIONS[spec["precision"]])(spec, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = run_arms(
            [arms[best[key]] for key in SLICE],
            network_named(spec["network"], spec["activation"], spec["data"]),
            rounds(train, spec["size"]),
            test,
            seed,
            **{option: spec[option] for option in OPTIONS},
        )
        again = {arm.key: [record.correct for record in records] for arm, records in again}
    finally:
        torch.set_num_threads(threads)
    kept = {run["arm"]: run["correct"] for run in found["runs"] if run["seed"] == seed}
    source = found["provenance"]
    same = source["processor"] == processor() and source["torch"] == torch.__version__
    for arm, correct in again.items():
        apart = 100 * (np.array(correct) - kept[arm]) / spec["test"]
        assert correct == kept[arm] if same else abs(apart.mean()) < 3, arm


@pytest.mark.parametrize("name", STORED)
def test_a_stored_contest_is_whole_and_says_where_it_comes_from(name: str) -> None:
    found = stored(name)
    tune = found["specification"]["tune"]
    runs = {(run["arm"], run["seed"]) for run in found["runs"]}
    assert tune >= TUNE and len(runs) == len(found["runs"])
    for key, method in METHODS.items():
        assert {(arm, seed) for arm in method.arms() for seed in range(tune)} <= runs
        assert {(chosen(found)[key], seed) for seed in range(tune + REPORT)} <= runs
    assert REPORT >= 20
    assert {"command", "code", "torch", "device", "processor", "seconds", "date"} <= set(found["provenance"])
