"""Stored results: whole or not at all, and with where they come from."""

from __future__ import annotations

import datetime
import json
import os
import stat
from pathlib import Path

import pytest
import torch

from wsp import results
from wsp.results import code_hash, load_json, provenance, save_json, stored


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
    monkeypatch.setattr(results, "__file__", str(tmp_path / "results.py"))
    room = tmp_path / "room.py"

    def of(text: str) -> str:
        room.write_text(text)
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
    assert code_hash(["room", "other"]) != code_hash(["room"])


def test_provenance() -> None:
    found = provenance("python -m wsp sweep --seeds 3", ["training", "network"], 1.26)
    assert found["command"] == "python -m wsp sweep --seeds 3"
    assert found["modules"] == ["network", "training"]
    assert found["code"] == code_hash(["network", "training"])
    assert found["torch"] == torch.__version__
    assert (found["device"], found["seconds"]) == ("cpu", 1.3)
    assert found["processor"]
    assert datetime.date.fromisoformat(found["date"]) <= datetime.date.today()
    assert json.loads(json.dumps(found)) == found
