"""What ``--set`` asks for, and the optimizers with their settings that come of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from samcmp.errors import UsageError, unknown
from samcmp.experiment import suites as suite_file
from samcmp.experiment.suites import Arm, Suites
from samcmp.records import Json, differing, read_value


@dataclass(frozen=True, slots=True)
class Setting:
    """One ``--set owner.key=value[,value...]``."""

    owner: str  # an optimizer or a model
    key: str
    values: tuple[Json, ...]
    where: str  # as it was typed


def read(entries: Sequence[str], optimizers: Sequence[str], models: Sequence[str]) -> list[Setting]:
    """Read the entries of ``--set``. Raises UsageError for one that does not belong to this run."""
    found: dict[tuple[str, str], Setting] = {}
    for entry in entries:
        setting = _read(entry)
        if setting.owner not in {*optimizers, *models}:
            raise _stranger(setting, optimizers, models)
        if len(setting.values) > 1 and setting.owner in models:
            raise UsageError(
                "a model's setting takes one value",
                where=setting.where,
                remedy="Run the command once for each value.",
            )
        if (setting.owner, setting.key) in found:
            raise UsageError(
                f"{setting.owner}.{setting.key} is set twice",
                where=setting.where,
                remedy=f"Set it once; several values are a sweep: --set {setting.owner}.{setting.key}=VALUE,VALUE.",
            )
        found[setting.owner, setting.key] = setting
    return list(found.values())


def _read(entry: str) -> Setting:
    target, equals, text = entry.partition("=")
    owner, dot, key = target.strip().rpartition(".")
    if not (equals and dot and owner and key and text.strip()):
        raise UsageError(
            f"{entry!r} is not of the form OPTIMIZER.KEY=VALUE or MODEL.KEY=VALUE",
            where="--set",
            remedy="For example --set graphsam.rho=0.05, or a sweep: --set graphsam.rho=0.05,0.005.",
        )
    parts = tuple(read_value(part.strip()) for part in text.split(","))
    return Setting(owner, key.replace("-", "_"), parts, f"--set {entry}")


def _stranger(setting: Setting, optimizers: Sequence[str], models: Sequence[str]) -> UsageError:
    """Refuse a setting of something that is not part of this run, or that does not exist."""
    for kind, run in (("optimizer", optimizers), ("model", models)):
        if setting.owner in suite_file.catalogue(kind):
            return UsageError(
                f"{setting.owner!r} is not among the {kind}s of this run",
                where=setting.where,
                remedy=f"Add --{kind} {setting.owner}, or set one of: {', '.join(dict.fromkeys(run))}.",
            )
    return unknown("optimizer or model", setting.owner, {*optimizers, *models}, where=setting.where)


def arms(suites: Suites, entries: Iterable[Arm], *, given: Sequence[Setting], where: str) -> list[Arm]:
    """Give every optimizer its settings; one with several values makes an arm of each. Raises ConfigError."""
    from samcmp import optim

    made: list[Arm] = []
    for entry in entries:
        own = [setting for setting in given if setting.owner == entry.optimizer]
        for chosen in itertools.product(*(setting.values for setting in own)):
            swept = dict(zip((setting.key for setting in own), chosen, strict=True))
            arm = Arm(entry.optimizer, {**suites.settings.get(entry.optimizer, {}), **entry.settings, **swept})
            suite_file.check_arm(arm, where=_where(own) or where)
            arm = Arm(arm.optimizer, differing(arm.settings, optim.entry(arm.optimizer).settings))
            if arm not in made:
                made.append(arm)
    return made


def written(
    suites: Suites, arms: Iterable[Arm], *, given: Sequence[Setting], models: Iterable[str]
) -> Mapping[str, str]:
    """Say of each arm and model where a user wrote its settings; those of the shipped file are known to be good."""
    found: dict[str, str] = {}
    for arm in arms:
        typed = _where(setting for setting in given if setting.owner == arm.optimizer)
        if typed or (arm.settings and suites.path != suite_file.DEFAULT_FILE):
            found[arm.name] = typed or f"{suites.path}: {arm.name}"
    for model in models:
        typed = _where(setting for setting in given if setting.owner == model)
        if typed or ":" in model:
            found[model] = typed or f"--model {model}"
    return found


def _where(given: Iterable[Setting]) -> str:
    return " ".join(setting.where for setting in given)
