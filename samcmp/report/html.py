"""A Comparison as one HTML page that can be sent: no network, no other file, readable on a phone and by ear."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samcmp.analysis.comparison import Cell, Comparison, Verdict, labels
from samcmp.analysis.numbers import times
from samcmp.analysis.sentences import difference, form_of, headline, metric_name, word_of
from samcmp.errors import UsageError
from samcmp.printable import printable
from samcmp.records import Record
from samcmp.report.table import table

PAGE = Path(__file__).with_name("page")
MOST_BYTES = 1_000_000  # figures that would make the page longer are left out, and the page says so
ROLES = ("base", "sam", "cost")
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NUMBER = re.compile(r"([−-]?\d[\d,]*(?:\.\d+)?(?:e[+−-]?\d+)?)(?: (B|KiB|MiB|GiB)\b)?")


@dataclass(frozen=True, slots=True)
class Bar:
    """A number and its interval on a scale from 0 to 100; what means no difference is at 50."""

    mean: float
    low: float | None
    high: float | None
    margin: tuple[float, float] | None  # left end and width


@dataclass(frozen=True, slots=True)
class Line:
    """A verdict as it stands in the table of its cell."""

    optimizer: str
    against: str
    word: str
    difference: str
    bar: Bar | None
    speed: str
    aside: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of a cell."""

    kind: str
    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says about one cell."""

    title: str
    metric: str
    recommendation: str
    lines: tuple[Line, ...]
    sentences: tuple[str, ...]
    figures: tuple[Picture, ...]


def render(comparison: Comparison, records: Sequence[Record] = (), unit: str = "") -> str:
    """Return the page; with the ``records`` behind the comparison it has their learning curves, too.

    Args:
        unit: of RMSE and MAE on the axes; as the dataset's card says where it is left out.
    """
    layout = table(comparison)
    known: dict[str, Any] = {
        "layout": layout,
        "cells": [cell.name for cell in comparison.cells],
        "splits": list(dict.fromkeys(f"{s.name} {s.hash}".strip() for c in comparison.cells for s in c.splits)),
        "machines": comparison.machines,
        "versions": comparison.versions,
        "suite": comparison.suite,
        "records": comparison.records,
    }
    pictures = _pictures(comparison, records, unit)
    sections = [
        _section(cell, pictures.get(cell.key, ()), alone=len(comparison.cells) == 1) for cell in comparison.cells
    ]
    text = fill("report.html", **known, sections=sections, notes=layout.remarks)
    while len(text.encode()) > MOST_BYTES and any(section.figures for section in sections):
        longest = max(sections, key=lambda section: sum(len(picture.svg) for picture in section.figures))
        sections[sections.index(longest)] = dataclasses.replace(longest, figures=longest.figures[:-1])
        left_out = sum(map(len, pictures.values())) - sum(len(section.figures) for section in sections)
        note = f"{left_out} figures are left out to keep this page short; `samcmp report --figure` draws them."
        text = fill("report.html", **known, sections=sections, notes=(*layout.remarks, note))
    return text


def fill(
    template: str, *, machines: Sequence[Mapping[str, object]], versions: Sequence[Mapping[str, object]], **known: Any
) -> str:
    """Return a page: a template with what it shows, the style and the script; every text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, finalize=shown,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = sort_value
    environment.filters["svg"] = Markup  # matplotlib's, which escapes names
    style, script = ((PAGE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template(template).render(
        known, style=Markup(style), script=Markup(script), script_hash=_hash(script),
        machines=[_facts(machine) for machine in machines], versions=[_facts(one) for one in versions],
    )  # fmt: skip


def distinct(found: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """Return each machine, or each set of versions, once."""
    return list({repr(sorted(one.items())): one for one in found}.values())


def _hash(script: str) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def sort_value(text: str) -> float | None:
    """Return the number that a column is sorted by; None for text and for what is missing."""
    found = _NUMBER.search(text)
    if found is None or text.startswith("n/a"):
        return None
    return float(found[1].replace(",", "").replace("−", "-")) * UNITS[found[2] or "B"]


def _facts(known: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), str(value)) for name, value in known.items() if value not in (None, "")]


def _section(cell: Cell, figures: Sequence[Picture], *, alone: bool) -> Section:
    order = {row.arm: i for i, row in enumerate(cell.rows)}
    verdicts = sorted(cell.verdicts, key=lambda v: (ROLES.index(v.role), order[v.arm]))
    ends = [abs(end) for v in verdicts for end in (v.mean, *_limits(v)) if end is not None]
    scale = max([*ends, cell.margin or 0.0], default=0.0) or 1.0
    said = "" if alone or cell.recommendation is None else cell.recommendation.text
    return Section(
        title=headline(cell),
        metric=metric_name(cell),
        recommendation=said,
        lines=tuple(_line(v, cell, scale) for v in verdicts) if any(v.mean is not None for v in verdicts) else (),
        sentences=cell.sentences,
        figures=tuple(figures),
    )


def _limits(verdict: Verdict) -> tuple[float | None, float | None]:
    return verdict.adjusted_low, verdict.adjusted_high


def _line(verdict: Verdict, cell: Cell, scale: float) -> Line:
    names = labels(cell)
    needed = [f"about {verdict.blocks_needed} splits needed"] if verdict.blocks_needed is not None else []
    return Line(
        optimizer=names[verdict.arm],
        against=names[verdict.reference],
        word=word_of(verdict),
        difference=difference(verdict, form_of(cell)),
        bar=_bar(verdict, cell, scale),
        speed="n/a" if verdict.speed is None else f"{verdict.speed_word} {times(verdict.speed)}",
        aside="; ".join([*needed, *filter(None, (verdict.why, verdict.one_test_set))]),
    )


def _bar(verdict: Verdict, cell: Cell, scale: float) -> Bar | None:
    return None if verdict.mean is None else bar(verdict.mean, _limits(verdict), cell.margin, scale)


def bar(value: float, limits: tuple[float | None, float | None], margin: float | None, scale: float) -> Bar:
    """Place a number, its limits and the margin around zero on a scale whose ends are ±``scale``."""

    def place(number: float) -> float:
        return round(50.0 + 46.0 * number / scale, 2)

    low, high = (None if end is None else place(end) for end in limits)
    around = None if margin is None else (place(-margin), round(92.0 * margin / scale, 2))
    return Bar(place(value), low, high, around)


# ---------------------------------------------------------------------------------------------- figures


def _pictures(comparison: Comparison, records: Sequence[Record], unit: str) -> dict[str, list[Picture]]:
    """Draw the figures of each cell."""
    from samcmp.report.canvas import Options, svg
    from samcmp.report.figures import draw

    pictures: dict[str, list[Picture]] = {}
    for place, cell in enumerate(comparison.cells):
        one = dataclasses.replace(comparison, cells=(cell,))
        mine = pictures.setdefault(cell.key, [])
        for kind in ("front", "curves") if records else ("front",):
            with contextlib.suppress(UsageError):  # a cell without scores or speeds has no front
                drawn = draw(kind, one, records, Options(unit=unit))
                mine.append(Picture(kind, inline_svg(svg(drawn.figure), f"{kind}-{place}"), drawn.caption))
    return pictures


def inline_svg(text: str, prefix: str) -> str:
    """Make an SVG file a part of a page: own ids, no prolog, comments or metadata, its colours the page's."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for ours, theirs in (("#000000", "currentColor"), ("#ffffff", "var(--back)"), ("#e6e6e6", "var(--band)")):
        text = text.replace(ours, theirs)
    start, rest = text.split(">", 1)
    text = re.sub(r' (width|height)="[^"]*"', "", start) + ">" + rest
    return re.sub(r"\n\s*", "\n", text).replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1).strip()
