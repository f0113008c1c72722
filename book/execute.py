"""Run chapters and store their outputs in place: python book/execute.py [CHAPTER ...]

Without arguments, every chapter. A chapter that fails is left as it was. The seconds
that each one took go to book/seconds.json, from which *Runs in* takes them.
"""

from __future__ import annotations

import base64
import json
import math
import os
import platform
import resource
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# Cell metadata that a person wrote; editors add the rest and change it every time.
KEPT = {"tags", "mystnb", "jupyter"}
# Tags of cells whose code the page folds or leaves out. JupyterLab folds it too.
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs between machines and editors, so that diffs show changes."""
    notebook.metadata = nbformat.NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT}
        cell["id"] = cell.get("id") or f"cell-{number}"
        if cell.cell_type == "code":
            fold(cell)


def fold(cell: nbformat.NotebookNode) -> None:
    """Let JupyterLab fold the code of a cell as the page does, and no other."""
    jupyter = dict(cell.metadata.pop("jupyter", {}))
    jupyter.pop("source_hidden", None)
    if FOLDED & set(cell.metadata.get("tags", [])):
        jupyter["source_hidden"] = True
    if jupyter:
        cell.metadata["jupyter"] = jupyter


def processor_seconds() -> float:
    """Seconds that finished kernels have computed, waiting for other programs not included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def execute(path: Path) -> float:
    """Run one chapter from top to bottom in its own folder; return its seconds.

    On a busy machine the clock goes on while the chapter waits for its turn. The
    processor time then says better how long it takes.
    """
    notebook = nbformat.read(path, as_version=4)
    start, computed = time.perf_counter(), processor_seconds()
    NotebookClient(
        notebook,
        timeout=300,
        startup_timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    seconds = min(time.perf_counter() - start, processor_seconds() - computed)
    clean(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    return seconds


def save_picture(path: Path) -> None:
    """The first picture of the landing page is also the one of the README."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                picture = base64.b64decode(output.data["image/png"])
                (BOOK / "_static" / "landing.png").write_bytes(picture)
                return


def note_seconds(path: Path, seconds: float) -> None:
    """Remember how long a chapter took, in whole seconds, and where.

    A time close to the one on file leaves that one alone: it would differ every time.
    """
    file = BOOK / "seconds.json"
    noted = json.loads(file.read_text()) if file.exists() else {"seconds": {}}
    before = noted["seconds"].get(path.stem)
    if before is None or abs(seconds - before) > max(2, before / 4):
        noted["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
        noted["python"] = platform.python_version()
        noted["seconds"][path.stem] = math.ceil(seconds)
    noted["seconds"] = dict(sorted(noted["seconds"].items()))
    file.write_text(json.dumps(noted, indent=2) + "\n")


def main(names: list[str]) -> None:
    os.environ["WSP_PROGRESS"] = "0"
    os.environ["PYTHONHASHSEED"] = "0"
    paths = [Path(name).resolve() for name in names] or sorted(BOOK.glob("*.ipynb"))
    for path in paths:
        seconds = execute(path)
        note_seconds(path, seconds)
        if path.stem == "index":
            save_picture(path)
        print(f"{path.name}: {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
