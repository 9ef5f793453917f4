"""samcmp fetch: get dataset files, bundle them for a machine without network, and audit what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.errors import DataError, SamcmpError, UsageError, unknown

if TYPE_CHECKING:
    from rich.table import Table

    from samcmp import fetch as fetching
    from samcmp.cards import DatasetCard

FORMATS = ("table", "json")


def fetch(
    datasets: Annotated[list[str] | None, typer.Argument(help="Datasets; `samcmp list datasets` names them.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every dataset.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="Report rejected rows, duplicates, balance, sizes.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="Write the files and their checksums into one archive (.tar, .tar.gz).")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Take the files from a bundle, a folder or a URL.", metavar="SOURCE")
    ] = None,
    cards: Annotated[list[Path] | None, typer.Option(help="A folder with dataset cards of your own.")] = None,
    data: Annotated[Path | None, typer.Option(help="Audit a CSV of your own.")] = None,
    smiles_column: Annotated[str, typer.Option(help="Its column of SMILES.")] = "smiles",
    target: Annotated[list[str] | None, typer.Option(help="Its column to predict; may be repeated.")] = None,
    task: Annotated[str | None, typer.Option(help="classification or regression; guessed without it.")] = None,
    format_: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write the report there instead of to the screen.")] = None,
) -> None:
    """Get dataset files and check them; audit what they hold.

    Examples:
      samcmp fetch bbbp tox21
      samcmp fetch --audit bbbp
      samcmp fetch --all --bundle samcmp-data.tar
      samcmp fetch --all --from samcmp-data.tar
      samcmp fetch --audit --data my.csv --target activity
    """
    from samcmp import cards as catalogue

    if format_ not in FORMATS:
        raise unknown("format", format_, FORMATS, where="--format")
    folders = tuple(cards or ())
    if data is not None:
        chosen = [catalogue.user_card(data, smiles_column, targets=target or [], task=task)]
    else:
        names = catalogue.names(folders) if all_ or (bundle and not datasets) else datasets or []
        chosen = [catalogue.find(name, folders) for name in dict.fromkeys(names)]
    if not chosen:
        raise UsageError(
            "no dataset is named",
            where="samcmp fetch",
            remedy=f"Name some, or take --all. There are {', '.join(catalogue.names(folders))}.",
        )
    if audit:
        _audit(chosen, source=source, format_=format_, output=output)
    else:
        failed = _fetch(chosen, source=source, format_=format_, output=output)
        if bundle:
            _bundle([card for card in chosen if card.name not in failed], bundle)
        _raise(failed, chosen)


def _fetch(chosen: Sequence[DatasetCard], *, source: str | None, format_: str, output: Path | None) -> dict[str, str]:
    """Get every file, go on after a failure, and report; returns what failed and why."""
    from samcmp import fetch as fetching

    rows: list[dict[str, object]] = []
    failed: dict[str, str] = {}
    errors: list[SamcmpError] = []
    with _progress(format_ == "table") as progress:
        for card in chosen:
            had = fetching.is_cached(card)
            if errors and isinstance(errors[-1], fetching.Unreachable) and not had:
                failed[card.name] = "not tried after the first one failed"
            else:
                try:
                    fetching.ensure(card, source=source, progress=progress)
                except DataError as error:
                    failed[card.name] = error.what
                    errors.append(error)
            state = "missing" if card.name in failed else "was there" if had else "fetched"
            rows.append({**_row(card, state), "reason": failed.get(card.name)})
    if len(chosen) == 1 and errors:
        raise errors[0]
    if format_ == "json":
        _write(json.dumps(rows, indent=2), output)
    else:
        _show([_files_table(rows)], output)
    return failed


def _row(card: DatasetCard, state: str) -> dict[str, object]:
    from samcmp import fetch as fetching

    path = fetching.cached_path(card)
    size = path.stat().st_size if path.is_file() else None
    return {
        "dataset": card.name,
        "state": state,
        "file": card.file_name,
        "bytes": size,
        "molecules": card.molecules,
        "tasks": card.tasks,
        "path": str(path) if size is not None else None,
        "licence": card.licence,
    }


def _raise(failed: dict[str, str], chosen: Sequence[DatasetCard]) -> None:
    if failed:
        from samcmp import fetch as fetching

        first = next(card for card in chosen if card.name in failed)
        raise DataError(
            f"{len(failed)} of {len(chosen)} datasets could not be fetched: {', '.join(failed)}",
            where="samcmp fetch",
            remedy=f"{first.name}: {failed[first.name]}. {fetching.how_to_get(first)}",
        )


def _bundle(chosen: Sequence[DatasetCard], path: Path) -> None:
    from samcmp import bundle, fetch

    files = [(card.file_name, fetch.cached_path(card)) for card in chosen if not card.built_in]
    with fetch.writing(path):
        bundle.write(path, files)
    typer.echo(f"{path}: {len(files)} files, {path.stat().st_size:,} bytes; use it with --from {path}", err=True)


def _audit(chosen: Sequence[DatasetCard], *, source: str | None, format_: str, output: Path | None) -> None:
    from samcmp.audit import audit
    from samcmp.records import to_json

    reports = []
    with _progress(format_ == "table") as progress:
        for card in chosen:
            reports.append(audit(card, source=source, progress=progress))
    if format_ == "json":
        found = [to_json(report) for report in reports]
        _write(json.dumps(found[0] if len(found) == 1 else found, indent=2), output)
    else:
        from samcmp.cli.audit_tables import tables

        _show([table for report in reports for table in tables(report)], output)


def _files_table(rows: Sequence[dict[str, object]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Dataset files")
    for title, side in (("dataset", "left"), ("state", "left"), ("file", "left"), ("bytes", "right")):
        table.add_column(title, justify="right" if side == "right" else "left", overflow="fold")
    table.add_column("molecules", justify="right")
    table.add_column("tasks", justify="right")
    for row in rows:
        numbers = (f"{value:,}" if isinstance(value, int) else "n/a" for value in (row["bytes"], row["molecules"]))
        table.add_row(str(row["dataset"]), str(row["state"]), Text(str(row["file"])), *numbers, str(row["tasks"]))
    return table


def _show(tables: Sequence[Table], output: Path | None) -> None:
    from rich.console import Console

    if output is None:
        console = Console()
        for table in tables:
            console.print(table)
        return
    import io

    text = io.StringIO()
    console = Console(file=text, width=120)
    for table in tables:
        console.print(table)
    _write(text.getvalue().rstrip(), output)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text)
        return
    from samcmp.fetch import write_text

    write_text(output, text + "\n")


@contextmanager
def _progress(shown: bool) -> Iterator[fetching.Progress | None]:
    """A progress bar on standard error, one line a file or a dataset."""
    import sys

    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        known: dict[str, TaskID] = {}

        def advance(name: str, done: int, total: int | None) -> None:
            if name not in known:
                known[name] = bars.add_task(name.replace("[", "("), total=total)
            bars.update(known[name], completed=done, total=total)

        yield advance
