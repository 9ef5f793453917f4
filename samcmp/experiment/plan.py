"""A checked comparison -> Plan: the Cases under their content keys, and which of them the store lacks.

Nothing here imports torch (:meth:`Plan.check_settings` aside): ``--dry-run`` answers in well under a second.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from samcmp import backbones
from samcmp.experiment.config import Config
from samcmp.experiment.store import Store
from samcmp.records import Case, Record, differing
from samcmp.training.setup import check_settings


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

    @property
    def keys(self) -> list[str]:
        return [*self.train, *(key for session in self.sessions for key in session)]

    def check_settings(self) -> None:
        """Refuse values that a model or an optimizer does not take. Imports torch where a user wrote any."""
        if self.where:
            cases = [*self.train.values(), *(case for session in self.sessions for case in session.values())]
            check_settings(cases, self.where)

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


def build(config: Config, *, train: bool = True, profile: bool = True) -> Plan:
    """Make the Cases of a comparison: training on every block, and a profile session a dataset and model."""
    training: dict[str, Case] = {}
    sessions: list[Mapping[str, Case]] = []
    for dataset, model in itertools.product(config.datasets, config.models):
        shared: dict[str, Any] = {
            "dataset": dataset,
            "data": config.inputs.datasets.identity(dataset),
            "model": model,
            "model_settings": differing(config.models[model], backbones.defaults(model, dataset=dataset)),
            "device": config.device,
            "split_file": config.inputs.split_file,
        }
        for block, arm in itertools.product(config.blocks, config.arms):
            case = Case(
                kind="train",
                optimizer=arm.optimizer,
                optimizer_settings=arm.settings,
                protocol=config.protocol,
                **asdict(block),
                **shared,
            )
            training[config.inputs.key_of(case)] = case
        sessions.append(_session(config, shared))
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
    )


def _session(config: Config, shared: Mapping[str, Any]) -> Mapping[str, Case]:
    """The profile Cases of one dataset and model.

    Epochs do not matter to speed and are left out of the key. Nor does the way to split: a session trains on the rows
    of the first random split whatever split is trained on, but on those of a split file where there is one, since
    such a file may choose any rows.
    """
    peers = tuple(sorted(arm.name for arm in config.arms))
    cases = [
        Case(
            kind="profile",
            optimizer=arm.optimizer,
            protocol=replace(config.protocol, epochs=1),
            split="file" if config.inputs.split_file else "random",
            optimizer_settings=arm.settings,
            peers=peers,
            **shared,
        )
        for arm in config.arms
    ]
    return {config.inputs.key_of(case): case for case in cases}
