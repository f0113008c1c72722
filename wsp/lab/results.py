"""Stored results: written whole or not at all, with where they come from."""

from __future__ import annotations

import ast
import datetime
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch

from wsp.lab.employees import find


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that neither a reader nor a crash nor a full disk meets half of it.

    Raises
    ------
    OSError
        If it cannot be written. Then `path` is as it was, and nothing is left beside it.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "answer.txt"
    >>> write_whole(path, b"42")
    >>> path.read_text()
    '42'
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe, or /dev/null: nothing to take the place of
        path.write_bytes(content)
        return
    part = path.with_name(f".{path.name}.part")  # one name: what a kill leaves, the next call takes over
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name without the new content
        os.replace(part, path)
    except OSError as error:
        kept = "; the file is kept as it was" if path.is_file() else ""
        raise OSError(f"{path}: could not be written ({error.strerror or error}){kept}") from error
    finally:
        part.unlink(missing_ok=True)


def save_json(path: str | Path, content: Any) -> None:
    """Write JSON to `path`, whole or not at all (:func:`write_whole`).

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> save_json(folder / "answer.json", {"answer": 42})
    >>> load_json(folder / "answer.json")
    {'answer': 42}
    """
    write_whole(path, (json.dumps(content, separators=(",", ":")) + "\n").encode())


def load_json(path: str | Path) -> Any:
    """Read JSON from `path`; ``ValueError`` if the file is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, "[" * 100000
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


ROOT = Path(__file__).parents[2]  # of the package


def modules_of(*modules: str) -> list[str]:
    """All modules of ``wsp`` that these can reach by their imports, themselves included.

    Examples
    --------
    >>> modules_of("wsp.lab.employees")
    ['wsp.lab.employees']
    """
    found: set[str] = set()
    left = list(modules)
    while left:
        name = left.pop()
        path = _path(name)
        if name not in found and path.is_file():
            found.add(name)
            left += _imports(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py")
    return sorted(name for name in found if _path(name).name != "__init__.py")


def _path(module: str) -> Path:
    """The file of a module or package."""
    place = ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _imports(tree: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    """What a module imports of ``wsp``, wherever in it; names that are no modules among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level or None] if node.level else []
            if node.level and is_package:
                above = name.split(".")[: 1 - node.level or None]
            source = ".".join([*above, *([node.module] if node.module else [])])
            imported = [source, *(f"{source}.{alias.name}" for alias in node.names)]
        else:
            continue
        for each in imported:
            parts = each.split(".")
            if parts[0] == name.split(".")[0]:  # importing a.b.c runs a and a.b as well
                yield from (".".join(parts[:k]) for k in range(1, len(parts) + 1))


def code_hash(modules: Iterable[str]) -> str:
    """A short hash of what these modules do.

    Comments, docstrings and layout do not count: mending a sentence does not
    make a stored result unverified.

    Examples
    --------
    >>> len(code_hash(["wsp.lab.network", "wsp.lab.training"]))
    12
    """
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update(_code_of(module))
    return digest.hexdigest()[:12]


@cache  # what runs is what was there when it was imported
def _code_of(module: str) -> bytes:
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                line
                for line in body
                if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            ]
    return ast.dump(tree).encode()


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
    >>> first = provenance("python -m wsp", ["wsp.perturb"], seconds=1.0)
    >>> "earlier_code" in provenance("python -m wsp", ["wsp.perturb"], seconds=2.0, before=first)
    False
    >>> other = provenance("python -m wsp", ["wsp.lab.network"], seconds=2.0, before=first)
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
