"""Pretraining on other digits: who is trained on what, what is shared, and what is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsp.lab.network import image_mlp
from wsp.lab.rounds import ARMS, run_arms, stream
from wsp.studies import pretrained
from wsp.studies.engine import check, run
from wsp.studies.parts import Content
from wsp.studies.pretrained import SOURCES, STUDY, by_size, compared, overlap_of, steps_over_fresh, where

SEED = 9000  # of no part in the stored runs


def small(**settings: Any) -> Content:
    return STUDY.specification(**{"sizes": [20, 50], "draws": 1, "arms": ["cold", "warm"], **settings})


@pytest.fixture(scope="module")
def found() -> Content:
    """Two splits with all arms at four sizes."""
    return run(STUDY, STUDY.specification(sizes=[20, 50, 200, 400], draws=1), units=[SEED, SEED + 1])


@pytest.mark.parametrize("source", SOURCES)
def test_no_image_is_in_two_parts(source: str) -> None:
    before, pool, test = SOURCES[source](SEED)
    upright = before.inputs.transpose(2, 3) if source == "transposed" else before.inputs
    rows = torch.cat([upright, pool.inputs, test.inputs]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == len(rows)
    assert (len(before.labels), len(test.labels)) == (pretrained.OLD_IMAGES, pretrained.TEST)
    assert len(pool.labels) >= max(pretrained.SIZES)


def test_the_classes_are_those_that_are_told() -> None:
    classes = {source: [set(part.labels.tolist()) for part in SOURCES[source](SEED)] for source in SOURCES}
    low, high = set(range(5)), set(range(5, 10))
    assert classes["classes"] == [low, high, high]
    assert classes["ten"] == [low, low | high, low | high]
    assert classes["transposed"] == [low | high] * 3


def test_a_training_is_the_one_of_two_rounds() -> None:
    """Against :func:`wsp.lab.rounds.run_arms`, whose second round has the same streams."""
    arms = ["cold", "warm", "shrink_perturb", "official", "fresh_shrunk"]
    mine = run(STUDY, small(arms=arms, sizes=[50]), units=[SEED])
    before, pool, test = SOURCES["classes"](SEED)
    order = torch.randperm(len(pool.labels), generator=stream(SEED, 2, "labels"))
    theirs = run_arms(
        [ARMS[arm] for arm in arms],
        image_mlp,
        [before, where(pool, order[:50])],
        test,
        SEED,
        patience=pretrained.PATIENCE,
    )
    for arm, (first, second) in theirs:
        assert mine["old"] == {"epochs": [first.fit.epochs], "correct": [first.correct]}
        assert mine["correct"]["50"][arm.key] == [[second.correct]]
        assert mine["epochs"]["50"][arm.key] == [[second.fit.epochs]]


def test_starts_that_a_source_does_not_touch_are_the_same_everywhere() -> None:
    """A fresh network knows nothing of what came first; the rows are the same for ten and transposed."""
    one, other = (run(STUDY, small(source=source), units=[SEED]) for source in ("ten", "transposed"))
    for size in ("20", "50"):
        assert one["correct"][size]["cold"] == other["correct"][size]["cold"]
        assert one["correct"][size]["warm"] != other["correct"][size]["warm"]


def test_it_goes_on_where_it_was_and_a_slice_comes_out(tmp_path: Path) -> None:
    out = tmp_path / "pretrained.json"
    run(STUDY, small(draws=2, sizes=[20]), out, units=[SEED])
    whole = run(STUDY, small(draws=2, sizes=[20]), out, units=[SEED, SEED + 1])
    assert whole["splits"] == [SEED, SEED + 1] and STUDY.missing(whole) == []
    assert np.shape(whole["correct"]["20"]["warm"]) == (2, 2)
    assert check(STUDY, whole) == []
    whole["correct"]["20"]["warm"][1][0] -= 30
    assert len(check(STUDY, whole)) == 1
    assert "20 rows, warm: 10.0 points" in next(
        STUDY.differences(
            STUDY.rows(whole, [SEED + 1]), run(STUDY, small(sizes=[20]), units=[SEED + 1]), False
        )
    )


def test_a_family_compares_splits_with_a_corrected_interval(found: Content) -> None:
    family = compared(found)
    assert len(family) == 2 * len(pretrained.PAIRS)
    few = pretrained.accuracy(found, "official", 20, 50) - pretrained.accuracy(found, "warm", 20, 50)
    each = family["few", ("official", "warm")]
    assert each.estimate == pytest.approx(few.mean()) and each.low < each.estimate < each.high
    assert len(by_size(found)) == 5 * 4 and set(steps_over_fresh(found)) == set(by_size(found))
    assert 0 < overlap_of(found) < 1 and "cold" in STUDY.as_text(found)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"source": "letters"}, "unknown source 'letters': choose from classes, ten, transposed"),
        ({"arms": ["hot"]}, "unknown arm 'hot'"),
        ({"draws": 0}, "draws must be a positive integer"),
        ({"sizes": []}, "sizes must be a positive integer"),
        ({"sizes": [20, 700]}, "at most 596 rows can be drawn of this target, not 700"),
    ],
)
def test_specifications_are_checked(settings: Content, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        STUDY.specification(**settings)
