"""The notebooks that a reader fills in: they run as they stand, and filled in, and are no chapters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from helpers import ROOT

TEMPLATES = sorted((ROOT / "book" / "templates").glob("*.ipynb"))
YOUR_DATA = ROOT / "book" / "templates" / "your_data.ipynb"
ENVIRONMENT = {"WSP_PROGRESS": "0", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def sources(path: Path) -> dict[str, str]:
    """The code cells by their ids."""
    return {cell.id: cell.source for cell in read(path).cells if cell.cell_type == "code"}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | ENVIRONMENT)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom_with_no_edits(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a reader would press it, in a folder of its own."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND")  # the kernel draws inline
    notebook = read(path)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    for place, found in outputs.items():
        assert not [o for o in found if o.get("name") == "stderr"], (place, found)
    said = "".join(o.get("text", "") for found in outputs.values() for o in found)
    assert "new rows held out" in said and ("CANNOT TELL" in said or "told apart" in said)
    assert "test rows, retrained from" in said and "difference" in said
    assert any("image/png" in o.get("data", {}) for o in outputs["plot-code"])
    assert [p.name for p in tmp_path.iterdir()] == ["retrained.pt"]


FILLED_IN = {
    "data-code": """
from sklearn.datasets import load_diabetes
found = load_diabetes()
inputs = torch.from_numpy(found.data).float() * 20
labels = torch.from_numpy(found.target).float() / 100
def rows(first, last):
    return Table(inputs[first:last], labels[first:last])
old_rows, new_rows, test_rows = rows(0, 150), rows(150, 300), rows(300, 442)
from wsp.lab.choose import squared_error as SCORE
""",
    "network-code": """
def build():
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
""",
    "training-code": """
EPOCHS = 10
def train(network, rows, order):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    while True:
        for batch in torch.randperm(len(rows.labels), generator=order).split(32):
            loss = nn.functional.mse_loss(network(rows.inputs[batch])[:, 0], rows.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield
""",
}


def test_runs_filled_in_for_regression(tmp_path: Path) -> None:
    """Only cells that say FILL IN are changed."""
    notebook = read(YOUR_DATA)
    asked = {
        after.id
        for before, after in zip(notebook.cells, notebook.cells[1:])
        if before.cell_type == "markdown" and "(FILL IN)" in before.source.splitlines()[0]
    }
    assert set(FILLED_IN) <= asked
    code = "\n\n".join((sources(YOUR_DATA) | FILLED_IN).values())
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "on 150 new rows held out" in done.stdout and "on 142 test rows" in done.stdout


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_is_as_a_reader_wants_it(path: Path) -> None:
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is None and not cell.outputs, "nothing of ours is stored"
            lines = cell.source.splitlines()
            assert len(lines) <= 25 and max(map(len, lines)) <= 110, cell.id


def test_is_no_chapter() -> None:
    """Neither built as a page nor compared by nbval, which would store the outputs of one machine."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    assert "templates" not in str(toc)
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["only_build_toc_files"] is True
    done = run("-m", "pytest", "--nbval", "--nbval-current-env", "--collect-only", "-q", "book", cwd=ROOT)
    assert "13_your_own_model" in done.stdout and "your_data" not in done.stdout
