"""The check of the chapters can fail: a tampered number and a broken trick turn it red.

`make test` itself shows that the untouched chapters pass.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from helpers import copy_tree


def nbval(tree: Path, chapter: str) -> subprocess.CompletedProcess[str]:
    """Run a chapter of a copy as `make test` does, with its module, up to the first failure."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--nbval",
            "--nbval-current-env",
            "--exitfirst",
            "--color=no",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--nbval-sanitize-with=tests/wall_clock.cfg",
            f"book/{chapter}.ipynb",
        ],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )


def failed_cells(run: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"^FAILED (\S+::Cell \d+)", run.stdout, re.M)


def tamper(path: Path) -> str:
    """Change one digit of one stored output; return the pytest name of its cell."""
    notebook = nbformat.read(path, as_version=4)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(codes):
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            # A number that is no wall-clock time, which tests/wall_clock.cfg lets differ.
            found = re.search(r"\d(?=[^\n]*\n)(?!\S* ?(?:s|ms|seconds|minutes)\b)", output.get("text", ""))
            if found:
                digit = str((int(found[0]) + 1) % 10)
                output.text = output.text[: found.start()] + digit + output.text[found.end() :]
                nbformat.write(notebook, path)
                return f"book/{path.name}::Cell {number}"
    raise AssertionError(f"{path.name} prints no number")


def test_tampered_number_fails(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    chapter = "05_shrink_perturb"
    cell = tamper(tree / "book" / f"{chapter}.ipynb")
    run = nbval(tree, chapter)
    assert run.returncode == 1
    assert failed_cells(run) == [cell], run.stdout
    # What a person needs to mend it: chapter, cell, what was stored and what came.
    assert "Cell outputs differ" in run.stdout
    assert "reference_output == test_output" in run.stdout


BROKEN = {
    "nothing": """

def shrink_perturb_(module, *arguments, **options):
    return module
""",
    "no noise": """

_whole_ = shrink_perturb_


def shrink_perturb_(module, lamda=0.5, sigma=0.01, **options):
    return _whole_(module, lamda, 0.0, **options)
""",
}


@pytest.mark.parametrize("does", BROKEN)
def test_broken_trick_fails(does: str, tmp_path: Path) -> None:
    """Chapter 5 fails when `shrink_perturb_` leaves the network as it is, or only shrinks it."""
    tree = copy_tree(tmp_path / "tree")
    with open(tree / "wsp" / "perturb.py", "a") as file:
        file.write(BROKEN[does])
    run = nbval(tree, "05_shrink_perturb")
    assert run.returncode == 1
    assert failed_cells(run), run.stdout
    assert "ModuleNotFoundError" not in run.stdout and "FileNotFoundError" not in run.stdout
