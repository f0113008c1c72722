"""The rounds of images as studies: settings, splits, precision, and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsp.lab import images
from wsp.lab.statistics import mean_interval
from wsp.studies import __main__ as cli
from wsp.studies import rounds
from wsp.studies.engine import run
from wsp.studies.parts import Content
from wsp.studies.rounds import CIFAR, DIGITS

SMALL: Content = {"images": 60, "test": 40, "size": 30, "max_epochs": 2, "network": "logistic"}


def small(**settings: Any) -> Content:
    return DIGITS.specification(**SMALL | settings)


def without_times(found: Content) -> list[Content]:
    return [{key: value for key, value in run.items() if key != "seconds"} for run in found["runs"]]


def test_a_run_does_not_depend_on_the_others(tmp_path: Path) -> None:
    """Arms of a split share what they share, whether they are run together or one by one."""
    arms = ["cold", "warm", "official"]
    whole = run(DIGITS, small(), seeds=2, arms=arms)
    assert [(found["seed"], found["arm"]) for found in whole["runs"]] == [
        (s, a) for s in (0, 1) for a in arms
    ]
    out = tmp_path / "runs.json"
    run(DIGITS, small(), out, seeds=1, arms=arms[1:])
    parts = run(DIGITS, small(), out, seeds=2, arms=arms)
    by_name = {(found["seed"], found["arm"]): found for found in without_times(parts)}
    assert list(by_name.values()) != without_times(whole), "in another order"
    assert [by_name[found["seed"], found["arm"]] for found in whole["runs"]] == without_times(whole)
    assert len(run(DIGITS, small(), out, seeds=3, arms=[*arms, "fresh_shrunk"])["runs"]) == 12


def test_a_run_that_is_not_whole_is_seen() -> None:
    found = run(DIGITS, small(), seeds=1, arms=["cold"])
    assert DIGITS.missing(found) == []
    found["runs"][0]["correct"].pop()
    assert DIGITS.missing(found) == ["cold 0 correct: 1 of 2 entries"]
    assert DIGITS.missing(found | {"runs": []}) == ["no runs"]


def test_bfloat16_trains_as_float32_does() -> None:
    """Autocast keeps copies of the weights, unless told not to: then nothing would be learned."""
    settings = {"network": "convnet", "images": 256, "size": 256, "test": 200, "max_epochs": 40}
    found = {
        precision: run(DIGITS, small(**settings, precision=precision), seeds=1, arms=["cold"])["runs"][0]
        for precision in ("float32", "bfloat16")
    }
    assert all(found["reached"] == [True] for found in found.values())
    [one], [other] = (found["epochs"] for found in found.values())
    assert abs(one - other) <= 3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_are_taken_in_the_precision_asked_for(precision: str) -> None:
    with rounds.autocast_of(small(precision=precision), "cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert str(product.dtype) == f"torch.{precision}"


def test_wrong_labels_spoil_training_alone() -> None:
    (clean, test), (wrong, same) = (rounds.split_of(small(wrong=share), 3, "cpu") for share in (0.0, 0.5))
    assert int((clean.labels != wrong.labels).sum()) == 30 and torch.equal(test.labels, same.labels)
    assert torch.equal(clean.inputs, wrong.inputs) and clean.inputs.dtype == torch.float64


@pytest.mark.parametrize(
    "study, settings, says",
    [
        (DIGITS, {"network": "resnet"}, "no network 'resnet' for digits: choose from mlp, logistic, convnet"),
        (CIFAR, {"network": "convnet"}, "choose from mlp, logistic, resnet"),
        (DIGITS, {"images": 1700}, r"digits has 1,797 images for images \+ test"),
        (DIGITS, {"images": -1}, "images must be a positive integer"),
        (DIGITS, {"size": 1201}, "size is at most images"),
        (DIGITS, {"size": -5}, "size must be a positive integer"),
        (DIGITS, {"test": -1}, "test must be a positive integer"),
        (DIGITS, {"wrong": 1.5}, "wrong must be from 0 to 1, not 1.5"),
        (DIGITS, {"activation": "gelu"}, "unknown activation 'gelu'"),
        (DIGITS, {"precision": "int8"}, "unknown precision 'int8'"),
        (DIGITS, {"optimizer": "sofia"}, "unknown optimizer 'sofia'"),
        (DIGITS, {"learning_rate": 0.0}, "learning_rate must be positive, not 0.0"),
        (DIGITS, {"stop_at": float("nan")}, "stop_at must be positive, not nan"),
        (DIGITS, {"max_epochs": 0}, "max_epochs must be positive"),
    ],
)
def test_specifications_are_checked(study: rounds.Rounds, settings: Content, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        study.specification(**settings)


def test_two_phases_by_default() -> None:
    spec = CIFAR.specification(images=4001)
    assert spec["size"] == 2001 and (spec["network"], spec["optimizer"]) == ("resnet", "adam")
    assert (spec["learning_rate"], spec["batch_size"], spec["stop_at"]) == (1e-3, 128, 0.99)  # the paper's


def test_whole_seeds_and_tables() -> None:
    def run(arm: str, seed: int, correct: list[int]) -> Content:
        return {"arm": arm, "seed": seed, "epochs": [2, 3, 4], "correct": correct}

    found = {
        "specification": {"images": 25, "size": 10, "test": 50},
        "runs": [run("cold", 0, [5, 10, 20]), run("warm", 0, [5, 15, 25]), run("cold", 1, [1, 2, 3])],
    }
    assert rounds.whole_seeds(found) == [0] and rounds.whole_seeds(found, ["cold"]) == [0, 1]
    assert rounds.table_of(found, "accuracy")["warm"].tolist() == [[10.0, 30.0, 50.0]]
    assert rounds.table_of(found, "samples", ["cold"])["cold"].tolist() == [[20, 60, 100]] * 2


def test_elsewhere_three_points_are_forgiven_and_no_more() -> None:
    kept = {"cold 0": {"correct": [50, 60, 70], "of": 100}}
    near, far = ({"cold 0": {"correct": [50 + off, 60 + off], "of": 100}} for off in (2, 3))
    assert list(DIGITS.differences(kept, near, at_home=False)) == []
    assert len(list(DIGITS.differences(kept, far, at_home=False))) == 1
    assert len(list(DIGITS.differences(kept, near, at_home=True))) == 2


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sixty images in the official layout, in a folder that WSP_CIFAR10 names."""
    monkeypatch.setattr(images, "RECORDS", 10)
    monkeypatch.setitem(rounds.ROWS, "cifar10", 50)
    for number, name in enumerate((*images.TRAIN_FILES, images.TEST_FILE)):
        records = np.random.default_rng(number).integers(0, 256, (10, images.RECORD), dtype=np.uint8)
        records[:, 0] = np.arange(10)
        (tmp_path / name).write_bytes(records.tobytes())
    monkeypatch.setenv("WSP_CIFAR10", str(tmp_path))
    rounds.whole.cache_clear()
    yield tmp_path
    rounds.whole.cache_clear()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cifar_on_the_command_line(cifar: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The paper's network and protocol, on a toy."""
    out = cifar / "runs.json"
    words = ["cifar", "--seeds", "1", "--images", "20", "--test", "10", "--max-epochs", "1"]
    words += ["--arms", "cold,official", "--precision", precision, "--note", "toy", "--out", str(out)]
    assert cli.main([*words, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 whole seeds (splits); last of 2 rounds") and "official" in printed
    found = json.loads(out.read_text())
    assert found["specification"]["note"] == "toy" and found["specification"]["precision"] == precision
    assert [run["epochs"] for run in found["runs"]] == [[1, 1], [1, 1]]
    assert {"wsp.lab.rounds", "wsp.lab.retraining", "wsp._checks"} <= set(found["provenance"]["modules"])


def test_the_text_pairs_with_cold(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    words = ["digits", "--seeds", "3", "--arms", "cold,warm", "--network", "logistic", "--images", "60"]
    assert cli.main([*words, "--test", "40", "--size", "30", "--max-epochs", "3", "--out", str(out)]) == 0
    accuracy = rounds.table_of(json.loads(out.read_text()), "accuracy")
    gap = str(mean_interval(accuracy["warm"][:, -1] - accuracy["cold"][:, -1]))
    lines = capsys.readouterr().out.splitlines()
    assert gap in lines[3] and f"{accuracy['warm'][:, -1].mean():.2f}" in lines[3]
    assert lines[3].split()[-3] == "180"  # 60 images, 3 epochs: the first round is everybody's


@pytest.mark.parametrize(
    "words, says",
    [
        (["digits", "--seeds", "0"], "seeds must be a positive integer, not 0"),
        (["digits", "--arms", "cold,tepid"], "unknown arm 'tepid': choose from cold, warm"),
        (["digits", "--network", "resnet"], "no network 'resnet' for digits"),
        (["cifar", "--seeds", "many"], "invalid int value"),
    ],
)
def test_bad_arguments_end_in_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(words)
    except SystemExit as left:
        code = left.code  # type: ignore[assignment]
    printed = capsys.readouterr()
    assert code == 2 and printed.out == ""
    assert says in printed.err and printed.err.count("\n") == 1


def test_no_images_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WSP_CIFAR10", str(tmp_path / "nowhere"))
    rounds.whole.cache_clear()
    assert cli.main(["cifar", "--seeds", "1"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_images_that_are_others_prove_nothing(cifar: Path) -> None:
    found = {"specification": CIFAR.specification(images=20, test=10, note="JPEG copy")}
    assert "JPEG copy" in CIFAR.needs(found)
    assert CIFAR.needs({"specification": CIFAR.specification(images=20, test=10)}) == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_draws_the_same() -> None:
    """The same split, weights and orders: after an epoch the accuracies are all but equal."""
    on_cpu, on_cuda = (
        run(DIGITS, small(network="mlp"), seeds=1, arms=["warm"], device=device) for device in ("cpu", "cuda")
    )
    for one, other in zip(on_cpu["runs"][0]["correct"], on_cuda["runs"][0]["correct"]):
        assert abs(one - other) <= 1
