"""`reset_optimizer_state_` on optimizers of other people: a first step like a new one's, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wsp.perturb import perturbed_parameters, reset_optimizer_state_


class GroupStep(Optimizer):
    """Counts its steps in the group, as the fused Adams and timm's Lamb and Adan do."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for g in self.param_groups:
            g["step"] = g.get("step", 0) + 1
            for p in g["params"]:
                s = self.state[p]
                if not s:
                    s["m"], s["v"] = torch.zeros_like(p), torch.zeros_like(p)
                s["m"].lerp_(p.grad, 0.1)
                s["v"].lerp_(p.grad**2, 0.001)
                m, v = s["m"] / (1 - 0.9 ** g["step"]), s["v"] / (1 - 0.999 ** g["step"])
                p -= g["lr"] * m / v.sqrt()


class TensorStep(GroupStep):
    """The same with a tensor, as where a graph is captured."""

    def __init__(self, params: Any, lr: float = 0.01) -> None:
        super().__init__(params, lr)
        for g in self.param_groups:
            g["step"] = torch.zeros(())


class ScheduleFree(Optimizer):
    """Averages over the group: a count and a sum among the defaults."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "k": 0, "weight_sum": 0.0})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for g in self.param_groups:
            g["k"] += 1
            g["weight_sum"] += 1.0
            for p in g["params"]:
                z = self.state[p].setdefault("z", p.clone())
                z -= g["lr"] * p.grad
                p.lerp_(z, 1 / g["weight_sum"])


class Built(Optimizer):
    """Fills its state when it is built."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
        for g in self.param_groups:
            for p in g["params"]:
                self.state[p]["step"] = 0

    def step(self) -> None:  # type: ignore[override]
        for g in self.param_groups:
            for p in g["params"]:
                self.state[p]["step"] += 1


class BuiltWith(Built):
    """And needs an argument that is not among its defaults."""

    def __init__(self, params: Any, model: nn.Module) -> None:
        self.model = model
        super().__init__(params)


class Counter(GroupStep):
    """Counts for all parameters together."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.global_step = 0

    def step(self) -> None:  # type: ignore[override]
        super().step()
        self.global_step += 1


class ListState(Optimizer):
    """Keeps its momentum in a list beside `state`."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
        self.velocities = [torch.zeros_like(p) for g in self.param_groups for p in g["params"]]

    def step(self) -> None:  # type: ignore[override]
        return None


class DictState(ListState):
    """Or in a dictionary by parameter."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        del self.velocities
        self.momenta = {p: torch.zeros_like(p) for g in self.param_groups for p in g["params"]}


class Lookahead(Optimizer):
    """Wraps another optimizer and shares its groups."""

    def __init__(self, inner: Optimizer) -> None:
        super().__init__([p for g in inner.param_groups for p in g["params"]], {})
        self.inner = inner
        self.param_groups = inner.param_groups

    def step(self) -> None:  # type: ignore[override]
        self.inner.step()


def steps(net: nn.Module, optimizer: Any, n: int) -> None:
    for _ in range(n):
        for i, p in enumerate(net.parameters()):
            p.grad = torch.full_like(p, i + 1.0)
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(lambda: sum(p.square().sum() for p in net.parameters()))
        else:
            optimizer.step()


def first_step(net: nn.Module, optimizer: Any) -> list[Tensor]:
    before = [p.detach().clone() for p in net.parameters()]
    steps(net, optimizer, 1)
    return [b - p.detach() for b, p in zip(before, net.parameters(), strict=True)]


STEPS_LIKE_NEW: dict[str, Callable[[Any], Any]] = {
    "group step": GroupStep,
    "group step in a tensor": TensorStep,
    "schedule free": ScheduleFree,
    "lookahead": lambda params: Lookahead(torch.optim.Adam(params, lr=0.01)),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.01),
    "NAdam": lambda params: torch.optim.NAdam(params, lr=0.01),
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "LBFGS": lambda params: torch.optim.LBFGS(params, max_iter=2),
}


@pytest.mark.parametrize("name", STEPS_LIKE_NEW)
def test_the_first_step_after_a_reset_is_a_new_optimizer_s(name: str) -> None:
    net = nn.Linear(2, 2)
    optimizer = STEPS_LIKE_NEW[name](net.parameters())
    steps(net, optimizer, 200)
    twin = nn.Linear(2, 2)
    twin.load_state_dict(net.state_dict())
    assert reset_optimizer_state_(optimizer, net.parameters()) is optimizer
    for one, other in zip(
        first_step(net, optimizer), first_step(twin, STEPS_LIKE_NEW[name](twin.parameters())), strict=True
    ):
        torch.testing.assert_close(one, other)


REFUSED: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "built": (
        lambda net: Built(net.parameters()),
        "Built makes its state only when it is built: build a new",
    ),
    "built with more": (lambda net: BuiltWith(net.parameters(), net), "BuiltWith makes its state only when"),
    "Adagrad": (
        lambda net: torch.optim.Adagrad(net.parameters()),
        "Adagrad makes its state only when it is built",
    ),
    "counter": (
        lambda net: Counter(net.parameters()),
        r"Counter keeps state .*\(global_step\): build a new one",
    ),
    "list": (lambda net: ListState(net.parameters()), r"ListState keeps state .*\(velocities\)"),
    "dictionary": (lambda net: DictState(net.parameters()), r"DictState keeps state .*\(momenta\)"),
    "inside": (lambda net: Lookahead(Counter(net.parameters())), r"Counter keeps state .*\(global_step\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_optimizer_that_cannot_start_afresh_is_refused(name: str) -> None:
    build, match = REFUSED[name]
    net = nn.Linear(2, 2)
    optimizer = build(net)
    steps(net, optimizer, 2)
    kept = {p: dict(state) for p, state in optimizer.state.items()}
    with pytest.raises(ValueError, match=match):
        reset_optimizer_state_(optimizer, net.parameters())
    assert {p: dict(state) for p, state in optimizer.state.items()} == kept
    steps(net, optimizer, 1)


@pytest.mark.parametrize("name", ["group step", "schedule free", "LBFGS"])
def test_a_part_of_what_shares_a_count_is_refused(name: str) -> None:
    net = nn.Linear(2, 2)
    optimizer = STEPS_LIKE_NEW[name](net.parameters())
    steps(net, optimizer, 3)
    with pytest.raises(ValueError, match=r"pass all (parameters of the group|of them), or build a new one"):
        reset_optimizer_state_(optimizer, [net.weight])


def test_a_group_of_its_own_may_be_reset_alone() -> None:
    net = nn.Linear(2, 2)
    optimizer = GroupStep([{"params": [net.weight]}, {"params": [net.bias], "lr": 0.5}])
    steps(net, optimizer, 9)
    optimizer.param_groups[0]["lr"] = 0.003
    reset_optimizer_state_(optimizer, [net.weight])
    assert "step" not in optimizer.param_groups[0] and optimizer.param_groups[1]["step"] == 9
    assert optimizer.param_groups[0]["lr"] == 0.003 and net.bias in optimizer.state


@pytest.mark.parametrize(
    "given",
    [
        lambda net, adam: net,
        lambda net, adam: perturbed_parameters(net),
        lambda net, adam: perturbed_parameters(net).values(),
        lambda net, adam: net.named_parameters(),
        lambda net, adam: dict(net.named_parameters()),
        lambda net, adam: net.state_dict(keep_vars=True),
        lambda net, adam: adam.param_groups,
        lambda net, adam: adam.param_groups[0],
        lambda net, adam: [net.weight],
        lambda net, adam: net.weight,
    ],
)
def test_near_misses_of_the_second_argument_are_understood(given: Any) -> None:
    net = nn.Linear(2, 2)
    adam = torch.optim.Adam(net.parameters())
    steps(net, adam, 1)
    reset_optimizer_state_(adam, given(net, adam))
    assert net.weight not in adam.state


@pytest.mark.parametrize("given", ["weight", ["weight"], 3, None, [nn.Linear(2, 2)]])
def test_what_is_no_tensor_is_refused(given: Any) -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="parameters must be tensors"):
        reset_optimizer_state_(torch.optim.Adam(net.parameters()), given)
    with pytest.raises(TypeError, match="optimizer must be"):
        reset_optimizer_state_(net, net.parameters())  # type: ignore[type-var]
