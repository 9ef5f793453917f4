"""The numbers that the GraphSAM paper prints, each with what a reader should know about it.

``published.csv`` holds every cell of its tables 1, 2, 3 and 6 to 11 (Wang et al., "Efficient Sharpness-Aware
Minimization for Molecular Graph Transformer Models", ICLR 2024), ``published_flags.csv`` the flags and their reasons.
Whether the printed tables were made with the released code is not known: a flag is no proof that a number is wrong.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from samcmp import optim

# what the paper states as its own choice, whatever the catalogue's defaults come to be
STATED: Mapping[str, Mapping[str, object]] = {
    "sam": {"rho": 0.05, "rho_schedule": "constant", "gamma": 0.5, "period": 1},
    "graphsam": {"rho": 0.05, "rho_schedule": "step", "gamma": 0.5, "period": 1, "beta": 0.99},
    "looksam": {"rho": 0.0001, "alpha": 0.2, "k": 8},
    "sam-k": {"k": 8},
}
# of a model, what the paper leaves open: run so or not, ours stands beside its number
UNSTATED: Mapping[str, Mapping[str, object]] = {"grover": {"molecule_features": "rdkit2d"}}
REPEATS = 25  # the paper: 5-fold cross-validation, repeated five times
TEST_OVER_TRAIN = 0.1 / 0.8  # the paper: random split 0.8/0.1/0.1
SCHEDULED = {"rho_schedule": "step"}  # the paper's SAM on CoMPT
NUMBERS = frozenset({"rho", "rho_schedule", "gamma", "period", "beta", "alpha"})  # settings that cost no time
METRICS = {"roc_auc": "roc-auc", "accuracy_percent": "accuracy"}  # the file's name -> ours
DATASETS = {"lipophilicity": "lipo"}


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
    dataset: str  # as samcmp calls it
    model: str
    optimizer: str
    setting: str  # the one that the table varies, such as beta=0.99; else empty
    settings: Mapping[str, object] = field(hash=False)  # all of the optimizer's, as far as the paper lets one know
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
    pretrained: bool = False,
) -> Published | None:
    """Return the printed cell of an arm, or None. Of several, one of the given table wins, then one with a deviation.

    An arm belongs to the cell that was run with all of its settings, given or left at their defaults: SAM of a
    constant radius to table 8's ``rho=0.05``, SAM with ``rho_schedule="step"`` to the CoMPT cells called SAM.
    """
    cells = _printed(dataset, model, optimizer, settings or {}, pretrained=pretrained)
    return max(cells, key=lambda cell: (cell.table == table, cell.sd is not None), default=None)


def find_speed(
    dataset: str,
    model: str,
    optimizer: str,
    *,
    settings: Mapping[str, object] | None = None,
    pretrained: bool = False,
) -> Published | None:
    """Return the printed cell with the throughput of an arm (tables 2 and 7), whatever its radius, or None."""
    own = {key: value for key, value in (settings or {}).items() if key not in NUMBERS}
    cells = _printed(dataset, model, optimizer, own, ignored=NUMBERS, pretrained=pretrained)
    return next((cell for cell in cells if cell.graphs_per_second is not None), None)


def _printed(
    dataset: str,
    model: str,
    optimizer: str,
    settings: Mapping[str, object],
    *,
    ignored: frozenset[str] = frozenset(),
    pretrained: bool,
) -> list[Published]:
    name = dataset.removesuffix("@compt")  # the molecules that CoMPT's authors kept: what the paper's CoMPT saw
    where = (DATASETS.get(name, name), "grover-pretrained" if pretrained and model.startswith("grover") else model)
    known = defaults(optimizer)
    if not settings.keys() <= known.keys():
        return []
    arm = {**known, **settings}
    return [
        cell
        for cell in load()
        if (cell.dataset, cell.model, cell.optimizer) == (*where, optimizer)
        and all(arm[key] == value for key, value in cell.settings.items() if key not in ignored)
    ]


def defaults(optimizer: str) -> Mapping[str, object]:
    """The settings of an optimizer of the catalogue; empty for others."""
    return optim.OPTIMIZERS[optimizer].settings if optimizer in optim.OPTIMIZERS else {}


def _settings(row: Mapping[str, str]) -> Mapping[str, object]:
    """Return the settings that a printed cell was run with.

    The paper says for no table but 8 how SAM's radius moves. Its CoMPT runs follow the scheduler: table 1 prints the
    means of table 8's scheduler on all six datasets. Nothing tells for GROVER, whose released SAM keeps the radius.
    """
    optimizer, (key, _, value) = row["optimizer"], row["setting"].partition("=")
    settings = {**defaults(optimizer), **STATED.get(optimizer, {})}
    if value == "scheduler":
        settings |= SCHEDULED
    elif key:
        settings[key] = float(value)
        if key == "rho":
            settings["rho_schedule"] = "constant"
    elif optimizer == "sam" and row["model"] == "compt":
        settings |= SCHEDULED
    elif optimizer == "sam":
        del settings["rho_schedule"]
    return settings


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("samcmp.analysis").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _rule(row: Mapping[str, str]) -> _Rule:
    sets = (frozenset(row[key].split()) for key in ("tables", "datasets", "models", "optimizers"))
    return _Rule(Flag(row["flag"], row["about"], row["why"]), *sets)


def _published(row: Mapping[str, str], rules: list[_Rule]) -> Published:
    return Published(
        table=int(row["table"]),
        dataset=DATASETS.get(row["dataset"], row["dataset"]),
        model=row["model"],
        optimizer=row["optimizer"],
        setting=row["setting"],
        settings=_settings(row),
        metric=METRICS.get(row["metric"], row["metric"]),
        value=float(row["value"]) / (100 if row["metric"].endswith("_percent") else 1),
        sd=float(row["std"]) if row["std"] else None,
        graphs_per_second=float(row["graphs_per_second"]) if row["graphs_per_second"] else None,
        flags=tuple(rule.flag for rule in rules if rule.holds(row)),
    )
