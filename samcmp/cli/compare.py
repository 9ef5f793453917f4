"""``samcmp compare``: train and profile every chosen optimizer, then say which is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common
from samcmp.cli.common import DATA, OUTPUT, TRAINING
from samcmp.errors import UsageError, unknown

if TYPE_CHECKING:
    from samcmp.plan import Plan
    from samcmp.store import Store
    from samcmp.suites import Suites

RUNNING = "Running"


def compare(
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", "-d", help="Repeat for several.", rich_help_panel=DATA)
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Repeat for several.")] = None,
    optimizer: Annotated[list[str] | None, typer.Option("--optimizer", "-o", help="Repeat for several.")] = None,
    suite: Annotated[str | None, typer.Option(help="A suite of benchmarks.toml, see `samcmp list suites`.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Suites from this file.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.", rich_help_panel=TRAINING)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Molecules a step.", rich_help_panel=TRAINING)] = None,
    set_: common.Settings = None,
    init_from: common.InitFrom = None,
    split: Annotated[
        str | None,
        typer.Option(help="random, cv5, scaffold, scaffold-balanced, stratified or fixed.", rich_help_panel=DATA),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="5: cross-validation.", rich_help_panel=DATA)] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Random splits (or repeats of the folds), each with its own seeds.", rich_help_panel=DATA),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the first split; the next ones count up.", rich_help_panel=DATA)
    ] = None,
    split_file: common.SplitFile = None,
    subset: common.Subset = None,
    data: common.DataFile = None,
    smiles_column: common.SmilesColumn = "smiles",
    target: common.Target = None,
    task: common.TaskKind = None,
    cards: common.Cards = None,
    from_: common.Source = None,
    device: common.Device = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(help="Training runs side by side.  [default: the cores; 1 on a GPU]", rich_help_panel=RUNNING),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Of one run on the CPU; other sums, other bits.  [default: 1]", rich_help_panel=TRAINING),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Longest time for one training run.", rich_help_panel=RUNNING),
    ] = None,
    profile_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Time to measure throughput, a dataset and model.", rich_help_panel=RUNNING
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Run the most informative part that fits: 90min, 2h.", rich_help_panel=RUNNING
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Run recorded failures again.", rich_help_panel=RUNNING)] = False,
    plain: Annotated[bool, typer.Option("--plain", help="A line a run, for logs.", rich_help_panel=RUNNING)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, run nothing.", rich_help_panel=RUNNING)
    ] = False,
    format_: Annotated[
        str, typer.Option("--format", help="table, markdown, latex, csv, json or parquet.", rich_help_panel=OUTPUT)
    ] = "table",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there.", rich_help_panel=OUTPUT)] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Loss of accuracy that counts as none.  [default: 0.01 AUC, 2 % of RMSE]", rich_help_panel=OUTPUT
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Show the paper's numbers beside yours.", rich_help_panel=OUTPUT)
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Gate: exit 10-14 when worse than this JSON.", rich_help_panel=OUTPUT),
    ] = None,
    store: common.StoreDir = None,
) -> None:
    """Train every optimizer on the same splits, initial weights, batches and dropout; profile them side by side; and
    print accuracy against throughput with a verdict, "inconclusive" included.

    Without options it runs the suite `default` on built-in molecules (synthetic: nothing about chemistry follows).
    Finished runs are kept in the store: interrupted and started again it goes on, finished it prints at once.

    Exit code: 0 all runs are fine, 1 a run failed (the table says why), 2 wrong input, 10-14 see --baseline.

    Examples:

      samcmp compare

      samcmp compare --dataset tox21 --model grover --subset 256 --epochs 2

      samcmp compare -d bbbp -m gcn -o adam -o graphsam --folds 5 --repeats 5 --jobs 2

      samcmp compare --data my.csv --target activity -m gcn --set graphsam.rho=0.05,0.005

      samcmp compare --suite paper-table2 --dry-run
    """
    from samcmp import budgets, plan, suites
    from samcmp.store import Store

    _check_numbers(
        epochs=epochs, batch_size=batch_size, repeats=repeats, jobs=jobs, subset=subset, seed=seed, threads=threads
    )
    common.positive(timeout, "--timeout", whole=False, least=1)
    common.positive(profile_seconds, "--profile-seconds", whole=False, least=1)
    seconds = None if budget is None else budgets.seconds_of(budget)
    common.positive(margin, "--margin", whole=False, least=0)
    _check_output(format_, output)
    where = common.pick_device(device)
    found = common.sources(
        dataset or [],
        data=data,
        smiles_column=smiles_column,
        targets=target or (),
        task=task,
        cards=cards or (),
        source=from_,
        split_file=split_file,
        init_from=init_from,
        models=model or (),
    )
    request = plan.Request(
        suite=suite,
        datasets=found.datasets,
        models=tuple(model or ()),
        optimizers=tuple(optimizer or ()),
        settings=tuple(set_ or ()),
        protocol={
            "epochs": epochs,
            "batch_size": batch_size,
            "subset": subset,
            "threads": threads,
            "init_from": found.content.get("init-from"),
        },
        split="file" if split_file else split,
        folds=folds,
        repeats=repeats,
        seed=seed,
        profile_seconds=profile_seconds,
        device=where.partition(":")[0],
        inputs=found.inputs(common.fingerprint(where)),
    )
    known: Suites = suites.read(config, cards=found.cards)
    planned = plan.build(known, request)
    kept = Store(common.store_folder(store))
    missing = planned.missing_train(kept, retry=retry_failed) or planned.missing_sessions(kept, retry=retry_failed)
    if dry_run or missing:
        planned.check_settings()
    if dry_run:
        from samcmp.cli import dryrun

        dryrun.show(planned, kept, request=request, retry=retry_failed)
        return
    if missing:
        from samcmp.cli import execute

        how = execute.How(found.options(where), jobs=jobs, timeout=timeout, plain=plain, retry=retry_failed)
        planned = execute.run(planned, kept, how=how, budget=seconds)
    _finish(planned, kept, form=format_, output=output, margin=margin, published=published, baseline=baseline)


def _check_numbers(**counts: int | None) -> None:
    for name, value in counts.items():
        least = {"seed": 0, "subset": 10}.get(name, 1)
        common.positive(value, f"--{name.replace('_', '-')}", least=least)


def _check_output(form: str, output: Path | None) -> None:
    from samcmp import report

    if form not in report.FORMATS:
        raise unknown("format", form, report.FORMATS, where="--format")
    if form == "parquet" and output is None:
        raise UsageError("parquet is not a text", where="--format parquet", remedy="Name a file with --output FILE.")
    if output is not None and output.is_dir():
        raise UsageError("is a folder", where=f"--output {output}", remedy="Name a file in it.")


def _finish(
    planned: Plan,
    kept: Store,
    *,
    form: str,
    output: Path | None,
    margin: float | None,
    published: bool,
    baseline: Path | None,
) -> None:
    from samcmp.cli import output as output_
    from samcmp.report import build

    records = planned.records(kept)
    comparison = build.compare(
        records, output_.report_settings(margin), suite=planned.suite, predictions=kept.predictions
    )
    if published:
        from samcmp.report.beside import beside

        comparison = beside(comparison, planned.table)
    output_.deliver(comparison, form=form, output=output)
    if baseline is not None:
        raise typer.Exit(output_.gate(comparison, baseline))
    if any(record.status != "ok" for record in records) or len(records) < len(planned.keys):
        raise typer.Exit(1)
