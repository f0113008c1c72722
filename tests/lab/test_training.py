"""The training loop, against the same written out in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wsp.lab.employees import Table
from wsp.lab.fitting import cross_entropy, fit
from wsp.lab.network import MLP
from wsp.lab.training import BATCH_SIZE, EPOCHS, LEARNING_RATE, Measurement, measure, train


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_rows(rows: int, seed: int = 0, classes: int = 3) -> Table:
    inputs = torch.randn(rows, 6, generator=seeded(seed), dtype=torch.float64)
    return Table(inputs, torch.randint(classes, (rows,), generator=seeded(seed + 100)))


def arrays(net: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in net.parameters()]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def forward(parameters: list[np.ndarray], x: np.ndarray, activation: str) -> list[np.ndarray]:
    """The inputs, every hidden layer's units, and the class probabilities."""
    units = [x]
    for w, b in zip(parameters[:-2:2], parameters[1:-2:2]):
        z = units[-1] @ w.T + b
        units.append(np.tanh(z) if activation == "tanh" else np.maximum(z, 0))
    return [*units, softmax(units[-1] @ parameters[-2].T + parameters[-1])]


def numpy_train(
    parameters: list[np.ndarray],
    table: Table,
    orders: list[np.ndarray],
    rate: float,
    batch: int,
    activation: str,
) -> None:
    """Stochastic gradient descent by hand, in place."""
    x_all, y_all = (column.numpy() for column in table)
    for order in orders:
        for at in range(0, len(order), batch):
            rows = order[at : at + batch]
            *units, delta = forward(parameters, x_all[rows], activation)
            delta[np.arange(len(rows)), y_all[rows]] -= 1
            delta /= len(rows)  # the loss is a mean
            for k in range(len(units) - 1, -1, -1):
                w, b = parameters[2 * k], parameters[2 * k + 1]
                below = delta @ w
                below *= 1 - units[k] ** 2 if activation == "tanh" else units[k] > 0
                w -= rate * delta.T @ units[k]
                b -= rate * delta.sum(axis=0)
                delta = below


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("rows, batch, rate", [(40, 10, 0.05), (23, 10, 0.05), (7, 3, 0.3), (5, 100, 0.1)])
def test_is_gradient_descent_written_out(activation: str, rows: int, batch: int, rate: float) -> None:
    table, held_out = some_rows(rows), some_rows(30, seed=1)
    net = MLP((6, 8, 5, 3), activation, generator=seeded(2))
    expected, order = arrays(net), seeded(3)
    orders = [torch.randperm(rows, generator=order).numpy() for _ in range(40)]
    numpy_train(expected, table, orders, rate, batch, activation)

    generator = seeded(3)
    readings = train(net, table, generator, epochs=40, learning_rate=rate, batch_size=batch, test=held_out)
    for got, wanted in zip(arrays(net), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13)
    assert torch.equal(generator.get_state(), order.get_state())  # one permutation an epoch, no more

    [reading] = readings
    for found, rows_of in ((reading.train, table), (reading.test, held_out)):
        chances = forward(expected, rows_of.inputs.numpy(), activation)[-1]
        labels = rows_of.labels.numpy()
        assert found is not None
        assert (found.correct, found.of) == ((chances.argmax(axis=1) == labels).sum(), len(labels))
        assert found.loss == pytest.approx(-np.log(chances[np.arange(len(labels)), labels]).mean(), rel=1e-11)


def test_the_article_s_recipe() -> None:
    assert (EPOCHS, BATCH_SIZE) == (1000, 10)
    assert 0 < LEARNING_RATE <= 0.05  # above it training is chaotic


def test_reading_changes_nothing() -> None:
    """Neither measuring often nor the held-out rows leave a trace in the weights."""
    table = some_rows(35)
    plain, watched = (MLP(generator=seeded(2)) for _ in range(2))
    last = train(plain, table, seeded(3), epochs=8)
    readings = train(watched, table, seeded(3), epochs=8, test=some_rows(30, seed=1), read_at=range(9))
    assert all(np.array_equal(p, q) for p, q in zip(arrays(plain), arrays(watched), strict=True))
    assert [reading.epoch for reading in readings] == list(range(9))
    assert last[-1].train == readings[-1].train and last[-1].test is None
    seconds = [reading.seconds for reading in readings]
    assert seconds[0] == 0 and seconds == sorted(seconds) and seconds[-1] > 0


def test_a_shorter_run_is_a_longer_one_read_early() -> None:
    table, held_out = some_rows(35), some_rows(30, seed=1)
    [_, early, _] = train(
        MLP(generator=seeded(2)), table, seeded(3), epochs=10, test=held_out, read_at=[0, 5]
    )
    [short] = train(MLP(generator=seeded(2)), table, seeded(3), epochs=5, test=held_out)
    assert (early.epoch, early.train, early.test) == (short.epoch, short.train, short.test)


def test_measure() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    found = measure(nn.Identity(), Table(logits, torch.tensor([0, 1, 1])))
    assert (found.correct, found.of) == (2, 3)
    assert found.accuracy == pytest.approx(200 / 3)
    losses = [np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), 5 + np.log1p(np.exp(-5))]
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert Measurement(31, 40, 0.0).accuracy == 77.5


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": -0.05},
        {"learning_rate": float("nan")},
    ],
)
def test_numbers_must_be_positive(options: dict[str, Any]) -> None:
    net = MLP(generator=seeded(2))
    before, order = arrays(net), seeded(3)
    with pytest.raises(ValueError, match="must be positive"):
        train(net, some_rows(10), order, **options)
    assert all(np.array_equal(p, q) for p, q in zip(arrays(net), before, strict=True))
    assert torch.equal(order.get_state(), seeded(3).get_state())


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        train(MLP(), some_rows(0), seeded())
    with pytest.raises(ValueError, match="no rows"):
        measure(MLP(), some_rows(0))


def test_a_loss_that_explodes_stops_the_run() -> None:
    net, table = nn.Sequential(nn.Linear(6, 3)).double(), some_rows(30)
    with pytest.raises(FloatingPointError, match=r"lower the learning rate \(it is 1e\+308\)"):
        train(net, table, seeded(), epochs=5, learning_rate=1e308)
    table.inputs[7, 2] = float("nan")
    with pytest.raises(FloatingPointError, match="check the inputs"):
        train(MLP(), table, seeded(), epochs=5)


@pytest.mark.parametrize("wanted", ["0", "1"])
def test_progress_bar(
    wanted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Long enough for the bar to be redrawn, which it is ten times a second at most."""
    monkeypatch.setenv("WSP_PROGRESS", wanted)
    train(MLP(generator=seeded(2)), some_rows(60), seeded(), epochs=400, label="my arm")
    printed = capsys.readouterr()
    assert printed.out == ""
    if wanted == "0":
        assert printed.err == ""
    else:
        assert all(word in printed.err for word in ("my arm", "400/400", "epoch", "loss=", "accuracy=", " %"))


def test_watching_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar measures the network now and then; that must not show in the weights."""
    watched, plain = (MLP(generator=seeded(2)) for _ in range(2))
    for net, wanted in ((watched, "1"), (plain, "0")):
        monkeypatch.setenv("WSP_PROGRESS", wanted)
        train(net, some_rows(60), seeded(), epochs=100)
    assert all(np.array_equal(p, q) for p, q in zip(arrays(watched), arrays(plain), strict=True))


def test_threads_are_given_back() -> None:
    """A small network is trained on one thread, and the others are there again afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(MLP(generator=seeded(2)), some_rows(20), seeded(), epochs=2)
        assert torch.get_num_threads() == 2
        with pytest.raises(FloatingPointError):
            train(MLP(generator=seeded(2)), some_rows(20), seeded(), epochs=2, learning_rate=1e308)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def separable(n: int = 40) -> Table:
    """Rows that a linear network gets all right."""
    labels = torch.arange(n) % 3
    noise = 0.05 * torch.randn(n, 6, generator=seeded(4), dtype=torch.float64)
    return Table(torch.eye(6, dtype=torch.float64)[labels] + noise, labels)


@pytest.mark.parametrize("name, kind", [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_fit_is_the_loop_written_out(name: str, kind: Any) -> None:
    """Until the epoch as it ran, each batch scored before its step, reaches the threshold."""
    table, net, twin = separable(), MLP(generator=seeded(2)), MLP(generator=seeded(2))
    options: dict[str, Any] = {"learning_rate": 0.05, "batch_size": 7, "stop_at": 0.95}
    found = fit(net, table, seeded(3), optimizer=name, **options)

    optimizer, order, epochs, share = kind(twin.parameters(), lr=0.05), seeded(3), 0, 0.0
    while share < 0.95 and epochs < 1000:
        right = 0
        for batch in torch.randperm(40, generator=order).split(7):
            logits = twin(table.inputs[batch])
            right += int((logits.argmax(1) == table.labels[batch]).sum())
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, table.labels[batch]).backward()
            optimizer.step()
        epochs, share = epochs + 1, right / 40
    assert all(np.array_equal(p, q) for p, q in zip(arrays(net), arrays(twin), strict=True))
    assert (found.epochs, found.steps, found.samples) == (epochs, 6 * epochs, 40 * epochs)
    assert (found.train_accuracy, found.reached) == (100 * share, True) and found.seconds > 0
    assert epochs < 1000


def test_fit_stops_at_a_plateau() -> None:
    """Labels that no linear network can learn: after the last best epoch come `patience` more."""
    table = Table(torch.ones(20, 6, dtype=torch.float64), torch.arange(20) % 2)
    found = fit(nn.Linear(6, 2).double(), table, seeded(), batch_size=20, patience=5)
    assert not found.reached and found.train_accuracy == 50.0
    assert found.epochs == 1 + 5  # every epoch scores one half


def test_fit_stops_at_the_largest_number_of_epochs() -> None:
    found = fit(MLP(generator=seeded(2)), separable(), seeded(), learning_rate=1e-9, max_epochs=3)
    assert (found.epochs, found.reached) == (3, False)


def test_fit_modes() -> None:
    """Trained in training mode, whatever came before; left in evaluation mode, also after an error."""
    net = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)).double().eval()
    modes: list[bool] = []
    fit(net, separable(), seeded(), max_epochs=1, after_step=lambda net, *_: modes.append(net.training))
    assert all(modes) and not net.training and net[1].num_batches_tracked > 0
    with pytest.raises(FloatingPointError, match=r"in epoch \d: lower the learning rate"):
        fit(net, separable(), seeded(), optimizer="sgd", learning_rate=1e308, max_epochs=5)
    assert not net.training and not net._forward_hooks


def test_fit_takes_another_loss() -> None:
    """Its first call of the network is scored; the rest is its own business."""
    net, twin = MLP(generator=seeded(2)), MLP(generator=seeded(2))

    def twice(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found = cross_entropy(network, inputs, labels)
        return found + 0 * network(-inputs).sum()

    one, other = (
        fit(each, separable(), seeded(3), learning_rate=0.01, loss=loss)
        for each, loss in ((net, None), (twin, twice))
    )
    assert (one.epochs, one.train_accuracy) == (other.epochs, other.train_accuracy)
    assert all(np.array_equal(p, q) for p, q in zip(arrays(net), arrays(twin), strict=True))
    decayed = MLP(generator=seeded(2))
    fit(
        decayed,
        separable(),
        seeded(3),
        learning_rate=0.01,
        max_epochs=20,
        stop_at=2,
        loss=lambda net, x, y: cross_entropy(net, x, y) + sum(p.square().sum() for p in net.parameters()),
    )
    assert sum(np.square(p).sum() for p in arrays(decayed)) < sum(np.square(p).sum() for p in arrays(net))


def test_fit_calls_after_every_step() -> None:
    seen: list[tuple[bool, int]] = []
    net = MLP(generator=seeded(2))

    def note(network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        network(separable().inputs)  # not scored
        seen.append((network is net and isinstance(optimizer, torch.optim.Adam), step))

    found = fit(net, separable(), seeded(3), batch_size=16, max_epochs=2, after_step=note, stop_at=2)
    assert seen == [(True, step) for step in range(1, 7)] and found.steps == 6
    plain = fit(MLP(generator=seeded(2)), separable(), seeded(3), batch_size=16, max_epochs=2, stop_at=2)
    assert plain.train_accuracy == found.train_accuracy


def test_fit_takes_a_function_that_builds_the_optimizer() -> None:
    net, twin = MLP(generator=seeded(2)), MLP(generator=seeded(2))
    fit(net, separable(), seeded(3), optimizer=lambda p: torch.optim.SGD(p, lr=0.02), max_epochs=3)
    fit(twin, separable(), seeded(3), optimizer="sgd", learning_rate=0.02, max_epochs=3)
    assert all(np.array_equal(p, q) for p, q in zip(arrays(net), arrays(twin), strict=True))


@pytest.mark.parametrize(
    "options, says",
    [
        ({"optimizer": "adagrad"}, "unknown optimizer 'adagrad': choose from adam, sgd"),
        ({"learning_rate": 0.0}, "must be positive, not 0.0, 128, 0.99, 20, 1000"),
        ({"patience": 0}, "must be positive"),
        ({"max_epochs": -1}, "must be positive"),
        ({"stop_at": float("nan")}, "must be positive"),
    ],
)
def test_fit_checks_its_arguments(options: dict[str, Any], says: str) -> None:
    net = MLP(generator=seeded(2))
    before = arrays(net)
    with pytest.raises(ValueError, match=says):
        fit(net, separable(), seeded(), **options)
    with pytest.raises(ValueError, match="no rows"):
        fit(net, some_rows(0), seeded())
    assert all(np.array_equal(p, q) for p, q in zip(arrays(net), before, strict=True))
