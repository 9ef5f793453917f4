"""``samcmp report``: render stored results again, without training and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, options, output
from samcmp.cli import figures as drawing
from samcmp.cli import gate as gates
from samcmp.cli.options import OUTPUT
from samcmp.errors import UsageError, choice
from samcmp.printable import counted

if TYPE_CHECKING:
    from samcmp.experiment.merge import Stores
    from samcmp.experiment.store import Store
    from samcmp.records import Record


StoreDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="Where results are; repeat for several.",
        show_default="$SAMCMP_STORE, else .samcmp",
    ),
]


@options.grouped
def report(
    *,
    dataset: options.Datasets = None,
    model: options.Models = None,
    optimizer: options.Optimizers = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of --format json.", rich_help_panel=OUTPUT)
    ] = False,
    equal: options.Equal = None,
    trials: Annotated[
        int | None,
        options.count(
            "--trials",
            "Use the first N trials of a tuned comparison.",
            options.TUNING,
            least=2,
            shown="as many as every optimizer has",
        ),
    ] = None,
    out: options.OutputOptions,
    figures: drawing.FigureOptions,
    gate: gates.GateOptions,
    store: StoreDirs = None,
) -> None:
    """Render what the store holds: the table and its verdicts, files in other formats, figures.

    Nothing is trained and torch is not imported.

    Examples:

      samcmp report

      samcmp report -d bbbp --output table.tex

      samcmp report --figure front=front.pdf --width 84mm --figure curves=curves.png

      samcmp report --output baseline.json

      samcmp report --store shard-1 --store shard-2
    """
    if json_schema:
        from samcmp.analysis.schema import text

        typer.echo(text(), nl=False)
        return
    wanted = drawing.check(figures)
    form = output.check(out.format_, out.output, rows=out.rows)
    before = gates.baseline(gate)
    kept = _stores(store or [common.store_folder(None)])
    records = _chosen(kept, dataset, model, optimizer)
    from samcmp.analysis import build  # here: nothing is computed of a store without results

    comparison = build.compare(
        records, output.report_settings(out.margin, equal=equal, trials=trials), predictions=kept.predictions
    )
    if equal is not None and not any(cell.tuning for cell in comparison.cells):
        output.refuse_untuned(equal)
    common.print_damaged(kept)
    if out.published:
        from samcmp.analysis.published_comparison import with_published

        comparison = with_published(comparison)
    drawn = drawing.draw(wanted, figures, comparison, records)
    output.deliver(
        comparison, form=form, output=out.output, records=records, rows=out.rows, unit=figures.unit
    )  # fmt: skip
    drawing.save(drawn)
    if before is not None:
        raise typer.Exit(gates.judge(comparison, before, gate))


def _stores(folders: Sequence[Path]) -> Store | Stores:
    """Open one store, or several that are read as one. Raises UsageError where one of several is not there."""
    from samcmp.experiment.store import Store

    folders = list({folder.resolve(): folder for folder in folders}.values())
    if len(folders) == 1:
        return Store(folders[0])
    from samcmp.experiment.merge import Stores

    for folder in folders:
        if not folder.is_dir():
            raise UsageError("there is no store here", where=f"--store {folder}", remedy="Name folders with results.")
    return Stores([Store(folder) for folder in folders])


def _chosen(
    kept: Store | Stores, datasets: Sequence[str] | None, models: Sequence[str] | None, optimizers: Sequence[str] | None
) -> list[Record]:
    """Read the store and keep what was asked for. Raises UsageError where nothing is left."""
    every = kept.records()
    common.print_damaged(kept)
    if twice := getattr(kept, "measured_twice", 0):
        said = f"{counted(twice, 'profile')} measured in several stores: shown is what the first of them has"
        common.stderr().print(said, markup=False, soft_wrap=True)
    if not every:
        raise UsageError(
            "there are no results yet",
            where=str(kept.folder),
            remedy="Run `samcmp compare`, or name a store with --store.",
        )
    records = every
    for kind, wanted in (("dataset", datasets), ("model", models), ("optimizer", optimizers)):
        names = {getattr(record.case, kind) for record in every}
        for name in wanted or ():
            if name not in names:
                raise UsageError(
                    f"no results for {name!r} in {kept.folder}", where=f"--{kind}",
                    remedy=choice(name, sorted(names), are="There"),
                )  # fmt: skip
        if wanted:
            records = [record for record in records if getattr(record.case, kind) in wanted]
    if not records:
        raise UsageError(
            f"no results in {kept.folder} have all of this", where="--dataset, --model, --optimizer",
            remedy="Leave one of them out; `samcmp report` shows all there is.",
        )  # fmt: skip
    return records
