"""AE-SAM: an Adaptive policy to Employ SAM (Jiang et al., ICLR 2023, Algorithm 2)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.radius import Radius
from samcmp.optim.tensors import Vector, dot, zero_if_overflown_


class AESAM(SharpnessAware):
    """A SAM step iff n = ‖g‖² ≥ μ + c_t √s; μ and s are n's running mean and variance, c_t falls from λ₂ to λ₁.

    μ ← δμ + (1−δ)n; s ← δs + (1−δ)(n−μ)²; c_t = (t/T)λ₁ + (1−t/T)λ₂. 1 + q passes, q ≈ 0.5; one parameter size.
    The decision needs one number on the host each step. With ``late`` step t decides by the n of step t−1, which the
    device has long finished: no step waits; the first step is a SAM step. Under AMP attach ``grad_scaler``.
    """

    syncs_clean = True  # all ranks must branch alike

    def __init__(
        self,
        base: Optimizer,
        *,
        total_steps: int,
        rho: float = 0.05,
        delta: float = 0.9,
        lambda1: float = -1.0,
        lambda2: float = 1.0,
        late: bool = False,
        radius: Radius | None = None,
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps is the length of training and must be >= 1, got {total_steps}")
        if not 0 <= delta <= 1:
            raise ValueError(f"delta is the share of the old statistics and must be in [0, 1], got {delta}")
        super().__init__(base, rho=rho, radius=radius)
        self.total_steps, self.delta, self.lambda1, self.lambda2, self.late = total_steps, delta, lambda1, lambda2, late
        self.numbers |= {"mu": 0.0, "s": math.exp(-10)}
        self._sent: tuple[Tensor, Any] | None = None  # n of the last step on its way to the host

    def lines(self) -> Lines:
        if self.late:
            yield from self._decided_before()
        else:
            g = yield from self.clean_gradient(guarded=False)  # g = ∇L(θ)
            if self._is_sharp(float(self._squared(g))):
                yield from self.updating_gradient(g, release=True)  # ω = ∇L(θ + ρ g/‖g‖)
            else:
                yield from self.clean_as_updating_gradient()  # ω = g
        self.base_step()  # θ ← base(ω)

    def _decided_before(self) -> Lines:
        n = self._received()
        if n is None or self._is_sharp(n):
            g = yield from self.clean_gradient(guarded=False)
            self._send(self._squared(g))
            zero_if_overflown_(g)
            yield from self.updating_gradient(g, release=True)
        else:
            g = yield from self.updating_gradient()
            self._send(dot(g, g))  # a GradScaler has unscaled it by now

    def _is_sharp(self, n: float) -> bool:
        """Take n into the statistics and decide. An overflown gradient leaves them alone and takes a plain step."""
        if not math.isfinite(n):
            return False
        share = min(self.clock / self.total_steps, 1.0)
        c = share * self.lambda1 + (1 - share) * self.lambda2
        mu: float = self.delta * self.numbers["mu"] + (1 - self.delta) * n
        s = self.delta * self.numbers["s"] + (1 - self.delta) * (n - mu) ** 2
        self.numbers |= {"mu": mu, "s": s}
        return n >= mu + c * math.sqrt(s)

    def _squared(self, g: Vector) -> Tensor:
        """Return n = ‖g‖², free of the loss scale."""
        n = dot(g, g)
        return n / self.loss_scale(n.device).square()

    def _send(self, n: Tensor) -> None:
        if n.device.type != "cuda":
            self._sent = (n, None)
            return
        host = torch.empty((), dtype=n.dtype, pin_memory=True)
        host.copy_(n, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(n.device))  # not the current device's, where that is another
        self._sent = (host, event)

    def _received(self) -> float | None:
        sent, self._sent = self._sent, None
        if sent is None:
            return None
        value, event = sent
        if event is not None:
            event.synchronize()
        return float(value)

    def extra_state(self) -> dict[str, Any]:
        return {"late_n": None if self._sent is None else float(self._sent[0])}

    def load_extra_state(self, own: Any) -> None:
        self._sent = None if own["late_n"] is None else (torch.tensor(own["late_n"], dtype=torch.float64), None)
