"""What there is to choose from, as frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from samcmp.api.arguments import PathLike, folders

if TYPE_CHECKING:
    import pandas


def datasets(cards: PathLike | Sequence[PathLike] | None = None) -> pandas.DataFrame:
    """Return the datasets, one row each: name, title, kind, size, task, targets, metric, whether it is cached."""
    from samcmp.cli import list as catalogue

    return _catalogue(catalogue.datasets(tuple(folders(cards) or ())))


def models() -> pandas.DataFrame:
    """Return the models, one row each: name, what it is, its paper."""
    from samcmp.cli import list as catalogue

    return _catalogue(catalogue.models())


def optimizers() -> pandas.DataFrame:
    """Return the optimizers, one row each: name, passes per step, what it is, its paper, its settings and defaults."""
    from samcmp.cli import list as catalogue

    return _catalogue(catalogue.optimizers())


def _catalogue(rows: list[dict[str, Any]]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(rows)
