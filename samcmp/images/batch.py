"""A batch of images, with what training and profiling need of a batch of graphs.

Shapes: G images, as a graph batch has G graphs; h x w pixels of 3 channels; T = 1 task.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ImageBatch:
    """G images of one size."""

    x: Tensor  # (G, 3, h, w) float, normalised
    y: Tensor  # (G, 1) float, the number of the class, NaN where it is missing
    rows: Tensor  # (G,) int64, rows of the published files: stable sample ids

    @property
    def size(self) -> int:
        """Images, G."""
        return int(self.y.shape[0])

    @property
    def work(self) -> int:
        """What the cost of a pass grows with: of images, which are all alike, their number."""
        return self.size

    def to(
        self,
        device: torch.device | str | None = None,
        *,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> ImageBatch:
        """Return this batch on ``device``, its real-valued tensors as ``dtype``; itself where nothing changes."""
        if self.x.to(device=device, dtype=dtype) is self.x:
            return self

        def moved(tensor: Tensor) -> Tensor:
            kind = dtype if tensor.is_floating_point() else None
            return tensor.to(device=device, dtype=kind, non_blocking=non_blocking)

        return self._map(moved)

    def pin_memory(self) -> ImageBatch:
        """Return this batch in memory that a GPU can copy from without waiting."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Any) -> ImageBatch:
        return replace(self, **{f.name: change(getattr(self, f.name)) for f in fields(self)})
