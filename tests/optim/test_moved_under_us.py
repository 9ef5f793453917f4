"""What users and libraries do to parameters, gradients and states between steps: nothing stale is read or written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samcmp.optim import GSAM, SAM, WSAM, LookSAM, kernels, pages, vectors
from samcmp.optim.base import Plain, SharpnessAware

RHO = 0.1
Bases = list[torch.optim.Optimizer]
Copies = list[list[nn.Parameter]]


@pytest.fixture(autouse=True)
def every_vector_is_large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(kernels, "SMALLEST", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Slope:
    """A closure whose loss is ⟨p, slope⟩: every gradient is ``slope``; notes the parameter at every call."""

    def __init__(self, param: nn.Parameter, slope: Tensor) -> None:
        self.param, self.slope, self.seen = param, slope, list[Tensor]()

    def __call__(self) -> Tensor:
        self.param.grad = None
        self.seen.append(self.param.detach().clone())
        loss = (self.param * self.slope).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def error(self) -> float:
        """How far the last step's perturbation is from ρ g/‖g‖."""
        expected = RHO * self.slope / self.slope.norm()
        return float((self.seen[-1] - self.seen[-2] - expected).abs().max())


def sam_of(param: nn.Parameter) -> SAM:
    return SAM(torch.optim.SGD([param], lr=0.0), rho=RHO)


# ---- parameters


@pytest.mark.parametrize(
    ("become", "slope"),
    [
        (lambda old: old.t(), lambda g: g),
        (lambda old: old[:3], lambda g: g[:3]),
        (lambda old: old.view(25, 100), lambda g: g.view(25, 100)),
    ],
    ids=["transposed", "narrowed", "another shape"],
)
def test_a_parameter_that_changes_shape_at_its_place_is_noticed(
    become: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
) -> None:
    param, g = nn.Parameter(torch.randn(50, 50)), torch.randn(50, 50)
    closure = Slope(param, g)
    optimizer = sam_of(param)
    optimizer.step(closure)
    place = param.data_ptr()
    param.grad = None
    param.data = become(param.data)
    assert param.data_ptr() == place
    closure.slope = slope(g)
    optimizer.step(closure)
    assert closure.error() < 1e-6


@pytest.mark.parametrize("before", [True, False])
def test_parameters_shared_with_other_processes_stay_shared(before: bool) -> None:
    param = nn.Parameter(torch.randn(50, 50))
    if before:
        param.share_memory_()  # type: ignore[no-untyped-call]
    optimizer = sam_of(param)
    closure = Slope(param, torch.randn(50, 50))
    optimizer.step(closure)
    param.share_memory_()  # type: ignore[no-untyped-call]
    optimizer.step(closure)
    assert param.untyped_storage().is_shared()
    assert closure.error() < 1e-6


@pytest.mark.parametrize("at", [1, 2])
def test_parameters_that_move_within_a_step_are_refused_or_come_home(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SMALLEST", 1)
    param = nn.Parameter(torch.randn(50, 50))
    optimizer = sam_of(param)
    closure = Slope(param, torch.randn(50, 50))
    optimizer.step(closure)
    before = param.detach().clone()

    def moving() -> Tensor:
        if len(closure.seen) == 1 + at:  # two of the first step
            param.share_memory_()  # type: ignore[no-untyped-call]
        return closure()

    if at == 1:
        with pytest.raises(RuntimeError, match="between the passes"):
            optimizer.step(moving)
    else:
        optimizer.step(moving)
    assert torch.equal(param, before)
    optimizer.step(closure)
    assert closure.error() < 1e-6


def test_references_that_kept_a_parameter_in_its_place_keep_it_there_when_a_group_comes() -> None:
    param, new = nn.Parameter(torch.randn(50, 50)), nn.Parameter(torch.randn(50, 50))
    seen = param.data  # somebody's view of the numbers, taken before there is an optimizer
    optimizer = sam_of(param)
    optimizer.add_param_group({"params": [new]})
    assert seen.data_ptr() == param.data_ptr()


def test_a_group_that_the_base_was_given_has_the_first_groups_rho() -> None:
    param, new = nn.Parameter(torch.randn(50, 50)), nn.Parameter(torch.randn(50, 50))
    optimizer = sam_of(param)
    closure = Slope(param, torch.randn(50, 50))
    optimizer.step(closure)
    optimizer.base.add_param_group({"params": [new]})
    optimizer.step(closure)
    assert optimizer.rhos == [RHO, RHO]


# ---- gradients


def test_a_gradient_that_torch_negates_when_it_reads_it_has_its_sign() -> None:
    param, g = nn.Parameter(torch.randn(50, 50)), torch.randn(50, 50)
    optimizer = sam_of(param)
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(param.detach().clone())
        param.grad = torch._neg_view(g)
        return torch.tensor(0.0)

    optimizer.step(closure)
    torch.testing.assert_close(seen[1] - seen[0], -RHO * g / g.norm(), rtol=1e-3, atol=1e-6)


def test_a_gradient_without_memory_is_zero() -> None:
    param = nn.Parameter(torch.randn(50, 50))
    optimizer = sam_of(param)
    seen: list[Tensor] = []

    def closure() -> Tensor:
        seen.append(param.detach().clone())
        param.grad = torch._efficientzerotensor((50, 50))
        return torch.tensor(0.0)

    optimizer.step(closure)
    assert torch.equal(seen[0], seen[1])


def test_a_gradient_of_another_size_than_its_parameter_is_not_walked() -> None:
    param = nn.Parameter(torch.randn(50, 50))
    space = sam_of(param).space
    param.grad = torch.randn(50, 50)
    param.grad.data = torch.randn(5)  # torch checks what becomes .grad, not what becomes its data
    assert kernels.squares(space.gradient()) is None


@pytest.mark.parametrize("slope", [0.0, 1e-30, 1e30, torch.inf])
def test_a_parameter_without_elements_changes_no_norm(slope: float) -> None:
    params = [nn.Parameter(torch.zeros(50)), nn.Parameter(torch.zeros(0))]
    space = SAM(torch.optim.SGD(params, lr=0.1)).space
    params[0].grad, params[1].grad = torch.full((50,), slope), torch.zeros(0)
    assert float(vectors.norm(space.gradient())) == pytest.approx(slope * 50**0.5, rel=1e-6)


@pytest.mark.parametrize("make", [GSAM, WSAM, LookSAM])
def test_a_gradient_kept_over_a_pass_is_no_view_of_a_bucket(make: type[SharpnessAware]) -> None:
    ends = []
    for bucket in (None, torch.empty(2500)):
        torch.manual_seed(0)
        param, matrix = nn.Parameter(torch.randn(50, 50)), torch.randn(50, 50)
        optimizer = make(torch.optim.SGD([param], lr=0.1), rho=0.5)

        def closure(param: Any = param, matrix: Tensor = matrix, bucket: Tensor | None = bucket) -> Tensor:
            param.grad = None
            loss = (matrix @ param).tanh().square().mean()
            loss.backward()
            if bucket is not None:  # as DistributedDataParallel's gradient_as_bucket_view does
                param.grad = bucket.copy_(param.grad.view(-1)).view(50, 50)
            return loss.detach()  # type: ignore[no-any-return]

        for _ in range(3):
            optimizer.step(closure)
        ends.append(param.detach().clone())
    assert torch.equal(*ends)


def test_a_gradient_that_nobody_else_has_is_kept_without_a_copy() -> None:
    param = nn.Parameter(torch.randn(50, 50))
    optimizer = sam_of(param)
    Slope(param, torch.randn(50, 50))()
    grad = param.grad
    assert grad is not None
    assert optimizer.hold(optimizer.space.gradient()).parts[0] is grad


# ---- the base's state and groups


def replaced_groups(bases: Bases, copies: Copies) -> None:
    for base in bases:
        base.param_groups = [dict(group) for group in base.param_groups]
        base.param_groups[0]["lr"] = 0.5


def regrouped(bases: Bases, copies: Copies) -> None:
    for base in bases:
        first, second = (group["params"] for group in base.param_groups)
        second.insert(0, first.pop())


def reset(bases: Bases, copies: Copies) -> None:
    for base, params in zip(bases, copies, strict=True):
        base.state[params[1]] = {}


def entry(name: str, value: Callable[[Tensor], Tensor]) -> Callable[[Bases, Copies], None]:
    def change(bases: Bases, copies: Copies) -> None:
        for base, params in zip(bases, copies, strict=True):
            base.state[params[1]][name] = value(params[1].detach())

    return change


def option(**options: Any) -> Callable[[Bases, Copies], None]:
    return lambda bases, copies: [base.param_groups[0].update(options) for base in bases]  # type: ignore[return-value]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(replaced_groups, id="groups replaced"),
        pytest.param(regrouped, id="a parameter changes its group"),
        pytest.param(reset, id="a parameter's state is reset"),
        pytest.param(entry("step", lambda p: torch.tensor(0.0)), id="a clock is replaced"),
        pytest.param(entry("exp_avg", torch.zeros_like), id="an average is replaced"),
        pytest.param(option(fused=False), id="no longer fused"),
        pytest.param(option(maximize=True, weight_decay=0.3), id="other options"),
        pytest.param(option(weight_decay=0.3, decoupled_weight_decay=True), id="decay decoupled"),
    ],
)
def test_the_direct_call_follows_what_happens_to_the_base(change: Callable[[Bases, Copies], None]) -> None:
    copies, bases, optimizer = pair(torch.optim.Adam, weight_decay=0.1)
    for t in range(8):
        if t == 3:
            change(bases, copies)
        steps(copies, bases[0], optimizer, t)
        assert all(torch.equal(a, b) for a, b in zip(*copies, strict=True))


@pytest.mark.parametrize(
    ("kind", "settings", "groups"),
    [
        (torch.optim.Adam, {"weight_decay": 0.1, "decoupled_weight_decay": True}, 2),
        (torch.optim.AdamW, {"weight_decay": 0.1}, 2),
        (torch.optim.Adam, {}, 3),
    ],
    ids=["Adam with decoupled decay", "AdamW", "an empty group"],
)
def test_the_direct_call_is_the_base_for(kind: Any, settings: dict[str, Any], groups: int) -> None:
    copies, bases, optimizer = pair(kind, groups=groups, **settings)
    for t in range(4):
        steps(copies, bases[0], optimizer, t)
    assert all(torch.equal(a, b) for a, b in zip(*copies, strict=True))
    assert optimizer._descent._groups is not None


def pair(kind: Any, *, groups: int = 2, **settings: Any) -> tuple[Copies, Bases, Plain]:
    """Return two copies of some parameters, a base over each in two groups (and empty ones), one of them wrapped."""
    draw = torch.Generator().manual_seed(0)
    first = [torch.randn(shape, generator=draw) for shape in [(30, 31), (7,), (64,)]]
    copies = [[nn.Parameter(t.clone()) for t in first] for _ in range(2)]
    split = [[{"params": ps[:2]}, {"params": ps[2:], "lr": 0.1}, {"params": []}][:groups] for ps in copies]
    bases = [kind(some, lr=0.01, fused=True, **settings) for some in split]
    return copies, bases, Plain(bases[1])


def steps(copies: Copies, alone: torch.optim.Optimizer, optimizer: Plain, t: int) -> None:
    for params in copies:
        draw = torch.Generator().manual_seed(t)
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw)
    alone.step()
    optimizer.step(lambda: torch.tensor(0.0))


# ---- numba


def test_without_numbas_compiler_the_loops_stay_out() -> None:
    program = (
        "import torch; from samcmp.optim import kernels, SAM; kernels.SMALLEST = 1; torch.set_num_threads(1)\n"
        "p = torch.nn.Parameter(torch.ones(50)); o = SAM(torch.optim.SGD([p], lr=0.1)); p.grad = torch.ones(50)\n"
        "assert kernels.squares(o.space.gradient()) is None\n"
        "o.step(lambda: torch.tensor(0.0))"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
