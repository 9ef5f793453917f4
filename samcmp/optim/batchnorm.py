"""Running statistics of batch normalisation under two passes a step."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from samcmp.optim.base import SharpnessAware


def clean_statistics(model: nn.Module, optimizer: SharpnessAware) -> None:
    """Let the layers of ``model`` that keep running statistics learn them from the clean pass of a step only.

    Without it both passes count. Steps that have no clean pass go on learning from their one pass, at θ + ε.
    """
    for module in model.modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            _Pause(optimizer).attach(module)


class _Pause:
    """Sets a layer's momentum to zero for a forward pass that comes after a clean one."""

    def __init__(self, optimizer: SharpnessAware) -> None:
        self.optimizer = optimizer
        self.kept: tuple[float | None, Any] | None = None

    def attach(self, layer: _NormBase) -> None:
        layer.register_forward_pre_hook(self._before)
        layer.register_forward_hook(self._after, always_call=True)

    def _before(self, layer: Any, inputs: Any) -> None:
        if layer.training and self.optimizer.second_pass:
            self.kept = layer.momentum, layer.num_batches_tracked.clone()
            layer.momentum = 0.0

    def _after(self, layer: Any, inputs: Any, output: Any) -> None:
        if self.kept is not None:
            layer.momentum, count = self.kept
            layer.num_batches_tracked.copy_(count)
            self.kept = None
