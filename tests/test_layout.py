"""The house: who may import whom, how long a file may be, and nothing private across files."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from helpers import ROOT

WSP = ROOT / "wsp"
FILES = sorted(WSP.rglob("*.py"))
LONGEST = 400  # lines
ROOMS = 24  # files a package
# A study that builds on another's: it must say so here.
BUILDS_ON = {
    "compound": {"grid"},
    "judge": {"grid"},
    "landscape": {"grid"},
    "stopped": {"protocols"},
    "temperature": {"protocols"},
}
SHARED = {"engine", "parts", "catalog", "tables"}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Modules of `wsp` that a file imports, by their full names; and other top-level names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            assert node.module is not None
            for alias in node.names:
                inner = ROOT.joinpath(*node.module.split("."), f"{alias.name}.py")
                found.add(f"{node.module}.{alias.name}" if inner.is_file() else node.module)
    return found


def package(name: str) -> str:
    return ".".join(name.split(".")[:2]) if name.startswith(("wsp.lab", "wsp.studies")) else "wsp"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_package_imports_what_it_may(path: Path) -> None:
    name = module(path)
    allowed = {
        "wsp": {"wsp"},
        "wsp.lab": {"wsp", "wsp.lab"},
        "wsp.studies": {"wsp", "wsp.lab", "wsp.studies"},
    }[package(name)]
    if name == "wsp.__main__":
        allowed = {"wsp", "wsp.lab"}
    inner = {each for each in imports(path) if each.split(".")[0] == "wsp"}
    assert {package(each) for each in inner} <= allowed
    assert "wsp.lab.figures" not in inner or name.startswith("wsp.lab.figures"), "only chapters draw"


@pytest.mark.parametrize("path", sorted(WSP.glob("*.py")), ids=module)
def test_the_trick_needs_torch_alone(path: Path) -> None:
    """safetensors, where such a file is read, is imported inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    outside = {"torch", "wsp", "__future__"}
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        tops = {each.split(".")[0] for each in names} - set(sys.stdlib_module_names)
        assert tops <= outside, f"{module(path)} imports {tops - outside}"


@pytest.mark.parametrize("path", sorted((WSP / "studies").glob("*.py")), ids=module)
def test_a_study_builds_on_another_only_from_the_list(path: Path) -> None:
    if path.stem in SHARED | {"__main__", "__init__"}:
        return
    used = {each.split(".")[2] for each in imports(path) if each.startswith("wsp.studies.")} - SHARED
    assert used <= BUILDS_ON.get(path.stem, set())


@pytest.mark.parametrize("path", FILES, ids=module)
def test_nothing_private_crosses_a_file(path: Path) -> None:
    """A module with an underscore may be imported by its own package; a name with one by nobody."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "wsp":
            for alias in node.names:
                is_module = ROOT.joinpath(*str(node.module).split("."), f"{alias.name}.py").is_file()
                assert is_module or not alias.name.startswith("_"), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_is_one_subject(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("folder", [WSP, WSP / "lab", WSP / "studies"], ids=lambda path: path.name)
def test_a_package_is_a_dozen_rooms_or_so(folder: Path) -> None:
    doors = {"__init__", "__main__"}
    assert len([path for path in folder.glob("*.py") if path.stem not in doors]) <= ROOMS
