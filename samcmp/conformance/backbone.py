"""What every model promises, tried on any model: ours, a third party's, a user's own.

    report = check_config(backbones.build_config("dmpnn"))
    print(report)

Each promise is tried on a handful of molecules in float64. A promise that a model by its nature does not give
(a read-out that reads the atoms as a sequence depends on their order) is reported as not applicable, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from samcmp.conformance.backbone_promises import PROMISES, Subject
from samcmp.conformance.report import Report, try_each
from samcmp.graphs.batch import Columns


def check_config(config: Any, **settings: Any) -> Report:
    """Try every promise on the model of a configuration; ``settings`` are those of :class:`Subject`."""
    from samcmp import backbones

    return check_backbone(
        lambda tasks: backbones.build(config, tasks),
        columns=config.columns,
        prepare=backbones.prepare_of(config),
        **{"order_matters": backbones.reads_order(config), **settings},
    )


def check_backbone(build: Callable[[int], nn.Module], *, columns: Columns, **settings: Any) -> Report:
    """Try every promise on ``build(tasks)``; ``columns`` and ``settings`` are those of :class:`Subject`."""
    return try_each(PROMISES, Subject(build, columns, **settings))
