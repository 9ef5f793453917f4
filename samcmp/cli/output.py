"""Where a comparison goes: the terminal, a file, a gate's exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from samcmp.cli import common
from samcmp.cli.common import stderr
from samcmp.errors import UsageError, unknown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from samcmp.analysis.comparison import Comparison, Equal, Settings
    from samcmp.records import Record

WIDTH = 100  # columns
# nearer by meaning than by letters; the endings of files, too
MEANT = {"txt": "table", "text": "table", "log": "table", "md": "markdown", "tex": "latex", "htm": "html"}


def check(
    form: str | None, output: Path | None = None, *, allowed: Sequence[str] | None = None, rows: str = "arms"
) -> str:
    """Return the form of an output: the one named, or what the file's ending says, or a table.

    Args:
        allowed: the forms that a command knows; the reports' where it is left out.
        rows: of CSV and Parquet.

    Raises UsageError for an output that cannot be made, before anything is.
    """
    from samcmp.report import FORMATS

    allowed = allowed or FORMATS
    if form is None:
        ending = "" if output is None else output.suffix.lower().removeprefix(".")
        form = MEANT.get(ending, ending or "table")
        if form not in allowed:
            remedy = f"Name the format with --format. Allowed: {', '.join(allowed)}."
            raise UsageError(f"what to write is not told by .{ending}", where=f"--output {output}", remedy=remedy)
    if form not in allowed:
        if MEANT.get(form.lower()) in allowed:
            remedy = f"Did you mean {MEANT[form.lower()]!r}? Allowed: {', '.join(allowed)}."
            raise UsageError(f"unknown format {form!r}", where="--format", remedy=remedy)
        raise unknown("format", form, allowed, where="--format")
    if form == "parquet" and output is None:
        raise UsageError("parquet is not a text", where="--format parquet", remedy="Name a file with --output FILE.")
    if rows != "arms" and form not in {"csv", "parquet"}:
        raise UsageError(f"{form} has no rows to choose", where=f"--rows {rows}", remedy="Add --format csv or parquet.")
    common.check_writable(output, "--output")
    return form


def report_settings(margin: float | None, *, equal: str | None = None, trials: int | None = None) -> Settings:
    """The report's settings with a margin of the user's: in AUC, or as a share of the baseline's RMSE or MAE."""
    from samcmp.analysis.comparison import MARGINS, Margin, Settings

    margins = dict(MARGINS)
    if margin is not None:
        margins = {metric: Margin(margin, relative=m.relative) for metric, m in MARGINS.items()}
    return Settings(margins=margins, equal=cast("Equal", equal or "trials"), trials=trials)


def refuse_untuned(equal: str | None) -> None:
    """Say that what was asked for is about tuning, and nothing is tuned. Raises UsageError."""
    where = "--trials" if equal is None else f"--equal {equal}"
    raise UsageError("nothing is tuned here", where=where, remedy="Add `--tune 8` to `samcmp compare`.")


def refuse_without_speeds(arms: Sequence[str]) -> None:
    """Refuse to train for a comparison at equal seconds where a speed could not be measured. Raises UsageError."""
    if arms:
        raise UsageError(
            f"no speed was measured of {'; '.join(arms)}",
            where="--equal seconds",
            remedy="Use --equal passes, measure again with --retry-failed, or leave these optimizers out.",
        )


def deliver(
    comparison: Comparison,
    *,
    form: str,
    output: Path | None,
    records: Sequence[Record] = (),
    rows: str = "arms",
    unit: str = "",
) -> None:
    """Print or write a comparison in the form asked for. A file appears whole or not at all.

    Args:
        rows: of CSV and Parquet: one an arm, or one a run of ``records``.
        unit: of RMSE and MAE, on the axes of a page's figures.
    """
    from samcmp import report
    from samcmp.report import flat

    runs_of = records if rows == "runs" else None

    if form == "table":
        from samcmp.report import terminal

        show([terminal.render(comparison)], output)
    elif form == "parquet" and output is not None:
        put_file(lambda temporary: flat.to_parquet(comparison, temporary, runs_of), output)
    elif form == "csv":
        put(flat.to_csv(comparison, runs_of), output)
    else:
        put(report.render(comparison, form, records=records, unit=unit), output)


def put(text: str, path: Path | None) -> None:
    """Print a text, or write it to ``path`` and say so."""
    if path is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        put_file(lambda temporary: temporary.write_bytes(text.encode()), path)


def put_file(make: Callable[[Path], object], path: Path) -> None:
    """Let ``make`` fill a file that then becomes ``path``, and say so."""
    from samcmp import files

    with files.writing(path) as temporary:
        make(temporary)
    stderr().print(f"wrote {path}", markup=False)


def show(parts: Sequence[RenderableType], path: Path | None, *, width: int = WIDTH) -> None:
    """Print tables and texts on the screen, or write what it would show to ``path``."""
    import io

    from samcmp.cli.console import SafeConsole

    text = io.StringIO()
    plain = SafeConsole(file=text, width=width, force_terminal=False)
    console = common.stdout(width=width) if path is None else plain
    for part in parts:
        console.print(part)
    if path is not None:
        put(text.getvalue(), path)
