"""Every rival does what its paper says: by hand, on small networks, and against autograd."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from wsp.lab.employees import Table
from wsp.lab.fitting import fit
from wsp.lab.network import ConvNet, ThinResNet, image_mlp, seeded
from wsp.lab.rivals import (
    HareTortoise,
    Redo,
    WeightClipping,
    add_layer_norm_,
    dash_,
    dormant,
    fire_,
    fit_stopped,
    l2_init,
    redo_,
    unit_layers,
)
from wsp.lab.training import measure

NETWORKS = {"mlp": lambda: image_mlp(activation="relu"), "convnet": ConvNet}


def some(rows: int, seed: int = 0) -> Table:
    generator = torch.Generator().manual_seed(seed)
    return Table(
        torch.rand(rows, 1, 8, 8, generator=generator), torch.randint(10, (rows,), generator=generator)
    )


def built(name: str, seed: int = 0) -> nn.Module:
    with seeded(seed):
        return NETWORKS[name]()


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


# DASH ----------------------------------------------------------------------------------


def test_dash_by_hand() -> None:
    """One unit of two points at 45 degrees to where one row pushes it; the biases likewise."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        layer.bias.copy_(torch.tensor([1.0, 0.0]))
    # Label 0: the logit of class 0 should rise, along the input for the weights; that of 1 fall.
    dash_(layer, [Table(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))], lamda=0.3)
    half = math.cos(math.pi / 4)
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[half, half], [0.0, 0.3]]))
    # The biases are pushed in direction (1, -1), at 45 degrees to (1, 0).
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([half, 0.0]))


def test_dash_turns_each_kernel_of_a_convolution_by_itself() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.Flatten(), nn.Linear(3, 2))
    table = Table(torch.randn(5, 2, 3, 3), torch.tensor([0, 1, 0, 1, 1]))
    gradient = torch.autograd.grad(cross_entropy(network(table.inputs), table.labels), network[0].weight)[0]
    before = network[0].weight.detach().clone()
    dash_(network, [table], lamda=0.1)
    for out in range(3):
        for into in range(2):
            w, g = before[out, into].flatten(), -gradient[out, into].flatten()
            cosine = float(w @ g / (w.norm() * g.norm()))
            expected = before[out, into] * min(max(cosine, 0.1), 1.0)
            torch.testing.assert_close(network[0].weight[out, into].detach(), expected)


def test_dash_averages_over_batches_and_the_last_weighs_most() -> None:
    """Two batches push to (1, 0) and to (0, 1): their average points to (1 - alpha, 1)."""
    alpha = 0.25
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    batches = [Table(torch.eye(2)[k : k + 1] * 1e-3, torch.tensor([0])) for k in (0, 1)]
    dash_(layer, batches, lamda=0.0, alpha=alpha)
    # Inputs are tiny, so that both rows push equally hard.
    expected = (1 - alpha) / math.hypot(1 - alpha, 1)
    assert layer.weight[0, 0].item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_dash_that_keeps_all_changes_nothing(name: str) -> None:
    network = built(name)
    before = state(network)
    assert dash_(network, [some(20)], lamda=1.0) is network
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_dash_shrinks_between_its_limits_and_leaves_normalization_alone() -> None:
    network = built("convnet")
    before = state(network)
    dash_(network, [some(20), some(20, 1)], lamda=0.3)
    for key, value in network.state_dict().items():
        if value.dim() in (2, 4):
            kept = value / before[key]
            assert 0.3 - 1e-6 <= kept.min() < kept.max() <= 1 + 1e-6, key
        elif key != "7.bias":  # that of the linear layer
            assert torch.equal(value, before[key]), key


def test_dash_wants_batches_and_fractions() -> None:
    network = built("mlp")
    before = state(network)
    with pytest.raises(ValueError, match="no batches"):
        dash_(network, [])
    for bad in ({"lamda": 1.5}, {"lamda": -0.1}, {"alpha": 2.0}, {"lamda": math.nan}):
        with pytest.raises(ValueError, match="from 0 to 1"):
            dash_(network, [some(5)], **bad)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


# L2 Init -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_l2_init_pulls_to_the_first_weights(name: str) -> None:
    """The gradient of the penalty, by autograd, is 2 s (p - initial) for every parameter."""
    first, network = built(name, 0), built(name, 1)
    table = some(20)
    parameters = list(network.parameters())
    plain = torch.autograd.grad(cross_entropy(network(table.inputs), table.labels), parameters)
    bent = torch.autograd.grad(l2_init(first, 0.01)(network, *table), parameters)
    for p, q, without, penalized in zip(parameters, first.parameters(), plain, bent, strict=True):
        torch.testing.assert_close(penalized - without, 0.02 * (p - q).detach(), atol=1e-6, rtol=1e-4)


def test_l2_init_remembers_the_first_weights_when_the_network_goes_on() -> None:
    network = built("mlp")
    table = some(20)
    loss = l2_init(network, 1.0)
    assert loss(network, *table).item() == cross_entropy(network(table.inputs), table.labels).item()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1.0)
    apart = loss(network, *table).item() - cross_entropy(network(table.inputs), table.labels).item()
    assert apart == pytest.approx(sum(p.numel() for p in network.parameters()), rel=1e-4)


def test_l2_init_leaves_frozen_parameters_alone_and_refuses_a_negative_pull() -> None:
    network = built("mlp")
    loss = l2_init(network, 1.0)
    for p in network.parameters():
        p.requires_grad_(False).add_(1.0)
    table = some(20)
    assert loss(network, *table).item() == cross_entropy(network(table.inputs), table.labels).item()
    with pytest.raises(ValueError, match="0 or more"):
        l2_init(network, -1.0)


# ReDo ----------------------------------------------------------------------------------


def with_dead_units(name: str, dead: slice, layer: int) -> nn.Module:
    """Units whose bias (or shift, after BatchNorm) keeps them silent, among units that always fire."""
    network = built(name)
    with torch.no_grad():
        for hidden, bias in zip(HIDDEN[name], (1.0, 10.0)):
            network[hidden].bias.fill_(bias)
        network[layer].bias[dead] = -1e4
    return network


HIDDEN = {"mlp": (1, 3), "convnet": (1, 4)}  # where the bias of a unit is
CASES = [("mlp", 1, 3, 64), ("convnet", 1, 3, 9), ("convnet", 4, 7, 144)]  # layer, next, inputs of a unit


@pytest.mark.parametrize("name, layer, after, incoming", CASES)
def test_redo_starts_dormant_units_over_and_the_others_stay(
    name: str, layer: int, after: int, incoming: int
) -> None:
    network, fresh, inputs = with_dead_units(name, slice(2, 5), layer), built(name, 9), some(50).inputs
    weighted = layer if name == "mlp" else layer - 1
    before = state(network)
    assert redo_(network, inputs, fresh, tau=0.0) == 3
    units = len(network[weighted].weight)
    dead = torch.zeros(units, dtype=torch.bool)
    dead[2:5] = True
    for key in (f"{weighted}.weight", f"{layer}.bias"):
        now, then, new = network.state_dict()[key], before[key], fresh.state_dict()[key]
        assert torch.equal(now[dead], new[dead]) and torch.equal(now[~dead], then[~dead])
    assert network[weighted].weight[0].numel() == incoming
    outgoing = network[after].weight.reshape(len(network[after].weight), units, -1)
    then = before[f"{after}.weight"].reshape(outgoing.shape)
    assert not outgoing[:, dead].any() and then[:, dead].all()
    assert torch.equal(outgoing[:, ~dead], then[:, ~dead])


@pytest.mark.parametrize("name, layer, after", [case[:3] for case in CASES])
def test_redo_is_not_heard_where_nothing_goes_out(name: str, layer: int, after: int) -> None:
    network, inputs = with_dead_units(name, slice(0, 4), layer), some(50).inputs
    with torch.no_grad():
        units = len(network[layer].bias)
        network[after].weight.view(len(network[after].weight), units, -1)[:, :4] = 0.0
    before = network.eval()(inputs)
    weights = state(network)
    assert redo_(network, inputs, built(name, 9), tau=0.0) == 4
    torch.testing.assert_close(network(inputs), before)
    assert any(not torch.equal(value, weights[key]) for key, value in network.state_dict().items())


def test_dormant_by_hand() -> None:
    """Mean activations 0, 1 and 5 in a layer of mean 2: scores 0, 0.5 and 2.5."""
    network = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.copy_(torch.tensor([-1.0, 1.0, 5.0]))
    layers = unit_layers(network)
    assert layers == [(["0", "1"], "2")]
    for tau, second in ((0.0, False), (0.49, False), (0.5, True)):
        assert dormant(network, torch.zeros(7, 1), layers, tau)[0].tolist() == [True, second, False]


def test_dormant_counts_negative_activations_as_activity() -> None:
    network = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.copy_(torch.tensor([-3.0, 0.0]))
    assert dormant(network, torch.zeros(3, 1), unit_layers(network))[0].tolist() == [False, True]


def test_dormant_leaves_no_trace() -> None:
    network = built("convnet").train()
    before = state(network)
    dormant(network, some(20).inputs, unit_layers(network))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_units_are_followed_inside_residual_blocks_only() -> None:
    with seeded(0):
        network = ThinResNet()
    layers = unit_layers(network)
    assert len(layers) == 8  # one a block
    assert layers[0] == (["3.residual.0", "3.residual.1", "3.residual.2"], "3.residual.3")
    with torch.no_grad():
        for block in list(network)[3:11]:
            block.residual[1].bias.fill_(10.0)
        network[3].residual[1].bias[:5] = -1e4
    assert redo_(network.eval(), torch.rand(4, 3, 32, 32), ThinResNet(), tau=0.0) == 5


def test_redo_makes_the_optimizer_forget_what_it_recycled_and_nothing_else() -> None:
    network, table = with_dead_units("mlp", slice(2, 5), 1), some(50)
    adam = torch.optim.Adam(network.parameters())
    for _ in range(2):
        adam.zero_grad()
        cross_entropy(network(table.inputs), table.labels).backward()
        adam.step()
    for p in network.parameters():
        adam.state[p]["exp_avg"].fill_(1.0)
        adam.state[p]["exp_avg_sq"].fill_(1.0)
    redo_(network, table.inputs, built("mlp", 9), tau=0.0, optimizer=adam)
    dead = torch.zeros(100, dtype=torch.bool)
    dead[2:5] = True
    for moment in ("exp_avg", "exp_avg_sq"):
        for key in ("1.weight", "1.bias"):
            found = adam.state[network.get_parameter(key)][moment]
            assert not found[dead].any() and found[~dead].all()
        found = adam.state[network.get_parameter("3.weight")][moment]
        assert not found[:, dead].any() and found[:, ~dead].all()
        assert adam.state[network.get_parameter("5.weight")][moment].all()


def test_redo_checks_every_so_many_steps() -> None:
    network, table = with_dead_units("mlp", slice(2, 5), 1), some(50)
    sgd = torch.optim.SGD(network.parameters())
    hook = Redo(table.inputs, lambda: built("mlp", 9), tau=0.0, every=3)
    for step, recycled in ((1, 0), (2, 0), (3, 3)):
        hook(network, sgd, step)
        assert hook.recycled == recycled
    hook(network, sgd, 6)
    assert hook.recycled == 3  # they live
    for bad in ({"tau": -1.0}, {"every": 0}, {"tau": math.nan}):
        with pytest.raises(ValueError, match="tau must be"):
            Redo(table.inputs, ConvNet, **bad)


# Hare and Tortoise ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_hare_is_the_tortoise_right_after_a_reset_and_only_then(name: str) -> None:
    network, table = built(name), some(50)
    adam = torch.optim.Adam(network.parameters(), 0.01)
    hook = HareTortoise(network, momentum=0.9, every=3)
    average = state(network)
    for step in range(1, 7):
        adam.zero_grad()
        cross_entropy(network(table.inputs), table.labels).backward()
        adam.step()
        learned = state(network)
        hook(network, adam, step)
        for key, value in hook.tortoise.state_dict().items():
            if value.is_floating_point():
                average[key] = 0.9 * average[key] + 0.1 * learned[key]
                torch.testing.assert_close(value, average[key])
            else:
                assert value == learned[key]
        equal = all(torch.equal(p, q) for p, q in zip(network.parameters(), hook.tortoise.parameters()))
        assert equal == (step % 3 == 0)
    assert {id(p) for p in network.parameters()} == {id(p) for p in adam.param_groups[0]["params"]}


def test_hare_and_tortoise_at_the_ends() -> None:
    network = built("mlp")
    sgd = torch.optim.SGD(network.parameters())
    first = state(network)
    never, always = HareTortoise(network, momentum=1.0), HareTortoise(network, momentum=0.0)
    with torch.no_grad():
        network[1].weight.add_(1.0)
    never(network, sgd, 1)
    always(network, sgd, 1)
    assert torch.equal(never.tortoise[1].weight, first["1.weight"])
    torch.testing.assert_close(always.tortoise[1].weight, network[1].weight)
    for bad in ({"momentum": 1.1}, {"momentum": -0.1}, {"every": 0}):
        with pytest.raises(ValueError, match="momentum must be"):
            HareTortoise(network, **bad)


# Layer normalization -------------------------------------------------------------------


def test_layer_norm_goes_before_every_activation() -> None:
    network = add_layer_norm_(built("mlp"))
    assert [type(layer).__name__ for layer in network] == [
        *("Flatten", "Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm", "ReLU", "Linear")
    ]
    hidden = network[:3](some(20).inputs)
    torch.testing.assert_close(hidden.mean(dim=1), torch.zeros(20), atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden.std(dim=1, correction=0), torch.ones(20), atol=1e-2, rtol=0)


def test_layer_norm_takes_the_place_of_batch_norm() -> None:
    with seeded(0):
        network = add_layer_norm_(ThinResNet())
    kinds = [type(module) for module in network.modules()]
    assert nn.BatchNorm2d not in kinds and kinds.count(nn.GroupNorm) == 20
    alone, together = torch.rand(1, 3, 32, 32), torch.rand(5, 3, 32, 32)
    torch.testing.assert_close(  # rows do not see each other, in training mode either
        network.train()(torch.cat([alone, together]))[:1], network(alone), atol=1e-4, rtol=1e-4
    )


def test_layer_norm_keeps_the_weights_that_were_there() -> None:
    network = built("mlp")
    weights = copy.deepcopy([layer.weight for layer in network if isinstance(layer, nn.Linear)])
    add_layer_norm_(network)
    for layer, weight in zip((layer for layer in network if isinstance(layer, nn.Linear)), weights):
        assert torch.equal(layer.weight, weight)


# Early stopping ------------------------------------------------------------------------


def noisy(rows: int = 100) -> Table:
    """Rows whose labels nothing explains: every epoch of memorizing makes others worse."""
    return some(rows)


def test_early_stopping_ends_with_the_weights_of_the_best_epoch() -> None:
    """What it returns is the network that plain training has after that many epochs."""
    table, patience = noisy(), 4
    network = built("mlp")
    found = fit_stopped(network, table, torch.Generator().manual_seed(0), patience=patience)
    assert found.reached and found.epochs > patience + 1 and found.samples == 80 * found.epochs
    rows = torch.arange(100) % 5 == 4
    seen, unseen = (Table(table.inputs[part], table.labels[part]) for part in (~rows, rows))
    losses, again = [], []
    for epochs in range(1, found.epochs + 1):
        other = built("mlp")
        fit(other, seen, torch.Generator().manual_seed(0), stop_at=2.0, max_epochs=epochs)
        losses.append(measure(other, unseen).loss)
        again.append(other[1].weight.detach())
    best = losses.index(min(losses))
    assert found.epochs == best + 1 + patience
    assert torch.equal(network[1].weight, again[best])
    assert found.train_accuracy == measure(network, seen).accuracy


def test_early_stopping_never_trains_on_what_it_holds_out() -> None:
    table = noisy()
    spoiled = Table(table.inputs.clone(), table.labels)
    spoiled.inputs[4::5] = 0.5  # another validation split stops elsewhere, but the path is the same
    networks = [built("mlp"), built("mlp")]
    for network, rows in zip(networks, (table, spoiled), strict=True):
        fit_stopped(network, rows, torch.Generator().manual_seed(0), max_epochs=1)
    assert torch.equal(networks[0][1].weight, networks[1][1].weight)


def test_early_stopping_without_an_end_keeps_the_best_and_says_so() -> None:
    found = fit_stopped(built("mlp"), noisy(), torch.Generator(), max_epochs=3)
    assert found.epochs == 3 and not found.reached
    with pytest.raises(ValueError, match="every fifth row"):
        fit_stopped(built("mlp"), noisy(4), torch.Generator())


# FIRE ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_fire_keeps_the_nearest_orthogonal_matrix(shape: tuple[int, int]) -> None:
    """Of all matrices whose shorter side is orthonormal none is nearer; the length is the paper's."""
    layer = nn.Linear(*reversed(shape), dtype=torch.float64)
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    fire_(layer)
    assert torch.equal(layer.bias, bias)
    nearest = layer.weight.detach() / math.sqrt(shape[0] / shape[1])
    small = nearest if shape[0] < shape[1] else nearest.T
    torch.testing.assert_close(small @ small.T, torch.eye(min(shape), dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        other = torch.randn(shape, generator=generator, dtype=torch.float64)
        left, _, right = torch.linalg.svd(other, full_matrices=False)
        assert (before - left @ right).norm() > (before - nearest).norm()


def test_fire_is_what_the_iteration_of_its_authors_comes_to() -> None:
    layer = nn.Linear(7, 5, dtype=torch.float64)
    x = layer.weight.detach() / layer.weight.detach().norm()
    for _ in range(60):  # Newton and Schulz: singular values go to 1, directions stay
        x = 1.5 * x - 0.5 * x @ x.T @ x
    torch.testing.assert_close(fire_(layer).weight.detach(), x * math.sqrt(5 / 7))


def test_fire_treats_every_place_of_a_kernel_by_itself() -> None:
    conv = nn.Conv2d(3, 4, (2, 3), dtype=torch.float64)
    before = conv.weight.detach().clone()
    fire_(conv)
    for i in range(2):
        for j in range(3):
            alone = nn.Linear(3, 4, bias=False, dtype=torch.float64)
            alone.weight.data = before[:, :, i, j].clone()
            torch.testing.assert_close(conv.weight[:, :, i, j], fire_(alone).weight / 6)


def test_fire_leaves_normalization_and_layout_alone() -> None:
    network = built("convnet").to(memory_format=torch.channels_last)
    norms = {name: value for name, value in state(network).items() if value.dim() < 2}
    fire_(network)
    assert all(torch.equal(state(network)[name], value) for name, value in norms.items())
    fours = [p for p in network.parameters() if p.dim() == 4]
    assert fours and all(p.is_contiguous(memory_format=torch.channels_last) for p in fours)


def test_fire_refuses_before_it_changes_anything() -> None:
    with pytest.raises(ValueError, match="no linear layer and no convolution"):
        fire_(nn.LayerNorm(3))
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].weight.data[0, 0] = math.nan
    before = network[0].weight.detach().clone()
    with pytest.raises(ValueError, match=r"1\.weight holds values that are not finite"):
        fire_(network)
    assert torch.equal(network[0].weight, before)


# Weight clipping -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_clipped_weights_stay_in_the_range_of_fresh_ones(name: str) -> None:
    """PyTorch draws weights and biases from -1 / sqrt(fan-in) to 1 / sqrt(fan-in)."""
    network, free = built(name), built(name)
    options = {"optimizer": lambda p: torch.optim.Adam(p, lr=0.01), "max_epochs": 5}
    fit(network, some(40), torch.Generator().manual_seed(1), after_step=WeightClipping(network), **options)
    fit(free, some(40), torch.Generator().manual_seed(1), **options)
    left = False
    for layer, other in zip(network.modules(), free.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            for p, q in zip(layer.parameters(recurse=False), other.parameters(recurse=False)):
                assert p.abs().max() <= bound * (1 + 1e-6)
                left |= bool(q.abs().max() > bound)
    assert left, "without clipping some weight leaves the range"


def test_a_wide_range_clips_nothing() -> None:
    one, other = built("mlp"), built("mlp")
    fit(one, some(40), torch.Generator(), after_step=WeightClipping(one, 1e6), max_epochs=3)
    fit(other, some(40), torch.Generator(), max_epochs=3)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kappa", [0.0, -1.0, math.nan])
def test_a_range_that_is_none_is_refused(kappa: float) -> None:
    with pytest.raises(ValueError, match="kappa must be above 0"):
        WeightClipping(nn.Linear(1, 1), kappa)
