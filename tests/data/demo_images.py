"""``demo-images``: drawn shapes of 32 x 32 pixels in the binary format of CIFAR-10, which need no download.

An image is one of :data:`SHAPES` of some colour, size and place on a background of another colour, with two bars across
it as a distraction. All of it is decided by SHA-256 of plain text with integers alone, so the set is the same
everywhere. Of the training labels :data:`WRONG` are of another class. A score on this set says nothing of photographs.

    python -m tests.data.demo_images        writes datasets/demo-images.tar.gz
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 32
SHAPES = ("disc", "ring", "square", "frame", "triangle", "cross")
MEMBERS = {"train.bin": 1000, "test.bin": 200}
WRONG = 0.05

Plane = NDArray[np.bool_]  # (32, 32)


class Draws:
    """Whole numbers from SHA-256 of a text and a counter."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.count = 0

    def __call__(self, low: int, high: int) -> int:
        """Return one of low, ..., high - 1."""
        digest = hashlib.sha256(f"{self.text}:{self.count}".encode()).digest()
        self.count += 1
        return low + int.from_bytes(digest[:8], "big") % (high - low)


def shape(name: str, x: int, y: int, r: int) -> Plane:
    """Return the pixels of a shape around (x, y) of the half-width r."""
    v, h = np.mgrid[:SIDE, :SIDE]
    dx, dy = np.abs(h - x), np.abs(v - y)
    inside = dx * dx + dy * dy
    if name == "disc":
        return inside <= r * r
    if name == "ring":
        return (inside <= r * r) & (inside >= (r - 3) * (r - 3))
    if name == "square":
        return np.maximum(dx, dy) <= r
    if name == "frame":
        return (np.maximum(dx, dy) <= r) & (np.maximum(dx, dy) >= r - 2)
    if name == "triangle":
        return (v - y <= r) & (2 * dx <= v - y + r)
    return ((dx <= 1) | (dy <= 1)) & (np.maximum(dx, dy) <= r)


def image(number: int) -> tuple[NDArray[np.uint8], int]:
    """Return the pixels (3, 32, 32) and the class of an image."""
    draw = Draws(f"demo-images-v1:{number}")
    label = draw(0, len(SHAPES))
    r = draw(6, 11)
    x, y = draw(r, SIDE - r), draw(r, SIDE - r)
    ground = [draw(0, 128) for _ in range(3)]
    colour = [(value + draw(64, 128)) % 256 for value in ground]
    pixels = np.empty((3, SIDE, SIDE), dtype=np.uint8)
    pixels[:] = np.array(ground, dtype=np.uint8)[:, None, None]
    pixels[:, shape(SHAPES[label], x, y, r)] = np.array(colour, dtype=np.uint8)[:, None]
    for across in (0, 1):
        place, shade = draw(0, SIDE), draw(0, 256)
        pixels[(slice(None), place) if across else (slice(None), slice(None), place)] = shade
    return pixels, label


def member(name: str) -> bytes:
    """Return the records of a member of the archive."""
    first = sum(list(MEMBERS.values())[: list(MEMBERS).index(name)])
    records = []
    for number in range(first, first + MEMBERS[name]):
        pixels, label = image(number)
        draw = Draws(f"demo-images-v1:label:{number}")
        if name == "train.bin" and draw(0, 100) < 100 * WRONG:
            label = (label + draw(1, len(SHAPES))) % len(SHAPES)
        records.append(bytes([label]) + pixels.tobytes())
    return b"".join(records)


def archive() -> bytes:
    """Return the whole archive; its content is the same everywhere, how it is packed is zlib's affair."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name in MEMBERS:
            content = member(name)
            info = tarfile.TarInfo(f"demo-images/{name}")
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), 9, mtime=0)


if __name__ == "__main__":
    (Path(__file__).parents[2] / "datasets" / "demo-images.tar.gz").write_bytes(archive())
