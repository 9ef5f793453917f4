"""GraphSAM as its authors released it (github.com/YL-wang/GraphSAM), which is not the paper's Algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Ask, Closure, Context, Lines, SharpnessAware
from samcmp.optim.space import Space, Vector
from samcmp.optim.vectors import Length

ROUNDING = 1e-8  # the released code adds it to every element before it takes a tensor's norm


class GraphSAMReleased(SharpnessAware):
    """Each tensor moves along θ²⊙d, at most ``radius`` far; d averages ω_k/‖ω_k‖ tensor by tensor.

    At the first step of an epoch the length is ASAM's, ρ/‖|θ|⊙g‖; at the others the released code divides by the norm
    of gradients it has just zeroed, so that every tensor moves by exactly ``radius``. Its schedule compounds, for
    ``rho`` and ``radius`` (:class:`samcmp.optim.CompoundedRho`). Its closure multiplies gradients by the loss, but the
    pass at the anchor does not: with ``weighted`` the closure weights every gradient (``loss_power`` 2 in the training
    loop), and the anchor is divided by the loss again. In the two-phase form set ``anchor_loss`` to it.
    ``adaptive=False`` drops θ². Only the first param group is perturbed where ``first_group_only``: the released GROVER
    head never is. Passes and memory are GraphSAM's, and one parameter size more while ε is made.
    """

    syncs_clean: ClassVar[bool] = True
    scale_free: ClassVar[bool] = False

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        tensor_radius: float | None = None,
        beta: float = 0.99,
        anchor_every: int,
        adaptive: bool = True,
        weighted: bool = False,
        first_group_only: bool = False,
        flat: bool = True,
        no_sync: Context | None = None,
    ) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta is the share of the old direction and must be in [0, 1], got {beta}")
        if anchor_every < 1:
            raise ValueError(f"anchor_every counts steps, from 1, got {anchor_every}")
        super().__init__(base, rho=rho, flat=flat, no_sync=no_sync)
        self.radius = Capped(self, adaptive=adaptive)
        self.beta, self.period, self.first_group_only = beta, anchor_every, first_group_only
        for group in base.param_groups:
            group.setdefault("radius", rho if tensor_radius is None else tensor_radius)
        self.numbers["anchored"] = -1
        self.weighted = weighted
        self.anchor_loss: Any = None
        self.fresh = False  # d is this very step's gradient

    def lines(self) -> Lines:
        d = self.keep("d", precise=True)
        self.fresh = self.clock // self.period != self.numbers["anchored"]
        if self.fresh:
            g = yield from self.clean_gradient()  # g = ∇L(θ)
            self._anchor(d, g)  # d ← g
            del g
            self.numbers["anchored"] = self.clock // self.period
        omega = yield from self.updating_gradient(d)  # ω = ∇L(θ + ε)
        self._average(d, omega)  # d_k ← β d_k + (1−β) ω_k/‖ω_k‖
        self.descend()  # θ ← base(ω)

    def _evaluate(self, closure: Closure) -> Any:
        loss = super()._evaluate(closure)
        if self._ask is Ask.CLEAN:
            self.anchor_loss = loss
        return loss

    def _anchor(self, d: Vector, g: Vector) -> None:
        vectors.average_(self.space, d, g, share=1.0)
        loss, self.anchor_loss = self.anchor_loss, None
        if self.weighted:
            if loss is None:
                raise RuntimeError("set anchor_loss to the clean pass's loss: the gradient was multiplied by it")
            for tensor in d.tensors:
                tensor.div_(loss.detach().to(tensor.device, tensor.dtype) if isinstance(loss, Tensor) else loss)

    def _average(self, d: Vector, omega: Vector) -> None:
        for mean, grad in zip(d.parts, omega.parts, strict=True):
            if mean is None or grad is None:
                continue
            length = torch.linalg.vector_norm(grad.to(mean.dtype) + ROUNDING)
            unit = torch.where(torch.isfinite(length) & (length > 0), grad.to(mean.dtype) / length, 0)
            mean.mul_(self.beta).add_(unit, alpha=1 - self.beta)


class Capped:
    """ε_k = c θ_k²⊙d_k, shortened to ``group["radius"]`` where it is longer; c = ρ/‖|θ|⊙d‖, or unbounded."""

    def __init__(self, owner: GraphSAMReleased, *, adaptive: bool) -> None:
        self.owner, self.adaptive = owner, adaptive

    def climb(
        self, space: Space, home: Vector, direction: Vector, *, rho: Sequence[float], length: Length | None = None
    ) -> None:
        vectors.copy_(space, space.theta, home)
        chosen = [
            None if d is None or (self.owner.first_group_only and group > 0) else d
            for d, group in zip(direction.parts, space.group_of, strict=True)
        ]
        scaled = Vector([None if d is None else self._times(space.params[k], d) for k, d in enumerate(chosen)])
        whole = vectors.norm(scaled) if self.owner.fresh else torch.zeros(())
        for k, part in enumerate(scaled.parts):
            if part is not None:
                group = space.group_of[k]
                step = self._times(space.params[k], part).mul_(rho[group] / (whole.to(part.device) + vectors.DELTA))
                self._add_capped(space.params[k], step, self.owner.param_groups[group]["radius"])

    def _times(self, theta: Tensor, d: Tensor) -> Tensor:
        return d * theta.detach().abs() if self.adaptive else d.clone()

    def _add_capped(self, theta: Tensor, step: Tensor, cap: float) -> None:
        length = torch.linalg.vector_norm(step)
        factor = torch.where(length > cap, cap / length, 1.0)
        theta.add_(torch.where(torch.isfinite(length), step * factor, 0))
