"""CoMPT's two norms; neither is torch's layer norm."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_EPSILON = 1e-6
_NO_EPSILON = 1e-30  # for torch's kernel, which adds its own to the variance: a constant row still has a finite inverse


class _Normalise(Function):
    """a (x - mean) / (s + epsilon) + b by torch's layer-norm kernel and a factor a row.

    With sigma the biased deviation that the kernel divides by and s = c sigma, c^2 = d / (d - 1), the factor is
    f = sigma / (s + epsilon) = 1 / (c + epsilon / sigma). Backward is the kernel's, times f, plus
    f (1 - c f) x^ mean(t x^) / sigma with t = a g and x^ = (x - mean) / sigma: what f's own change adds.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        d = x.shape[-1]
        scaled, mean, inverse = torch.native_layer_norm(x, (d,), a, None, _NO_EPSILON)  # a x^, mean, 1 / sigma
        f = 1 / (inverse * _EPSILON + math.sqrt(d / (d - 1)))
        ctx.save_for_backward(x, a, scaled, mean, inverse, f)
        return torch.addcmul(b, scaled, f)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, a, scaled, mean, inverse, f = ctx.saved_tensors
        d = x.shape[-1]
        d_x, d_a, _ = torch.ops.aten.native_layer_norm_backward(
            grad * f, x, (d,), mean, inverse, a, None, (True, True, False)
        )
        along = torch.linalg.vecdot(grad, scaled).unsqueeze(-1) / d  # mean(t x^)
        extra = f * (1 - math.sqrt(d / (d - 1)) * f) * along * inverse * inverse
        d_x.addcmul_(x - mean, extra)
        return d_x, d_a, grad.flatten(0, -2).sum(0)


class LayerNorm(nn.Module):
    """a (x - mean) / (s + 1e-6) + b with the unbiased standard deviation s."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.a_2 = nn.Parameter(torch.ones(hidden))
        self.b_2 = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # plain arithmetic is what a compiler fuses best
            s, mean = torch.std_mean(x, -1, keepdim=True)
            return torch.addcmul(self.b_2, (x - mean) / (s + _EPSILON), self.a_2)
        out: Tensor = _Normalise.apply(x.to(self.a_2.dtype), self.a_2, self.b_2)  # type: ignore[no-untyped-call]
        return out


class ScaleNorm(nn.Module):
    """g x / max(|x|, 1e-5)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.sqrt(hidden)))

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-5)
        out: Tensor = x * (self.scale / length)
        return out
