"""``samcmp list``: the catalogues, a line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, options
from samcmp.errors import UsageError, unknown

if TYPE_CHECKING:
    from rich.table import Table

KINDS = ("datasets", "models", "optimizers", "suites")


def list_(
    kind: Annotated[
        str | None, typer.Argument(help="datasets, models, optimizers or suites; all of them when left out.")
    ] = None,
    settings: Annotated[bool, typer.Option("--settings", help="Show every optimizer's settings and defaults.")] = False,
    config: options.Config = None,
    cards: options.Cards = None,
) -> None:
    """Show what can be compared: datasets (and whether they are cached), models, optimizers, suites.

    Examples:

      samcmp list

      samcmp list optimizers --settings
    """
    if kind is not None and kind not in KINDS:
        raise unknown("catalogue", kind, KINDS)
    if settings and kind not in {None, "optimizers"}:
        raise UsageError("shows the optimizers'", where="--settings", remedy="Run: samcmp list optimizers --settings.")
    console = common.stdout()
    folders = tuple(cards or ())
    makers: dict[str, Callable[[], Table]] = {
        "datasets": lambda: _datasets(folders),
        "models": _models,
        "optimizers": lambda: _optimizers(settings),
        "suites": lambda: _suites(config, folders),
    }
    for name in KINDS if kind is None else (kind,):
        console.print(makers[name]())


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, overflow="fold")
    return table


def _datasets(folders: tuple[Path, ...]) -> Table:
    from rich.markup import escape

    from samcmp.data import cards, fetch

    table = _table("Datasets", "name", "molecules", "targets", "metric", "cached", "what")
    for name in cards.names(folders):
        card = cards.find(name, folders)
        size = "n/a" if card.molecules is None else f"{card.molecules:,}"
        where = "built in" if card.built_in else "yes" if fetch.is_cached(card) else "no"
        table.add_row(escape(name), size, str(card.tasks), card.metric, where, escape(card.title))
    for column in table.columns[1:3]:
        column.justify = "right"
    return table


def _models() -> Table:
    from rich.markup import escape

    from samcmp import backbones

    table = _table("Models", "name", "what", "paper")
    for name in backbones.names():
        entry = backbones.entry(name)
        table.add_row(escape(name), escape(entry.summary), escape(entry.paper))
    return table


def _optimizers(settings: bool) -> Table:
    from rich.markup import escape

    from samcmp import optim

    columns = ("settings and defaults",) if settings else ("passes per step", "what", "paper")
    table = _table("Optimizers", "name", *columns)
    for name in optim.names():
        entry = optim.entry(name)
        shown = [", ".join(f"{key}={value}" for key, value in entry.settings.items())]
        if not settings:
            shown = [entry.passes, entry.summary, entry.paper]
        table.add_row(escape(name), *map(escape, shown))
    return table


def _suites(config: Path | None, folders: tuple[Path, ...]) -> Table:
    from rich.text import Text

    from samcmp.experiment import suites

    table = _table("Suites", "name", "what, and datasets × models × optimizers")
    for name, suite in suites.read(config, cards=folders).suites.items():
        members = (suite.datasets, suite.models, suites.optimizers_of(suite))
        product = " × ".join(", ".join(names) for names in members)
        table.add_row(Text(name), Text(f"{suite.title}\n").append(product, style="dim"))
    return table
