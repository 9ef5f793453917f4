"""Short names for people: a class from a file by its class, with as much of its path as tells it from another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from samcmp.analysis.comparison import Cell, Comparison


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Name what is written ``file.py:Class`` by its class; of two that would read alike, by the end of their paths.

    Names of the catalogue and the settings behind a name stay; case tells nothing apart: SAM beside sam is
    ``mine.py:SAM``.
    """
    whole = {name: plain(name) for name in names}
    parts = {full: [*re.split(r"[/\\]", full.rpartition(":")[0]), full.rpartition(":")[2]] for full in whole.values()}
    count = dict.fromkeys(parts, 1)  # parts of a path that are shown, the class included
    shown = {full: full for full in parts}  # where they differ in case alone
    for _ in range(max(map(len, parts.values()), default=0)):
        cut = {full: ":".join(filter(None, ["/".join(of[-count[full] : -1]), of[-1]])) for full, of in parts.items()}
        times = Counter(text.lower() for text in cut.values())
        if len(times) == len(parts):
            shown = cut
            break
        for full, text in cut.items():
            count[full] += times[text.lower()] > 1
    return {name: shown[full] + name.removeprefix(full) for name, full in whole.items()}


def plain(arm: str) -> str:
    """Return an arm's name without its settings and its length of training."""
    return re.split(r"\[| ×", arm, maxsplit=1)[0]


def columns_of(cell: Cell) -> tuple[str, str]:
    """Part a cell's name into the dataset, with what tells the cell from others, and the model."""
    model, *apart = re.split(r"(?= [(#])", cell.name.removeprefix(f"{cell.dataset} / "), maxsplit=1)
    return cell.dataset + "".join(apart), model


def in_full(comparison: Comparison) -> str:
    """Say which files the short names of a comparison are of; empty where there are none."""
    files: dict[str, str] = {}
    for cell in comparison.cells:
        files |= {columns_of(cell)[1]: cell.model} | {plain(row.label): row.optimizer for row in cell.rows}
    return are(files)


def are(files: Mapping[str, str]) -> str:
    """Write which name in full each short name stands for, as far as they differ."""
    said = [f"{short} is {full}" for short, full in files.items() if short != full]
    return "; ".join(said)
