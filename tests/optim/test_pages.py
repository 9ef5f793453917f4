"""Buffers that trade contents, and optimizers whose weights come home by that."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch

from samcmp import optim
from samcmp.conformance.optimizer import STEPS_PER_EPOCH, check_optimizer
from samcmp.optim import pages, vectors
from samcmp.optim.space import Space

pytestmark = pytest.mark.skipif(not pages.available(), reason="this system does not move pages between addresses")
NUMEL = 700_001  # two huge pages, the second partly


@pytest.fixture
def buffers() -> tuple[torch.Tensor, torch.Tensor]:
    return pages.zeros(NUMEL, dtype=torch.float32).normal_(), pages.zeros(NUMEL, dtype=torch.float32).normal_()


def test_a_trade_exchanges_contents_and_no_addresses(buffers: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = buffers
    before = a.clone(), b.clone(), a.data_ptr(), b.data_ptr()
    trade = pages.Trade(a, b)
    for turn in range(1, 6):
        trade()
        first, second = before[turn % 2], before[1 - turn % 2]
        assert torch.equal(a, first)
        assert torch.equal(b, second)
    assert (a.data_ptr(), b.data_ptr()) == before[2:]


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_trade_is_whole_where_the_kernel_stops_moving(
    moves: int, buffers: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = buffers
    before = a.clone(), b.clone()
    trade, real, calls = pages.Trade(a, b), pages._mremap(), []

    def tired(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments) if len(calls) <= moves else ctypes.c_void_p(-1).value

    monkeypatch.setattr(pages, "_mremap", lambda: tired)
    trade()
    assert len(calls) == moves + 1
    assert torch.equal(a, before[1])
    assert torch.equal(b, before[0])


@pytest.mark.parametrize("name", ["sam", "asam", "graphsam", "graphsam-released", "mesa", "s2-sam", "msam", "looksam"])
def test_promises_hold_where_weights_and_home_trade_pages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SMALLEST", 1)
    trades: list[int] = []
    call = pages.Trade.__call__
    monkeypatch.setattr(pages.Trade, "__call__", lambda self: (trades.append(1), call(self))[1])

    def build(base: torch.optim.Optimizer) -> Any:
        return optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=0, settings={})

    report = check_optimizer(build, leave_out=("replicas of two ranks stay identical",))
    assert report.ok, str(report)
    assert trades or name == "mesa"  # MESA leaves home in its loss term, not in a step


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1.0, 1e20])
def test_norm_of_float32_is_accurate_at_every_magnitude(scale: float) -> None:
    params = [torch.nn.Parameter(torch.zeros(300, 301)), torch.nn.Parameter(torch.zeros(7))]
    space = Space([{"params": params}], flat=True)
    for p in params:
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * scale
    exact = float(torch.cat([p.grad.double().view(-1) for p in params if p.grad is not None]).norm())
    assert float(vectors.norm(space.gradient())) == pytest.approx(exact, rel=1e-6)


def test_a_gradient_with_inf_has_no_finite_norm() -> None:
    param = torch.nn.Parameter(torch.zeros(9))
    param.grad = torch.ones(9)
    param.grad[4] = torch.inf
    assert not torch.isfinite(vectors.norm(Space([{"params": [param]}], flat=True).gradient()))
