"""A suite and flags -> Plan: the Cases, which of them the store already has, and what the rest will cost.

Nothing here imports torch (:meth:`Plan.check_settings` aside): ``--dry-run`` answers in well under a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from samcmp import backbones
from samcmp.errors import UsageError, unknown
from samcmp.experiment import overrides
from samcmp.experiment import suites as suite_file
from samcmp.experiment.keys import Inputs
from samcmp.experiment.store import Store
from samcmp.experiment.suites import Arm, Suites, SuiteTable
from samcmp.records import BASES, Case, Json, Protocol, Record, differing, to_json
from samcmp.training.setup import check_settings

FOLDS = 5  # of cv5
MOST_RUNS = 100_000


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for; None and empty mean: as the suite says."""

    suite: str | None = None
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()  # optimizer.key=value[,value...]
    protocol: Mapping[str, Json] = field(default_factory=dict)
    split: str | None = None
    folds: int | None = None
    repeats: int | None = None
    seed: int | None = None
    profile_seconds: float | None = None
    device: str = "cpu"
    inputs: Inputs = field(default_factory=Inputs)
    train: bool = True
    profile: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, by content key."""

    title: str
    suite: str
    train: Mapping[str, Case]
    sessions: Sequence[Mapping[str, Case]]  # profile: the arms of one dataset and model, measured together
    profile_seconds: float
    table: int | None = None
    written: Mapping[str, str] = field(default_factory=dict)  # arm or model -> where a user wrote its settings
    code: Mapping[str, str] = field(default_factory=dict)  # that the keys were made of: see samcmp.modules

    @property
    def keys(self) -> list[str]:
        return [*self.train, *(key for session in self.sessions for key in session)]

    def check_settings(self) -> None:
        """Refuse values that a model or an optimizer does not take. Imports torch where a user wrote any."""
        if self.written:
            cases = [*self.train.values(), *(case for session in self.sessions for case in session.values())]
            check_settings(cases, self.written)

    def missing_train(self, store: Store, *, retry: bool = False) -> dict[str, Case]:
        return {key: case for key, case in self.train.items() if not _done(store.get(key), retry)}

    def missing_sessions(self, store: Store, *, retry: bool = False) -> list[Mapping[str, Case]]:
        return [s for s in self.sessions if not all(_done(store.get(key), retry) for key in s)]

    def records(self, store: Store) -> list[Record]:
        """The Records of this plan that the store holds, in the plan's order."""
        return [record for key in self.keys if (record := store.get(key)) is not None]


def _done(record: Record | None, retry: bool) -> bool:
    """A recorded failure is a result: it is run again only when asked for, unless it was cut short from outside."""
    if record is None or record.status == "partial":
        return False
    return record.status == "ok" or not retry


def build(suites: Suites, request: Request) -> Plan:
    """Expand ``request`` against the suite file. Raises UsageError or ConfigError for what does not fit."""
    name, suite = _suite(suites, request)
    datasets = tuple(dict.fromkeys(request.datasets or suite.datasets))
    models = tuple(dict.fromkeys(request.models or suite.models))
    protocol = _protocol(suites, suite, request)
    split = request.split or suite.split
    folds = request.folds if request.folds is not None else suite.folds
    if request.split and request.folds is None and request.split not in {"random", "cv5"}:
        folds = None
    _check(suites, request, split=split, folds=folds)
    if suite.needs_init_from and not protocol.init_from:
        raise UsageError(
            f"suite {name!r} starts from pre-trained weights",
            where=f"--suite {name}",
            remedy="Name the checkpoint: --init-from FILE.",
        )
    entries = [Arm(optimizer) for optimizer in request.optimizers] or suite_file.arms_of(suite.optimizers, where=name)
    entries = [_of_base(arm, protocol.base, request, f"{suites.path}: suites.{name}.optimizers") for arm in entries]
    given = overrides.read(request.settings, [arm.optimizer for arm in entries], models)
    arms = overrides.arms(suites, entries, given=given, where=f"{suites.path}: suites.{name}.optimizers")
    model_settings = {m: {s.key: s.values[0] for s in given if s.owner == m} for m in models}
    repeats = request.repeats or suite.repeats
    runs = len(datasets) * len(models) * len(arms) * repeats * (1 if folds is None else folds)
    if runs > MOST_RUNS:
        raise UsageError(
            f"{runs:,} runs are more than can be planned at once ({MOST_RUNS:,})",
            where=f"--repeats {repeats}" if request.repeats else f"{suites.path}: suites.{name}.repeats",
            remedy="Take fewer repeats, or a part of the datasets, models and settings at a time.",
        )
    blocks = list(_blocks(split, folds, repeats=repeats, seed=_or(request.seed, suite.seed)))

    train: dict[str, Case] = {}
    sessions: list[Mapping[str, Case]] = []
    for dataset, model in itertools.product(datasets, models):
        own = differing(model_settings[model], backbones.defaults(model, dataset=dataset))
        shared: dict[str, Any] = {
            "dataset": dataset,
            "data": request.inputs.datasets.identity(dataset),
            "model": model,
            "model_settings": own,
            "device": request.device,
        }
        for (block_split, split_seed, fold, seed), arm in itertools.product(blocks, arms):
            case = Case(
                kind="train",
                optimizer=arm.optimizer,
                protocol=protocol,
                split=block_split,
                split_seed=split_seed,
                split_file=request.inputs.split_file,
                fold=fold,
                seed=seed,
                optimizer_settings=arm.settings,
                **shared,
            )
            train[request.inputs.key_of(case)] = case
        sessions.append(_session(request.inputs, shared, protocol, arms=arms))
    return Plan(
        title=suite.title,
        suite=name,
        train=train if request.train else {},
        sessions=sessions if request.profile else [],
        profile_seconds=request.profile_seconds or suite.profile_seconds,
        table=suite.table,
        written=overrides.written(suites, arms, given=given, models=models),
        code=request.inputs.code_of(*train.values(), *(case for session in sessions for case in session.values())),
    )


def unfit(optimizer: str, base: str) -> str | None:
    """Say why an arm without SAM is not one of a comparison with this base, or None."""
    from samcmp import optim

    if optimizer in BASES:
        return None if optimizer in {"adam", base} else f"the base is {base}, so the arm without SAM is called {base}"
    entry = optim.entry(optimizer)
    if base != "adam" and (entry.module, entry.class_name) == ("samcmp.optim.base", "Plain"):
        return f"it is an arm of the released code, whose base is adam; here the base is {base}"
    return None


def _of_base(arm: Arm, base: str, request: Request, where: str) -> Arm:
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


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


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
    asked = {key: value for key, value in request.protocol.items() if value is not None}
    merged = {**suites.protocol, **suite.protocol.model_dump(exclude_none=True), **asked}
    standard = to_json(Protocol())
    return Protocol(**(standard | differing({key: merged[key] for key in merged.keys() & known}, standard)))


def _check(suites: Suites, request: Request, *, split: str, folds: int | None) -> None:
    suite_file.check_members(
        "dataset", _catalogued(request.datasets, request), where="--dataset", cards=request.inputs.datasets.folders
    )
    suite_file.check_members("model", request.models, where="--model")
    suite_file.check_members("optimizer", request.optimizers, where="--optimizer")
    suite_file.check_split(split, folds, where="--split")
    if folds is not None and folds != FOLDS:
        instead = f", or --repeats {folds} for {folds} random splits" if folds > 1 else ""
        raise UsageError(
            f"cross-validation here has {FOLDS} folds, got {folds}",
            where="--folds",
            remedy=f"Use --folds {FOLDS}{instead}.",
        )


def _catalogued(datasets: Iterable[str], request: Request) -> list[str]:
    return [name for name in datasets if name not in request.inputs.datasets.own]


def _blocks(split: str, folds: int | None, *, repeats: int, seed: int) -> Iterable[tuple[str, int, int | None, int]]:
    """Yield (split, split seed, fold, model seed): splits and seeds vary together from block to block."""
    for repeat in range(seed, seed + repeats):
        if folds is not None or split == "cv5":
            for fold in range(FOLDS):
                yield "cv5", repeat, fold, FOLDS * repeat + fold
        elif split in {"scaffold", "file"}:
            yield split, 0, None, repeat  # one partition whatever the seed: only the model's seed varies
        elif split == "fixed":
            yield split, seed, None, repeat
        else:
            yield split, repeat, None, repeat


def _session(
    inputs: Inputs, shared: Mapping[str, Any], protocol: Protocol, *, arms: Sequence[Arm]
) -> Mapping[str, Case]:
    """The profile Cases of one dataset and model.

    Epochs do not matter to speed and are left out of the key. Nor does the way to split: a session trains on the rows
    of the first random split whatever split is trained on, but on those of a split file where there is one, since
    such a file may choose any rows.
    """
    peers = tuple(sorted(arm.name for arm in arms))
    cases = [
        Case(
            kind="profile",
            optimizer=arm.optimizer,
            protocol=replace(protocol, epochs=1),
            split="file" if inputs.split_file else "random",
            split_file=inputs.split_file,
            optimizer_settings=arm.settings,
            peers=peers,
            **shared,
        )
        for arm in arms
    ]
    return {inputs.key_of(case): case for case in cases}
