"""``samcmp inspect``: what the optimizers do to a training, and where they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samcmp.cli import common, completion, options, output, planning
from samcmp.cli import figures as drawing
from samcmp.cli.options import DATA
from samcmp.errors import UsageError
from samcmp.inspection import WHAT, Settings
from samcmp.inspection.drawing import FIGURES

if TYPE_CHECKING:
    from samcmp.inspection.results import Results

MEASURING = "What is measured"
FORMATS = ("table", "markdown", "latex", "html", "csv", "json", "parquet")
EPOCHS = 10
OPTIMIZERS = ("adam", "sam", "graphsam")


def molecules(text: object) -> int | None:
    """Read a number of molecules, or all. Raises UsageError."""
    if str(text) == "all":
        return None
    if not str(text).lstrip("-").isdecimal():
        raise UsageError(f"expected a whole number or all, got {str(text)!r}", where="--molecules")
    return options.whole("--molecules", least=2)(text)


def points(text: object) -> int:
    """Read a number of points of which one lies in the middle. Raises UsageError."""
    value = options.whole("--points", least=3, most=1001)(text)
    if value % 2 == 0:
        raise UsageError(
            f"an odd number has a point at the weights themselves, got {value}", where="--points",
            remedy=f"Take {value + 1}.",
        )  # fmt: skip
    return value


def _option(*names: str, metavar: str, help_: str, parser: Any = None, offers: Any = None, shown: Any = True) -> Any:
    return typer.Option(
        *names, metavar=metavar, help=help_, parser=parser, autocompletion=offers, show_default=shown,
        rich_help_panel=MEASURING,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """What is measured, and where."""

    what: Annotated[
        list[str] | None,
        _option("--what", metavar="NAME", help_=f"{', '.join(WHAT)}. Repeat for several.",
                offers=lambda: [(name, m.summary) for name, m in WHAT.items()],
                shown="gradients, landscape, sharpness; attention where a model has it"),
    ] = None  # fmt: skip
    weights: Annotated[
        str,
        _option("--weights", metavar="WHICH", help_="best: of the epoch that the test score rests on; or last.",
                parser=options.one_of("--weights", "best", "last"), offers=completion.among("best", "last")),
    ] = "best"  # fmt: skip
    molecules: Annotated[
        str,
        _option("--molecules", metavar="N", help_="Training molecules for the loss at weights, or all."),
    ] = "256"  # fmt: skip
    every: Annotated[
        int,
        _option("--every", metavar="S", help_="True gradients at the steps t with t mod S in {0, 1}.",
                parser=options.whole("--every")),
    ] = 1  # fmt: skip
    directions: Annotated[int, options.count("--directions", "Of the landscape.", MEASURING, most=1000)] = 5
    points: Annotated[
        int, _option("--points", metavar="N", help_="Along a direction or a path.", parser=points)
    ] = 21  # fmt: skip
    direction: Annotated[
        str,
        _option("--direction", metavar="KIND", help_="filter (normalised, Li et al. 2018), or gaussian.",
                parser=options.one_of("--direction", "filter", "gaussian"),
                offers=completion.among("filter", "gaussian")),
    ] = "filter"  # fmt: skip
    radius: Annotated[
        float,
        _option("--radius", metavar="R", help_="Of the sharpness, the same for every optimizer.",
                parser=options.number("--radius", least=1e-6, most=1e3)),
    ] = 0.05  # fmt: skip
    row: Annotated[
        int | None,
        options.count("--row", "Row of the molecule whose attention is drawn.", MEASURING, least=0,
                      shown="one of median size"),
    ] = None  # fmt: skip

    def settings(self) -> Settings:
        return Settings(
            weights=self.weights, molecules=molecules(self.molecules), every=self.every,  # type: ignore[arg-type]
            directions=self.directions, points=self.points, direction=self.direction,  # type: ignore[arg-type]
            radius=self.radius, row=self.row,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class InspectFigures:
    """Which figures, and how they look."""

    figure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=FILE", help=f"Draw {', '.join(FIGURES)} into an svg, png or pdf. Repeat for several.",
            rich_help_panel=drawing.PANEL, autocompletion=completion.among(*(f"{kind}=" for kind in FIGURES)),
        ),
    ] = None  # fmt: skip
    width: drawing.Width = None
    font_size: drawing.FontSize = 9.0


@options.grouped
def inspect(
    *,
    dataset: options.Datasets = None,
    model: options.Models = None,
    optimizer: options.Optimizers = None,
    measuring: InspectOptions,
    settings: options.SettingOptions,
    training: options.TrainingOptions,
    splitting: options.SplitOptions,
    repeats: Annotated[int, options.count("--repeats", "Random splits, each with its own seeds.", DATA)] = 1,
    seed: Annotated[int, options.seed(options.OF_SPLITS, DATA)] = 0,
    data: options.DataOptions,
    device: options.Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done and its passes, do nothing.")
    ] = False,
    format_: Annotated[str | None, options.form(FORMATS)] = None,
    output_file: options.Output = None,
    figures: InspectFigures,
    store: options.StoreDir = None,
) -> None:
    """Look inside the training: how gradients change and where they point, how flat the weights are where it ends,
    what attention looks like.

    Every run is bit for bit the one that `samcmp compare` makes. What is measured, and by which definition, is in
    docs/inspect.md. Runs follow one another. What has been measured is kept in the store: interrupted and started
    again it goes on, and another --what trains nothing anew (gradients aside, which are watched while a run trains).

    Without options: built-in molecules, gcn, adam, sam and graphsam, one split, 10 epochs.

    Exit code: 0 everything was measured, 1 a run or a measurement failed (the table says why), 2 wrong input.

    Examples:

      samcmp inspect

      samcmp inspect --figure changes=fig3a.svg --figure pairs=fig3c.svg --figure landscape=fig2.svg

      samcmp inspect -d bbbp -m grover -o adam -o sam -o graphsam --what gradients --what landscape --dry-run

      samcmp inspect -d bbbp -m compt --what attention --figure attention=fig10.svg

      samcmp inspect -o sam -o my_sam.py:MySAM --what gradients --what path --output inside.json

      samcmp inspect --repeats 5 --figure generalisation=flat.svg

      samcmp inspect --output inside.html
    """
    from samcmp.cli import inspecting
    from samcmp.experiment.store import Store
    from samcmp.inspection import drawing as kinds
    from samcmp.inspection import units
    from samcmp.inspection.kept import Kept

    form = output.check(format_, output_file, allowed=FORMATS)
    wanted = drawing.read(figures.figure or (), FIGURES)
    job, what = planned(
        dataset or (), model or (), optimizer or (), repeats=repeats, seed=seed, measuring=measuring, settings=settings,
        training=training, splitting=splitting, data=data, device=device,
    )  # fmt: skip
    asked, cases = measuring.settings(), job.planned.train
    for kind, path in wanted:
        kinds.check(kind, where=f"--figure {kind}={path}", what=what, runs=len(cases))
    kept = Kept(Store(common.store_folder(store)))
    every = units.units(cases, what, asked)
    if dry_run:
        inspecting.show(job, every, kept, asked)
        return
    results = inspecting.run(job, every, kept, what=what, settings=asked)
    drawn, refused = _drawn(wanted, figures, results)
    inspecting.deliver(results, form=form, path=output_file)
    drawing.save(drawn)
    if refused:  # after what could be shown
        raise refused[0]
    if results.failed:
        raise typer.Exit(1)


def planned(
    datasets: Sequence[str],
    models: Sequence[str],
    optimizers: Sequence[str],
    *,
    repeats: int,
    seed: int,
    measuring: InspectOptions,
    settings: options.SettingOptions,
    training: options.TrainingOptions,
    splitting: options.SplitOptions,
    data: options.DataOptions,
    device: str,
) -> tuple[planning.Job, tuple[str, ...]]:
    """Plan the runs that are looked into, and choose what is measured of them. Raises SamcmpError."""
    from samcmp.inspection import units

    chosen = planning.Chosen(
        datasets=tuple(datasets or (() if data.data else ("demo",))), models=tuple(models or ("gcn",)),
        optimizers=tuple(optimizers or OPTIMIZERS), repeats=repeats, seed=seed,
    )  # fmt: skip
    job = planning.inspect(
        chosen, settings=settings, training=training, splitting=splitting, data=data, device=device, epochs=EPOCHS
    )
    what = units.chosen(tuple(measuring.what or ()), list(job.planned.train.values()))
    units.refuse_idle(measuring.settings(), what)
    return job, what


def _drawn(
    wanted: list[tuple[str, Path]], figures: InspectFigures, results: Results
) -> tuple[list[tuple[Path, Any]], list[UsageError]]:
    """Draw what can be drawn; return it, and why the rest cannot."""
    if not wanted:
        return [], []
    from samcmp.inspection import drawing as kinds
    from samcmp.report.canvas import Options

    made = Options(figures.width, figures.font_size)
    drawn, refused = [], []
    for kind, path in wanted:
        try:
            drawn.append((path, kinds.draw(kind, results, made)))
        except UsageError as error:
            refused.append(UsageError(error.what, where=f"--figure {kind}={path}", remedy=error.remedy))
    return drawn, refused
