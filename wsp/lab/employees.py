"""The employee table: draw it, load it, check it, encode it.

The article predicts an employee's job from sex, age, branch and income. Its
rows were never published; ours are invented by :func:`draw`. No person stands
behind any of them. The datasheet is ``data/README.md``; chapter 2 explores them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

COLUMNS = ("sex", "age", "branch", "income", "job")
SEXES = ("M", "F")  # encoded -1, +1
BRANCHES = ("anaheim", "boulder", "concord")  # encoded one-hot
JOBS = ("mgmt", "supp", "tech")  # encoded 0, 1, 2
TRAIN_ROWS, TEST_ROWS = 200, 40
LABEL_NOISE = 0.05
MOST_ROWS = 2**31 - 1  # of a drawn table

# How a job shows in the other columns (one number a job, in the order of JOBS).
JOB_SHARE = (0.30, 0.35, 0.35)
MEAN_AGE = (48.0, 40.0, 33.0)  # years
MEAN_INCOME = (66_000.0, 48_000.0, 58_000.0)  # dollars a year, at age 40
BRANCH_SHARE = ((0.2, 0.2, 0.6), (0.2, 0.6, 0.2), (0.6, 0.2, 0.2))


class Table(NamedTuple):
    """Encoded rows: `inputs` (rows, 6) float64 and `labels` (rows,) int64."""

    inputs: Tensor
    labels: Tensor


def draw(rows: int, seed: int, label_noise: float = LABEL_NOISE) -> pd.DataFrame:
    """Draw a table of invented employees.

    Each has a job; age, branch and income follow from it, with overlap, and
    income also grows with age. Sex is drawn apart and says nothing about the
    job, on purpose. Then a share of the job labels is replaced by a wrong one.

    Parameters
    ----------
    rows : int
        How many employees; at least 1.
    seed : int
        0 to 2**32 - 1. Same seed and number of rows, same table.
    label_noise : float
        Share of rows whose job is recorded wrongly, 0 to 1. Default 0.05.

    Returns
    -------
    pandas.DataFrame
        Columns `sex`, `age` (years), `branch`, `income` (dollars a year), `job`.

    Raises
    ------
    ValueError, TypeError
        If `rows`, `seed` or `label_noise` is out of range, or no number.

    Examples
    --------
    >>> draw(2, seed=0)
      sex  age   branch  income   job
    0   F   33  boulder   55300  supp
    1   F   49  anaheim   57600  tech

    See chapter 2 and ``data/README.md``.
    """
    for name, value, least, most in (("rows", rows, 1, MOST_ROWS), ("seed", seed, 0, 2**32 - 1)):
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, not {_shown(value)}")
        if not least <= int(value) <= most:
            raise ValueError(f"{name} must be from {least} to {most}, not {_shown(value)}")
    if not isinstance(label_noise, Real) or not 0 <= label_noise <= 1:
        raise ValueError(f"label_noise must be a share from 0 to 1, not {_shown(label_noise)}")
    # NumPy promises never to change the stream of RandomState (NEP 19).
    random = np.random.RandomState(seed)
    job = random.choice(3, rows, p=JOB_SHARE)
    sex = random.choice(SEXES, rows)
    branch_ends = np.cumsum(BRANCH_SHARE, axis=1)[job]
    branch = (random.random_sample((rows, 1)) > branch_ends[:, :2]).sum(axis=1)
    age = random.normal(np.take(MEAN_AGE, job), 8.0).clip(18, 67).round().astype(int)
    mean_income = np.take(MEAN_INCOME, job) + 400.0 * (age - 40)
    income = random.normal(mean_income, 8_000.0).clip(18_000, 120_000).round(-2).astype(int)
    wrong = random.random_sample(rows) < label_noise
    recorded = np.where(wrong, (job + random.randint(1, 3, rows)) % 3, job)
    columns = (sex, age, np.take(BRANCHES, branch), income, np.take(JOBS, recorded))
    return pd.DataFrame(dict(zip(COLUMNS, columns)))


def encode(frame: pd.DataFrame) -> Table:
    """Turn raw columns into network inputs and labels.

    Sex becomes -1 (M) or +1 (F), age is divided by 100, branch becomes one-hot,
    income is divided by 100,000; job becomes 0 (mgmt), 1 (supp) or 2 (tech).

    Parameters
    ----------
    frame : pandas.DataFrame
        As :func:`draw` or :func:`read` gives it.

    Returns
    -------
    Table
        Inputs (rows, 6) in float64 and labels (rows,) in int64.

    Raises
    ------
    TypeError
        If this is no DataFrame.
    ValueError
        If a value is unknown, missing in any spelling (None, NaN, NA, NaT, empty text) or no
        number: names the row and the column.

    Examples
    --------
    >>> encode(draw(1, seed=0)).inputs
    tensor([[1.0000, 0.4100, 0.0000, 0.0000, 1.0000, 0.4900]], dtype=torch.float64)

    Source: the article's network has these six inputs. See chapter 2.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"expected a pandas.DataFrame with the columns {', '.join(COLUMNS)}, not {type(frame).__name__}"
        )
    frame = _check(frame, "the table", range(len(frame)), "row")
    sex = np.where(frame["sex"] == "M", -1.0, 1.0)
    branch = np.stack([frame["branch"] == name for name in BRANCHES], axis=1)
    inputs = np.column_stack([sex, frame["age"] / 100, branch, frame["income"] / 100_000])
    labels = np.stack([frame["job"] == name for name in JOBS], axis=1).argmax(axis=1)
    return Table(torch.from_numpy(inputs), torch.from_numpy(labels))


def read(path: str | Path, min_rows: int = 1) -> pd.DataFrame:
    """Read and check a table of employees.

    A byte order mark, Windows line ends, blank lines at the end, spaces around
    values and columns in another order are read as a person would read them.

    Parameters
    ----------
    path : str or Path
        A CSV file with a header line naming `COLUMNS`.
    min_rows : int
        How many rows there must be at least. Default 1.

    Returns
    -------
    pandas.DataFrame
        The columns of `COLUMNS`, in that order; age and income as numbers.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, a value is unknown, empty, no number, or
        negative, or there are too few rows: says file, line, column, what was
        found, what was expected.

    Examples
    --------
    >>> read(find("employees_test.csv")).shape
    (40, 5)

    See chapter 2.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file. The book's tables are employees_train.csv and "
            "employees_test.csv in data/; employees.load_train() finds them"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
        lines = [(reader.line_num, [value.strip() for value in values]) for values in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable CSV file in UTF-8 ({error})") from None
    while lines and not any(lines[-1][1]):
        lines.pop()
    if not lines:
        raise ValueError(f"{path}: the file is empty; expected a header line {','.join(COLUMNS)} and rows")
    (_, header), *rows = lines
    for line, values in rows:
        if len(values) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(values)} values, but the header names {len(header)}: "
                f"{', '.join(header)}"
            )
    frame = pd.DataFrame([values for _, values in rows], columns=header, dtype=str)
    frame = _check(frame, str(path), [line for line, _ in rows], "line")
    if len(frame) < min_rows:
        raise ValueError(f"{path}: {len(frame)} rows, but at least {min_rows} are needed")
    return frame


def _check(frame: pd.DataFrame, name: str, numbers: Sequence[int], line: str) -> pd.DataFrame:
    """Return the frame with numbers as numbers, or say where it is wrong."""
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise ValueError(
            f"{name}: no column {missing[0]!r}; expected {', '.join(COLUMNS)}, "
            f"found {', '.join(map(str, frame.columns))}"
        )
    twice = [column for column in COLUMNS if list(frame.columns).count(column) > 1]
    if twice:
        raise ValueError(f"{name}: column {twice[0]!r} is there twice; expected it once")
    checked = frame[list(COLUMNS)].copy()

    def refuse(bad: pd.Series, column: str, expected: str) -> None:
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise ValueError(
                f"{name}, {line} {numbers[row]}, column {column!r}: "
                f"{_shown(frame[column].iloc[row])} is not {expected}"
            )

    for column, names in (("sex", SEXES), ("branch", BRANCHES), ("job", JOBS)):
        refuse(~checked[column].isin(names), column, f"one of {', '.join(names)}")
    for column, largest, unit in (("age", 120, "years"), ("income", 10_000_000, "dollars")):
        values = _as_numbers(checked[column])
        refuse(~values.between(0, largest), column, f"a number of {unit} from 0 to {largest}")
        checked[column] = values
    return checked


def _as_numbers(column: pd.Series) -> pd.Series:
    """The column in NumPy's own types; NaN where a value is missing, however spelled, or no number.

    In pandas' types for missing values a comparison with NA is NA, neither true nor false: a
    check would not find it.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
            return np.nan
        try:
            return value if np.isfinite(float(value)) else np.nan
        except (OverflowError, ValueError):  # 10**400; a signaling NaN
            return np.nan

    values = pd.Series([plain(value) for value in column], index=column.index, dtype=object)
    return pd.to_numeric(values, errors="coerce")


def _shown(value: object, longest: int = 60) -> str:
    """The value as code, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"an integer of {int(value).bit_length():,} bits"  # type: ignore[call-overload]
    return text if len(text) <= longest else text[: longest - 3] + "..."


def find(name: str) -> Path:
    """The path of one of the book's tables, in a checkout or an installed wheel."""
    package = Path(__file__).parents[1]
    installed, checkout = package / "tables" / name, package.parent / "data" / name
    return installed if installed.is_file() else checkout


def load_train() -> Table:
    """The 200 training rows of the book, in order of arrival, encoded.

    Examples
    --------
    >>> load_train().inputs.shape
    torch.Size([200, 6])
    """
    return encode(read(find("employees_train.csv"), TRAIN_ROWS))


def load_test() -> Table:
    """The 40 test rows of the book, encoded.

    Examples
    --------
    >>> len(load_test().labels)
    40
    """
    return encode(read(find("employees_test.csv"), TEST_ROWS))
