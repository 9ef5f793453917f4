"""``samcmp report``: render stored results again, without training and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, options, output
from samcmp.cli.options import OUTPUT
from samcmp.errors import UsageError, nearest, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from samcmp.analysis.comparison import Comparison
    from samcmp.experiment.store import Store
    from samcmp.records import Record

FIGURES = {  # and what each is drawn of
    "pareto": "accuracy and speed of the same optimizers; `samcmp compare` gives both",
    "differences": "the accuracy of sam and of another optimizer on two equal splits or more",
    "curves": "training runs; `samcmp compare` or `samcmp train` gives them",
    "profiles": "the same optimizers on two datasets or models or more",
    "tuning": "the trials of a tuned comparison; `samcmp compare --tune 8` gives them",
    "sensitivity": "the trials of a tuned comparison; `samcmp compare --tune 8` gives them",
    "anytime": "training runs of the base optimizer and of others",
}


@options.grouped
def report(
    *,
    dataset: options.Datasets = None,
    model: options.Models = None,
    optimizer: options.Optimizers = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=FILE",
            help=f"Draw {', '.join(FIGURES)} into an svg, png or pdf. Repeat for several.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of --format json.", rich_help_panel=OUTPUT)
    ] = False,
    equal: options.Equal = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=options.whole("--trials", least=2),
            help="Use the first N trials of a tuned comparison.",
            show_default="as many as every optimizer has",
            rich_help_panel=options.TUNING,
        ),
    ] = None,
    out: options.OutputOptions,
    store: options.StoreDir = None,
) -> None:
    """Render what the store holds: the table and its verdicts, files in other formats, figures.

    Nothing is trained and torch is not imported.

    Examples:

      samcmp report

      samcmp report -d bbbp --format latex --output table.tex

      samcmp report --figure pareto=pareto.svg --figure curves=curves.png

      samcmp report --format json --output baseline.json
    """
    if json_schema:
        from samcmp.analysis.schema import text

        typer.echo(text(), nl=False)
        return
    wanted = _figures(figure or [])
    output.check(out.format_, out.output)
    before = output.baseline(out.baseline)
    from samcmp.experiment.store import Store

    kept = Store(common.store_folder(store))
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
    drawn = [(path, _draw(kind, path, records=records, comparison=comparison)) for kind, path in wanted]
    output.deliver(comparison, form=out.format_, output=out.output, records=records)
    for path, figure_ in drawn:
        _save(figure_, path)
    if before is not None:
        raise typer.Exit(output.gate(comparison, before))


def _figures(figures: Sequence[str]) -> list[tuple[str, Path]]:
    from samcmp.report.figures import FORMATS

    wanted = []
    for text in figures:
        kind, _, file = text.partition("=")
        if kind not in FIGURES:
            raise unknown("figure", kind, FIGURES, where="--figure")
        path = Path(file)
        if not file or path.suffix.lower().lstrip(".") not in FORMATS:
            raise UsageError(
                f"expected KIND=FILE with a file that ends in {', '.join('.' + f for f in FORMATS)}, got {text!r}",
                where="--figure",
                remedy="For example: --figure pareto=pareto.svg",
            )
        common.check_writable(path, "--figure")
        wanted.append((kind, path))
    return wanted


def _chosen(
    kept: Store, datasets: Sequence[str] | None, models: Sequence[str] | None, optimizers: Sequence[str] | None
) -> list[Record]:
    """Read the store and keep what was asked for. Raises UsageError where nothing is left."""
    every = kept.records()
    common.print_damaged(kept)
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
                close = nearest(name, names)
                meant = f"Did you mean {close!r}? " if close else ""
                there = ", ".join(sorted(names))
                raise UsageError(
                    f"no results for {name!r} in {kept.folder}", where=f"--{kind}", remedy=f"{meant}There: {there}."
                )
        if wanted:
            records = [record for record in records if getattr(record.case, kind) in wanted]
    if not records:
        raise UsageError(
            f"no results in {kept.folder} have all of this", where="--dataset, --model, --optimizer",
            remedy="Leave one of them out; `samcmp report` shows all there is.",
        )  # fmt: skip
    return records


def _draw(kind: str, path: Path, *, records: Sequence[Record], comparison: Comparison) -> Figure:
    """Draw a figure. Raises UsageError where the results do not hold what it shows."""
    from samcmp.report import figures

    try:
        if kind == "curves":
            from samcmp.analysis.curves import curves

            return figures.loss_curves(curves(records, comparison))
        if kind in {"tuning", "sensitivity", "anytime"}:
            from samcmp.analysis import tuning_curves

            if kind == "tuning":
                return figures.best_of_trials(tuning_curves.best_of_trials(records, comparison), comparison)
            if kind == "sensitivity":
                return figures.sensitivity(tuning_curves.sensitivity(records, comparison), comparison)
            return figures.anytime(tuning_curves.anytime(records, comparison), comparison)
        maker = {"differences": figures.differences, "profiles": figures.profiles, "pareto": figures.pareto}[kind]
        return maker(comparison)
    except UsageError as error:
        raise UsageError(
            error.what, where=f"--figure {kind}={path}", remedy=f"This figure needs {FIGURES[kind]}."
        ) from None


def _save(figure: Figure, path: Path) -> None:
    from samcmp import files
    from samcmp.report import figures

    with files.writing(path) as temporary:
        figures.save(figure, temporary, form=path.suffix.lower().lstrip("."))
    common.stderr().print(f"wrote {path}", markup=False)
