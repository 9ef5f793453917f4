"""A user's own model: any ``torch.nn.Module`` that takes a torch-geometric batch, named ``my_file.py:MyModel``.

The class is called with those of these numbers that its ``__init__`` names, and with the settings that were given:

    tasks, num_tasks, out_channels     columns of y
    atom_features, in_channels         columns of x
    bond_features, edge_dim            columns of edge_attr

``forward(batch)`` gets x, edge_index, edge_attr, batch, ptr and y, and returns (G, T) logits or standardised values.
The setting ``features`` chooses the columns of x; ``package.module:MyModel`` names an installed class.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from samcmp import modules
from samcmp.backbones import ATOM_WIDTHS, BOND_WIDTHS
from samcmp.errors import UsageError, unknown
from samcmp.graphs.batch import Columns, GraphBatch

_PREFIX = "samcmp_user_model_"  # of the module that a file becomes


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
        with _helpers_of(imported(config.source.rpartition(":")[0], where=f"--model {config.source}")):
            self.model = made(**arguments(made, config, tasks=tasks))

    def forward(self, batch: GraphBatch) -> Tensor:
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
    module = imported(place, where=where)
    found = getattr(module, name, None)
    if found is None:
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        raise unknown("class", name, classes, where=where)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise UsageError(f"{name!r} is not a torch.nn.Module", where=where, remedy="Name a class that derives from it.")
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


def imported(place: str, *, where: str) -> ModuleType:
    """Return the module of a user's file, run once for each state of it, or an installed module.

    Raises :class:`UsageError`.
    """
    if place.endswith(".py") and not Path(place).is_file():
        raise UsageError(
            f"there is no file {place}", where=where, remedy="Write file.py:Class with a path to your file."
        )
    try:
        return _of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except Exception as error:
        remedy = "Correct the file." if place.endswith(".py") else "Install the package, or write file.py:Class."
        raise UsageError(
            f"importing {place} raised {type(error).__name__}: {error}", where=where, remedy=remedy
        ) from error


def _of_file(path: Path) -> ModuleType:
    code = modules.closure([str(path)])
    name = f"{_PREFIX}{hashlib.sha256(repr(code).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # as for every name that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _helpers_of(module):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


_helpers: dict[str, dict[str, ModuleType]] = {}  # a user's file, by its module's name -> what it imported beside it


@contextmanager
def _helpers_of(module: ModuleType) -> Iterator[None]:
    """Let a user's file import what lies beside it, as Python does for a script; for everybody else nothing changes.

    Two files in two folders may each have a helper of the same name: each gets its own.
    """
    if not module.__name__.startswith(_PREFIX):
        yield
        return
    folder, mine = Path(str(module.__file__)).resolve().parent, _helpers.setdefault(module.__name__, {})
    names = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/__init__.py")}
    names -= {"samcmp", *sys.stdlib_module_names}
    foreign = [key for key in sys.modules if key.partition(".")[0] in names and not _is_in(folder, key)]
    hidden = {key: sys.modules.pop(key) for key in foreign}
    before, path, caching = {*sys.modules}, [*sys.path], (sys.pycache_prefix, sys.dont_write_bytecode)
    sys.pycache_prefix, sys.dont_write_bytecode = os.devnull, True  # a cached file can be that of other content
    sys.modules.update(mine)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        sys.pycache_prefix, sys.dont_write_bytecode = caching
        mine |= {key: sys.modules[key] for key in {*sys.modules} - before if _is_in(folder, key)}
        for key in mine:
            sys.modules.pop(key, None)
        sys.modules.update(hidden)


def _is_in(folder: Path, name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None)
    path = Path(file or "/").resolve()
    return path.is_relative_to(folder) and "site-packages" not in path.relative_to(folder).parts
