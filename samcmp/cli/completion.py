"""What the shell offers for an option's value: names from the catalogues, read without torch or pandas.

A suite file or card that cannot be read offers nothing: the command itself says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer

from samcmp.errors import SamcmpError

Offer = tuple[str, str]  # a value, and what a shell that can shows beside it


def among(*values: str) -> Callable[[], list[str]]:
    """Make the completion of a value that is one of ``values``; the shell gets those that begin as typed."""
    return lambda: list(values)


def _readable(ctx: typer.Context, offers: Callable[[dict[str, Any]], Iterable[Offer]]) -> list[Offer]:
    try:
        return list(offers(ctx.params))
    except SamcmpError:
        return []


def datasets(ctx: typer.Context) -> list[Offer]:
    """Offer the datasets, those of ``--cards`` before it included."""

    def offers(given: dict[str, Any]) -> Iterable[Offer]:
        from samcmp.data import cards

        folders = tuple(given.get("cards") or ())
        return ((name, cards.find(name, folders).title) for name in cards.names(folders))

    return _readable(ctx, offers)


def models() -> list[Offer]:
    from samcmp import backbones

    return [(name, backbones.entry(name).summary) for name in backbones.names()]


def optimizers() -> list[Offer]:
    from samcmp import optim

    return [(name, optim.entry(name).summary) for name in optim.names()]


def optimizers_and_models() -> list[Offer]:
    return [*optimizers(), *models()]


def suites(ctx: typer.Context) -> list[Offer]:
    """Offer the suites of samcmp's file, or of ``--config`` before it."""

    def offers(given: dict[str, Any]) -> Iterable[Offer]:
        from samcmp.experiment import suites as of_file

        read = of_file.read(given.get("config"), cards=tuple(given.get("cards") or ()))
        return ((name, suite.title) for name, suite in read.suites.items())

    return _readable(ctx, offers)


def settings() -> list[Offer]:
    """Offer every optimizer's settings with their defaults: ``graphsam.rho=0.05``."""
    from samcmp import optim

    entries = ((name, optim.entry(name)) for name in optim.names())
    return [(f"{name}.{key}={value}", e.summary) for name, e in entries for key, value in e.settings.items()]
