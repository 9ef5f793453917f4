"""Figures in docs/ that are drawn from committed data: the file shows what the data holds now."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.places import ROOT


def check(pictures: dict[Path, str]) -> None:
    """Compare files with the SVG that is drawn now; skip under another matplotlib, which draws another file."""
    pinned = re.search(r"^matplotlib==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if pinned is None or version("matplotlib") != pinned[1]:
        pytest.skip("another matplotlib than constraints.txt names draws another file of the same numbers")
    assert pictures
    for path, text in pictures.items():
        same = without_names(path.read_text(encoding="utf-8")) == without_names(text)
        assert same, f"{path.name}: run `make results`"


def without_names(svg: str) -> str:
    """The picture without the names of its clipping areas, which differ from process to process."""
    return re.sub(r"\bp[0-9a-f]{10}\b", "clip", svg)
