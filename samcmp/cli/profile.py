"""``samcmp profile``: throughput, memory and energy of the optimizers on one model and dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, completion, options, output, planning, said
from samcmp.cli.options import OUTPUT, TRAINING
from samcmp.errors import UsageError
from samcmp.printable import counted

if TYPE_CHECKING:
    from samcmp.experiment.plan import Plan
    from samcmp.experiment.store import Store
    from samcmp.profiling.results import SessionOptions
    from samcmp.records import Case, Record
    from samcmp.training.setup import Options

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
        int, options.count("--processes", "Fresh ones that share the time; ratios then cover their spread: 3 or more.")
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
    seed: Annotated[int, options.seed("Of weights, batch order and dropout.", TRAINING)] = 0,
    data: options.DataOptions,
    device: options.Device = "auto",
    store: options.StoreDir = None,
    form: options.Format = None,
    path: options.Output = None,
) -> None:
    """Measure graphs per second, memory and energy of each optimizer: interleaved, same batches, one device.

    Ratios have 95 % intervals and a verdict with a margin of 2 %. ^C keeps what was measured.

    Examples:

      samcmp profile --dataset bbbp --model grover

      samcmp profile -d bbbp -m compt -o adam -o sam -o graphsam --budget 60s --detail

      samcmp profile -m gcn --batch-size 32,64,128 --output speeds.html
    """
    from samcmp.experiment.store import Store
    from samcmp.times import seconds_of

    form = output.check(form, path)
    common.check_writable(trace, "--trace")
    seconds = seconds_of(budget)
    sizes = batch_sizes(batch_size)
    jobs = planning.profile(
        dataset, model, optimizer or (), sizes=sizes, seconds=seconds, settings=settings, seed=seed, data=data,
        device=device,
    )  # fmt: skip
    kept = Store(common.store_folder(store))
    if largest_batch:
        _largest(jobs[0].planned, ready(jobs, kept))
        return
    done = run(jobs, kept, seconds=seconds, processes=processes, detail=detail, trace=trace)
    _deliver(done, form=form, path=path)
    if any(record.status != "ok" for records in done for record in records):
        raise typer.Exit(1)


def ready(jobs: Sequence[planning.Job], kept: Store) -> Options:
    """Check what sessions need, get their data, and return how to run them. Raises SamcmpError."""
    from samcmp.training.checks import check_weights

    kept.check_writable()
    first = jobs[0]
    how = first.sources.options(first.device, first.planned.code)
    common.fetch_all(first.sources.datasets, how)
    check_weights((case for job in jobs for cases in job.planned.sessions for case in cases.values()), how)
    return how


def run(
    jobs: Sequence[planning.Job],
    kept: Store,
    *,
    seconds: float,
    processes: int,
    detail: bool,
    trace: Path | None = None,
) -> list[list[Record]]:
    """Run the sessions, which share ``seconds``, and keep their Records; the last one is partial if interrupted."""
    from samcmp.profiling.results import SessionOptions

    how = ready(jobs, kept)
    session = SessionOptions(seconds / len(jobs), detail=detail, trace=None if trace is None else str(trace))
    done: list[list[Record]] = []
    for job in jobs:
        done.append(_session(job.planned, kept, how, processes=processes, session=session))
        if any(record.status == "partial" for record in done[-1]):
            break  # interrupted: what was measured is shown, nothing further is started
    return done


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


def _session(planned: Plan, kept: Store, how: Options, *, processes: int, session: SessionOptions) -> list[Record]:
    from samcmp.profiling.processes import measure

    cases = planned.sessions[0]
    first = next(iter(cases.values()))
    console = common.stderr()

    optimizers = counted(len(cases), "optimizer")
    console.print(f"profiling {first.model} on {first.dataset}: {optimizers}, {session.seconds:.0f} s", markup=False)

    def say(text: str) -> None:
        if text.startswith("waiting for"):
            console.print(text, markup=False, soft_wrap=True)
        else:
            said.log(text)
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
    elif form == "html":
        from samcmp.report import profile_page

        output.put(profile_page.render(done), path)
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
        for sentence in largest_batch.sentences(session, how, say=lambda text: console.print(text, markup=False)):
            typer.echo(sentence)
        return
    code = 0
    for key, case in session.items():  # each in a process of its own, which its code may end
        try:
            typer.echo(child.call(largest_batch.sentence, {key: case}, how))
        except child.Died as death:
            typer.echo(f"{case.arm}: {death.reason}")
            code = 1
    raise typer.Exit(code)
