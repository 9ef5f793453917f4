"""MESA: Memory-Efficient Sharpness-Aware training (Du et al., NeurIPS 2022, Algorithm 2)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.base import Lines, SharpnessAware
from samcmp.optim.tensors import axpby_, copy_
from samcmp.optim.trajectory import OUTPUTS, Outputs, divergence


class MESA(SharpnessAware):
    """The base optimizer on L + λτ² KL(z_v ‖ z), z_v the predictions at averaged weights v ← βv + (1−β)θ.

    ``optimizer.term`` adds the term: in epochs after ``start_epoch`` the training loop first runs the model without
    gradients inside ``optimizer.term.teacher()`` and hands those predictions to ``term.term``. One pass and one
    forward pass a step; one parameter size of state, one while the teacher is in.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        lam: float = 0.8,
        tau: float = 5.0,
        decay: float = 0.9995,
        start_epoch: int = 5,
        outputs: Outputs = "auto",
    ) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay is the share of the old average and must be in [0, 1], got {decay}")
        super().__init__(base, rho=None)
        self.decay = decay
        self.averages()
        self.term = TeacherPredictions(self, lam=lam, tau=tau, start_epoch=start_epoch, outputs=outputs)

    @torch.no_grad()
    def averages(self) -> list[Tensor]:
        """Return v, which begins as θ for every parameter."""
        known = set(self.vectors.get("v", ()))
        v = self.own("v", precise=True)
        for p, mean in zip(self.params, v, strict=True):
            if p not in known:
                mean.copy_(p)
        return v

    def lines(self) -> Lines:
        v = self.averages()
        yield from self.updating_gradient()  # ω = ∇(L + λτ² KL)(θ)
        self.base_step()  # θ ← base(ω)
        axpby_(self.decay, v, 1 - self.decay, self.params)  # v ← β v + (1−β) θ

    def extra_state(self) -> dict[str, Any]:
        return {"epoch": self.term.epoch}

    def load_extra_state(self, own: Any) -> None:
        self.term.epoch = int(own["epoch"])


class TeacherPredictions:
    """λτ² KL to the predictions at the averaged weights; needed in epochs after ``start_epoch``."""

    def __init__(self, optimizer: MESA, *, lam: float, tau: float, start_epoch: int, outputs: Outputs) -> None:
        if not tau > 0 or outputs not in OUTPUTS:
            raise ValueError(f"tau must be > 0 and outputs one of {OUTPUTS}, got {tau} and {outputs!r}")
        self.optimizer = optimizer
        self.lam, self.tau, self.begin, self.outputs = lam, tau, start_epoch, outputs
        self.epoch = 0

    @property
    def needs_reference(self) -> bool:
        """Whether :meth:`term` needs the teacher's predictions now."""
        return self.epoch > self.begin

    @contextlib.contextmanager
    def teacher(self) -> Iterator[None]:
        """Hold the averaged weights in the model inside, θ bit for bit after; predict under torch.no_grad()."""
        optimizer = self.optimizer
        v = optimizer.averages()
        try:
            copy_(optimizer.displace(optimizer.params, silently=True), v)
            yield
        finally:
            optimizer.restore()

    def start_epoch(self, epoch: int) -> None:
        """Begin epoch ``epoch``, from 0."""
        self.epoch = epoch

    def term(self, rows: Tensor, prediction: Tensor, y: Tensor, reference: Tensor | None = None) -> Tensor:
        """Return the term: predictions, labels and the teacher's predictions (G, T) -> scalar."""
        if not self.needs_reference:
            return prediction.new_zeros(())
        if reference is None:
            raise ValueError("MESA's term needs the predictions of the model inside `with term.teacher():`")
        return self.lam * divergence(reference.detach(), prediction, y, tau=self.tau, outputs=self.outputs)
