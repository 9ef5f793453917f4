"""GraphSAM as its authors released it (github.com/YL-wang/GraphSAM), which is not the paper's Algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.base import Closure, Lines, SharpnessAware
from samcmp.optim.tensors import DELTA, axpby_, copy_, norm

ROUNDING = 1e-8  # the released code adds it to every element before it takes a tensor's norm


class GraphSAMReleased(SharpnessAware):
    """Each tensor moves along θ²⊙d, at most ``radius`` far; d averages ω_k/‖ω_k‖ tensor by tensor.

    At the first step of an epoch the length is ASAM's, ρ/‖|θ|⊙g‖; at the others the released code divides by the norm
    of gradients it has just zeroed, so that every tensor moves by exactly ``radius``. Its schedule compounds, for
    ``rho`` and ``radius`` (:class:`samcmp.optim.CompoundedRho`). Its closure weights losses by themselves, but the
    pass at the anchor does not: a closure that does so (``loss_power`` 2 in the training loop) offers the gradient of
    the mean loss as ``plain()``; in the two-phase form take that one where ``needs_clean``. ``adaptive=False`` drops
    θ². With ``first_group_only`` the first of several param groups alone is perturbed, as the released class does
    wherever there are several. Passes are GraphSAM's; one parameter size more while it is perturbed.
    """

    syncs_clean = True
    scale_free = False

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        tensor_radius: float | None = None,
        beta: float = 0.99,
        anchor_every: int,
        adaptive: bool = True,
        first_group_only: bool = False,
    ) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta is the share of the old direction and must be in [0, 1], got {beta}")
        if anchor_every < 1:
            raise ValueError(f"anchor_every counts steps, from 1, got {anchor_every}")
        if first_group_only and len(base.param_groups) < 2:
            raise ValueError(
                "first_group_only changes nothing: all parameters are in one group, as they are in the released GROVER "
                "code, whose group for the head stays empty"
            )
        super().__init__(base, rho=rho)
        self.beta, self.period, self.adaptive = beta, anchor_every, adaptive
        self.first_group_only = first_group_only
        for group in base.param_groups:
            group.setdefault("radius", rho if tensor_radius is None else tensor_radius)
        self.numbers["anchored"] = -1  # the period of the last anchor
        self._is_anchor = False

    def lines(self) -> Lines:
        d = self.own("d", precise=True)
        self._is_anchor = self.clock // self.period != self.numbers["anchored"]
        if self._is_anchor:
            g = yield from self.clean_gradient()  # g = ∇L(θ)
            copy_(d, g)  # d ← g
            del g
            self.numbers["anchored"] = self.clock // self.period
        perturbed = len(self.param_groups[0]["params"]) if self.first_group_only else len(d)
        direction = [part if k < perturbed else None for k, part in enumerate(d)]
        omega = yield from self.updating_gradient(direction)  # ω = ∇L(θ + ε)
        lengths = [torch.ones(()) if w is None else torch.linalg.vector_norm(w + ROUNDING) for w in omega]
        share = [(1 - self.beta) / length for length in lengths]
        axpby_(self.beta, d, share, omega)  # d_k ← β d_k + (1−β) ω_k/‖ω_k‖
        self.base_step()  # θ ← base(ω)

    def call(self, closure: Closure) -> Any:
        plain = getattr(closure, "plain", None)
        return closure() if self.second_pass or not self._is_anchor or plain is None else plain()

    def perturb(self, theta: Sequence[Tensor], d: Sequence[Tensor], rho: Sequence[float]) -> None:
        """ε_k = c θ_k²⊙d_k, shortened to ``group["radius"]`` where it is longer; c = ρ/‖|θ|⊙d‖ at an anchor."""
        radius = {p: float(group["radius"]) for group in self.param_groups for p in group["params"]}
        scaled = torch._foreach_mul(list(d), list(theta)) if self.adaptive else [part.clone() for part in d]  # ±|θ|⊙d
        length = norm(scaled) if self._is_anchor else torch.zeros((), dtype=scaled[0].dtype)
        for p, eps, r in zip(theta, scaled, rho, strict=True):
            eps.mul_(r / (length.to(eps.device) + DELTA))
            if self.adaptive:
                eps.mul_(p)
            own = torch.linalg.vector_norm(eps)
            longest = torch.full_like(own, radius[p])  # number / tensor is number · (1/tensor): inf where own < 3e-39
            p.add_(eps.mul_(torch.where(own > longest, longest / own, 1.0)))
