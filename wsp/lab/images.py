"""Images with labels: the small digits of scikit-learn, and CIFAR-10.

Both come as a :class:`wsp.lab.employees.Table`: `inputs` (images, channels, height,
width) and `labels`. The functions below cut such a table into what has arrived
by each round, and spoil some of its labels.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsp.lab.employees import Table

CLASSES = 10  # both sets have ten
ARCHIVE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_HASH = "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FOLDER = "cifar-10-batches-bin"  # what the archive holds
TRAIN_FILES = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
TEST_FILE = "test_batch.bin"
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then red, green and blue, row by row
RECORDS = 10_000  # images a file
# The archive in the cache is checked against its hash; what was unpacked from it is not.
MEND = (
    "delete this folder and call cifar10() again, without a folder and WSP_CIFAR10: "
    "then the archive is downloaded where it must be, checked and unpacked anew"
)


def digits() -> Table:
    """The 1,797 handwritten digits that come with scikit-learn.

    Returns
    -------
    Table
        `inputs` (1797, 1, 8, 8) float32, from 0 (white) to 1; `labels` (1797,)
        int64, 0 to 9.

    Examples
    --------
    >>> inputs, labels = digits()
    >>> inputs.shape, float(inputs.max()), labels[:4].tolist()
    (torch.Size([1797, 1, 8, 8]), 1.0, [0, 1, 2, 3])

    Source: the test set of Alpaydin and Kaynak (1998), UCI; a copy comes with
    scikit-learn, nothing is downloaded. See chapter 10.
    """
    from sklearn.datasets import load_digits  # half a second

    found = load_digits()
    inputs = torch.from_numpy(found.images).float().unsqueeze(1) / 16
    return Table(inputs, torch.from_numpy(found.target).long())


def cifar10(folder: str | os.PathLike[str] | None = None) -> tuple[Table, Table]:
    """CIFAR-10 in its official binary form.

    Parameters
    ----------
    folder : path, optional
        Where ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``
        are, or the folder above (``root`` of torchvision). ``~`` is your home.
        Default: the environment variable ``WSP_CIFAR10``. Without either,
        the official archive (170 MB) is downloaded once, checked against its
        SHA-256, and kept in the cache of ``pooch``, which must be installed.

    Returns
    -------
    train, test : Table
        50,000 and 10,000 images: `inputs` (images, 3, 32, 32) uint8 (184 MB in
        all; :func:`scaled` makes numbers for a network of the images that you
        use), `labels` int64.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is cut short, too long, or holds a label above 9; or if the
        download is not the official archive.

    Examples
    --------
    >>> cifar10(getfixture("tmp_path"))
    Traceback (most recent call last):
    FileNotFoundError: ...data_batch_1.bin: no such file...

    Source: Krizhevsky (2009). See chapter 11.
    """
    folder = _find(folder or os.environ.get("WSP_CIFAR10") or _download())
    train = [_read(folder / name) for name in TRAIN_FILES]
    return Table(*map(torch.cat, zip(*train))), _read(folder / TEST_FILE)


def _find(folder: str | os.PathLike[str]) -> Path:
    """The folder that holds the files: this one, or the one of the archive's name in it."""
    path = Path(os.path.expanduser(folder))  # Path.expanduser raises where there is no such user
    if path.is_file():
        raise ValueError(
            f"{path}: a file, but the folder is wanted that holds data_batch_1.bin; unpack an archive first"
        )
    within = path / FOLDER
    return within if within.is_dir() and not (path / TRAIN_FILES[0]).exists() else path


def _download() -> Path:
    """The folder of the official archive in pooch's cache, downloaded where it is not there yet."""
    try:
        import pooch
    except ImportError:
        raise ValueError(
            "CIFAR-10 is downloaded with pooch, which is not installed: pip install pooch, "
            "or let WSP_CIFAR10 name the folder that holds data_batch_1.bin"
        ) from None

    cache = pooch.os_cache("wsp")
    pooch.retrieve(ARCHIVE, ARCHIVE_HASH, path=cache, processor=pooch.Untar(extract_dir="cifar10"))
    return Path(cache) / "cifar10" / FOLDER


def _read(path: Path) -> Table:
    """One official file: records of a label byte and 3,072 bytes of color."""
    if not path.is_file():
        pickles = path.parent / path.stem, path.parent / "cifar-10-batches-py" / path.stem
        other = "; this is the Python version of it" if any(map(Path.is_file, pickles)) else ""
        raise FileNotFoundError(
            f"{path}: no such file; expected the six .bin files of the binary CIFAR-10 archive{other}; "
            "without a folder and WSP_CIFAR10, cifar10() downloads it"
        )
    size, expected = path.stat().st_size, RECORDS * RECORD
    if size != expected:
        raise ValueError(
            f"{path}: {size:,} bytes, but {RECORDS:,} records of {RECORD:,} bytes are {expected:,}: "
            f"the file was cut short or altered; {MEND}"
        )
    records: NDArray[np.uint8] = np.fromfile(path, np.uint8).reshape(RECORDS, RECORD)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        bad = int((labels >= CLASSES).argmax())
        raise ValueError(
            f"{path}, record {bad}: label {labels[bad]}, but labels are 0 to {CLASSES - 1}: "
            f"the file was altered; {MEND}"
        )
    images = torch.from_numpy(records[:, 1:].reshape(RECORDS, *SHAPE).copy())
    return Table(images, torch.from_numpy(labels.astype(np.int64)))


def scaled(table: Table) -> Table:
    """Bytes as float32 from -1 to 1, as in the paper's code.

    Examples
    --------
    >>> bytes_ = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    >>> scaled(Table(bytes_, torch.tensor([3]))).inputs.tolist()
    [[[[-1.0, 1.0]]]]
    """
    if table.inputs.dtype != torch.uint8:
        raise TypeError(f"expected bytes (uint8), not {table.inputs.dtype}")
    return Table(table.inputs.float() / 127.5 - 1, table.labels)


def _at(table: Table, rows: Tensor | slice) -> Table:
    return Table(table.inputs[rows], table.labels[rows])


def split(table: Table, train: int, test: int, seed: int) -> tuple[Table, Table]:
    """Two random parts without a common row.

    Parameters
    ----------
    table : Table
    train, test : int
        Rows of each part; the rest is left out.
    seed : int
        Same seed, same parts, in the same (random) order.

    Raises
    ------
    ValueError
        If a number is not positive, or there are too few rows.
    TypeError
        If the seed is no integer.

    Examples
    --------
    >>> table = Table(torch.arange(6.0), torch.arange(6))
    >>> one, other = split(table, 3, 2, seed=0)
    >>> len(set(one.labels.tolist()) | set(other.labels.tolist()))
    5
    """
    rows = len(table.labels)
    if not isinstance(seed, int):
        raise TypeError(f"the seed must be an integer, not {seed!r}")
    if train < 1 or test < 1 or train + test > rows:
        raise ValueError(f"cannot take {train} and {test} rows from {rows}: both must be positive, and fit")
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return _at(table, order[:train]), _at(table, order[train : train + test])


def rounds(table: Table, size: int) -> list[Table]:
    """What has arrived by each round, `size` rows a round: every table holds the ones before.

    Nothing is copied. The last round may bring fewer rows.

    Examples
    --------
    >>> table = Table(torch.arange(5.0), torch.arange(5))
    >>> [arrived.labels.tolist() for arrived in rounds(table, 2)]
    [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
    """
    if size < 1:
        raise ValueError(f"a round must bring at least one row, not {size}")
    rows = len(table.labels)
    return [_at(table, slice(min(end, rows))) for end in range(size, rows + size, size)]


def mislabel(table: Table, share: float, generator: torch.Generator) -> Table:
    """Replace a share of the labels by another class, each other class as likely.

    Parameters
    ----------
    table : Table
        Labels 0 to 9. Not changed.
    share : float
        0 to 1. Exactly ``round(share * rows)`` labels become wrong.
    generator : torch.Generator
        A CPU generator.

    Raises
    ------
    ValueError
        If `share` is not from 0 to 1.

    Examples
    --------
    >>> table = Table(torch.zeros(10, 1), torch.arange(10))
    >>> wrong = mislabel(table, 0.3, torch.Generator().manual_seed(0))
    >>> int((wrong.labels != table.labels).sum())
    3
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of wrong labels must be from 0 to 1, not {share}")
    rows = len(table.labels)
    chosen = torch.randperm(rows, generator=generator)[: round(share * rows)]
    shift = torch.randint(1, CLASSES, (len(chosen),), generator=generator)
    labels = table.labels.clone()
    labels[chosen] = (labels[chosen] + shift) % CLASSES
    return Table(table.inputs, labels)
