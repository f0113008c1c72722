"""Images: the digits, CIFAR-10's official files (small ones, made here), splits, rounds, wrong labels."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from wsp.lab import images
from wsp.lab.employees import Table

FILES = (*images.TRAIN_FILES, images.TEST_FILE)
SOME = 7  # images a file, in place of 10,000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six files in the official layout, with few images each."""
    monkeypatch.setattr(images, "RECORDS", SOME)
    monkeypatch.delenv("WSP_CIFAR10", raising=False)
    for number, name in enumerate(FILES):
        records = np.random.default_rng(number).integers(0, 256, (SOME, images.RECORD), dtype=np.uint8)
        records[:, 0] = np.arange(SOME) + number % 3
        (tmp_path / name).write_bytes(records.tobytes())
    return tmp_path


def test_digits() -> None:
    from sklearn.datasets import load_digits

    table, source = images.digits(), load_digits()
    assert table.inputs.shape == (1797, 1, 8, 8) and table.inputs.dtype == torch.float32
    np.testing.assert_array_equal(16 * table.inputs[:, 0].numpy(), source.images)
    assert table.labels.dtype == torch.int64 and table.labels.tolist() == source.target.tolist()
    assert (table.inputs.min(), table.inputs.max()) == (0, 1)


def test_importing_is_light() -> None:
    code = "import sys, wsp.lab.images; print(sorted({'sklearn', 'pooch', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_cifar10_reads_the_official_layout(folder: Path) -> None:
    """Byte by byte: a label, then the red, green and blue planes, each row by row."""
    train, test = images.cifar10(folder)
    assert train.inputs.shape == (5 * SOME, 3, 32, 32) and test.inputs.shape == (SOME, 3, 32, 32)
    assert train.inputs.dtype == torch.uint8 and train.labels.dtype == torch.int64
    for table, at, name, record in ((train, 0, 0, 0), (train, 2 * SOME + 4, 2, 4), (test, 6, 5, 6)):
        raw = (folder / FILES[name]).read_bytes()[record * images.RECORD :][: images.RECORD]
        assert int(table.labels[at]) == raw[0]
        for color, row, column in ((0, 0, 0), (0, 0, 31), (1, 5, 3), (2, 31, 31)):
            pixel = raw[1 + 1024 * color + 32 * row + column]
            assert int(table.inputs[at, color, row, column]) == pixel


def test_cifar10_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSP_CIFAR10", str(folder))
    assert torch.equal(images.cifar10()[0].inputs, images.cifar10(folder)[0].inputs)


@pytest.mark.parametrize("name", ["data_batch_1.bin", "data_batch_4.bin", "test_batch.bin"])
@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda raw: raw[:-1], "cut short or altered"),
        (lambda raw: raw[: 3 * 3073], "cut short or altered"),
        (lambda raw: raw + b"\0", "cut short or altered"),
        (lambda raw: b"", "0 bytes, but 7 records"),
        (lambda raw: raw[:6146] + b"\x0a" + raw[6147:], "record 2: label 10, but labels are 0 to 9"),
    ],
    ids=["a byte less", "whole records less", "a byte more", "empty", "a label changed"],
)
def test_damaged_files(folder: Path, name: str, spoil: object, says: str) -> None:
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(spoil(raw))  # type: ignore[operator]
    with pytest.raises(ValueError, match=says) as refused:
        images.cifar10(folder)
    assert str(folder / name) in str(refused.value) and "\n" not in str(refused.value)


def test_missing_file(folder: Path) -> None:
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3\.bin: no such file; expected the six"):
        images.cifar10(folder)


def test_near_misses_of_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The folder above, which is torchvision's `root`; the home directory's short name; a text."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(folder, home / "data" / images.FOLDER)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    expected = images.cifar10(folder)[0].inputs
    for where in (home / "data", "~/data", f"~/data/{images.FOLDER}", f"~/data/{images.FOLDER}/"):
        assert torch.equal(images.cifar10(where)[0].inputs, expected), where
        monkeypatch.setenv("WSP_CIFAR10", str(where))
        assert torch.equal(images.cifar10()[0].inputs, expected), where


def test_what_is_in_the_folder_goes_before_what_is_below(folder: Path) -> None:
    (folder / images.FOLDER).mkdir()
    assert len(images.cifar10(folder)[0].labels) == 5 * SOME


def test_what_is_not_the_binary_version(folder: Path) -> None:
    archive = folder / "cifar-10-binary.tar.gz"
    archive.write_bytes(b"")
    with pytest.raises(ValueError, match="a file, but the folder is wanted"):
        images.cifar10(archive)
    for python in (folder / "python", folder / "above" / "cifar-10-batches-py"):
        python.mkdir(parents=True)
        (python / "data_batch_1").write_bytes(b"")
    for where in (folder / "python", folder / "above"):
        with pytest.raises(FileNotFoundError, match="this is the Python version of it"):
            images.cifar10(where)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The archive on a web server of our own, and an empty cache."""
    path = folder / "served" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        for name in FILES:
            raw = (folder / name).read_bytes()
            member = tarfile.TarInfo(f"{images.FOLDER}/{name}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    handler = functools.partial(Quiet, directory=str(path.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(images, "ARCHIVE", f"http://127.0.0.1:{server.server_port}/{path.name}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setattr(images, "ARCHIVE_HASH", f"sha256:{digest}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setenv("LOCALAPPDATA", str(folder / "cache"))
        monkeypatch.setenv("HOME", str(folder / "cache"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield path
        server.shutdown()


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")
def test_downloaded_once_and_kept(archive: Path, folder: Path) -> None:
    train, test = images.cifar10()
    again = images.cifar10(folder)
    assert torch.equal(train.inputs, again[0].inputs) and torch.equal(test.labels, again[1].labels)
    archive.unlink()  # whoever asks again gets an error from the server
    assert torch.equal(images.cifar10()[0].inputs, train.inputs)


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")
def test_cut_short_while_it_was_unpacked(archive: Path, folder: Path) -> None:
    """The archive is whole and all files exist: only deleting what was unpacked helps."""
    train, _ = images.cifar10()
    (last,) = (folder / "cache").rglob("test_batch.bin")
    last.write_bytes(last.read_bytes()[:100])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"delete this folder and call cifar10\(\) again") as refused:
            images.cifar10()
        assert str(last) in str(refused.value)
    shutil.rmtree(last.parent)
    assert torch.equal(images.cifar10()[0].inputs, train.inputs)


def test_an_altered_download_is_refused(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"!")
    with pytest.raises(ValueError, match="hash"):
        images.cifar10()


def test_without_pooch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ValueError, match="pip install pooch, or let WSP_CIFAR10 name"):
        images.cifar10()


def test_the_official_archive() -> None:
    """As the data set's page and several other projects give it."""
    assert images.ARCHIVE_HASH.endswith("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd")
    assert images.RECORDS * images.RECORD == 30_730_000


def test_scaled() -> None:
    table = Table(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16), torch.tensor([1]))
    values = images.scaled(table).inputs.flatten()
    torch.testing.assert_close(values, (torch.arange(256) / 255 - 0.5) / 0.5, rtol=0, atol=1e-6)
    with pytest.raises(TypeError, match="expected bytes"):
        images.scaled(images.scaled(table))


def rows(n: int) -> Table:
    return Table(torch.arange(n).float().reshape(n, 1), torch.arange(n) % 10)


def test_split_is_random_disjoint_and_fixed_by_the_seed() -> None:
    table = rows(100)
    train, test = images.split(table, 60, 30, seed=4)
    seen = torch.cat([train.inputs, test.inputs]).flatten().int().tolist()
    assert len(seen) == 90 == len(set(seen)) and seen != sorted(seen)
    for part in (train, test):
        assert torch.equal(part.labels, part.inputs.flatten().long() % 10)
    again, other = images.split(table, 60, 30, seed=4), images.split(table, 60, 30, seed=5)
    assert torch.equal(again[0].inputs, train.inputs) and not torch.equal(other[0].inputs, train.inputs)


def test_a_smaller_test_set_leaves_the_training_rows_alone() -> None:
    one, other = (images.split(rows(100), 60, test, seed=0)[0] for test in (30, 10))
    assert torch.equal(one.inputs, other.inputs)


@pytest.mark.parametrize("train, test", [(0, 5), (5, 0), (-1, 5), (60, 41), (101, 1)])
def test_a_split_that_does_not_fit(train: int, test: int) -> None:
    with pytest.raises(ValueError, match=f"cannot take {train} and {test} rows from 100"):
        images.split(rows(100), train, test, seed=0)


@pytest.mark.parametrize(
    "size, expected", [(30, [30, 60, 90, 100]), (50, [50, 100]), (100, [100]), (150, [100])]
)
def test_rounds_grow_and_copy_nothing(size: int, expected: list[int]) -> None:
    table = rows(100)
    found = images.rounds(table, size)
    assert [len(arrived.labels) for arrived in found] == expected
    for arrived in found:
        assert torch.equal(arrived.inputs, table.inputs[: len(arrived.labels)])
        assert arrived.inputs.data_ptr() == table.inputs.data_ptr()


def test_a_round_brings_something() -> None:
    with pytest.raises(ValueError, match="at least one row, not 0"):
        images.rounds(rows(10), 0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
def test_mislabel_replaces_exactly_this_share(share: float) -> None:
    table = rows(1000)
    before = table.labels.clone()
    wrong = images.mislabel(table, share, seeded())
    assert int((wrong.labels != before).sum()) == round(1000 * share)
    assert torch.equal(table.labels, before) and wrong.inputs is table.inputs
    assert wrong.labels.min() >= 0 and wrong.labels.max() <= 9


def test_every_other_class_is_as_likely() -> None:
    table = Table(torch.zeros(90_000, 1), torch.full((90_000,), 3))
    counts = torch.bincount(images.mislabel(table, 1.0, seeded()).labels, minlength=10)
    assert counts[3] == 0
    others = counts[torch.arange(10) != 3].double()
    assert ((others - 10_000) ** 2 / 10_000).sum() < 27.9  # chi-squared, 8 degrees, 0.05 %


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        images.mislabel(rows(10), share, seeded())
