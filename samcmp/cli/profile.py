"""``samcmp profile``: throughput, memory and energy of the optimizers on one model and dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, completion, options, output
from samcmp.cli.options import OUTPUT, TRAINING
from samcmp.errors import UsageError
from samcmp.records import Protocol

if TYPE_CHECKING:
    from samcmp.experiment.config import Request
    from samcmp.experiment.plan import Plan
    from samcmp.experiment.store import Store
    from samcmp.experiment.suites import Suites
    from samcmp.profiling.session import SessionOptions
    from samcmp.records import Case, Record
    from samcmp.training.setup import Options


FORMATS = ("table", "markdown", "latex", "csv", "json", "parquet")
WIDTH = 160  # columns


@options.grouped
def profile(
    *,
    dataset: options.Dataset = "demo",
    model: options.Model = "gcn",
    optimizer: Annotated[
        list[str] | None,
        typer.Option(
            "--optimizer",
            "-o",
            metavar="NAME",
            help="Repeat for several.",
            show_default="all",
            autocompletion=completion.optimizers,
        ),
    ] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="For a model and dataset: 90s, 5min, 1h.")] = "4min",
    processes: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=options.whole("--processes"),
            help="Fresh ones that share the time; ratios then cover their spread: 3 or more.",
        ),
    ] = 1,
    batch_size: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Molecules a step; several give a curve.")
    ] = None,
    largest_batch: Annotated[
        bool, typer.Option("--largest-batch", help="Find the largest batch that fits, and stop.")
    ] = False,
    detail: Annotated[
        bool, typer.Option("--detail", help="Loading, forward, backward and optimizer apart; TFLOP/s.")
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a timeline for perfetto.dev.", rich_help_panel=OUTPUT)
    ] = None,
    settings: options.SettingOptions,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=options.whole("--seed", least=0),
            help="Of weights, batch order and dropout.",
            rich_help_panel=TRAINING,
        ),
    ] = 0,
    data: options.DataOptions,
    device: options.Device = "auto",
    store: options.StoreDir = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="table, markdown, latex, csv, json or parquet.",
            rich_help_panel=OUTPUT,
            autocompletion=completion.among(*FORMATS),
        ),
    ] = "table",
    path: Annotated[Path | None, options.OUTPUT_FILE] = None,
) -> None:
    """Measure graphs per second, memory and energy of each optimizer: interleaved, same batches, one device.

    Ratios have 95 % intervals and a verdict with a margin of 2 %. ^C keeps what was measured.

    Examples:

      samcmp profile --dataset bbbp --model grover

      samcmp profile -d bbbp -m compt -o adam -o sam -o graphsam --budget 60s --detail

      samcmp profile -m gcn --batch-size 32,64,128 --format latex --output speeds.tex
    """
    from samcmp.experiment import budget as budgets
    from samcmp.experiment import suites
    from samcmp.experiment.config import Request
    from samcmp.experiment.store import Store
    from samcmp.training.checks import check_weights

    output.check(form, path, allowed=FORMATS)
    common.check_writable(trace, "--trace")
    seconds = budgets.seconds_of(budget)
    sizes = batch_sizes(batch_size)
    where = common.pick_device(device)
    found = common.sources([] if data.data else [dataset], data, init_from=settings.init_from)
    known = suites.read(settings.config, cards=found.catalogue.folders)
    request = Request(
        datasets=found.datasets,
        models=(model,),
        optimizers=tuple(optimizer or _all_optimizers(known)),
        overrides=tuple(settings.set_ or ()),
        protocol={"subset": data.subset, "threads": settings.threads, "init_from": found.init_sha256},
        repeats=1,
        seed=seed,
        profile_seconds=seconds,
        device=where.partition(":")[0],
        inputs=found.inputs(common.fingerprint(where)),
    )
    plans = [_planned(request, known, size) for size in sizes]
    for planned in plans:
        planned.check_settings()
    kept = Store(common.store_folder(store))
    kept.check_writable()
    how = found.options(where, plans[0].code)
    common.fetch_all(found.datasets, how)
    check_weights((case for planned in plans for cases in planned.sessions for case in cases.values()), how)
    if largest_batch:
        _largest(plans[0], how)
        return
    from samcmp.profiling.session import SessionOptions

    share = seconds / len(plans)
    done: list[list[Record]] = []
    for planned in plans:
        session = SessionOptions(share, detail=detail, trace=None if trace is None else str(trace))
        done.append(_session(planned, kept, how, processes=processes, session=session))
        if any(record.status == "partial" for record in done[-1]):
            break  # interrupted: what was measured is shown, nothing further is started
    _deliver(done, form=form, path=path)
    if any(record.status != "ok" for records in done for record in records):
        raise typer.Exit(1)


def batch_sizes(text: str | None) -> list[int | None]:
    """Read ``32,64,128``; None stands for the protocol's own. Raises UsageError."""
    if text is None:
        return [None]
    try:
        sizes = [int(item) for item in text.split(",")]
    except ValueError:
        sizes = [0]
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"batch sizes are whole numbers of at least 1, got {text!r}",
            where="--batch-size",
            remedy="For example --batch-size 64, or a curve: --batch-size 32,64,128.",
        )
    return list(dict.fromkeys(sizes))


def _all_optimizers(known: Suites) -> Sequence[str]:
    from samcmp import optim
    from samcmp.experiment import config

    base = known.protocol.get("base", Protocol().base)
    return [name for name in optim.names() if config.unfit(name, base) is None]


def _planned(request: Request, known: Suites, size: int | None) -> Plan:
    from samcmp.experiment import config, plan

    sized = replace(request, protocol={**request.protocol, "batch_size": size})
    read = config.read(sized, known)
    for arm in read.arms:
        if arm.own:
            raise UsageError(
                f"{', '.join(arm.own)} of {arm.optimizer} changes the cost of no step: there is nothing to measure",
                where=read.where.get(arm.name, "--set"),
                remedy="Leave it out; `samcmp compare` trains by it.",
            )
    return plan.build(read, train=False)


def _session(planned: Plan, kept: Store, how: Options, *, processes: int, session: SessionOptions) -> list[Record]:
    from samcmp.profiling.processes import measure

    cases = planned.sessions[0]
    first = next(iter(cases.values()))
    console = common.stderr()

    def say(text: str) -> None:
        if text.startswith("waiting for"):
            console.print(text, markup=False, soft_wrap=True)
        else:
            status.update(f"{first.dataset} {first.model}: {text}".replace("[", "\\["))

    with console.status(f"profiling {first.model} on {first.dataset}", spinner="dots") as status:
        records = measure(cases, how, processes=processes, session=session, say=say)
    for record in records:
        kept.add(record)
    return records


def _deliver(done: Sequence[Sequence[Record]], *, form: str, path: Path | None) -> None:
    from samcmp.report import profile as profile_table

    if form == "parquet" and path is not None:
        output.put_file(lambda temporary: profile_table.to_parquet(done, temporary), path)
    elif form != "table":
        output.put(profile_table.render(done, form=form), path)
    else:
        output.show([part for records in done for part in profile_table.screen(records)], path, width=WIDTH)


def _largest(planned: Plan, how: Options) -> None:
    from samcmp import child
    from samcmp.profiling import largest_batch
    from samcmp.training.setup import foreign

    session: Mapping[str, Case] = planned.sessions[0]
    console = common.stderr()
    if not any(map(foreign, session.values())):
        for largest in largest_batch.batches(session, how, say=lambda text: console.print(text, markup=False)):
            typer.echo(largest.sentence)
        return
    code = 0
    for key, case in session.items():  # each in a process of its own, which its code may end
        try:
            typer.echo(child.call(largest_batch.sentence, {key: case}, how))
        except child.Died as death:
            typer.echo(f"{case.arm}: {death.reason}")
            code = 1
    raise typer.Exit(code)
