"""Mish by one exponential against torch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from samcmp.backbones import mish as module
from samcmp.backbones.mish import mish

RANGE = torch.linspace(-60, 60, 24_001, dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 5e-7)])
def test_values_and_slopes_equal_torchs(dtype: torch.dtype, tolerance: float) -> None:
    x, exact = RANGE.to(dtype).requires_grad_(), RANGE.clone().requires_grad_()
    ours, theirs = mish(x), F.mish(exact)
    torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)
    (slope,), (expected,) = torch.autograd.grad(ours.sum(), x), torch.autograd.grad(theirs.sum(), exact)
    torch.testing.assert_close(slope.double(), expected, rtol=tolerance, atol=2 * tolerance)


def test_blocks_and_strides_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(7, 9, dtype=torch.float64).t().requires_grad_()
    weight = torch.randn(7, 9, dtype=torch.float64).t()
    whole = mish(x)
    slope = torch.autograd.grad((whole * weight).sum(), x)[0]
    monkeypatch.setattr(module, "BLOCK", 10)
    assert torch.equal(mish(x), whole)
    assert torch.equal(torch.autograd.grad((mish(x) * weight).sum(), x)[0], slope)


def test_half_precision_stays_finite() -> None:
    assert mish(RANGE.half()).isfinite().all()
    assert mish(torch.empty(0, 4)).shape == (0, 4)
