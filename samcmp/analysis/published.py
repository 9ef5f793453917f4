"""The numbers that the GraphSAM paper prints, each with what a reader should know about it.

``published.csv`` holds every cell of its tables 1, 2, 3 and 6 to 11 (Wang et al., "Efficient Sharpness-Aware
Minimization for Molecular Graph Transformer Models", ICLR 2024), ``published_flags.csv`` the flags and their reasons.
Whether the printed tables were made with the released code is not known: a flag is no proof that a number is wrong.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

# what the paper states as its own choice; an arm with these settings is the paper's arm
PAPER_SETTINGS: Mapping[str, Mapping[str, object]] = {
    "graphsam": {"rho": 0.05, "gamma": 0.5, "beta": 0.99, "lam": 1},
    "looksam": {"rho": 0.0001, "alpha": 0.2, "k": 8},
    "sam-k": {"k": 8},
}
REPEATS = 25  # the paper: 5-fold cross-validation, repeated five times
TEST_OVER_TRAIN = 0.1 / 0.8  # the paper: random split 0.8/0.1/0.1
_METRICS = {"roc_auc": "roc-auc"}


@dataclass(frozen=True, slots=True)
class Flag:
    """What to know about a printed number, and where that comes from."""

    name: str
    about: str  # accuracy or speed
    why: str


@dataclass(frozen=True, slots=True)
class Published:
    """One printed cell."""

    table: int
    dataset: str
    model: str
    optimizer: str
    setting: str  # the one that the table varies, such as beta=0.99; else empty
    metric: str
    value: float
    sd: float | None
    graphs_per_second: float | None
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    flag: Flag
    tables: frozenset[str]
    datasets: frozenset[str]
    models: frozenset[str]
    optimizers: frozenset[str]

    def holds(self, row: Mapping[str, str]) -> bool:
        pairs = (
            (self.tables, row["table"]),
            (self.datasets, row["dataset"]),
            (self.models, row["model"]),
            (self.optimizers, row["optimizer"]),
        )
        return all("*" in allowed or value in allowed for allowed, value in pairs)


@functools.cache
def load() -> tuple[Published, ...]:
    """Return every printed cell with its flags, in the paper's order."""
    rules = [_rule(row) for row in _rows("published_flags.csv")]
    return tuple(_published(row, rules) for row in _rows("published.csv"))


def find(
    dataset: str,
    model: str,
    optimizer: str,
    *,
    settings: Mapping[str, object] | None = None,
    table: int | None = None,
) -> Published | None:
    """Return the printed cell of an arm, or None. Of several, one with a deviation and of the given table wins.

    An arm belongs to a cell without setting when its settings are the paper's own, and to one with a setting, such
    as ``rho=0.005``, when that is what it changes.
    """
    wanted = _setting(optimizer, settings or {})
    if wanted is None:
        return None
    found = [
        cell
        for cell in load()
        if (cell.dataset, cell.model, cell.optimizer, cell.setting) == (dataset, model, optimizer, wanted)
        and (table is None or cell.table == table)
    ]
    return max(found, key=lambda cell: cell.sd is not None, default=None)


def find_speed(dataset: str, model: str, optimizer: str) -> Published | None:
    """Return the printed cell with the throughput of an optimizer (tables 2 and 7), or None."""
    of_it = (c for c in load() if (c.dataset, c.model, c.optimizer) == (dataset, model, optimizer))
    return next((cell for cell in of_it if cell.graphs_per_second is not None), None)


def _setting(optimizer: str, settings: Mapping[str, object]) -> str | None:
    own = PAPER_SETTINGS.get(optimizer, {})
    changed = {key: value for key, value in settings.items() if key not in own or own[key] != value}
    if not changed:
        return ""
    if len(changed) > 1:
        return None
    key, value = next(iter(changed.items()))
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("samcmp.analysis").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _rule(row: Mapping[str, str]) -> _Rule:
    sets = (frozenset(row[key].split()) for key in ("tables", "datasets", "models", "optimizers"))
    return _Rule(Flag(row["flag"], row["about"], row["why"]), *sets)


def _published(row: Mapping[str, str], rules: list[_Rule]) -> Published:
    return Published(
        table=int(row["table"]),
        dataset=row["dataset"],
        model=row["model"],
        optimizer=row["optimizer"],
        setting=row["setting"],
        metric=_METRICS.get(row["metric"], row["metric"]),
        value=float(row["value"]),
        sd=float(row["std"]) if row["std"] else None,
        graphs_per_second=float(row["graphs_per_second"]) if row["graphs_per_second"] else None,
        flags=tuple(rule.flag for rule in rules if rule.holds(row)),
    )
