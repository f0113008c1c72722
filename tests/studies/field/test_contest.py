"""The rivals meet under one protocol: same budget, chosen on splits that are not reported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import ROOT
from wsp.lab import images
from wsp.lab.network import ConvNet, image_mlp, seeded
from wsp.lab.results import load_json
from wsp.lab.rivals.methods import METHODS, RATES
from wsp.lab.rivals.trainings import redrawn
from wsp.lab.rounds import as_built, run_arms, start_cold
from wsp.studies.__main__ import main
from wsp.studies.engine import run
from wsp.studies.field.contest import STUDY
from wsp.studies.field.standings import averages, chosen, reported

OPTIONS = {"learning_rate": 1e-3, "batch_size": 32, "stop_at": 0.9, "patience": 5, "max_epochs": 8}


def through_rounds(method: str, value: float) -> list[tuple[int, float]]:
    """Right test images, and accuracy in training, of every round of one small run."""
    train, test = images.split(images.digits(), 160, 300, seed=0)
    arm = METHODS[method].arm(method, 0.01, value)
    found = run_arms(
        [arm], lambda: image_mlp(hidden=(30,)), images.rounds(train, 80), test, seed=0, **OPTIONS
    )
    return [(round.correct, round.fit.train_accuracy) for _, rounds in found for round in rounds]


def test_every_method_has_the_grid_of_all_and_a_source() -> None:
    keys = set(re.findall(r"^@\w+\{([\w-]+),", (ROOT / "book" / "references.bib").read_text(), re.M))
    names = [name for method in METHODS.values() for name in method.arms()]
    assert len(names) == len(set(names)) == sum(len(RATES) * len(m.values) for m in METHODS.values())
    grids: dict[str, set[tuple[float, ...]]] = {}
    for key, method in METHODS.items():
        assert method.key == key and method.source in keys
        assert all(name == arm.key for name, arm in method.arms().items())
        family = "layer norm" if method.prepare is not as_built else method.knob
        grids.setdefault(family, set()).add(method.values)
    assert all(len(grid) == 1 for grid in grids.values()), "who shares a knob shares its grid"


def test_every_rival_has_a_cold_arm() -> None:
    rivals = [m for m in METHODS.values() if m.start(0.5) is not start_cold and "cold" not in m.key]
    for rival in rivals:
        if rival.key != "fresh_shrunk":  # is one itself
            cold = METHODS[rival.cold]
            assert not cold.cold
            alike = (rival.train(0.01, 0.5), rival.prepare) == (cold.train(0.01, 0.5), cold.prepare)
            assert alike or rival.key == "shrink_perturb_stopped", "its patience is fixed"


NOTHING = [("dash", 1.0), ("l2_init", 0.0), ("hare", 0.0), ("redo", 0.0), ("decay", 0.0), ("clipping", 1e6)]


@pytest.mark.parametrize("method, nothing", NOTHING)
@pytest.mark.parametrize("start", ["warm", "cold"])
def test_a_rival_that_does_nothing_is_a_plain_start(method: str, nothing: float, start: str) -> None:
    """ReDo finds no unit that never fires, as all of them are tanh."""
    key = method if start == "warm" else METHODS[method].cold
    assert through_rounds(key, nothing) == through_rounds(start, 0.0)


@pytest.mark.parametrize("method, value", [(m.key, m.values[-1]) for m in METHODS.values()])
def test_a_rival_that_does_something_is_not(method: str, value: float) -> None:
    if method in ("cold", "warm"):
        return
    strong = {"redo": 0.9, "clipping": 0.5, "shrink_perturb": 0.3}  # where the last value is too mild
    value = strong.get(method.removeprefix("cold_"), value)
    start = "warm" if METHODS[method].cold else "cold"
    assert through_rounds(method, value) != through_rounds(start, 0.0)


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


def test_the_best_alone_go_on_to_the_splits_that_are_reported(tmp_path: Path) -> None:
    spec = STUDY.specification(tune=1, images=160, size=80, max_epochs=2)
    whole, halves = tmp_path / "whole.json", tmp_path / "halves.json"
    found = run(STUDY, spec, whole, report=1, methods=["warm", "redo"])
    run(STUDY, spec, halves, report=1, methods=["warm"])
    parts = run(STUDY, spec, halves, report=1, methods=["warm", "redo"])
    kept = [
        {(each["arm"], each["seed"]): (each["correct"], each["epochs"]) for each in result["runs"]}
        for result in (found, parts)
    ]
    assert (
        kept[0] == kept[1] and len(kept[0]) == len(METHODS["warm"].arms()) + len(METHODS["redo"].arms()) + 2
    )
    reported_on = {(arm, seed) for arm, seed in kept[0] if seed == 1}
    assert reported_on == {(name, 1) for name in chosen(found, ["warm", "redo"]).values()}


def test_cifar10_has_the_settings_of_the_sources() -> None:
    for key, method in METHODS.items():
        arm = method.as_published(1e-3)
        assert arm.key == key and arm.train is method.train(1e-3, method.published)
    spec = STUDY.specification(data="cifar10", tune=0)
    assert (spec["network"], spec["images"], spec["size"], spec["tune"]) == ("resnet", 4000, 2000, 0)
    assert chosen({"specification": spec}, ["dash"]) == {"dash": "dash"}
    assert STUDY.arm(spec, "dash").key == "dash" and list(
        STUDY.units(spec, None, report=1, methods=["dash"])
    ) == [(0, "dash")]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--methods warm,teleport", "unknown method 'teleport'"),
        ("--tune -1", "tune must be an integer, 0 or more, not -1"),
        ("--wrong 2", "wrong must be from 0 to 1"),
        ("--report -1", "report must be a positive integer"),
        ("--data mnist", "unknown data 'mnist': choose from digits, cifar10"),
    ],
)
def test_a_bad_request_ends_in_one_line(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rivals", "--out", str(tmp_path / "rivals.json"), *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_command_stores_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rivals.json"
    words = f"rivals --wrong 0.1 --methods warm --tune 1 --report 1 --out {out}"
    assert main(words.split()) == 0
    assert "1 splits; rounds from the second on" in capsys.readouterr().out
    found = load_json(out)
    assert {"wsp.studies.field.contest", "wsp.lab.rivals.dash", "wsp.lab.rounds"} <= set(
        found["provenance"]["modules"]
    )
