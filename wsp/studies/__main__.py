"""``python -m wsp.studies``: list the stored experiments, run one, check slices of them.

The options of a study are the parameters of its ``specification`` and ``units``; what they mean is
read from the docstrings of the two.
"""

from __future__ import annotations

import argparse
import datetime
import inspect
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import torch.distributed as dist

from wsp._commands import Parser, main_of
from wsp.lab.article import device_named
from wsp.lab.employees import find
from wsp.lab.results import processor, write_whole
from wsp.studies.catalog import RESULTS, STUDIES, VERIFIED, Result, noted, state
from wsp.studies.engine import Study, check, load, run
from wsp.studies.parts import Content

PARAMETER = re.compile(r"^( *)(\w+(?:, \w+)*)(?: : .*)?\n((?:\1 +.*\n?)+)", re.M)


def words_of(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring says about each parameter.

    Examples
    --------
    >>> words_of(STUDIES["grid"].specification)["test_rows"]
    'Drawn anew with every table'
    """
    said = PARAMETER.findall(inspect.getdoc(function) or "")
    return {n: " ".join(text.split()).rstrip(".") for _, names, text in said for n in names.split(", ")}


def add_options(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> list[str]:
    """An option for every parameter of a function; return their names.

    Numbers of a sequence have spaces between them, words commas.
    """
    hints, words, names = get_type_hints(function), words_of(function), []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in ("spec", "content"):  # of `units`, which the engine gives
            continue
        hint, default = hints[name], parameter.default
        kind = next(kind for kind in (int, float, str) if kind in (hint, *get_args(hint)))
        how: dict[str, Any] = {"type": kind}
        if get_origin(hint) is Sequence:
            how = {"type": lambda text: text.split(",")} if kind is str else {"type": kind, "nargs": "+"}
        shown = default if isinstance(default, int | float | str) else ",".join(map(str, default or ()))
        told = words.get(name, "") + (f"; default {shown}" if shown not in ("", None) else "")
        how |= {"default": default, "metavar": kind.__name__.upper(), "help": told.replace("%", "%%")}
        parser.add_argument("--" + name.replace("_", "-"), **how)
        names.append(name)
    return names


@contextmanager
def processes() -> Iterator[bool]:
    """Join the other processes where ``torchrun`` has started us; whether we are the one that speaks."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield True
        return
    dist.init_process_group("gloo")
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


def run_study(study: Study, args: argparse.Namespace) -> int:
    """Compute what the command line asks for, alone or as one process of a ``torchrun``."""
    with processes() as speaks:
        spec = study.specification(**{name: getattr(args, name) for name in args.settings})
        content = run(
            study,
            spec,
            args.out,
            device=device_named(args.device) if study.cuda else "cpu",
            command="python -m wsp.studies " + shlex.join(sys.argv[1:]),
            **{name: getattr(args, name) for name in args.wanted},
        )
        if speaks:
            print(json.dumps(study.summary(content)) if args.json else study.as_text(content))
    return 0


def minutes_of(result: Result) -> float | None:
    """What it took when it was stored."""
    return result.load()["provenance"]["seconds"] / 60 if result.path.is_file() else None


def list_stored(args: argparse.Namespace) -> int:
    """A line for every study, and one for every result that the book stores of it."""
    verified = noted()
    for study in STUDIES.values():
        print(f"{study.name:12s} chapter {study.chapter:2d}   {study.words}")
        for result in RESULTS.values():
            if result.study is study:
                took = minutes_of(result)
                minutes = "" if took is None else f"{took:6.1f} min"
                print(f"    {result.name:42s}{minutes:>12s}   {state(result, verified)}")
    return 0


def chosen(names: Sequence[str]) -> list[Result]:
    """The results of these names, or of the studies of these names; all of them for none."""
    unknown = [name for name in names if name not in RESULTS and name not in STUDIES]
    if unknown:
        raise ValueError(f"no stored result or study is called {unknown[0]}: see python -m wsp.studies")
    every = RESULTS.values()
    return [each for each in every if not names or each.name in names or each.study.name in names]


def comes_out(result: Result, note: bool) -> bool:
    """Run a slice of a stored result again; say what came of it. Another result than declared does not."""
    start = time.perf_counter()
    try:
        content = load(result.study, result.path, as_stored(result.specification))
    except ValueError as error:
        lines = [str(error)]
    else:
        lines = check(result.study, content)
    seconds = time.perf_counter() - start
    told = "; ".join(lines[:5]) if lines else "a slice came out again"
    print(f"{result.name}: {told} ({seconds:.0f} s)", flush=True)
    if note and not lines:
        seen = {"code": result.code, "date": str(datetime.date.today()), "processor": processor()}
        text = json.dumps(dict(sorted((noted() | {result.name: seen}).items())), indent=1) + "\n"
        write_whole(find("results").parent / VERIFIED, text.encode())
    return not lines


def as_stored(spec: Content) -> Content:
    """A specification as it comes back from a file."""
    stored: Content = json.loads(json.dumps(spec))
    return stored


def check_stored(args: argparse.Namespace) -> int:
    """Run slices of stored results again; exit with 1 if one does not come out."""
    wrong = 0
    for result in chosen(args.names):
        if not result.path.is_file():
            print(f"{result.name}: missing")
            wrong += 1
        elif reason := result.study.needs(result.load()):
            print(f"{result.name}: skipped ({reason})")
        elif args.minutes is not None and result.study.minutes > args.minutes:
            print(f"{result.name}: skipped (its slice takes about {result.study.minutes:g} minutes)")
        else:
            wrong += not comes_out(result, args.note)
    return 1 if wrong else 0


def run_all(args: argparse.Namespace) -> int:
    """Compute what is missing, and again what does not come out; with --resume go on with what was begun.

    What is unfinished or does not come out is computed beside the stored file, which is replaced at
    the end: an interrupted run loses nothing, and no stored number until there are new ones.
    """
    left: list[Result] = []
    for result in chosen(args.names):
        if result.path.is_file() and (result.study.needs(result.load()) or comes_out(result, args.note)):
            continue
        left.append(result)
    took = [minutes_of(result) for result in left]
    known = sum(minutes for minutes in took if minutes is not None)
    unknown = sum(minutes is None for minutes in took)
    print(
        f"{len(left)} results to compute: about {known:.0f} minutes"
        + (f", and {unknown} new" * bool(unknown))
    )
    for result in left:
        begun = result.path.with_name(f".{result.name}.begun.json")
        if not args.resume:
            begun.unlink(missing_ok=True)
        wanted = result.given(result.study.units)
        run(result.study, result.specification, begun, command=result.command, **wanted)
        os.replace(begun, result.path)
        print(f"{result.name}: stored", flush=True)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="python -m wsp.studies", description=(__doc__ or "").partition("\n")[0])
    parser.set_defaults(run=list_stored)
    commands = parser.add_subparsers(title="studies", metavar="NAME", parser_class=Parser)
    for study in STUDIES.values():
        words = f"chapter {study.chapter}: {study.words}"
        command = commands.add_parser(study.name, help=words, description=words)
        settings, wanted = add_options(command, study.specification), add_options(command, study.units)
        command.add_argument("--out", type=Path, help="store here after every part; go on from here")
        command.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
        if study.cuda:
            command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
        command.set_defaults(
            run=lambda args, study=study: run_study(study, args), settings=settings, wanted=wanted
        )
    command = commands.add_parser("check", help="run a slice of stored results again")
    command.set_defaults(run=check_stored)
    command.add_argument("--minutes", type=float, help="leave out studies whose slice takes longer")
    every = commands.add_parser("all", help="compute what is missing or does not come out any more")
    every.set_defaults(run=run_all)
    every.add_argument("--resume", action="store_true", help="go on with what an earlier call began")
    for each in (command, every):
        each.add_argument("names", nargs="*", metavar="RESULT", help="results or studies; default: all")
        each.add_argument("--note", action="store_true", help=f"note what comes out in data/{VERIFIED}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a bad request ends in one line and exit code 2."""
    return main_of(make_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
