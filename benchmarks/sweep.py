"""How fast do a thousand networks train side by side, next to peers and to the arithmetic?

    python benchmarks/sweep.py                      # a table in Markdown
    python benchmarks/sweep.py --json result.json   # and the figures in a file
    python benchmarks/sweep.py --readme result.json # that file's table into benchmarks/README.md

Every peer trains the same networks on the same rows in the same orders, and its weights
must come out as the ordinary loop's before it is timed. Then all take turns, round after
round, in one process, so that a busy moment of the machine hits them alike. A time is the
least over the rounds; a ratio is of two such times.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from wsp.lab import employees
from wsp.lab.employees import Table
from wsp.lab.many.ensemble import Ensemble
from wsp.lab.many.fast import FastEnsemble, orders_of
from wsp.lab.many.lanes import FIRST_FRESH
from wsp.lab.network import MLP
from wsp.lab.results import load_json, modules_of, provenance, save_json
from wsp.lab.retraining import random_network, stream
from wsp.lab.training import BATCH_SIZE, LEARNING_RATE, train_epoch
from wsp.studies.engine import in_threads
from wsp.studies.parts import in_chunks
from wsp.studies.sweep import Sweep

FORMAT = "wsp benchmark sweep 1"
TOLERANCE = 1e-9  # largest difference from the ordinary loop's weights
CHECK_EPOCHS = 3
LOOP_LANES = 10  # the ordinary loop takes its networks one by one: ten tell its rate
LOOP, OURS, PLAIN = "loop", "kernel", "ensemble"


@dataclass(frozen=True)
class Peer:
    """One way to train many networks.

    Attributes
    ----------
    train : callable
        ``train(orders)`` trains every network on, an epoch for each of
        ``orders`` (epochs, lanes, rows).
    weights : callable
        The weights as they are now, (lanes, parameters), in the order of
        ``network.parameters()``.
    lanes : int
        How many networks it trains.
    compile_seconds : float
        What it took to compile, training excluded.
    """

    train: Callable[[Tensor], None]
    weights: Callable[[], Tensor]
    lanes: int
    compile_seconds: float = 0.0


def draw_orders(generators: Sequence[torch.Generator], rows: int) -> Tensor:
    """One epoch's order for every lane, (lanes, rows), as a sweep draws it."""
    return torch.stack([torch.randperm(rows, generator=generator) for generator in generators])


def flat(networks: Sequence[nn.Module]) -> Tensor:
    """All parameters, (lanes, parameters)."""
    return torch.stack([parameters_to_vector(n.parameters()).detach() for n in networks])


def stacked(networks: Sequence[MLP]) -> list[Tensor]:
    """Every parameter of all lanes, (lanes, ...), in the order of ``parameters()``."""
    return [torch.stack(same).detach() for same in zip(*(n.parameters() for n in networks))]


# The peers. Each takes the networks, which it copies or may train, and the table.


def ordinary_loop(networks: Sequence[MLP], table: Table) -> Peer:
    """One network after the other: autograd and ``optim.SGD``, as :mod:`wsp.lab.training` does.

    It draws its orders itself, from the same generators, and keeps to one thread: batches
    of ten are too small to share, and waiting for a second thread costs more than it brings.
    """
    optimizers = [torch.optim.SGD(n.parameters(), lr=LEARNING_RATE) for n in networks]
    generators = [stream(seed, "order") for seed in range(len(networks))]

    def train(orders: Tensor) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for network, optimizer, generator in zip(networks, optimizers, generators):
            for _ in orders:
                train_epoch(network, table, optimizer, generator, BATCH_SIZE)
        torch.set_num_threads(threads)

    return Peer(train, lambda: flat(networks), len(networks))


def torch_func(networks: Sequence[MLP], table: Table) -> Peer:
    """``vmap`` of ``grad`` over the stacked parameters of all lanes."""
    from torch.func import functional_call, grad, stack_module_state, vmap

    skeleton = networks[0]
    parameters = {name: p.detach() for name, p in stack_module_state(list(networks))[0].items()}

    def loss(own: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(skeleton, own, inputs), labels)

    gradients = vmap(grad(loss))

    def train(orders: Tensor) -> None:
        for order in orders:
            for batch in order.split(BATCH_SIZE, dim=1):
                found = gradients(parameters, table.inputs[batch], table.labels[batch])
                for name, parameter in parameters.items():
                    parameter.add_(found[name], alpha=-LEARNING_RATE)

    def weights() -> Tensor:
        return torch.cat([parameter.flatten(1) for parameter in parameters.values()], dim=1)

    return Peer(train, weights, len(networks))


def jax_scan(networks: Sequence[MLP], table: Table) -> Peer:
    """``jit(vmap(scan))``: a scan over the steps of an epoch, mapped over the lanes."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    parameters = [jnp.asarray(p.numpy()) for p in stacked(networks)]
    inputs, labels = jnp.asarray(table.inputs.numpy()), jnp.asarray(table.labels.numpy())

    def loss(own: list[Any], rows: Any) -> Any:
        layer = inputs[rows]
        for weight, bias in zip(own[:-2:2], own[1:-2:2]):
            layer = jnp.tanh(layer @ weight.T + bias)
        logits = jax.nn.log_softmax(layer @ own[-2].T + own[-1])
        return -jnp.take_along_axis(logits, labels[rows][:, None], axis=1).mean()

    def step(own: list[Any], rows: Any) -> tuple[list[Any], None]:
        found = jax.grad(loss)(own, rows)
        return [p - LEARNING_RATE * g for p, g in zip(own, found)], None

    def epoch(own: list[Any], order: Any) -> list[Any]:
        trained: list[Any] = jax.lax.scan(step, own, order.reshape(-1, BATCH_SIZE))[0]
        return trained

    start = time.perf_counter()
    order = jax.ShapeDtypeStruct((len(networks), len(labels)), jnp.int64)
    compiled = jax.jit(jax.vmap(epoch)).lower(parameters, order).compile()
    seconds = time.perf_counter() - start

    def train(orders: Tensor) -> None:
        nonlocal parameters
        for order in orders:
            parameters = compiled(parameters, jnp.asarray(order.numpy()))
        jax.block_until_ready(parameters)

    def weights() -> Tensor:
        return torch.cat([torch.from_numpy(jax.device_get(p).copy()).flatten(1) for p in parameters], dim=1)

    return Peer(train, weights, len(networks), seconds)


def numba_kernel(networks: Sequence[MLP], table: Table) -> Peer:
    """Loops written by hand, parallel over lanes: forward, backward and step in one.

    Two things make it faster than a first try. The sizes are constants, so that the
    compiler unrolls the loops; and tanh is made from exp, which takes a third of the time
    of the C library's tanh.
    """
    import numba

    exp = math.exp
    a, b, c, classes = networks[0].sizes  # inputs, units of the first and second layer, classes
    size, rate = BATCH_SIZE, LEARNING_RATE / BATCH_SIZE

    @numba.njit(fastmath=True)
    def tanh(z):
        return 1.0 - 2.0 / (1.0 + exp(2.0 * z))

    @numba.njit(fastmath=True)
    def forward(weight, bias, below, above, outputs, inputs):
        for j in range(outputs):
            for r in range(size):
                above[j, r] = bias[j]
            for i in range(inputs):
                for r in range(size):
                    above[j, r] += weight[j, i] * below[i, r]

    @numba.njit(fastmath=True)
    def backward(weight, delta, units, below, outputs, inputs):
        for i in range(inputs):
            for r in range(size):
                below[i, r] = 0.0
            for j in range(outputs):
                for r in range(size):
                    below[i, r] += weight[j, i] * delta[j, r]
            for r in range(size):
                below[i, r] *= 1.0 - units[i, r] * units[i, r]

    @numba.njit(fastmath=True)
    def descend(weight, bias, delta, below, outputs, inputs):
        for j in range(outputs):
            total = 0.0
            for r in range(size):
                total += delta[j, r]
            bias[j] -= rate * total
            for i in range(inputs):
                total = 0.0
                for r in range(size):
                    total += delta[j, r] * below[i, r]
                weight[j, i] -= rate * total

    @numba.njit(parallel=True, fastmath=True)
    def epoch(order, inputs, labels, w1, b1, w2, b2, w3, b3):
        for lane in numba.prange(order.shape[0]):
            x, h1, h2 = np.empty((a, size)), np.empty((b, size)), np.empty((c, size))
            d1, d2, d3 = np.empty((b, size)), np.empty((c, size)), np.empty((classes, size))
            for start in range(0, order.shape[1], size):
                rows = order[lane, start : start + size]
                for r in range(size):
                    for i in range(a):
                        x[i, r] = inputs[rows[r], i]
                forward(w1[lane], b1[lane], x, h1, b, a)
                for j in range(b):
                    for r in range(size):
                        h1[j, r] = tanh(h1[j, r])
                forward(w2[lane], b2[lane], h1, h2, c, b)
                for j in range(c):
                    for r in range(size):
                        h2[j, r] = tanh(h2[j, r])
                forward(w3[lane], b3[lane], h2, d3, classes, c)
                for r in range(size):
                    largest, total = d3[0, r], 0.0
                    for k in range(1, classes):
                        largest = max(largest, d3[k, r])
                    for k in range(classes):
                        d3[k, r] = exp(d3[k, r] - largest)
                        total += d3[k, r]
                    for k in range(classes):
                        d3[k, r] /= total
                    d3[labels[rows[r]], r] -= 1.0
                backward(w3[lane], d3, h2, d2, classes, c)
                backward(w2[lane], d2, h1, d1, c, b)
                descend(w3[lane], b3[lane], d3, h2, classes, c)
                descend(w2[lane], b2[lane], d2, h1, c, b)
                descend(w1[lane], b1[lane], d1, x, b, a)

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    parameters = [p.numpy() for p in stacked(networks)]
    inputs, labels = (column.numpy() for column in table)
    start = time.perf_counter()
    epoch(np.empty((0, len(labels)), np.int64), inputs, labels, *parameters)  # compiles, trains nothing
    seconds = time.perf_counter() - start

    def train(orders: Tensor) -> None:
        for order in orders.numpy():
            epoch(order, inputs, labels, *parameters)

    def weights() -> Tensor:
        return torch.cat([torch.from_numpy(p.copy()).flatten(1) for p in parameters], dim=1)

    return Peer(train, weights, len(networks), seconds)


def side_by_side(
    networks: Sequence[MLP],
    table: Table,
    *,
    kind: Callable[..., Ensemble] = FastEnsemble,
    draw: bool = True,
    device: str = "cpu",
) -> Peer:
    """The lanes as the studies run them: a chunk of lanes a core.

    With `draw` it ignores the orders it is given and draws the same ones itself,
    inside the time that is taken. On CUDA all lanes are one chunk.
    """
    lanes, rows = range(len(networks)), len(table.labels)
    cores = torch.get_num_threads() if device == "cpu" else 1
    chunks = in_chunks(lanes, cores, Sweep.chunk) if device == "cpu" else [lanes]
    table = Table(*(column.to(device) for column in table))
    start = time.perf_counter()
    ensembles = [
        kind([networks[lane] for lane in chunk], *([device] if device != "cpu" else [])) for chunk in chunks
    ]
    if kind is FastEnsemble:  # compiled on the first call
        warm, order = FastEnsemble([networks[0]]), torch.arange(rows)[None]
        warm.train_epoch(table, order, learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE)
    compiled = time.perf_counter() - start if kind is FastEnsemble else 0.0
    of_chunk = [[stream(lane, "order") for lane in chunk] for chunk in chunks]
    # The plain ensemble is timed with the orders that it had before the kernel drew them.
    drawers = [orders_of(each) if kind is FastEnsemble else partial(draw_orders, each) for each in of_chunk]

    def train(orders: Tensor) -> None:
        def work(k: int, tick: Callable[[int], object]) -> None:
            for order in orders[:, chunks[k][0] : chunks[k][-1] + 1]:
                drawn = drawers[k](rows) if draw else order
                ensembles[k].train_epoch(
                    table, drawn.to(device), learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE
                )
                tick(drawn.numel())

        list(in_threads(work, range(len(chunks)), orders.numel(), "sweep", cores))
        if device != "cpu":
            torch.cuda.synchronize()

    def weights() -> Tensor:
        return torch.cat([flat(ensemble.networks()) for ensemble in ensembles])

    return Peer(train, weights, len(networks), compiled)


@dataclass(frozen=True)
class Entry:
    """A peer in the table: what it is called, how it is made, and what it needs."""

    title: str
    build: Callable[[Sequence[MLP], Table], Peer]
    note: str
    package: str | None = None


PEERS = {
    LOOP: Entry(
        "ordinary loop",
        ordinary_loop,
        "one `nn.Module` at a time, autograd, `optim.SGD`; on one thread",
    ),
    "torch.func": Entry(
        "torch.func",
        torch_func,
        "`stack_module_state`, `functional_call`, `vmap`, `grad` over all lanes",
    ),
    "jax": Entry("JAX", jax_scan, "`jit(vmap(scan))` over all lanes", "jax"),
    "numba": Entry("Numba", numba_kernel, "kernel written by hand, `prange` over lanes, fused", "numba"),
    PLAIN: Entry(
        "the plain ensemble",
        partial(side_by_side, kind=Ensemble),
        "`wsp.lab.many.ensemble`, in PyTorch, drawing its orders one by one",
    ),
    OURS: Entry("**the kernel**", side_by_side, "`wsp.lab.many.kernel`, as the studies run it", "numba"),
    "orders_given": Entry(
        "the kernel, orders given", partial(side_by_side, draw=False), "as the peers get them", "numba"
    ),
}
CUDA = {
    "cuda": Entry(
        "the plain ensemble, CUDA",
        partial(side_by_side, kind=Ensemble, device="cuda"),
        "all lanes at once, orders drawn on the CPU",
    )
}


# The floor: what the processor's arithmetic alone would take.


def operations(sizes: Sequence[int], batch_size: int) -> float:
    """Floating-point operations of one sample, counted from the layer sizes.

    Forward, the weights' gradients, and passing the gradient down (not to the inputs): two for
    each weight. The biases' gradients: one. The slope ``1 - f²`` and the product with it: three
    a hidden unit. The step, shared by the batch: two a parameter. tanh and exp are not counted.

    Examples
    --------
    >>> operations([6, 10, 10, 3], batch_size=10)
    1145.6
    """
    weights = [inputs * outputs for inputs, outputs in pairwise(sizes)]
    biases = sum(sizes[1:])
    slopes = 3 * sum(sizes[1:-1])
    products = 2 * sum(weights) + 2 * sum(weights) + 2 * sum(weights[1:])
    return products + biases + slopes + 2 * (sum(weights) + biases) / batch_size


def arithmetic() -> dict[str, tuple[Callable[[], object], float]]:
    """What to time for the floor, and how much of it a call does.

    A large dgemm on all threads, in operations; tanh in the cache, on one thread, counted as
    if all threads did as much in the same time.
    """
    n, threads = 1024, torch.get_num_threads()
    a, b, c = (torch.rand(n, n, dtype=torch.float64) for _ in range(3))
    x = torch.rand(2**14, dtype=torch.float64)
    y = torch.empty_like(x)

    def tanh() -> None:
        torch.set_num_threads(1)
        torch.tanh(x, out=y)
        torch.set_num_threads(threads)

    return {
        "dgemm": (lambda: torch.mm(a, b, out=c), 2.0 * n**3),
        "tanh": (tanh, float(threads * len(x))),
    }


# The measurement.


class Wrong(Exception):
    """Raised where a peer does not train the networks that the ordinary loop trains."""


def checked(
    key: str, entry: Entry, seeds: int, table: Table, orders: Tensor, target: Tensor
) -> tuple[Peer, float]:
    """Make a peer, let it train for `orders`, and compare its weights with `target`.

    Returns
    -------
    (Peer, float)
        The peer and its largest difference.

    Raises
    ------
    Wrong
        If the weights differ by more than 1e-9.
    """
    peer = entry.build([random_network(seed, "fresh weights") for seed in range(seeds)], table)
    peer.train(orders[:, :seeds])
    difference = float((peer.weights() - target[:seeds]).abs().max())
    if not difference <= TOLERANCE:
        raise Wrong(
            f"{key}: after {len(orders)} epochs a weight differs from the ordinary loop's by "
            f"{difference:.1e}, more than {TOLERANCE:.0e}: not timed"
        )
    return peer, difference


def least_seconds(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least time of each candidate over rounds in which they take turns."""
    least = dict.fromkeys(candidates, math.inf)
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


TIMES = {OURS: "the kernel", PLAIN: "the plain ensemble"}


def base(peers: dict[str, Any]) -> str:
    """What ratios are to: the kernel, or the plain ensemble where Numba is missing."""
    return OURS if OURS in peers else PLAIN


def measure(lanes: int, rounds: int, epochs: int, cuda: bool = False) -> dict[str, Any]:
    """Check every peer, then time them in turns; all of the result but its provenance."""
    table = employees.encode(employees.draw(employees.TRAIN_ROWS, 2 * FIRST_FRESH))
    rows = len(table.labels)
    generators = [stream(seed, "order") for seed in range(lanes)]
    check = torch.stack([draw_orders(generators, rows) for _ in range(CHECK_EPOCHS)])
    networks = [random_network(seed, "fresh weights") for seed in range(lanes)]
    reference = ordinary_loop(networks, table)
    reference.train(check)
    target = reference.weights()

    entries, skipped = PEERS | (CUDA if cuda else {}), {}
    peers: dict[str, Peer] = {}
    found: dict[str, dict[str, Any]] = {}
    for key, entry in entries.items():
        if key == "cuda" and not torch.cuda.is_available():
            skipped[key] = "no CUDA device: the plain ensemble on CUDA skipped"
            continue
        try:
            seeds = min(lanes, LOOP_LANES) if key == LOOP else lanes
            peers[key], difference = checked(key, entry, seeds, table, check, target)
        except ImportError as error:
            if entry.package is None:
                raise
            skipped[key] = f"{entry.package} is not installed: {entry.title} skipped ({error})"
            continue
        found[key] = {
            "title": entry.title,
            "note": entry.note,
            "lanes": peers[key].lanes,
            "largest_difference": difference,
            "compile_seconds": round(peers[key].compile_seconds, 2),
        }
    for line in skipped.values():
        print(line, flush=True)

    timed = torch.stack([draw_orders(generators, rows) for _ in range(epochs)])
    floor = arithmetic()
    seconds = least_seconds(
        {key: lambda peer=peer: peer.train(timed[:, : peer.lanes]) for key, peer in peers.items()}
        | {key: run for key, (run, _) in floor.items()},
        rounds,
    )
    for key, peer in peers.items():
        found[key]["nanoseconds"] = 1e9 * seconds[key] / timed[:, : peer.lanes].numel()
    for record in found.values():
        record["ratio"] = record["nanoseconds"] / found[base(found)]["nanoseconds"]

    sizes = networks[0].sizes
    rate = {key: count / seconds[key] for key, (_, count) in floor.items()}  # a second
    products = 1e9 * operations(sizes, BATCH_SIZE) / rate["dgemm"]
    tanhs = 1e9 * sum(sizes[1:-1]) / rate["tanh"]
    return {
        "format": FORMAT,
        "unit": "nanoseconds per training sample and network",
        "setup": {
            "sizes": list(sizes),
            "dtype": str(table.inputs.dtype).removeprefix("torch."),
            "rows": rows,
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "lanes": lanes,
            "rounds": rounds,
            "epochs": epochs,
            "chunks": [len(chunk) for chunk in in_chunks(range(lanes), torch.get_num_threads(), Sweep.chunk)],
            "tolerance": TOLERANCE,
            "check_epochs": CHECK_EPOCHS,
        },
        "peers": found,
        "skipped": skipped,
        "floor": {
            "operations": operations(sizes, BATCH_SIZE),
            "dgemm_gigaflops": rate["dgemm"] / 1e9,
            "nanoseconds": products,
            "tanh_nanoseconds": tanhs,
            "ratio": products / found[base(found)]["nanoseconds"],
        },
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as a table, with the machine below it."""
    lines = [
        f"| | ns per sample and network | times {TIMES[base(result['peers'])]} | notes |",
        "|---|--:|--:|---|",
    ]
    ours = result["peers"][base(result["peers"])]["nanoseconds"]
    slowest_first = sorted(result["peers"].values(), key=lambda peer: -peer["nanoseconds"])
    for peer in slowest_first:
        note = peer["note"]
        if peer["compile_seconds"]:
            note += f"; compiled in {peer['compile_seconds']:.1f} s before"
        if peer["lanes"] < result["setup"]["lanes"]:
            note += f"; timed on {peer['lanes']} networks"
        lines.append(f"| {peer['title']} | {peer['nanoseconds']:,.0f} | {peer['ratio']:,.2f} | {note} |")
    floor = result["floor"]
    with_tanh = floor["nanoseconds"] + floor["tanh_nanoseconds"]
    hidden = sum(result["setup"]["sizes"][1:-1])
    lines += [
        f"| floor and {hidden} tanh | {with_tanh:,.1f} | {with_tanh / ours:,.2f} "
        "| the floor, and `torch.tanh` of the hidden units, in the cache on all threads |",
        f"| floor | {floor['nanoseconds']:,.1f} | {floor['ratio']:,.2f} "
        f"| {floor['operations']:,.0f} operations at the {floor['dgemm_gigaflops']:,.0f} GFLOP/s "
        "of a dgemm measured between the rounds |",
        "",
        *(f"- {line}" for line in result["skipped"].values()),
    ]
    if result["skipped"]:
        lines.append("")
    setup, made = result["setup"], result["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    worst = max(peer["largest_difference"] for peer in result["peers"].values())
    lines.append(
        f"{'-'.join(map(str, setup['sizes']))} tanh network in {setup['dtype']}, "
        f"{setup['lanes']:,} lanes in {len(setup['chunks'])} chunks, {setup['rows']} rows, batches of "
        f"{setup['batch_size']}; the least of {setup['rounds']} rounds of {setup['epochs']} epochs. "
        f"All weights after {setup['check_epochs']} epochs within {worst:.0e} of the ordinary loop's. "
        f"{made['processor']}, {made['threads']} threads, load {result['load_before']} before; "
        f"Python {made['python']}, {versions}; {made['date']}; code {made['code']}."
    )
    return "\n".join(lines)


BEGIN, END = "<!-- sweep table: begin -->", "<!-- sweep table: end -->"


def write_readme(result: dict[str, Any], readme: Path) -> None:
    """Put the table between the two marks of `readme`, in place of what is there."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ValueError(f"{readme}: expected one line {BEGIN} and below it one line {END}")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{BEGIN}\n{markdown(result)}\n{END}{after}")


def load(path: str) -> dict[str, Any]:
    """Read a result that ``--json`` wrote."""
    result = load_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise ValueError(f"{path}: not a result of benchmarks/sweep.py in the format {FORMAT!r}")
    return result


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be positive, not {number}")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description="Time wsp.lab.many.kernel against its peers.")
    parser.add_argument("--lanes", type=positive, default=1000, help="networks (%(default)s)")
    parser.add_argument("--rounds", type=positive, default=10, help="all take turns (%(default)s)")
    parser.add_argument("--epochs", type=positive, default=5, help="of a turn (%(default)s)")
    parser.add_argument("--cuda", action="store_true", help="also wsp.lab.many.ensemble on CUDA")
    parser.add_argument("--json", metavar="PATH", help="also write the result to this file")
    parser.add_argument(
        "--readme", metavar="PATH", help="measure nothing: put this result's table into README.md"
    )
    args = parser.parse_args()
    try:
        if args.readme:
            write_readme(load(args.readme), Path(__file__).with_name("README.md"))
            return 0
        os.environ["WSP_PROGRESS"] = "0"
        start, busy = time.perf_counter(), os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        result = measure(args.lanes, args.rounds, args.epochs, args.cuda)
        command = f"python benchmarks/sweep.py --lanes {args.lanes} --rounds {args.rounds}"
        command += f" --epochs {args.epochs}" + " --cuda" * args.cuda + " --json PATH"
        result["load_before"] = busy if busy is None else round(busy, 2)
        result["versions"] = {
            name: importlib.metadata.version(name)
            for name in ("torch", "jax", "numba")
            if name == "torch" or name in result["peers"]
        }
        result["provenance"] = provenance(
            command, modules_of("wsp.studies.sweep"), time.perf_counter() - start
        )
        if args.json:
            save_json(args.json, result)
        print(markdown(result))
    except (Wrong, OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
