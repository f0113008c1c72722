"""What the studies with seeds of their own share: which half chooses, both formats, what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from wsp.lab.many import lanes
from wsp.lab.many.lanes import seeds_of
from wsp.studies import compound, decide, head_start, judge, noise, remedies, stopped, temperature
from wsp.studies.catalog import RESULTS
from wsp.studies.engine import check, run
from wsp.studies.tables import ByTable, choose_elsewhere, in_percent

#: Each study so small that it takes a second.
SMALL: dict[ByTable, dict[str, Any]] = {
    head_start.STUDY: {"first_epochs": [0, 3], "read_at": [0, 2], "test_rows": 400},
    noise.STUDY: {"first_epochs": 3, "epochs": 2, "test_rows": 400},
    compound.STUDY: {"lamdas": [0.5], "twins": [0.5], "rounds": 4, "epochs": 2, "early": 1, "test_rows": 400},
    judge.STUDY: {"lamdas": [0.2], "sigmas": [0.1], "first_epochs": 3, "epochs": 3, "early": 1,
                  "test_rows": 400},
    decide.STUDY: {"new_shares": [0.5], "first_epochs": [2], "budgets": [1, 3], "test_rows": 400},
    stopped.STUDY: {"arms": ["shrink_perturb", "fresh_shrunk"], "first_epochs": 3, "patience": 2,
                    "read_at": [2, 5], "budgets": [3, 5], "test_rows": 400},
    temperature.STUDY: {"starts": ["warm"], "temperatures": [1.0, 4.0], "falls_by": 3, "first_epochs": 3,
                        "patience": 2, "read_at": [2, 5], "budgets": [5], "test_rows": 400},
}  # fmt: skip


@pytest.mark.parametrize("study", SMALL, ids=lambda study: study.name)
def test_a_table_gives_the_same_whoever_is_beside_it(study: ByTable) -> None:
    """Its counts depend on its own number alone, and a slice of the file comes out again."""
    spec = study.specification(**SMALL[study])
    whole = run(study, spec, tables=3)
    alone = run(study, spec, units=[study.done(whole)[1]])
    places = study.rows(whole, [study.done(whole)[1]])
    assert list(study.differences(places, study.rows(alone, study.done(alone)), at_home=True)) == []
    assert study.missing(whole) == []
    assert check(study, whole) == []
    assert study.as_text(whole)


@pytest.mark.parametrize("study", SMALL, ids=lambda study: study.name)
def test_tables_have_seeds_of_their_own(study: ByTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the seeds of another table a table gives other counts; a list over seeds for every table."""
    spec = study.specification(**SMALL[study])
    number = study.first
    own = run(study, spec, units=[number])
    monkeypatch.setattr(lanes, "seeds_of", lambda table, count: seeds_of(table + 1, count))
    other = run(study, spec, units=[number])
    for name in own.keys() - {"tables", "format", "specification", "provenance"}:
        for values in leaves(own[name]):
            assert np.shape(values)[:2] == (1, 2), name
    assert list(study.differences(own, study.rows(other, [number]), at_home=True))


def leaves(found: Any) -> list[Any]:
    """All lists of a result."""
    if isinstance(found, Mapping):
        return [values for value in found.values() for values in leaves(value)]
    return [found]


@pytest.mark.parametrize(
    ("study", "options", "match"),
    [
        (noise.STUDY, {"seeds": 0}, "seeds must be a positive integer, not 0"),
        (noise.STUDY, {"epochs": 0}, "epochs must be a positive integer, not 0"),
        (compound.STUDY, {"early": 300}, "early must be from 1 to epochs, 200, not 300"),
        (compound.STUDY, {"lamdas": [1.5]}, "a lamda must be from 0 to 1, not 1.5"),
        (judge.STUDY, {"folds": 3}, "folds must divide 100 rows, not 3"),
        (judge.STUDY, {"early": 500}, "early must be from 1 to below epochs, 500, not 500"),
        (remedies.STUDY, {"remedy": "prayer"}, "unknown remedy 'prayer': choose from none, "),
        (remedies.STUDY, {"label_noise": 1.5}, "label_noise must be from 0 to 1, not 1.5"),
        (decide.STUDY, {"new_shares": [0.0]}, "share of new rows .* not 0.0"),
        (decide.STUDY, {"budgets": [0]}, "epochs must be a positive integer, not 0"),
        (stopped.STUDY, {"arms": ["hot"]}, "unknown arm 'hot': choose from cold, "),
        (stopped.STUDY, {"held": 200}, "200 rows held out leave nothing to train on"),
        (stopped.STUDY, {"old": "stopped", "held_from": "new"}, "hold rows out of all"),
        (stopped.STUDY, {"old": "young"}, "old must be end or stopped, not 'young'"),
        (head_start.STUDY, {"read_at": [-1]}, r"read_at must be epochs, 0 or more, not \[-1\]"),
        (head_start.STUDY, {"first_epochs": []}, "first_epochs must be epochs"),
        (temperature.STUDY, {"starts": ["hot"]}, "unknown start 'hot'"),
        (temperature.STUDY, {"falls_by": 0}, "falls_by must be a positive integer, not 0"),
    ],
)
def test_refuses_what_cannot_be(study: ByTable, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        study.specification(**options)


def test_both_formats_give_the_same_percent() -> None:
    spec = {"seeds": 2, "test_rows": 50}
    by_seed = np.array([[[10, 20], [30, 40]], [[1, 2], [3, 4]], [[5, 5], [5, 5]]])  # tables, seeds, epochs
    np.testing.assert_array_equal(
        in_percent(spec, by_seed, further=1), in_percent(spec, by_seed.sum(axis=1), further=1)
    )
    np.testing.assert_array_equal(in_percent(spec, by_seed[:, :, 0]), [40, 4, 10])


def test_a_lucky_choice_shows_no_gain_elsewhere() -> None:
    """Ten candidates without any difference: chosen on the same tables one looks better, elsewhere not."""
    random, everywhere, elsewhere = np.random.default_rng(0), [], []
    for _ in range(300):
        candidates = {str(k): random.normal(size=40) for k in range(10)}
        everywhere.append(max(values.mean() for values in candidates.values()))
        names = choose_elsewhere(candidates)
        assert len(set(names[::2])) == len(set(names[1::2])) == 1
        elsewhere.append(np.mean([candidates[name][table] for table, name in enumerate(names)]))
    assert np.mean(everywhere) > 0.1
    assert abs(np.mean(elsewhere)) < 0.03


def test_no_table_has_a_part_in_its_own_choice() -> None:
    candidates = {"a": np.array([9.0, 0.0, 9.0, 0.0]), "b": np.array([0.0, 1.0, 0.0, 1.0])}
    assert choose_elsewhere(candidates).tolist() == ["b", "a", "b", "a"]


def test_the_new_results_are_as_large_as_the_design_asks() -> None:
    new = [result for result in RESULTS.values() if result.study in SMALL or result.study is remedies.STUDY]
    assert len({result.study for result in new}) == 8
    for result in new:
        assert result.settings["tables"] >= 300 and result.specification["seeds"] >= 2
        assert result.specification["test_rows"] >= 2000
