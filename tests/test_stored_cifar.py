"""A slice of the stored runs on CIFAR-10 is run again, where the same images are at hand."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsp import images
from wsp.contest import METHODS, averages
from wsp.employees import find
from wsp.results import processor, stored
from wsp.rounds import ARMS, Arm, experiment

# The test batch of the JPEG copy from which the stored results come.
JPEG_COPY = "4031d37f75019b03cd2c6e0837a85e5935f31d6a5050a8d117ad746543e6f124"


def same_images() -> bool:
    batch = Path(os.environ.get("WSP_CIFAR10", "absent")) / "test_batch.bin"
    return batch.is_file() and hashlib.sha256(batch.read_bytes()).hexdigest() == JPEG_COPY


needs_images = pytest.mark.skipif(
    not same_images(), reason="WSP_CIFAR10 names no folder with the JPEG copy of CIFAR-10"
)
# Result, arms, and how many rounds: enough to meet every network, optimizer and start.
SLICES = [
    ("logistic_adam", ["warm"], 2),
    ("logistic_sgd", ["cold", "shrink_perturb"], 2),
    ("mlp_relu_adam", ["warm", "shrink_perturb"], 2),
    ("mlp_relu_sgd", ["official"], 2),
    ("mlp_tanh_adam", ["warm", "shrink_perturb"], 2),
    ("mlp_tanh_sgd", ["shrink_perturb"], 2),
    ("rounds_mlp_relu_adam", ["warm", "shrink_perturb"], 5),
    ("rounds_mlp_tanh_adam", ["official"], 5),
    ("resnet_adam", ["warm"], 2),
    ("resnet_sgd", ["cold"], 1),  # the first training alone takes minutes
    ("rounds_resnet_adam", ["shrink_perturb"], 2),
]
# One that trains two networks, one that is another network.
RIVALS = ["hare", "layer_norm"]


def check(found: dict[str, Any], arms: list[Arm], limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the first rounds of split 0 again: alike to the image on the processor that stored them.

    Elsewhere single precision goes other ways, and a mean may differ by three points.
    """
    whole = images.rounds
    monkeypatch.setattr(images, "rounds", lambda train, size: whole(train, size)[:limit])
    again = experiment(found["specification"], arms, 1)
    kept = {run["arm"]: run["correct"] for run in found["runs"] if run["seed"] == 0}
    source = found["provenance"]
    same = source["processor"] == processor() and source["torch"] == torch.__version__
    assert len(again["runs"]) == len(arms)
    for run in again["runs"]:
        assert len(run["correct"]) == limit
        apart = np.array(run["correct"]) - kept[run["arm"]][:limit]
        points = 100 * abs(apart.mean()) / found["specification"]["test"]
        assert not apart.any() if same else points < 3, run["arm"]


@needs_images
@pytest.mark.parametrize("name, arms, limit", SLICES)
def test_a_slice_is_reproduced(
    name: str, arms: list[str], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(stored(f"cifar_reduced_{name}"), [ARMS[arm] for arm in arms], limit, monkeypatch)


@needs_images
@pytest.mark.parametrize("key", RIVALS)
def test_a_slice_of_the_contest_is_reproduced(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = stored("rivals_cifar10_wrong_0.0")
    arm = METHODS[key].as_published(found["specification"]["learning_rate"])
    check(found, [arm], 2, monkeypatch)


def test_every_stored_result_has_a_slice() -> None:
    paths = find("results").glob("cifar_reduced_*.json")
    names = {path.stem.removeprefix("cifar_reduced_") for path in paths}
    assert names == {name for name, _, _ in SLICES}


def test_the_stored_contest_is_whole() -> None:
    found = stored("rivals_cifar10_wrong_0.0")
    runs = {(run["arm"], run["seed"]) for run in found["runs"]}
    assert runs == {(key, seed) for key in METHODS for seed in range(5)}
    assert found["specification"]["tune"] == 0 and found["specification"]["note"] == "JPEG copy"
    assert all(seen > 0 for values in averages(found, "cost").values() for seen in values)
