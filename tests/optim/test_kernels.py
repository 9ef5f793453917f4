"""The compiled loops and the direct call of fused Adam: the same numbers as torch's, and only where they apply."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from samcmp import optim
from samcmp.conformance.optimizer import check_optimizer
from samcmp.conformance.trial import STEPS_PER_EPOCH
from samcmp.optim import kernels, vectors
from samcmp.optim.base import Plain
from samcmp.optim.space import Space
from samcmp.optim.vector import Vector

pytest.importorskip("numba")
SHAPES = [(300, 301), (7,), (129, 64), (1,), (64,), (20_001,)]


@pytest.fixture(autouse=True)
def every_vector_is_large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(kernels, "SMALLEST", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn(seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw, dtype=dtype) for shape in SHAPES]


def space_of(dtype: torch.dtype = torch.float32, *, groups: int = 1) -> Space:
    params = [torch.nn.Parameter(t) for t in drawn(0, dtype)]
    return Space([{"params": params[i::groups]} for i in range(groups)], flat=True)


def gradient_of(space: Space, seed: int) -> Vector:
    draw = torch.Generator().manual_seed(seed)
    for p in space.params:
        p.grad = torch.randn(p.shape, generator=draw, dtype=p.dtype)
    return space.gradient()


def flat(vector: Vector) -> Tensor:
    return torch.cat([part.reshape(-1) for part in vector.parts if part is not None]).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_squares_are_those_of_float64(dtype: torch.dtype) -> None:
    space = space_of(dtype)
    g = gradient_of(space, 1)
    exact = float(flat(g).square().sum())
    assert kernels.squares(g) == pytest.approx(exact, rel=1e-7 if dtype == torch.float32 else 1e-14)
    assert kernels.squares(space.theta) == pytest.approx(float(flat(space.theta).square().sum()), rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sum_is_torchs_and_its_norm_is_that_of_the_sum(dtype: torch.dtype) -> None:
    space = space_of(dtype)
    d, g = space.new(), gradient_of(space, 1)
    vectors.copy_(space, d, gradient_of(space, 2))
    expected = [torch.add(x, y, alpha=0.3) for x, y in zip(d.parts, g.parts, strict=True)]
    square = kernels.add(d, g, 0.3)
    for part, wanted in zip(d.parts, expected, strict=True):
        torch.testing.assert_close(part, wanted, rtol=3e-7, atol=1e-7)
    assert square == pytest.approx(float(flat(d).square().sum()), rel=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_climbing_writes_each_group_by_its_own_factor_and_nothing_beside_it(groups: int) -> None:
    space = space_of(groups=groups)
    direction, home = gradient_of(space, 3), space.new()
    vectors.copy_(space, home, space.theta)
    factors = [0.1 * (i + 1) for i in range(groups)]
    for whole in space.theta.tensors:
        whole.fill_(7)  # gaps between the parameters, too
    assert kernels.climb(space.theta, home, direction, factors)
    for k, (part, start, d) in enumerate(zip(space.theta.parts, home.parts, direction.parts, strict=True)):
        torch.testing.assert_close(part, start + factors[space.group_of[k]] * d, rtol=3e-7, atol=1e-7)
    written = sum(int((whole != 7).sum()) for whole in space.theta.tensors)
    assert written == sum(p.numel() for p in space.params)


def test_a_copy_is_exact_and_gives_the_norm() -> None:
    space = space_of()
    d, g = space.new(), gradient_of(space, 4)
    length = vectors.copy_measured_(space, d, g)
    assert all(torch.equal(x, y) for x, y in zip(d.parts, g.parts, strict=True))
    assert float(length) == pytest.approx(float(flat(g).norm()), rel=1e-6)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_numbers_that_are_not_finite_stay_so_in_every_loop(bad: float) -> None:
    space = space_of()
    g = gradient_of(space, 5)
    g.parts[0].view(-1)[4321] = bad  # type: ignore[union-attr]
    assert not math.isfinite(kernels.squares(g))  # type: ignore[arg-type]
    d = space.new()
    assert not math.isfinite(kernels.copy(d, g))  # type: ignore[arg-type]
    assert not math.isfinite(kernels.add(d, gradient_of(space, 6), 1.0))  # type: ignore[arg-type]
    assert torch.equal(torch.isfinite(flat(d)), torch.isfinite(flat(g)))


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1e20])
def test_norms_are_accurate_where_squares_leave_float32(scale: float) -> None:
    space = space_of()
    g = gradient_of(space, 7)
    for part in g.parts:
        part.mul_(scale)  # type: ignore[union-attr]
    assert float(vectors.norm(g)) == pytest.approx(float(flat(g).norm()), rel=1e-6)
    d = space.new()
    assert float(vectors.copy_measured_(space, d, g)) == pytest.approx(float(flat(g).norm()), rel=1e-6)
    one = torch.tensor(1.0)
    assert float(vectors.add_measured_(space, d, g, divisor=one, value=1.0)) == pytest.approx(
        2 * float(flat(g).norm()), rel=1e-6
    )


def left_out_part(space: Space) -> Vector:
    gradient_of(space, 1)
    space.params[2].grad = None
    return space.gradient()


def transposed_part(space: Space) -> Vector:
    gradient_of(space, 1)
    space.params[0].grad = torch.randn(301, 300).t()
    return space.gradient()


@pytest.mark.parametrize("odd", [left_out_part, transposed_part])
def test_loops_leave_gradients_alone_that_they_cannot_walk(odd: Callable[[Space], Vector]) -> None:
    space = space_of()
    g, d = odd(space), space.new()
    assert kernels.squares(g) is None
    assert kernels.add(d, g, 1.0) is None
    assert kernels.climb(d, space.theta, g, [1.0]) is None
    assert kernels.copy(d, g) is None
    assert not flat(d).any()


def test_loops_do_not_run_on_half_precision_mixed_kinds_small_vectors_or_more_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = [torch.nn.Parameter(torch.randn(400, 400, dtype=torch.bfloat16))]
    mixed = [torch.nn.Parameter(torch.randn(400, 400)), torch.nn.Parameter(torch.randn(9, dtype=torch.float64))]
    assert not kernels.worthwhile(half)
    assert not kernels.worthwhile(mixed)
    assert not kernels.worthwhile([])
    g = gradient_of(space_of(), 1)
    assert kernels.squares(g) is not None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert kernels.squares(g) is None
    monkeypatch.setattr(kernels, "SMALLEST", 1 << 30)
    assert not space_of().large


# ---- the direct call of fused Adam

CHOICES = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"weight_decay": 0.1, "maximize": True, "eps": 1e-6, "betas": (0.8, 0.99)}),
    (torch.optim.AdamW, {"weight_decay": 0.1}),
    (torch.optim.Adam, {"lr": torch.tensor(0.01)}),
]


def pair(kind: Any, settings: dict[str, Any]) -> tuple[list[list[Tensor]], list[torch.optim.Optimizer]]:
    """Return two copies of some parameters in two groups, and a base over each."""
    copies = [[torch.nn.Parameter(t.clone()) for t in drawn(0)] for _ in range(2)]
    settings = {"lr": 0.01, **settings, "fused": True}
    made = [kind([{"params": ps[:2], "eps": 1e-5}, {"params": ps[2:]}], **copy.deepcopy(settings)) for ps in copies]
    return copies, made


def hand(copies: list[list[Tensor]], seed: int, *, without: int | None = None) -> None:
    for params in copies:
        draw = torch.Generator().manual_seed(seed)
        for i, p in enumerate(params):
            g = torch.randn(p.shape, generator=draw)
            p.grad = None if i == without else g


def same(copies: list[list[Tensor]]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(*copies, strict=True))


def went_direct(optimizer: Plain) -> bool:
    return optimizer._descent._groups is not None


@pytest.mark.parametrize(("kind", "settings"), CHOICES)
def test_the_direct_call_takes_the_steps_of_the_base_bit_for_bit(kind: Any, settings: dict[str, Any]) -> None:
    copies, (alone, base) = pair(kind, settings)
    optimizer = Plain(base)
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in (alone, optimizer)]
    for t in range(8):
        # a parameter without a gradient in between: the base's own way, and back
        hand(copies, t, without=1 if t == 4 else None)
        alone.step()
        optimizer.step(lambda: torch.tensor(0.0))
        [scheduler.step() for scheduler in schedulers]
        assert same(copies)
    assert went_direct(optimizer)
    mine, theirs = optimizer.base.state_dict(), alone.state_dict()
    assert mine["param_groups"][0]["lr"] == theirs["param_groups"][0]["lr"]
    for k, entry in theirs["state"].items():
        assert all(torch.equal(mine["state"][k][name], value) for name, value in entry.items())


def test_the_direct_call_goes_on_from_a_loaded_state_and_in_a_deep_copy() -> None:
    copies, (alone, base) = pair(torch.optim.Adam, {})
    optimizer = Plain(base)
    for t in range(3):
        hand(copies, t)
        alone.step()
        optimizer.step(lambda: torch.tensor(0.0))
    state = copy.deepcopy(optimizer.state_dict())
    hand(copies, 3)
    twin = copy.deepcopy(optimizer)
    for t in range(3, 6):
        hand(copies, t)
        alone.step()
        optimizer.step(lambda: torch.tensor(0.0))
    for p, g in zip(twin.space.params, copies[0], strict=True):
        assert p.shape == g.shape
    for t in range(3, 6):
        hand([list(twin.space.params)], t)
        twin.step(lambda: torch.tensor(0.0))
    assert all(torch.equal(a, b) for a, b in zip(twin.space.params, copies[0], strict=True))
    before = [p.detach().clone() for p in copies[1]]
    optimizer.load_state_dict(state)
    hand(copies, 9)
    optimizer.step(lambda: torch.tensor(0.0))
    assert went_direct(optimizer)
    assert int(optimizer.base.state[copies[1][0]]["step"]) == 4
    assert not all(torch.equal(a, b) for a, b in zip(before, copies[1], strict=True))


def test_hooks_and_schedulers_of_the_base_are_called() -> None:
    copies, (alone, base) = pair(torch.optim.Adam, {})
    optimizer = Plain(base)
    for t in range(2):
        hand(copies, t)
        alone.step()
        optimizer.step(lambda: torch.tensor(0.0))
    calls = []
    handle = base.register_step_pre_hook(lambda *_: calls.append("before"))
    base.register_step_post_hook(lambda *_: calls.append("after"))
    hand(copies, 2)
    alone.step()
    optimizer.step(lambda: torch.tensor(0.0))
    assert calls == ["before", "after"]
    assert same(copies)
    handle.remove()
    optimizer.step(lambda: torch.tensor(0.0))
    assert calls == ["before", "after", "after"]


def test_a_scheduler_on_the_base_sees_its_steps(recwarn: pytest.WarningsRecorder) -> None:
    copies, (alone, base) = pair(torch.optim.Adam, {})
    optimizer = Plain(base)
    schedulers = [torch.optim.lr_scheduler.StepLR(o, 1) for o in (alone, base)]
    for t in range(4):
        hand(copies, t)
        alone.step()
        optimizer.step(lambda: torch.tensor(0.0))
        [scheduler.step() for scheduler in schedulers]
        assert same(copies)
    assert not recwarn.list


@pytest.mark.parametrize("base_settings", [{"amsgrad": True}, {"fused": False}, {"foreach": True, "fused": False}])
def test_other_ways_of_adam_take_their_own_steps(base_settings: dict[str, Any]) -> None:
    copies = [[torch.nn.Parameter(t.clone()) for t in drawn(0)] for _ in range(2)]
    settings: dict[str, Any] = {"lr": 0.01, "fused": True, **base_settings}
    alone, base = (torch.optim.Adam(ps, **settings) for ps in copies)
    optimizer = Plain(base)
    for t in range(4):
        hand(copies, t)
        alone.step()
        optimizer.step(lambda: torch.tensor(0.0))
        assert same(copies)
    assert not went_direct(optimizer)


# ---- the whole family on the loops


@pytest.mark.parametrize("name", ["adam", "sam", "graphsam", "s2-sam", "msam", "looksam", "gsam", "rst", "vasso"])
def test_promises_hold_on_the_loops(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    for verb in ("squares", "add", "climb", "copy"):
        real = getattr(kernels, verb)

        def noted(*arguments: Any, real: Any = real, verb: str = verb) -> Any:
            found = real(*arguments)
            if found is not None:
                ran.append(verb)
            return found

        monkeypatch.setattr(kernels, verb, noted)

    def build(base: torch.optim.Optimizer) -> Any:
        return optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=0, settings={})

    report = check_optimizer(build, leave_out=("replicas of two ranks stay identical",))
    assert report.ok, str(report)
    assert "climb" in ran or name == "adam"
