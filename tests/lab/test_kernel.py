"""The compiled kernel gives what the plain ensemble and the ordinary loop give."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import ROOT
from wsp.lab import employees
from wsp.lab.employees import Table
from wsp.lab.many import fast
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import FastEnsemble, Kept, Orders, ensemble_of, orders_of
from wsp.lab.many.lanes import train_lanes
from wsp.lab.many.stopping import Best
from wsp.lab.network import MLP
from wsp.lab.retraining import ARMS, ARTICLE, Arm, random_network, run_arms, stream
from wsp.lab.training import train

pytest.importorskip("numba", reason="the kernel is compiled by Numba")


def networks(count: int, sizes: tuple[int, ...] = (6, 10, 10, 3), **how: Any) -> list[MLP]:
    return [MLP(sizes, generator=torch.Generator().manual_seed(seed), **how) for seed in range(count)]


def apart(one: Ensemble, other: Ensemble) -> float:
    """The largest difference of any weight or bias, network by network."""
    pairs = zip(one.networks(), other.networks(), strict=True)
    both = [pair for a, b in pairs for pair in zip(a.parameters(), b.parameters(), strict=True)]
    return max(float((p - q).detach().abs().max()) for p, q in both)


def a_table(rows: int, features: int, classes: int, seed: int = 0, dtype: Any = torch.float64) -> Table:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, features, generator=generator, dtype=dtype)
    return Table(inputs, torch.randint(classes, (rows,), generator=generator))


# ---------------------------------------------------------------- batch orders


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 700), st.integers(0, 2**32 - 1), st.lists(st.integers(1, 1300), max_size=4))
def test_orders_are_pytorch_s(rows: int, seed: int, drawn_before: list[int]) -> None:
    """Wherever a generator stands, and however its 624 words run out on the way."""
    mine, theirs = (torch.Generator().manual_seed(seed) for _ in "ab")
    for number in drawn_before:
        torch.randperm(number, generator=mine)
        torch.randperm(number, generator=theirs)
    draw = orders_of([mine])
    for n in (rows, rows, 3):
        assert torch.equal(draw(n)[0], torch.randperm(n, generator=theirs))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from([1, 2, 100, 199, 200, 424, 625]), max_size=6))
def test_pytorch_goes_on_where_the_orders_end(seed: int, drawn: list[int]) -> None:
    """The normal numbers that PyTorch keeps back too, since they belong to the state."""
    mine, theirs = (torch.Generator().manual_seed(seed) for _ in "ab")
    for generator in (mine, theirs):
        torch.randn(3, generator=generator)
    orders = Orders([mine])
    for rows in drawn:
        assert torch.equal(orders(rows)[0], torch.randperm(rows, generator=theirs))
    orders.give_back([mine])
    for draw in (torch.randperm, torch.randn, torch.rand, torch.randperm):
        assert torch.equal(draw(700, generator=mine), draw(700, generator=theirs))


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="in another way"):
        Orders([torch.Generator()])(2**32 // 20)


def test_orders_of_many_lanes_are_each_s_own() -> None:
    seeds = [0, 1, 244, 10**6]
    draw = orders_of([stream(seed, "order") for seed in seeds])
    plain = [stream(seed, "order") for seed in seeds]
    for rows in (200, 100, 200):
        assert torch.equal(draw(rows), torch.stack([torch.randperm(rows, generator=each) for each in plain]))


# ---------------------------------------------------------------- an epoch


@pytest.mark.parametrize("lanes", [1, 7, 48, 49, 101])
@pytest.mark.parametrize(
    "sizes, activation, batch",
    [
        ((6, 10, 10, 3), "tanh", 10),
        ((12, 20, 11, 4), "relu", 8),
        ((5, 7, 4), "tanh", 1),
        ((4, 9, 5, 6, 2), "relu", 43),
        ((6, 3), "tanh", 60),
    ],
)
def test_any_layout_any_number_of_lanes_any_batch(
    lanes: int, sizes: tuple[int, ...], activation: str, batch: int
) -> None:
    """A last batch that is shorter included: 43 rows are no multiple of either."""
    table = a_table(43, sizes[0], sizes[-1])
    plain, quick = (kind(networks(lanes, sizes, activation=activation)) for kind in (Ensemble, FastEnsemble))
    draw = orders_of([torch.Generator().manual_seed(seed) for seed in range(lanes)])
    for _ in range(3):
        order = draw(43)
        for each in (plain, quick):
            each.train_epoch(table, order, learning_rate=0.1, batch_size=batch)
    assert apart(plain, quick) < 1e-12
    for one, other in zip(plain.measure(*table), quick.measure(*table)):
        assert torch.allclose(one.double(), other.double(), rtol=0, atol=1e-12)


def test_an_epoch_is_autograd_s() -> None:
    """Written out once more, with a temperature, by nobody's hand."""
    table, [network] = employees.load_train(), networks(1)
    lanes = FastEnsemble([network])
    lanes.temperature = 4.0
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    lanes.train_epoch(table, order[None], learning_rate=0.05, batch_size=10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for batch in torch.split(order, 10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(table.inputs[batch]) / 4.0, table.labels[batch]).backward()
        optimizer.step()
    [found] = lanes.networks()
    for p, q in zip(network.parameters(), found.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-14)
    counts, losses = lanes.measure(*table)
    logits = network(table.inputs)
    assert int(counts) == int((logits.argmax(dim=1) == table.labels).sum())
    assert float(losses) == pytest.approx(
        nn.functional.cross_entropy(logits / 4.0, table.labels).item(), abs=1e-13
    )


def test_single_precision() -> None:
    table = a_table(40, 6, 3, dtype=torch.float32)
    plain, quick = (kind(networks(9, dtype=torch.float32)) for kind in (Ensemble, FastEnsemble))
    order = orders_of([torch.Generator().manual_seed(seed) for seed in range(9)])(40)
    for each in (plain, quick):
        each.train_epoch(table, order, learning_rate=0.05, batch_size=10)
    assert 0 < apart(plain, quick) < 1e-5
    assert quick.weights[0].dtype == torch.float32


def test_lanes_have_tables_and_rows_of_their_own() -> None:
    tables = [a_table(30, 6, 3, seed) for seed in range(3)]
    stacked = Table(*(torch.cat(columns) for columns in zip(*tables)))
    rows = torch.stack(
        [torch.randperm(30, generator=torch.Generator().manual_seed(s))[:20] for s in range(3)]
    )
    together = FastEnsemble(networks(3))
    together.train_epoch(stacked, rows + 30 * torch.arange(3)[:, None], learning_rate=0.1, batch_size=10)
    for lane, table in enumerate(tables):
        alone = Ensemble([networks(3)[lane]])
        alone.train_epoch(table, rows[lane : lane + 1], learning_rate=0.1, batch_size=10)
        assert apart(alone, Ensemble([together.networks()[lane]])) < 1e-14


def test_rates_and_temperatures_lane_by_lane() -> None:
    """A rate of 0 leaves a lane as it is, to the bit: so a lane is stopped."""
    table, order = employees.load_train(), orders_of([stream(s, "order") for s in range(3)])(200)
    together = FastEnsemble(networks(3))
    together.temperature = torch.tensor([1.0, 2.0, 8.0])
    rates = torch.tensor([0.05, 0.01, 0.0], dtype=torch.float64)
    together.train_epoch(table, order, learning_rate=rates, batch_size=10)
    for lane, (rate, temperature) in enumerate([(0.05, 1.0), (0.01, 2.0)]):
        alone = Ensemble([networks(3)[lane]])
        alone.temperature = temperature
        alone.train_epoch(table, order[lane : lane + 1], learning_rate=rate, batch_size=10)
        assert apart(alone, Ensemble([together.networks()[lane]])) < 1e-14
    assert apart(Ensemble([networks(3)[2]]), Ensemble([together.networks()[2]])) == 0.0


def test_many_epochs_in_one_call_with_everything_a_lane_s_own() -> None:
    """Rows, how many of them, orders, rate and a temperature for each epoch; against autograd."""
    table, lanes, epochs = a_table(60, 6, 3), 11, 4
    lengths = torch.tensor([40, 37, 1, 40, 9, 10, 11, 40, 25, 30, 38])
    rows = torch.stack([torch.randperm(60, generator=stream(s, "noise"))[:40] for s in range(lanes)])
    rates, warm = (torch.linspace(*ends, lanes, dtype=torch.float64) for ends in ((0.01, 0.2), (1, 8)))
    together, orders = FastEnsemble(networks(lanes)), Orders([stream(s, "order") for s in range(lanes)])
    together.train_epochs(
        table,
        rows,
        orders,
        epochs,
        learning_rate=rates,
        batch_size=10,
        lengths=lengths,
        temperatures=[warm / (1 + epoch) for epoch in range(epochs)],
    )
    for lane, network in enumerate(networks(lanes)):
        optimizer = torch.optim.SGD(network.parameters(), lr=float(rates[lane]))
        generator = stream(lane, "order")
        for epoch in range(epochs):
            order = rows[lane][torch.randperm(int(lengths[lane]), generator=generator)]
            for batch in torch.split(order, 10):
                optimizer.zero_grad()
                logits = network(table.inputs[batch]) * (1 + epoch) / float(warm[lane])
                nn.functional.cross_entropy(logits, table.labels[batch]).backward()
                optimizer.step()
        assert apart(Ensemble([network]), Ensemble([together.networks()[lane]])) < 1e-13
        left = orders.copy()
        assert torch.equal(left(200)[lane], torch.randperm(200, generator=generator))


def test_lanes_that_stop_rest_and_their_best_weights_are_kept() -> None:
    """Every rule, against one epoch after the other; a rate of 0.3 makes some lanes stop early."""
    lanes, epochs, patience = 19, 30, 3
    table = a_table(40, 6, 3)
    held = Table(*(torch.stack([column] * lanes) for column in a_table(20, 6, 3, seed=1)))
    held.labels[3] = 0
    chosen = torch.arange(lanes)[None] % 5 + 1
    rows = torch.arange(40).expand(lanes, -1)
    plain, quick = Ensemble(networks(lanes)), FastEnsemble(networks(lanes))
    kept = Kept(quick, [("loss", patience), ("accuracy", patience)], held)
    picked = Kept(quick, [("epoch", epochs)], chosen=chosen)
    draw, orders = (Orders([stream(s, "order") for s in range(lanes)]) for _ in "ab")
    best = [Best(plain, patience), Best(plain, patience), Best(plain)]
    how: dict[str, Any] = {"learning_rate": 0.3, "batch_size": 10}
    for epoch in range(1, epochs + 1):
        plain.train_epoch(table, draw(40), **how)
        correct, losses = plain.measure(*held)
        best[0].look(epoch, losses)
        best[1].look(epoch, -correct.double())
        best[2].take(chosen[0] == epoch, epoch)
    assert len({int(epoch) for epoch in best[0].spent}) > 2, "a test of nothing"
    for first, part in ((1, 10), (11, 7), (18, 13)):  # as if in one
        quick.train_epochs(table, rows, orders, part, kept=kept, first=first, **how)
    for rule in range(2):
        assert torch.equal(torch.from_numpy(kept.best[rule, :lanes]), best[rule].epoch)
        assert torch.equal(torch.from_numpy(kept.spent[rule, :lanes]), best[rule].spent)
        for one, other in zip(kept.of(rule), best[rule].weights, strict=True):
            assert float((one - other).abs().max()) < 1e-11
    rested = best[0].spent.maximum(best[1].spent)
    orders = Orders([stream(s, "order") for s in range(lanes)])
    FastEnsemble(networks(lanes)).train_epochs(table, rows, orders, 30, kept=picked, **how)
    for one, other in zip(picked.of(0), best[2].weights, strict=True):
        assert float((one - other).abs().max()) < 1e-11
    short = FastEnsemble([networks(lanes)[0]])  # a lane rests from the epoch on in which it stopped
    spent = int(rested[0])
    short.train_epochs(table, rows[:1], Orders([stream(0, "order")]), spent, **how)
    assert apart(short, FastEnsemble([quick.networks()[0]])) == 0.0


def test_weights_may_be_read_and_written_between_epochs() -> None:
    table = employees.load_train()
    order = orders_of([stream(0, "order"), stream(1, "order")])(200)
    plain, quick = Ensemble(networks(2)), FastEnsemble(networks(2))
    for each in (plain, quick):
        each.train_epoch(table, order, learning_rate=0.05, batch_size=10)
        for weight in each.weights:
            weight.mul_(0.5)
        each.train_epoch(table, order, learning_rate=0.05, batch_size=10)
        each.weights = [weight.clone() for weight in each.weights]
        each.train_epoch(table, order, learning_rate=0.05, batch_size=10)
    assert apart(plain, quick) < 1e-13
    assert torch.allclose(plain.logits(table.inputs), quick.logits(table.inputs), rtol=0, atol=1e-12)


def test_counts_on_rows_that_all_lanes_share_and_on_rows_of_their_own() -> None:
    shared, lanes = a_table(57, 6, 3), 50
    plain, quick = (kind(networks(lanes)) for kind in (Ensemble, FastEnsemble))
    own = Table(*(torch.stack([column] * lanes) for column in shared))
    own.inputs[7] *= -1
    for table in (shared, own):
        for one, other in zip(plain.measure(*table), quick.measure(*table), strict=True):
            assert one.shape == other.shape == (lanes,) and one.dtype == other.dtype
            assert torch.allclose(one.double(), other.double(), rtol=0, atol=1e-13)


def test_very_sure_networks_stay_finite() -> None:
    """Logits beyond what an exponential can take."""
    plain, quick = (kind(networks(3)) for kind in (Ensemble, FastEnsemble))
    table = a_table(20, 6, 3)
    for each in (plain, quick):
        each.weights = [weight * 4000 for weight in each.weights]
        each.train_epoch(table, torch.arange(20).expand(3, -1), learning_rate=0.05, batch_size=10)
    for weight in quick.weights:
        assert torch.isfinite(weight[:, :3]).all()
    assert torch.equal(plain.measure(*table)[0], quick.measure(*table)[0])


def test_what_would_reach_beyond_a_table_is_refused() -> None:
    """Compiled code looks after no bounds: nothing is trained then."""
    table, lanes = a_table(20, 6, 3), FastEnsemble(networks(2))
    order = torch.arange(20).expand(2, -1)
    how: dict[str, Any] = {"learning_rate": 0.05, "batch_size": 10}
    for rows in (order + 1, order - 1):
        with pytest.raises(ValueError, match="number its rows from 0"):
            lanes.train_epoch(table, rows, **how)
    with pytest.raises(ValueError, match="for 2 lanes, not for 1"):
        lanes.train_epoch(table, order[:1], **how)
    with pytest.raises(ValueError, match="labels must be from 0 to 2"):
        lanes.train_epoch(Table(table.inputs, table.labels + 1), order, **how)
    assert apart(lanes, Ensemble(networks(2))) == 0.0


def test_a_lane_that_explodes_leaves_its_neighbors_alone() -> None:
    quiet, loud = FastEnsemble(networks(4)), FastEnsemble(networks(4))
    loud.weights[0][2] = float("nan")
    for each in (quiet, loud):
        order = torch.arange(20).expand(4, -1)
        each.train_epoch(a_table(20, 6, 3), order, learning_rate=0.05, batch_size=10)
    for lane, (p, q) in enumerate(zip(quiet.networks(), loud.networks(), strict=True)):
        assert (apart(Ensemble([p]), Ensemble([q])) == 0.0) == (lane != 2)
    assert bool(loud.measure(*a_table(20, 6, 3))[1].isnan()[2])


# ---------------------------------------------------------------- whole schedules


@pytest.mark.filterwarnings("ignore:without Numba")
def test_two_hundred_seeds_end_where_the_plain_ensemble_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """All arms of the article at full length: weights within 1e-9, the same counts."""
    table, test = employees.load_train(), employees.load_test()

    def ends(available: bool) -> dict[str, tuple[list[torch.Tensor], torch.Tensor]]:
        monkeypatch.setattr(fast, "AVAILABLE", available)
        found: dict[str, tuple[list[torch.Tensor], torch.Tensor]] = {}

        def read(members: list[Arm], epoch: int, ensemble: Ensemble) -> None:
            assert isinstance(ensemble, FastEnsemble) == available
            if epoch == max(arm.epochs for arm in members):
                counts = ensemble.measure(*test)[0]
                found[members[0].key] = ([weight.clone() for weight in ensemble.weights], counts)

        train_lanes([table], [(0, seed) for seed in range(200)], ARTICLE.values(), read)
        return found

    quick, plain = ends(True), ends(False)
    assert set(quick) == set(plain) == set(ARTICLE)
    for key, (weights, counts) in plain.items():
        assert torch.equal(quick[key][1], counts)
        for one, other in zip(quick[key][0], weights, strict=True):
            assert float((one - other).abs().max()) < 1e-9


def test_a_lane_ends_where_the_ordinary_loop_ends() -> None:
    table, seed = employees.load_train(), 244
    network = random_network(seed, "fresh weights")
    lanes = ensemble_of([network, random_network(1, "fresh weights")])
    draw = orders_of([stream(seed, "order"), stream(1, "order")])
    for _ in range(200):
        lanes.train_epoch(table, draw(200), learning_rate=0.05, batch_size=10)
    train(network, table, stream(seed, "order"), epochs=200)
    for p, q in zip(network.parameters(), lanes.networks()[0].parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("short_arms")
def test_short_arms_of_any_table_and_seed() -> None:
    tables = [employees.encode(employees.draw(200, 2 * number, 0.1)) for number in (1003, 1004)]
    test = employees.load_test()
    counts: dict[str, list[int]] = {}

    def read(members: list[Arm], epoch: int, ensemble: Ensemble) -> None:
        for arm in members:
            if arm.epochs == epoch:
                counts[arm.key] = ensemble.measure(*test)[0].tolist()

    pairs = [(0, 3), (1, 4), (1, 5)]
    train_lanes(tables, pairs, ARMS.values(), read)
    for lane, (place, seed) in enumerate(pairs):
        alone = run_arms(tables[place], test, seed)
        assert {key: found[lane] for key, found in counts.items()} == {
            key: result.test.correct for key, result in alone.items()
        }


# ---------------------------------------------------------------- without, and the second time


def test_what_cannot_be_compiled_gets_the_plain_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(ensemble_of(networks(2))) is FastEnsemble
    with pytest.raises(ValueError, match="at least one network"):
        ensemble_of([])
    monkeypatch.setattr(fast, "AVAILABLE", False)
    with pytest.warns(UserWarning, match="without Numba"):
        assert type(ensemble_of(networks(2))) is Ensemble
    draw = orders_of([torch.Generator().manual_seed(5)])
    assert torch.equal(draw(9)[0], torch.randperm(9, generator=torch.Generator().manual_seed(5)))


def test_without_numba_one_line_says_what_one_would_gain(tmp_path: Path) -> None:
    """Everything but the kernel itself can be imported, and trains."""
    for package in ("numba", "llvmlite"):
        (tmp_path / f"{package}.py").write_text("raise ImportError('hidden by the test')\n")
    code = "import wsp.lab.many.lanes, wsp.lab.many.stopping, wsp.lab.many.fast\nimport wsp.lab.many.kernel"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: wsp.lab.many.kernel needs Numba (pip install numba): with it many small networks train "
        "six times as fast; without it wsp.lab.many.ensemble trains the same"
    )


COMPILES = """
import torch
from numba.core import event
from wsp.lab.many.fast import FastEnsemble, orders_of
from wsp.lab.network import MLP
from wsp.lab.employees import load_train
with event.install_recorder("numba:compile") as seen:
    lanes, draw = FastEnsemble([MLP()]), orders_of([torch.Generator()])
    lanes.train_epoch(load_train(), draw(200), learning_rate=0.05, batch_size=10)
    lanes.measure(*load_train())
print(len(seen.buffer))
"""


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    """The cache on disk: what one process compiled, another loads, for every layout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    found = []
    for code in (COMPILES, COMPILES, COMPILES.replace("MLP()", "MLP((6, 5, 5, 5, 3), 'relu')")):
        run = [sys.executable, "-c", code]
        done = subprocess.run(run, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(int(done.stdout))
    assert found[0] > 0 and found[1:] == [0, 0]


def test_threads_do_not_wait_for_each_other() -> None:
    """The kernel lets go of the interpreter's lock: Python goes on beside it."""
    import threading

    lanes, ticks = FastEnsemble(networks(400)), 0
    table, order = employees.load_train(), torch.arange(200).expand(400, -1)
    lanes.train_epoch(table, order, learning_rate=0.05, batch_size=10)
    done = threading.Event()

    def work() -> None:
        for _ in range(5):
            lanes.train_epoch(table, order, learning_rate=0.05, batch_size=10)
        done.set()

    threading.Thread(target=work).start()
    while not done.is_set():
        time.sleep(0.001)
        ticks += 1
    assert ticks > 5
    assert np.isfinite(lanes.weights[0].numpy()).all()
