"""What tests import of each other: where the tree is, a copy of it, the built site."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Site(NamedTuple):
    """The book, built for these tests."""

    html: Path  #: the folder that would be published
    log: str  #: what the build printed
    returncode: int
    offline: bool  #: whether it was built in a namespace without a network


def copy_tree(target: Path) -> Path:
    """Copy what is in the repository, and nothing that was made from it."""
    left_out = shutil.ignore_patterns(
        ".venv*", ".git", "_build", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
    )
    return Path(shutil.copytree(ROOT, target, ignore=left_out))
