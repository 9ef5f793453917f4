"""A user's own model: any ``torch.nn.Module`` that takes a torch-geometric batch, named ``my_file.py:MyModel``.

The class is called with those of these numbers that its ``__init__`` names, and with the settings that were given:

    tasks, num_tasks, out_channels     columns of y
    atom_features, in_channels         columns of x
    bond_features, edge_dim            columns of edge_attr

``forward(batch)`` gets x, edge_index, edge_attr, batch, ptr and y, and returns (G, T) logits or standardised values.
The setting ``features`` chooses the columns of x; ``package.module:MyModel`` names an installed class.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from samcmp.backbones import ATOM_WIDTHS, BOND_WIDTHS
from samcmp.errors import UsageError, unknown
from samcmp.graphs.batch import Columns, GraphBatch
from samcmp.userfile import class_in, helpers_of, imported, imports_late


@dataclass(frozen=True)
class Config:
    """Which class, with which settings."""

    source: str  # file.py:Class or package.module:Class
    features: str = "chemprop-v1"
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def columns(self) -> Columns:
        return Columns(self.features)


class Model(nn.Module):
    """The user's module behind the contract of all models."""

    def __init__(self, config: Config, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.source = config.source
        made = load_class(config.source)
        place = config.source.rpartition(":")[0]
        module = imported(place, where=f"--model {config.source}")
        self.imports_late = module if imports_late(place) else None
        with helpers_of(module):
            self.model = made(**arguments(made, config, tasks=tasks))

    def forward(self, batch: GraphBatch) -> Tensor:
        if self.imports_late is None:
            out = self.model(batch.to_pyg())
        else:
            with helpers_of(self.imports_late):
                out = self.model(batch.to_pyg())
        if not isinstance(out, Tensor):
            raise UsageError(
                f"forward returned {type(out).__name__}, not a tensor",
                where=f"--model {self.source}",
                remedy="Return one tensor of shape (graphs, tasks).",
            )
        if out.dim() == 1 and self.tasks == 1:
            out = out.unsqueeze(1)
        if out.shape != (batch.num_graphs, self.tasks):
            raise UsageError(
                f"forward returned shape {tuple(out.shape)} for {batch.num_graphs} graphs and {self.tasks} tasks",
                where=f"--model {self.source}",
                remedy="Return one row a graph and one column a task: pool over atoms with batch.batch.",
            )
        return out


def build_config(source: str, settings: Mapping[str, Any]) -> Config:
    """Return the configuration of a user's class. Raises :class:`UsageError` where file or class is not there."""
    rest = dict(settings)
    features = rest.pop("features", "chemprop-v1")
    if features not in ATOM_WIDTHS:
        raise unknown("set of atom columns", str(features), ATOM_WIDTHS, where=f"--model {source}")
    load_class(source)
    return Config(source, features, tuple(sorted(rest.items())))


def load_class(source: str) -> type[nn.Module]:
    """Return the class that ``source`` names. Raises :class:`UsageError`."""
    place, _, name = source.rpartition(":")
    where = f"--model {source}"
    found: type[nn.Module] = class_in(imported(place, where=where), name, (nn.Module,), where=where)
    return found


def arguments(made: type[nn.Module], config: Config, *, tasks: int) -> dict[str, Any]:
    """Return what ``made`` is called with: the numbers that it names, and the settings."""
    atoms, bonds = ATOM_WIDTHS[config.features], BOND_WIDTHS["chemprop"]
    offered = {
        **dict.fromkeys(("tasks", "num_tasks", "out_channels"), tasks),
        **dict.fromkeys(("atom_features", "in_channels"), atoms),
        **dict.fromkeys(("bond_features", "edge_dim"), bonds),
    }
    named = inspect.signature(made).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in named.values())
    chosen = dict(config.settings)
    for key in chosen:
        if key not in named and not anything:
            raise unknown("model setting", key, ["features", *named], where=f"--model {config.source}")
    given = {key: value for key, value in offered.items() if key in named} | chosen
    needed = [k for k, p in named.items() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    missing = [key for key in needed if key not in given]
    if missing:
        raise UsageError(
            f"its constructor needs {', '.join(missing)}",
            where=f"--model {config.source}",
            remedy=f"Give it as a model setting, or name it as one of: {', '.join(offered)}.",
        )
    return given
