"""The trick at every step: against an ordinary loop, against weight decay, and against chapter 9."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from wsp import shrink_perturb_
from wsp.lab.employees import Table, find
from wsp.lab.many.lanes import Drawn, draw_lanes, side_stream
from wsp.lab.network import MLP
from wsp.lab.results import stored
from wsp.lab.retraining import random_network, stream
from wsp.lab.training import BATCH_SIZE, LEARNING_RATE
from wsp.studies.engine import check, run
from wsp.studies.every_step import (
    KINDS,
    STEP_STREAM,
    STUDY,
    StepArm,
    against_once,
    as_decay,
    chosen,
    step_arms,
    train_steps,
)
from wsp.studies.parts import Content

TABLES = [5000, 5001]  # of no part in the stored run


@pytest.fixture(scope="module")
def found() -> Content:
    return run(STUDY, STUDY.specification(seeds=2, test_rows=60, epochs=[1, 2]), units=TABLES)


def drawn_and_olds() -> tuple[Drawn, list[MLP]]:
    drawn = draw_lanes(TABLES, seeds=1, test_rows=10, label_noise=0.05, own=True)
    return drawn, [random_network(seed, "first weights") for seed in drawn.seeds]


def by_hand(network: MLP, table: Table, seed: int, arm: StepArm, epochs: int) -> MLP:
    """Plain PyTorch: SGD with its weight decay, then the trick, with the very noise of the study."""
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, weight_decay=arm.decay)
    order, generator = stream(seed, "order"), side_stream(seed, STEP_STREAM)
    weights = [layer.weight for layer in network.linears]
    cuts = np.cumsum([w.numel() for w in weights])[:-1].tolist()
    for _ in range(epochs):
        batches = torch.split(torch.randperm(len(table.labels), generator=order), BATCH_SIZE)
        drawn = torch.empty(len(batches), sum(w.numel() for w in weights), dtype=torch.float64)
        drawn.normal_(generator=generator)
        for batch, row in zip(batches, drawn):
            optimizer.zero_grad()
            cross_entropy(network(table.inputs[batch]), table.labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            noise = MLP(generator=torch.Generator())
            for layer, part in zip(noise.linears, torch.tensor_split(row, cuts)):
                layer.weight.data = part.view_as(layer.weight)
            shrink_perturb_(network, arm.lamda, arm.sigma, noise=noise)
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_every_lane_is_an_ordinary_loop_with_the_trick_in_it(kind: str) -> None:
    arm, (drawn, olds) = StepArm(kind, 1e-3), drawn_and_olds()
    *_, (epoch, ensembles) = train_steps(drawn, olds, [arm], 2, lambda count: None)
    assert epoch == 2
    for table, seed, old, lane in zip(drawn.tables, drawn.seeds, olds, ensembles[arm.name].networks()):
        for p, q in zip(lane.parameters(), by_hand(old, table, seed, arm, 2).parameters()):
            torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def test_on_paper_it_is_weight_decay() -> None:
    """Of (1 - lamda) / (lamda rate) at the rate lamda times as large, where biases are left alone."""
    lamda, (drawn, _) = 0.9, drawn_and_olds()

    def one_step(rate: float, decay: float, kept: float) -> list[Tensor]:
        network, table = random_network(drawn.seeds[0], "first weights"), drawn.tables[0]
        weights = [layer.weight for layer in network.linears]
        groups = [{"params": weights, "weight_decay": decay}]
        optimizer = torch.optim.SGD(groups, lr=rate)
        cross_entropy(network(table.inputs[:10]), table.labels[:10]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return [kept * w.detach() for w in weights]

    shrunk = one_step(0.05, 0.0, lamda)
    decayed = one_step(lamda * 0.05, (1 - lamda) / (lamda * 0.05), 1.0)
    assert all(torch.allclose(p, q, rtol=1e-12) for p, q in zip(shrunk, decayed))


def test_what_piles_up_of_scaled_noise_is_the_noise_of_the_article() -> None:
    for lost in (1e-2, 1e-4):
        arm = StepArm("scaled", lost)
        assert arm.sigma**2 / (1 - arm.lamda**2) == pytest.approx(0.01**2)


def test_kinds_differ_in_what_they_say() -> None:
    arms = {kind: StepArm(kind, 1e-3) for kind in KINDS}
    assert {kind for kind in KINDS if arms[kind].decay} == {"decay", "noisy"}
    assert arms["full"].sigma == arms["noisy"].sigma == 0.01 > arms["scaled"].sigma > 0
    assert arms["decay"].sigma == 0 and arms["noisy"].lamda == 1


def test_families_and_choices(found: Content) -> None:
    spec = found["specification"]
    assert len(step_arms(spec)) == 12 and len(found["correct"]) == 2 + 3 + 4 + 12
    assert len(as_decay(found)) == 8 and len(against_once(found)) == 7
    assert set(chosen(found, "once")) <= {f"{lamda:g}" for lamda in spec["once"]}
    assert "cold" in STUDY.as_text(found)


def test_it_resumes_and_a_slice_comes_out(tmp_path: Path, found: Content) -> None:
    out, spec = tmp_path / "every_step.json", found["specification"]
    run(STUDY, spec, out, units=TABLES[:1])
    assert run(STUDY, spec, out, units=TABLES)["correct"] == found["correct"]
    assert check(STUDY, found) == []
    found["correct"]["scaled 0.001"][1][0][0] += 1
    assert len(check(STUDY, found)) == 1
    found["correct"]["scaled 0.001"][1][0][0] -= 1


def test_epochs_are_checked() -> None:
    with pytest.raises(ValueError, match="epochs must rise"):
        STUDY.specification(epochs=[])


def test_the_plain_arms_are_those_of_chapter_9() -> None:
    """Count for count, on the same tables with the same seeds."""
    if not (find("results") / "every_step.json").is_file():
        pytest.skip("not computed yet")
    mine, plain, trick = (
        stored(name) for name in ("every_step", "remedy_noise_0.05_none", "remedy_noise_0.05_shrink_perturb")
    )
    rows = [plain["tables"].index(table) for table in mine["tables"]]
    twins = {"cold": (plain, "cold"), "warm": (plain, "warm")}
    twins |= {f"once {lamda:g}": (trick, f"warm {lamda:g}") for lamda in mine["specification"]["once"]}
    for name, (other, theirs) in twins.items():
        ends = [[seed[-1] for seed in other["correct"][theirs][row]] for row in rows]
        assert ends == [[seed[-1] for seed in table] for table in mine["correct"][name]], name
