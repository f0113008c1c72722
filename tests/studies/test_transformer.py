"""The study of the transformer: its arms, what it stores, what it compares."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from wsp.lab.language import Saved, cut, load_text, new_transformer
from wsp.studies import transformer
from wsp.studies.engine import check, run
from wsp.studies.parts import Content
from wsp.studies.transformer import ARMS, PAIRS, READ_AT, STUDY

SMALL: Content = {"train": 700, "held": 130, "steps": 100, "until": 0.05}


@pytest.fixture(scope="module")
def found() -> Content:
    return run(STUDY, STUDY.specification(**SMALL), seeds=2)


def test_what_is_stored(found: Content) -> None:
    readings = sum(share <= SMALL["until"] for share in READ_AT)
    assert found["seeds"] == [0, 1] and set(found["old"]) == set(ARMS)
    for key in ARMS:
        assert np.shape(found["old"][key]) == np.shape(found["new"][key]) == (2, readings)
        assert np.shape(found["fit"][key]) == (2, 2)
    assert np.shape(found["first"]["fit"]) == (2, 2, 2) and np.shape(found["first"]["old"]) == (2, 2)
    assert STUDY.missing(found) == []


def test_arms_start_where_they_say(found: Content) -> None:
    """Read before the first step: the checkpoints are what was saved, and Adam's state is not yet felt."""
    for name in ("old", "new"):
        starts = {key: np.array(found[name][key])[:, 0] for key in ARMS}
        before, after = np.array(found["first"][name]).T
        for key in ("warm", "warm_adam", "warm_low"):
            assert (starts[key] == after).all()
        for key in ("before_decay", "before_decay_adam"):
            assert (starts[key] == before).all()
        assert len({tuple(starts[key]) for key in ARMS}) == len(ARMS) - 3


def test_arms_differ_after_a_step(found: Content) -> None:
    assert len({tuple(np.array(found["old"][key])[:, 1]) for key in ARMS}) == len(ARMS)


def test_a_seed_does_not_depend_on_the_others(found: Content) -> None:
    alone = run(STUDY, STUDY.specification(**SMALL), units=[1])
    assert alone["old"] == STUDY.rows(found | {"specification": SMALL | {"until": 1}}, [1])["old"]


def test_the_slice_comes_out_and_sees_a_broken_trick(found: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored whole, run in part; a trick that forgets to shrink must be seen."""
    assert check(STUDY, found) == []
    monkeypatch.setattr(transformer, "shrink_perturb_", lambda old, *rest, **options: old)
    assert any(line.startswith("old shrink_perturb") for line in check(STUDY, found))


def test_elsewhere_a_twentieth_of_a_nat_is_forgiven() -> None:
    kept = {name: {"cold": [[2.0, 1.5, 1.0]]} for name in ("old", "new")}
    near, far = ({name: {"cold": [[2.0 + off, 1.5 + off]]} for name in kept} for off in (0.04, 0.06))
    assert list(STUDY.differences(kept, near, at_home=False)) == []
    assert len(list(STUDY.differences(kept, far, at_home=False))) == 2
    assert len(list(STUDY.differences(kept, near, at_home=True))) == 4


def test_both_rules() -> None:
    """Half of the matrices; half of everything, and a tenth of a fresh network."""
    old, fresh = new_transformer(0), new_transformer(1)
    with torch.no_grad():
        old.last_norm.weight.fill_(3.0)
    one, other = (
        ARMS[key].start(copy.deepcopy(old), copy.deepcopy(fresh), torch.Generator().manual_seed(2))
        for key in ("shrink_perturb", "paper")
    )
    assert torch.equal(one.last_norm.weight, old.last_norm.weight)
    apart = (one.character.weight - 0.5 * old.character.weight).detach()
    assert abs(float(apart.std()) - 0.01) < 0.001
    for name, parameter in other.named_parameters():
        mixed = 0.5 * old.get_parameter(name) + 0.1 * fresh.get_parameter(name)
        assert torch.allclose(parameter, mixed)


def test_fire_leaves_no_direction_longer_than_another() -> None:
    network = ARMS["fire"].start(new_transformer(0), new_transformer(1), torch.Generator())
    for layer in (network.blocks[0].query, network.blocks[1].narrow, network.head):
        lengths = torch.linalg.svdvals(layer.weight)
        assert torch.allclose(lengths, lengths[:1].expand_as(lengths), atol=1e-4)


def test_a_low_rate_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: dict[str, list[float]] = {}
    parts = cut(load_text(), 0, 700, 130)
    saved = [Saved(new_transformer(0), {})] * 2
    spec = STUDY.specification(**SMALL | {"until": 1.0})
    for key in ("warm", "warm_low"):

        def note(network: Any, texts: Any, plan: list[float], *rest: Any, key: str = key, **how: Any) -> None:
            plans[key] = plan

        monkeypatch.setattr(transformer, "train", note)
        transformer.retrained(ARMS[key], saved, parts, 0, spec, lambda count: None)
    assert plans["warm_low"] == [pytest.approx(0.001)] * 100
    assert max(plans["warm"]) == 0.01 and plans["warm"][-1] < 0.001


def made(**ends: list[float]) -> Content:
    """Losses that fall to these ends in a line, the same on both parts."""
    falls = np.linspace(1.0, 0.0, len(READ_AT))
    losses = {key: [list(end + falls) for end in values] for key, values in ends.items()}
    return {"specification": {"train": 15_880, "held": 4_100}, "old": losses, "new": losses}


def test_scores_and_steps() -> None:
    content = made(cold=[2.0, 2.2], warm=[1.5, 2.3])
    assert transformer.score(content)["warm"].tolist() == pytest.approx([-150.0, -230.0])
    steps = transformer.steps_to_cold(content)
    assert steps["cold"].tolist() == [100, 100] and steps["warm"].tolist() == [45, 100]
    assert transformer.reached_cold(content) == {"cold": 2, "warm": 1}


def test_above_is_better() -> None:
    rng = np.random.default_rng(0)
    ends = {key: list(2 + 0.01 * rng.normal(size=10)) for key in ARMS}
    ends["warm"] = [value - 0.2 for value in ends["cold"]]
    family = transformer.compared(made(**ends))
    assert set(family) == set(PAIRS)
    assert family["warm", "cold"].low > 15 and family["shrink_perturb", "warm"].high < 0


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"steps": 50}, "steps must be at least 100"),
        ({"train": 0}, "train must be a positive integer"),
        ({"train": 200_000}, "at most the text's 399862"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"until": 2.0}, "until must be from 0 to 1"),
    ],
)
def test_specifications_are_checked(settings: Content, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        STUDY.specification(**settings)


def test_there_are_ten_cuts() -> None:
    with pytest.raises(ValueError, match="11 are too many"):
        STUDY.units({}, None, seeds=11)
