"""The loops that :mod:`samcmp.optim.kernels` runs over memory, compiled for this processor by numba.

Vectors come as lists of tensors: addresses ``xs`` and numbers of elements ``sizes``. A loop takes turns between the
first and the second half of a tensor, a run of elements each time, because a core has more requests to memory under
way from two places than from one; the rest of both halves is the last run. In a run ``x``, ``y`` and ``out`` are
addresses, ``at`` is an offset in bytes and ``size`` counts elements. Squares are summed run by run, in 64 bits between
runs, so that a long sum of float32 numbers keeps its digits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

# Elements of a run. The loops get it as an argument: one of known length is unrolled, and then not vectorised.
RUN = 64
_LANE = 32  # bytes that one store writes past the cache
_jit = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})  # NaN and inf stay


@functools.cache
def loops(kind: type) -> SimpleNamespace:
    """Return ``squares``, ``add``, ``climb``, ``copy`` and ``run`` for numpy's ``float32`` or ``float64``."""
    width = np.dtype(kind).itemsize
    lanes = _LANE // width
    array, stream_sum, stream_copy = _array(kind), _stream(kind, _sum), _stream(kind, _same)

    @_jit
    def square_run(x, at, size):  # type: ignore[no-untyped-def]
        total, xs = kind(0), array(x + at, size)
        for m in range(size):
            total += xs[m] * xs[m]
        return np.float64(total)

    @_jit
    def add_run(x, y, at, size, factor):  # type: ignore[no-untyped-def]
        total, xs, ys = kind(0), array(x + at, size), array(y + at, size)
        for m in range(size):
            new = xs[m] + factor * ys[m]
            xs[m] = new
            total += new * new
        return np.float64(total)

    @_jit
    def climb_run(out, x, y, at, size, factor):  # type: ignore[no-untyped-def]
        if size == RUN and (out + at) % _LANE == 0:
            for m in range(0, RUN, lanes):
                here = at + np.uintp(m * width)
                stream_sum(out + here, x + here, y + here, factor)
        else:
            new, xs, ys = array(out + at, size), array(x + at, size), array(y + at, size)
            for m in range(size):
                new[m] = xs[m] + factor * ys[m]

    @_jit
    def copy_run(out, x, at, size):  # type: ignore[no-untyped-def]
        if size == RUN and (out + at) % _LANE == 0:
            for m in range(0, RUN, lanes):
                here = at + np.uintp(m * width)
                stream_copy(out + here, x + here, x + here, kind(1))
        else:
            new, xs = array(out + at, size), array(x + at, size)
            for m in range(size):
                new[m] = xs[m]
        return square_run(x, at, size)

    @_jit
    def squares(xs, sizes, run):  # type: ignore[no-untyped-def]
        """Σ x²"""
        total = 0.0
        for k in range(len(sizes)):
            half, x = sizes[k] // 2 // run * run, xs[k]
            for i in range(0, half, run):
                total += square_run(x, np.uintp(i * width), run)
                total += square_run(x, np.uintp((half + i) * width), run)
            total += square_run(x, np.uintp(2 * half * width), sizes[k] - 2 * half)
        return total

    @_jit
    def add(xs, ys, sizes, factor, run):  # type: ignore[no-untyped-def]
        """x ← x + factor · y; Σ x²"""
        total, factor = 0.0, kind(factor)
        for k in range(len(sizes)):
            half, x, y = sizes[k] // 2 // run * run, xs[k], ys[k]
            for i in range(0, half, run):
                total += add_run(x, y, np.uintp(i * width), run, factor)
                total += add_run(x, y, np.uintp((half + i) * width), run, factor)
            total += add_run(x, y, np.uintp(2 * half * width), sizes[k] - 2 * half, factor)
        return total

    @_jit
    def climb(outs, xs, ys, sizes, factors, run):  # type: ignore[no-untyped-def]
        """out ← x + factor · y, written past the cache: nothing is fetched to be overwritten"""
        for k in range(len(sizes)):
            half, out, x, y, factor = sizes[k] // 2 // run * run, outs[k], xs[k], ys[k], kind(factors[k])
            for i in range(0, half, run):
                climb_run(out, x, y, np.uintp(i * width), run, factor)
                climb_run(out, x, y, np.uintp((half + i) * width), run, factor)
            climb_run(out, x, y, np.uintp(2 * half * width), sizes[k] - 2 * half, factor)
        _fence()

    @_jit
    def copy(outs, xs, sizes, run):  # type: ignore[no-untyped-def]
        """out ← x, written past the cache; Σ x²"""
        total = 0.0
        for k in range(len(sizes)):
            half, out, x = sizes[k] // 2 // run * run, outs[k], xs[k]
            for i in range(0, half, run):
                total += copy_run(out, x, np.uintp(i * width), run)
                total += copy_run(out, x, np.uintp((half + i) * width), run)
            total += copy_run(out, x, np.uintp(2 * half * width), sizes[k] - 2 * half)
        _fence()
        return total

    return SimpleNamespace(squares=squares, add=add, climb=climb, copy=copy, run=RUN)


def _array(kind: type) -> Any:
    """Make a function of an address and a size: the array of ``kind`` that lies there."""
    to = types.CPointer(numba.from_dtype(np.dtype(kind)))

    @intrinsic
    def pointer(context, address):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return to(types.uintp), build

    @_jit
    def array(address, size):  # type: ignore[no-untyped-def]
        return carray(pointer(address), size)

    return array


def _sum(builder: Any, x: Any, y: Any, factor: Any) -> Any:
    return builder.fadd(x, builder.fmul(factor, y, flags=("contract",)), flags=("contract",))


def _same(builder: Any, x: Any, y: Any, factor: Any) -> Any:
    return x


def _stream(kind: type, value: Callable[..., Any]) -> Any:
    """Make a function of the addresses out, x, y and a factor: a lane of out ← value, by a store past the cache."""
    number = numba.from_dtype(np.dtype(kind))

    @intrinsic
    def stream(context, out, x, y, factor):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            lane = ir.VectorType(context.get_value_type(number), _LANE * 8 // number.bitwidth)
            target, *sources = (builder.inttoptr(address, lane.as_pointer()) for address in arguments[:3])
            terms = [builder.load(source, align=number.bitwidth // 8) for source in sources]
            spread = ir.Constant(lane, ir.Undefined)
            for i in range(lane.count):
                spread = builder.insert_element(spread, arguments[3], ir.Constant(ir.IntType(32), i))
            store = builder.store(value(builder, *terms, spread), target, align=_LANE)
            store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
            return context.get_dummy_value()

        return types.void(types.uintp, types.uintp, types.uintp, number), build

    return stream


@intrinsic
def _fence(context):  # type: ignore[no-untyped-def]
    """Let other threads see what went past the cache before anything that follows."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), build
