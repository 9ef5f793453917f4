"""Archives in the exact binary format of CIFAR, small, with a card for them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES = ("cat", "dog", "ship")
TRAIN, TEST = ("data_batch_1.bin", "data_batch_2.bin"), ("test_batch.bin",)
SIZES = {"data_batch_1.bin": 30, "data_batch_2.bin": 30, "test_batch.bin": 12}


def drawn(n: int, seed: int, *, label_bytes: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bytes]:
    """Return classes (n,), pixels (n, 3, 32, 32) and their records, whose bytes are laid out one by one.

    Classes differ in the channel that is bright, so that a model can learn them.
    """
    draw = np.random.default_rng(seed)
    classes = draw.integers(0, len(CLASSES), n, dtype=np.uint8)
    pixels = draw.integers(0, 128, (n, 3, 32, 32), dtype=np.uint8)
    pixels[np.arange(n), classes] += 100
    records = bytearray()
    for label, image in zip(classes.tolist(), pixels, strict=True):
        records += bytes([77] * (label_bytes - 1) + [label])  # of two labels the second is the fine one
        for channel in range(3):
            for line in range(32):
                records += image[channel, line].tobytes()
    return classes, pixels, bytes(records)


def members(*, label_bytes: int = 1) -> dict[str, bytes]:
    return {name: drawn(n, seed, label_bytes=label_bytes)[2] for seed, (name, n) in enumerate(SIZES.items())}


def packed(content: dict[str, bytes]) -> bytes:
    """Return a gzipped tar as its publisher packs it: a folder, a file of names beside the records."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in {"batches.meta.txt": b"cat\ndog\nship\n", **content}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def write_card(folder: Path, archive: bytes, *, url: str = "https://example.org/tiny.tar.gz", more: str = "") -> Path:
    """Write ``tiny.toml``, whose publisher gives an MD5 alone."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny.toml"
    path.write_text(
        'name = "tiny"\ntitle = "Tiny"\nkind = "images"\nfile_name = "tiny.tar.gz"\n'
        f'url = "{url}"\nmd5 = "{hashlib.md5(archive).hexdigest()}"\n'
        f"train_members = {list(TRAIN)}\ntest_members = {list(TEST)}\nclasses = {list(CLASSES)}\n"
        'target_columns = ["class"]\ntask = "multiclass"\nmetric = "accuracy"\nsplit = "fixed"\nimages = 72\n' + more
    )
    return path
