"""``python -m wsp``: the article's figures, trained on the spot; or the trick, on a checkpoint file.

The long experiments behind the book's chapters are ``python -m wsp.studies``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from wsp import checkpoints
from wsp._commands import Parser, main_of


def run_article(args: argparse.Namespace) -> int:
    """Train all arms and print what they give."""
    from wsp.lab import article  # the trick on a file needs torch alone

    return article.run(args.seed, args.device, as_json=args.json, compare=args.check)


def run_store(args: argparse.Namespace) -> int:
    """Write what the book keeps of its own seed."""
    from wsp.lab import article

    article.store(args.folder)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog="python -m wsp",
        description="Train the article's four arms and six controls on the employee table.",
        epilog="The long experiments of the book: python -m wsp.studies",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.add_argument("--check", action="store_true", help="are these the book's numbers? if not, exit 1")
    parser.add_argument("--seed", type=int, help="default: the book's")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.set_defaults(run=run_article)
    commands = parser.add_subparsers(title="more", metavar="COMMAND")

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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a bad request ends in one line and exit code 2."""
    return main_of(make_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
