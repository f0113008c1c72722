"""Ordinary training: images moved and mirrored, one schedule, and the study that asks for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from wsp.lab import images
from wsp.lab.augmentation import fit_by_schedule, moved_and_mirrored, rate_at
from wsp.lab.employees import Table
from wsp.lab.network import image_mlp, seeded
from wsp.lab.rounds import run_arms
from wsp.studies.field.augmented import ALL, STUDY, family


def test_an_image_is_cropped_from_its_padded_self() -> None:
    """Every image that comes out is one of the 81 crops of the padded image, or a mirrored one."""
    image = torch.randn(3, 6, 5)
    padded = nn.functional.pad(image, (4, 4, 4, 4))
    crops = [padded[:, y : y + 6, x : x + 5] for y in range(9) for x in range(9)]
    allowed = [crop for c in crops for crop in (c, c.flip(-1))]
    seen = set()
    for out in moved_and_mirrored(image.expand(400, -1, -1, -1), torch.Generator().manual_seed(1)):
        [place, *_] = [k for k, crop in enumerate(allowed) if torch.equal(crop, out)]
        seen.add(place)
    assert len(seen) > 120


def test_draws_are_fixed_by_the_generator() -> None:
    batch = torch.randn(7, 3, 8, 8)
    one, other = (moved_and_mirrored(batch, torch.Generator().manual_seed(3)) for _ in "ab")
    assert torch.equal(one, other) and not torch.equal(one, batch)


def test_the_schedule_goes_up_in_a_line_and_down_a_cosine() -> None:
    rates = [rate_at(step, 100, 0.4, 10) for step in range(100)]
    assert max(rates) == rates[9] == rates[10] == 0.4
    np.testing.assert_allclose(np.diff(rates[:10]), 0.04)
    assert (np.diff(rates[10:]) < 0).all() and 0 < rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.2)


def test_training_is_sgd_by_hand_with_the_rates_of_the_schedule() -> None:
    table = Table(torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    with seeded(0):
        network, twin = (nn.Linear(4, 3) for _ in "ab")
    twin.load_state_dict(network.state_dict())
    how = {"epochs": 4, "warm_up": 1, "peak": 0.3, "batch_size": 3, "augmented": False}
    found = fit_by_schedule(network, table, torch.Generator().manual_seed(5), **how)
    assert (found.epochs, found.steps, found.reached) == (4, 8, False)
    order = torch.Generator().manual_seed(5)
    speed = [torch.zeros_like(p) for p in twin.parameters()]
    step = 0
    for _ in range(4):
        for rows in torch.split(torch.randperm(6, generator=order), 3):
            loss = nn.functional.cross_entropy(twin(table.inputs[rows]), table.labels[rows])
            gradients = torch.autograd.grad(loss, list(twin.parameters()))
            with torch.no_grad():
                for p, v, g in zip(twin.parameters(), speed, gradients):
                    g = g + 5e-4 * p
                    v.copy_(0.9 * v + g if step else g)
                    p -= rate_at(step, 8, 0.3, 2) * (g + 0.9 * v)
            step += 1
    for p, q in zip(network.parameters(), twin.parameters()):
        torch.testing.assert_close(p, q)


def test_augmentation_leaves_the_batch_orders_alone() -> None:
    """Moved by nothing and mirrored images that are symmetric: training is the same."""
    inputs = torch.randn(6, 1, 8, 4)
    table = Table(torch.cat([inputs, inputs.flip(-1)], dim=-1), torch.arange(6) % 3)
    results = []
    for augmented in (True, False):
        with seeded(0):
            network = image_mlp((1, 8, 8), hidden=(5,))
        how = {"epochs": 2, "warm_up": 1, "peak": 0.1, "batch_size": 2, "augmented": augmented}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("wsp.lab.augmentation.moved_and_mirrored", only_mirrored)
            fit_by_schedule(network, table, torch.Generator().manual_seed(0), **how)
        results.append(network)
    for p, q in zip(*(network.parameters() for network in results)):
        torch.testing.assert_close(p, q)


def only_mirrored(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return moved_and_mirrored(inputs, generator, 0)


def test_every_arm_trains_equally_long() -> None:
    spec = STUDY.specification(images=80, test=40, epochs=2, warm_up=1) | {"batch_size": 20}
    train, test = images.split(images.digits(), 80, 40, seed=0)
    found = run_arms(
        [STUDY.arm(spec, key) for key in ALL],
        lambda: image_mlp(hidden=(10,)),
        images.rounds(train, 40),
        test,
        seed=0,
        **STUDY.options(spec),
    )
    rounds = {arm.key: records for arm, records in found}
    assert list(rounds) == list(ALL)
    assert {tuple(r.fit.epochs for r in records) for records in rounds.values()} == {(2, 2)}
    assert rounds["cold_plain"][0] == rounds["fire_plain"][0], "the first round is everybody's"
    assert rounds["cold_plain"][0] != rounds["cold_augmented"][0]


def test_the_family_is_what_the_rules_say() -> None:
    right = {"cold": 60, "warm": 50, "shrink_perturb": 58, "fire": 59}
    runs = [
        {"arm": arm, "seed": seed, "correct": [0, right[arm.rpartition("_")[0]] + 3 * ("aug" in arm) + seed]}
        for arm in ALL
        for seed in range(4)
    ]
    for run in runs:
        if run["arm"] == "cold_augmented":
            run["correct"][1] -= 6
    found = family({"specification": {"test": 100}, "runs": runs})
    assert list(found) == [
        *("cold plain", "shrink_perturb plain", "fire plain"),
        *("cold augmented", "shrink_perturb augmented", "fire augmented", "gap"),
    ]
    leads = [round(found[key].estimate, 9) for key in found]
    assert leads == [10, 8, 9, 4, 8, 9, 6]


def test_a_bad_request_is_refused() -> None:
    with pytest.raises(ValueError, match="warm_up must be less than the 3 epochs, not 3"):
        STUDY.specification(epochs=3, warm_up=3)
    with pytest.raises(ValueError, match="unknown arm 'warm_mirrored'"):
        STUDY.arm(STUDY.specification(), "warm_mirrored")
