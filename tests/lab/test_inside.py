"""The instruments of chapter 7, against plain PyTorch, closed forms and made-up cases."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from wsp.lab import inside
from wsp.lab.employees import Table
from wsp.lab.inside import Lanes, freeze_biases_
from wsp.lab.network import MLP
from wsp.lab.training import train_epoch

LANES = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices wait longer for a second thread than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def some_networks(
    activation: str = "tanh", biases: bool = True, sizes: tuple[int, ...] = (5, 8, 7, 4)
) -> list[MLP]:
    networks = []
    for lane in range(LANES):
        generator = torch.Generator().manual_seed(lane)
        network = MLP(sizes, activation, generator=generator)
        for layer in network.linears:
            if biases:
                nn.init.uniform_(layer.bias, -0.5, 0.5, generator=generator)
        networks.append(network if biases else freeze_biases_(network))
    return networks


def some_rows(rows: int = 12, features: int = 5, classes: int = 4) -> Table:
    generator = torch.Generator().manual_seed(99)
    return Table(
        torch.randn(LANES, rows, features, generator=generator, dtype=torch.float64),
        torch.randint(classes, (LANES, rows), generator=generator),
    )


def lane_of(table: Table, lane: int) -> Table:
    return Table(table.inputs[lane], table.labels[lane])


def close(one: Tensor, other: Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(one, other, rtol=0, atol=tolerance)


# --- lanes are networks -----------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_lanes_give_what_their_networks_give(activation: str) -> None:
    networks, table = some_networks(activation), some_rows()
    lanes = Lanes(networks)
    for lane, network in enumerate(networks):
        inputs, labels = lane_of(table, lane)
        logits = network(inputs)
        assert close(lanes.logits(table.inputs)[lane], logits)
        assert close(lanes.loss(table)[lane].mean(), nn.functional.cross_entropy(logits, labels))
        hidden = nn.Sequential(*list(network)[:-1])(inputs)
        assert close(lanes.layers(table.inputs)[-2][lane], hidden)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("batch_size", [4, 5])
def test_lanes_train_as_their_networks_train(activation: str, batch_size: int) -> None:
    networks, table = some_networks(activation), some_rows()
    lanes, epochs = Lanes(networks), 20
    orders = [torch.Generator().manual_seed(7 + lane) for lane in range(LANES)]
    for _ in range(epochs):
        order = torch.stack([torch.randperm(12, generator=generator) for generator in orders])
        lanes.train_epoch(table, order, learning_rate=0.1, batch_size=batch_size)
    for lane, network in enumerate(networks):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        generator = torch.Generator().manual_seed(7 + lane)
        for _ in range(epochs):
            train_epoch(network, lane_of(table, lane), optimizer, generator, batch_size)
        assert close(lanes.logits(table.inputs)[lane], network(table.inputs[lane]))


def test_training_the_lanes_leaves_the_networks_alone() -> None:
    networks = some_networks()
    before = [p.detach().clone() for p in networks[0].parameters()]
    lanes = Lanes(networks)
    lanes.train_epoch(some_rows(), torch.arange(12).expand(LANES, -1), learning_rate=0.1, batch_size=4)
    assert all(torch.equal(p, q) for p, q in zip(networks[0].parameters(), before))
    assert not close(lanes.weights[0][0].detach(), before[0], 1e-6)


@pytest.mark.parametrize("biases", [True, False])
def test_biases_are_trained_unless_frozen(biases: bool) -> None:
    lanes = Lanes(some_networks("relu", biases))
    before = [bias.detach().clone() for bias in lanes.biases]
    lanes.train_epoch(some_rows(), torch.arange(12).expand(LANES, -1), learning_rate=0.1, batch_size=4)
    moved = [not torch.equal(bias, old) for bias, old in zip(lanes.biases, before)]
    assert all(moved) if biases else not any(moved)


def test_row_weights_weight_rows() -> None:
    lanes, table = Lanes(some_networks()), some_rows()
    weight = torch.zeros(LANES, 12, dtype=torch.float64)
    weight[:, :3] = 4.0  # so the mean over twelve is the mean over three
    first = Table(table.inputs[:, :3], table.labels[:, :3])
    for weighted, alone in zip(lanes.gradient(table, weight), lanes.gradient(first)):
        assert close(weighted, alone)


def test_the_effective_rate_is_how_far_the_step_reached() -> None:
    lanes, table = Lanes(some_networks()), some_rows()
    order = torch.arange(12).expand(LANES, -1)
    said = lanes.effective_rate(table, order, learning_rate=0.1, batch_size=12)
    before = [p.detach().clone() for p in lanes.trained]
    lanes.train_epoch(table, order, learning_rate=0.1, batch_size=12)  # one step
    step = inside.norm([p.detach() - old for p, old in zip(lanes.trained, before)])
    assert close(said, step / inside.norm(before))


def test_between_starts_here_and_ends_there() -> None:
    one, other, table = Lanes(some_networks()), Lanes(some_networks("tanh")[::-1]), some_rows()
    for share, end in ((0.0, one), (1.0, other)):
        assert close(one.between(other, share).logits(table.inputs), end.logits(table.inputs))
    middle = one.between(other, 0.5).weights[1]
    assert close(middle, (one.weights[1] + other.weights[1]) / 2)


# --- the two propositions of the chapter ------------------------------------------------


@pytest.mark.parametrize("sizes", [(5, 4), (5, 8, 4), (5, 8, 7, 4)])
@pytest.mark.parametrize("lamda", [0.9, 0.5, 0.1])
def test_shrinking_a_relu_network_without_biases_rescales_its_logits(
    sizes: tuple[int, ...], lamda: float
) -> None:
    networks, table = some_networks("relu", biases=False, sizes=sizes), some_rows()
    full, small = Lanes(networks), Lanes(inside.shrunk(networks, lamda))
    expected = lamda ** (len(sizes) - 1) * full.logits(table.inputs)
    assert close(small.logits(table.inputs), expected)
    assert torch.equal(small.logits(table.inputs).argmax(dim=2), full.logits(table.inputs).argmax(dim=2))


@pytest.mark.parametrize("activation, biases", [("relu", True), ("tanh", False), ("tanh", True)])
def test_with_biases_or_tanh_it_does_not(activation: str, biases: bool) -> None:
    networks, table = some_networks(activation, biases), some_rows()
    small = Lanes(inside.shrunk(networks, 0.5)).logits(table.inputs)
    assert not close(small, 0.5**3 * Lanes(networks).logits(table.inputs), 1e-3)


@pytest.mark.parametrize("lamda", [0.8, 0.5])
def test_training_shrunk_is_training_softer_and_faster(lamda: float) -> None:
    networks, table = some_networks("relu", biases=False), some_rows()
    small = Lanes(inside.shrunk(networks, lamda))
    full = Lanes(networks, softness=lamda**3)
    orders = torch.Generator().manual_seed(3)
    for _ in range(30):
        order = torch.stack([torch.randperm(12, generator=orders) for _ in range(LANES)])
        small.train_epoch(table, order, learning_rate=0.1, batch_size=4)
        full.train_epoch(table, order, learning_rate=0.1 / lamda**2, batch_size=4)
    assert close(small.logits(table.inputs), full.logits(table.inputs), 1e-10)
    for weight, other in zip(small.weights, full.weights):
        assert close(weight.detach(), lamda * other.detach(), 1e-10)


def test_neither_part_alone_does_it() -> None:
    networks, table = some_networks("relu", biases=False), some_rows()
    order = torch.arange(12).expand(LANES, -1)
    ends = {}
    for name, lanes, rate in (
        ("shrunk", Lanes(inside.shrunk(networks, 0.5)), 0.1),
        ("softer", Lanes(networks, softness=0.5**3), 0.1),
        ("faster", Lanes(networks), 0.4),
    ):
        lanes.train_epoch(table, order, learning_rate=rate, batch_size=4)
        ends[name] = lanes.logits(table.inputs).detach()
    assert not close(ends["shrunk"], ends["softer"], 1e-3)
    assert not close(ends["shrunk"], ends["faster"], 1e-3)


# --- instruments ------------------------------------------------------------------------


def test_softness_is_exact_for_the_homogeneous_network_and_blind_to_a_constant() -> None:
    networks, table = some_networks("relu", biases=False), some_rows()
    full = Lanes(networks)
    expected = torch.full((LANES,), 0.7**3, dtype=torch.float64)
    assert close(inside.softness_of(Lanes(inside.shrunk(networks, 0.7)), full, table.inputs), expected)
    lifted = copy.deepcopy(networks)
    for network in lifted:
        network.linears[-1].bias.data += 5.0  # the same for every class: the softmax is as it was
    found = inside.softness_of(Lanes(lifted), full, table.inputs)
    assert close(found, torch.ones(LANES, dtype=torch.float64))


def test_softness_multiplies_the_logits() -> None:
    networks, table = some_networks(), some_rows()
    softer = Lanes(networks, softness=torch.tensor([1.0, 0.5, 0.0]))
    ratio = softer.logits(table.inputs) / Lanes(networks).logits(table.inputs)
    assert close(ratio[:, 0, 0], torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))


def test_pulls_are_gradient_norms_of_the_halves() -> None:
    networks, table = some_networks(), some_rows()
    old, new = inside.pulls(Lanes(networks), table, old_rows=5)
    for lane, network in enumerate(networks):
        for found, rows in ((old, slice(0, 5)), (new, slice(5, None))):
            network.zero_grad()
            logits = network(table.inputs[lane, rows])
            loss = nn.functional.cross_entropy(logits, table.labels[lane, rows])
            loss.backward()  # type: ignore[no-untyped-call]
            flat = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
            assert close(found[lane], flat.norm())


def test_scores_count_and_are_sure() -> None:
    lanes, table = Lanes(some_networks()), some_rows()
    found = inside.scores(lanes, table)
    logits = lanes.logits(table.inputs)
    right = (logits.argmax(dim=2) == table.labels).sum(dim=1)
    assert found["accuracy"].tolist() == pytest.approx([100 * int(count) / 12 for count in right])
    assert close(found["confidence"], logits.softmax(dim=2).amax(dim=2).mean(dim=1))
    assert close(found["loss"], lanes.loss(table).mean(dim=1))


def test_ranks_of_matrices_with_known_singular_values() -> None:
    features = torch.diag(torch.tensor([3.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    assert inside.stable_rank(features) == pytest.approx((9 + 1) / 9)
    entropy = -(0.75 * torch.tensor(0.75).log() + 0.25 * torch.tensor(0.25).log())
    assert inside.effective_rank(features) == pytest.approx(float(entropy.exp()))
    assert close(inside.effective_rank(7 * features), inside.effective_rank(features))
    assert inside.effective_rank(torch.stack([features, torch.eye(4, dtype=torch.float64)])).shape == (2,)


def test_idle_units_are_counted() -> None:
    rows = some_rows()
    silent = some_networks("relu")
    for network in silent:
        network.linears[0].bias.data[:2] = -1e3  # two of fifteen hidden units never speak
        network.linears[1].weight.data.fill_(0.1)
        network.linears[1].bias.data.fill_(1e3)
    alive = [
        int((network.linears[0](rows.inputs[lane]) > 0).any(dim=0).sum())
        for lane, network in enumerate(silent)
    ]
    found = inside.suspects(Lanes(silent), rows)["idle"]
    assert found.tolist() == pytest.approx([(8 - count) / 15 for count in alive])
    assert min(found.tolist()) >= 2 / 15

    saturated = some_networks("tanh")
    for network in saturated:
        network.linears[0].weight.data.fill_(0.0)
        network.linears[0].bias.data.copy_(torch.tensor([9.0, -9.0, 0, 0, 0, 0, 0, 0]))
        network.linears[1].weight.data.fill_(0.0)
        network.linears[1].bias.data.fill_(0.0)
    assert inside.suspects(Lanes(saturated), rows)["idle"].tolist() == pytest.approx([2 / 15] * LANES)


def test_a_barrier_is_measured_from_the_line_between_the_ends() -> None:
    losses = torch.tensor([[0.0, 1.5, 2.0], [2.0, 0.5, 1.0]], dtype=torch.float64)
    assert inside.barrier(losses).tolist() == [0.5, 0.0]


def test_losses_between_two_networks() -> None:
    one, other, table = Lanes(some_networks()), Lanes(some_networks()[::-1]), some_rows()
    losses = inside.losses_between(one, other, table)
    assert losses.shape == (LANES, inside.STEPS)
    assert close(losses[:, 0], one.loss(table).mean(dim=1))
    assert close(losses[:, -1], other.loss(table).mean(dim=1))
    half = one.between(other, 0.5).loss(table).mean(dim=1)
    assert close(losses[:, inside.STEPS // 2], half)


def test_biases_are_shrunk_where_asked() -> None:
    networks = some_networks()
    for biases, factor in ((False, 1.0), (True, 0.5)):
        for small, full in zip(inside.shrunk(networks, 0.5, biases), networks):
            assert close(small.linears[1].weight, 0.5 * full.linears[1].weight)
            assert close(small.linears[1].bias, factor * full.linears[1].bias)


# --- proposition 2 with other optimizers ------------------------------------------------


def logits_after(optimizer: str, start: float, softness: float, **settings: float) -> Tensor:
    """Of a ReLU network without biases after 90 steps, from weights times `start` and without velocity."""
    network, table = some_networks("relu", biases=False)[0], lane_of(some_rows(), 0)
    trained = [layer.weight for layer in network.linears]
    for weight in trained:
        weight.data.mul_(start)
    trainer: torch.optim.Optimizer = getattr(torch.optim, optimizer)(trained, **settings)
    generator = torch.Generator().manual_seed(5)
    for _ in range(90):
        batch = torch.randperm(12, generator=generator)[:4]
        loss = nn.functional.cross_entropy(softness * network(table.inputs[batch]), table.labels[batch])
        trainer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        trainer.step()
    logits: Tensor = softness * network(table.inputs).detach()
    return logits


@pytest.mark.parametrize("lamda, bound", [(0.5, 0.0), (0.7, 1e-9)])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_softer_and_faster_holds_with_momentum_from_zero_velocity(
    momentum: float, lamda: float, bound: float
) -> None:
    shrunk = logits_after("SGD", lamda, 1.0, lr=0.01, momentum=momentum)
    other = logits_after("SGD", 1.0, lamda**3, lr=0.01 / lamda**2, momentum=momentum)
    assert float((shrunk - other).abs().max()) <= bound


@pytest.mark.parametrize("lamda", [0.5, 0.7])
def test_softer_and_faster_holds_with_adam_at_another_rate(lamda: float) -> None:
    def apart(rate: float, eps: float) -> float:
        shrunk = logits_after("Adam", lamda, 1.0, lr=1e-3, eps=1e-4)
        other = logits_after("Adam", 1.0, lamda**3, lr=rate, eps=eps)
        return float((shrunk - other).abs().max())

    assert apart(1e-3 / lamda, lamda * 1e-4) < 1e-9
    assert apart(1e-3 / lamda, 1e-4) > 1e-6, "eps is a length too"
    assert apart(1e-3 / lamda**2, lamda * 1e-4) > 1e-3, "this is the rate of SGD"


def test_adam_forgets_its_epsilon_as_it_goes_to_zero() -> None:
    gaps = [
        float(
            (
                logits_after("Adam", 0.5, 1.0, lr=1e-3, eps=eps)
                - logits_after("Adam", 1.0, 0.125, lr=2e-3, eps=eps)
            )
            .abs()
            .max()
        )
        for eps in (1e-4, 1e-6, 1e-8)
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < 1e-4
