"""From options to a plan and what it runs with: the one way of the command line and of Python."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from samcmp.cli import common, output
from samcmp.errors import StoreError, UsageError
from samcmp.experiment.kinds import fingerprint
from samcmp.printable import counted
from samcmp.records import Json, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from samcmp.analysis.comparison import Comparison
    from samcmp.cli import options
    from samcmp.cli.place import PlaceOptions
    from samcmp.engines import Engine, Pool, Setting
    from samcmp.experiment.config import Config
    from samcmp.experiment.plan import Plan
    from samcmp.experiment.store import Store
    from samcmp.experiment.suites import Suites
    from samcmp.records import Case, Record


@dataclass(frozen=True, slots=True)
class Job:
    """A plan, and the data and the device that it is to be run with."""

    planned: Plan
    sources: common.Sources
    device: str  # cpu or cuda:i


@dataclass(frozen=True, slots=True)
class Run:
    """An engine that has been reached, and what it offers."""

    setting: Setting
    engine: Engine
    pool: Pool


@dataclass(frozen=True, slots=True)
class Comparing(Job):
    """A comparison's plan, and where it is to be run."""

    run: Run


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is compared, and on how many splits; None and empty mean: as the suite says."""

    suite: str | None = None
    datasets: Sequence[str] = ()
    models: Sequence[str] = ()
    optimizers: Sequence[str] = ()
    folds: int | None = None
    repeats: int | None = None
    seed: int | None = None
    profile_seconds: float | None = None


@contextlib.contextmanager
def compare(
    chosen: Chosen,
    kept: Store,
    *,
    settings: options.SettingOptions,
    training: options.TrainingOptions,
    splitting: options.SplitOptions,
    data: options.DataOptions,
    tuning: options.TuningOptions,
    device: str,
    place: PlaceOptions,
    dry_run: bool = False,
) -> Iterator[Comparing]:
    """Plan a comparison and reach its engine, which is closed in the end.

    Raises SamcmpError for what does not fit together.
    """
    from samcmp.experiment import config, plan, suites

    found = common.sources(chosen.datasets, data, splitting, init_from=settings.init_from)
    request = config.Request(
        suite=chosen.suite,
        datasets=found.datasets,
        models=tuple(chosen.models),
        optimizers=tuple(chosen.optimizers),
        overrides=tuple(settings.set_ or ()),
        protocol=_protocol(found, settings, data, training),
        split=found.split(splitting.split),
        splits=found.splits,
        folds=chosen.folds,
        repeats=chosen.repeats,
        seed=chosen.seed,
        tune=tuning.tune,
        equal_cost=tuning.equal_cost,
        profile_seconds=chosen.profile_seconds,
    )
    known = suites.read(settings.config, cards=found.catalogue.folders)
    with _reached(place, known, device=device, kept=kept, dry_run=dry_run) as run:
        request = replace(
            request, device=run.setting.device.partition(":")[0], inputs=found.inputs(run.pool.fingerprint)
        )
        planned = plan.build(config.read(request, known))
        if tuning.equal is not None and planned.trials == 1:
            output.refuse_untuned(tuning.equal)
        if place.shard is not None:
            planned = planned.shard(place.shard.number, place.shard.of)
        chosen_pool = of_one_kind(run, planned, kept)
        if chosen_pool.fingerprint != run.pool.fingerprint:  # another machine measures: keys of sessions hold which
            request = replace(request, inputs=found.inputs(chosen_pool.fingerprint))
            planned = replace(planned, sessions=plan.build(config.read(request, known)).sessions)
        run = replace(run, pool=chosen_pool)
        yield Comparing(planned, found, run.setting.device, run)


def of_one_kind(run: Run, planned: Plan, kept: Store) -> Pool:
    """Leave out machines of other kinds than the plan's: that of its runs in the store, else the one of most slots.

    Raises StoreError where no machine is of that kind.
    """
    from samcmp.experiment import kinds

    pool = run.pool
    done = [brief for key in planned.train if (brief := kept.brief(key)) is not None]
    if run.setting.where.settings.mixed or (all(b.status == "ok" for b in done) and len(done) == len(planned.train)):
        return pool
    earlier = kinds.counted(done)
    if not earlier:
        kind = pool.kinds.most_common(1)[0][0] if pool.used else None
        return pool if kind is None else pool.of(kind, why=f"a plan runs on one kind, here {kind}")
    kind, runs = earlier.most_common(1)[0]
    chosen = pool.of(kind, why=f"{counted(runs, 'run')} of the plan in the store are of {kind}")
    if pool.used and not chosen.used:
        raise StoreError(
            f"{counted(runs, 'run')} of this comparison ran on {kind}, and here is {pool.used[0].kind}: "
            "two kinds of machine give results that differ in the fourth figure",
            where=str(kept.folder),
            remedy="Go on with such a machine, name another store with --store DIR, or allow it: mixed = true in a "
            "table [run.NAME] of benchmarks.toml, and --on NAME.",
        )
    return chosen


@contextlib.contextmanager
def _reached(place: PlaceOptions, known: Suites, *, device: str, kept: Store, dry_run: bool) -> Iterator[Run]:
    """Make the engine that is asked for and look at its machines. Raises SamcmpError."""
    from samcmp import engines
    from samcmp.experiment.where import read_on

    where = read_on(place.on, known.run, path=known.path)
    if place.jobs is not None and where.option:
        raise UsageError(
            "says how many runs this machine has side by side, and --on names where they run",
            where=f"--jobs {place.jobs} {where.option}",
            remedy="Leave --jobs out: the engine knows its machines.",
        )
    if place.detach and not where.is_remote:
        raise engines.undetachable("local")
    devices = (common.pick_remote(device, where.option),) if where.is_remote else common.pick_devices(device)
    setting = engines.Setting(where, devices, kept, place.jobs, kept.briefs, dry_run)
    with contextlib.closing(engines.make(setting)) as engine:
        yield Run(setting, engine, engine.look())


def inspect(
    chosen: Chosen,
    *,
    settings: options.SettingOptions,
    training: options.TrainingOptions,
    splitting: options.SplitOptions,
    data: options.DataOptions,
    device: str,
    epochs: int,
) -> Job:
    """Plan the training runs that are looked into. Raises SamcmpError.

    Args:
        epochs: of a run, where no option says so.
    """
    from samcmp.experiment import config, plan, suites

    where = common.pick_device(device)
    found = common.sources(chosen.datasets, data, splitting, init_from=settings.init_from)
    request = config.Request(
        datasets=found.datasets,
        models=tuple(chosen.models),
        optimizers=tuple(chosen.optimizers),
        overrides=tuple(settings.set_ or ()),
        protocol={**_protocol(found, settings, data, training), "epochs": training.epochs or epochs},
        split=found.split(splitting.split),
        splits=found.splits,
        repeats=chosen.repeats,
        seed=chosen.seed,
        device=where.partition(":")[0],
        inputs=found.inputs(""),
    )
    known = suites.read(settings.config, cards=found.catalogue.folders)
    return Job(plan.build(config.read(request, known), profile=False), found, where)


def _protocol(
    found: common.Sources,
    settings: options.SettingOptions,
    data: options.DataOptions,
    training: options.TrainingOptions | None = None,
) -> Mapping[str, Json]:
    own = {} if training is None else {"epochs": training.epochs, "batch_size": training.batch_size}
    return {**own, "subset": data.subset, "threads": settings.threads, "init_from": found.init_sha256}


def to_do(planned: Plan, kept: Store, *, equal: str | None, retry: bool, all_: bool = False) -> bool:
    """Say whether anything is missing; check and announce what is run. Raises SamcmpError.

    Args:
        all_: check and announce the plan also where nothing is missing.
    """
    if equal == "seconds" and not retry:
        output.refuse_without_speeds(planned.without_speed(kept))
    missing = bool(planned.missing_train(kept, retry=retry) or planned.missing_sessions(kept, retry=retry))
    if missing or all_:
        planned.check_settings()
        for note in planned.notes:
            common.stderr().print(note, markup=False, soft_wrap=True)
    return missing


def compared(
    planned: Plan, kept: Store, *, margin: float | None, equal: str | None, published: bool
) -> tuple[list[Record], Comparison]:
    """Return the plan's Records that are there, and what they say."""
    from samcmp.analysis import build

    records = planned.records(kept)
    comparison = build.compare(
        records, output.report_settings(margin, equal=equal), suite=planned.suite, predictions=kept.predictions
    )
    common.print_damaged(kept)
    if published:
        from samcmp.analysis.published_comparison import with_published

        comparison = with_published(comparison, planned.table)
    return records, comparison


# ---------------------------------------------------------------------------------------------- one run


def train(
    dataset: str,
    model: str,
    optimizer: str,
    *,
    settings: options.SettingOptions,
    training: options.TrainingOptions,
    splitting: options.SplitOptions,
    fold: int | None,
    seed: int,
    data: options.DataOptions,
    device: str,
) -> tuple[str, Case, Job]:
    """Plan one run: its key, its Case and what it is run with. Raises SamcmpError."""
    from samcmp.experiment import config, plan, suites

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
        protocol=_protocol(found, settings, data, training),
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
    cases = _of_fold(list(planned.train.items()), fold, what=str(splitting.split_file) if of_file else "cv5")
    if len(cases) > 1:
        raise UsageError("train runs one setting; a sweep is for `samcmp compare`", where="--set")
    return *cases[0], Job(planned, found, where)


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


# ---------------------------------------------------------------------------------------------- measuring


def profile(
    dataset: str,
    model: str,
    optimizers: Sequence[str],
    *,
    sizes: Sequence[int | None],
    seconds: float,
    settings: options.SettingOptions,
    seed: int,
    data: options.DataOptions,
    device: str,
) -> list[Job]:
    """Plan a session for every batch size; None stands for the protocol's own. Raises SamcmpError."""
    from samcmp.experiment import config, plan, suites

    where = common.pick_device(device)
    found = common.sources([] if data.data else [dataset], data, init_from=settings.init_from)
    known = suites.read(settings.config, cards=found.catalogue.folders)
    jobs = []
    for size in sizes:
        request = config.Request(
            datasets=found.datasets,
            models=(model,),
            optimizers=tuple(optimizers or _all_optimizers(known)),
            overrides=tuple(settings.set_ or ()),
            protocol={**_protocol(found, settings, data), "batch_size": size},
            repeats=1,
            seed=seed,
            profile_seconds=seconds,
            device=where.partition(":")[0],
            inputs=found.inputs(fingerprint(where)),
        )
        read = config.read(request, known)
        _refuse_without_cost(read)
        jobs.append(Job(plan.build(read, train=False), found, where))
    for job in jobs:
        job.planned.check_settings()
    return jobs


def _all_optimizers(known: Suites) -> Sequence[str]:
    from samcmp import optim
    from samcmp.experiment import config

    base = known.protocol.get("base", Protocol().base)
    return [name for name in optim.names() if config.unfit(name, base) is None]


def _refuse_without_cost(read: Config) -> None:
    for arm in read.arms:
        if arm.own:
            raise UsageError(
                f"{', '.join(arm.own)} of {arm.optimizer} changes the cost of no step: there is nothing to measure",
                where=read.where.get(arm.name, "--set"),
                remedy="Leave it out; `samcmp compare` trains by it.",
            )
