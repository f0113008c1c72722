"""Many networks at once give what each gives alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wsp.lab import employees
from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.network import MLP
from wsp.lab.retraining import Arm, find_arms, run_arms
from wsp.lab.training import measure, train
from wsp.studies.sweep import train_lanes

LANES = 4
LAYOUTS = [(6, 10, 10, 3), (5, 7, 4), (6, 3), (4, 9, 5, 6, 2)]


def some_rows(rows: int, features: int, classes: int, seed: int) -> Table:
    generator = torch.Generator().manual_seed(seed)
    return Table(
        torch.randn(rows, features, generator=generator, dtype=torch.float64),
        torch.randint(classes, (rows,), generator=generator),
    )


def some_networks(sizes: tuple[int, ...], activation: str = "tanh", lanes: int = LANES) -> list[MLP]:
    """Random biases too, so that a mistake with one of them shows."""
    networks = []
    for lane in range(lanes):
        generator = torch.Generator().manual_seed(lane)
        networks.append(MLP(sizes, activation, generator=generator))
        for linear in networks[-1]:
            if isinstance(linear, nn.Linear):
                nn.init.uniform_(linear.bias, -0.5, 0.5, generator=generator)
    return networks


def apart(one: nn.Module, other: nn.Module) -> float:
    """The largest difference of any weight."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max((p - q).detach().abs().max().item() for p, q in pairs)


def generator_of(lane: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 + lane)


@pytest.mark.parametrize("sizes", LAYOUTS, ids=str)
def test_a_temperature_divides_the_logits_of_the_loss(sizes: tuple[int, ...]) -> None:
    """Autograd with logits over T; T falls while training goes on."""
    table, networks = some_rows(23, sizes[0], sizes[-1], 0), some_networks(sizes)
    ensemble, temperatures = Ensemble(networks), [8.0, 3.0, 1.0]
    orders = [generator_of(lane) for lane in range(LANES)]
    for temperature in temperatures:
        ensemble.temperature = temperature
        order = torch.stack([torch.randperm(23, generator=generator) for generator in orders])
        ensemble.train_epoch(table, order, learning_rate=0.1, batch_size=10)
    ensemble.temperature = 4.0
    right, loss = ensemble.measure(*table)
    for lane, (network, trained) in enumerate(zip(networks, ensemble.networks())):
        optimizer, generator = torch.optim.SGD(network.parameters(), lr=0.1), generator_of(lane)
        for temperature in temperatures:
            for rows in torch.split(torch.randperm(23, generator=generator), 10):
                optimizer.zero_grad()
                logits = network(table.inputs[rows]) / temperature
                nn.functional.cross_entropy(logits, table.labels[rows]).backward()
                optimizer.step()
        assert apart(network, trained) < 1e-12
        logits = network(table.inputs)
        assert right[lane] == (logits.argmax(dim=1) == table.labels).sum()
        expected = nn.functional.cross_entropy(logits / 4, table.labels)
        assert loss[lane].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("sizes", LAYOUTS, ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("tables, rows, batch", [(1, 30, 10), (LANES, 23, 10), (2, 7, 20)])
def test_twin(sizes: tuple[int, ...], activation: str, tables: int, rows: int, batch: int) -> None:
    """A table a lane or one for all; a whole, a ragged, an only batch."""
    epochs, rate = 40, 0.1
    stack = [some_rows(rows, sizes[0], sizes[-1], seed) for seed in range(tables)]
    networks = some_networks(sizes, activation)
    before = [p.detach().clone() for net in networks for p in net.parameters()]

    ensemble = Ensemble(networks)
    together = Table(*(torch.cat(columns) for columns in zip(*stack)))
    first_row = torch.tensor([[lane % tables * rows] for lane in range(LANES)])
    generators = [generator_of(lane) for lane in range(LANES)]
    for _ in range(epochs):
        order = torch.stack([torch.randperm(rows, generator=g) for g in generators]) + first_row
        ensemble.train_epoch(together, order, learning_rate=rate, batch_size=batch)

    after = [p for net in networks for p in net.parameters()]
    assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True))  # copied, not changed
    held_out = some_rows(50, sizes[0], sizes[-1], seed=99)
    correct, losses = ensemble.measure(*held_out)
    for lane, (alone, found) in enumerate(zip(networks, ensemble.networks(), strict=True)):
        train(
            alone,
            stack[lane % tables],
            generator_of(lane),
            epochs=epochs,
            learning_rate=rate,
            batch_size=batch,
        )
        assert apart(alone, found) < 1e-12
        expected = measure(alone, held_out)
        assert correct[lane] == expected.correct
        assert losses[lane].item() == pytest.approx(expected.loss, rel=1e-11)


@pytest.mark.parametrize("seeds", [(3, 17, 58)])
def test_twin_after_the_full_schedule(seeds: tuple[int, ...]) -> None:
    """The first network for 1000 epochs, then the trick for 500; the seeds were chosen in advance.

    test_cli.py looks at the other arms, for the book's seed.
    """
    table, test = employees.load_train(), employees.load_test()
    keys = ["initial", "shrink_perturb"]
    found: dict[str, tuple[list[MLP], Tensor, Tensor]] = {}

    def read(members: list[Arm], epoch: int, ensemble: Ensemble) -> None:
        assert epoch == members[0].epochs
        found[members[0].key] = (ensemble.networks(), *ensemble.measure(*test))

    train_lanes([table], [(0, seed) for seed in seeds], find_arms(keys), read)
    for lane, seed in enumerate(seeds):
        for key, alone in run_arms(table, test, seed, arms=keys).items():
            networks, correct, loss = found[key]
            assert apart(networks[lane], alone.network) < 1e-9
            assert correct[lane] == alone.test.correct
            assert loss[lane].item() == pytest.approx(alone.test.loss, abs=1e-9)


@pytest.mark.parametrize("sizes", LAYOUTS, ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_logits_and_measure(sizes: tuple[int, ...], activation: str) -> None:
    networks = some_networks(sizes, activation)
    ensemble = Ensemble(networks)
    tables = [some_rows(11, sizes[0], sizes[-1], seed) for seed in range(LANES)]
    inputs, labels = (torch.stack(columns) for columns in zip(*tables))

    for shared in (True, False):
        rows = inputs[0] if shared else inputs
        logits = ensemble.logits(rows)
        correct, loss = ensemble.measure(rows, labels[0] if shared else labels)
        assert logits.shape == (LANES, sizes[-1], 11)
        for lane, net in enumerate(networks):
            table = tables[0 if shared else lane]
            torch.testing.assert_close(logits[lane].mT, net(table.inputs).detach(), rtol=1e-12, atol=1e-12)
            expected = measure(net, table)
            assert (correct[lane], loss[lane].item()) == (expected.correct, pytest.approx(expected.loss))


def test_networks_bring_every_weight_back() -> None:
    for sizes in LAYOUTS:
        networks = some_networks(sizes, "relu")
        state = torch.get_rng_state()
        back = Ensemble(networks).networks()
        assert torch.equal(torch.get_rng_state(), state)
        assert [apart(p, q) for p, q in zip(networks, back, strict=True)] == [0.0] * LANES
        assert {(net.sizes, net.activation) for net in back} == {(sizes, "relu")}


def test_float32_stays_float32() -> None:
    networks = [MLP(generator=generator_of(lane), dtype=torch.float32) for lane in range(3)]
    table = Table(*(c.float() if c.is_floating_point() else c for c in some_rows(20, 6, 3, 0)))
    ensemble = Ensemble(networks)
    order = torch.arange(20).expand(3, -1)
    ensemble.train_epoch(table, order, learning_rate=0.05, batch_size=10)
    assert {p.dtype for net in ensemble.networks() for p in net.parameters()} == {torch.float32}
    assert all(apart(p, q) > 0 for p, q in zip(networks, ensemble.networks(), strict=True))


def test_lanes_do_not_see_each_other() -> None:
    """A lane that explodes leaves its neighbors alone."""
    networks, table = some_networks((6, 10, 10, 3)), some_rows(30, 6, 3, 0)
    order = torch.stack([torch.randperm(30, generator=generator_of(lane)) for lane in range(LANES)])
    quiet, loud = Ensemble(networks), Ensemble(networks)
    loud.weights[0][2] = float("nan")
    for ensemble in (quiet, loud):
        ensemble.train_epoch(table, order, learning_rate=0.05, batch_size=10)
    for lane, (p, q) in enumerate(zip(quiet.networks(), loud.networks(), strict=True)):
        assert (apart(p, q) == 0.0) == (lane != 2)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble([])
    base = MLP((6, 10, 3))
    for other in (
        MLP((6, 11, 3)),
        MLP((6, 10, 10, 3)),
        MLP((6, 10, 3), "relu"),
        MLP((6, 10, 3), dtype=torch.float32),
    ):
        with pytest.raises(ValueError, match="must be alike"):
            Ensemble([base, other])
