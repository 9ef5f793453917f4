"""GraphSAM as its authors released it (github.com/YL-wang/GraphSAM), which is not the paper's Algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim import vectors
from samcmp.optim.base import Ask, Closure, Context, Lines, SharpnessAware
from samcmp.optim.space import Space
from samcmp.optim.vector import Vector
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
    head never is. Passes and memory are GraphSAM's.
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
            sane = torch.isfinite(length) & (length > 0)
            share = torch.where(sane, (1 - self.beta) / length, 0)
            mean.mul_(self.beta).addcmul_(torch.where(sane, grad, 0).to(mean.dtype), share)


class Capped:
    """ε_k = c θ_k²⊙d_k, shortened to ``group["radius"]`` where it is longer; c = ρ/‖|θ|⊙d‖, or unbounded."""

    def __init__(self, owner: GraphSAMReleased, *, adaptive: bool) -> None:
        self.owner, self.adaptive = owner, adaptive

    def climb(
        self, space: Space, home: Vector, direction: Vector, *, rho: Sequence[float], length: Length | None = None
    ) -> None:
        steps: list[Tensor | None] = [None] * len(space.params)
        for k, (theta, start, d) in enumerate(zip(space.theta.parts, home.parts, direction.parts, strict=True)):
            if theta is None or start is None:
                continue
            if d is None or (self.owner.first_group_only and space.group_of[k] > 0):
                theta.copy_(start)
            else:
                # ε is built where θ + ε will be; beside it where the weights have fewer bits
                step = steps[k] = theta if theta.dtype == d.dtype else torch.empty_like(d)
                torch.mul(d, start, out=step) if self.adaptive else step.copy_(d)  # ±|θ|⊙d
        whole = vectors.norm(Vector(steps)) if self.owner.fresh else torch.zeros(())
        for k, (theta, start, made) in enumerate(zip(space.theta.parts, home.parts, steps, strict=True)):
            if theta is not None and start is not None and made is not None:
                group = space.group_of[k]
                step = made.mul_(start) if self.adaptive else made  # θ²⊙d
                c = rho[group] / (whole.to(step.device) + vectors.DELTA)
                self._stretch(step, c, self.owner.param_groups[group]["radius"])
                theta.copy_(start + step) if step is not theta else theta.add_(start)

    def _stretch(self, step: Tensor, c: Tensor, cap: float) -> None:
        length = torch.linalg.vector_norm(step) * c.abs()
        step.mul_(c * torch.where(length > cap, cap / length, 1.0)).masked_fill_(~torch.isfinite(length), 0)
