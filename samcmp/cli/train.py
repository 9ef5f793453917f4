"""``samcmp train``: one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, options, planning
from samcmp.cli.options import OUTPUT
from samcmp.records import COUNTED

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from samcmp.engines.work import Event
    from samcmp.experiment.run import Progress
    from samcmp.experiment.store import Store
    from samcmp.records import Case, Record
    from samcmp.training.setup import Options


@options.grouped
def train(
    *,
    dataset: options.Dataset = "demo",
    model: options.Model = "gcn",
    optimizer: options.Optimizer = "graphsam",
    settings: options.SettingOptions,
    training: options.TrainingOptions,
    splitting: options.SplitOptions,
    fold: Annotated[
        int | None,
        options.count("--fold", "Fold of cv5, 0 to 4; or which split of a file with several.", options.DATA, least=0),
    ] = None,
    seed: Annotated[int, options.seed("Of split, weights, batch order and dropout.")] = 0,
    data: options.DataOptions,
    device: options.Device = "auto",
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep the model of the best epoch, for `samcmp predict`.", rich_help_panel=OUTPUT
        ),
    ] = None,
    save_split: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the split's row numbers (JSON or CSV).", rich_help_panel=OUTPUT),
    ] = None,
    store: options.StoreDir = None,
) -> None:
    """Train one model with one optimizer: live progress, a Record in the store, a summary.

    The protocol is the one in benchmarks.toml unless options say otherwise. The score is the test metric at the best
    validation epoch.

    Examples:

      samcmp train --dataset esol --model gcn --optimizer graphsam

      samcmp train -d bbbp -m grover -o sam --epochs 10 --set sam.rho=0.02 --save grover-bbbp.safetensors

      samcmp train --data my.csv --target activity --model gcn
    """
    from samcmp.experiment.store import Store

    common.check_writable(save, "--save")
    common.check_writable(save_split, "--save-split")
    key, case, job = planning.train(
        dataset, model, optimizer, settings=settings, training=training, splitting=splitting, fold=fold, seed=seed,
        data=data, device=device,
    )  # fmt: skip
    kept = Store(common.store_folder(store))
    how = job.sources.options(job.device, job.planned.code, save=save)
    record = run(key, case, kept, how=how, save_split=save_split)
    console = common.stdout()
    for part in summary(record, kept, save=save):
        console.print(part)
    if record.status != "ok":
        raise typer.Exit(1)


def run(key: str, case: Case, kept: Store, *, how: Options, save_split: Path | None = None) -> Record:
    """Train, with progress on standard error, and keep the Record. Raises SamcmpError for what can be mended."""
    from samcmp.training.checks import check_splits, check_weights

    kept.check_writable()
    common.fetch_all([case.dataset], how)
    check_splits([case], how)
    check_weights([case], how)
    if save_split is not None:
        _save_split(case, how, save_split)
    return _run(common.stderr(), kept, key=key, case=case, how=how)


def _save_split(case: Case, how: Options, path: Path) -> None:
    from samcmp.data import splitfile
    from samcmp.training.setup import load_samples, make_split

    samples = load_samples(case, how)
    splitfile.save(make_split(samples, case, how), path, dataset_hash=samples.dataset_hash)


def _run(console: Console, kept: Store, *, key: str, case: Case, how: Options) -> Record:
    from samcmp.analysis.names import short_names
    from samcmp.cli import said, views
    from samcmp.engines import Work, local
    from samcmp.experiment import cost
    from samcmp.experiment.cost import duration
    from samcmp.experiment.run import Progress

    shown = short_names([case.model, case.arm])
    name = f"{case.dataset} {shown[case.model]} {shown[case.arm]}"
    expected = cost.seconds_of(case, cost.rates(kept.records()))
    with views.bars(console, transient=not console.is_interactive) as bars:
        known = "" if expected is None else f"{duration(expected)} left"
        line = bars.add_task(name, total=case.training.epochs, left=known, shown=views.BEGINS)

        def say(text: str) -> None:
            if console.is_interactive:
                said.log(f"{name}: {text}")
            else:
                console.print(f"{name}: {text}", markup=False)

        def listen(now: Event) -> None:
            if not isinstance(now, Progress):
                return
            more = now.epochs - now.epoch
            left = f"{duration(more * now.seconds / now.epoch)} left" if more else ""
            bars.update(line, completed=now.epoch, left=left, shown=_shown(now))
            say(_shown(now) + (f", about {left}" if now.epoch == 1 and more else ""))

        say(views.BEGINS + (f": about {duration(expected)}, by earlier runs" if expected is not None else ""))
        finished = next(iter(local.train(Work({key: case}), how, listen=listen)))
    kept.add(finished.record, finished.predictions)
    return finished.record


def _shown(now: Progress) -> str:
    return (
        f"epoch {now.epoch}/{now.epochs}  loss {common.score(now.train_loss)}  "
        f"valid {now.metric} {common.score(now.valid_score)}  {now.graphs_per_second:,.0f} {now.counted}/s"
    )


def summary(record: Record, kept: Store, *, save: Path | None = None) -> list[RenderableType]:
    """Return what is printed of a run."""
    from rich.table import Table
    from rich.text import Text

    from samcmp.data import coverage

    table = Table.grid(padding=(0, 2))
    for label, value in _facts(record):
        table.add_row(Text(label, style="dim"), Text(value))
    if save is not None and record.status == "ok":
        table.add_row(Text("model", style="dim"), Text(str(save)))
    table.add_row(Text("record", style="dim"), Text(f"{record.key[:16]} in {kept.folder}"))
    rests_on = record.accuracy.coverage if record.accuracy else None
    notes = (*record.notes, *coverage.sentences([rests_on] if rests_on else [], holds=record.holds))
    return [table, *(Text(f"note: {note}") for note in notes)]


def _facts(record: Record) -> list[tuple[str, str]]:
    case, score = record.case, record.accuracy
    facts = [("run", f"{case.dataset}, {case.model} ({record.parameters or 0:,} parameters), {case.arm}")]
    facts.append(("split", f"{case.dataset}/{case.split}/{case.split_seed} {record.split_hash[:16]}"))
    if score is None:
        facts.append(("failed", f"{record.status}: {record.reason}"))
    else:
        facts.append((record.holds, f"{score.train_size} train, {score.valid_size} valid, {score.test_size} test"))
        best = f"best epoch {score.best_epoch + 1}, valid {common.score(score.valid)}"
        facts.append((f"test {score.metric}", f"{common.score(score.test)}  ({best})"))
        if score.tasks_total > 1:
            facts.append(("tasks scored", f"{score.tasks_scored} of {score.tasks_total}"))
        if score.smallest_class is not None:
            facts.append(("smallest class", f"{score.smallest_class} {record.holds} in a scored test task"))
        if len(score.per_class) > 2:
            facts.append(("right by class", _by_class(score.per_class)))
    if record.history:
        seconds = sum(epoch.seconds for epoch in record.history)
        passes = sum(epoch.passes for epoch in record.history)
        size, counted = score.train_size if score else None, COUNTED[record.holds]
        if size and seconds > 0:
            facts.append(
                ("training", f"{size * len(record.history) / seconds:,.0f} {counted}/s, {passes} gradient evaluations")
            )
    facts.append(("time", f"{record.seconds:.1f} s"))
    return facts


def _by_class(per_class: Mapping[str, float | None]) -> str:
    """Name the classes that are predicted worst and best."""
    known = sorted((share, name) for name, share in per_class.items() if share is not None)
    texts = [f"{name} {share:.2f}" for share, name in known]
    return ", ".join(texts) if len(texts) <= 6 else f"{', '.join(texts[:3])} ... {', '.join(texts[-3:])}"
