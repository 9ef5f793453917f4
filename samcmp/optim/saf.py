"""SAF: Sharpness-Aware training for Free (Du et al., NeurIPS 2022, Algorithm 1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from samcmp.optim.base import Plain
from samcmp.optim.trajectory import OUTPUTS, Outputs, divergence


class SAF(Plain):
    """The base optimizer on L + λτ² KL(z_{e−Ẽ} ‖ z): predictions of the same samples Ẽ epochs ago.

    The training loop adds ``optimizer.term.term(rows, prediction, y)`` to its loss and calls
    ``optimizer.term.start_epoch(e)``. One pass; a prediction for every sample and kept epoch.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        lam: float = 0.3,
        tau: float = 5.0,
        gap: int = 2,
        start_epoch: int = 5,
        outputs: Outputs = "auto",
    ) -> None:
        super().__init__(base)
        self.term = PastPredictions(lam=lam, tau=tau, gap=gap, start_epoch=start_epoch, outputs=outputs)

    def extra_state(self) -> dict[str, Any]:
        return {"term": self.term.state_dict()}

    def load_extra_state(self, own: Mapping[str, Any]) -> None:
        self.term.load_state_dict(own["term"])


class PastPredictions:
    """λτ² KL to the predictions of epoch e − Ẽ; zero until epoch e > ``start_epoch`` and for samples not seen then."""

    def __init__(self, *, lam: float, tau: float, gap: int, start_epoch: int, outputs: Outputs) -> None:
        if gap < 1:
            raise ValueError(f"gap counts epochs, from 1, got {gap}")
        if not tau > 0 or outputs not in OUTPUTS:
            raise ValueError(f"tau must be > 0 and outputs one of {OUTPUTS}, got {tau} and {outputs!r}")
        self.lam, self.tau, self.gap, self.begin, self.outputs = lam, tau, gap, start_epoch, outputs
        self.epoch = 0
        self.finished: deque[tuple[Tensor, Tensor]] = deque(maxlen=gap)  # sorted rows (n,), predictions (n, T)
        self.rows: list[Tensor] = []
        self.predictions: list[Tensor] = []

    def start_epoch(self, epoch: int) -> None:
        """Begin epoch ``epoch``, from 0: what was predicted before becomes a finished epoch."""
        if epoch != self.epoch and self.rows:
            rows, order = torch.cat(self.rows).sort(stable=True)
            self.finished.append((rows, torch.cat(self.predictions)[order]))
            self.rows, self.predictions = [], []
        self.epoch = epoch

    def term(self, rows: Tensor, prediction: Tensor, y: Tensor) -> Tensor:
        """Return the term and remember the predictions: (G,) sample ids, (G, T) outputs, (G, T) labels -> scalar."""
        prediction = prediction if prediction.dim() == 2 else prediction[:, None]
        self.rows.append(rows.detach())
        self.predictions.append(prediction.detach().clone())
        if self.epoch <= self.begin or len(self.finished) < self.gap:
            return prediction.new_zeros(())
        reference = self._look_up(rows, prediction)
        y = y if y.dim() == 2 else y[:, None]
        return self.lam * divergence(reference, prediction, y, tau=self.tau, outputs=self.outputs)

    def _look_up(self, rows: Tensor, prediction: Tensor) -> Tensor:
        known, past = self.finished[0]
        place = torch.searchsorted(known, rows).clamp(max=len(known) - 1)  # (G,)
        is_known = (known[place] == rows)[:, None]
        return torch.where(is_known, past[place].to(prediction.dtype), torch.nan)  # (G, T)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "finished": [list(pair) for pair in self.finished],
            "rows": list(self.rows),
            "predictions": list(self.predictions),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = int(state["epoch"])
        self.finished = deque(((rows, past) for rows, past in state["finished"]), maxlen=self.gap)
        self.rows, self.predictions = list(state["rows"]), list(state["predictions"])
