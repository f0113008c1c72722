"""Every recipe, side by side, is the ordinary loop with autograd and torch.optim."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wsp.lab import employees
from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.plans import Plan, samples_of, start_plan, train_plans
from wsp.lab.many.recipes import NUMERIC, Recipe, draws, epoch_order
from wsp.lab.network import MLP
from wsp.lab.retraining import OLD_ROWS, Arm, random_network, stream
from wsp.studies.sweep import draw_tables, train_lanes

EPOCHS = 3
RECIPES = {
    "plain": Recipe(),
    "rate and batch": Recipe(learning_rate=0.02, batch_size=25),
    "ragged batch": Recipe(batch_size=30),
    "weight decay": Recipe(weight_decay=0.1),
    "momentum": Recipe(momentum=0.9, learning_rate=0.005),
    "momentum and decay": Recipe(momentum=0.9, learning_rate=0.005, weight_decay=0.1),
    "label smoothing": Recipe(label_smoothing=0.2),
    "confidence penalty": Recipe(confidence_penalty=0.5),
    "dropout": Recipe(dropout=0.4),
    "input noise": Recipe(input_noise=0.1),
    "temperature": Recipe(temperature=4.0),
    "everything": Recipe(
        batch_size=15,
        momentum=0.5,
        weight_decay=0.01,
        label_smoothing=0.1,
        confidence_penalty=0.1,
        dropout=0.1,
        input_noise=0.05,
        temperature=2.0,
    ),
}
PLANS = {
    "cold": Plan("fresh"),
    "shrink and perturb": Plan(lamda=0.4, sigma=0.1),
    "reset last": Plan(reset_last=True),
    "more new rows": Plan(new_share=0.8),
    "only new rows": Plan(new_share=1.0),
    "average": Plan(average=0.7),
}


def short(recipe: Recipe) -> Recipe:
    return Recipe(**(vars(recipe) | {"epochs": EPOCHS}))


def loss_of(network: MLP, inputs: Tensor, labels: Tensor, masks: list[Tensor], recipe: Recipe) -> Tensor:
    """The loss of a batch; `masks` (rows, units) are what dropout multiplies by."""
    units = inputs
    for k, linear in enumerate(network.linears):
        units = linear(units)
        if k < len(network.linears) - 1:
            units = torch.tanh(units) * masks[k]
    logits = units / recipe.temperature
    chances = torch.softmax(logits, dim=1)
    entropy = -(chances * chances.log()).sum(dim=1).mean()
    cross_entropy = nn.functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    return cross_entropy - recipe.confidence_penalty * entropy


def train_alone(
    network: MLP,
    table: Table,
    recipe: Recipe,
    order: Callable[[], Tensor],
    generator: torch.Generator,
    velocity: list[Tensor] | None = None,
    after_epoch: Callable[[], None] = lambda: None,
) -> torch.optim.SGD:
    """One network, autograd, torch.optim: how anybody would write it."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    if velocity is not None:
        for parameter, kept in zip(network.parameters(), velocity, strict=True):
            optimizer.state[parameter]["momentum_buffer"] = kept.clone()
    hidden = [linear.out_features for linear in network.linears[:-1]]
    for _ in range(recipe.epochs):
        met = order()
        inputs, labels = table.inputs[met].clone(), table.labels[met]
        if recipe.input_noise:
            noise = torch.randn(len(met), len(NUMERIC), generator=generator, dtype=torch.float64)
            inputs[:, NUMERIC] += recipe.input_noise * noise
        masks = torch.ones(len(met), sum(hidden), dtype=torch.float64)
        if recipe.dropout:
            left_out = torch.rand(masks.shape, generator=generator, dtype=torch.float64) < recipe.dropout
            masks = masks.masked_fill(left_out, 0.0) / (1 - recipe.dropout)
        for k in range(0, len(met), recipe.batch_size):
            rows = slice(k, k + recipe.batch_size)
            optimizer.zero_grad()
            by_layer = list(torch.split(masks[rows], hidden, dim=1))
            loss_of(network, inputs[rows], labels[rows], by_layer, recipe).backward()
            optimizer.step()
        after_epoch()
    return optimizer


def carry_out(plan: Plan, table: Table, seed: int) -> nn.Module:
    """A plan for one lane, the ordinary way."""
    first = random_network(seed, "first weights")
    order = stream(seed, "first order")
    optimizer = train_alone(
        first,
        table,
        plan.first,
        lambda: torch.randperm(OLD_ROWS, generator=order),
        draws(seed, "first"),
    )
    velocity = None
    if plan.keep_velocity:
        velocity = [optimizer.state[parameter]["momentum_buffer"] for parameter in first.parameters()]
    network = start_plan(plan, seed, first)
    mean = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.average))
    order = stream(seed, "order")
    train_alone(
        network,
        table,
        plan.then,
        lambda: epoch_order(len(table.labels), plan.new_share, order),
        draws(seed, "then"),
        velocity,
        lambda: mean.update_parameters(network),
    )
    return mean.module if plan.average else network


def plan_of(recipe: Recipe) -> Plan:
    return Plan(first=short(recipe), then=short(recipe))


EVERY_PLAN = (
    {name: plan_of(recipe) for name, recipe in RECIPES.items()}
    | {
        name: Plan(**(vars(plan) | {"first": short(Recipe()), "then": short(Recipe())}))
        for name, plan in PLANS.items()
    }
    | {
        "kept velocity": Plan(
            first=short(RECIPES["momentum"]), then=short(RECIPES["momentum"]), keep_velocity=True
        ),
        "other recipe later": Plan(first=short(RECIPES["dropout"]), then=short(RECIPES["weight decay"])),
    }
)
PAIRS = [(0, 3), (1, 3), (1, 4)]


@pytest.fixture(scope="module")
def tables() -> list[Table]:
    return draw_tables([5, 6], 1, 0.05)[0]


@pytest.fixture(scope="module")
def together(tables: list[Table]) -> dict[str, list[MLP]]:
    """All plans at once, so that what one needs must not leak into another."""
    found: dict[str, list[MLP]] = {}

    def read(name: str, epoch: int, ensemble: Ensemble) -> None:
        assert epoch == EPOCHS
        found[name] = ensemble.networks()

    train_plans(tables, PAIRS, EVERY_PLAN, read, read_at=[EPOCHS])
    return found


@pytest.mark.parametrize("name", EVERY_PLAN)
def test_twin(name: str, tables: list[Table], together: dict[str, list[MLP]]) -> None:
    for (table, seed), lane in zip(PAIRS, together[name], strict=True):
        alone = carry_out(EVERY_PLAN[name], tables[table], seed)
        for found, expected in zip(lane.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-9)


def test_every_option_matters(together: dict[str, list[MLP]]) -> None:
    """No two plans end in the same place, so that no option is quietly ignored."""
    weights = {name: lanes[0].linears[0].weight for name, lanes in together.items()}
    names = list(weights)
    for k, one in enumerate(names):
        for other in names[k + 1 :]:
            assert (weights[one] - weights[other]).abs().max() > 1e-6, f"{one} = {other}"


def test_a_plan_without_changes_is_the_arm(tables: list[Table]) -> None:
    """The same networks as chapter 4's."""
    arms: dict[str, list[Tensor]] = {}
    plans: dict[str, list[Tensor]] = {}
    train_lanes(
        tables,
        PAIRS,
        [Arm("cold", "fresh", epochs=9), Arm("warm", "saved", epochs=9), Arm("s", "saved", 0.5, 0.01, 9)],
        lambda members, epoch, ensemble: arms.update({members[0].key: ensemble.weights}),
    )
    assert set(arms) == {"initial", "cold", "warm", "s"}
    nine = Recipe(epochs=9)
    train_plans(
        tables,
        PAIRS,
        {
            "cold": Plan("fresh", then=nine),
            "warm": Plan(then=nine),
            "s": Plan(then=nine, lamda=0.5, sigma=0.01),
        },
        lambda name, epoch, ensemble: plans.update({name: ensemble.weights}),
        read_at=[9],
    )
    for name, weights in plans.items():
        for found, expected in zip(weights, arms[name], strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_lane_does_not_depend_on_its_chunk(tables: list[Table]) -> None:
    def lane(chunk: list[tuple[int, int]]) -> MLP:
        found: list[MLP] = []
        plan = EVERY_PLAN["everything"]
        train_plans(tables, chunk, {"it": plan}, lambda _n, _e, e: found.extend(e.networks()), read_at=[2])
        return found[-1]

    alone, in_company = lane([(1, 4)]), lane([(0, 9), (0, 4), (1, 4)])
    for one, other in zip(alone.parameters(), in_company.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_an_early_stopped_first_network_is_the_long_one_read_early(tables: list[Table]) -> None:
    ends: dict[str, Tensor] = {}

    def read(name: str, epoch: int, ensemble: Ensemble) -> None:
        ends[name] = ensemble.weights[0].clone()

    one = Recipe(epochs=1)
    early, late = Plan(first=Recipe(epochs=3), then=one), Plan(first=Recipe(epochs=5), then=one)
    train_plans(tables, PAIRS, {"early": early, "late": late}, read, read_at=[1])
    shared = dict(ends)
    train_plans(tables, PAIRS, {"early": early}, read, read_at=[1])
    torch.testing.assert_close(shared["early"], ends["early"], rtol=0, atol=0)
    assert not torch.equal(shared["early"], shared["late"])


def test_first_networks_can_be_shared_between_calls(tables: list[Table]) -> None:
    """The second call takes them as they are: it gives the same, and trains them no more."""
    ends: list[Tensor] = []
    seen: list[int] = []

    def read(name: str, epoch: int, ensemble: Ensemble) -> None:
        ends.append(ensemble.weights[0].clone())

    plan, saved = EVERY_PLAN["kept velocity"], {}
    for _ in range(2):
        train_plans(tables, PAIRS, {"it": plan}, read, read_at=[EPOCHS], tick=seen.append, saved=saved)
        kept = saved[plan.first][0][0].linears[0].weight.clone()
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(kept, saved[plan.first][0][0].linears[0].weight)
    assert len(seen) == 2 * EPOCHS + 1 + EPOCHS and sum(seen[: 2 * EPOCHS]) == sum(seen[2 * EPOCHS :])


def test_the_class_that_never_happens_stays_away(tables: list[Table]) -> None:
    """Weight decay must not wear down the bias that keeps the fourth class out."""
    strong = Recipe(epochs=20, weight_decay=10.0, label_smoothing=0.5, confidence_penalty=1.0)

    def read(name: str, epoch: int, ensemble: Ensemble) -> None:
        assert (ensemble.weights[-1][:, 3:, -1] == -1e9).all()
        assert all(torch.isfinite(weight).all() for weight in ensemble.weights)

    for momentum in (0.0, 0.5):
        recipe = Recipe(**(vars(strong) | {"momentum": momentum}))
        train_plans(tables, PAIRS, {"strong": Plan("fresh", then=recipe)}, read, read_at=[20])


@pytest.mark.parametrize("share, old, new", [(0.0, 200, 0), (0.25, 150, 50), (0.5, 100, 100), (1.0, 0, 200)])
def test_the_mix_of_an_epoch(share: float, old: int, new: int) -> None:
    order = epoch_order(200, share, torch.Generator().manual_seed(1))
    counts = torch.bincount(order, minlength=200)
    assert (int(counts[:100].sum()), int(counts[100:].sum())) == (old, new)
    for half in (counts[:100], counts[100:]):  # nobody thrice before everybody twice
        assert half.max() - half.min() <= 1
    assert not torch.equal(order, order.sort().values)


@pytest.mark.parametrize(
    "name, value",
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("temperature", 0.0),
        ("momentum", 1.0),
        ("label_smoothing", -0.1),
        ("dropout", 1.0),
        ("weight_decay", -1.0),
        ("confidence_penalty", float("inf")),
        ("input_noise", float("nan")),
    ],
)
def test_a_bad_recipe_says_what_is_wrong(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        Recipe(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"start": "lukewarm"}, "'fresh' or 'saved', not 'lukewarm'"),
        ({"new_share": 1.5}, "new_share must be from 0 to 1"),
        ({"average": 1.0}, "average must be from 0 to less than 1"),
        ({"keep_velocity": True}, "momentum in the first training"),
        ({"start": "fresh", "first": Recipe(momentum=0.9), "keep_velocity": True}, "saved start"),
    ],
)
def test_a_bad_plan_says_what_is_wrong(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**options)  # type: ignore[arg-type]


def test_the_progress_bar_is_told_every_sample() -> None:
    table = employees.load_train()
    plans = {
        "early": Plan(first=Recipe(epochs=2), then=Recipe(epochs=3)),
        "late": Plan(first=Recipe(epochs=4), then=Recipe(epochs=1)),
        "cold": Plan("fresh", then=Recipe(epochs=2)),
    }
    seen: list[int] = []
    train_plans([table], [(0, 0), (0, 1)], plans, lambda *_: None, read_at=[], tick=seen.append)
    assert sum(seen) == 2 * samples_of(plans, len(table.labels)) == 2 * (400 + 6 * 200)
