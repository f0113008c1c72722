"""The employee table: what is refused and how, what is read, how the book's own came about."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wsp.lab import employees
from wsp.lab.employees import BRANCHES, COLUMNS, JOBS, SEXES, draw, encode, read
from wsp.lab.results import stored
from wsp.studies import selection

HEADER = "sex,age,branch,income,job"
ROWS = ("M,44,anaheim,61300,tech", "F,40,boulder,45600,supp", "F,51.5,concord,70000,mgmt")
CLEAN = "\n".join((HEADER, *ROWS)) + "\n"
FRAME = pd.DataFrame(
    {
        "sex": ["M", "F", "F"],
        "age": [44, 40, 51.5],
        "branch": ["anaheim", "boulder", "concord"],
        "income": [61300, 45600, 70000],
        "job": ["tech", "supp", "mgmt"],
    }
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Write a table to a file, byte for byte."""

    def written(content: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def with_cell(line: int, column: str, value: str) -> str:
    """The clean table with one cell replaced; `line` as an editor counts."""
    lines = [text.split(",") for text in CLEAN.splitlines()]
    lines[line - 1][COLUMNS.index(column)] = value
    return "\n".join(map(",".join, lines)) + "\n"


# ---------------------------------------------------------------- read as a person would


READABLE = {
    "clean": CLEAN,
    "no end of line": CLEAN.rstrip("\n"),
    "BOM": "\ufeff" + CLEAN,
    "CRLF": CLEAN.replace("\n", "\r\n"),
    "BOM and CRLF": "\ufeff" + CLEAN.replace("\n", "\r\n"),
    "spaces": CLEAN.replace(",", " ,\t "),
    "spaces at the end": CLEAN.replace("\n", "  \n"),
    "blank lines": CLEAN + "\n\n",
    "blank cells at the end": CLEAN + " \n\t\n,,,,\n",
    "quoted": re.sub(r"[^,\n]+", r'"\g<0>"', CLEAN),
    "quoted spaces": CLEAN.replace("anaheim", '" anaheim "'),
    "other spellings": CLEAN.replace("61300", "61300.0").replace(",40,", ",4e1,"),
    "shuffled columns": "\n".join(
        ",".join(line.split(",")[k] for k in (4, 2, 0, 3, 1)) for line in CLEAN.split()
    ),
    "a column more": "\n".join(f"{k},{line}" for k, line in enumerate(CLEAN.split())),
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE)
def test_reads(content: str, write: Callable[..., Path]) -> None:
    pd.testing.assert_frame_equal(read(write(content)), FRAME, check_dtype=False)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize("line", [2, 3, 4])
@pytest.mark.parametrize(
    "column, value, expected",
    [
        ("sex", "X", "one of M, F"),
        ("sex", "m", "one of M, F"),
        ("sex", "", "one of M, F"),
        ("branch", "atlanta", "one of anaheim, boulder, concord"),
        ("branch", "Anaheim", "one of anaheim, boulder, concord"),
        ("job", "boss", "one of mgmt, supp, tech"),
        ("job", "nan", "one of mgmt, supp, tech"),
        ("age", "old", "a number of years from 0 to 120"),
        ("age", "-1", "a number of years from 0 to 120"),
        ("age", "NaN", "a number of years from 0 to 120"),
        ("age", "", "a number of years from 0 to 120"),
        ("age", "121", "a number of years from 0 to 120"),
        ("income", "61 300", "a number of dollars from 0 to 10000000"),
        ("income", "$61300", "a number of dollars from 0 to 10000000"),
        ("income", "-0.01", "a number of dollars from 0 to 10000000"),
        ("income", "nan", "a number of dollars from 0 to 10000000"),
        ("income", "inf", "a number of dollars from 0 to 10000000"),
        ("income", "1e400", "a number of dollars from 0 to 10000000"),
    ],
)
def test_bad_value(line: int, column: str, value: str, expected: str, write: Callable[..., Path]) -> None:
    path = write(with_cell(line, column, value))
    with pytest.raises(ValueError) as refused:
        read(path)
    assert str(refused.value) == f"{path}, line {line}, column '{column}': {value!r} is not {expected}"


WITH_A_COLUMN_MORE = "\n".join(f"{line},{line.split(',')[4]}" for line in CLEAN.split())  # job again
UNREADABLE: dict[str, tuple[str | bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "BOM alone": (b"\xef\xbb\xbf", "the file is empty"),
    "blank lines alone": (b"\n\n\n", "the file is empty"),
    "header alone": (HEADER + "\n", "0 rows, but at least 1 are needed"),
    "no row": (HEADER + "\n\n,,,,\n", "0 rows, but at least 1 are needed"),
    "no header": ("\n".join(ROWS), "no column 'sex'; expected sex, age, branch, income, job, found M, 44"),
    "semicolons": (CLEAN.replace(",", ";"), "no column 'sex'"),
    "renamed column": (
        CLEAN.replace("income", "salary"),
        "no column 'income'; .* found sex, age, branch, salary",
    ),
    "missing column": ("\n".join(line.rsplit(",", 1)[0] for line in CLEAN.split()), "no column 'job'"),
    "a column for another": (CLEAN.replace("job", "age"), "no column 'job'"),
    "a column twice": (WITH_A_COLUMN_MORE, "column 'job' .*twice"),
    "a column twice, with a space": (
        WITH_A_COLUMN_MORE.replace("job,job", "job,job "),
        "column 'job' .*twice",
    ),
    "UTF-16": (CLEAN.encode("utf-16"), "UTF-8"),
    "Latin-1": (CLEAN.replace("boulder", "bouldér").encode("latin-1"), "UTF-8"),
    "no text": (bytes(range(256)), "UTF-8"),
    "open quote": (CLEAN.replace("F,40", '"F,40'), "line 4: 1 values|not a readable CSV file"),
    "NUL": (CLEAN.replace("M,44", "M\0,44"), "line 2, column 'sex'"),
}


@pytest.mark.parametrize("content, complaint", UNREADABLE.values(), ids=UNREADABLE)
def test_bad_file(content: str | bytes, complaint: str, write: Callable[..., Path]) -> None:
    path = write(content)
    with pytest.raises(ValueError) as refused:
        read(path)
    message = str(refused.value)
    assert message.startswith(str(path)) and re.search(complaint, message), message
    assert "\n" not in message


RAGGED: dict[str, Callable[[str], str]] = {
    "comma more": lambda text: text + ",",
    "value more": lambda text: text + ",tech",
    "comma within": lambda text: text.replace(",", ",,", 1),
    "value less": lambda text: text.rsplit(",", 1)[0],
    "one value": lambda text: text.split(",")[0],
    "blank line": lambda text: "",
}


@pytest.mark.parametrize("line", [2, 3, 4])
@pytest.mark.parametrize("change", RAGGED.values(), ids=RAGGED)
def test_ragged_line(line: int, change: Callable[[str], str], write: Callable[..., Path]) -> None:
    lines = [*CLEAN.splitlines(), ROWS[0]]
    lines[line - 1] = change(lines[line - 1])
    path = write("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=rf"table\.csv, line {line}\b"):
        read(path)


def test_every_line_too_long(write: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"table\.csv, line 2\b"):
        read(write(HEADER + "\n" + "".join(f"{row},9\n" for row in ROWS)))


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(FileNotFoundError) as refused:
            read(path)
        assert str(path) in str(refused.value) and "employees_train.csv" in str(refused.value)


def test_too_few_rows(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(CLEAN)
    assert len(read(path, min_rows=3)) == 3
    with pytest.raises(ValueError, match=r"table\.csv: 3 rows, but at least 4 are needed"):
        read(path, min_rows=4)
    monkeypatch.setattr(employees, "find", lambda name: path)
    for load, rows in ((employees.load_train, 200), (employees.load_test, 40)):
        with pytest.raises(ValueError, match=f"3 rows, but at least {rows} are needed"):
            load()


NAMES = {"sex": SEXES, "branch": BRANCHES, "job": JOBS}
TEXT = st.text(st.characters(exclude_characters='",\r\n', exclude_categories=["Cs"]), max_size=8)
SPELLINGS = st.sampled_from([name for names in NAMES.values() for name in names])
NUMBERS = st.one_of(st.floats(), st.floats(0, 130), st.integers(-9, 10**8)).map(str)
PADDED = st.tuples(
    st.sampled_from(["", " ", "\t"]), st.one_of(SPELLINGS, NUMBERS), st.sampled_from(["", "  "])
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(line=st.integers(2, 4), column=st.sampled_from(COLUMNS), value=st.one_of(TEXT, PADDED.map("".join)))
@example(line=4, column="age", value="7")  # the column holds whole numbers alone
def test_any_cell_is_refused_by_its_line_or_read_as_it_stands(
    line: int, column: str, value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "cell.csv"
    path.write_bytes(with_cell(line, column, value).encode())
    try:
        found = read(path)
    except ValueError as error:
        assert f"cell.csv, line {line}, column '{column}': " in str(error)
        if column in NAMES:
            assert value.strip() not in NAMES[column]
        return
    got = found.loc[line - 2, column]
    if column in NAMES:
        assert got == value.strip() and got in NAMES[column]
    else:
        assert got == pytest.approx(float(value), rel=1e-12) and 0 <= got <= 10_000_000
    # All other cells are as they were. Nothing is written into `found`: where the cell is whole,
    # a column of ages may be of integers, which take no 51.5.
    row = line - 2
    pd.testing.assert_frame_equal(found.drop(index=row), FRAME.drop(index=row), check_dtype=False)
    pd.testing.assert_frame_equal(found.drop(columns=column), FRAME.drop(columns=column), check_dtype=False)


# ---------------------------------------------------------------- encode


def test_encodes() -> None:
    inputs, labels = encode(FRAME)
    assert inputs.dtype == torch.float64 and labels.dtype == torch.int64
    assert inputs.tolist() == [
        [-1, 0.44, 1, 0, 0, 0.613],
        [1, 0.4, 0, 1, 0, 0.456],
        [1, 0.515, 0, 0, 1, 0.7],
    ]
    assert labels.tolist() == [2, 1, 0]
    shuffled = FRAME[["job", "income", "sex", "branch", "age"]]
    assert torch.equal(encode(shuffled).inputs, inputs)


@pytest.mark.parametrize(
    "column, value",
    [("sex", "x"), ("branch", None), ("job", 2), ("age", np.nan), ("income", -1), ("income", "much")],
)
def test_encode_refuses(column: str, value: object) -> None:
    frame = FRAME.astype(object)
    frame.loc[1, column] = value
    before = frame.copy()
    with pytest.raises(ValueError, match=rf"the table, row 1, column '{column}': .* is not "):
        encode(frame)
    pd.testing.assert_frame_equal(frame, before)


MISSING = {
    "None": None, "nan": float("nan"), "NA": pd.NA, "NaT": pd.NaT, "np.nan": np.float32("nan"),
    "Decimal": Decimal("NaN"), "signaling": Decimal("sNaN"), "datetime": np.datetime64("NaT"), "empty": "",
    "blank": " ", "text": "nan", "NULL": "NULL", "N/A": "N/A", "question": "?", "dash": "-",
}  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("value", MISSING.values(), ids=MISSING)
def test_a_missing_value_is_refused_in_every_spelling(column: str, value: object) -> None:
    frame = FRAME.astype(object)
    frame.at[1, column] = value
    with pytest.raises(ValueError, match=rf"the table, row 1, column '{column}': .* is not "):
        encode(frame)


@pytest.mark.parametrize("column", ["age", "income"])
@pytest.mark.parametrize("dtype", ["Int64", "Float64", "Int16", "category", "object", "Sparse[float]"])
def test_a_missing_number_is_refused_in_every_type(column: str, dtype: str) -> None:
    """pandas' own NA used to come out as a NaN in the inputs."""
    frame = FRAME.copy()
    whole = pd.Series([44.0, 40.0, 51.0])
    frame[column] = whole.astype(dtype)
    assert encode(frame).inputs.isfinite().all()
    whole[1] = np.nan
    frame[column] = whole.astype(dtype)
    with pytest.raises(ValueError, match=rf"row 1, column '{column}': (nan|<NA>) is not a number"):
        encode(frame)


@pytest.mark.parametrize("column", ["sex", "branch", "job"])
@pytest.mark.parametrize("dtype", ["string", "category", "str", "object"])
def test_a_missing_word_is_refused_in_every_type(column: str, dtype: str) -> None:
    frame = FRAME.copy()
    frame[column] = frame[column].astype(dtype)
    assert torch.equal(encode(frame).inputs, encode(FRAME).inputs)
    frame.loc[1, column] = None
    with pytest.raises(ValueError, match=rf"row 1, column '{column}'"):
        encode(frame)


NO_NUMBERS = {
    "10**400": 10**400, "-10**400": -(10**400), "10**5000": 10**5000, "True": True, "np.True_": np.True_,
    "complex": 40 + 0j, "bytes": b"40", "list": [40], "timedelta": pd.Timedelta(40), "inf": np.inf,
    "digits": "1" + 400 * "0", "hex": "0x10", "underscore": "4_0",
}  # fmt: skip


@pytest.mark.parametrize("column", ["age", "income"])
@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_is_refused(column: str, value: object) -> None:
    frame = FRAME.astype(object)
    frame.at[1, column] = value
    with pytest.raises(ValueError, match=rf"row 1, column '{column}': .* is not a number of") as refused:
        encode(frame)
    assert len(str(refused.value)) < 200
    if not isinstance(value, list | pd.Timedelta):  # a whole column of them
        frame[column] = pd.Series([value] * 3)
        with pytest.raises(ValueError, match=rf"row 0, column '{column}'"):
            encode(frame)


@pytest.mark.parametrize("column, largest", [("age", 120), ("income", 10_000_000)])
def test_the_ends_of_a_range_are_in_it(column: str, largest: int, write: Callable[..., Path]) -> None:
    for value, accepted in ((0, True), (largest, True), (-0.01, False), (largest + 0.01, False)):
        frame, path = FRAME.astype(object), write(with_cell(3, column, str(value)))
        frame.at[1, column] = value
        if accepted:
            assert encode(frame).inputs[1, 1 if column == "age" else 5] == value / (
                100 if column == "age" else 100_000
            )
            assert read(path).loc[1, column] == value
        else:
            with pytest.raises(ValueError, match=f"row 1, column '{column}'"):
                encode(frame)
            with pytest.raises(ValueError, match=f"line 3, column '{column}'"):
                read(path)


@pytest.mark.parametrize("what", [None, [1, 2], {"sex": ["M"]}, FRAME.to_numpy(), FRAME.iloc[0]])
def test_encode_wants_a_frame(what: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a pandas\.DataFrame with the columns sex, age"):
        encode(what)


# ---------------------------------------------------------------- the generator


def test_one_seed_one_table() -> None:
    one = draw(50, seed=7)
    pd.testing.assert_frame_equal(one, draw(50, seed=7))
    assert not one.equals(draw(50, seed=8))
    assert tuple(one.columns) == COLUMNS and len(one) == 50


@pytest.mark.parametrize(
    "arguments",
    [
        {"rows": 0},
        {"rows": -3},
        {"label_noise": -0.1},
        {"label_noise": 1.1},
        {"label_noise": np.nan},
        {"label_noise": 10**5000},
        {"label_noise": "0.1"},
        {"label_noise": None},
        {"seed": -1},
        {"seed": 2**32},
        {"seed": None},
        {"seed": 1.0},
        {"rows": 10**400},
        {"rows": True},
        {"rows": 2.5},
        {"rows": "3"},
        {"rows": float("nan")},
    ],
)
def test_draw_refuses(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises((ValueError, TypeError), match=f"^{name} must be ") as refused:
        draw(**({"rows": 5, "seed": 0} | arguments))
    assert len(str(refused.value)) < 200


def test_label_noise_is_the_share_of_wrong_jobs_and_nothing_else() -> None:
    clean = draw(20_000, seed=3, label_noise=0)
    for noise in (0.05, 0.3, 1.0):
        noisy = draw(20_000, seed=3, label_noise=noise)
        pd.testing.assert_frame_equal(noisy.drop(columns="job"), clean.drop(columns="job"))
        assert (noisy["job"] != clean["job"]).mean() == pytest.approx(noise, abs=0.01)


def test_people_are_plausible() -> None:
    people = draw(20_000, seed=1)
    assert read_back(people["age"]).between(18, 67).all()
    assert read_back(people["income"]).between(18_000, 120_000).all()
    assert set(people["sex"]) == set(SEXES) and set(people["branch"]) == set(BRANCHES)
    assert people["job"].value_counts(normalize=True).between(0.25, 0.4).all()
    assert people["branch"].value_counts(normalize=True).between(0.25, 0.4).all()
    assert people["sex"].value_counts(normalize=True).between(0.48, 0.52).all()
    assert 0.2 < people["age"].corr(people["income"]) < 0.9


def read_back(numbers: pd.Series) -> pd.Series:
    assert pd.api.types.is_integer_dtype(numbers)
    return numbers


def guessed(people: pd.DataFrame, *columns: str) -> float:
    """Share of jobs guessed right from these columns: the commonest job in each group."""
    groups = people.assign(age=people["age"] // 4, income=people["income"] // 4000).groupby(list(columns))
    return groups["job"].agg(lambda jobs: jobs.value_counts().max()).sum() / len(people)


def test_no_column_decides_alone() -> None:
    people = draw(20_000, seed=2)
    assert guessed(people, "sex") < 0.37  # sex says nothing
    for column in ("age", "branch", "income"):
        assert 0.4 < guessed(people, column) < 0.65, column
    assert guessed(people, "age", "branch", "income") > 0.72


# ---------------------------------------------------------------- the book's table


def test_the_committed_table_is_redrawn_byte_for_byte(tmp_path: Path) -> None:
    selection.write_tables(stored("table_search"), tmp_path)
    for name in ("employees_train.csv", "employees_test.csv"):
        assert (tmp_path / name).read_bytes() == employees.find(name).read_bytes(), name


def test_the_committed_table_has_its_shape() -> None:
    for name, rows in (("employees_train.csv", 200), ("employees_test.csv", 40)):
        table = read(employees.find(name))
        assert len(table) == rows
        assert table["job"].value_counts(normalize=True).between(0.15, 0.6).all()
    train, test = employees.load_train(), employees.load_test()
    assert (len(train.labels), len(test.labels)) == (200, 40)
    for half in (train.labels[:100], train.labels[100:]):
        assert half.bincount(minlength=3).min() >= 15  # each job arrives in both halves
