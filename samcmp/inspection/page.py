"""Results as one HTML page in the style of a comparison's: tables, and every figure of what was measured."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from samcmp.analysis.grouping import machine_of
from samcmp.errors import UsageError
from samcmp.inspection.drawing import FIGURES, draw
from samcmp.inspection.results import Results
from samcmp.report import html
from samcmp.report.canvas import Options, svg
from samcmp.report.grid import Grid


def render(results: Results, table: Grid, footnotes: Sequence[str], paths: Grid | None) -> str:
    """Return the page; figures that would make it too long are left out, the largest first, and the page says so."""
    runs = {key: run for arm in results.arms for key, run in arm.runs.items()}
    pictures = _pictures(results)
    every = len(pictures)
    splits = dict.fromkeys(f"{run.case.dataset}/{run.case.block} {run.split_hash}" for run in runs.values())
    notes = [f"failed: {text}" for text in results.failed]
    while True:
        text = html.fill(
            "inspect.html", table=table, footnotes=footnotes, paths=paths, pictures=pictures, notes=notes,
            counted=f"{len(runs)} run{'s' * (len(runs) != 1)}", splits=list(splits),
            machines=html.distinct([machine_of(run.machine) for run in runs.values()]),
            versions=html.distinct([run.versions for run in runs.values()]),
        )  # fmt: skip
        if len(text.encode()) <= html.MOST_BYTES or not pictures:
            return text
        pictures.remove(max(pictures, key=lambda picture: len(picture.svg)))
        left_out = f"{every - len(pictures)} figures are left out to keep this page short; --figure draws them."
        notes = [*notes[: len(results.failed)], left_out]


def _pictures(results: Results) -> list[html.Picture]:
    made = []
    for kind, figure in FIGURES.items():
        if figure.what in results.what:
            with contextlib.suppress(UsageError):  # of what no run has, or too few
                drawn = draw(kind, results, Options(foot=False))
                made.append(html.Picture(kind, html.inline_svg(svg(drawn.figure), kind), drawn.caption))
    return made
