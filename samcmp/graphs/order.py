"""In which order the samples of an epoch come, for graphs as for images."""

from __future__ import annotations

import torch
from torch import Tensor


def in_order(positions: Tensor, batch_size: int, *, generator: torch.Generator | None, drop_last: bool) -> Tensor:
    """Return ``positions`` (n,) as batches take them: shuffled when a generator is given (its draws are on the host).

    ``drop_last`` leaves out what does not fill a batch. Raises ValueError for a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if generator is not None:
        positions = positions[torch.randperm(len(positions), generator=generator)]
    return positions[: len(positions) - len(positions) % batch_size] if drop_last else positions
