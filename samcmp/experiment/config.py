"""One comparison as one checked object: what flags, ``--set`` and benchmarks.toml say together.

:func:`read` is where names, types and contradictions are refused; further down nobody checks them again. Ranges are
checked by the constructor that takes the setting, before any run (:meth:`samcmp.experiment.plan.Plan.check_settings`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from samcmp.analysis.draws import SHARED, Choice, Ranges
from samcmp.errors import UsageError, unknown
from samcmp.experiment import suites as suite_file
from samcmp.experiment.keys import Inputs
from samcmp.experiment.suites import Arm, Suites, SuiteTable
from samcmp.records import BASES, CHOSEN_ROWS, Json, Protocol, differing, to_json, trained_epochs

FOLDS = 5  # of cv5
MOST_RUNS = 100_000


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line says; None and empty mean: as the suite says."""

    suite: str | None = None
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()  # entries of --set: owner.key=value[,value...]
    protocol: Mapping[str, Json] = field(default_factory=dict)
    split: str | None = None
    splits: int = 1  # in the file of the split "file"
    folds: int | None = None
    repeats: int | None = None
    seed: int | None = None
    tune: int | None = None  # trials an optimizer and split
    equal_cost: bool = False  # with the base trained twice as long
    profile_seconds: float | None = None
    device: str = "cpu"
    inputs: Inputs = field(default_factory=Inputs)


@dataclass(frozen=True, slots=True)
class Block:
    """What the runs of a comparison share: a split and the seed of weights, batch order and dropout."""

    split: str
    split_seed: int
    fold: int | None
    seed: int


@dataclass(frozen=True, slots=True)
class Config:
    """A checked comparison: every dataset x model x arm, on every block."""

    suite: str
    title: str
    table: int | None  # of the paper, where its numbers belong beside ours
    datasets: tuple[str, ...]
    models: Mapping[str, Mapping[str, Json]]  # with their settings
    arms: tuple[Arm, ...]
    protocol: Protocol
    blocks: tuple[Block, ...]
    profile_seconds: float
    device: str
    inputs: Inputs
    where: Mapping[str, str]  # arm or model -> where a user wrote its settings
    trials: int = 1  # an arm and block; trial 0 is the settings as given
    ranges: Mapping[str, Ranges] = field(default_factory=dict)  # optimizer -> where its trials are drawn
    bounds: tuple[Arm, ...] = ()  # with settings at the ends of a user's ranges
    notes: tuple[str, ...] = ()  # said before anything runs


@dataclass(frozen=True, slots=True)
class Override:
    """One ``--set owner.key=value[,value...]``."""

    owner: str  # an optimizer or a model
    key: str
    values: tuple[Json, ...]
    where: str  # as it was typed


def read(request: Request, suites: Suites) -> Config:
    """Expand ``request`` against the suite file. Raises UsageError or ConfigError for what does not fit."""
    name, suite = _suite(suites, request)
    protocol = _protocol(suites, suite, request)
    if suite.needs_init_from and not protocol.init_from:
        raise UsageError(
            f"suite {name!r} starts from pre-trained weights",
            where=f"--suite {name}",
            remedy="Name the checkpoint: --init-from FILE.",
        )
    written_in = f"{suites.path}: suites.{name}.optimizers"
    entries = [Arm(optimizer) for optimizer in request.optimizers] or suite_file.arms_of(suite.optimizers, where=name)
    suite_file.check_members("optimizer", request.optimizers, where="--optimizer")
    entries = [_named_after_base(arm, protocol.base, request, written_in) for arm in entries]
    models = tuple(dict.fromkeys(request.models or suite.models))
    suite_file.check_members("model", request.models, where="--model")
    datasets = _datasets(suite, request)
    held = _held(datasets, models, request)
    overrides = read_overrides(request.overrides, [arm.optimizer for arm in entries], models)
    arms = _arms(suites, entries, overrides, protocol=protocol, where=written_in)
    notes: list[str] = []
    if request.equal_cost:
        arms = _with_longer_base(arms, protocol)
        notes += _notes_on_schedules(arms, protocol)
    if request.splits > 1:
        notes.append(f"the split file holds {request.splits} splits: every optimizer is run on each of them")
    trials = request.tune or suite.tune or 1
    ranges: dict[str, Ranges] = {}
    if trials > 1:
        _refuse_set_and_tuned(suites, entries, overrides, where=written_in)
        ranges = {arm.optimizer: suites.ranges.of(arm.optimizer) for arm in arms}
        notes += _notes_on_ranges(ranges)
    where = _where_written(suites, arms, overrides=overrides, models=models, named=request.optimizers)
    bounds = _bounds(suites, arms) if trials > 1 else []
    config = Config(
        suite=name,
        title=suite.title,
        table=suite.table,
        datasets=datasets,
        models={model: {o.key: o.values[0] for o in overrides if o.owner == model} for model in models},
        arms=tuple(arms),
        protocol=protocol,
        blocks=_blocks(suite, request, held),
        profile_seconds=request.profile_seconds or suite.profile_seconds,
        device=request.device,
        inputs=request.inputs,
        where={**where, **{arm.name: place for arm, place in bounds}},
        trials=trials,
        ranges=ranges,
        bounds=tuple(arm for arm, _ in bounds),
        notes=tuple(notes),
    )
    _refuse_too_many(config, suites, request)
    return config


def _suite(suites: Suites, request: Request) -> tuple[str, SuiteTable]:
    name = "default" if request.suite is None else request.suite
    if name not in suites.suites:
        raise unknown("suite", name, suites.suites, where="--suite")
    suite = suites.suites[name]
    if request.suite is None and (request.datasets or request.models):
        # the default suite's short protocol is tuned to its own dataset; other data gets the paper's
        plain = suite.model_copy(update={"protocol": suite_file.ProtocolTable(), "title": "", "profile_seconds": 60.0})
        return "custom", plain
    return name, suite


def _protocol(suites: Suites, suite: SuiteTable, request: Request) -> Protocol:
    known = {f.name for f in fields(Protocol)}
    flags = {key: value for key, value in request.protocol.items() if value is not None}
    merged = {**suites.protocol, **suite.protocol.model_dump(exclude_none=True), **flags}
    standard = to_json(Protocol())
    return Protocol(**(standard | differing({key: merged[key] for key in merged.keys() & known}, standard)))


def _datasets(suite: SuiteTable, request: Request) -> tuple[str, ...]:
    shipped = [name for name in request.datasets if name not in request.inputs.datasets.own]
    suite_file.check_members("dataset", shipped, where="--dataset", cards=request.inputs.datasets.folders)
    return tuple(dict.fromkeys(request.datasets or suite.datasets))


def _held(datasets: Sequence[str], models: Sequence[str], request: Request) -> set[str]:
    """Return what the datasets hold. Raises UsageError for a model that cannot read one of them."""
    from samcmp import backbones

    held = {name: request.inputs.datasets.find(name).kind for name in datasets}
    for (name, holds), model in itertools.product(held.items(), models):
        reads = backbones.entry(model).reads
        if reads != holds:
            able = [one for one in backbones.names() if backbones.entry(one).reads == holds]
            raise UsageError(
                f"{model} reads {reads}, and {name} holds {holds}",
                where=f"--model {model}",
                remedy=f"Models of {holds}: {', '.join(able)}. Or take a dataset of {reads}: samcmp list datasets.",
            )
    return set(held.values())


# ------------------------------------------------------------------------------------------------ arms and settings


def read_overrides(entries: Sequence[str], optimizers: Sequence[str], models: Sequence[str]) -> list[Override]:
    """Read the entries of ``--set``. Raises UsageError for one that does not belong to this run."""
    overrides: dict[tuple[str, str], Override] = {}
    for entry in entries:
        one = _override(entry)
        one = replace(one, owner=_in_full(one, [*optimizers, *models]))
        if one.owner not in {*optimizers, *models}:
            raise _not_of_this_run(one, optimizers, models)
        if len(one.values) > 1 and one.owner in models:
            raise UsageError(
                "a model's setting takes one value", where=one.where, remedy="Run the command once for each value."
            )
        if (one.owner, one.key) in overrides:
            raise UsageError(
                f"{one.owner}.{one.key} is set twice",
                where=one.where,
                remedy=f"Set it once; several values are a sweep: --set {one.owner}.{one.key}=VALUE,VALUE.",
            )
        overrides[one.owner, one.key] = one
    return list(overrides.values())


def _in_full(override: Override, members: Sequence[str]) -> str:
    """Return whose setting it is; of a user's own file.py:Class the class says it. Raises UsageError for two."""
    own = [name for name in dict.fromkeys(members) if ":" in name and name.rpartition(":")[2] == override.owner]
    if override.owner in members or not own:
        return override.owner
    if len(own) > 1:
        raise UsageError(
            f"{override.owner} is a class of {' and of '.join(name.rpartition(':')[0] for name in own)}",
            where=override.where,
            remedy=f"Say which: --set {own[0]}.{override.key}=VALUE.",
        )
    return own[0]


def _override(entry: str) -> Override:
    target, equals, text = entry.partition("=")
    owner, dot, key = target.strip().rpartition(".")
    if not (equals and dot and owner and key and text.strip()):
        raise UsageError(
            f"{entry!r} is not of the form OPTIMIZER.KEY=VALUE or MODEL.KEY=VALUE",
            where="--set",
            remedy="For example --set graphsam.rho=0.05, or a sweep: --set graphsam.rho=0.05,0.005.",
        )
    values = tuple(read_value(part.strip()) for part in text.split(","))
    return Override(owner, key.replace("-", "_"), values, f"--set {entry}")


def read_value(text: str) -> Json:
    """Read a value from a command line: true, false, none, a number, else the text itself."""
    lowered = text.lower()
    if lowered in {"true", "false"}:
        return lowered == "true"
    if lowered in {"none", "null"}:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _not_of_this_run(override: Override, optimizers: Sequence[str], models: Sequence[str]) -> UsageError:
    """Refuse a setting of something that is not part of this run, or that does not exist."""
    for kind, members in (("optimizer", optimizers), ("model", models)):
        if override.owner in suite_file.catalogue(kind):
            return UsageError(
                f"{override.owner!r} is not among the {kind}s of this run",
                where=override.where,
                remedy=f"Add --{kind} {override.owner}, or set one of: {', '.join(dict.fromkeys(members))}.",
            )
    return unknown("optimizer or model", override.owner, {*optimizers, *models}, where=override.where)


def _arms(
    suites: Suites, entries: Iterable[Arm], overrides: Sequence[Override], *, protocol: Protocol, where: str
) -> list[Arm]:
    """Give every optimizer its settings; one with several values makes an arm of each. Raises ConfigError."""
    arms: list[Arm] = []
    for entry in entries:
        own = [override for override in overrides if override.owner == entry.optimizer]
        for values in itertools.product(*(override.values for override in own)):
            swept = dict(zip((override.key for override in own), values, strict=True))
            arm = Arm(entry.optimizer, {**suites.settings.get(entry.optimizer, {}), **entry.settings, **swept})
            suite_file.check_arm(arm, where=" ".join(override.where for override in own) or where)
            arm = suite_file.with_own(arm, protocol)
            _check_length(arm, protocol, where=" ".join(override.where for override in own) or where)
            if arm not in arms:
                arms.append(arm)
    return arms


def _check_length(arm: Arm, protocol: Protocol, *, where: str) -> None:
    times = arm.own.get("times", 1.0)
    if trained_epochs(protocol.epochs, times) < 1:
        raise UsageError(f"{times:g} of {protocol.epochs} epochs is less than one", where=where)


def unfit(optimizer: str, base: str) -> str | None:
    """Say why an arm without SAM is not one of a comparison with this base, or None."""
    from samcmp import optim

    if optimizer in BASES:
        return None if optimizer in {"adam", base} else f"the base is {base}, so the arm without SAM is called {base}"
    entry = optim.entry(optimizer)
    if base != "adam" and (entry.module, entry.class_name) == ("samcmp.optim.base", "Plain"):
        return f"it is an arm of the released code, whose base is adam; here the base is {base}"
    return None


def _named_after_base(arm: Arm, base: str, request: Request, where: str) -> Arm:
    """Name the arm without SAM after the base: suites say "adam" for it, whichever the base is."""
    problem = unfit(arm.optimizer, base)
    if problem is not None:
        needed = arm.optimizer if arm.optimizer in BASES else "adam"
        raise UsageError(
            f"{arm.optimizer} cannot be run: {problem}",
            where=f"--optimizer {arm.optimizer}" if request.optimizers else where,
            remedy=f'Leave it out, or set base = "{needed}" in [protocol].',
        )
    return replace(arm, optimizer=base) if arm.optimizer in BASES else arm


# ------------------------------------------------------------------------------------------------ tuning, equal cost


def _with_longer_base(arms: Sequence[Arm], protocol: Protocol) -> list[Arm]:
    """Add the base optimizer trained twice as long: SAM's gradient evaluations, spent on longer training."""
    if Arm(protocol.base) not in arms:
        raise UsageError(
            f"equal cost compares with {protocol.base}, which is not among the optimizers",
            where="--equal-cost",
            remedy=f"Add --optimizer {protocol.base}.",
        )
    longer = Arm(protocol.base, {}, {"times": 2.0})
    return [*arms, *([] if longer in arms else [longer])]


def _notes_on_schedules(arms: Iterable[Arm], protocol: Protocol) -> list[str]:
    if protocol.schedule != "noam-released":
        return []
    longer = ", ".join(arm.name for arm in arms if arm.own.get("times", 1.0) > 1.0)
    return [f"{longer}: the schedule noam-released ends at epoch 30, however long the training is"]


def _notes_on_ranges(ranges: Mapping[str, Ranges]) -> list[str]:
    from samcmp import optim

    without = [name for name, of in ranges.items() if optim.entry(name).settings and not set(of) - set(SHARED)]
    return [
        f"{name}: only learning rate and weight decay are tuned; [tuning.optimizers] has no range for it"
        for name in without
    ]


def _refuse_set_and_tuned(suites: Suites, entries: Iterable[Arm], overrides: Sequence[Override], *, where: str) -> None:
    """Raise UsageError for a setting that is given a value and searched, too, whatever the value is."""
    for entry in entries:
        tuned = suites.ranges.of(entry.optimizer)
        written = [(o.key, o.where, f"`--set {o.owner}.{o.key}`") for o in overrides if o.owner == entry.optimizer]
        written += [(key, where, f"{key} of {entry.optimizer}") for key in entry.settings]
        table = f"{suites.path}: optimizers.{entry.optimizer}"
        written += [(key, table, f"{key} in that table") for key in suites.settings.get(entry.optimizer, {})]
        for key, place, what in written:
            if key in tuned:
                raise UsageError(
                    f"{entry.optimizer}.{key} is both set and tuned",
                    where=place,
                    remedy=f"Leave out {what}, or its range in [tuning].",
                )


def _bounds(suites: Suites, arms: Iterable[Arm]) -> list[tuple[Arm, str]]:
    """Put each own setting of an arm at the ends of its range, with where it is written; the shipped are good."""
    if suites.path == suite_file.DEFAULT_FILE:
        return []
    made = []
    for arm in arms:
        for key, searched in suites.ranges.optimizers.get(arm.optimizer, {}).items():
            ends = searched.values if isinstance(searched, Choice) else (searched.low, searched.high)
            place = f"{suites.path}: tuning.optimizers.{arm.optimizer}.{key}"
            made += [(Arm(arm.optimizer, {**arm.settings, key: end}, arm.own), place) for end in ends]
    return made


def _where_written(
    suites: Suites, arms: Iterable[Arm], *, overrides: Sequence[Override], models: Iterable[str], named: Sequence[str]
) -> Mapping[str, str]:
    """Say of each arm and model where a user wrote its settings; those of the shipped file are known to be good."""
    typed = {owner: " ".join(o.where for o in overrides if o.owner == owner) for owner in {o.owner for o in overrides}}
    where: dict[str, str] = {}
    for arm in arms:
        if arm.optimizer in typed or ":" in arm.optimizer or (arm.settings and suites.path != suite_file.DEFAULT_FILE):
            written = f"--optimizer {arm.optimizer}" if arm.optimizer in named else f"{suites.path}: {arm.name}"
            where[arm.name] = typed.get(arm.optimizer, written)
    for model in models:
        if model in typed or ":" in model:
            where[model] = typed.get(model, f"--model {model}")
    return where


# ------------------------------------------------------------------------------------------------ blocks


def _blocks(suite: SuiteTable, request: Request, held: Collection[str]) -> tuple[Block, ...]:
    """Splits and seeds vary together from block to block. Raises UsageError for a split that has no such folds."""
    published = held == {"images"} and "split" not in suite.model_fields_set and not (request.folds or suite.folds)
    split = request.split or ("fixed" if published else suite.split)  # of images the test set is the publisher's
    folds = request.folds if request.folds is not None else suite.folds
    if request.split and request.folds is None and request.split not in {"random", "cv5"}:
        folds = None
    suite_file.check_split(split, folds, where="--split")
    if folds is not None and folds != FOLDS:
        instead = f", or --repeats {folds} for {folds} random splits" if folds > 1 else ""
        raise UsageError(
            f"cross-validation here has {FOLDS} folds, got {folds}",
            where="--folds",
            remedy=f"Use --folds {FOLDS}{instead}.",
        )
    first = suite.seed if request.seed is None else request.seed
    times = request.repeats or (suite.repeats if request.splits == 1 else 1)  # several splits are the repeats
    repeats = range(first, first + times)
    split = "cv5" if folds else split
    return tuple(itertools.chain.from_iterable(_repeat(split, r, first, request.splits) for r in repeats))


def _repeat(split: str, repeat: int, first: int, splits: int) -> Iterator[Block]:
    if splits > 1:
        yield from (Block(split, number, None, splits * repeat + number) for number in range(splits))
    elif split == "cv5":
        yield from (Block("cv5", repeat, fold, FOLDS * repeat + fold) for fold in range(FOLDS))
    elif split in {"scaffold", *CHOSEN_ROWS}:  # one partition whatever the seed: only the model's seed varies
        yield Block(split, 0, None, repeat)
    else:
        yield Block(split, first if split == "fixed" else repeat, None, repeat)


def _refuse_too_many(config: Config, suites: Suites, request: Request) -> None:
    runs = len(config.datasets) * len(config.models) * len(config.arms) * len(config.blocks) * config.trials
    if runs > MOST_RUNS:
        raise UsageError(
            f"{runs:,} runs are more than can be planned at once ({MOST_RUNS:,})",
            where=f"--tune {request.tune}"
            if request.tune
            else f"--repeats {request.repeats}"
            if request.repeats
            else f"{suites.path}: suites.{config.suite}.repeats",
            remedy="Take fewer repeats or trials, or a part of the datasets, models and settings at a time.",
        )
