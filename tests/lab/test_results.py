"""Stored results: whole or not at all, and with where they come from."""

from __future__ import annotations

import datetime
import json
import os
import stat
from pathlib import Path

import pytest
import torch

from wsp.lab import results
from wsp.lab.results import code_hash, load_json, modules_of, provenance, save_json, stored, write_whole


def test_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "answer.json"
    content = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    save_json(path, content)
    assert load_json(path) == load_json(str(path)) == content
    assert path.read_text().endswith("}\n")
    save_json(path, [])
    assert load_json(path) == []


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answer.json"
    save_json(path, {"answer": 42})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_json(path, {"answer": object()})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(results.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_json(path, {"answer": 43})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(results.os, name, lambda *a, name=name, real=real: (done.append(name), real(*a)))
    write_whole(tmp_path / "answer", b"42")
    assert done == ["fsync", "replace"] and (tmp_path / "answer").read_bytes() == b"42"


@pytest.mark.skipif(os.name != "posix", reason="a device as POSIX has it")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"42")
    assert os.read(reader, 9) == b"42" and stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)
    with pytest.raises(OSError):
        write_whole(tmp_path, b"42")


def test_an_interrupt_just_after_the_file_is_in_place_stays_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def interrupted(source: str, target: Path) -> None:
        replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(results.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_json(tmp_path / "answer.json", 42)
    assert load_json(tmp_path / "answer.json") == 42


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_others_may_read_it(tmp_path: Path) -> None:
    """A result is read by more people than the one who computed it."""
    (tmp_path / "ordinary").touch()
    save_json(tmp_path / "answer.json", 42)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "answer.json")}
    assert len(modes) == 1


@pytest.mark.parametrize("content", [b"", b'{"a": [1, 2', b"\xff\xfe\x00", b"no json", b'{"a": 1} {"b": 2}'])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as refused:
        load_json(path)
    assert str(refused.value).startswith(f"{path}: not a JSON file, perhaps cut short (")
    assert "\n" not in str(refused.value)


def test_stored_names_what_is_missing() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"results/nothing\.json: no such stored result; .* data/results/"
    ):
        stored("nothing")


def test_code_hash_follows_the_code_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    room = tmp_path / "room.py"

    def of(text: str) -> str:
        room.write_text(text)
        results._code_of.cache_clear()
        return code_hash(["room"])

    plain = of("def f(x):\n    return x + 1\n")
    assert plain == of(
        '"""A text."""\n\n\ndef f(x):  # why\n    """More."""\n\n    return (x\n        + 1)\n'
    )
    others = {of(f"def f(x):\n    return x {change}\n") for change in ("+ 2", "- 1", "+ y")}
    others.add(of("def g(x):\n    return x + 1\n"))
    others.add(of("def f(x):\n    'kept, since used'.strip()\n    return x + 1\n"))
    assert len(others) == 5 and plain not in others

    (tmp_path / "other.py").write_text("a = 1\n")
    assert code_hash(["room", "other"]) == code_hash(["other", "room"]) != code_hash(["room"])
    results._code_of.cache_clear()


@pytest.mark.parametrize(
    "line",
    [
        "import house.cellar.wine",
        "import os, house.cellar.wine as w",
        "from house.cellar import wine",
        "from house.cellar.wine import red",
        "from .cellar import wine",
        "from .cellar.wine import red",
        "def later():\n    from house.cellar import wine",
    ],
)
def test_every_kind_of_import_is_followed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    for name, text in {
        "__init__": "",
        "hall": line,
        "attic": "",
        "cellar/__init__": "from . import stairs",
        "cellar/stairs": "from ..attic import box",
        "cellar/wine": "import numpy",
        "cellar/coal": "",
    }.items():
        path = tmp_path / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    cellar = ["house.attic", "house.cellar.stairs", "house.cellar.wine"]
    assert modules_of("house.hall") == sorted([*cellar, "house.hall"])
    assert modules_of("house.attic") == ["house.attic"]


def test_provenance() -> None:
    found = provenance("python -m wsp sweep --seeds 3", ["wsp.lab.training", "wsp.lab.network"], 1.26)
    assert found["command"] == "python -m wsp sweep --seeds 3"
    assert found["modules"] == ["wsp.lab.network", "wsp.lab.training"]
    assert found["code"] == code_hash(["wsp.lab.network", "wsp.lab.training"])
    assert found["torch"] == torch.__version__
    assert (found["device"], found["seconds"]) == ("cpu", 1.3)
    assert found["processor"]
    assert datetime.date.fromisoformat(found["date"]) <= datetime.date.today()
    assert json.loads(json.dumps(found)) == found
