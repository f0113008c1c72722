"""``python -m wsp``: the article's figures, trained on the spot, and the book's longer runs."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from wsp import (
    checkpoints,
    compound,
    contest,
    decide,
    employees,
    grid,
    inside,
    judge,
    noise,
    remedies,
    retraining,
    rounds,
    selection,
    statistics,
    sweep,
)
from wsp.network import save_network
from wsp.results import provenance, save_json, stored
from wsp.retraining import ARMS, ARTICLE, SEED, Result, run_arms
from wsp.training import LEARNING_RATE

LOSS_TOLERANCE = 1e-9  # nats; what every machine we tried keeps


def device_named(name: str) -> str:
    """Resolve ``auto``; refuse CUDA where there is none."""
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        if torch.backends.mps.is_available():
            print("Apple's MPS has no float64: training on the CPU", file=sys.stderr)
        return "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this PyTorch sees no CUDA device; use --device cpu")
    return name


def record(result: Result) -> dict[str, Any]:
    """One arm's figures as they go to JSON."""
    return {
        "correct": result.test.correct,
        "of": result.test.of,
        "accuracy": result.test.accuracy,
        "epochs": result.arm.epochs,
        "train_loss": result.train.loss,
        "train_accuracy": result.train.accuracy,
        "test_loss": result.test.loss,
        "seconds": round(result.seconds, 3),
    }


def describe(results: dict[str, Result], seed: int, device: str) -> dict[str, Any]:
    """All arms' figures, as ``--json`` prints them."""
    records = {key: record(result) for key, result in results.items()}
    return {
        "figures": {key: records[key] for key in ARTICLE},
        "controls": {key: records[key] for key in records if key not in ARTICLE},
        "seed": seed,
        "device": device,
        "dtype": "float64",
        "torch": torch.__version__,
    }


def print_article(found: dict[str, Any]) -> None:
    """The table a person reads."""
    print(f"seed {found['seed']}, {found['device']}, {found['dtype']}, torch {found['torch']}\n")
    print(
        f"{'arm':20s} {'correct':>8s} {'accuracy':>9s} {'article':>8s} {'epochs':>7s} "
        f"{'train loss':>11s} {'seconds':>8s}"
    )
    for key, line in (found["figures"] | found["controls"]).items():
        quoted = ARMS[key].quoted
        quote = "" if quoted is None else f"{100 * quoted / employees.TEST_ROWS:.1f} %"
        print(
            f"{key:20s} {line['correct']:3d} of {line['of']} {line['accuracy']:7.1f} % "
            f"{quote:>8s} {line['epochs']:7d} {line['train_loss']:11.4f} {line['seconds']:8.1f}"
        )


def differences(found: dict[str, Any], book: dict[str, Any]) -> list[str]:
    """A line for every arm whose figures are not the book's."""
    lines = []
    for kind in ("figures", "controls"):
        for key, expected in book[kind].items():
            line = found[kind][key]
            apart = abs(line["test_loss"] - expected["test_loss"])
            if line["correct"] != expected["correct"] or not apart <= LOSS_TOLERANCE:
                lines.append(
                    f"{key}: {line['correct']} of {line['of']} correct, test loss "
                    f"{line['test_loss']:.12f}; the book has {expected['correct']} and "
                    f"{expected['test_loss']:.12f}"
                )
    return lines


def check(found: dict[str, Any], as_json: bool) -> bool:
    """Say whether these are the book's numbers, and where not, what differs."""
    book = stored("article")
    lines = differences(found, book)
    if as_json:
        print(json.dumps(found | {"same": not lines, "differences": lines}))
        return not lines
    if not lines:
        print("Yes: every arm gives the book's counts, and its test loss to 1e-9.")
        return True
    print(*lines, "No: the arms above differ.", sep="\n")
    for what in ("torch", "device", "dtype", "seed"):
        if found[what] != book[what]:
            print(f"  {what}: {found[what]} here, {book[what]} in the book")
    if all(found[what] == book[what] for what in ("torch", "device", "dtype", "seed")):
        print("  torch, device, dtype and seed are the book's: please report your processor")
    return False


def run_article(args: argparse.Namespace) -> int:
    device = device_named(args.device)
    train, test = employees.load_train(), employees.load_test()
    found = describe(run_arms(train, test, args.seed, device=device), args.seed, device)
    if args.check:
        return 0 if check(found, args.json) else 1
    if args.json:
        print(json.dumps(found))
    else:
        print_article(found)
    return 0


def run_sweep(args: argparse.Namespace) -> int:
    command = "python -m wsp " + shlex.join(sys.argv[1:])
    if "TORCHELASTIC_RUN_ID" in os.environ:  # started by torchrun
        dist.init_process_group("gloo")
    try:
        spec = sweep.specification(
            args.seeds,
            args.tables,
            arms=list(ARTICLE if args.arms == "article" else ARMS),
            test_rows=args.test_rows,
            label_noise=args.label_noise,
            learning_rate=args.learning_rate,
        )
        found = sweep.sweep(spec, args.out, device=device_named(args.device), command=command)
        if not dist.is_initialized() or dist.get_rank() == 0:
            summary = statistics.summarize(found)
            print(json.dumps(summary) if args.json else statistics.as_text(summary))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def run_grid(args: argparse.Namespace) -> int:
    spec = grid.specification(
        args.tables,
        args.seeds,
        lamdas=args.lamdas,
        sigmas=args.sigmas,
        test_rows=args.test_rows,
        label_noise=args.label_noise,
        learning_rate=args.learning_rate,
    )
    found = grid.grid(spec, args.out, command="python -m wsp " + shlex.join(sys.argv[1:]))
    print(grid.as_text(found))
    return 0


def run_compound(args: argparse.Namespace) -> int:
    spec = compound.specification(args.tables, args.seeds)
    command = "python -m wsp " + shlex.join(sys.argv[1:])
    print(compound.as_text(compound.compound(spec, args.out, command=command)))
    return 0


def run_noise(args: argparse.Namespace) -> int:
    spec = noise.specification(args.tables, args.seeds)
    command = "python -m wsp " + shlex.join(sys.argv[1:])
    print(noise.as_text(noise.compare(spec, args.out, command=command)))
    return 0


def run_judge(args: argparse.Namespace) -> int:
    spec = judge.specification(args.tables)
    command = "python -m wsp " + shlex.join(sys.argv[1:])
    print(judge.as_text(judge.judge(spec, args.out, command=command)))
    return 0


def run_select(args: argparse.Namespace) -> int:
    found = selection.select(
        args.out,
        tables=args.tables,
        seeds=args.seeds,
        draws=args.draws,
        command="python -m wsp select",
    )
    print(json.dumps({key: found[key] for key in ("winner", "confirmation", "pinned")}))
    if args.write:
        selection.write_tables(found, args.write)
    return 0


def run_decide(args: argparse.Namespace) -> int:
    command = f"python -m wsp decide --tables {args.tables} --seeds {args.seeds}"
    found = decide.decide(decide.specification(args.tables, args.seeds), args.out, command=command)
    print(decide.as_text(found))
    return 0


def run_inside(args: argparse.Namespace) -> int:
    for key in args.keys or (*inside.CASES, "convnets"):
        out = args.folder / f"inside_{key}.json"
        found = inside.run(key, out, f"python -m wsp inside {key}")
        print(f"{out}: {len(found['found']['units'])} tables or splits")
    return 0


def run_remedies(args: argparse.Namespace) -> int:
    found = remedies.run_remedies(
        args.keys or remedies.REMEDIES,
        args.folder,
        args.tables,
        args.seeds,
        label_noise=args.label_noise,
    )
    for key, content in found.items():
        for plan in content["correct"]:
            end = remedies.curves(content, plan)[:, -1].mean()
            print(f"{key:22s} {plan:12s} {end:6.2f} % after {remedies.EPOCHS} epochs")
    return 0


def run_store(args: argparse.Namespace) -> int:
    """Write what the book keeps of the pinned run: its figures and its first network."""
    train, test = employees.load_train(), employees.load_test()
    results = run_arms(train, test, SEED)
    found = describe(results, SEED, "cpu")
    seconds = sum(result.seconds for result in results.values())
    source = provenance("python -m wsp store", retraining.MODULES, seconds)
    save_json(args.folder / "results" / "article.json", found | {"provenance": source})
    save_network(results["initial"].network, args.folder / "first_100.pt")
    return 0


def run_rivals(args: argparse.Namespace) -> int:
    return contest.run(args, device_named(args.device))


def run_rounds(args: argparse.Namespace, data: str) -> int:
    return rounds.run(args, data, device_named(args.device))


class Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"wsp: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog="python -m wsp",
        description="Train the article's four arms and six controls on the employee table.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.add_argument("--check", action="store_true", help="are these the book's numbers? if not, exit 1")
    parser.add_argument("--seed", type=int, default=SEED, help="default: the book's, %(default)s")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.set_defaults(run=run_article)
    commands = parser.add_subparsers(title="more", metavar="COMMAND")

    command = commands.add_parser(
        "sweep",
        help="the arms over many seeds or fresh tables",
        description="Train the arms over many seeds of the book's table, or over fresh tables. "
        "Start it under torchrun to split it over processes and machines.",
    )
    command.add_argument("--seeds", type=int, required=True, help="seeds 0 to N-1 on every table")
    command.add_argument("--tables", type=int, help="fresh tables; default: the book's table")
    command.add_argument("--test-rows", type=int, default=2000, help="for fresh tables; default %(default)s")
    command.add_argument(
        "--label-noise",
        type=float,
        default=employees.LABEL_NOISE,
        help="of fresh tables; default %(default)s",
    )
    command.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help="default %(default)s")
    command.add_argument(
        "--arms",
        choices=("article", "all"),
        default="all",
        help="the four of the article, or the controls as well (default)",
    )
    command.add_argument("--out", type=Path, help="store here after every chunk; go on from here")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    command.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    command.set_defaults(run=run_sweep)

    command = commands.add_parser(
        "grid",
        help="the map of lamda and sigma over fresh tables",
        description="Shrink and perturb with every pair of lamda and sigma, over fresh tables.",
    )
    command.add_argument("--tables", type=int, required=True, help="fresh tables")
    command.add_argument("--seeds", type=int, default=2, help="on each of them; default %(default)s")
    command.add_argument("--lamdas", type=float, nargs="+", default=grid.LAMDAS, metavar="LAMDA")
    command.add_argument("--sigmas", type=float, nargs="+", default=grid.SIGMAS, metavar="SIGMA")
    command.add_argument("--test-rows", type=int, default=2000, help="default %(default)s")
    command.add_argument(
        "--label-noise", type=float, default=employees.LABEL_NOISE, help="default %(default)s"
    )
    command.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help="default %(default)s")
    command.add_argument("--out", type=Path, help="store here after every chunk; go on from here")
    command.set_defaults(run=run_grid)

    for name, run, words in (
        ("compound", run_compound, "shrink and perturb in ten rounds: what is left, what piles up"),
        ("noise", run_noise, "kinds of noise, on the same old networks"),
        ("judge", run_judge, "what choosing lamda and sigma on held-out rows is worth"),
    ):
        command = commands.add_parser(name, help=words, description=f"Over fresh tables: {words}.")
        command.add_argument("--tables", type=int, required=True, help="fresh tables")
        if run is not run_judge:
            command.add_argument("--seeds", type=int, default=1, help="on each of them; default %(default)s")
        command.add_argument("--out", type=Path, help="store here after every chunk; go on from here")
        command.set_defaults(run=run)

    command = commands.add_parser(
        "select",
        help="how the book's table was found",
        description="Search for a table on which the article's four accuracies come out. "
        "Interrupted, the same command goes on.",
    )
    command.add_argument("--tables", type=int, default=32)
    command.add_argument("--seeds", type=int, default=200)
    command.add_argument("--draws", type=int, default=1_000_000)
    command.add_argument("--out", type=Path, default=Path("data/results/table_search.json"))
    command.add_argument("--write", type=Path, metavar="FOLDER", help="write the two CSV files here")
    command.set_defaults(run=run_select)

    command = commands.add_parser(
        "decide",
        help="cold, warm, or shrink and perturb: by what is new and what training may cost",
        description="The experiment behind chapter 13's decision figure. Interrupted, the same "
        "command goes on.",
    )
    command.add_argument("--tables", type=int, default=160, help="fresh tables; default %(default)s")
    command.add_argument("--seeds", type=int, default=4, help="on every table; default %(default)s")
    command.add_argument("--out", type=Path, default=Path("data/results/decision.json"))
    command.set_defaults(run=run_decide)

    command = commands.add_parser(
        "inside",
        help="what shrinking changes in a network, and which part of it matters",
        description="The measurements of chapter 7. Interrupted, the same command goes on.",
    )
    keys = (*inside.CASES, "convnets")
    command.add_argument("keys", nargs="*", metavar="CASE", help=f"{', '.join(keys)}; default: all")
    command.add_argument("--folder", type=Path, default=Path("data/results"), help="default %(default)s")
    command.set_defaults(run=run_inside)

    command = commands.add_parser(
        "remedies",
        help="the obvious fixes of chapter 9 over fresh tables",
        description="Carry out remedies over fresh tables, each stored in a file of its own. "
        "Interrupted, or with more tables, the same command goes on.",
    )
    command.add_argument("keys", nargs="*", metavar="REMEDY", help="default: all")
    command.add_argument("--tables", type=int, default=200, help="fresh tables; default %(default)s")
    command.add_argument("--seeds", type=int, default=2, help="on every table; default %(default)s")
    command.add_argument(
        "--label-noise", type=float, default=employees.LABEL_NOISE, help="default %(default)s"
    )
    command.add_argument("--folder", type=Path, default=Path("data/results"), help="default %(default)s")
    command.set_defaults(run=run_remedies)

    command = commands.add_parser("store", help="store the figures that --check compares with")
    command.add_argument("--folder", type=Path, default=Path("data"))
    command.set_defaults(run=run_store)

    command = commands.add_parser(
        "shrink-perturb",
        help="shrink and perturb a checkpoint file",
        description="Shrink and perturb the weights in a checkpoint.",
    )
    checkpoints.add_arguments(command)
    command.set_defaults(run=checkpoints.run)

    for name, data, what in (
        ("digits", "digits", "scikit-learn's digits arrive"),
        ("cifar", "cifar10", "CIFAR-10 arrives"),
    ):
        command = commands.add_parser(
            name,
            help=f"the starts while {what} in rounds",
            description=f"Train the starts while {what} in rounds, by the paper's stop rule, over "
            "random splits. Interrupted, the same command goes on.",
        )
        rounds.add_arguments(command, data)
        command.set_defaults(run=partial(run_rounds, data=data))

    command = commands.add_parser(
        "rivals",
        help="what came after shrink and perturb, tuned alike, on the same splits",
        description="Every method of chapter 12 chooses among six settings on a few splits and is "
        "compared on others. Interrupted, the same command goes on.",
    )
    contest.add_arguments(command)
    command.set_defaults(run=run_rivals)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a bad request ends in one line and exit code 2."""
    args = make_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"wsp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = getattr(args, "out", None)
        print(
            "wsp: stopped"
            + (f"; what was finished is in {kept}, and the same command goes on from there" if kept else ""),
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
