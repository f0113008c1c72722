"""choose as a tool for other people's networks: what it takes, what it refuses, what it says."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from wsp.lab.choose import (
    Candidate,
    can_tell,
    candidates,
    cheapest,
    choose,
    chosen,
    multi_label,
    one_logit,
    plot,
    recommend,
    right_class,
    score_rows,
    squared_error,
    start,
    trial,
)
from wsp.lab.employees import Table

Train = Callable[[nn.Module, Table, torch.Generator], Iterator[None]]
QUICK: dict[str, Any] = {"lamdas": [0.5], "sigmas": [0.01], "epochs": 2, "folds": 2}


def data(rows: int, seed: int = 0) -> Table:
    """The sign of the first of four numbers."""
    inputs = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))
    return Table(inputs, (inputs[:, 0] > 0).long())


def training(loss: Callable[[Any, Tensor], Tensor], rate: float = 0.5) -> Train:
    """Whole tables a step."""

    def train(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        optimizer = torch.optim.SGD(network.parameters(), lr=rate)
        while True:
            optimizer.zero_grad()
            loss(network(rows.inputs), rows.labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield

    return train


sgd = training(functional.cross_entropy)


def linear() -> nn.Linear:
    return nn.Linear(4, 2)


def never(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
    raise AssertionError("it must be refused before the first training")


# ---------------------------------------------------------------- networks that are no classifiers


def test_one_logit() -> None:
    """Argmax over one column says class 0 for ever: refused, with the score that will do."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], labels.double())

    torch.manual_seed(0)
    old, rows, new = build().double(), data(200), data(200, seed=1)
    rows, new = (Table(t.inputs.double(), t.labels) for t in (rows, new))

    def double() -> nn.Module:
        return build().double()

    with pytest.raises(ValueError, match=r"gives 1 output a row.* labels go to 1.*score=one_logit"):
        choose(old, double, never, rows, new, **QUICK)
    found = choose(old, double, training(loss, 1.0), rows, new, score=one_logit, **QUICK | {"epochs": 50})
    assert found["accuracy"].min() > 93


def test_regression() -> None:
    inputs = data(200).inputs
    rows = Table(inputs, inputs @ torch.tensor([1.0, 2.0, 0.0, -1.0]))

    def build() -> nn.Module:
        return nn.Linear(4, 1)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return functional.mse_loss(outputs[:, 0], labels)

    with pytest.raises(ValueError, match="for regression pass score=squared_error"):
        choose(build(), build, never, rows, rows, **QUICK)
    torch.manual_seed(0)
    found = choose(build(), build, training(loss, 0.1), rows, rows, score=squared_error,
                   read_at=[1], **QUICK | {"epochs": 40})  # fmt: skip
    assert "accuracy" not in found and found["score"].between(-0.1, 0).all()
    assert (found["low"] <= found["score"]).all() and (found["score"] <= found["high"]).all()
    words = recommend(found)
    assert "score" not in words.split("\n")[0] and "points" not in words and "%" not in words


def test_several_labels_a_row() -> None:
    inputs = data(100).inputs
    rows = Table(inputs, (inputs[:, :3] > 0).float())

    def build() -> nn.Module:
        return nn.Linear(4, 3)

    with pytest.raises(ValueError, match=r"labels has shape \(100, 3\).*score=, such as multi_label"):
        choose(build(), build, never, rows, rows, **QUICK)
    train = training(functional.binary_cross_entropy_with_logits, 1.0)
    found = choose(build(), build, train, rows, rows, score=multi_label, **QUICK | {"epochs": 60})
    assert found["score"].min() > 85


def test_an_answer_for_every_pixel() -> None:
    rows = Table(torch.randn(20, 3, 4, 4), torch.randint(2, (20, 4, 4)))

    def build() -> nn.Module:
        return nn.Conv2d(3, 2, 1)

    def right(outputs: Tensor, labels: Tensor) -> Tensor:
        return 100.0 * (outputs.argmax(dim=1) == labels).flatten(1).float().mean(dim=1)

    with pytest.raises(ValueError, match="for several answers a row"):
        choose(build(), build, never, rows, rows, **QUICK)
    assert len(choose(build(), build, sgd, rows, rows, score=right, **QUICK)) == 3


class Answer:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Wrapped(nn.Module):
    """Gives an object, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear()

    def forward(self, inputs: Tensor) -> Answer:
        return Answer(self.linear(inputs))


def test_outputs_that_are_no_tensor() -> None:
    rows = data(20)
    train = training(lambda outputs, labels: functional.cross_entropy(outputs.logits, labels))
    with pytest.raises(TypeError, match=r"gives a Answer, expected a tensor: pass a score=.*outputs\.logits"):
        choose(Wrapped(), Wrapped, never, rows, rows, **QUICK)
    found = choose(Wrapped(), Wrapped, train, rows, rows,
                   score=lambda outputs, labels: outputs.logits.argmax(dim=1) == labels, **QUICK)  # fmt: skip
    assert "accuracy" in found
    with pytest.raises(TypeError, match="a temperature divides a tensor, but the network gives a Answer"):
        choose(Wrapped(), Wrapped, train, rows, rows, temperatures=[2], **QUICK,
               score=lambda outputs, labels: outputs.logits.argmax(dim=1) == labels)  # fmt: skip


@pytest.mark.parametrize(
    "score, outputs, labels, expected",
    [
        (right_class, [[1.0, 2.0], [3.0, 2.0]], [1, 1], [True, False]),
        (right_class, [[float("nan"), 0.0], [0.0, float("nan")]], [0, 1], [False, False]),
        (one_logit, [[0.1], [-0.1], [0.0]], [1, 1, 0], [True, False, True]),
        (one_logit, [0.1, float("nan")], [1.0, 0.0], [True, False]),
        (multi_label, [[1.0, -1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]], [100.0, 0.0]),
        (squared_error, [[1.0], [2.0]], [1.0, 4.0], [0.0, -4.0]),
        (squared_error, [[1.0, 2.0]], [[3.0, 2.0]], [-2.0]),
    ],
)
def test_scores_by_hand(score: Any, outputs: Any, labels: Any, expected: list[Any]) -> None:
    assert score(torch.tensor(outputs), torch.tensor(labels)).tolist() == expected


@pytest.mark.parametrize("score", [one_logit, multi_label, squared_error])
def test_columns_are_not_stretched(score: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \(5, 2\) do not go with labels of shape \(5,\)"):
        score(torch.zeros(5, 2), torch.zeros(5))
    with pytest.raises(TypeError, match="expected a tensor"):
        score([0.0], torch.zeros(1))


def test_labels_of_one_logit_are_0_and_1() -> None:
    with pytest.raises(ValueError, match="labels 0 or 1, not 1 outputs and labels from 0 to 2"):
        one_logit(torch.zeros(3, 1), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="multi_label: labels must be 0 or 1"):
        multi_label(torch.zeros(1, 2), torch.tensor([[0, 2]]))


@pytest.mark.parametrize(
    "score, error, words",
    [
        (lambda outputs, labels: outputs, ValueError, r"one value a row, of shape \(20,\), not \(20, 2\)"),
        (lambda outputs, labels: outputs.mean(), ValueError, r"not \(\)"),
        (lambda outputs, labels: 1.0, TypeError, "not a float"),
        (lambda outputs, labels: outputs[:, 0] / 0, ValueError, "the score of row 0 is -?inf"),
        (lambda outputs, labels: labels.float() * float("nan"), ValueError, "row 0 is nan: has the training"),
        (lambda outputs, labels: outputs.nonsense, ValueError, "no attribute 'nonsense'"),
    ],
)
def test_a_score_that_will_not_do(score: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        choose(linear(), linear, never, data(20), data(20), score=score, **QUICK)


def test_scoring_leaves_each_layer_in_its_mode() -> None:
    """A frozen BatchNorm in a network in training mode used to be woken by the first reading."""
    network = nn.Sequential(linear(), nn.BatchNorm1d(2), nn.Dropout(0.9))
    network[1].eval()
    seen = []
    network[2].register_forward_hook(lambda module, inputs, outputs: seen.append(module.training))
    score_rows(network, data(10), right_class)
    assert seen == [False]
    assert [module.training for module in network.modules()] == [True, True, False, True]


# ---------------------------------------------------------------- checked before the first training


rows_ = data(20)
UNFIT: dict[str, tuple[Any, type[Exception], str]] = {
    "column": (Table(rows_.inputs, rows_.labels[:, None]), ValueError, r"\(20, 1\).*labels\.squeeze\(1\)"),
    "one-hot": (Table(rows_.inputs, functional.one_hot(rows_.labels)), ValueError, r"argmax\(dim=1\)"),
    "dense": (Table(rows_.inputs, torch.zeros(20, 3, 3).long()), ValueError, "several answers a row"),
    "int32": (Table(rows_.inputs, rows_.labels.int()), ValueError, r"torch\.int32.*labels\.long\(\)"),
    "floats": (Table(rows_.inputs, rows_.labels.float()), ValueError, r"torch\.float32.*squared_error"),
    "bools": (Table(rows_.inputs, rows_.labels.bool()), ValueError, r"torch\.bool.*labels\.long\(\)"),
    "negative": (Table(rows_.inputs, rows_.labels - 1), ValueError, "holds -1, expected class numbers"),
    "too large": (Table(rows_.inputs, rows_.labels * 4), ValueError, "gives 2 outputs .* labels go to 4"),
    "too few labels": (Table(rows_.inputs, rows_.labels[1:]), ValueError, "20 inputs but 19 labels"),
    "no rows": (Table(rows_.inputs[:0], rows_.labels[:0]), ValueError, "has no rows"),
    "nan": (Table(rows_.inputs * float("nan"), rows_.labels), ValueError, "row 0 holds nan; fill"),
    "inf": (Table(rows_.inputs / 0, rows_.labels), ValueError, "row 0 holds -?inf"),
    "doubles": (Table(rows_.inputs.double(), rows_.labels), ValueError, "dtype"),
    "wide": (Table(torch.zeros(20, 5), rows_.labels), ValueError, "5|shape"),
    "tuple": (tuple(rows_), TypeError, "must be a wsp.lab.employees.Table"),
    "list": (list(rows_), TypeError, "must be a wsp.lab.employees.Table.*not a list"),
    "nothing": (None, TypeError, "not a NoneType"),
    "a data set": (torch.utils.data.TensorDataset(*rows_), TypeError, "not a TensorDataset"),
    "NumPy": (Table(rows_.inputs.numpy(), rows_.labels.numpy()), TypeError, "not a ndarray"),  # type: ignore[arg-type]
    "lists": (Table(rows_.inputs.tolist(), rows_.labels.tolist()), TypeError, "not a list"),
    "one number": (Table(torch.tensor(1.0), torch.tensor(1)), ValueError, "is a single number"),
}  # fmt: skip


@pytest.mark.parametrize("which", ["old", "new", "both"])
@pytest.mark.parametrize("unfit, error, words", UNFIT.values(), ids=UNFIT)
def test_unfit_tables(unfit: Any, error: type[Exception], words: str, which: str) -> None:
    old_rows, new_rows = (unfit if which in (one, "both") else rows_ for one in ("old", "new"))
    with pytest.raises(error) as refused:
        choose(linear(), linear, never, old_rows, new_rows, **QUICK)
    assert "\n" not in str(refused.value)
    if which == "both":
        refused.match(words)


def test_a_network_that_cannot_read_the_rows() -> None:
    with pytest.raises(ValueError, match=r"network of build\(\) on old_rows: .*shapes cannot be multiplied"):
        choose(linear(), lambda: nn.Linear(5, 2), never, rows_, rows_, **QUICK)
    with pytest.raises(ValueError, match=r"the network of old on new_rows: .*shapes"):
        choose(nn.Linear(5, 2), linear, never, rows_, rows_, **QUICK)


def test_a_build_that_hands_out_one_object_twice() -> None:
    one, body = linear(), nn.Linear(4, 4)
    for build, words in (
        (lambda: one, "the same network twice"),
        (lambda: nn.Sequential(body, linear()), "that share the trainable parameter 0.weight"),
    ):
        with pytest.raises(ValueError, match=words):
            choose(nn.Sequential(nn.Linear(4, 4), linear()), build, never, rows_, rows_, **QUICK)
    old = nn.Sequential(nn.Linear(4, 4), linear())

    def shares_with_old() -> nn.Module:
        new = nn.Sequential(nn.Linear(4, 4), linear())
        new[0].weight.data = old[0].weight.data  # by memory, not by object
        return new

    kept = copy.deepcopy(old.state_dict())
    with pytest.raises(ValueError, match=r"old network, or one that shares .* 0\.weight"):
        choose(old, shares_with_old, never, rows_, rows_, **QUICK)
    assert all(torch.equal(value, kept[name]) for name, value in old.state_dict().items())
    body.requires_grad_(False)  # a frozen body learns nothing
    found = choose(old, lambda: nn.Sequential(body, linear()), sgd, rows_, rows_, **QUICK)
    assert len(found) == 3


def test_a_network_that_cannot_be_shrunk() -> None:
    """Refused by shrink_perturb_, but before the candidates ahead of it are trained."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs * self.scale

    with pytest.raises(ValueError, match="no parameter to change"):
        choose(Scale(), Scale, never, rows_, rows_, **QUICK)


def test_a_build_that_hands_out_the_old_network_the_first_time() -> None:
    old = linear()
    made: list[nn.Module] = [linear(), old]
    with pytest.raises(ValueError, match="hands out the old network, or one that shares"):
        choose(old, lambda: made.pop() if made else linear(), never, rows_, rows_, **QUICK)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"folds": 2.0}, TypeError, "folds must be an integer, not 2.0"),
        ({"epochs": True}, TypeError, "epochs must be an integer, not True"),
        ({"read_at": [1.5]}, TypeError, "read_at must be an integer, not 1.5"),
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to .*, not -1"),
        ({"sigmas": [10**400]}, ValueError, "sigmas not negative"),
        ({"lamdas": ["0.5"]}, ValueError, "lamdas must be from 0 to 1"),
        ({"stop": 0}, ValueError, "stop must be a share above 0 and below 1"),
        ({"stop": 1}, ValueError, "stop must be a share"),
        ({"stop": 0.96}, ValueError, "that leaves some of 10 rows"),
        ({"stop": float("nan")}, ValueError, "stop must be a share"),
        ({"stop": 0.2, "read_at": [1]}, ValueError, "read_at has no meaning"),
        ({"stop_for": "some"}, ValueError, "stop_for must be 'all' or 'cold'"),
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"temperatures": [0]}, ValueError, "temperatures must be above 0"),
        ({"temperatures": [float("inf")]}, ValueError, "temperatures must be above 0"),
        ({"starts": {"cold": linear}}, ValueError, "'cold' must be a new name"),
        ({"starts": {"mine": 3}}, ValueError, "its start a function"),
    ],
)
def test_bad_requests(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        choose(linear(), linear, never, rows_, rows_, **QUICK | change)


# ---------------------------------------------------------------- copies


def pruned() -> nn.Module:
    network = nn.Sequential(linear(), nn.ReLU(), nn.Linear(2, 2))
    prune.l1_unstructured(network[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    return network


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def normalized() -> nn.Module:
    return nn.utils.weight_norm(linear())  # type: ignore[no-untyped-call,no-any-return]


class Keeps(nn.Module):
    """Keeps its last activation, as many explanations do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear()

    def forward(self, inputs: Tensor) -> Tensor:
        self.kept = self.linear(inputs)
        return self.kept


class Locked(Keeps):
    def __init__(self) -> None:
        super().__init__()
        self.file = open(os.devnull)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("build", [pruned, normalized, Keeps, Locked])
def test_what_deepcopy_cannot_copy(build: Callable[[], nn.Module]) -> None:
    old = build()
    first = next(iter(old.parameters())).requires_grad_(False)
    old(rows_.inputs)
    old.eval()
    with pytest.raises((RuntimeError, TypeError)):
        copy.deepcopy(old)
    copied = trial.copy_of(old, build)
    assert torch.equal(copied(rows_.inputs), old(rows_.inputs)) and not copied.training
    assert not next(iter(copied.parameters())).requires_grad
    assert next(iter(copied.parameters())) is not first
    first.requires_grad_(True)
    before = copy.deepcopy(old.state_dict())
    starts: list[Tensor] = []

    def spy(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        starts.append(network(rows_.inputs).detach())
        yield from sgd(network, rows, order)

    choose(old, build, spy, rows_, rows_, **QUICK)
    assert torch.equal(starts[1], old(rows_.inputs)), "warm is the old network"
    assert all(torch.equal(value, before[name]) for name, value in old.state_dict().items())


def test_the_way_of_copying_does_not_change_the_draws() -> None:
    plain, keeping = linear(), Keeps()
    keeping.linear.load_state_dict(plain.state_dict())
    keeping(rows_.inputs)
    for noise in (None, linear), (Keeps, Keeps):
        pair = Candidate("shrink_perturb", 0.5, 0.1)
        one = start(pair, plain, linear, noise=linear if noise[0] else None, seed=3)
        other = start(pair, keeping, Keeps, noise=noise[0], seed=3)
        assert isinstance(one, nn.Linear) and isinstance(other, Keeps)
        assert torch.equal(one.weight, other.linear.weight)


def test_a_build_of_another_kind_cannot_copy() -> None:
    old = pruned()
    old(rows_.inputs)
    with pytest.raises(ValueError, match="pruned or normalized alike") as refused:
        choose(old, lambda: nn.Sequential(linear(), nn.ReLU(), nn.Linear(2, 2)), never, rows_, rows_, **QUICK)
    assert "\n" not in str(refused.value) and "0.weight" in str(refused.value)


# ---------------------------------------------------------------- more candidates


def test_temperature_divides_while_training_and_not_while_scoring() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, inputs: Tensor) -> Tensor:
            return torch.full((len(inputs), 2), 6.0) + self.weight

    seen: list[float] = []

    def train(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        while True:
            seen.append(float(network(rows.inputs)[0, 0].detach()))
            yield

    scored: list[float] = []

    def score(outputs: Tensor, labels: Tensor) -> Tensor:
        scored.append(float(outputs[0, 0]))
        return labels.float()

    found = choose(Fixed(), Fixed, train, rows_, rows_, temperatures=[3.0], score=score,
                   **QUICK | {"lamdas": [], "epochs": 1})  # fmt: skip
    assert seen == [6, 6, 2, 2] * 2 and set(scored) == {6}
    assert sorted(zip(found["start"], found["temperature"])) == [
        ("cold", 1.0), ("cold", 3.0), ("warm", 1.0), ("warm", 3.0),
    ]  # fmt: skip

    def around(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        network.forward(rows.inputs)  # a hook does not see this
        yield

    with pytest.raises(ValueError, match=r"where train does not call network\(inputs\)"):
        choose(Fixed(), Fixed, around, rows_, rows_, temperatures=[3.0],
               **QUICK | {"lamdas": [], "epochs": 1})  # fmt: skip


def test_starts_of_your_own() -> None:
    old = linear()
    begun: list[Tensor] = []

    def doubled(network: nn.Module, generator: torch.Generator) -> nn.Module:
        assert isinstance(network, nn.Linear) and network is not old
        with torch.no_grad():
            network.weight.mul_(2).add_(torch.rand((), generator=generator))
        begun.append(network.weight.detach().clone())
        return network

    before = old.weight.detach().clone()
    found = choose(old, linear, sgd, rows_, rows_, starts={"doubled": doubled}, **QUICK)
    assert set(found["start"]) == {"cold", "warm", "shrink_perturb", "doubled"}
    assert torch.equal(old.weight, before) and len(begun) == 3, "tried once, then in two folds"
    assert torch.equal(begun[0], begun[1]) and not torch.equal(begun[1], begun[2])
    with pytest.raises(TypeError, match=r"starts\['doubled'\] must return the network to train"):
        choose(old, linear, sgd, rows_, rows_, starts={"doubled": lambda n, g: None}, **QUICK)  # type: ignore[dict-item,return-value]


class Says(nn.Module):
    """Says the class that it is told to say."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.says = 0

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.one_hot(torch.full((len(inputs),), self.says), 3).double()


def test_stopped_at_the_best_epoch_of_the_rows_set_aside() -> None:
    """Right from epoch 3 to 4, then wrong: with patience 2 it trains 5 and counts as of epoch 3."""
    rows = Table(torch.arange(40.0)[:, None], torch.ones(40).long())
    trained: list[Table] = []

    def train(network: Any, rows: Table, order: torch.Generator) -> Iterator[None]:
        trained.append(rows)
        for epoch in range(1, 11):
            network.says = int(epoch in (3, 4))
            yield

    found = choose(Says(), Says, train, rows, rows, stop=0.25, patience=2,
                   **QUICK | {"epochs": 10, "lamdas": []})  # fmt: skip
    assert found["accuracy"].tolist() == [100, 100] and found["epochs"].tolist() == [5, 5]
    assert found["stopped"].all() and set(found["start"]) == {"cold", "warm"}
    new = [set(t.inputs[40:, 0].int().tolist()) for t in trained]
    assert [len(part) for part in new] == [15] * 4, "a quarter of the 20 is watched, and not trained on"
    assert new[0] == new[1] != new[2], "candidates of a fold share it"

    cold = choose(Says(), Says, train, rows, rows, stop=0.25, stop_for="cold", patience=2,
                  read_at=[3], **QUICK | {"epochs": 10, "lamdas": []})  # fmt: skip
    assert [tuple(row) for row in cold[["start", "stopped", "accuracy", "epochs"]].values] == [
        ("cold", True, 100.0, 5), ("cold", False, 0.0, 3), ("warm", False, 0.0, 3),
    ]  # fmt: skip


def test_never_better_counts_as_of_the_first_epoch() -> None:
    rows = Table(torch.zeros(20, 1), torch.ones(20).long())

    def train(network: Any, rows: Table, order: torch.Generator) -> Iterator[None]:
        yield from [None] * 10

    found = choose(Says(), Says, train, rows, rows, stop=0.2, patience=3,
                   **QUICK | {"lamdas": [], "epochs": 10})  # fmt: skip
    assert found["epochs"].tolist() == [4, 4] and (found["accuracy"] == 0).all()


def test_candidates_in_order() -> None:
    listed = [str(c) for c in candidates([0.5], [0.1], temperatures=[2], starts=["fire"])]
    assert listed[:3] == ["cold", "warm", "shrink_perturb 0.5, 0.1"]
    assert listed[3:] == ["cold, temperature 2", "warm, temperature 2", "fire"]


def test_progress() -> None:
    code = (
        "import torch\nfrom wsp.lab.choose import choose\nfrom wsp.lab.employees import Table\n"
        "rows = Table(torch.eye(4), torch.arange(4) % 2)\n"
        "def train(network, rows, order):\n    while True: yield\n"
        "choose(torch.nn.Linear(4, 2), lambda: torch.nn.Linear(4, 2), train, rows, rows, epochs=3, folds=2)\n"
    )
    for wanted in ("1", "0"):
        environment = os.environ | {"WSP_PROGRESS": wanted, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0 and done.stdout == ""
        assert ("48/48" in done.stderr) == (wanted == "1") and (done.stderr == "") == (wanted == "0")


# ---------------------------------------------------------------- what it says


def made_up(right: list[Any], epochs: tuple[int, ...] = (10,)) -> Any:
    """A table of cold, warm and one pair from these rows, in four folds."""
    tried = candidates([0.5], [0.1])[: len(right)]
    values = np.array(right)
    trained, fold_of = np.full((len(tried), 4), 10), np.arange(values.shape[1]) % 4
    return chosen.as_table(tried, dict.fromkeys(epochs, values), trained, fold_of, values[0])


def test_as_good_are_those_that_nobody_is_shown_to_beat() -> None:
    random = np.random.default_rng(0)
    cold = random.random(400) < 0.8
    same = cold.copy()
    same[np.flatnonzero(cold)[:20]] = False
    same[np.flatnonzero(~cold)[:15]] = True
    worse = cold & (random.random(400) < 0.7)
    found = made_up([cold, same, worse]).set_index("start")["as_good"]
    assert found["cold"] and found["warm"] and not found["shrink_perturb"]
    assert made_up([cold, cold, cold])["as_good"].all()


def test_where_the_line_is() -> None:
    """One-sided and exact: 5 rows that only one gets right are 1 in 32, below 5 %; 4 are 1 in 16."""
    for only, apart in ((4, False), (5, True), (6, True)):
        cold = np.arange(40) < 30
        found = made_up([cold, cold & (np.arange(40) >= only)])
        assert list(found["as_good"]) == [True, not apart]
    three = made_up([cold, cold & (np.arange(40) >= 5), cold])  # 1 in 32 is above 5 % over two others
    assert three["as_good"].all()


@pytest.mark.parametrize("counts", [True, False])
def test_the_truly_best_is_among_them_as_often_as_it_says(counts: bool) -> None:
    """Candidates of one worth, where the least of them is cast out the most often: at most 5 %."""
    random = np.random.default_rng(1)
    rounds, kept = 300, 0
    for _ in range(rounds):
        shared = random.normal(0, 1, 60)
        values = shared + random.normal(0, 1, (3, 60))
        found = made_up(list(values > 0) if counts else list(values))
        kept += bool(found.set_index("start")["as_good"]["cold"])
    assert 0.93 <= kept / rounds


def test_the_gain_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    """Warm is right in the even folds alone, so it is chosen by them and loses in the odd ones."""
    even = np.arange(40) % 4 % 2 == 0
    half = np.arange(40) % 8 < 4
    found = made_up([half, even])
    assert found.attrs["chosen_by_halves"] == ["warm", "cold"]
    expected = np.where(even, 0.0, -100.0 * half)
    assert found.attrs["gain"][0] == pytest.approx(expected.mean()) and expected.mean() < 0


def test_choosing_among_equals_gains_nothing() -> None:
    random = np.random.default_rng(2)
    leads, gains, covered, rounds = [], [], 0, 200
    for _ in range(rounds):
        found = made_up(list(random.random((3, 40)) < 0.7))
        leads.append(found["minus_cold"][0])
        estimate, low, high = found.attrs["gain"]
        gains.append(estimate)
        covered += low <= 0 <= high
    assert np.mean(leads) > 3, "the best of three looks better than it is"
    assert abs(np.mean(gains)) < 1
    assert covered / rounds >= 0.95


def test_one_row_in_a_half_says_nothing() -> None:
    found = made_up([np.array([True, False, True]), np.array([False, True, True])])
    assert found.attrs["gain"][1:] == [-math.inf, math.inf]


def test_recommend_says_when_it_cannot_tell() -> None:
    right = np.arange(100) % 10 < 8
    other = right.copy()
    other[:1] = ~other[:1]
    found = made_up([right, other, right])
    words = recommend(found)
    assert words.startswith("Ahead: cold, 80 % on 100 new rows held out.\nCANNOT TELL it from all 2 others")
    assert "Take the cheapest: cold; all were trained alike, so read_at= would show" in words
    assert words.isascii() and "The old network as it is: 80 %" in words and "another seed=" in words
    assert "gains over cold: +0.00 points, on every row the same. Each half" in words
    sooner = made_up([right, other, right], epochs=(5, 10))
    assert "as good after 5 epochs as cold at the end" in recommend(sooner)
    sooner["epochs"] = 7
    assert "Take the cheapest: cold; none of them gets there sooner." in recommend(sooner)
    clear = made_up([right, right & False])
    assert "It is told apart from the other: take it." in recommend(clear)
    assert "CANNOT" not in recommend(clear)
    for spoiled in (found.iloc[:0], found.drop(columns=[]).assign()):
        spoiled.attrs = {}
        with pytest.raises(ValueError, match="the table that choose"):
            recommend(spoiled)


def test_the_cheapest_of_those_as_good() -> None:
    found = made_up([np.ones(10, bool)] * 3).assign(epochs=[30, 5, 10], as_good=[True, False, True])
    assert cheapest(found) == Candidate("shrink_perturb", 0.5, 0.1)
    found["epochs"] = 30
    assert cheapest(found).start == "cold"


@pytest.mark.parametrize("rows, disagreement", [(100, 0.1), (1000, 0.2)])
def test_can_tell_is_the_power_of_the_test(rows: int, disagreement: float) -> None:
    """Four times in five, by simulation of the t interval in pairs."""
    random = np.random.default_rng(3)
    gap = can_tell(rows, disagreement) / 100
    shares = [(disagreement + gap) / 2, (disagreement - gap) / 2, 1 - disagreement]
    differences = random.choice([1.0, -1.0, 0.0], (4000, rows), p=shares)
    error = differences.std(axis=1, ddof=1) / rows**0.5
    assert (differences.mean(axis=1) > 1.96 * error).mean() == pytest.approx(0.8, abs=0.15)
    assert can_tell(4 * rows, disagreement) == pytest.approx(can_tell(rows, disagreement) / 2)


@pytest.mark.parametrize(
    "rows, disagreement", [(0, 0.1), (10**400, 0.1), (math.nan, 0.1), (10, 0), (10, 1.1), (10, math.nan)]
)
def test_can_tell_refuses(rows: int, disagreement: float) -> None:
    with pytest.raises(ValueError, match="rows must be at least 1, disagreement above 0"):
        can_tell(rows, disagreement)


def test_plot() -> None:
    from matplotlib import pyplot

    right = np.arange(100) % 10 < 8
    found = made_up([right, right & (np.arange(100) % 2 == 0), right])
    ax = plot(found)
    assert ax.get_title(loc="left") == "Cannot tell cold from 1 of 2 others"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cold", "shrink_perturb 0.5, 0.1", "warm"]
    full, hollow = ax.lines[:2] if len(ax.lines) == 3 else ax.lines[-3:-1]
    assert full.get_xdata().tolist() == [0, 0] and hollow.get_xdata().tolist() == [-40]
    assert hollow.get_markerfacecolor() == "white" != full.get_markerfacecolor()
    (segments,) = [c.get_segments() for c in ax.collections]
    row = found[found["start"] == "warm"].iloc[0]
    assert segments[2][:, 0] == pytest.approx([row["minus_cold_low"], row["minus_cold_high"]])
    _, other = pyplot.subplots()
    assert plot(found, other) is other
    pyplot.close("all")


def test_importing_draws_nothing() -> None:
    code = "import sys, wsp.lab.choose; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_start_is_what_choose_tried() -> None:
    """The network to train for good is made as the candidates were, and the generator is put back."""
    old, seen = linear(), []

    def spy(network: nn.Module, rows: Table, order: torch.Generator) -> Iterator[None]:
        seen.append(copy.deepcopy(network.state_dict()))
        yield

    choose(old, linear, spy, rows_, rows_, **QUICK | {"epochs": 1})
    state = torch.get_rng_state()
    for place, candidate in enumerate(candidates([0.5], [0.01])):
        begun = start(candidate, old, linear, seed=0)
        assert all(torch.equal(value, seen[place][name]) for name, value in begun.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
