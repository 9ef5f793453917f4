"""A dataset of images in memory, from its publisher's archive of binary records.

A record is the bytes of its labels and then 3 x 32 x 32 pixels: red, green and blue plane, each row by row (the binary
version of CIFAR-10 and CIFAR-100: Krizhevsky, 2009).
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from samcmp.data import bundle, catalogue, fetch, labels
from samcmp.data.cards import DatasetCard, Kind
from samcmp.data.download import BLOCK
from samcmp.data.molecules import drawn
from samcmp.errors import DataError, changed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samcmp.records import Holds

SIDE = 32  # pixels
PIXELS = 3 * SIDE * SIDE
_last: dict[tuple[str, str], Images] = {}  # every run of a comparison loads its images


@dataclass(frozen=True, eq=False)
class Images:
    """M images, the training members' first, in the order of their files."""

    name: str
    rows: NDArray[np.int64]  # (M,) ascending
    pixels: NDArray[np.uint8]  # (M, 3, 32, 32)
    y: NDArray[np.float64]  # (M, 1) number of the class
    tasks: tuple[str, ...]  # of one
    classes: tuple[str, ...]  # by number
    parts: tuple[str, ...]  # (M,) train or test, as their publisher says
    dataset_hash: str
    kind: Kind = "multiclass"
    metric: str = "accuracy"
    notes: tuple[str, ...] = ()  # to be said to the user
    file_rows: int = 0
    frozen: bool = False  # whether the rows are those of a known dataset
    sha256: str = ""  # of the archive

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def holds(self) -> Holds:
        return "images"

    @property
    def unused(self) -> frozenset[int]:
        """Every image of an archive is used."""
        return frozenset()

    @cached_property
    def repeats(self) -> Mapping[int, int]:
        """Place of an image that occurred before, byte for byte -> place where it occurred first."""
        first: dict[bytes, int] = {}
        found: dict[int, int] = {}
        for place, image in enumerate(self.pixels.reshape(len(self), -1)):
            key = hashlib.blake2b(image.data, digest_size=16).digest()
            if first.setdefault(key, place) != place:
                found[place] = first[key]
        return found


def load(
    card: DatasetCard,
    *,
    source: str | Path | None = None,
    progress: fetch.Progress | None = None,
    identity: str = "",
) -> Images:
    """Read the images of a card, fetching its archive first where needed.

    Raises DataError when the archive does not hold what the card says, or where the dataset has not the ``identity``
    that is given: see :func:`samcmp.data.catalogue.identity`.
    """
    if card.kind != "images":
        raise ValueError(f"{card.name} holds {card.kind}, see samcmp.data.{card.kind}")
    data = fetch.read(card, source=source, progress=progress)
    path, sha256 = fetch.cached_path(card), hashlib.sha256(data).hexdigest()
    if identity and catalogue.identity(card, sha256) != identity:
        raise changed(path)
    key = repr(replace(card, path=None, data=None)), sha256
    if key not in _last:
        _last.clear()  # one set: they are large
        _last[key] = _read(card, data, where=str(path), sha256=sha256)
    return _last[key]


def subset(images: Images, n: int, *, seed: int = 0) -> Images:
    """Return n images drawn by hash as :func:`samcmp.data.molecules.drawn` says. Raises UsageError."""
    total, chosen = len(images), drawn(images, n, seed=seed)
    if n == total:
        return images
    rows, pixels, y = images.rows[chosen], images.pixels[chosen], images.y[chosen]
    return replace(
        images,
        rows=rows,
        pixels=pixels,
        y=y,
        parts=tuple(images.parts[i] for i in chosen),
        dataset_hash=hash_of(images.name, rows, pixels=pixels, y=y),
        notes=(*images.notes, f"a subset of {n:,} of the {total:,} images, seed {seed}"),
    )


def hash_of(name: str, rows: NDArray[np.int64], *, pixels: NDArray[np.uint8], y: NDArray[np.float64]) -> str:
    """Hash a dataset's content: SHA-256 of "images-v1", name, size, and the rows, classes and pixels one after another.

    Rows and classes are big-endian integers of 8 bytes.
    """
    whole = hashlib.sha256(f"images-v1\n{name}\n{len(rows)}\n".encode())
    for part in (rows.astype(">i8"), y[:, 0].astype(">i8"), pixels):
        whole.update(np.ascontiguousarray(part).data)
    return whole.hexdigest()


def _read(card: DatasetCard, data: bytes, *, where: str, sha256: str) -> Images:
    wanted = (*card.train_members, *card.test_members)
    members = _members(data, wanted, where=where)
    found = [_records(members[name], card, where=f"{where}: {name}") for name in wanted]
    pixels = np.concatenate([part for part, _ in found])
    y = np.concatenate([part for _, part in found]).astype(np.float64)[:, None]
    n, n_train = len(y), sum(len(part) for part, _ in found[: len(card.train_members)])
    expected = card.file_rows or card.images
    if expected is not None and n != expected:
        raise DataError(f"the archive has {n:,} images where its card says {expected:,}", where=where)
    rows = np.arange(n, dtype=np.int64)
    said = labels.check(card.task, y, tasks=card.target_columns, rows=rows, where=where)
    digest = hash_of(card.name, rows, pixels=pixels, y=y)
    if card.dataset_hash is not None and digest != card.dataset_hash:
        raise DataError(
            f"the dataset hash is {digest[:16]} where its card says {card.dataset_hash[:16]}",
            where=where,
            remedy="The archive holds other images or classes than the card describes.",
        )
    return Images(
        name=card.name,
        rows=rows,
        pixels=pixels,
        y=y,
        tasks=card.target_columns,
        classes=card.classes,
        parts=("train",) * n_train + ("test",) * (n - n_train),
        dataset_hash=digest,
        kind=card.task,
        metric=card.metric,
        notes=(*card.notes, *said),
        file_rows=n,
        frozen=card.frozen,
        sha256=sha256,
    )


def _members(data: bytes, wanted: tuple[str, ...], *, where: str) -> dict[str, bytes]:
    """Return the content of the members that are wanted. Raises DataError for an archive that lacks one."""
    found: dict[str, bytes] = {}
    try:
        with bundle.tar(io.BytesIO(data), packed=len(data), where=where) as (archive, members):
            for name in wanted:
                if name not in members:
                    held = ", ".join(sorted(members)[: bundle.NAMED]) or "nothing"
                    raise DataError(f"there is no {name} in the archive; it holds {held}", where=where)
            for name in sorted(wanted, key=lambda name: members[name].offset):  # as they lie: one pass
                if (stream := archive.extractfile(members[name])) is not None:
                    found[name] = _whole(stream)
    except DataError as error:
        raise DataError(error.what, where=where, remedy=_GET_IT) from None
    except (tarfile.TarError, EOFError, OSError, *bundle.DECODING) as error:
        raise DataError(f"the archive is damaged: {error}", where=where, remedy=_GET_IT) from None
    return found


def _whole(stream: IO[bytes]) -> bytes:
    """Read a member in blocks, as :func:`samcmp.data.bundle.tar` asks for."""
    content = bytearray()
    while block := stream.read(BLOCK):
        content += block
    return bytes(content)


_GET_IT = "Get the archive again: it is the publisher's tar of binary records that is read, no other version."


def _records(data: bytes, card: DatasetCard, *, where: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return pixels (n, 3, 32, 32) and classes (n,) of one member. Raises DataError for one that is no such file."""
    length = card.label_bytes + PIXELS
    if not data or len(data) % length:
        raise DataError(
            f"has {len(data):,} bytes, which are no whole number of records of {length:,}", where=where, remedy=_GET_IT
        )
    table = np.frombuffer(data, dtype=np.uint8).reshape(-1, length)
    classes = table[:, card.label_bytes - 1]
    bad = np.flatnonzero(classes >= len(card.classes))
    if len(bad):
        raise DataError(
            f"image {bad[0]} is of the class {classes[bad[0]]}, and there are {len(card.classes)}",
            where=where,
            remedy=_GET_IT,
        )
    return table[:, card.label_bytes :].reshape(-1, 3, SIDE, SIDE), classes
