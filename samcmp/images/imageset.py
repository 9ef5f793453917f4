"""A whole dataset of images as one array of bytes, and batches of it, augmented in training.

Where batches go to a GPU the bytes lie there (CIFAR: 176 MiB), and the host sends positions, offsets and flips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from samcmp.graphs.order import in_order
from samcmp.images.batch import ImageBatch
from samcmp.images.pixels import channel_statistics

PADDING = 4  # pixels on each side, of which a crop leaves out as many (He et al., CVPR 2016, section 4.2)


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """M images of one dataset.

    Positions 0..M-1 number the images here; rows number them in the published files.
    """

    pixels: Tensor  # (M, 3, h, w) uint8, where batches appear
    y: Tensor  # (M, 1) float, on the host
    rows: Tensor  # (M,) int64, on the host
    mean: Tensor  # (3, 1, 1) float, of a channel on the scale 0 to 1, where batches appear
    std: Tensor  # (3, 1, 1) float
    augmentation: torch.Generator | None = None  # of training, on the host

    @classmethod
    def of(
        cls, pixels: NDArray[np.uint8], y: NDArray[np.float64], rows: NDArray[np.int64], *, train: NDArray[np.int64]
    ) -> ImageSet:
        """Join images (M, 3, h, w) with their labels (M, 1) and rows (M,), ascending.

        Channels are normalised by the mean and standard deviation of the images at the positions ``train`` alone.
        """
        mean, std = channel_statistics(pixels, train)
        return cls(
            pixels=torch.from_numpy(pixels),
            y=torch.from_numpy(np.asarray(y, dtype=np.float32)),
            rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            mean=torch.from_numpy(mean.astype(np.float32)).view(3, 1, 1),
            std=torch.from_numpy(std.astype(np.float32)).view(3, 1, 1),
        )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def device(self) -> torch.device:
        """Where batches appear."""
        return self.pixels.device

    def to(self, device: torch.device | str | None = None, *, dtype: torch.dtype | None = None) -> ImageSet:
        """Return the set whose batches appear on ``device``, their real-valued tensors as ``dtype``."""
        return replace(
            self,
            pixels=self.pixels.to(device),
            y=self.y.to(dtype=dtype),
            mean=self.mean.to(device, dtype),
            std=self.std.to(device, dtype),
        )

    def positions(self, rows: Tensor | NDArray[np.int64]) -> Tensor:
        """Return the positions of these rows of the published files. Raises ValueError for a row that is not here."""
        wanted = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        at = torch.searchsorted(self.rows, wanted).clamp(max=len(self) - 1)
        if (missing := wanted[self.rows[at] != wanted]).numel():
            raise ValueError(f"row {int(missing[0])} is not in this set of {len(self)} images")
        return at

    def heaviest(self, positions: Tensor, count: int) -> Tensor:
        """Return ``count`` of ``positions`` that take the most memory: images are all alike."""
        return positions[:count]

    def augmented(self, generator: torch.Generator) -> ImageSet:
        """Return the set whose batches are random crops of the padded images, half of them flipped.

        The draws come from ``generator``, on the host and in the order of the batches.
        """
        return replace(self, augmentation=generator)

    def batch(self, positions: Tensor, *, pin: bool = False) -> ImageBatch:
        """Return the images at ``positions`` (on the host, any order, repeats allowed) as one batch.

        Raises ValueError for no position, and for one that is not here.
        """
        if not len(positions):
            raise ValueError("a batch needs at least one image")
        if not (positions.min() >= 0 and positions.max() < len(self)):
            raise ValueError(f"positions must be 0..{len(self) - 1}, got {positions.min()}..{positions.max()}")
        raw = self.pixels.index_select(0, self._sent(positions))  # (G, 3, h, w) uint8
        if self.augmentation is not None:
            raw = self._augment(raw, self.augmentation)
        x = raw.to(self.mean.dtype).div_(255).sub_(self.mean).div_(self.std)
        y, rows = self.y.index_select(0, positions), self.rows.index_select(0, positions)
        made = ImageBatch(x, self._sent(y), self._sent(rows))
        return made.pin_memory() if pin and self.device.type == "cpu" else made

    def batches(
        self,
        positions: Tensor,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
        pin: bool = False,
    ) -> Iterator[ImageBatch]:
        """Return batches over ``positions``, shuffled when a generator is given (its draws are on the host).

        Raises ValueError for a batch size below 1.
        """
        positions = in_order(positions, batch_size, generator=generator, drop_last=drop_last)
        return (self.batch(part, pin=pin) for part in torch.split(positions, batch_size))

    def arrays(self) -> list[NDArray[Any]]:
        """Return every array that this set holds: what its memory is."""
        return [np.asarray(one.cpu()) for one in (self.pixels, self.y, self.rows, self.mean, self.std)]

    def _sent(self, made: Tensor) -> Tensor:
        """Put what was made on the host where batches appear, without waiting."""
        if self.device.type == "cuda":
            return made.pin_memory().to(self.device, non_blocking=True)
        return made.to(self.device)

    def _augment(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Cut each of (G, 3, h, w) out of itself padded with black, at a place of its own, and flip half of them."""
        size, _, h, w = raw.shape
        corner = torch.randint(2 * PADDING + 1, (size, 2), generator=generator)
        flip = torch.randint(2, (size,), generator=generator, dtype=torch.bool)
        columns = torch.arange(w).expand(size, w)
        columns = torch.where(flip[:, None], columns.flip(1), columns) + corner[:, 1:]  # (G, w) in the padded image
        lines = torch.arange(h) + corner[:, :1]  # (G, h)
        width = w + 2 * PADDING
        place = self._sent((lines[:, :, None] * width + columns[:, None, :]).view(size, 1, h * w))
        padded = functional.pad(raw, [PADDING] * 4).flatten(2)  # (G, 3, padded)
        return padded.gather(2, place.expand(-1, 3, -1)).view_as(raw)
