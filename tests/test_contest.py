"""The rivals meet under one protocol: same budget, chosen on splits that are not reported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ROOT
from wsp import images
from wsp.__main__ import main
from wsp.contest import METHODS, averages, chosen, conditions, contest, redrawn, reported
from wsp.network import ConvNet, image_mlp, seeded
from wsp.results import load_json
from wsp.rounds import run_arms

OPTIONS = {"learning_rate": 1e-3, "batch_size": 32, "stop_at": 0.9, "patience": 5, "max_epochs": 8}


def through_rounds(method: str, value: float) -> list[tuple[int, float]]:
    """Right test images, and accuracy in training, of every round of one small run."""
    train, test = images.split(images.digits(), 160, 300, seed=0)
    arm = METHODS[method].make(method, 0.01, value)
    found = run_arms(
        [arm], lambda: image_mlp(hidden=(30,)), images.rounds(train, 80), test, seed=0, **OPTIONS
    )
    return [(round.correct, round.fit.train_accuracy) for _, rounds in found for round in rounds]


def test_every_method_may_try_six_settings_and_has_a_source() -> None:
    keys = set(re.findall(r"^@\w+\{([\w-]+),", (ROOT / "book" / "references.bib").read_text(), re.M))
    names = [name for method in METHODS.values() for name in method.arms()]
    assert len(names) == len(set(names)) == 6 * len(METHODS)
    for key, method in METHODS.items():
        assert method.key == key and method.source in keys
        assert all(name == arm.key for name, arm in method.arms().items())


@pytest.mark.parametrize("method, nothing", [("dash", 1.0), ("l2_init", 0.0), ("hare", 0.0), ("redo", 0.0)])
def test_a_rival_that_does_nothing_is_a_warm_start(method: str, nothing: float) -> None:
    """ReDo finds no unit that never fires, as all of them are tanh."""
    assert through_rounds(method, nothing) == through_rounds("warm", 0.0)


@pytest.mark.parametrize("method, value", [(m.key, m.values[-1]) for m in METHODS.values() if m.knob])
def test_a_rival_that_does_something_is_not(method: str, value: float) -> None:
    value = 0.9 if method == "redo" else value  # nearly half of the units are below 0.9
    assert through_rounds(method, value) != through_rounds("warm", 0.0)


def test_redrawn_networks_are_new_and_fixed_by_the_generator() -> None:
    with seeded(0):
        network = ConvNet()
    global_state = torch.get_rng_state()
    seeds = torch.Generator().manual_seed(0)
    one, other = redrawn(network, seeds), redrawn(network, seeds)
    again = redrawn(network, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), global_state)
    for p, q, r, s in zip(*(n.parameters() for n in (network, one, other, again)), strict=True):
        assert torch.equal(q, s)
        if p.dim() > 1:
            assert not torch.equal(p, q) and not torch.equal(q, r)


# Choosing and reporting ----------------------------------------------------------------


def stored_by_hand(tune: int = 2) -> dict[str, Any]:
    """Cold is right more often at one rate on the splits to choose on, and at another on the rest."""
    spec = {"tune": tune, "images": 20, "size": 10, "test": 100}
    runs = []
    for method in ("cold", "dash"):
        for number, name in enumerate(METHODS[method].arms()):
            for seed in range(5):
                best = 2 if seed < tune else 4
                correct = [99, 90 if number == best else 50 + seed]
                runs.append({"arm": name, "seed": seed, "epochs": [7, 3], "correct": correct})
    return {"specification": spec, "runs": runs}


def test_the_setting_is_chosen_on_splits_that_are_not_reported() -> None:
    found = stored_by_hand()
    names = [list(METHODS[method].arms())[2] for method in ("cold", "dash")]
    assert list(chosen(found, ["cold", "dash"]).values()) == names
    accuracy = reported(found, "accuracy", ["cold"])["cold"]
    np.testing.assert_array_equal(accuracy, [[99, 52], [99, 53], [99, 54]])
    # The first round is the same for all: it does not count.
    np.testing.assert_array_equal(averages(found, "accuracy", ["cold"])["cold"], [52, 53, 54])


def test_costs_count_what_a_method_looks_at_besides() -> None:
    found = stored_by_hand()
    cost = averages(found, "cost", ["cold", "dash"])
    assert cost["cold"].tolist() == [60, 60, 60]  # three epochs of 20 images
    assert cost["dash"].tolist() == [80, 80, 80]  # and one pass more


def test_a_contest_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    spec = conditions("digits", 0.0, tune=1) | {"images": 160, "size": 80, "max_epochs": 2}
    whole, halves = tmp_path / "whole.json", tmp_path / "halves.json"
    found = contest(spec, 1, whole, methods=["warm", "l2_init"])
    contest(spec, 1, halves, methods=["warm"])
    parts = contest(spec, 1, halves, methods=["warm", "l2_init"])
    kept = [
        {(run["arm"], run["seed"]): (run["correct"], run["epochs"]) for run in result["runs"]}
        for result in (found, parts)
    ]
    assert kept[0] == kept[1] and len(kept[0]) == 2 * 6 + 2
    before = halves.read_bytes()
    contest(spec, 1, halves, methods=["warm", "l2_init"])
    assert halves.read_bytes() == before


def test_cifar10_has_the_settings_of_the_sources() -> None:
    for key, method in METHODS.items():
        arm = method.as_published(1e-3)
        assert arm.key == key and arm.train is method.make(key, 1e-3, method.published).train
    spec = conditions("cifar10", 0.0, tune=0)
    assert (spec["network"], spec["images"], spec["size"], spec["tune"]) == ("resnet", 4000, 2000, 0)
    assert chosen({"specification": spec}, ["dash"]) == {"dash": "dash"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--methods warm,teleport", "unknown method 'teleport'"),
        ("--tune 0", "--tune and --report must be at least 1"),
        ("--wrong 2", "share of wrong labels"),
        ("--report -1", "--tune and --report"),
    ],
)
def test_a_bad_request_ends_in_one_line(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rivals", "--folder", str(tmp_path), *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_command_stores_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = f"rivals --wrong 0.1 --methods warm --tune 1 --report 1 --folder {tmp_path}"
    assert main(arguments.split()) == 0
    assert "10 % wrong labels" in capsys.readouterr().out
    found = load_json(tmp_path / "rivals_digits_wrong_0.1.json")
    assert found["provenance"]["command"] == "python -m wsp rivals --data digits --wrong 0.1"
    assert {"contest", "rivals", "rounds"} <= set(found["provenance"]["modules"])
