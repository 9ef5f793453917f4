"""benchmarks.toml, read and checked: what can be run by name.

Every key is checked when the file is read: an unknown key, a wrong type or an unknown name is an error that gives the
file, the key, what was found, what is allowed and the nearest match.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from samcmp import files
from samcmp.errors import ConfigError, choice, nearest
from samcmp.experiment import ranges
from samcmp.experiment import where as places
from samcmp.experiment.ranges import SearchRanges
from samcmp.experiment.tables import Table, said
from samcmp.records import BASES, OWN, SCHEDULES, Json, Protocol, arm_name, differing, misfit

MOST = 1000.0  # times the length, the learning rates or the weight decay that make sense
_ABOUT_OWN = {
    "learning_rate": "a factor on the schedule",
    "times": "how many times as long to train",
    "weight_decay": "the base optimizer's",
}
_OTHERWISE_CALLED = {"lr": "learning_rate", "peak_lr": "learning_rate", "wd": "weight_decay", "epochs": "times"}
DEFAULT_FILE = Path(__file__).resolve().parent.parent / "benchmarks.toml"

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class ProtocolTable(Table):
    """Keys of [protocol] and of a suite's own protocol; see :class:`samcmp.records.Protocol`."""

    epochs: Count | None = None
    batch_size: Count | None = None
    base: str | None = None
    schedule: str | None = None
    initial_lr: Rate | None = None
    peak_lr: Rate | None = None
    final_lr: Rate | None = None
    warmup_epochs: NotNegative | None = None
    weight_decay: NotNegative | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    augment: bool | None = None
    subset: Annotated[int, Field(ge=10)] | None = None
    loss_power: Literal[1, 2] | None = None
    threads: Count | None = None


class SuiteTable(Table):
    """Keys of [suites.NAME]."""

    title: str
    datasets: Annotated[list[str], Field(min_length=1)]
    models: Annotated[list[str], Field(min_length=1)]
    optimizers: Annotated[list[str | dict[str, Any]], Field(min_length=1)]
    split: str = "random"
    repeats: Count = 5
    folds: Literal[5] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    profile_seconds: Seconds = 60.0
    protocol: ProtocolTable = Field(default_factory=ProtocolTable)
    needs_init_from: bool = False  # the suite means nothing without pre-trained weights
    tune: Annotated[int, Field(ge=2)] | None = None  # trials an optimizer and split; trial 0: the settings given
    table: int | None = None  # of the GraphSAM paper, for published numbers beside ours


class TuningTable(Table):
    """Keys of [tuning]; the ranges themselves are read by :mod:`samcmp.experiment.ranges`."""

    learning_rate: Any = Field(default_factory=lambda: {"low": 0.1, "high": 10.0})  # a factor on the schedule
    weight_decay: Any = Field(default_factory=lambda: {"low": 1e-6, "high": 1e-3})
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)


class FileTable(Table):
    protocol: ProtocolTable = Field(default_factory=ProtocolTable)
    tuning: TuningTable = Field(default_factory=TuningTable)
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    suites: dict[str, SuiteTable]
    run: dict[str, Any] = Field(default_factory=dict)  # read by samcmp.experiment.where


@dataclass(frozen=True, slots=True)
class Arm:
    """An optimizer with the settings that are asked for, and what its training has of its own."""

    optimizer: str
    settings: Mapping[str, Json] = field(default_factory=dict)
    own: Mapping[str, Json] = field(default_factory=dict)  # keys of samcmp.records.OWN

    @property
    def name(self) -> str:
        return arm_name(self.optimizer, self.settings, self.own)


@dataclass(frozen=True, slots=True)
class Suites:
    """A checked suite file."""

    path: Path
    protocol: Mapping[str, Json]
    settings: Mapping[str, Mapping[str, Json]]  # optimizer -> settings
    ranges: SearchRanges
    suites: Mapping[str, SuiteTable]
    run: Mapping[str, places.RunTable] = field(default_factory=dict)


def read(path: Path | None = None, *, cards: Sequence[Path] = ()) -> Suites:
    """Read ``path`` or the file that samcmp ships, and check it. Raises ConfigError."""
    path = path or DEFAULT_FILE
    content = files.read_toml(path, remedy="Leave --config out to use the file that samcmp ships.")
    content = _located(content, path.parent)
    try:
        table = FileTable.model_validate(content)
    except ValidationError as error:
        raise _explained(path, error) from None
    tuned = ranges.read(table.tuning.model_dump(), where=f"{path}: tuning")
    run = {name: places.check(name, content, path=path) for name, content in table.run.items()}
    suites = Suites(path, _set(table.protocol), table.optimizers, tuned, table.suites, run)
    _check_names(suites, cards)
    return suites


_OWN_FILE = re.compile(r"(?![/\\]|[A-Za-z]:)[^:]+\.py:\w+")


def _located(content: Any, folder: Path) -> Any:
    """Name the users' own files of a suite file as seen from here: there they are seen from its folder."""
    if isinstance(content, Mapping):
        return {_located(key, folder): _located(value, folder) for key, value in content.items()}
    if isinstance(content, list):
        return [_located(item, folder) for item in content]
    if isinstance(content, str) and _OWN_FILE.fullmatch(content):
        return os.path.normpath(folder / content)
    return content


def _set(table: ProtocolTable) -> dict[str, Json]:
    return table.model_dump(exclude_none=True)


def _explained(path: Path, error: ValidationError) -> ConfigError:
    """Turn pydantic's first complaint into file, key, what was found, what is allowed, nearest match."""
    complaints = error.errors(include_url=False)
    # a misspelt key also leaves the right one missing: the misspelling is the cause
    first = next((c for c in complaints if c["type"] == "extra_forbidden"), complaints[0])
    *table, key = (str(part) for part in first["loc"])
    where = f"{path}: {'.'.join([*table, key])}"
    if first["type"] == "extra_forbidden":
        return ConfigError(f"unknown key {key!r}", where=where, remedy=_meant(key, table))
    if first["type"] == "missing":
        return ConfigError("this key is missing", where=where, remedy=f"Keys here: {', '.join(_keys_of(table))}.")
    found = f"found {first['input']!r}"
    if table[2:3] == ["optimizers"] and len(table) == 4:  # an entry: the key is the branch that pydantic tried
        expected = "expected a name, or a table { name = ..., setting = value }"
        return ConfigError(f"{expected}, {found}", where=f"{path}: {'.'.join(table[:3])}, entry {int(table[3]) + 1}")
    return ConfigError(said(first), where=where, remedy="Correct the value and run again.")


def _meant(key: str, table: Sequence[str]) -> str:
    """Name the nearest key of this table, or of the one beside it that the key may have been meant for."""
    allowed = _keys_of(table)
    in_suite = len(table) == 2
    elsewhere = [name for name in ProtocolTable.model_fields if in_suite and name not in allowed]
    close = nearest(key, [*allowed, *elsewhere])
    if close in elsewhere:
        return f"Did you mean protocol = {{ {close} = ... }}, or {close} under [{'.'.join(table)}.protocol]?"
    return choice(key, allowed)


def _keys_of(table: Sequence[str]) -> list[str]:
    model: type[BaseModel] = FileTable
    if table[-1:] == ["protocol"]:
        model = ProtocolTable
    elif table == ["tuning"]:
        model = TuningTable
    elif len(table) == 2:
        model = SuiteTable
    return list(model.model_fields)


def _check_names(suites: Suites, cards: Sequence[Path]) -> None:
    for name, settings in suites.settings.items():
        check_arm(Arm(name, settings), where=f"{suites.path}: optimizers.{name}")
    _check_protocol(suites.protocol, f"{suites.path}: protocol")
    datasets = set(catalogue("dataset", cards))  # once: it asks every installed package for cards
    for name, suite in suites.suites.items():
        where = f"{suites.path}: suites.{name}"
        _check_protocol(_set(suite.protocol), f"{where}.protocol")
        unknown = [name for name in suite.datasets if name not in datasets]
        check_members("dataset", unknown, where=f"{where}.datasets", cards=cards)
        check_members("model", suite.models, where=f"{where}.models")
        check_split(suite.split, suite.folds, where=where)
        for arm in arms_of(suite.optimizers, where=f"{where}.optimizers"):
            check_arm(arm, where=f"{where}.optimizers")


def _check_protocol(protocol: Mapping[str, Json], where: str) -> None:
    for key, allowed in (("base", BASES), ("schedule", SCHEDULES)):
        if key in protocol and protocol[key] not in allowed:
            raise _config_unknown(key, str(protocol[key]), allowed, where=f"{where}.{key}")


def check_members(kind: str, names: Sequence[str], *, where: str, cards: Sequence[Path] = ()) -> None:
    """Raise ConfigError for the first dataset, model or optimizer that is not in its catalogue."""
    from samcmp import backbones, optim

    # code of others is loaded where it is asked for, not before
    names = [
        name
        for name in names
        if not ((kind == "model" and name in backbones.BACKBONES) or (kind == "optimizer" and name in optim.OPTIMIZERS))
    ]
    allowed = catalogue(kind, cards) if names else []
    for name in names:
        if ":" in name and kind != "dataset":
            _check_file(name, where)
            continue  # its file or module is read when it is built
        if name not in allowed:
            several = [part.strip() for part in name.split(",")]
            if where.startswith("--") and len(several) > 1:
                raise ConfigError(
                    f"{name!r} is not one {kind}",
                    where=where,
                    remedy=f"Repeat the option for several: {' '.join(f'{where} {part}' for part in several)}.",
                )
            if kind != "dataset" and name.endswith(".py"):
                raise ConfigError(f"{name!r} names no class", where=where, remedy=f"Write {name}:CLASS.")
            if kind == "dataset" and _is_table(name):
                remedy = f"Name a table of your own with --data {name} --target COLUMN."
                raise ConfigError(f"unknown dataset {name!r}", where=where, remedy=remedy)
            raise _config_unknown(kind, name, allowed, where=where)


def _is_table(name: str) -> bool:
    from samcmp.data import cards

    return name.lower().endswith(cards.TABLES)


def _check_file(source: str, where: str) -> None:
    place, _, name = source.rpartition(":")
    if not place or not name.isidentifier():
        raise ConfigError(
            f"{source!r} names no {'class' if place else 'file'}", where=where, remedy="Write file.py:Class."
        )
    if place.endswith(".py") and not Path(place).is_file():
        raise ConfigError(
            f"there is no file {place}", where=where, remedy="Write file.py:Class with a path to your file."
        )


def catalogue(kind: str, cards: Sequence[Path] = ()) -> list[str]:
    """Return the names of a catalogue: dataset, model or optimizer."""
    if kind == "dataset":
        from samcmp.data import cards as dataset_cards

        return list(dataset_cards.names(tuple(cards)))
    if kind == "model":
        from samcmp import backbones

        return list(backbones.names())
    from samcmp import optim

    return list(optim.names())


def _config_unknown(kind: str, name: str, allowed: Sequence[str], *, where: str) -> ConfigError:
    return ConfigError(f"unknown {kind} {name!r}", where=where, remedy=choice(name, sorted(allowed)))


def check_split(split: str, folds: int | None, *, where: str) -> None:
    """Raise ConfigError for an unknown split, or folds together with a split that has none."""
    from samcmp.data.split import NAMES

    if split not in NAMES:
        raise _config_unknown("split", split, NAMES, where=where if where.startswith("--") else f"{where}.split")
    if folds is not None and split not in {"random", "cv5"}:
        raise ConfigError(
            f"folds = {folds} and split = {split!r} contradict each other",
            where=where,
            remedy="Folds are those of 5-fold cross-validation (split 'cv5'): drop one of the two.",
        )


def arms_of(entries: Sequence[str | Mapping[str, Json]], *, where: str) -> list[Arm]:
    """Read a suite's list of optimizers: names, or tables { name = ..., setting = value }."""
    arms = []
    for entry in entries:
        if isinstance(entry, str):
            arms.append(Arm(entry))
            continue
        settings = dict(entry)
        name = settings.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(f"an optimizer's table needs a name, found {dict(entry)!r}", where=where)
        arms.append(Arm(name, settings))
    return arms


def optimizers_of(suite: SuiteTable) -> list[str]:
    """Name a suite's optimizers, each once."""
    return list(dict.fromkeys(arm.optimizer for arm in arms_of(suite.optimizers, where=suite.title)))


def check_arm(arm: Arm, *, where: str) -> None:
    """Raise ConfigError for an unknown optimizer, an unknown setting or a value of another type."""
    from samcmp import optim

    check_members("optimizer", [arm.optimizer], where=where)
    entry = optim.entry(arm.optimizer)
    others = arm.settings if entry.others is None else entry.others
    defaults = {**dict.fromkeys(others), **OWN, **entry.settings}
    for key, value in arm.settings.items():
        if key not in defaults:
            raise _unknown_setting(arm.optimizer, key, list(defaults), where=where)
        problem = misfit(value, defaults[key])
        least = "at least" if key == "weight_decay" else "above"
        if not problem and key in OWN and not (0 < value <= MOST or (value == 0 and least == "at least")):
            problem = f"must be {least} 0 and at most {MOST:g}, found {value:g}"
        if problem:
            raise ConfigError(
                f"{arm.optimizer}.{key}: {problem}", where=where, remedy=f"The default is {defaults[key]!r}."
            )


def _unknown_setting(optimizer: str, key: str, allowed: Sequence[str], *, where: str) -> ConfigError:
    meant = _OTHERWISE_CALLED.get(key)
    if meant is None:
        return _config_unknown(f"setting of {optimizer}", key, allowed, where=where)
    return ConfigError(
        f"unknown setting of {optimizer} {key!r}",
        where=where,
        remedy=f"Did you mean {meant!r}, {_ABOUT_OWN[meant]}? Allowed: {', '.join(sorted(allowed))}.",
    )


def with_own(arm: Arm, protocol: Protocol) -> Arm:
    """Tell apart what belongs to the optimizer and to its training, and drop what equals the default."""
    from samcmp import optim

    defaults = optim.entry(arm.optimizer).settings
    own = {key: value for key, value in arm.settings.items() if key in OWN and key not in defaults}
    settings = {key: value for key, value in arm.settings.items() if key not in own}
    usual = {**OWN, "weight_decay": protocol.weight_decay}
    return Arm(arm.optimizer, differing(settings, defaults), differing(own, usual))
