"""The catalogue of models, of molecules and of images: one model, one file, and a line here.

Importing this module costs nothing: a model's file (and torch) is read when the model is built. A file offers

* ``Config``: a frozen dataclass with the paper's settings as defaults and, for molecules, a property ``columns``;
* ``Model(config, tasks)``: a ``torch.nn.Module`` whose ``forward(batch)`` returns (G, T) logits or standardised values;
  of a multiclass target T is the number of classes;
* ``prepare(graph)``, optional: per-molecule work done once, before any timing;
* ``DATASET_SETTINGS``, optional: settings that the authors chose for one dataset.

Other packages add models through the entry-point group ``samcmp.backbones``: each entry point is an :class:`Entry`.
A user's own ``torch.nn.Module`` is named ``my_file.py:MyModel``, see :mod:`samcmp.backbones.user`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from samcmp import modules
from samcmp.errors import UsageError, unknown
from samcmp.machine import plugins
from samcmp.records import Holds, misfit

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from samcmp.graphs.batch import MolGraph

ENTRY_POINTS = "samcmp.backbones"
ATOM_WIDTHS: Mapping[str, int] = {"chemprop-v1": 133, "chemprop-v2": 72, "grover": 151, "compt": 115}
BOND_WIDTHS: Mapping[str, int] = {"chemprop": 14, "compt": 13}

Config = Any  # each model's own frozen dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the catalogue: the file that holds the model and the settings that this name changes."""

    module: str
    summary: str
    paper: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    reads_order: bool = False  # whether predictions depend on the order of a molecule's atoms, as published
    reads: Holds = "molecules"  # what a batch holds


def _entry(
    module: str, summary: str, paper: str, *, reads_order: bool = False, reads: Holds = "molecules", **settings: Any
) -> Entry:
    return Entry(f"samcmp.backbones.{module}", summary, paper, settings, reads_order, reads)


_GROVER = "Rong et al., NeurIPS 2020, arXiv:2007.02835"
_PUBLISHED: dict[str, Any] = {"depth": 6, "heads": 4, "activation": "prelu", "dropout": 0.1}

BACKBONES: dict[str, Entry] = {
    "gcn": _entry(
        "gcn", "graph convolution, 3 layers of 128, mean over atoms", "Kipf and Welling, ICLR 2017, arXiv:1609.02907"
    ),
    "mpnn": _entry(
        "mpnn", "message passing with a matrix per kind of bond, GRU update, Set2Set read-out",
        "Gilmer et al., ICML 2017, arXiv:1704.01212",
    ),
    "dmpnn": _entry(
        "dmpnn", "messages along directed bonds, hidden 300, depth 3", "Yang et al., JCIM 2019, 59, 3370"
    ),
    "cmpnn": _entry(
        "cmpnn", "communicating atom and bond messages, GRU over the atoms as read-out", "Song et al., IJCAI 2020",
        reads_order=True,
    ),
    "grover": _entry(
        "grover", "graph transformer, hidden 100, depth 3, 4 heads: what the GraphSAM authors released", _GROVER,
        hidden=100, depth=3, heads=4, activation="relu", dropout=0.0,
    ),
    "grover-base": _entry(
        "grover", "graph transformer, hidden 800, depth 6, 4 heads, PReLU, dropout 0.1: the published checkpoint's",
        _GROVER, hidden=800, **_PUBLISHED,
    ),
    "grover-large": _entry(
        "grover", "graph transformer, hidden 1200, depth 6, 4 heads, PReLU, dropout 0.1", _GROVER,
        hidden=1200, **_PUBLISHED,
    ),
    "compt": _entry(
        "compt", "communicative transformer with distance decay, settings per dataset",
        "Chen et al., IJCAI 2021, arXiv:2107.08773", reads_order=True,
    ),
    "resnet18": _entry(
        "resnet18", "residual network of 18 layers for images of 32 x 32 pixels",
        "He et al., CVPR 2016, arXiv:1512.03385", reads="images",
    ),
}  # fmt: skip


def _third_party() -> Mapping[str, Entry]:
    return plugins(ENTRY_POINTS, Entry)


def names() -> list[str]:
    """Return every name that :func:`entry` knows, ours first."""
    return [*BACKBONES, *(name for name in _third_party() if name not in BACKBONES)]


def is_user_model(name: str) -> bool:
    """Tell whether ``name`` is a user's own model, written ``file.py:Class`` or ``package.module:Class``."""
    return ":" in name


def is_foreign(name: str) -> bool:
    """Tell whether code of others runs under this name."""
    return name not in BACKBONES


def entry(name: str) -> Entry:
    """Return the catalogue's entry for ``name``; :class:`UsageError` with the nearest name where there is none."""
    if is_user_model(name):
        return Entry("samcmp.backbones.user", "a model of your own", "", {"source": name})
    found = BACKBONES.get(name) or _third_party().get(name)
    if found is None:
        raise unknown("model", name, names(), where="--model")
    return found


def module_of(config: Config) -> ModuleType:
    """Return the model file that ``config`` comes from."""
    return sys.modules[type(config).__module__]


def reads_order(config: Config) -> bool:
    """Tell whether the model reads the atoms of a molecule as a sequence."""
    known = {**_third_party(), **BACKBONES}.values()
    return any(each.reads_order for each in known if each.module == type(config).__module__)


def reads(config: Config) -> Holds:
    """Return what a batch of the model holds: molecules or images."""
    known = {**_third_party(), **BACKBONES}.values()
    return next((each.reads for each in known if each.module == type(config).__module__), "molecules")


def build_config(name: str, *, dataset: str | None = None, settings: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration of ``name``: defaults, then what the name says, the dataset's settings, yours.

    Raises :class:`UsageError` for a setting that the model does not have.
    """
    chosen = entry(name)
    module = importlib.import_module(chosen.module)
    if is_user_model(name):
        return module.build_config(name, settings or {})
    by_dataset: Mapping[str, Mapping[str, Any]] = getattr(module, "DATASET_SETTINGS", {})
    base = replace(module.Config(), **{**chosen.settings, **by_dataset.get(dataset or "", {})})
    given = dict(settings or {})
    allowed = [f.name for f in fields(base)]
    for key, value in given.items():
        if key not in allowed:
            raise unknown("model setting", key, allowed, where=f"--model {name}")
        problem = misfit(value, getattr(base, key))
        if problem:
            raise UsageError(f"{key}: {problem}", where=f"--model {name}", remedy=_defaults(base, [key]))
    try:
        return replace(base, **given)
    except ValueError as error:
        raise UsageError(str(error), where=f"--model {name}", remedy=_defaults(base, given)) from error
    except TypeError:  # a default of None tells no type
        raise UsageError(
            f"a value of another type than the model takes: {', '.join(f'{k}={v!r}' for k, v in given.items())}",
            where=f"--model {name}",
            remedy=_defaults(base, given),
        ) from None


def _defaults(base: Config, keys: Iterable[str]) -> str:
    return f"The default is {', '.join(f'{key}={getattr(base, key)!r}' for key in keys)}."


def defaults(name: str, *, dataset: str) -> Mapping[str, Any]:
    """Return the settings of ``name`` where nothing is asked for, read from its file without importing it.

    A setting whose default is not written as a plain value is not among them.
    """
    if is_user_model(name):
        place, _, class_name = name.rpartition(":")
        return {"features": "chemprop-v1", **modules.constructor(place, class_name).defaults}
    chosen = entry(name)
    by_dataset = modules.constants(chosen.module).get("DATASET_SETTINGS", {})
    own = by_dataset.get(dataset.partition("@")[0], {})
    return {**modules.defaults(chosen.module, "Config"), **chosen.settings, **own}


def build(config: Config, tasks: int) -> nn.Module:
    """Return a new model with ``tasks`` outputs; its weights come from torch's global generator."""
    model: nn.Module = module_of(config).Model(config, tasks)
    return model


def prepare_of(config: Config) -> Callable[[MolGraph], dict[str, np.ndarray]] | None:
    """Return the model file's ``prepare``, or None where a model needs no per-molecule work."""
    return getattr(module_of(config), "prepare", None)
