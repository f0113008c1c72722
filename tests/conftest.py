"""What several tests share: the built site, a browser, a copy of the tree."""

from __future__ import annotations

import dataclasses
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import ROOT, Site

WITHOUT_NETWORK = (["unshare", "--net"], ["unshare", "--map-root-user", "--net"])


def without_network() -> list[str]:
    """The words to put before a command so that it sees no network; [] where impossible."""
    for words in WITHOUT_NETWORK:
        if shutil.which(words[0]) and not subprocess.run([*words, "true"], capture_output=True).returncode:
            return words
    return []


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
    from wsp.lab.retraining import ARMS, ARTICLE, CONTROLS

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
def transformers() -> Any:
    """The package; skipped where it is not installed, an error where it is required."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # whatever a test builds, it builds without a network
    if os.environ.get("WSP_REQUIRE_TRANSFORMERS"):
        return importlib.import_module("transformers")
    return pytest.importorskip("transformers")


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
