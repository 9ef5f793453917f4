"""Arithmetic on vectors as long as all parameters together, one tensor a parameter; it never waits for the device.

``None`` stands for a tensor of zeros: a parameter without a gradient. Norms and inner products are 0-dim tensors, in
float32 at least; a coefficient is a number, such a tensor, or a list of these, one for each parameter.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

Vector = Sequence[Tensor | None]
DELTA = 1e-12  # in v / (‖v‖ + δ): a zero gradient perturbs nothing


def present(v: Vector) -> list[Tensor]:
    """Return the tensors that are there."""
    return [part for part in v if part is not None]


def norm(v: Vector) -> Tensor:
    """Return ‖v‖₂ over all elements."""
    tensors = present(v)
    if not tensors:
        return torch.zeros(())
    length: Tensor = torch.linalg.vector_norm(_stacked(torch._foreach_norm(tensors, 2, _wide(tensors))))
    return length


def norms(v: Vector) -> list[Tensor]:
    """Return ‖v_k‖₂ of each tensor."""
    return [torch.zeros(()) if part is None else torch.linalg.vector_norm(part, dtype=_wide([part])) for part in v]


def dot(x: Vector, y: Vector) -> Tensor:
    """Return ⟨x, y⟩ over all elements."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    if not pairs:
        return torch.zeros(())
    kind = _wide([a for a, _ in pairs])
    return _stacked([torch.dot(a.reshape(-1).to(kind), b.reshape(-1).to(kind)) for a, b in pairs]).sum()


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a/b, or 0 where b is 0 or one of the two is not finite."""
    return torch.where((b != 0) & torch.isfinite(a) & torch.isfinite(b), a / torch.where(b != 0, b, 1), 0)


def axpby_(a: float, x: Vector, b: float | Tensor | Sequence[Tensor], y: Vector) -> None:
    """x ← a x + b y, in place; a missing tensor of x stays missing. With a = 0 what x held does not matter."""
    if a == 0:
        torch._foreach_zero_(present(x))
    elif a != 1:
        torch._foreach_mul_(present(x), a)
    coefficients = [b] * len(x) if isinstance(b, (int, float, Tensor)) else b
    rows = [(s, c, t) for s, c, t in zip(x, coefficients, y, strict=True) if s is not None and t is not None]
    if not rows:
        return
    into, factors, terms = (list(column) for column in zip(*rows, strict=True))
    if isinstance(b, (int, float)):
        torch._foreach_add_(into, terms, alpha=b)
    elif isinstance(b, Tensor) and b.is_cuda:  # few launches; on a CPU a product of its own costs a pass over memory
        torch._foreach_add_(into, torch._foreach_mul(terms, b))
    else:
        terms = [t.float() if t.itemsize < 4 else t for t in terms]  # 1/‖v‖ leaves the range of 16 bits
        torch._foreach_addcmul_(into, terms, [c.to(s.device) for s, c in zip(into, factors, strict=True)])


def copy_(x: Vector, y: Vector) -> None:
    """x ← y; a tensor that y lacks becomes zero."""
    rows = [(s, t) for s, t in zip(x, y, strict=True) if s is not None]
    torch._foreach_copy_([s for s, t in rows if t is not None], [t for _, t in rows if t is not None])
    for s, t in rows:
        if t is None:
            s.zero_()


def negative(v: Vector) -> list[Tensor | None]:
    """Return −v."""
    return [None if part is None else -part for part in v]


def zero_if_overflown_(v: Vector) -> None:
    """v ← 0 where ‖v‖ is not finite: a gradient that overflowed under a loss scale points nowhere."""
    finite = torch.isfinite(norm(v))
    for part in present(v):
        part.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0).mul_(finite.to(part.device))


def _wide(tensors: Iterable[Tensor]) -> torch.dtype:
    return functools.reduce(torch.promote_types, {t.dtype for t in tensors}, torch.float32)


def _stacked(values: Sequence[Tensor]) -> Tensor:
    if len({value.device for value in values}) > 1:
        values = [value.to(values[0].device) for value in values]
    return torch.stack(list(values))
