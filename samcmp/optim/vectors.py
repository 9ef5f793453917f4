"""Arithmetic on vectors of a :class:`~samcmp.optim.space.Space` that never waits for the device.

Norms and inner products stay 0-dim tensors. Where a divisor is not finite (an overflown gradient under a loss scale)
nothing is added, so that one bad gradient cannot leave a NaN in a direction that is kept.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from samcmp.optim import kernels
from samcmp.optim.space import Space
from samcmp.optim.vector import Vector

_SMALL = 1e-15  # float32 squares of smaller numbers lose digits
_TINY = 1e-30  # the inverse of a smaller divisor leaves float32
_KIND = operator.attrgetter("device", "dtype")
Length = Tensor | float  # a 0-dim tensor; a plain number where it is in host memory anyway
DELTA = 1e-12  # in u(v) = v / (‖v‖ + δ): a zero gradient perturbs nothing


def length(vector: Vector) -> Length:
    """Return ‖v‖₂ over all elements, in float32 at least."""
    known = _root(kernels.squares(vector))
    return _norm_by_torch(vector) if known is None else known


def norm(vector: Vector) -> Tensor:
    """Return :func:`length` as a 0-dim tensor."""
    known = length(vector)
    return known if isinstance(known, Tensor) else torch.tensor(known, dtype=_wide(vector.tensors[0]))


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return ‖v_k‖₂ of each tensor."""
    return [torch.linalg.vector_norm(t, dtype=_wide(t)) for t in tensors]


def dot(space: Space, a: Vector, b: Vector) -> Tensor:
    """Return ⟨a, b⟩ over all elements, in float32 at least."""
    _, (left, right) = space.paired(a, b)
    if not left:
        return torch.zeros(())
    terms = [_dot(x, y) for x, y in zip(left, right, strict=True)]
    return torch.stack([term.to(terms[0].device, terms[0].dtype) for term in terms]).sum()


def copy_(space: Space, target: Vector, source: Vector) -> None:
    """target ← source; parts that the source does not have become zero."""
    _, (into, values) = space.paired(target, source)
    if into:
        torch._foreach_copy_(into, values)
    if source.wholes is None:
        for part, value in zip(target.parts, source.parts, strict=True):
            if value is None and part is not None:
                part.zero_()


def copy_measured_(space: Space, target: Vector, source: Vector) -> Length:
    """target ← source as by :func:`copy_`; return ‖target‖."""
    square = kernels.copy(target, source)
    if square is None:
        copy_(space, target, source)
    known = _root(square)
    return _norm_by_torch(target) if known is None else known


def add_measured_(space: Space, target: Vector, source: Vector, *, divisor: Length, value: float) -> Length:
    """target ← target + value · source / divisor as by :func:`add_`; return the new ‖target‖."""
    by = _on_host(divisor)
    square = None if by is None else kernels.add(target, source, value / by)
    if square is None:
        add_(space, target, source, divisor=divisor, values=value)
    known = _root(square)
    return _norm_by_torch(target) if known is None else known


def add_(space: Space, target: Vector, source: Vector, *, divisor: Length, values: Sequence[float] | float) -> None:
    """target ← target + value · source / divisor, a value for each param group; nothing if that is not finite."""
    groups, (into, terms) = space.paired(target, source)
    factors = _each(values, groups)
    by = torch.as_tensor(divisor)
    if not _in_host_memory([by, *into, *terms]):
        for x, y, value in zip(into, terms, factors, strict=True):
            _add_guarded(x, y, by, value)
        return
    number = float(by.numpy())
    if not math.isfinite(number):
        return
    if not _precise([*into, *terms]):
        for x, y, value in zip(into, terms, factors, strict=True):
            x.add_(y.to(_wide(y)).div(by), alpha=value)
    elif abs(number) < _TINY:
        for x, y, value in zip(into, terms, factors, strict=True):
            x.addcdiv_(y, by.to(x.dtype), value=value)
    elif len(set(factors)) == 1:
        torch._foreach_add_(into, terms, alpha=factors[0] / number)
    else:
        for x, y, value in zip(into, terms, factors, strict=True):
            x.add_(y, alpha=value / number)


def sum_(
    space: Space, target: Vector, start: Vector, source: Vector, *, divisor: Length, values: Sequence[float] | float
) -> None:
    """target ← start + value · source / divisor as by :func:`add_`, whatever the target held before."""
    by = _on_host(divisor)
    if by is not None:
        factors = [value / by for value in _each(values, range(len(space.groups)))]
        if kernels.climb(target, start, source, factors):
            return
        if not source.has_gaps and _precise([*target.tensors, *source.tensors]):
            groups, (into, base, terms) = space.paired(target, start, source)
            # From the end: what the cache still has of a direction is what its norm read last.
            for k in range(len(into) - 1, -1, -1):
                torch.add(base[k], terms[k], alpha=factors[groups[k]], out=into[k])
            return
    for x, y in zip(target.tensors, start.tensors, strict=True):
        x.copy_(y)
    add_(space, target, source, divisor=divisor, values=values)


def one_if_finite(length: Tensor) -> Tensor:
    """Return a divisor of 1, or one that lets :func:`add_` add nothing."""
    return torch.where(torch.isfinite(length), 1.0, torch.inf)


def replace_overflow_(space: Space, target: Vector, source: Vector) -> None:
    """target ← source if ‖target‖ is not finite."""
    length = norm(target)
    if length.device.type == "cpu" and math.isfinite(float(length.numpy())):
        return
    _, (into, values) = space.paired(target, source)
    for x, y in zip(into, values, strict=True):
        x.copy_(torch.where(torch.isfinite(length).to(x.device), x, y))


def add_units_(target: Vector, source: Vector, factor: float) -> None:
    """target_k ← target_k + factor · source_k/(‖source_k‖ + δ), tensor by tensor."""
    for part, value in zip(target.parts, source.parts, strict=True):
        if part is not None and value is not None:
            length = torch.linalg.vector_norm(value, dtype=_wide(value)) + DELTA
            unit = torch.where(torch.isfinite(length), value / length, 0)
            part.add_(unit.to(part.dtype), alpha=factor)


def axpy_(space: Space, target: Vector, source: Vector, factor: float) -> None:
    """target ← target + factor · source, where both have a part."""
    _, (into, terms) = space.paired(target, source)
    if into:
        torch._foreach_add_(into, _as(terms, into), alpha=factor)


def scaled_sum_(space: Space, target: Vector, source: Vector, factor: float) -> None:
    """target ← factor · target + source, where both have a part."""
    _, (into, terms) = space.paired(target, source)
    if into:
        torch._foreach_mul_(into, factor)
        torch._foreach_add_(into, terms)


def average_(space: Space, target: Vector, source: Vector, *, share: float) -> None:
    """target ← (1 − share) · target + share · source; nothing of a source whose norm is not finite."""
    length = norm(source)
    if share < 1:
        for tensor in target.tensors:
            factor = torch.full((), 1 - share, dtype=tensor.dtype, device=tensor.device)
            tensor.mul_(torch.where(torch.isfinite(length).to(tensor.device), factor, 1.0))
    else:
        for tensor in target.tensors:
            tensor.zero_()
    add_(space, target, source, divisor=one_if_finite(length), values=share)


def zero_(vector: Vector) -> None:
    """v ← 0."""
    for tensor in vector.tensors:
        tensor.zero_()


def multiply_(vector: Vector, factor: Tensor | float) -> None:
    """v ← factor · v."""
    for tensor in vector.tensors:
        tensor.mul_(factor if isinstance(factor, float) else factor.to(tensor.device))


def _each(values: Sequence[float] | float, groups: Sequence[int]) -> list[float]:
    return [values] * len(groups) if isinstance(values, (int, float)) else [values[group] for group in groups]


def _in_host_memory(tensors: Sequence[Tensor]) -> bool:
    return all(device.type == "cpu" for device, _ in _kinds(tensors))


def _precise(tensors: Sequence[Tensor]) -> bool:
    """Tell whether these are numbers in host memory of 32 bits or more: sums of them need no wider ones between."""
    return all(device.type == "cpu" and dtype.itemsize >= 4 for device, dtype in _kinds(tensors))


def _add_guarded(x: Tensor, y: Tensor, divisor: Tensor, value: float) -> None:
    by = divisor.to(x.device)
    ok = torch.isfinite(by)
    step = torch.where(ok, y.to(_wide(y)), 0).div_(torch.where(ok, by, 1))
    x.add_(step, alpha=value)


def _on_host(divisor: Length) -> float | None:
    """Return a divisor whose inverse is a number, if it is in host memory already: nothing is waited for."""
    if isinstance(divisor, Tensor):
        if divisor.device.type != "cpu":
            return None
        divisor = float(divisor.numpy())
    return divisor if _TINY < abs(divisor) < math.inf else None


def _root(square: float | None) -> float | None:
    """Return √Σx² of float32 sums; None where they left float32's range."""
    return None if square is None or not _SMALL**2 < square < math.inf else math.sqrt(square)


def _norm_by_torch(vector: Vector) -> Tensor:
    tensors = vector.wholes or vector.pieces() or vector.tensors
    return _root_of_squares([_norm(some) for some in _alike(tensors)])


def _as(terms: list[Tensor], like: list[Tensor]) -> list[Tensor]:
    return [t.to(x.dtype) for t, x in zip(terms, like, strict=True)]


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _alike(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Sort tensors by device and dtype."""
    if len(_kinds(tensors)) == 1:
        return [list(tensors)]
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return list(kinds.values())


def _kinds(tensors: Sequence[Tensor]) -> set[tuple[torch.device, torch.dtype]]:
    return set(map(_KIND, tensors))


def _norm(tensors: list[Tensor]) -> Tensor:
    first = tensors[0]
    if first.device.type == "cpu" and first.element_size() >= 4:
        flat = list(map(torch.ravel, tensors))
        squares = list(map(torch.dot, flat, flat))  # at the speed of memory, as vector_norm and foreach_norm are not
        length = (squares[0] if len(squares) == 1 else torch.stack(squares).sum()).sqrt_()
        if _SMALL < float(length.numpy()) < math.inf:
            return length
        largest = (float(torch.linalg.vector_norm(t, torch.inf).numpy()) for t in tensors if t.numel())
        if max(largest, default=0.0) in (0, math.inf):
            return length
        # Squares left the range of float32: once more in float64, which for float64 changes nothing.
        precise = [torch.linalg.vector_norm(t, dtype=torch.float64) for t in tensors]
        return _length(torch.stack(precise)).to(length.dtype)
    if len(tensors) == 1:
        return _length(first)
    return _length(torch.stack(torch._foreach_norm(tensors, 2, _wide(first))))


def _root_of_squares(values: list[Tensor]) -> Tensor:
    if not values:
        return torch.zeros(())
    if len(values) == 1:
        return values[0]
    kind = torch.float64 if any(v.dtype == torch.float64 for v in values) else torch.float32
    return _length(torch.stack([v.to(values[0].device, kind) for v in values]))


def _length(tensor: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(tensor, dtype=_wide(tensor))
    return length


def _dot(x: Tensor, y: Tensor) -> Tensor:
    if x.is_contiguous() and y.is_contiguous() and x.element_size() >= 4 and x.dtype == y.dtype:
        return torch.dot(x.view(-1), y.view(-1))
    return (x.to(_wide(x)) * y.to(_wide(y))).sum()
