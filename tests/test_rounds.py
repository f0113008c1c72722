"""Rounds: what each start is, what the arms share, what is stored, and that a run goes on."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wsp import __main__ as cli
from wsp import images, rounds
from wsp.employees import Table
from wsp.rounds import ARMS, Arm, plain, run_arms, stream
from wsp.statistics import mean_interval
from wsp.training import Fit, fit


def build() -> nn.Module:
    """Linear, BatchNorm, linear: parameters of every kind, and running statistics."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 10))


@pytest.fixture(scope="module")
def digits() -> tuple[Table, Table]:
    return images.split(images.digits(), 120, 50, seed=0)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(p, q) for (a, p), (b, q) in pairs)


def pair() -> tuple[nn.Module, nn.Module, Table]:
    """An old network that has trained a little, a fresh one, and what has arrived."""
    torch.manual_seed(0)
    old, fresh = build(), build()
    with torch.no_grad():
        for p in old.parameters():
            p += 0.1
    old(torch.randn(8, 1, 8, 8))
    return old, fresh, Table(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))


def started(key: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Copies of the old and fresh networks, and what the arm starts from."""
    old, fresh, table = pair()
    was, new = copy.deepcopy(old), copy.deepcopy(fresh)
    return was, new, ARMS[key].start(old, fresh, table, torch.Generator().manual_seed(1))


def test_cold_and_warm_starts() -> None:
    _, new, network = started("cold")
    assert equal(network, new)
    was, _, network = started("warm")
    assert equal(network, was)


@pytest.mark.parametrize(
    "key, lamda",
    [("shrink_perturb", 0.5), *((f"shrink_perturb_{lamda}", lamda) for lamda in (0.3, 0.6, 0.8))],
)
def test_the_article_s_rule_changes_weights_alone(key: str, lamda: float) -> None:
    was, _, network = started(key)
    for (name, old), p in zip(was.named_parameters(), network.parameters()):
        if name in ("1.weight", "4.weight"):
            noise = p - lamda * old
            assert 0.005 < noise.std() < 0.015 and abs(noise.mean()) < 0.005
        else:
            assert torch.equal(p, old)
    assert equal(network[2], build()[2]) is False  # its scale and shift are the old ones
    assert network[2].running_mean.abs().max() == 0  # type: ignore[union-attr,operator]


def test_the_official_rule_changes_every_parameter() -> None:
    """0.4 of the old network plus 0.1 of a fresh one; running statistics start afresh."""
    was, new, network = started("official")
    for old, fresh, p in zip(was.parameters(), new.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(p, 0.4 * old + 0.1 * fresh)
    assert network[2].running_mean.abs().max() == 0  # type: ignore[union-attr,operator]
    assert was[2].running_mean.abs().max() > 0  # type: ignore[union-attr,operator]


def test_running_statistics_can_be_kept() -> None:
    was, _, network = started("shrink_perturb_keep_bn")
    _, _, plain_ = started("shrink_perturb")
    assert torch.equal(network[2].running_mean, was[2].running_mean)  # type: ignore[arg-type,index]
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), plain_.parameters(), strict=True))


def test_fresh_shrunk_knows_nothing() -> None:
    _, new, network = started("fresh_shrunk")
    noise = network[1].weight - 0.5 * new[1].weight  # type: ignore[operator,union-attr]
    assert noise.std() < 0.015 and torch.equal(network[1].bias, new[1].bias)  # type: ignore[arg-type]


def test_re_estimated_statistics_are_those_of_the_table() -> None:
    """After `reestimated` they are plain means over batches of what BatchNorm sees."""
    torch.manual_seed(0)
    table = Table(torch.randn(60, 1, 8, 8) + 1, torch.arange(60) % 10)
    order, options = torch.Generator().manual_seed(0), {"max_epochs": 2, "batch_size": 20}
    network, twin = build(), build()
    twin.load_state_dict(network.state_dict())
    found = rounds.reestimated(network, network, table, order, **options)
    plain(twin, twin, table, torch.Generator().manual_seed(0), **options)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), twin.parameters(), strict=True))
    seen = twin[:2](table.inputs)  # type: ignore[index]
    torch.testing.assert_close(network[2].running_mean, seen.mean(dim=0))  # type: ignore[index,arg-type]
    assert not torch.allclose(twin[2].running_mean, seen.mean(dim=0), atol=1e-3)  # type: ignore[index]
    assert found.epochs == 2 and not network.training and network[2].momentum == 0.1  # type: ignore[index]


class Diary:
    """An arm's training that writes down what it was given, and trains one epoch."""

    def __init__(self) -> None:
        self.starts: list[nn.Module] = []
        self.firsts: list[nn.Module] = []
        self.ends: list[nn.Module] = []
        self.orders: list[int] = []
        self.rows: list[int] = []

    def __call__(self, network: nn.Module, first: nn.Module, table: Table, order: Any, **options: Any) -> Fit:
        self.starts.append(copy.deepcopy(network))
        self.firsts.append(copy.deepcopy(first))
        self.orders.append(order.initial_seed())
        self.rows.append(len(table.labels))
        found = fit(network, table, order, **options)
        self.ends.append(copy.deepcopy(network))
        return found


def diary(digits: tuple[Table, Table], arm: str, seed: int = 0, **options: Any) -> Diary:
    pages, (train, test) = Diary(), digits
    list(
        run_arms(
            [Arm(arm, ARMS[arm].start, pages)],
            build,
            images.rounds(train, 40),
            test,
            seed,
            **{"max_epochs": 2, **options},
        )
    )
    return pages


def test_what_arms_share(digits: tuple[Table, Table]) -> None:
    """One seed: the same first network, fresh networks and batch orders, whatever the arm."""
    cold, warm, other = diary(digits, "cold"), diary(digits, "warm"), diary(digits, "cold", seed=1)
    assert cold.rows == warm.rows == [40, 80, 120]
    assert cold.orders == warm.orders and len(set(cold.orders)) == 3
    assert equal(cold.starts[0], warm.starts[0]) and equal(cold.ends[0], warm.ends[0])
    assert not equal(cold.starts[0], cold.starts[1]) and not equal(cold.starts[1], cold.starts[2])
    assert equal(warm.starts[1], warm.ends[0]) and equal(warm.starts[2], warm.ends[1])
    assert not equal(other.starts[0], cold.starts[0]) and not set(other.orders) & set(cold.orders)
    for pages in (cold, warm):
        assert all(equal(first, pages.starts[0]) for first in pages.firsts)


def test_the_fresh_network_of_a_round_is_the_noise_of_the_official_rule(digits: tuple[Table, Table]) -> None:
    cold, official = diary(digits, "cold"), diary(digits, "official")
    for number in (1, 2):
        parts = (cold.starts[number], official.ends[number - 1], official.starts[number])
        for fresh, old, start in zip(*(part.parameters() for part in parts), strict=True):
            torch.testing.assert_close(start, 0.4 * old + 0.1 * fresh)


def test_the_first_round_is_trained_once(digits: tuple[Table, Table]) -> None:
    """And the second arm still finds its network as the first round left it."""
    train, test = digits
    pages = Diary()
    arms = [Arm(key, ARMS[key].start, pages) for key in ("shrink_perturb", "warm")]
    found = list(run_arms(arms, build, images.rounds(train, 60), test, 0, max_epochs=2))
    assert pages.rows == [60, 120, 120]
    assert equal(pages.starts[2], pages.ends[0])
    assert found[0][1][0] == found[1][1][0]


def test_arms_that_train_or_build_otherwise_have_a_first_round_of_their_own(
    digits: tuple[Table, Table],
) -> None:
    train, test = digits

    def wider(network: nn.Module) -> nn.Module:
        return nn.Sequential(*network, nn.Linear(10, 10))

    def slower(network: nn.Module, first: nn.Module, table: Table, order: Any, **options: Any) -> Fit:
        return fit(network, table, order, **options | {"learning_rate": 1e-5})

    arms = [
        ARMS["warm"],
        Arm("slow", ARMS["warm"].start, slower),
        Arm("wide", ARMS["warm"].start, plain, wider),
    ]
    results = {
        arm.key: records
        for arm, records in run_arms(arms, build, images.rounds(train, 60), test, 0, max_epochs=8)
    }
    firsts = [records[0].fit.train_accuracy for records in results.values()]
    assert len(set(firsts)) == 3


def test_records(digits: tuple[Table, Table]) -> None:
    train, test = digits
    [(_, records)] = run_arms([ARMS["cold"]], build, images.rounds(train, 60), test, 0, max_epochs=3)
    for record, rows in zip(records, (60, 120), strict=True):
        assert (record.rows, record.of, record.fit.epochs) == (rows, 50, 3)
        assert record.fit.samples == 3 * rows and record.seconds >= record.fit.seconds > 0
        assert 0 <= record.correct <= 50


def test_scored_in_evaluation_mode_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network, table = build(), Table(torch.randn(25, 1, 8, 8), torch.arange(25) % 10)
    network(table.inputs)
    expected = int((network.eval()(table.inputs).argmax(1) == table.labels).sum())
    network.train()
    monkeypatch.setattr(rounds, "AT_ONCE", 4)
    before = copy.deepcopy(network.state_dict())
    assert rounds.count_correct(network, table) == expected
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_streams_are_apart() -> None:
    seeds = [
        stream(seed, number, name).initial_seed()
        for seed, number, name in itertools.product(range(20), range(1, 20), rounds.STREAMS)
    ]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 0


SMALL: dict[str, Any] = {"images": 60, "test": 40, "size": 30, "max_epochs": 2, "network": "logistic"}


def small(**settings: Any) -> dict[str, Any]:
    return rounds.specification("digits", **SMALL | settings)


def without_times(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in run.items() if key != "seconds"} for run in found["runs"]]


def test_the_same_again_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever had been done before it stopped, the runs are those of one call."""
    arms = [ARMS[key] for key in ("cold", "warm", "official")]
    whole = rounds.experiment(small(), arms, 2)
    out = tmp_path / "runs.json"
    written: list[int] = []
    save = rounds.save_json

    def stop_at_the_second(path: Path, content: Any) -> None:
        save(path, content)
        written.append(len(content["runs"]))
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "save_json", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        rounds.experiment(small(), arms, 2, out)
    assert written == [1, 2]
    monkeypatch.undo()
    resumed = rounds.experiment(small(), arms, 2, out, command="the same")
    assert without_times(resumed) == without_times(whole)
    assert json.loads(out.read_text()) == resumed
    assert resumed["provenance"]["command"] == "the same"

    again = rounds.experiment(small(), arms, 2, out)
    assert again["runs"] == resumed["runs"]  # nothing is trained anew, so times stay
    more = rounds.experiment(small(), [*arms, ARMS["fresh_shrunk"]], 3, out)
    assert without_times(more)[:6] == without_times(whole) and len(more["runs"]) == 12


def test_bfloat16_trains_as_float32_does() -> None:
    """Autocast keeps copies of the weights, unless told not to: then nothing would be learned."""
    settings = {"network": "convnet", "images": 256, "size": 256, "test": 200, "max_epochs": 40}
    found = {
        precision: rounds.experiment(small(**settings, precision=precision), [ARMS["cold"]], 1)["runs"][0]
        for precision in ("float32", "bfloat16")
    }
    assert all(run["reached"] == [True] for run in found.values())
    [one], [other] = (run["epochs"] for run in found.values())
    assert abs(one - other) <= 3
    assert found["float32"] != found["bfloat16"]


def test_wrong_labels_spoil_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = rounds.load("digits", "cpu", torch.float64)
    (clean, test), (wrong, same) = (parts(small(wrong=share), 3) for share in (0.0, 0.5))
    assert int((clean.labels != wrong.labels).sum()) == 30 and torch.equal(test.labels, same.labels)
    assert torch.equal(clean.inputs, wrong.inputs) and clean.inputs.dtype == torch.float64


def test_another_specification_or_file_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    rounds.experiment(small(), [ARMS["cold"]], 1, out)
    with pytest.raises(ValueError, match=r"runs\.json: holds runs with wrong 0\.0, not 0\.2; give another"):
        rounds.experiment(small(wrong=0.2), [ARMS["cold"]], 1, out)
    out.write_text('{"format": "wsp sweep 1"}')
    with pytest.raises(ValueError, match="holds no runs over rounds"):
        rounds.experiment(small(), [ARMS["cold"]], 1, out)


@pytest.mark.parametrize(
    "data, settings, says",
    [
        (
            "digits",
            {"network": "resnet"},
            "no network 'resnet' for digits: choose from mlp, logistic, convnet",
        ),
        ("cifar10", {"network": "convnet"}, "choose from mlp, logistic, resnet"),
        ("digits", {"images": 1700}, "digits has 1,797 images to split; 1700 and 597 are more"),
        ("digits", {"images": 1}, "images must be at least 2"),
        ("digits", {"size": 1201}, "size from 1 to images"),
        ("digits", {"size": -5}, "size from 1 to images"),
        ("digits", {"test": 0}, "test at least 1"),
        ("digits", {"wrong": 1.5}, "share of wrong labels"),
        ("digits", {"activation": "gelu", "network": "mlp"}, None),
        ("digits", {"learning_rate": 0.0}, "learning_rate must be positive, not 0.0"),
        ("digits", {"stop_at": float("nan")}, "stop_at must be positive, not nan"),
        ("digits", {"max_epochs": 0}, "max_epochs must be positive"),
    ],
)
def test_specifications_are_checked(data: str, settings: dict[str, Any], says: str | None) -> None:
    if says is None:  # found where the network is built
        spec = rounds.specification(data, **settings)
        says = "unknown activation 'gelu'"
        with pytest.raises(ValueError, match=says):
            rounds.network_named(spec["network"], spec["activation"], data)()
        return
    with pytest.raises(ValueError, match=says):
        rounds.specification(data, **settings)


def test_two_phases_by_default() -> None:
    spec = rounds.specification("cifar10", images=4001)
    assert spec["size"] == 2001 and (spec["network"], spec["optimizer"]) == ("resnet", "adam")
    assert (spec["learning_rate"], spec["batch_size"], spec["stop_at"]) == (1e-3, 128, 0.99)  # the paper's


def test_whole_seeds_and_tables() -> None:
    def run(arm: str, seed: int, correct: list[int]) -> dict[str, Any]:
        return {"arm": arm, "seed": seed, "epochs": [2, 3, 4], "correct": correct}

    found = {
        "specification": {"images": 25, "size": 10, "test": 50},
        "runs": [run("cold", 0, [5, 10, 20]), run("warm", 0, [5, 15, 25]), run("cold", 1, [1, 2, 3])],
    }
    assert rounds.whole_seeds(found) == [0] and rounds.whole_seeds(found, ["cold"]) == [0, 1]
    assert rounds.table_of(found, "accuracy")["warm"].tolist() == [[10.0, 30.0, 50.0]]
    assert rounds.table_of(found, "samples", ["cold"])["cold"].tolist() == [[20, 60, 100]] * 2


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sixty images in the official layout, in a folder that WSP_CIFAR10 names."""
    monkeypatch.setattr(images, "RECORDS", 10)
    monkeypatch.setitem(rounds.ROWS, "cifar10", 50)
    for number, name in enumerate((*images.TRAIN_FILES, images.TEST_FILE)):
        records = np.random.default_rng(number).integers(0, 256, (10, images.RECORD), dtype=np.uint8)
        records[:, 0] = np.arange(10)
        (tmp_path / name).write_bytes(records.tobytes())
    monkeypatch.setenv("WSP_CIFAR10", str(tmp_path))
    yield tmp_path


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cifar_on_the_command_line(cifar: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The paper's network and protocol, on a toy."""
    out = cifar / "runs.json"
    words = ["cifar", "--seeds", "1", "--images", "20", "--test", "10", "--max-epochs", "1"]
    words += ["--arms", "cold,official", "--precision", precision, "--note", "toy", "--out", str(out)]
    assert cli.main([*words, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 whole seeds (splits); last of 2 rounds") and "official" in printed
    found = json.loads(out.read_text())
    assert found["specification"]["note"] == "toy" and found["specification"]["precision"] == precision
    assert [run["epochs"] for run in found["runs"]] == [[1, 1], [1, 1]]
    assert {"rounds", "training", "network", "images"} <= set(found["provenance"]["modules"])


def test_the_text_pairs_with_cold(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    words = ["digits", "--seeds", "3", "--arms", "cold,warm", "--network", "logistic", "--images", "60"]
    assert cli.main([*words, "--test", "40", "--size", "30", "--max-epochs", "3", "--out", str(out)]) == 0
    accuracy = rounds.table_of(json.loads(out.read_text()), "accuracy")
    gap = str(mean_interval(accuracy["warm"][:, -1] - accuracy["cold"][:, -1]))
    lines = capsys.readouterr().out.splitlines()
    assert gap in lines[3] and f"{accuracy['warm'][:, -1].mean():.2f}" in lines[3]
    assert lines[3].split()[-3] == "180"  # 60 images, 3 epochs: the first round is everybody's


@pytest.mark.parametrize(
    "words, says",
    [
        (["digits", "--seeds", "0"], "--seeds must be at least 1, not 0"),
        (["digits", "--seeds", "1", "--arms", "cold,tepid"], "unknown arm 'tepid': choose from cold, warm"),
        (["digits", "--seeds", "1", "--wrong", "2"], "share of wrong labels"),
        (["digits", "--seeds", "1", "--images", "5000"], "digits has 1,797 images"),
        (["digits", "--seeds", "1", "--network", "resnet"], "invalid choice"),
        (["cifar", "--seeds", "many"], "invalid int value"),
        (["cifar"], "required"),
    ],
)
def test_bad_arguments_end_in_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = cli.main(words)
    except SystemExit as left:
        code = left.code  # type: ignore[assignment]
    printed = capsys.readouterr()
    assert code == 2 and printed.out == ""
    assert says in printed.err and printed.err.count("\n") == 1


def test_no_images_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WSP_CIFAR10", str(tmp_path / "nowhere"))
    assert cli.main(["cifar", "--seeds", "1"]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_draws_the_same(digits: tuple[Table, Table]) -> None:
    """The same split, weights and orders: after an epoch the accuracies are all but equal."""
    on_cpu, on_cuda = (
        rounds.experiment(small(network="mlp"), [ARMS["warm"]], 1, device=device)
        for device in ("cpu", "cuda")
    )
    for one, other in zip(on_cpu["runs"][0]["correct"], on_cuda["runs"][0]["correct"]):
        assert abs(one - other) <= 1
