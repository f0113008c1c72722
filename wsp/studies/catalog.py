"""All studies by name, and every result that the book stores of them.

What is stored is declared here once: the file's name, its study, and what differs from the study's
defaults. Commands, listings and tests all go by this list.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from wsp.lab.employees import find
from wsp.lab.remedies import REMEDIES
from wsp.lab.results import code_hash, load_json, modules_of
from wsp.studies import (
    compound,
    decide,
    every_step,
    grid,
    head_start,
    inside,
    judge,
    noise,
    pretrained,
    pretrained_tables,
    remedies,
    rounds,
    selection,
    stopped,
    sweep,
    temperature,
    transformer,
    workers_wage,
)
from wsp.studies.engine import Study
from wsp.studies.field import augmented, contest
from wsp.studies.parts import Content

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        selection.STUDY,
        head_start.STUDY,
        head_start.FRAMES,
        sweep.STUDY,
        stopped.STUDY,
        inside.STUDY,
        temperature.STUDY,
        grid.STUDY,
        noise.STUDY,
        compound.STUDY,
        judge.STUDY,
        remedies.STUDY,
        every_step.STUDY,
        workers_wage.STUDY,
        rounds.DIGITS,
        rounds.CIFAR,
        transformer.STUDY,
        augmented.STUDY,
        contest.STUDY,
        contest.FIRE_STUDY,
        contest.CLIPPING_STUDY,
        decide.STUDY,
        pretrained.STUDY,
        pretrained_tables.STUDY,
    )
}
FOLDER = Path("data/results")
VERIFIED = "verified.json"  # beside the results: which slice came out again, when, with what code


@dataclass(frozen=True)
class Result:
    """A stored result: the name of its file, its study, and the settings that are not the defaults."""

    name: str
    study: Study
    settings: Mapping[str, Any]

    def given(self, function: Any) -> Content:
        """The settings that are parameters of `function`."""
        return {name: self.settings[name] for name in signature(function).parameters if name in self.settings}

    @property
    def specification(self) -> Content:
        """What its file must agree with."""
        return self.study.specification(**self.given(self.study.specification))

    @property
    def path(self) -> Path:
        """Where it is stored."""
        return find(f"results/{self.name}.json")

    @property
    def command(self) -> str:
        """What re-creates it.

        Examples
        --------
        >>> RESULTS["lamda_sigma"].command
        'python -m wsp.studies grid --tables 300 --seeds 2 --out data/results/lamda_sigma.json'
        """
        words = ["python", "-m", "wsp.studies", self.study.name]
        for name, value in self.settings.items():
            words.append("--" + name.replace("_", "-"))
            if isinstance(value, str | int | float):
                words.append(str(value))
            elif all(isinstance(each, str) for each in value):
                words.append(",".join(value))
            else:
                words += map(str, value)
        return shlex.join([*words, "--out", str(FOLDER / f"{self.name}.json")])

    def load(self) -> Content:
        """Read it; ``FileNotFoundError`` if it is not there."""
        content: Content = load_json(self.path)
        return content

    @property
    def code(self) -> str:
        """The hash of all the code that its study can reach today."""
        return code_of(self.study)


@cache
def code_of(study: Study) -> str:
    """The hash of all the code that a study can reach."""
    return code_hash(modules_of(type(study).__module__))


def _results() -> Iterator[Result]:
    """Every stored result, in the order of the chapters."""

    def of(study: str, name: str, **settings: Any) -> Result:
        return Result(name, STUDIES[study], settings)

    # Chapter 2
    yield of("select", "table_search")

    # Chapter 4
    yield of("head_start", "head_start", tables=300, seeds=2)
    yield of("frames", "frames")

    # Chapter 6
    yield of("sweep", "pinned_table_seeds", seeds=10_000, arms=["article"])
    for share, rate in sweep.SETTINGS:
        name = f"fresh_noise_{share}_rate_{rate}"
        yield of("sweep", name, seeds=4, tables=500, label_noise=share, learning_rate=rate)

    fresh: Content = {"tables": 300, "seeds": 2}  # of each table's own
    four = {"arms": ["cold", "warm", "shrink_perturb", "shrink_perturb_0.3"]}
    end = {"read_at": [500, 1000], "budgets": [1000]}
    checks: dict[str, Content] = {"held_20": {"held": 20}, "old_stopped": {"old": "stopped"}}
    for share, rate in sweep.SETTINGS:
        setting = fresh | {"label_noise": share, "learning_rate": rate}
        name = f"stopped_noise_{share}_rate_{rate}"
        yield of("stopped", name, **setting)
        for check, how in checks.items():
            yield of("stopped", f"{name}_{check}", **setting | four | end | how)
    yield of("stopped", "stopped_noise_0.05_rate_0.05_held_new", **fresh | four | end | {"held_from": "new"})

    # Chapter 7
    for share in (0.0, 0.05, 0.2):
        yield of("temperature", f"temperature_noise_{share}", **fresh | {"label_noise": share})

    # Chapter 7
    for case in ("employees", "digits", "digits_mislabeled", "convnets"):
        yield of("inside", f"inside_{case}", case=case)

    # Chapter 8
    yield of("grid", "lamda_sigma", **fresh)
    yield of("noise", "kinds_of_noise", **fresh)
    yield of("compound", "compounded", **fresh)
    yield of("judge", "judged", **fresh)

    # Chapter 9
    for key in REMEDIES:
        yield of("remedies", remedies.file_name(key, 0.05), **fresh | {"remedy": key})
    yield of("every_step", "every_step", tables=120, seeds=2)

    # Chapter 10
    starts = ["cold", "warm", "shrink_perturb"]
    again = [f"{start}_update_bn" for start in starts]
    usual = {"seeds": 20, "images": 1000, "size": 200, "test": 797, "precision": "float32"}
    wrong = usual | {"images": 600, "wrong": 0.2}
    controls = [*starts, "fresh_shrunk"]
    shrunk = ["shrink_perturb_0.3", "shrink_perturb_0.8", "fresh_shrunk"]
    kept = ["official_update_bn", "shrink_perturb_keep_bn"]
    yield of("digits", "digits_mlp", arms=[*starts, "official", *shrunk], **usual)
    yield of("digits", "digits_mlp_relu", arms=controls, activation="relu", **usual)
    yield of("digits", "digits_mlp_stop_100", arms=controls, stop_at=1.0, **usual)
    yield of("digits", "digits_mlp_wrong", arms=[*starts, "official"], **wrong)
    yield of(
        "digits", "digits_convnet", arms=[*starts, "official", *again, *kept], network="convnet", **usual
    )
    yield of("digits", "digits_convnet_wrong", arms=again, network="convnet", **wrong)
    yield of("workers_wage", "workers_wage", splits=50)

    # Chapter 11
    copy: Content = {"seeds": 5, "note": "JPEG copy"}
    capped, resnet = copy | {"max_epochs": 150}, {"precision": "bfloat16"}
    tanh, relu = {"network": "mlp"}, {"network": "mlp", "activation": "relu"}
    for optimizer in ("adam", "sgd"):
        for name, network in (("logistic", {"network": "logistic"}), ("mlp_tanh", tanh), ("mlp_relu", relu)):
            settings = capped | network | {"optimizer": optimizer}
            yield of("cifar", f"cifar_reduced_{name}_{optimizer}", **settings)
    yield of("cifar", "cifar_reduced_resnet_adam", **copy | resnet)
    yield of("cifar", "cifar_reduced_resnet_sgd", **capped | resnet | {"optimizer": "sgd", "seeds": 3})
    yield of("cifar", "cifar_reduced_rounds_mlp_tanh_adam", **capped | tanh | {"size": 800})
    yield of("cifar", "cifar_reduced_rounds_mlp_relu_adam", **capped | relu | {"size": 800})
    yield of("cifar", "cifar_reduced_rounds_resnet_adam", **copy | resnet | {"size": 800})

    yield of("transformer", "transformer")
    yield of("transformer", "transformer_little", train=15_880, held=4_100, steps=600)

    # Chapter 12
    for wrong_labels in (0.0, contest.WRONG):
        for study in ("rivals", "fire", "clipping"):
            yield of(study, f"{study}_digits_wrong_{wrong_labels}", wrong=wrong_labels)
    published = copy | resnet | {"data": "cifar10", "tune": 0, "report": 5}
    del published["seeds"]
    yield of("rivals", "rivals_cifar10_wrong_0.0", methods=contest.ON_CIFAR, **published)
    yield of("fire", "fire_cifar10", **published)

    # Chapter 13
    yield of("decide", "decided", **fresh)
    for source in pretrained.SOURCES:
        yield of("pretrained", f"pretrained_{source}", splits=20, source=source)
    for source in pretrained_tables.SOURCES:
        yield of("pretrained_tables", f"pretrained_{source}", tables=100, source=source)


#: Every stored result by name.
#:
#: :meta hide-value:
RESULTS: dict[str, Result] = {result.name: result for result in _results()}


def noted() -> dict[str, Content]:
    """When a slice of each result last came out, and with what code."""
    path = find("results").parent / VERIFIED
    return dict(load_json(path)) if path.is_file() else {}


def state(result: Result, verified: Mapping[str, Content]) -> str:
    """In words: whether a slice of a result came out with today's code."""
    if not result.path.is_file():
        return "missing"
    seen = verified.get(result.name)
    if seen is None:
        return "never verified"
    today = seen["code"] == result.code
    return f"verified with today's code ({seen['date']})" if today else f"last verified {seen['date']}"
