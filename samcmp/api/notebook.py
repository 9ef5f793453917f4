"""Results in a notebook: small tables as HTML, in which every name is escaped, and figures as pictures."""

from __future__ import annotations

import html
import io
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from samcmp.printable import printable

if TYPE_CHECKING:
    from samcmp.analysis.comparison import Comparison
    from samcmp.inspection.results import Results
    from samcmp.report.grid import Entry, Grid


def comparison_html(comparison: Comparison) -> str:
    """Return recommendation, table, footnotes and verdicts; ``Result.render("html")`` is the whole page."""
    from samcmp.report.table import compact, table

    layout = table(comparison)
    parts = []
    if comparison.recommendation is not None:
        parts.append(f"<p><strong>{_safe(comparison.recommendation.text)}</strong></p>")
    parts += [_grid(compact(layout.main)), *_footnotes(layout.footnotes)]
    for headline, sentences in layout.verdicts:
        items = "".join(f"<li>{_safe(sentence)}</li>" for sentence in sentences)
        parts.append(f"<p><strong>{_safe(headline)}</strong></p><ul>{items}</ul>")
    return "\n".join(parts)


def inspected_html(results: Results) -> str:
    """Return the table, its footnotes and remarks, and the table of paths."""
    from samcmp.inspection import render

    made, footnotes = render.grid(results)
    parts = [_grid(made), *_footnotes(footnotes), *_small(made.remarks)]
    if between := render.pairs(results):
        parts += [_grid(between), *_small(between.remarks)]
    return "\n".join([*parts, *_small(f"failed: {text}" for text in results.failed)])


def text_html(text: str) -> str:
    """Return text as it stands."""
    return f'<pre style="white-space: pre; overflow-x: auto">{html.escape(text)}</pre>'


def _footnotes(texts: Iterable[str]) -> list[str]:
    return [f"<div><small><sup>{i}</sup> {_safe(text)}</small></div>" for i, text in enumerate(texts, 1)]


def _small(texts: Iterable[str]) -> list[str]:
    return [f"<div><small>{_safe(text)}</small></div>" for text in texts]


def _grid(grid: Grid) -> str:
    heads = "".join(f"<th>{_safe(column.title)}</th>" for column in grid.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in grid.rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(entry: Entry) -> str:
    text = _safe(entry.text)
    mark = "" if entry.note is None else f"<sup>{entry.note}</sup>"
    return f"<td>{f'<strong>{text}</strong>' if entry.bold else text}{mark}</td>"


def _safe(text: str) -> str:
    return html.escape(printable(text))


def show_figures() -> None:
    """Let a notebook draw matplotlib's figures as pictures where nothing does yet: pyplot, which would, is not used."""
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    from matplotlib.figure import Figure

    png = shell.display_formatter.formatters["image/png"]
    try:
        png.lookup_by_type(Figure)
    except KeyError:
        png.for_type(Figure, _png)


def _png(figure: Any) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=100, bbox_inches="tight")
    return image.getvalue()
