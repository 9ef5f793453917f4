"""samcmp fetch: get dataset files, bundle them for a machine without network, and audit what is in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, completion, options
from samcmp.cli import output as output_
from samcmp.cli.common import check_writable, progress_bars, refuse_columns
from samcmp.errors import DataError, SamcmpError, UsageError
from samcmp.printable import counted

if TYPE_CHECKING:
    from rich.table import Table

    from samcmp.data.cards import DatasetCard


def fetch(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(help="Datasets; `samcmp list datasets` names them.", autocompletion=completion.datasets),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every dataset.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="Report rejected rows, duplicates, balance, sizes.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Put the files and their checksums into one archive (.tar or .tar.gz)."),
    ] = None,
    source: options.Source = None,
    format_: Annotated[str | None, options.form(("table", "json"))] = None,
    output: options.Output = None,
    data: options.DataFile = None,
    smiles_column: options.SmilesColumn = "smiles",
    target: options.Target = None,
    task: options.TaskKind = None,
    cards: options.Cards = None,
) -> None:
    """Get dataset files, checked against their SHA-256, or look into them.

    Examples:

      samcmp fetch bbbp tox21

      samcmp fetch --audit bbbp

      samcmp fetch --audit --data my.csv --target activity

      samcmp fetch --all --bundle data.tar        where there is a network

      samcmp fetch --all --from data.tar          where there is none
    """
    from samcmp.data import cards as catalogue

    form = output_.check(format_, output, allowed=("table", "json"))
    _check_bundle(bundle)
    folders = tuple(cards or ())
    if data is not None and (datasets or all_):
        raise UsageError("a file of your own stands alone", where="--data", remedy="Leave the datasets out.")
    if data is not None:
        from samcmp.data.user_table import user_card

        chosen = [user_card(data, smiles_column, targets=target or [], task=task)]
    else:
        refuse_columns(target, task, smiles_column)
        every = [name for name in catalogue.names(folders) if "@" not in name]  # populations share a file
        names = every if all_ or (bundle and not datasets) else datasets or []
        chosen = [catalogue.find(name, folders) for name in dict.fromkeys(names)]
    if not chosen:
        raise UsageError(
            "no dataset is named",
            where="samcmp fetch",
            remedy=f"Name some, or take --all. There are {', '.join(catalogue.names(folders))}.",
        )
    if audit:
        failed = _audit(chosen, source=source, form=form, output=output)
    else:
        failed = _fetch(chosen, source=source, form=form, output=output)
    if bundle:
        _bundle([card for card in chosen if card.name not in failed], bundle)
    _raise(failed, chosen)


def _fetch(chosen: Sequence[DatasetCard], *, source: str | None, form: str, output: Path | None) -> dict[str, str]:
    """Get every file, go on after a failure, and report; returns what failed and why."""
    from samcmp.data import fetch as fetching

    rows: list[dict[str, object]] = []
    failed: dict[str, str] = {}
    errors: list[SamcmpError] = []
    with progress_bars(form == "table") as progress:
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
    if form == "json":
        _write(json.dumps(rows, indent=2), output)
    else:
        _show([_files_table(rows)], output)
    return failed


def _row(card: DatasetCard, state: str) -> dict[str, object]:
    from samcmp.data import fetch as fetching

    path = fetching.cached_path(card)
    size = path.stat().st_size if path.is_file() else None
    return {
        "dataset": card.name,
        "state": state,
        "file": card.file_name,
        "bytes": size,
        "molecules": card.molecules,
        "images": card.images,
        "size": card.size,
        "tasks": card.tasks,
        "sha256": fetching.recorded_sha256(card) or (card.sha256[0] if len(card.sha256) == 1 else None),
        "path": str(path) if size is not None else None,
        "licence": card.licence,
    }


def _raise(failed: dict[str, str], chosen: Sequence[DatasetCard]) -> None:
    if failed:
        from samcmp.data import fetch as fetching

        first = next(card for card in chosen if card.name in failed)
        raise DataError(
            f"{len(failed)} of {len(chosen)} datasets could not be fetched: {', '.join(failed)}",
            where="samcmp fetch",
            remedy=f"{first.name}: {failed[first.name]}. {fetching.how_to_get(first)}",
        )


def _check_bundle(path: Path | None) -> None:
    """Refuse a bundle that could not be written, or not be known for one when it is read. Raises UsageError."""
    from samcmp.data.bundle import ENDINGS

    check_writable(path, "--bundle")
    if path is not None and not path.name.lower().endswith(ENDINGS):
        raise UsageError(
            "a bundle is a tar archive", where=f"--bundle {path}", remedy=f"End its name in {', '.join(ENDINGS)}."
        )


def _bundle(chosen: Sequence[DatasetCard], path: Path) -> None:
    from samcmp.data import bundle, fetch

    files = [(card.file_name, fetch.cached_path(card)) for card in chosen if not card.built_in]
    if not files:
        raise UsageError("built-in datasets need no bundle", where=f"--bundle {path}", remedy="Name others, or --all.")
    bundle.write(path, files)
    typer.echo(
        f"{path}: {counted(len(files), 'file')}, {path.stat().st_size:,} bytes; use it with --from {path}", err=True
    )


def _audit(chosen: Sequence[DatasetCard], *, source: str | None, form: str, output: Path | None) -> dict[str, str]:
    """Report on every dataset that can be read; returns what failed and why."""
    from samcmp.data import audit, image_audit
    from samcmp.records import to_json

    reports: list[audit.Audit | image_audit.ImageAudit] = []
    failed: dict[str, str] = {}
    with progress_bars(form == "table") as progress:
        for card in chosen:
            try:
                look = image_audit.audit if card.kind == "images" else audit.audit
                reports.append(look(card, source=source, progress=progress))
            except DataError as error:
                if len(chosen) == 1:
                    raise
                failed[card.name] = error.what
    if form == "json":
        found = [to_json(report) for report in reports]
        _write(json.dumps(found[0] if len(chosen) == 1 else found, indent=2), output)
    else:
        from samcmp.report.audit import tables

        _show([table for report in reports for table in tables(report)], output)
    return failed


def _files_table(rows: Sequence[dict[str, object]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Dataset files", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("dataset", "state", "file"):
        table.add_column(title, overflow="fold")
    for title in ("bytes", "size", "tasks"):
        table.add_column(title, justify="right")
    for row in rows:
        numbers = (f"{value:,}" if isinstance(value, int) else "n/a" for value in (row["bytes"], row["size"]))
        table.add_row(str(row["dataset"]), str(row["state"]), Text(str(row["file"])), *numbers, str(row["tasks"]))
    return table


def _show(tables: Sequence[Table], output: Path | None) -> None:
    if output is None:
        console = common.stdout()
        for table in tables:
            console.print(table)
        return
    import io

    from samcmp.cli.console import SafeConsole

    text = io.StringIO()
    console = SafeConsole(file=text, width=120, force_terminal=False)
    for table in tables:
        console.print(table)
    _write(text.getvalue().rstrip(), output)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text)
        return
    from samcmp import files

    files.write(output, (text + "\n").encode())
