"""Records to tables, verdicts and figures.

``analysis.build.compare(records)`` gives a ``Comparison``; ``render(comparison, "markdown")`` its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from samcmp.errors import UsageError, unknown

if TYPE_CHECKING:
    from samcmp.analysis.comparison import Comparison
    from samcmp.records import Record

FORMATS = ("table", "markdown", "latex", "html", "csv", "json", "parquet")


def render(comparison: Comparison, form: str, *, records: Sequence[Record] = (), unit: str = "") -> str:
    """Return a Comparison as text: markdown, latex, html, csv or json. Raises UsageError for another format.

    Args:
        records: what it was made of; a page then shows their learning curves.
        unit: of RMSE and MAE on the axes of its figures; as the dataset's card says where it is left out.
    """
    if form == "markdown":
        from samcmp.report.markdown import render as markdown

        return markdown(comparison)
    if form == "latex":
        from samcmp.report.latex import render as latex

        return latex(comparison)
    if form == "html":
        from samcmp.report.html import render as html

        return html(comparison, records, unit)
    if form == "csv":
        from samcmp.report.flat import to_csv

        return to_csv(comparison)
    if form == "json":
        from samcmp.analysis.comparison import to_json_text

        return to_json_text(comparison)
    if form in FORMATS:
        raise UsageError(f"format {form!r} is not a text", where="--format", remedy="Name a file with --output FILE.")
    raise unknown("format", form, FORMATS, where="--format")
