"""How much of a step is matrix products: a floor that faster code around them cannot go below."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_FACTORS = {aten.mm: 0, aten.bmm: 0, aten.addmm: 1, aten.addmm_: 1, aten.baddbmm: 1}  # where the first one stands


@dataclass(frozen=True)
class Products:
    """The matrix products of one step."""

    gflop: float
    seconds: float  # process CPU time
    share: float  # of the step's

    def __str__(self) -> str:
        rate = self.gflop / self.seconds
        return (
            f"products {self.share:.0%} of the step, {self.gflop:.1f} GFLOP at {rate:.0f} a second (bare {bare():.0f})"
        )


class _Stopwatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    gflop = seconds = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        began = time.process_time()
        out = func(*args, **(kwargs or {}))
        first = _FACTORS.get(func.overloadpacket)
        if first is not None:
            self.seconds += time.process_time() - began
            self.gflop += 2e-9 * prod(args[first].shape) * args[first + 1].shape[-1]
        return out


def products(step: Callable[[], None], *, calls: int = 1) -> Products:
    """Return the products of a call of ``step``, as a mean over ``calls`` of them."""
    step()
    began = time.process_time()
    for _ in range(calls):
        step()
    whole = time.process_time() - began
    with _Stopwatch() as watch:  # type: ignore[no-untyped-call]
        for _ in range(calls):
            step()
    return Products(watch.gflop / calls, watch.seconds / calls, watch.seconds / whole)


def bare(size: int = 1024) -> float:
    """Return the GFLOP a CPU second of one square product in memory that is ready, the best of five."""
    a, b, out = torch.randn(3, size, size)
    spent = []
    for _ in range(5):
        began = time.process_time()
        torch.mm(a, b, out=out)
        spent.append(time.process_time() - began)
    return 2e-9 * size**3 / min(spent)
