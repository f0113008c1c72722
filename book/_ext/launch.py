"""Running the chapters elsewhere, where the book's repository is known.

A published build finds its repository in ``GITHUB_REPOSITORY``. Its pages then offer
Colab and Binder, and a link to report an error; a local build has none of these.

Colab opens one notebook and nothing around it, so the notebooks on the branch `launch`
have one more cell, the first, which fetches the rest of the book where the module is
missing. So have the notebooks that the published pages offer for download. The workflow
makes that branch: ``python book/_ext/launch.py OWNER/REPOSITORY`` adds the cell to the
notebooks of book/, in place. Those on the main branch, which the tests run, stay without.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

BRANCH = "launch"
ID = "setup"
SETUP = """\
# Fetch what this chapter imports. On a machine that has the book this does nothing.
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("wsp") is None:
    if not os.path.exists("warm-starts"):
        subprocess.run(["git", "clone", "--quiet", "--depth=1", "--branch={branch}",
                        "{address}", "warm-starts"], check=True)
    os.environ["PYTHONPATH"] = os.path.abspath("warm-starts")  # for processes that a cell starts
    sys.path.insert(0, os.environ["PYTHONPATH"])
    os.chdir("warm-starts/book")
    packages = {{"myst_nb": "myst-nb", "safetensors": "safetensors", "seaborn": "seaborn",
                "sklearn": "scikit-learn", "tqdm": "tqdm"}}
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if missing:  # never torch: a notebook service brings its own, with its graphics card
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
"""


def address_of(repository: str) -> str:
    return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}"


def with_setup(notebook: dict[str, Any], repository: str) -> dict[str, Any]:
    """The notebook with the setup cell before all others."""
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": ID,
        "metadata": {"tags": ["remove-cell"]},
        "outputs": [],
        "source": SETUP.format(address=address_of(repository), branch=BRANCH).splitlines(keepends=True),
    }
    others = [other for other in notebook["cells"] if other.get("id") != ID]
    return notebook | {"cells": [cell, *others]}


def add_setup(folder: Path, repository: str) -> None:
    """Add the setup cell to every notebook of a folder, in place."""
    for path in sorted(folder.glob("*.ipynb")):
        notebook = with_setup(json.loads(path.read_text()), repository)
        path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n")


def offer_launch(app: Any, config: Any) -> None:
    """Link to the repository, and launch from its branch, where a build knows it."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if not repository:
        return
    config.html_theme_options.update(
        repository_url=address_of(repository),
        repository_branch=BRANCH,
        use_repository_button=True,
        use_issues_button=True,
        launch_buttons={
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
    )
    config.html_theme_options["extra_footer"] += (
        f' <a href="{address_of(repository)}/issues/new">Report an error</a>.'
    )


def offer_download(app: Any, exception: Exception | None) -> None:
    """Let the notebooks that the pages offer for download run by themselves."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if repository and exception is None and app.builder.format == "html":
        add_setup(Path(app.outdir, "_sources", "book"), repository)


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", offer_launch)
    app.connect("build-finished", offer_download)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    if len(sys.argv) != 2 or "/" not in sys.argv[1]:
        sys.exit(__doc__)
    add_setup(Path(__file__).resolve().parent.parent, sys.argv[1])
