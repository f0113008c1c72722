"""What the command lines of ``python -m wsp`` and ``python -m wsp.studies`` have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO


class Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"wsp: {message}; see {self.prog} --help\n")


def main_of(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Run the function that the parser set as ``run``; a bad request ends in one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a sign that a terminal lacks must not cost a finished run
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        say(f"wsp: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = getattr(args, "out", None)
        there = f"; what was finished is in {kept}, and the same command goes on from there" if kept else ""
        say(f"wsp: stopped{there}", sys.stderr)
        return 130


def say(line: str, stream: TextIO) -> None:
    """Print on one line, whatever the message."""
    print(" ".join(line.split()), file=stream)
