"""One pass over memory where torch takes two or three, for large float32 and float64 vectors on the CPU.

A step of a sharpness-aware optimizer is norms and sums of vectors that no cache holds: its time is memory traffic.
Here a sum also gives the norm of what it wrote, and θ + ε goes past the cache. Each function returns None, and has
done nothing, where it does not apply: for small vectors, for gradients that lie in pieces, without numba, and where
torch has more than one thread, since its own kernels then share their work.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from samcmp.optim.vector import Vector, Walk

SMALLEST = 1 << 23  # bytes; below, compiling the loops takes longer than many steps gain
_KINDS = {torch.float32: np.float32, torch.float64: np.float64}
_DTYPE = operator.attrgetter("dtype")


def worthwhile(params: Sequence[Tensor]) -> bool:
    """Tell whether vectors shaped like these parameters are of a kind and size that the loops are for."""
    kinds = {(type(p.data), p.dtype, p.device.type) for p in params}
    alike = len(kinds) == 1 and next(iter(kinds)) in {(Tensor, dtype, "cpu") for dtype in _KINDS}
    return alike and sum(map(Tensor.numel, params)) * params[0].itemsize >= SMALLEST


def squares(x: Vector) -> float | None:
    """Return Σ x² over all elements."""
    loops, places, sizes, _ = _side_by_side(x)
    return None if loops is None else float(loops.squares(*places, sizes, loops.run))


def add(x: Vector, y: Vector, factor: float) -> float | None:
    """x ← x + factor · y; return Σ x² of the new x."""
    loops, places, sizes, _ = _side_by_side(x, y)
    return None if loops is None else float(loops.add(*places, sizes, factor, loops.run))


def climb(out: Vector, x: Vector, y: Vector, factors: Sequence[float]) -> bool | None:
    """out ← x + factor · y, a factor for each param group; ``out`` shares no memory with x or y."""
    loops, places, sizes, groups = _side_by_side(out, x, y)
    if loops is None:
        return None
    loops.climb(*places, sizes, np.array(factors, dtype=np.float64)[groups], loops.run)
    return True


def copy(out: Vector, x: Vector) -> float | None:
    """out ← x; return Σ x². They share no memory."""
    loops, places, sizes, _ = _side_by_side(out, x)
    return None if loops is None else float(loops.copy(*places, sizes, loops.run))


_NOWHERE: tuple[None, tuple[()], None, None] = (None, (), None, None)


def _side_by_side(*vectors: Vector) -> tuple[Any, Sequence[Any], Any, Any]:
    """Return the loops, the tensors' addresses (an array for each vector), their sizes and their param groups."""
    layout = vectors[0].layout
    if layout is None or layout.dtype is None or not layout.large or torch.get_num_threads() > 1:
        return _NOWHERE
    whole = all(vector.wholes is not None for vector in vectors)
    walk = layout.walks[whole]
    places = [_places(vector, walk, whole=whole, dtype=layout.dtype) for vector in vectors]
    loops = None if any(some is None for some in places) else _loops(layout.dtype)
    return _NOWHERE if loops is None else (loops, places, walk.sizes, walk.groups)


def _places(vector: Vector, walk: Walk, *, dtype: torch.dtype, whole: bool) -> np.ndarray | None:
    """Return the tensors' addresses, or None unless numbers of ``dtype`` lie there one by one, as many as planned."""
    if whole not in vector.places:
        tensors: list[Any] = vector.tensors if whole else vector.parts
        vector.places[whole] = _found(tensors) if _is_plain(tensors, walk, dtype) else None
    return vector.places[whole]


def _is_plain(tensors: list[Any], walk: Walk, dtype: torch.dtype) -> bool:
    try:
        stored = all(map(Tensor.is_contiguous, tensors)) and list(map(Tensor.numel, tensors)) == walk.numels
        # what torch would negate when it reads it is not what lies in memory
        return stored and set(map(_DTYPE, tensors)) == {dtype} and not any(map(Tensor.is_neg, tensors))
    except (TypeError, RuntimeError):  # a part is None, or sparse
        return False


def _found(tensors: list[Tensor]) -> np.ndarray | None:
    places = np.array(list(map(Tensor.data_ptr, tensors)), dtype=np.uintp)
    if places.all():
        return places
    lazy = any(tensor.numel() for tensor, place in zip(tensors, places, strict=True) if not place)
    return None if lazy else places  # torch keeps no memory for its lazy zeros


@functools.cache
def _loops(dtype: torch.dtype) -> Any:
    """Return the compiled loops, or None where there is no numba for this Python or it must not compile."""
    try:
        import numba

        from samcmp.optim import compiled
    except ImportError:
        return None
    return None if numba.config.DISABLE_JIT else compiled.loops(_KINDS[dtype])
