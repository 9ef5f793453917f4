"""``samcmp train``: one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, options
from samcmp.cli.options import OUTPUT
from samcmp.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

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
        typer.Option(
            metavar="N",
            parser=options.whole("--fold", least=0),
            help="Fold of cv5, 0 to 4; or which split of a file with several.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", parser=options.whole("--seed", least=0), help="Of split, weights, batch order and dropout."
        ),
    ] = 0,
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
    from samcmp.experiment import config, plan, suites
    from samcmp.experiment.store import Store
    from samcmp.training.checks import check_splits, check_weights

    common.check_writable(save, "--save")
    common.check_writable(save_split, "--save-split")
    where = common.pick_device(device)
    found = common.sources([] if data.data else [dataset], data, splitting, init_from=settings.init_from)
    chosen = found.split(splitting.split)
    of_file = found.splits > 1
    if fold is not None and not of_file and chosen not in {None, "cv5"}:
        raise UsageError(
            f"the split {chosen!r} has no folds", where="--fold", remedy="Use --split cv5, or omit --fold."
        )
    request = config.Request(
        datasets=found.datasets,
        models=(model,),
        optimizers=(optimizer,),
        overrides=tuple(settings.set_ or ()),
        protocol={
            "epochs": training.epochs,
            "batch_size": training.batch_size,
            "subset": data.subset,
            "threads": settings.threads,
            "init_from": found.init_sha256,
        },
        split="cv5" if fold is not None and not of_file else chosen,
        splits=found.splits,
        repeats=1,
        seed=seed,
        device=where.partition(":")[0],
        inputs=found.inputs(""),
    )
    known = suites.read(settings.config, cards=found.catalogue.folders)
    planned = plan.build(config.read(request, known), profile=False)
    planned.check_settings()
    cases = list(planned.train.items())
    cases = _of_fold(cases, fold, what=str(splitting.split_file) if of_file else "cv5")
    if len(cases) > 1:
        raise UsageError("train runs one setting; a sweep is for `samcmp compare`", where="--set")
    key, case = cases[0]
    kept = Store(common.store_folder(store))
    kept.check_writable()
    console = common.stderr()
    how = found.options(where, planned.code, save=save)
    common.fetch_all([case.dataset], how)
    check_splits([case], how)
    check_weights([case], how)
    if save_split is not None:
        _save_split(case, how, save_split)
    record = _run(console, kept, key=key, case=case, how=how)
    _summary(record, kept, save=save)
    if record.status != "ok":
        raise typer.Exit(1)


def _of_fold(cases: list[tuple[str, Case]], fold: int | None, *, what: str) -> list[tuple[str, Case]]:
    """Keep the cases of one fold, or of one split of a file with several. Raises UsageError where none is named."""
    numbered = [(case.split_seed if case.fold is None else case.fold, (key, case)) for key, case in cases]
    numbers = sorted({number for number, _ in numbered})
    if fold is None and len(numbers) > 1:
        remedy = f"Add --fold {numbers[0]} (to {numbers[-1]}); `samcmp compare` runs all."
        raise UsageError(f"has {len(numbers)} splits, and train runs one", where=f"split {what}", remedy=remedy)
    if fold is not None and fold not in numbers:
        raise UsageError(f"has the splits 0 to {numbers[-1]}", where=f"--fold {fold}, split {what}")
    return [pair for number, pair in numbered if fold in {None, number}]


def _save_split(case: Case, how: Options, path: Path) -> None:
    from samcmp.data import splitfile
    from samcmp.training.setup import load_molecules, make_split

    molecules = load_molecules(case, how)
    splitfile.save(make_split(molecules, case, how), path, dataset_hash=molecules.dataset_hash)


def _run(console: Console, kept: Store, *, key: str, case: Case, how: Options) -> Record:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from samcmp.engines import local

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[shown]}"), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=False) as bar:
        name = f"{case.dataset} {case.model} {case.arm}"
        line = bar.add_task(name, total=case.training.epochs, shown="reading data and featurising")

        def listen(now: Progress) -> None:
            bar.update(line, completed=now.epoch, shown=_shown(now))
            if not console.is_interactive:
                console.print(f"{name}: {_shown(now)}", markup=False)

        finished = next(iter(local.train({key: case}, how, listen=listen)))
    kept.add(finished.record, finished.predictions)
    return finished.record


def _shown(now: Progress) -> str:
    return (
        f"epoch {now.epoch}/{now.epochs}  loss {common.score(now.train_loss)}  "
        f"valid {now.metric} {common.score(now.valid_score)}  {now.graphs_per_second:,.0f} graphs/s"
    )


def _summary(record: Record, kept: Store, *, save: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from samcmp.data import coverage

    table = Table.grid(padding=(0, 2))
    for label, value in _facts(record):
        table.add_row(Text(label, style="dim"), Text(value))
    if save is not None and record.status == "ok":
        table.add_row(Text("model", style="dim"), Text(str(save)))
    table.add_row(Text("record", style="dim"), Text(f"{record.key[:16]} in {kept.folder}"))
    console = common.stdout()
    console.print(table)
    rests_on = record.accuracy.coverage if record.accuracy else None
    for note in (*record.notes, *coverage.sentences([rests_on] if rests_on else [])):
        console.print(Text(f"note: {note}"))


def _facts(record: Record) -> list[tuple[str, str]]:
    case, score = record.case, record.accuracy
    facts = [("run", f"{case.dataset}, {case.model} ({record.parameters or 0:,} parameters), {case.arm}")]
    facts.append(("split", f"{case.dataset}/{case.split}/{case.split_seed} {record.split_hash[:16]}"))
    if score is None:
        facts.append(("failed", f"{record.status}: {record.reason}"))
    else:
        facts.append(("molecules", f"{score.train_size} train, {score.valid_size} valid, {score.test_size} test"))
        best = f"best epoch {score.best_epoch + 1}, valid {common.score(score.valid)}"
        facts.append((f"test {score.metric}", f"{common.score(score.test)}  ({best})"))
        if score.tasks_total > 1:
            facts.append(("tasks scored", f"{score.tasks_scored} of {score.tasks_total}"))
        if score.smallest_class is not None:
            facts.append(("smallest class", f"{score.smallest_class} molecules in a scored test task"))
    if record.history:
        seconds = sum(epoch.seconds for epoch in record.history)
        passes = sum(epoch.passes for epoch in record.history)
        size = score.train_size if score else None
        if size and seconds > 0:
            facts.append(
                ("training", f"{size * len(record.history) / seconds:,.0f} graphs/s, {passes} gradient evaluations")
            )
    facts.append(("time", f"{record.seconds:.1f} s"))
    return facts
