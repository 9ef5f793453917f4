"""What training looks like inside: gradients, alignment, landscape, sharpness, attention, each beside its definition.

This module is the catalogue of measurements and their nouns; it does not import torch. A measurement is a function
of a :class:`Context` that returns :class:`Parts`; a unit of work is one measurement of one run (or of a pair of them),
and its result, an :class:`Inspection`, is kept under the content key of everything that decides it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from samcmp.records import Accuracy, Case, Holds, Json, Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from samcmp.training.loop import Batch
    from samcmp.training.setup import Setup

SCHEMA = 1  # of a stored Inspection


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may say about the measurements."""

    weights: Literal["best", "last"] = "best"  # of the epoch that the test score rests on, or of the last
    molecules: int | None = 256  # training molecules for measurements at weights; None: all
    every: int = 1  # gradients: true ones at the steps t with t mod every in {0, 1}
    directions: int = 5  # landscape
    points: int = 21  # landscape, along a direction; path
    direction: Literal["filter", "gaussian"] = "filter"  # landscape, surface: Li et al. (2018), or as drawn
    radius: float = 0.05  # sharpness: r of m-sharpness
    row: int | None = None  # attention: the molecule of the heat map; None: one of median size


@dataclass(frozen=True, slots=True)
class Parts:
    """What one measurement came to. What could not be measured is in ``missing``, with its reason."""

    scalars: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)  # name of a scalar or an array -> why it is not there
    passes: float = 0.0  # over the chosen molecules: a forward and backward pass counts 1, a forward one a third


@dataclass(frozen=True, slots=True)
class Context:
    """What a measurement at fixed weights is given: a model in evaluation mode and batches that never change."""

    setup: Setup
    model: nn.Module
    train: tuple[Batch, ...]  # the chosen training molecules
    test: tuple[Batch, ...]
    settings: Settings
    seed: int  # of directions and probes: the split's, so that all optimizers share their draws
    other: Mapping[str, Tensor] | None = None  # path: the other run's weights, by name
    say: Callable[[int, int], None] = lambda done, total: None  # progress


@dataclass(frozen=True, slots=True)
class Measurement:
    """A line of the catalogue."""

    function: str  # module:function, Context -> Parts
    summary: str
    settings: tuple[str, ...]  # fields of Settings that decide the result
    passes: Callable[[Settings], float]  # expected, over the chosen molecules
    watched: bool = False  # measured while the run trains, of another kind than the others: see samcmp.inspection.watch
    pair: bool = False  # of two optimizers' runs on one split and seed
    needs: str = ""  # a method that the model must have

    @property
    def module(self) -> str:
        """That the function is in, whose code decides the result."""
        return self.function.partition(":")[0]

    def load(self) -> Callable[[Context], Parts]:
        """Import the function."""
        module, _, name = self.function.partition(":")
        made: Callable[[Context], Parts] = getattr(importlib.import_module(module), name)
        return made

    def of(self, settings: Settings) -> dict[str, Json]:
        """Return the settings that decide the result, as its key holds them."""
        return {f.name: getattr(settings, f.name) for f in fields(settings) if f.name in self.settings}


_AT_WEIGHTS = ("weights", "molecules")
WHAT: dict[str, Measurement] = {
    "gradients": Measurement(
        "samcmp.inspection.gradients:of_steps",
        "how gradients and directions change, and whether they align with SAM's",
        ("every",), lambda s: 0.0, watched=True,
    ),
    "landscape": Measurement(
        "samcmp.inspection.landscape:measure", "the loss along random directions",
        (*_AT_WEIGHTS, "directions", "points", "direction"), lambda s: 4 / 3 + s.directions * (s.points - 1) / 3,
    ),
    "surface": Measurement(
        "samcmp.inspection.surface:measure", "the loss over two random directions",
        (*_AT_WEIGHTS, "direction"), lambda s: 1 + 625 / 3,
    ),
    "path": Measurement(
        "samcmp.inspection.path:measure", "the loss between two optimizers' weights",
        (*_AT_WEIGHTS, "points"), lambda s: 1 + 2 * s.points / 3, pair=True,
    ),
    "sharpness": Measurement(
        "samcmp.inspection.sharpness:measure", "m-sharpness, adaptive sharpness, extreme eigenvalues and trace",
        (*_AT_WEIGHTS, "radius"), lambda s: 52,
    ),
    "attention": Measurement(
        "samcmp.inspection.attention:measure", "the entropy of attention, and one molecule's map",
        ("weights", "row"), lambda s: 2 / 3, needs="attention",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trained:
    """A training run as far as it is no question of time: a Record's seconds would be those of a watched run."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    train_key: str
    case: Case
    status: Status
    reason: str | None = None
    accuracy: Accuracy | None = None
    history: tuple[Mapping[str, Json], ...] = ()  # epochs, without their seconds
    dataset_hash: str = ""
    split_hash: str = ""
    parameters: int | None = None
    holds: Holds = "molecules"  # what the dataset holds
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Json] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of one unit: one measurement of one run, or of a pair of runs."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    key: str
    what: str
    settings: Mapping[str, Json]
    run: Trained
    other: Trained | None = None  # path: the run that it leads to
    scalars: Mapping[str, float] = field(default_factory=dict)  # finite
    missing: Mapping[str, str] = field(default_factory=dict)  # name of a scalar or an array -> why it is not there
    passes: float = 0.0
    created: str = ""  # ISO 8601, UTC
    schema: int = SCHEMA

    @property
    def train_key(self) -> str:
        return self.run.train_key

    @property
    def case(self) -> Case:
        return self.run.case


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """An Inspection with its arrays."""

    inspection: Inspection
    arrays: Mapping[str, NDArray[np.generic]]
