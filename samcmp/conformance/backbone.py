"""What every model promises, tried on any model: ours, a third party's, a user's own.

    report = check_config(backbones.build_config("dmpnn"))
    print(report)

Each promise is tried on a handful of molecules in float64. A promise that a model by its nature does not give
(a read-out that reads the atoms as a sequence depends on their order) is reported as not applicable, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from samcmp.conformance.backbone_promises import PROMISES, Broken, NotApplicable, Subject
from samcmp.graphs import Columns


@dataclass(frozen=True, slots=True)
class Result:
    """One promise: kept, broken, or None where it does not apply; and what was found."""

    promise: str
    kept: bool | None
    found: str = ""


@dataclass(frozen=True)
class Report:
    """What came of all promises."""

    results: tuple[Result, ...]

    @cached_property
    def broken(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.kept is False)

    @property
    def ok(self) -> bool:
        return not self.broken

    def __getitem__(self, promise: str) -> Result:
        return next(result for result in self.results if result.promise == promise)

    def __str__(self) -> str:
        words = {True: "kept", False: "BROKEN", None: "n/a"}
        return "\n".join(f"{words[r.kept]:7} {r.promise}{f': {r.found}' if r.found else ''}" for r in self.results)


def check_config(config: Any, **settings: Any) -> Report:
    """Try every promise on the model of a configuration; ``settings`` are those of :class:`Subject`."""
    import backbones

    return check_backbone(
        lambda tasks: backbones.build(config, tasks),
        columns=config.columns,
        prepare=backbones.prepare_of(config),
        **{"order_matters": backbones.reads_order(config), **settings},
    )


def check_backbone(build: Callable[[int], nn.Module], *, columns: Columns, **settings: Any) -> Report:
    """Try every promise on ``build(tasks)``; ``columns`` and ``settings`` are those of :class:`Subject`."""
    subject = Subject(build, columns, **settings)
    return Report(tuple(_tried(name, check, subject) for name, check in PROMISES.items()))


def _tried(name: str, check: Callable[[Subject], str | None], subject: Subject) -> Result:
    try:
        return Result(name, True, check(subject) or "")
    except NotApplicable as reason:
        return Result(name, None, str(reason))
    except Broken as found:
        return Result(name, False, str(found))
    except Exception as error:  # whatever a model raises is what the report must say
        return Result(name, False, f"{type(error).__name__}: {error}")
