"""What several tests share: the built site, a browser, a copy of the tree."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "book" / "_ext"))  # the extensions of the book, as Sphinx finds them
WITHOUT_NETWORK = (["unshare", "--net"], ["unshare", "--map-root-user", "--net"])


class Site(NamedTuple):
    """The book, built for these tests."""

    html: Path  #: the folder that would be published
    log: str  #: what the build printed
    returncode: int
    offline: bool  #: whether it was built in a namespace without a network


def without_network() -> list[str]:
    """The words to put before a command so that it sees no network; [] where impossible."""
    for words in WITHOUT_NETWORK:
        if shutil.which(words[0]) and not subprocess.run([*words, "true"], capture_output=True).returncode:
            return words
    return []


def copy_tree(target: Path) -> Path:
    """Copy what is in the repository, and nothing that was made from it."""
    left_out = shutil.ignore_patterns(
        ".venv", ".git", "_build", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
    )
    return Path(shutil.copytree(ROOT, target, ignore=left_out))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Build the book once, also when several workers ask for it."""
    from filelock import FileLock  # comes with torch

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    html, log, done = folder / "_build" / "html", folder / "build.log", folder / "build.done"
    with FileLock(folder / "build.lock"):
        offline = without_network()
        if not done.exists():
            build = subprocess.run(
                [
                    *offline,
                    Path(sys.executable).with_name("jupyter-book"),
                    "build",
                    str(ROOT),
                    "--path-output",
                    str(folder),
                    "-W",
                    "-n",
                    "--keep-going",
                ],
                cwd=folder,
                env=_environment(),
                capture_output=True,
                text=True,
            )
            log.write_text(build.stdout + build.stderr)
            done.write_text(str(build.returncode))
    return Site(html, log.read_text(), int(done.read_text()), bool(offline))


def _environment() -> dict[str, str]:
    """As on a reader's machine: the module from this tree, no repository known."""
    environment = {key: value for key, value in os.environ.items() if key != "GITHUB_REPOSITORY"}
    return environment | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.fixture
def short_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every arm with a hundredth of its epochs: 10 instead of 1000, 5 instead of 500."""
    from wsp.retraining import ARMS, ARTICLE, CONTROLS

    for arms in (ARMS, ARTICLE, CONTROLS):
        for key, arm in arms.items():
            monkeypatch.setitem(arms, key, dataclasses.replace(arm, epochs=arm.epochs // 100))


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads for PyTorch, however many the machine has."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; skipped where there is none, an error where one is required."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        why = f"no browser found (looked for {', '.join(names)})"
        if os.environ.get("WSP_REQUIRE_BROWSER"):
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    quiet = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=quiet)
        yield chromium
        chromium.close()
