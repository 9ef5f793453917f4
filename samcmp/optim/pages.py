"""Contents of a buffer on the CPU that move aside and back without a copy: memory pages move, addresses stay.

Moving θ aside and writing θ + ε in its place takes one pass over memory; saving θ, adding ε and copying θ back takes
three. Whoever holds a pointer to a parameter sees θ + ε during the pass and θ after it, as with the copies.
Only Linux can do it (``mremap`` with ``MREMAP_DONTUNMAP``, since 5.7); elsewhere :func:`available` says no.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
import operator
import sys
from collections.abc import Iterator
from itertools import islice, repeat, takewhile

import numpy as np
import torch
from torch import Tensor

HUGE = 1 << 21  # bytes of a huge page: what starts at its multiples moves by one table entry a page
SMALLEST = HUGE  # bytes; below, a copy is as fast as three calls of the kernel
_MOVE = 1 | 2 | 4  # MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP: no address is free for others at any time


def zeros(numel: int, *, dtype: torch.dtype, apart: int = 0) -> Tensor:
    """Return zeros on the CPU, in huge pages where the system has them: copies and sums take 0.8 of the time.

    Large buffers that one loop walks together should begin a different number of bytes ``apart`` from a huge page:
    where all their addresses end alike, some processors take them for one another, and the loop twice the time.
    """
    size = numel * dtype.itemsize
    if suits(size):
        start, raw = _reserved(size + apart)
        start += apart
    else:
        start, raw = _aligned(size)
    return torch.from_numpy(raw[start : start + size]).view(dtype)


def suits(size: int) -> bool:
    """Tell whether contents of so many bytes, made by :func:`zeros`, can move."""
    return size >= SMALLEST and available()


class Shelter:
    """``home`` holds what is in ``here`` while that is used for something else; both from :func:`zeros`, of one size.

    The pages that ``here`` has in the meantime are kept for the next time: none is ever asked of the system twice.
    """

    def __init__(self, here: Tensor, home: Tensor) -> None:
        self._size = _rounded(here.numel() * here.element_size())
        start, spare = _reserved(self._size)  # addresses only: nothing is ever written there
        self._tensors, self._keep = (here, home), spare
        self._here, self._home, self._spare = here.data_ptr(), home.data_ptr(), spare.ctypes.data + start
        self._left: list[bool] = []  # any true: the contents are at home, not here

    @property
    def away(self) -> bool:
        """Whether the contents are at ``home``."""
        return any(self._left)

    def leave(self) -> None:
        """Move the contents to ``home``; what ``here`` holds then is undefined."""
        self._left[:] = takewhile(bool, self._moves((self._here, self._home), (self._spare, self._here)))
        if not self.away:
            here, home = self._tensors
            home.copy_(here)
            self._left[:] = [True]

    def come_home(self) -> None:
        """Move the contents back if they left; what ``home`` holds then is undefined."""
        here, home = self._tensors
        if self.away and here.data_ptr() == self._here:  # who shares memory with other processes moves the storage
            moves = self._moves((self._here, self._spare), (self._home, self._here))
            self._left[:] = map(operator.not_, islice(moves, 1, None))
        if self.away:
            here.copy_(home)
            self._left[:] = []

    def _moves(self, *moves: tuple[int, int]) -> Iterator[bool]:
        """Move pages from one address to another, move by move, and tell each time whether the kernel did.

        Who asks for all of them in one call into C, and notes what they did in the same call, holds the interpreter's
        lock meanwhile: no signal handler and no Python thread sees half of it.
        """
        sources, targets = zip(*moves, strict=True)
        ends = map(_mremap(), sources, repeat(self._size), repeat(self._size), repeat(_MOVE), targets)
        return map(operator.eq, ends, targets)


@functools.cache
def available() -> bool:
    """Tell whether this system moves pages between addresses; it is tried once."""
    if not sys.platform.startswith("linux") or _mremap() is None:
        return False
    (start, a), (_, b) = _reserved(1), _reserved(1)
    a[start] = 1
    x, y = a.ctypes.data + start, b.ctypes.data + (-b.ctypes.data % HUGE)
    moved = _mremap()(x, HUGE, HUGE, _MOVE, y) == y
    return bool(moved and b[y - b.ctypes.data] == 1 and a[start] == 0)


@functools.cache
def _mremap():  # type: ignore[no-untyped-def]  # a foreign function has no type of its own
    call = getattr(ctypes.PyDLL(None), "mremap", None) if sys.platform.startswith("linux") else None
    if call is not None:
        call.restype = ctypes.c_void_p
        call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
    return call


def _rounded(size: int) -> int:
    return math.ceil(size / HUGE) * HUGE


def _reserved(size: int) -> tuple[int, np.ndarray]:
    """Return memory that nothing else shares pages with, and where in it a huge page begins."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, _rounded(size) + HUGE, flags=private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(memory, dtype=np.uint8)
    return -raw.ctypes.data % HUGE, raw


def _aligned(size: int, line: int = 64) -> tuple[int, np.ndarray]:
    """Return numpy's memory, which asks for huge pages as torch's does not, and where in it a cache line begins."""
    raw = np.zeros(size + line, dtype=np.uint8)
    return -raw.ctypes.data % line, raw
