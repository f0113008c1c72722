"""Stored results: written whole or not at all, with where they come from."""

from __future__ import annotations

import ast
import datetime
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy
import torch

from wsp.employees import find


def save_json(path: str | Path, content: Any) -> None:
    """Write JSON to `path`, so that a reader or a crash never meets half a file.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> save_json(folder / "answer.json", {"answer": 42})
    >>> load_json(folder / "answer.json")
    {'answer': 42}
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(json.dumps(content, separators=(",", ":")) + "\n")
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def load_json(path: str | Path) -> Any:
    """Read JSON from `path`; ``ValueError`` if the file is damaged."""
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError alike
        raise ValueError(f"{path}: not a JSON file, perhaps cut short ({error})") from None


def stored(name: str) -> Any:
    """The book's stored result ``data/results/NAME.json``.

    Raises
    ------
    FileNotFoundError
        If there is none: most stored results stay in the repository, not in the wheel.
    """
    path = find(f"results/{name}.json")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such stored result; the book's repository holds them in data/results/"
        )
    return load_json(path)


def code_hash(modules: Iterable[str]) -> str:
    """A short hash of what these modules of ``wsp`` do.

    Comments, docstrings and layout do not count: mending a sentence does not
    make a stored result stale.

    Examples
    --------
    >>> len(code_hash(["network", "training"]))
    12
    """
    digest = hashlib.sha256()
    for module in modules:
        tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [  # type: ignore[attr-defined]
                    line
                    for line in body
                    if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
                ]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def made_by_todays_code(made: Mapping[str, Any]) -> bool:
    """Whether all parts of a result come from what its modules do today.

    Examples
    --------
    >>> made_by_todays_code(provenance("python -m wsp", ["network"], seconds=1.0))
    True
    """
    return bool(code_hash(made["modules"]) == made["code"]) and not made.get("earlier_code")


def processor() -> str:
    """The name of this machine's processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def provenance(
    command: str,
    modules: Iterable[str],
    seconds: float,
    device: str = "cpu",
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What made a result: command, code, versions, machine, time, date.

    Where a run goes on from what another left, `before` is the provenance of that
    one. Hashes of code that made earlier parts are then kept as ``earlier_code``.

    Examples
    --------
    >>> first = provenance("python -m wsp", ["network"], seconds=1.0)
    >>> "earlier_code" in provenance("python -m wsp", ["network"], seconds=2.0, before=first)
    False
    >>> other = provenance("python -m wsp", ["training"], seconds=2.0, before=first)
    >>> other["earlier_code"] == [first["code"]]
    True
    """
    modules = sorted(modules)
    code = code_hash(modules)
    earlier = set() if before is None else {before["code"], *before.get("earlier_code", [])} - {code}
    where = torch.cuda.get_device_name() if device.startswith("cuda") else processor()
    return {
        "command": command,
        "modules": modules,
        "code": code,
        **({"earlier_code": sorted(earlier)} if earlier else {}),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "device": device,
        "processor": where,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "date": datetime.date.today().isoformat(),
    }
