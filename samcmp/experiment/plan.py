"""A checked comparison -> Plan: the Cases under their content keys, and which of them the store lacks.

Nothing here imports torch (:meth:`Plan.check_settings` aside): ``--dry-run`` answers in well under a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from samcmp import backbones
from samcmp.analysis.draws import Ranges, draw, search_name
from samcmp.experiment.config import Config
from samcmp.experiment.store import Brief, Store
from samcmp.records import CHOSEN_ROWS, Case, Record, differing
from samcmp.training.checks import check_settings


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, by content key."""

    title: str
    suite: str
    train: Mapping[str, Case]
    sessions: Sequence[Mapping[str, Case]]  # profile: the arms of one dataset and model, measured together
    profile_seconds: float
    table: int | None = None
    where: Mapping[str, str] = field(default_factory=dict)  # arm or model -> where a user wrote its settings
    code: Mapping[str, str] = field(default_factory=dict)  # that the keys were made of: see samcmp.modules
    trials: int = 1  # an arm and block
    bounds: Sequence[Case] = ()  # with settings at the ends of a user's ranges, to be checked with the others
    notes: Sequence[str] = ()

    def shard(self, number: int, of: int) -> Plan:
        """The training runs of one shard: of all keys, sorted, those of the ranks r with r mod ``of`` = number - 1.

        It does not depend on what is done already. Nothing is measured: speeds belong to one machine.
        """
        chosen = set(sorted(self.train)[number - 1 :: of])
        return replace(self, train={key: case for key, case in self.train.items() if key in chosen}, sessions=())

    @property
    def keys(self) -> list[str]:
        return [*self.train, *(key for session in self.sessions for key in session)]

    def check_settings(self) -> None:
        """Refuse values that a model or an optimizer does not take. Imports torch where a user wrote any."""
        if self.where:
            first = [case for case in self.train.values() if case.trial == 0]
            sessions = [case for session in self.sessions for case in session.values()]
            check_settings([*first, *sessions, *self.bounds], self.where)

    def missing_train(self, store: Store, *, retry: bool = False) -> dict[str, Case]:
        return {key: case for key, case in self.train.items() if not _done(store.brief(key), retry)}

    def missing_sessions(self, store: Store, *, retry: bool = False) -> list[Mapping[str, Case]]:
        return [s for s in self.sessions if not all(_done(store.brief(key), retry) for key in s)]

    def without_speed(self, store: Store) -> list[str]:
        """Name the arms whose session is stored as finished and has no speed of them: nothing will measure it."""
        found = ((case, store.get(key)) for session in self.sessions for key, case in session.items())
        return [
            f"{case.dataset} {case.model} {case.arm}: {record.reason or record.status}"
            for case, record in found
            if record is not None and record.status != "partial" and record.throughput is None
        ]

    def records(self, store: Store) -> list[Record]:
        """The Records of this plan that the store holds, in the plan's order."""
        return [record for key in self.keys if (record := store.get(key)) is not None]


def _done(record: Brief | None, retry: bool) -> bool:
    """A recorded failure is a result: it is run again only when asked for, unless it was cut short from outside."""
    if record is None or record.status == "partial":
        return False
    return record.status == "ok" or not retry


def build(config: Config, *, train: bool = True, profile: bool = True) -> Plan:
    """Make the Cases of a comparison: training on every block, and a profile session a dataset and model."""
    cells = [_shared(config, dataset, model) for dataset, model in itertools.product(config.datasets, config.models)]
    training: dict[str, Case] = {}
    # trial by trial: whatever has run when it is stopped compares all arms after equally many
    for trial, cell, block, arm in itertools.product(range(config.trials), cells, config.blocks, config.arms):
        case = Case(
            kind="train",
            optimizer=arm.optimizer,
            optimizer_settings=arm.settings,
            own=arm.own,
            protocol=config.protocol,
            code=config.inputs.contents_of(cell["model"], arm.optimizer),
            **asdict(block),
            **cell,
        )
        if trial:
            case = _drawn(case, trial, config.ranges[arm.optimizer])
        training[config.inputs.key_of(case)] = case
    sessions = [_session(config, cell) for cell in cells]
    bounds = [
        Case(
            "train",
            cells[0]["dataset"],
            cells[0]["model"],
            arm.optimizer,
            config.protocol,
            own=arm.own,
            optimizer_settings=arm.settings,
        )
        for arm in config.bounds
    ]
    every = [*training.values(), *(case for session in sessions for case in session.values())]
    return Plan(
        title=config.title,
        suite=config.suite,
        train=training if train else {},
        sessions=sessions if profile else [],
        profile_seconds=config.profile_seconds,
        table=config.table,
        where=config.where,
        code=config.inputs.code_of(*every),
        trials=config.trials,
        bounds=bounds,
        notes=config.notes,
    )


def _shared(config: Config, dataset: str, model: str) -> dict[str, Any]:
    """What the Cases of one dataset and model have in common."""
    return {
        "dataset": dataset,
        "data": config.inputs.datasets.identity(dataset),
        "model": model,
        "model_settings": differing(config.models[model], backbones.defaults(model, dataset=dataset)),
        "device": config.device,
        "split_file": config.inputs.split_file,
    }


def _drawn(case: Case, trial: int, ranges: Ranges) -> Case:
    drawn = draw(ranges, trial, dataset=case.dataset, model=case.model, block=case.block)
    return replace(case, trial=trial, search=search_name(ranges), drawn=drawn)


def _session(config: Config, shared: Mapping[str, Any]) -> Mapping[str, Case]:
    """The profile Cases of one dataset and model.

    Epochs do not matter to speed and are left out of the key. Nor does the way to split: a session trains on the rows
    of the first random split whatever the runs are split by, unless the split may take any rows, as a file does. Arms
    that differ in the length of training, its learning rates or weight decay take equal steps and are measured once.
    """
    split = config.blocks[0].split
    arms = list({arm.name: arm for arm in (replace(arm, own={}) for arm in config.arms)}.values())
    peers = tuple(sorted(arm.name for arm in arms))
    cases = [
        Case(
            kind="profile",
            optimizer=arm.optimizer,
            protocol=replace(config.protocol, epochs=1),
            split=split if split in CHOSEN_ROWS else "random",
            optimizer_settings=arm.settings,
            peers=peers,
            code=config.inputs.contents_of(shared["model"], arm.optimizer),
            **shared,
        )
        for arm in arms
    ]
    return {config.inputs.key_of(case): case for case in cases}
