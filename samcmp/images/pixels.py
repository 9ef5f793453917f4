"""What is known of the pixels of a set of images, without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def channel_statistics(
    pixels: NDArray[np.uint8], positions: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation (3,) of each channel of ``pixels`` (M, 3, h, w), on the scale 0 to 1.

    Of the images at ``positions`` (n,), 1 or more, over all their pixels (divided by their number, not one less). The
    deviation is 1 for a channel of one value, which can then be divided by it.
    """
    sums = np.zeros((2, 3))
    for part in np.array_split(positions, max(1, len(positions) // 1024)):
        values = pixels[part].reshape(len(part), 3, -1).astype(np.float32)  # whole numbers below 2^16: sums are exact
        sums[0] += values.sum(axis=(0, 2), dtype=np.float64)
        sums[1] += np.square(values, out=values).sum(axis=(0, 2), dtype=np.float64)
    mean, square = sums / (len(positions) * pixels[0, 0].size)
    std = np.sqrt(np.maximum(square - mean * mean, 0.0)) / 255
    return mean / 255, np.where(std > 0, std, 1.0)
