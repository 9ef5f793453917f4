"""Colour and marker of every optimizer: the same in every figure, for good.

Colours are Okabe and Ito's (2008), which differ for every kind of colour vision. Markers differ where a colour is
shared, so that nothing is lost in grey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from samcmp.analysis.comparison import Comparison

Style = dict[str, Any]  # what matplotlib takes for a line with markers
BLACK, ORANGE, BLUE, GREEN, RED, PINK, SKY, OLIVE = COLOURS = (
    "#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C00",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")
FILLS = ("full", "none", "left", "top", "right", "bottom")  # of one optimizer with several settings
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
KNOWN = {
    "adam": (BLACK, "o"), "adamw": (BLACK, "s"), "sgd": (BLACK, "^"),
    "adam-loss-weighted": (BLACK, "D"), "adam-released-schedule": (BLACK, "v"),
    "sam": (ORANGE, "s"), "asam": (ORANGE, ">"),
    "graphsam": (BLUE, "D"), "graphsam-k": (BLUE, "s"), "graphsam-released": (BLUE, "o"), "gsam": (BLUE, "v"),
    "looksam": (GREEN, "^"), "vasso": (GREEN, ">"), "s2-sam": (GREEN, "P"),
    "ae-sam": (RED, "v"), "esam": (RED, "*"),
    "rst": (PINK, "P"), "saf": (PINK, "h"), "mesa": (PINK, "p"),
    "sam-k": (SKY, "X"), "sam-k-skip": (SKY, "s"), "wsam": (SKY, "o"), "f-sam": (SKY, "D"),
    "sam-one": (OLIVE, "<"), "msam": (OLIVE, "s"), "late-sam": (OLIVE, "D"),
}  # fmt: skip


def styles(comparison: Comparison) -> dict[str, Style]:
    """Return each label's style."""
    return styles_of((row.optimizer, row.label) for cell in comparison.cells for row in cell.rows)


def styles_of(arms: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """Return each label's style: its optimizer's, half-filled or dashed where other settings share the figure.

    Args:
        arms: optimizer and label of everything in the figure.
    """
    arms = set(arms)
    taken: set[tuple[str, str, str]] = set()
    found: dict[str, Style] = {}
    # what the table knows first, and of one optimizer the settings as given: they never give way
    for optimizer, label in sorted(arms, key=lambda a: (a[0] not in KNOWN, a[0], a[0] != a[1], len(a[1]), a[1])):
        if label in found:
            continue
        look = next(look for look in _candidates(optimizer) if look not in taken)
        taken.add(look)
        colour, marker, fill = look
        dash = DASHES[(MARKERS.index(marker) + FILLS.index(fill)) % len(DASHES)]
        found[label] = {
            "color": colour, "marker": marker, "fillstyle": fill, "linestyle": dash, "markerfacecoloralt": "white"
        }  # fmt: skip
    return found


def _candidates(optimizer: str) -> Iterator[tuple[str, str, str]]:
    """An optimizer's own look, then those for its other settings, then every look there is."""
    colour, marker = KNOWN.get(optimizer) or _hashed(optimizer)
    yield from ((colour, marker, fill) for fill in FILLS)
    first = MARKERS.index(marker)
    for k in range(len(COLOURS) * len(MARKERS)):
        for fill in FILLS:
            yield COLOURS[(COLOURS.index(colour) + k // len(MARKERS)) % len(COLOURS)], MARKERS[(first + k) % 12], fill


def _hashed(optimizer: str) -> tuple[str, str]:
    """Choose for an optimizer that the table does not know, by its name alone; black is for the plain ones."""
    digest = hashlib.sha256(optimizer.encode()).digest()
    return COLOURS[1 + digest[0] % (len(COLOURS) - 1)], MARKERS[digest[1] % len(MARKERS)]
