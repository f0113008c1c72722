"""The benchmark of the ensemble: it runs, it checks its peers, it skips what is missing. No timings."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "sweep.py"
LANES = 4
OPTIONAL = {"jax": "JAX", "numba": "Numba"}  # package, and what its line calls it


@pytest.fixture(scope="module")
def sweep() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_sweep", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_sweep"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def run(*arguments: str | Path, path: str | Path = "") -> subprocess.CompletedProcess[str]:
    """Run the script on one thread: a busy machine does not bear more for so little work."""
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def without_peers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Path]:
    """A tiny run in which no optional package can be imported: printed text, result, its file."""
    folder = tmp_path_factory.mktemp("benchmark")
    for package in OPTIONAL:
        (folder / f"{package}.py").write_text("raise ImportError('hidden by the test')\n")
    out = folder / "result.json"
    done = run("--lanes", LANES, "--rounds", 1, "--epochs", 1, "--cuda", "--json", out, path=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text()), out


def test_missing_peers_are_skipped_with_a_line(
    without_peers: tuple[str, dict[str, Any], Path],
) -> None:
    printed, result, _ = without_peers
    for package, title in OPTIONAL.items():
        assert f"{package} is not installed: {title} skipped" in printed
        assert package in result["skipped"] and package not in result["peers"]
    if not torch.cuda.is_available():
        assert "no CUDA device: the plain ensemble on CUDA skipped" in printed


def test_result_holds_what_readers_need(without_peers: tuple[str, dict[str, Any], Path]) -> None:
    _, result, _ = without_peers
    assert result["format"] == "wsp benchmark sweep 1"
    assert result["setup"]["lanes"] == LANES and sum(result["setup"]["chunks"]) == LANES
    assert set(result["peers"]) - {"cuda"} == {"loop", "torch.func", "ensemble"}
    for peer in result["peers"].values():
        assert 0 <= peer["largest_difference"] <= result["setup"]["tolerance"]
        assert peer["nanoseconds"] > 0 and peer["compile_seconds"] >= 0
        assert peer["ratio"] == pytest.approx(
            peer["nanoseconds"] / result["peers"]["ensemble"]["nanoseconds"]
        )
    assert result["peers"]["ensemble"]["ratio"] == 1
    assert result["floor"]["dgemm_gigaflops"] > 0 and result["floor"]["nanoseconds"] > 0
    assert result["versions"]["torch"] == torch.__version__
    assert "wsp.lab.many.ensemble" in result["provenance"]["modules"]
    assert str(ROOT) not in json.dumps(result)


def test_table_goes_between_the_marks(
    sweep: ModuleType, without_peers: tuple[str, dict[str, Any], Path], tmp_path: Path
) -> None:
    printed, _, out = without_peers
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{sweep.BEGIN}\nan old table\n{sweep.END}\nafter\n")
    table = sweep.markdown(sweep.load(out))
    assert printed.endswith(table + "\n")
    for _ in range(2):  # a second time changes nothing
        sweep.write_readme(sweep.load(out), readme)
        assert readme.read_text() == f"before\n{sweep.BEGIN}\n{table}\n{sweep.END}\nafter\n"
    readme.write_text("no marks\n")
    with pytest.raises(ValueError, match="sweep table: begin"):
        sweep.write_readme(sweep.load(out), readme)


def test_readme_has_the_marks(sweep: ModuleType) -> None:
    text = SCRIPT.with_name("README.md").read_text()
    assert text.count(sweep.BEGIN) == text.count(sweep.END) == 1


@pytest.mark.parametrize("key", ["loop", "torch.func", "jax", "numba", "ensemble", "kernel", "orders_given"])
def test_peer_trains_the_same_networks(sweep: ModuleType, key: str) -> None:
    """Every peer, where it is installed; in three chunks or threads where it can."""
    entry = sweep.PEERS[key]
    if entry.package is not None:
        pytest.importorskip(entry.package)
    table, orders, target = three_epochs(sweep)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 if key in ("ensemble", "kernel", "orders_given") else 1)
    try:
        peer, difference = sweep.checked(key, entry, LANES, table, orders, target)
    finally:
        torch.set_num_threads(threads)
    assert difference <= 1e-9 and peer.lanes == LANES


def test_wrong_peer_is_not_timed(sweep: ModuleType) -> None:
    """Found: weights a little off, a peer that does not train, and one that gives NaN."""
    entry = sweep.PEERS["torch.func"]
    table, orders, target = three_epochs(sweep)

    def nearly(networks: Any, table: Any) -> Any:
        peer = entry.build(networks, table)
        return dataclasses.replace(peer, weights=lambda: peer.weights() * (1 + 1e-8))

    def nothing(networks: Any, table: Any) -> Any:
        return dataclasses.replace(entry.build(networks, table), train=lambda orders: None)

    def not_a_number(networks: Any, table: Any) -> Any:
        peer = entry.build(networks, table)
        return dataclasses.replace(peer, weights=lambda: peer.weights() * float("nan"))

    for build in (nearly, nothing, not_a_number):
        with pytest.raises(sweep.Wrong, match="not timed"):
            wrong = dataclasses.replace(entry, build=build)
            sweep.checked("wrong", wrong, LANES, table, orders, target)


def three_epochs(sweep: ModuleType) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A table, three epochs' orders, and the ordinary loop's weights after them."""
    table = sweep.employees.encode(sweep.employees.draw(40, seed=7))
    generators = [sweep.stream(seed, "order") for seed in range(LANES)]
    orders = torch.stack([sweep.draw_orders(generators, 40) for _ in range(3)])
    networks = [sweep.random_network(seed, "fresh weights") for seed in range(LANES)]
    loop = sweep.ordinary_loop(networks, table)
    loop.train(orders)
    return table, orders, loop.weights()


def test_operations_are_counted_by_hand(sweep: ModuleType) -> None:
    # 4 inputs, 3 units, 2 classes, one row a batch: weights 12 and 6, biases 3 and 2.
    forward, gradients, down, slopes, step = 36, 36 + 5, 12, 9, 2 * 23
    assert sweep.operations([4, 3, 2], 1) == forward + gradients + down + slopes + step
    assert sweep.operations([6, 10, 10, 3], 10) == pytest.approx(1145.6)


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--lanes", "0"], 2, "must be positive"),
        (["--rounds", "many"], 2, "invalid positive value"),
        (["--readme", "no_such_file.json"], 1, "no_such_file.json"),
        (["--readme", str(SCRIPT)], 1, "not a JSON file"),
    ],
)
def test_bad_requests_end_in_one_clear_line(
    sweep: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    line: str,
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    try:
        found = sweep.main()
    except SystemExit as stop:  # argparse
        found = stop.code
    assert found == status
    assert line in capsys.readouterr().err.splitlines()[-1]


# The trick's benchmark: no timings either, but what is stored must stand in the page and meet
# what the design asks for.


@pytest.fixture(scope="module")
def trick() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_trick", SCRIPT.with_name("shrink_perturb.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table_of_the_stored_run(trick: ModuleType) -> None:
    stored = trick.load(ROOT / "data" / "results" / "benchmark_shrink_perturb.json")
    readme = SCRIPT.with_name("README.md").read_text()
    table = readme.partition(trick.BEGIN)[2].partition(trick.END)[0]
    assert table.strip() == trick.markdown(stored)
    assert {"ours", "floor", "plain", "physicsnemo"} == set(stored["large"]["seconds"])
    assert all(met for *_, met in trick.requirements(stored))


def test_a_requirement_that_is_missed_is_said_aloud(trick: ModuleType) -> None:
    stored = trick.load(ROOT / "data" / "results" / "benchmark_shrink_perturb.json")
    stored["large"]["seconds"]["ours"] = 1.26 * stored["large"]["seconds"]["floor"]
    stored["extra_mib"]["float64"] = 65
    missed = [title for title, *_, met in trick.requirements(stored) if not met]
    assert missed == ["time, in floors", "extra memory, float64, MiB"]
    assert trick.markdown(stored).count("NOT MET") == 2


def test_all_candidates_do_the_same_to_a_network(trick: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their noise apart: without any, every weight matrix is the old one times lamda."""
    monkeypatch.setattr(trick, "SIGMA", 0.0)
    for build in (trick.ours, trick.floor, trick.plain, trick.element_loop, trick.physicsnemo):
        net = trick.network(2, 5, "cpu")
        weights = [layer.weight.detach().clone() for layer in net]
        biases = [layer.bias.detach().clone() for layer in net]
        run = build(net)
        if run is None:
            continue
        run()
        for layer, weight, bias in zip(net, weights, biases, strict=True):
            torch.testing.assert_close(layer.weight, trick.LAMDA * weight)
            assert torch.equal(layer.bias, bias)
