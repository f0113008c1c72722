"""The engine on a toy study: stopped, killed, spread out or damaged, it loses nothing, and says so."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import STUDY, Toy

from helpers import ROOT
from wsp.lab import results
from wsp.lab.results import load_json, save_json
from wsp.studies import engine
from wsp.studies.engine import check, in_threads, run
from wsp.studies.parts import Content

TOY = Path(__file__).with_name("toy.py")


def numbers_of(content: Content) -> Content:
    """All of a result but where it comes from."""
    return {key: value for key, value in content.items() if key != "provenance"}


@pytest.fixture
def spec() -> Content:
    return STUDY.specification()


# ---------------------------------------------------------------- whole, in parts, gone on with


@pytest.mark.usefixtures("two_threads")
def test_all_at_once(spec: Content, tmp_path: Path) -> None:
    found = run(STUDY, spec, tmp_path / "new" / "toy.json", command="python toy.py toy")
    assert found["numbers"] == [0, 1, 2, 3, 4] and found["squares"] == [0, 1, 4, 9, 16]
    assert found["at"]["total"] == [30, 100] and found["names"] == ["square", "cube"]
    assert load_json(tmp_path / "new" / "toy.json") == found
    made = found["provenance"]
    assert made["command"] == "python toy.py toy" and made["threads"] == 2
    assert "earlier_code" not in made and made["code"] and made["seconds"] >= 0


def test_it_goes_on_with_what_is_left_and_no_more(spec: Content, tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    whole = run(STUDY, spec)
    run(STUDY, spec, out, units=[3, 0])
    met: list[int] = []

    class Watched(Toy):
        def work(self, spec: Any, units: Any, tick: Any, device: str) -> Iterator[Content]:
            met.extend(units)
            return super().work(spec, units, tick, device)

    assert numbers_of(run(Watched(), spec, out)) == numbers_of(whole)
    assert sorted(met) == [1, 2, 4]
    before = out.read_bytes()
    assert numbers_of(run(STUDY, spec, out)) == numbers_of(whole)
    assert out.read_bytes() == before, "nothing was left to do"


def test_other_code_of_earlier_parts_is_noted(spec: Content, tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    begun = run(STUDY, spec, out, units=[0])
    begun["provenance"]["code"] = "0" * 12
    save_json(out, begun)
    assert run(STUDY, spec, out)["provenance"]["earlier_code"] == ["0" * 12]


def test_units_that_are_known_only_later(spec: Content, tmp_path: Path) -> None:
    found = run(STUDY, spec, tmp_path / "toy.json", more=2)
    assert found["numbers"] == [0, 1, 2, 3, 4, 5, 6] == load_json(tmp_path / "toy.json")["numbers"]


def test_what_is_said_at_the_end_is_stored(spec: Content, tmp_path: Path) -> None:
    class Finished(Toy):
        def finish(self, spec: Content, content: Content) -> Content:
            return content | {"largest": max(content["squares"])}

        def merge(self, parts: Any) -> Content:
            return super().merge([{key: part[key] for key in part if key != "largest"} for part in parts])

        def missing(self, content: Content) -> list[str]:
            return super().missing({key: content[key] for key in content if key != "largest"})

    out = tmp_path / "toy.json"
    assert run(Finished(), spec, out)["largest"] == load_json(out)["largest"] == 16
    assert "largest" not in run(Finished(), spec, units=[0])
    before = out.read_bytes()
    assert run(Finished(), spec, out)["largest"] == 16 and out.read_bytes() == before


def test_no_units_is_an_error(spec: Content) -> None:
    with pytest.raises(ValueError, match="toy: no units"):
        run(STUDY, spec, units=[])


# ---------------------------------------------------------------- files that will not do


def damage(content: Content) -> Iterator[tuple[str, object]]:
    """What may be in a file, and what must be said of it."""
    yield "holds no result of toy", []
    yield "holds no result of toy", 7
    yield "holds no result of toy", {}
    yield "holds no result of toy", {"specification": {}, "provenance": {}}
    yield "holds no result of toy", content | {"specification": ["wsp toy 1"]}
    yield "holds no result of toy", content | {"provenance": None}
    yield "power 3, not 2", content | {"specification": content["specification"] | {"power": 3}}
    yield "count 9, not 5", content | {"specification": content["specification"] | {"count": 9}}
    yield "squares: 4 of 5 entries", content | {"squares": content["squares"][1:]}
    yield "squares: no list", content | {"squares": 3}
    yield "numbers", {key: content[key] for key in content if key != "numbers"}
    yield "damaged", content | {"numbers": None}
    yield "code", content | {"provenance": {"seconds": 1.0}}
    yield "seconds", content | {"provenance": {"code": "0" * 12}}
    yield "damaged", content | {"provenance": {"code": "0" * 12, "seconds": "long"}}
    yield "damaged", content | {"provenance": {"code": 3, "seconds": 1.0}}


@pytest.mark.parametrize("number", range(16))
def test_a_file_that_will_not_do_is_left_alone(number: int, spec: Content, tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    says, content = list(damage(run(STUDY, spec)))[number]
    save_json(out, content)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=f"(?s)^{out}: .*{says}") as refused:
        run(STUDY, spec, out)
    assert "name another file or move this one away" in str(refused.value)
    assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("content", [b"", b'{"a": [1, 2', b"\xff\xfe\x00", b"[" * 100_000, b"no json"])
def test_a_file_that_is_no_json_is_left_alone(content: bytes, spec: Content, tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    out.write_bytes(content)
    with pytest.raises(ValueError, match="not a JSON file, perhaps cut short"):
        run(STUDY, spec, out)
    assert out.read_bytes() == content


def test_a_full_disk_keeps_the_old_file_and_says_so(
    spec: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "toy.json"
    run(STUDY, spec, out, units=[0])
    before = out.read_bytes()

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(results.os, "fsync", full)
    with pytest.raises(OSError, match=r"toy\.json: could not be written \(No space left .*kept as it was"):
        run(STUDY, spec, out)
    assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]


# ---------------------------------------------------------------- threads


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_worker_comes_out_and_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    broken = STUDY.specification(count=8, fails_at=7)
    with pytest.raises(ArithmeticError, match="no power of 7"):
        run(STUDY, broken, out)
    assert set(load_json(out)["numbers"]) >= {0, 1, 2, 3}
    assert torch.get_num_threads() == 2


def test_what_is_finished_when_another_fails_is_handed_out() -> None:
    """The failure comes first; the other chunk, already done, must still be stored."""

    def work(chunk: str, tick: Any) -> str:
        if chunk == "fails":
            time.sleep(0.2)
            raise ArithmeticError(chunk)
        return chunk

    found = in_threads(work, ["done", "fails"], 2, "toy", cores=2)
    assert next(found) == "done"
    with pytest.raises(ArithmeticError):
        next(found)

    def soon(chunk: str, tick: Any) -> str:
        if chunk == "fails":
            time.sleep(0.05)  # the other one has begun
            raise ArithmeticError(chunk)
        time.sleep(0.2)
        return chunk

    found = in_threads(soon, ["fails", "done"], 2, "toy", cores=2)
    assert next(found) == "done"
    with pytest.raises(ArithmeticError):
        next(found)


def test_workers_stop_at_their_next_tick() -> None:
    ticks: list[int] = []

    def work(chunk: int, tick: Any) -> int:
        if chunk == 0:
            raise ArithmeticError
        for count in range(1000):
            time.sleep(0.005)
            tick(1)
            ticks.append(count)
        return chunk

    with pytest.raises(ArithmeticError):
        list(in_threads(work, [1, 0], 2, "toy", cores=2))
    assert len(ticks) < 500


# ---------------------------------------------------------------- processes


def command(out: Path, *words: str, processes: int = 0) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start = [sys.executable, *(torchrun if processes else []), str(TOY)]
    return [*start, "toy", "--count", "12", "--slow", "0.05", "--out", str(out), *words]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "WSP_PROGRESS": "0", "OMP_NUM_THREADS": "1"}


def ended(out: Path, *words: str, processes: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, *words, processes=processes),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def started_ignoring_nothing() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it


@pytest.mark.parametrize("sent, code", [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_stopped_and_continued(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    process = subprocess.Popen(
        command(out),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=started_ignoring_nothing,
    )
    deadline = time.time() + 60
    while not out.exists() and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(sent)
    printed, complaint = process.communicate(timeout=60)
    assert (process.returncode, printed) == (code, "")
    if sent == signal.SIGINT:
        assert complaint.count("\n") == 1
        assert f"what was finished is in {out}, and the same command goes on" in complaint
    half = load_json(out)
    assert 0 < len(half["numbers"]) < 12
    done = ended(out)
    assert (done.returncode, done.stderr) == (0, "")
    assert numbers_of(load_json(out)) == numbers_of(run(STUDY, STUDY.specification(count=12, slow=0.05)))
    assert [path.name for path in tmp_path.iterdir()] == ["toy.json"]


@pytest.mark.parametrize("begun", [False, True])
def test_two_processes_give_what_one_gives(begun: bool, tmp_path: Path) -> None:
    out, spec = tmp_path / "toy.json", STUDY.specification(count=12, slow=0.05)
    if begun:
        run(STUDY, spec, out, units=[5, 6])
    done = ended(out, "--more", "1", processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("squares [0, 1, 4") == 1, "one of them speaks"
    assert numbers_of(load_json(out)) == numbers_of(run(STUDY, spec, more=1))


@pytest.mark.parametrize(
    "words, says",
    [
        (["--count", "0"], "count must be a positive integer, not 0"),
        (["--count", "many"], "argument --count: invalid int value: 'many'"),
        (["--teleport"], "unrecognized arguments: --teleport"),
    ],
)
def test_a_bad_request_ends_in_one_line(words: list[str], says: str, tmp_path: Path) -> None:
    done = ended(tmp_path / "toy.json", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("wsp: ") and says in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_json_and_help(tmp_path: Path) -> None:
    done = ended(tmp_path / "toy.json", "--json")
    assert json.loads(done.stdout)["squares"][-1] == 121
    helped = ended(tmp_path / "toy.json", "--help").stdout
    assert "So many numbers, from 0; default 5" in " ".join(helped.split()) and "--more" in helped


# ---------------------------------------------------------------- checking


def test_check_sees_a_changed_number_and_no_other(spec: Content) -> None:
    found = run(STUDY, spec)
    assert check(STUDY, found) == []
    other = json.loads(json.dumps(found))
    other["squares"][-1] += 1
    assert check(STUDY, other) == ["squares 0: 16, stored 17"]
    other = json.loads(json.dumps(found))
    other["squares"][0] += 1  # not in the slice
    assert check(STUDY, other) == []


def test_check_runs_on_the_threads_that_made_it(spec: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Alone(Toy):
        parallel = False

        def work(self, spec: Any, units: Any, tick: Any, device: str) -> Iterator[Content]:
            seen.append(torch.get_num_threads())
            return super().work(spec, units, tick, device)

    found = run(Alone(), spec)
    found["provenance"]["threads"] = 3
    threads = torch.get_num_threads()
    assert check(Alone(), found) == []
    assert seen[-1] == 3 and torch.get_num_threads() == threads


def test_at_home_is_the_processor_and_pytorch_that_made_it(
    spec: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    class Asked(Toy):
        def differences(self, kept: Content, again: Content, at_home: bool) -> Iterator[str]:
            seen.append(at_home)
            return iter(())

    found = run(Asked(), spec)
    check(Asked(), found)
    monkeypatch.setattr(engine, "processor", lambda: "another one")
    check(Asked(), found)
    assert seen == [True, False]
