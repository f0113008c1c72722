"""Chapters that run where the book is not: what a published build offers, and the setup cell."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

import launch
from helpers import ROOT, copy_tree

REPOSITORY = "somebody/warm-starts"
PAGE = "# One\n\nA page of a book that somebody else has published.\n"


def setup_code(address: str = f"https://github.com/{REPOSITORY}") -> str:
    return launch.SETUP.format(address=address, branch=launch.BRANCH)


# The published site ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of one notebook and one page, built as the workflow builds: the repository known."""
    return build(tmp_path_factory.mktemp("published"), GITHUB_REPOSITORY=REPOSITORY)


def build(folder: Path, **environment: str) -> Path:
    book = folder / "book"
    book.mkdir()
    shutil.copytree(ROOT / "book" / "_ext", book / "_ext", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book" / "_static", book / "_static")
    shutil.copy(ROOT / "_config.yml", folder)
    shutil.copy(ROOT / "book" / "references.bib", book)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/one\nchapters:\n- file: book/two\n")
    (book / "one.md").write_text(PAGE)
    cells = [nbformat.v4.new_markdown_cell("# Two\n\nA notebook of a book that somebody has published.")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), book / "two.ipynb")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GITHUB_")}
    subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), "build", str(folder)],
        env=kept | environment,
        capture_output=True,
        check=True,
    )
    return folder / "_build" / "html"


def links(page: Path) -> list[str]:
    return [tag["href"] for tag in BeautifulSoup(page.read_text(), "html.parser").find_all("a", href=True)]


def test_a_published_notebook_offers_to_run(published: Path) -> None:
    found = links(published / "book" / "two.html")
    notebook = f"{REPOSITORY}/blob/{launch.BRANCH}/book/two.ipynb"
    assert f"https://colab.research.google.com/github/{notebook}" in found
    binder = f"https://mybinder.org/v2/gh/{REPOSITORY}/{launch.BRANCH}?urlpath=lab/tree/book/two.ipynb"
    assert binder in found
    assert "../_sources/book/two.ipynb" in found  # the download
    assert not any("colab" in link or "binder" in link for link in links(published / "book" / "one.html"))


def test_an_error_can_be_reported(published: Path) -> None:
    for name in ("one", "two"):
        found = links(published / "book" / f"{name}.html")
        assert f"https://github.com/{REPOSITORY}/issues/new" in found


def test_a_published_download_brings_its_setup(published: Path) -> None:
    first = nbformat.read(published / "_sources" / "book" / "two.ipynb", as_version=4).cells[0]
    assert first.source == setup_code()
    assert "find_spec" not in (published / "book" / "two.html").read_text(), "the page does not show it"


def test_a_local_build_offers_nothing_dead(tmp_path: Path) -> None:
    html = build(tmp_path)
    found = links(html / "book" / "two.html")
    assert "../_sources/book/two.ipynb" in found
    assert [link for link in found if any(w in link for w in ("colab", "binder", "github", "issues"))] == []
    assert len(nbformat.read(html / "_sources" / "book" / "two.ipynb", as_version=4).cells) == 1


# The setup cell --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def branch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the branch `launch`, made as the workflow makes it."""
    tree = copy_tree(tmp_path_factory.mktemp("repository") / "warm-starts")
    subprocess.run([sys.executable, "book/_ext/launch.py", REPOSITORY], cwd=tree, check=True)
    me = ["-c", "user.name=A test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q", "-b", launch.BRANCH], ["add", "-A"], ["commit", "-q", "-m", "Launch"]):
        subprocess.run(["git", *me, *words], cwd=tree, check=True)
    return tree


def run_without_the_book(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run in a Python that has every package of this one except for `wsp`.

    An editable install is a .pth file, which Python heeds in its own site-packages alone.
    """
    import torch

    if Path(importlib.util.find_spec("wsp").origin).is_relative_to(sys.prefix):  # type: ignore[union-attr, arg-type]
        pytest.skip("wsp is installed as a copy; here it could not be missed")
    path = Path(torch.__file__).parent.parent
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [sys._base_executable, "-c", code],  # type: ignore[attr-defined]
        cwd=folder,
        env=kept | {"PYTHONPATH": str(path), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )


def test_the_cell_is_needed(tmp_path: Path) -> None:
    run = run_without_the_book("import torch, wsp", tmp_path)
    assert "No module named 'wsp'" in run.stderr


def test_a_chapter_runs_where_the_book_is_not(branch: Path, tmp_path: Path) -> None:
    """Chapter 2 from the branch, all of its cells one after the other, in an empty folder."""
    notebook = nbformat.read(branch / "book" / "02_employees.ipynb", as_version=4)
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert codes[0] == setup_code()
    code = "\n".join([codes[0].replace(f"https://github.com/{REPOSITORY}", branch.as_uri()), *codes[1:]])
    after = "import torch, wsp, os; print('ran', torch.__version__, wsp.__file__, os.getcwd())"
    run = run_without_the_book(f"{code}\n{after}", tmp_path)
    assert run.returncode == 0, run.stderr
    import torch

    clone = tmp_path / "warm-starts"
    version, module, folder = run.stdout.splitlines()[-1].split()[1:]
    assert version == torch.__version__
    assert Path(module) == clone / "wsp" / "__init__.py"
    assert Path(folder) == clone / "book"


def test_the_cell_does_nothing_where_the_book_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: pytest.fail(f"ran {words}"))
    exec(setup_code(), {})
    assert sys.path == path and Path.cwd() == tmp_path and list(tmp_path.iterdir()) == []


def test_the_cell_installs_what_is_missing_and_never_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[list[str]] = []
    found = importlib.util.find_spec
    away = {"wsp", "torch", "myst_nb", "seaborn"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in away else found(name))
    monkeypatch.setattr(subprocess, "run", lambda words, **options: ran.append(words))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    (tmp_path / "warm-starts" / "book").mkdir(parents=True)  # fetched already
    monkeypatch.chdir(tmp_path)
    exec(setup_code(), {})
    assert [words[-2:] for words in ran] == [["myst-nb", "seaborn"]]
    assert sys.path[0] == str(tmp_path / "warm-starts")


def test_the_cell_brings_what_chapters_import() -> None:
    """Every package that a chapter or the module imports is torch's, a notebook service's, or named."""
    services_have = {"torch", "numpy", "scipy", "pandas", "matplotlib", "PIL", "IPython"}
    optional = {"numba", "llvmlite"}  # without them many networks train more slowly
    named = set(SETUP_PACKAGES)
    for path in [*sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb")), *sorted((ROOT / "wsp").rglob("*.py"))]:
        for module in imported(path):
            if module in sys.stdlib_module_names or module == "wsp":
                continue
            assert module in services_have | named | optional, f"{path.name} imports {module}"


SETUP_PACKAGES: dict[str, str] = eval(setup_code().split("packages = ")[1].split("}")[0] + "}")


def imported(path: Path) -> set[str]:
    if path.suffix == ".py":
        code = path.read_text()
    else:
        cells = json.loads(path.read_text())["cells"]
        lines = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code")
        code = "\n".join(line for line in lines.splitlines() if not line.lstrip().startswith(("%", "!")))
    found = set()
    # Imports inside functions are for what only some readers use, such as another library's data.
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_adding_the_cell_twice_adds_it_once() -> None:
    notebook: dict[str, Any] = {"cells": [{"id": "a", "cell_type": "markdown"}], "metadata": {}}
    once = launch.with_setup(notebook, REPOSITORY)
    assert launch.with_setup(once, REPOSITORY) == once
    assert [cell["id"] for cell in once["cells"]] == [launch.ID, "a"]


# The workflow ----------------------------------------------------------------------------

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
JOBS = WORKFLOW["jobs"]


def test_the_browser_tests_are_a_job_of_their_own() -> None:
    """A missing browser must not hide red notebooks, nor the other way round; both must be green."""
    steps = [step for step in JOBS["browser"]["steps"] if "pytest" in step.get("run", "")]
    assert [step["env"]["WSP_REQUIRE_BROWSER"] for step in steps] == ["1"]
    with_browser = {
        path.name for path in (ROOT / "tests").rglob("test_*.py") if "browser" in path.read_text()
    }
    with_browser -= {Path(__file__).name}
    assert set(re.findall(r"test_\w+\.py", steps[0]["run"])) == with_browser
    assert any(step.get("run") == "make test" for step in JOBS["book"]["steps"])
    assert {"book", "browser"} <= set(JOBS["publish"]["needs"])


REST = ("wsp.lab", "wsp.studies", "wsp.__main__", "wsp._commands")  # what needs more than PyTorch


def test_the_module_is_tested_by_all_tests_that_need_nothing_else() -> None:
    """A file that is new, moved or renamed is in the variable, or the jobs would leave it out."""
    found = {path for word in WORKFLOW["env"]["MODULE"].split() for path in ROOT.glob(word)}
    trick = {ROOT / "wsp" / "perturb.py", ROOT / "wsp" / "checkpoints.py"}
    assert found == trick | {
        path
        for path in (ROOT / "tests" / "core").rglob("test_*.py")
        if (names := wsp_modules(path.read_text())) and not any(name.startswith(REST) for name in names)
    }
    rows = {row["name"]: row for row in JOBS["module"]["strategy"]["matrix"]["include"]}
    assert [name for name, row in rows.items() if row.get("may_fail")] == ["newest PyTorch"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = next(needed for needed in project["dependencies"] if needed.startswith("torch>="))
    assert rows["oldest PyTorch"]["torch"] == oldest.replace(">=", "==") + ".0"
    assert "module" in JOBS["publish"]["needs"]


def wsp_modules(code: str) -> set[str]:
    """The modules of wsp that a file imports when it is imported."""
    names = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name for name in names if name.partition(".")[0] == "wsp"}


def test_a_missing_package_is_an_error_where_everything_is_installed() -> None:
    """Neither the workflow nor .ci/run may skip what a reader without it may skip."""
    steps = [step for step in JOBS["book"]["steps"] if step.get("run") == "make test"]
    assert [step["env"]["WSP_REQUIRE_TRANSFORMERS"] for step in steps] == ["1"]
    script = (ROOT / ".ci" / "run").read_text()
    assert "WSP_REQUIRE_BROWSER=1 WSP_REQUIRE_TRANSFORMERS=1 make test" in script


def test_the_workflow_moves_the_branch(branch: Path, tmp_path: Path) -> None:
    """The step that publishes the notebooks, run as it stands, against a repository of our own."""
    step = next(step["run"] for step in JOBS["publish"]["steps"] if "launch.py" in step.get("run", ""))
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--bare", branch, origin], check=True)
    subprocess.run(["git", "-C", origin, "branch", "-q", "-m", launch.BRANCH, "main"], check=True)
    subprocess.run(["git", "clone", "-q", origin, clone], check=True)
    changes = {"GITHUB_REPOSITORY": "another/name", "GITHUB_SHA": "0" * 40}
    subprocess.run(["bash", "-euo", "pipefail", "-c", step], cwd=clone, env=os.environ | changes, check=True)
    words = ["git", "-C", origin, "show", f"{launch.BRANCH}:book/01_retrain.ipynb"]
    cells = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)["cells"]
    assert "".join(cells[0]["source"]) == setup_code("https://github.com/another/name")
    assert [cell["id"] for cell in cells].count(launch.ID) == 1


def test_binder_brings_what_the_module_needs() -> None:
    """Binder makes its environment of .binder/, with the CPU build of PyTorch."""
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())
    names = {spec.split("=")[0].split(">")[0].split("<")[0] for spec in environment["dependencies"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {requirement.split(">")[0] for requirement in project["dependencies"]} - {"torch"}
    assert "pytorch-cpu" in names and needed <= names
    assert (ROOT / ".binder" / "postBuild").stat().st_mode & 0o111, "Binder runs it"
