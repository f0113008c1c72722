"""What a user installs: the wheel holds the module and the table, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers import copy_tree


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that no build folder is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = copy_tree(folder / "tree")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [
            *pip,
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--wheel-dir",
            folder / "dist",
            tree,
        ],
        check=True,
    )
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site-packages")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--disable-pip-version-check",
            "--target",
            target,
            wheel,
        ],
        check=True,
    )
    return target


def run(code: str, installed: Path, folder: Path) -> str:
    """Run code far from the source tree, with the installed module alone."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        text=True,
        capture_output=True,
        env={"PYTHONPATH": str(installed), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_the_module_and_the_table(wheel: Path) -> None:
    assert wheel.name.startswith("warm_starts_book-")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert all(name.startswith("wsp/") for name in names)
    # The table, and what `python -m wsp --check` compares with; nothing else of data/.
    assert {name.removeprefix("wsp/tables/") for name in names if Path(name).suffix != ".py"} == {
        "wsp/py.typed",
        "employees_train.csv",
        "employees_test.csv",
        "first_100.pt",
        "results/article.json",
    }


def test_table_loads_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    printed = run(
        "import wsp.lab.employees as e; print(e.__file__);"
        "print(len(e.load_train().labels), len(e.load_test().labels))",
        installed,
        tmp_path,
    )
    file, rows = printed.splitlines()
    assert Path(file).is_relative_to(installed)
    assert rows == "200 40"


def test_import_is_light(installed: Path, tmp_path: Path) -> None:
    """No plotting, no notebook, no GPU is touched by `import wsp`."""
    printed = run(
        "import sys, wsp, torch; print(torch.cuda.is_initialized(),"
        "{'matplotlib', 'seaborn', 'sklearn', 'IPython', 'pandas'} & set(sys.modules))",
        installed,
        tmp_path,
    )
    assert printed.strip() == "False set()"
