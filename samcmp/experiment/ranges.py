"""[tuning] of benchmarks.toml, read and checked: which settings a tuned comparison searches, and where.

Settings that change what a step costs are arms of a comparison, never tuned, so that one profile serves all trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from samcmp.analysis.draws import BASES, SHARED, Choice, Range, Ranges
from samcmp.errors import ConfigError, unknown
from samcmp.records import misfit

COSTLY = ("k", "K", "p", "share", "delta", "lambda1", "lambda2", "start_epoch")
MOST_OWN = len(BASES) - len(SHARED)


@dataclass(frozen=True, slots=True)
class SearchRanges:
    """What is searched: for every optimizer, and beside it for some."""

    shared: Ranges = field(default_factory=dict)
    optimizers: Mapping[str, Ranges] = field(default_factory=dict)

    def of(self, optimizer: str) -> Ranges:
        return {**self.shared, **self.optimizers.get(optimizer, {})}


def read(table: Mapping[str, Any], *, where: str) -> SearchRanges:
    """Read the table [tuning]. Raises ConfigError or UsageError for a name or a range that does not fit."""
    shared = {name: _range(table[name], 1.0, where=f"{where}.{name}") for name in SHARED}
    for name, searched in shared.items():
        values = searched.values if isinstance(searched, Choice) else ()
        if any(value < 0.0 or (value == 0.0 and name == "learning_rate") for value in values):
            raise ConfigError(f"must be above 0, found {min(values):g}", where=f"{where}.{name}")
    own = {
        optimizer: _of_optimizer(optimizer, settings, where=f"{where}.optimizers.{optimizer}")
        for optimizer, settings in table["optimizers"].items()
    }
    return SearchRanges(shared, own)


def _of_optimizer(optimizer: str, table: Mapping[str, Any], *, where: str) -> Ranges:
    from samcmp import optim

    if not optim.is_user_optimizer(optimizer) and optimizer not in optim.names():
        raise unknown("optimizer", optimizer, optim.names(), where=where)
    entry = optim.entry(optimizer)
    defaults = {**dict.fromkeys(table if entry.others is None else entry.others), **entry.settings}
    if len(table) > MOST_OWN:
        raise ConfigError(f"{len(table)} settings are searched, at most {MOST_OWN} can be", where=where)
    for key in table:
        if key in SHARED:
            raise ConfigError(
                f"{key} is searched alike for every optimizer", where=f"{where}.{key}", remedy=f"Set [tuning] {key}."
            )
        if key in COSTLY or key == "times":
            costs = "training" if key == "times" else "a step"
            raise ConfigError(
                f"{key} changes what {costs} costs: cannot be tuned",
                where=f"{where}.{key}",
                remedy=f"Make arms of its values: --set {optimizer}.{key}={'1,2' if key == 'times' else '4,8'}",
            )
        if key not in defaults:
            raise unknown(f"setting of {optimizer}", key, defaults, where=where)
    return {key: _range(value, defaults[key], where=f"{where}.{key}") for key, value in table.items()}


def _range(value: Any, default: Any, *, where: str) -> Range | Choice:
    """Read { low, high } or a list of values, each of the setting's type."""
    if isinstance(value, list) and value:
        for one in value:
            if problem := misfit(one, default):
                raise ConfigError(problem, where=where, remedy=f"The default is {default!r}.")
        return Choice(tuple(float(one) if isinstance(default, float) else one for one in value))
    if not isinstance(value, Mapping) or set(value) != {"low", "high"}:
        raise ConfigError(
            f"expected {{ low = ..., high = ... }} or a list of values, found {value!r}",
            where=where,
            remedy="A table is searched log-uniformly, a list is a choice.",
        )
    if default is not None and not isinstance(default, float):
        raise ConfigError(
            "a range is of numbers with decimals", where=where, remedy=f"List the values to try, such as [{default!r}]."
        )
    low, high = (_number(value[end], where=f"{where}.{end}") for end in ("low", "high"))
    if not 0.0 < low < high:
        raise ConfigError(
            f"low must be above 0 and below high, found {low:g} and {high:g}",
            where=where,
            remedy="Ranges are logarithmic; a list is a choice.",
        )
    return Range(low, high)


def _number(value: Any, *, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"expected a finite number, found {value!r}", where=where)
    return float(value)
