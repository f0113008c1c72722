"""A slice of the stored runs on CIFAR-10 is run again, where the same images are at hand."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from wsp.contest import METHODS, averages
from wsp.results import processor, stored
from wsp.rounds import ARMS, experiment

# The test batch of the JPEG copy from which the stored results come.
JPEG_COPY = "4031d37f75019b03cd2c6e0837a85e5935f31d6a5050a8d117ad746543e6f124"


def same_images() -> bool:
    batch = Path(os.environ.get("WSP_CIFAR10", "absent")) / "test_batch.bin"
    return batch.is_file() and hashlib.sha256(batch.read_bytes()).hexdigest() == JPEG_COPY


@pytest.mark.skipif(not same_images(), reason="WSP_CIFAR10 names no folder with the JPEG copy of CIFAR-10")
@pytest.mark.parametrize("name", ["mlp_relu_adam", "mlp_tanh_adam", "rounds_mlp_relu_adam"])
def test_a_slice_is_reproduced(name: str) -> None:
    """To the image on the processor that stored it; elsewhere single precision goes other ways."""
    found = stored(f"cifar_reduced_{name}")
    arms = ["warm", "shrink_perturb"]
    again = experiment(found["specification"], [ARMS[arm] for arm in arms], 1)
    kept = {run["arm"]: run for run in found["runs"] if run["seed"] == 0}
    source = found["provenance"]
    same = source["processor"] == processor() and source["torch"] == torch.__version__
    for run in again["runs"]:
        apart = np.array(run["correct"]) - kept[run["arm"]]["correct"]
        points = 100 * abs(apart.mean()) / found["specification"]["test"]
        assert not apart.any() if same else points < 3, run["arm"]


def test_the_stored_contest_is_whole() -> None:
    found = stored("rivals_cifar10_wrong_0.0")
    runs = {(run["arm"], run["seed"]) for run in found["runs"]}
    assert runs == {(key, seed) for key in METHODS for seed in range(5)}
    assert found["specification"]["tune"] == 0 and found["specification"]["note"] == "JPEG copy"
    assert all(seen > 0 for values in averages(found, "cost").values() for seen in values)
