"""Look a dataset of images in the eye: classes, parts, pixels, images that occur twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samcmp.data import fetch
from samcmp.data.cards import DatasetCard
from samcmp.data.images import load
from samcmp.images.pixels import channel_statistics

PARTS = ("train", "test")


@dataclass(frozen=True)
class ImageAudit:
    """Everything worth knowing of a dataset of images before training on it."""

    dataset: str
    file: str
    sha256: str  # of the archive
    md5: str  # that its publisher gives; empty where none is given
    dataset_hash: str
    kind: str
    metric: str
    images: int
    parts: Mapping[str, int]
    classes: Mapping[str, tuple[int, int]]  # images for training and of the test
    repeated: int  # images that occurred before, byte for byte
    across_parts: int  # images of the test that are among those for training
    conflicting: int  # groups of equal images of different classes
    mean: tuple[float, ...]  # of each channel over the training images, 0 to 1
    std: tuple[float, ...]
    notes: tuple[str, ...]


def audit(card: DatasetCard, *, source: str | Path | None = None, progress: fetch.Progress | None = None) -> ImageAudit:
    """Read every image of a dataset and report. Raises DataError as :func:`samcmp.data.images.load` does."""
    images = load(card, source=source, progress=progress)
    part = np.array(images.parts)
    label = images.y[:, 0].astype(int)
    counts = [np.bincount(label[part == name], minlength=len(images.classes)).tolist() for name in PARTS]
    groups: dict[int, list[int]] = defaultdict(list)
    for place, first in images.repeats.items():
        groups[first].append(place)
    mean, std = channel_statistics(images.pixels, np.flatnonzero(part == "train"))
    return ImageAudit(
        dataset=images.name,
        file=card.file_name,
        sha256=images.sha256,
        md5=card.md5,
        dataset_hash=images.dataset_hash,
        kind=images.kind,
        metric=images.metric,
        images=len(images),
        parts={name: int((part == name).sum()) for name in PARTS},
        classes={name: (train, test) for name, train, test in zip(images.classes, *counts, strict=True)},
        repeated=len(images.repeats),
        across_parts=sum(part[place] == "test" and part[first] == "train" for place, first in images.repeats.items()),
        conflicting=sum(len({label[i] for i in (first, *places)}) > 1 for first, places in groups.items()),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        notes=images.notes,
    )
