"""The stored rounds of images: whole, paired, of one protocol each, and a slice of each is run again."""

from __future__ import annotations

from typing import Any

import pytest

from wsp import rounds
from wsp.employees import find
from wsp.results import load_json
from wsp.rounds import ARMS, experiment, table_of, whole_seeds

DIGITS = sorted(path.stem for path in find("results").glob("digits_*.json"))
CIFAR = sorted(path.stem for path in find("results").glob("cifar_*.json"))
SPLITS = 20  # what chapter 10 promises for its main results
MAIN = ("digits_mlp", "digits_convnet")
# Runs of one split that take a few seconds each; what goes wrong in one goes wrong in these.
SLICES = [
    ("digits_mlp", "warm", 3),
    ("digits_mlp", "official", 0),
    ("digits_convnet", "shrink_perturb", 0),
    ("digits_convnet", "shrink_perturb_update_bn", 1),
]


def found(name: str) -> dict[str, Any]:
    content: dict[str, Any] = load_json(find(f"results/{name}.json"))
    return content


@pytest.mark.parametrize("name", [*DIGITS, *CIFAR])
def test_says_what_it_is(name: str) -> None:
    content = found(name)
    spec, made = content["specification"], content["provenance"]
    assert content["format"] == rounds.FORMAT
    assert {"rounds", "training", "network", "images", "perturb"} <= set(made["modules"])
    assert made["command"].startswith(f"python -m wsp {'digits' if name in DIGITS else 'cifar'} ")
    assert f"data/results/{name}.json" in made["command"]
    again = rounds.specification(**spec)
    assert again == spec
    if name in CIFAR:
        assert "JPEG copy" in spec["note"]
        full = spec["images"] == 33_333
        assert full == ("_full_" in name) and (full or (spec["images"], spec["test"]) == (4000, 2000))


@pytest.mark.parametrize("name", [*DIGITS, *CIFAR])
def test_runs_are_whole_and_paired(name: str) -> None:
    """Every seed once an arm; lists as long as there are rounds; a first round for all who train alike."""
    content = found(name)
    spec = content["specification"]
    size = -(-spec["images"] // spec["size"])
    keys = [(run["arm"], run["seed"]) for run in content["runs"]]
    assert len(keys) == len(set(keys)) and {arm for arm, _ in keys} <= set(ARMS)
    for run in content["runs"]:
        assert all(len(values) == size for key, values in run.items() if key not in ("arm", "seed"))
        assert all(0 <= correct <= spec["test"] for correct in run["correct"])
        assert all(0 < epochs <= spec["max_epochs"] for epochs in run["epochs"])
        for accuracy, reached in zip(run["train_accuracy"], run["reached"]):
            assert reached == (accuracy >= 100 * spec["stop_at"] - 0.005)
    firsts: dict[tuple[int, object], set[tuple[int, int]]] = {}
    for run in content["runs"]:
        alike = run["seed"], ARMS[run["arm"]].train
        firsts.setdefault(alike, set()).add((run["epochs"][0], run["correct"][0]))
    assert all(len(first) == 1 for first in firsts.values())


@pytest.mark.parametrize("name", MAIN)
def test_as_many_splits_as_the_chapter_says(name: str) -> None:
    assert len(whole_seeds(found(name))) >= SPLITS


@pytest.mark.parametrize("name, arm, seed", SLICES)
def test_a_slice_is_reproduced(name: str, arm: str, seed: int) -> None:
    """In single precision another processor may end an epoch earlier or later, and a few images apart."""
    content = found(name)
    spec = content["specification"]
    if seed >= 1:  # a run of one seed alone
        parts = rounds.load(spec["data"], "cpu", rounds.PRECISIONS[spec["precision"]])
        train, test = parts(spec, seed)
        options = {option: spec[option] for option in rounds.OPTIONS}
        build = rounds.network_named(spec["network"], spec["activation"], spec["data"])
        arrived = rounds.images.rounds(train, spec["size"])[:2]
        [(_, records)] = rounds.run_arms([ARMS[arm]], build, arrived, test, seed, **options)
        epochs, correct = [r.fit.epochs for r in records], [r.correct for r in records]
    else:
        again = experiment(spec, [ARMS[arm]], 1)["runs"][0]
        epochs, correct = again["epochs"][:2], again["correct"][:2]
    [stored] = [run for run in content["runs"] if (run["arm"], run["seed"]) == (arm, seed)]
    for mine, theirs in zip(epochs, stored["epochs"]):
        assert abs(mine - theirs) <= max(2, 0.1 * theirs)
    for mine, theirs in zip(correct, stored["correct"]):
        assert abs(mine - theirs) <= 0.01 * spec["test"]


@pytest.mark.parametrize("name", MAIN)
def test_costs_follow_from_epochs(name: str) -> None:
    content = found(name)
    spec = content["specification"]
    seen = table_of(content, "samples")
    for run in content["runs"]:
        rows = [min(spec["size"] * k, spec["images"]) for k in range(1, len(run["epochs"]) + 1)]
        assert run["steps"] == [
            epochs * -(-n // spec["batch_size"]) for epochs, n in zip(run["epochs"], rows)
        ]
        if run["seed"] == 0:
            expected = [epochs * n for epochs, n in zip(run["epochs"], rows)]
            assert seen[run["arm"]][0].tolist() == expected
