"""``samcmp compare``: train and profile every chosen optimizer, then say which is worth it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, options, output, planning
from samcmp.cli import figures as drawing
from samcmp.cli import gate as gates
from samcmp.cli.options import DATA, RUNNING
from samcmp.cli.place import PlaceOptions
from samcmp.errors import UsageError
from samcmp.printable import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from samcmp.cli.place import Part
    from samcmp.cli.winners import Winners
    from samcmp.experiment.plan import Plan
    from samcmp.experiment.store import Store


@options.grouped
def compare(
    *,
    dataset: options.Datasets = None,
    model: options.Models = None,
    optimizer: options.Optimizers = None,
    suite: options.Suite = None,
    settings: options.SettingOptions,
    training: options.TrainingOptions,
    splitting: options.SplitOptions,
    folds: Annotated[
        int | None,
        typer.Option(metavar="5", parser=options.whole("--folds"), help="Cross-validation.", rich_help_panel=DATA),
    ] = None,
    repeats: Annotated[
        int | None,
        options.count(
            "--repeats",
            "Random splits (or repeats of the folds), each with its own seeds.",
            DATA,
            shown="the suite's, else 5",
        ),
    ] = None,
    seed: Annotated[int | None, options.seed(options.OF_SPLITS, DATA, shown="the suite's, else 0")] = None,
    data: options.DataOptions,
    tuning: options.TuningOptions,
    device: options.Device = "auto",
    place: PlaceOptions,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=options.number("--timeout", least=1),
            help="Longest time for one training run.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    profile_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=options.number("--profile-seconds", least=1),
            help="Time to measure throughput, a dataset and model.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Run the most informative part that fits: 90min, 2h.", rich_help_panel=RUNNING
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run recorded failures again.", rich_help_panel=RUNNING)
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="A line a run, for logs.", rich_help_panel=RUNNING)] = False,
    save_best: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep each split's best model, for `samcmp predict`.", rich_help_panel=options.OUTPUT
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, run nothing.", rich_help_panel=RUNNING)
    ] = False,
    out: options.OutputOptions,
    figures: drawing.FigureOptions,
    gate: gates.GateOptions,
    store: options.StoreDir = None,
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

      samcmp compare --tune 8 --equal-cost

      samcmp compare --suite paper-table2 --device cuda --on ray:node1:6379

      samcmp compare --suite smoke --baseline baseline.json --gate-junit gate.xml --summary "$GITHUB_STEP_SUMMARY"
    """
    from samcmp.experiment.store import Store
    from samcmp.times import seconds_of

    seconds = None if budget is None else seconds_of(budget)
    form = output.check(out.format_, out.output, rows=out.rows)
    drawing.check(figures)
    if place.shard is not None:
        _refuse_beside_shard({
            "--budget": budget, "--save-best": save_best, "--output": out.output, "--figure": figures.figure,
            "--baseline": gate.baseline,
        })  # fmt: skip
    before = gates.baseline(gate)
    chosen = planning.Chosen(suite, dataset or (), model or (), optimizer or (), folds, repeats, seed, profile_seconds)
    kept = Store(common.store_folder(store))
    with planning.compare(
        chosen, kept, settings=settings, training=training, splitting=splitting, data=data, tuning=tuning,
        device=device, place=place, dry_run=dry_run,
    ) as job:  # fmt: skip
        winners = winners_of(job, kept, save_best)
        missing = planning.to_do(job.planned, kept, equal=tuning.equal, retry=retry_failed, all_=dry_run)
        if dry_run:
            from samcmp.cli import dryrun

            dryrun.show(job.planned, kept, job.run, retry=retry_failed)
            if winners is not None:
                common.stdout().print(winners.announced(), markup=False)
            return
        planned = carry_out(
            job, kept, winners=winners, missing=missing, equal=tuning.equal, place=place, timeout=timeout,
            budget=seconds, retry=retry_failed, plain=plain,
        )  # fmt: skip
    if planned is None:
        return
    if place.shard is not None:
        raise typer.Exit(_tell_shard(job.planned, kept, place.shard))
    records, comparison = planning.compared(
        planned, kept, margin=out.margin, equal=tuning.equal, published=out.published
    )
    output.deliver(
        comparison, form=form, output=out.output, records=records, rows=out.rows, unit=figures.unit
    )  # fmt: skip
    drawing.save(drawing.draw(drawing.check(figures), figures, comparison, records))
    if before is not None:
        raise typer.Exit(gates.judge(comparison, before, gate))
    # a drawn trial that fails was tried and lost; of the settings as given it is a failure
    if any(record.status != "ok" and not record.case.trial for record in records) or len(records) < len(planned.keys):
        raise typer.Exit(1)


def _refuse_beside_shard(given: Mapping[str, object]) -> None:
    """Refuse what is made of a whole comparison. Raises UsageError."""
    for option, value in given.items():
        if value:
            raise UsageError(
                "is about a whole comparison, and --shard trains a part of one",
                where=option,
                remedy="Leave it out here; the same command without --shard, on the merged store, takes it.",
            )


def _tell_shard(planned: Plan, kept: Store, shard: Part) -> int:
    """Say what a shard has done and how the shards come together; return the exit code."""
    records = planned.records(kept)
    failed = sum(record.status != "ok" and not record.case.trial for record in records)
    console = common.stdout()
    console.print(
        f"Shard {shard.number} of {shard.of}: {len(records):,} of {counted(len(planned.train), 'training run')} "
        f"in {kept.folder}{f', {failed} failed' if failed else ''}.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    console.print(
        "When all shards are done: `samcmp merge STORE... --into ALL`, unless they share a store; then the same "
        "command without --shard, with --store ALL, measures speeds and prints the table.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    return 1 if failed or len(records) < len(planned.train) else 0


def winners_of(job: planning.Comparing, kept: Store, folder: Path | None) -> Winners | None:
    """Return what keeps the best models, where a folder for them is named. Raises UsageError."""
    if folder is None:
        return None
    if job.run.setting.where.is_remote:
        raise UsageError(
            "models stay on the machines that train them",
            where=f"--save-best {folder}",
            remedy=f"Leave it or {job.run.setting.where.option} out; `samcmp train --save FILE` trains one model here.",
        )
    from samcmp.cli.winners import Winners

    return Winners(job.planned, kept, folder)


def carry_out(
    job: planning.Comparing,
    kept: Store,
    *,
    winners: Winners | None,
    missing: bool,
    equal: str | None,
    place: PlaceOptions,
    timeout: float | None,
    budget: float | None,
    retry: bool,
    plain: bool,
) -> Plan | None:
    """Run what is missing, save the best models, and return the plan that was carried out; None: it was submitted."""
    planned = job.planned
    running = job.sources.options(job.device, planned.code, keep=None if winners is None else winners.waiting)
    if missing:
        from samcmp.cli import execute

        how = execute.How(
            running, job.run.engine, job.run.pool, timeout=timeout, detach=place.detach, plain=plain, retry=retry,
            measured=output.refuse_without_speeds if equal == "seconds" else None,
            finished=None if winners is None else winners.offer,
        )  # fmt: skip
        try:
            planned = execute.run(planned, kept, how=how, budget=budget)
        except execute.Detached as submitted:
            common.stdout().print(str(submitted), markup=False, soft_wrap=True)
            return None
    if winners is not None:
        winners.save(running, jobs=place.jobs or 1, timeout=timeout)
    return planned
