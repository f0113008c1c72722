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
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# Cell metadata that a person wrote; editors add the rest and change it every time.
KEPT = {"tags", "mystnb", "jupyter"}


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs between machines and editors, so that diffs show changes."""
    notebook.metadata = nbformat.NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT}
        cell["id"] = cell.get("id") or f"cell-{number}"


def execute(path: Path) -> float:
    """Run one chapter from top to bottom in its own folder; return its seconds."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=300,
        startup_timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    seconds = time.perf_counter() - start
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


def note_seconds(chapter: str, seconds: float) -> None:
    """Remember how long a chapter took, in whole seconds, and where.

    A time close to the one on file leaves the file alone: it would differ every time.
    """
    path = BOOK / "seconds.json"
    noted = json.loads(path.read_text()) if path.exists() else {"seconds": {}}
    before = noted["seconds"].get(chapter)
    if before is not None and abs(seconds - before) <= max(2, before / 4):
        return
    noted["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    noted["python"] = platform.python_version()
    noted["seconds"][chapter] = math.ceil(seconds)
    noted["seconds"] = dict(sorted(noted["seconds"].items()))
    path.write_text(json.dumps(noted, indent=2) + "\n")


def main(names: list[str]) -> None:
    os.environ["WSP_PROGRESS"] = "0"
    os.environ["PYTHONHASHSEED"] = "0"
    paths = [Path(name).resolve() for name in names] or sorted(BOOK.glob("*.ipynb"))
    for path in paths:
        seconds = execute(path)
        note_seconds(path.stem, seconds)
        if path.stem == "index":
            save_picture(path)
        print(f"{path.name}: {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
