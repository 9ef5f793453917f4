"""``samcmp list``: the catalogues, a line each, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samcmp.cli import common, completion, options, output
from samcmp.errors import UsageError, unknown

if TYPE_CHECKING:
    from rich.table import Table

KINDS = ("datasets", "models", "optimizers", "suites")
Rows = list[dict[str, Any]]


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="datasets, models, optimizers or suites; all of them when left out.",
            autocompletion=completion.among(*KINDS),
        ),
    ] = None,
    settings: Annotated[bool, typer.Option("--settings", help="Show every optimizer's settings and defaults.")] = False,
    config: options.Config = None,
    cards: options.Cards = None,
    format_: options.ShortFormat = "table",
) -> None:
    """Show what can be compared: datasets (and whether they are cached), models, optimizers, suites.

    JSON holds all that is known of each, settings included; of one catalogue it is a list, else an object of four.

    Examples:

      samcmp list

      samcmp list optimizers --settings

      samcmp list datasets --format json
    """
    if kind is not None and kind not in KINDS:
        raise unknown("catalogue", kind, KINDS)
    if settings and kind not in {None, "optimizers"}:
        raise UsageError("shows the optimizers'", where="--settings", remedy="Run: samcmp list optimizers --settings.")
    output.check(format_, allowed=("table", "json"))
    folders = tuple(cards or ())
    readers: dict[str, Callable[[], Rows]] = {
        "datasets": lambda: datasets(folders),
        "models": models,
        "optimizers": optimizers,
        "suites": lambda: _suites(config, folders),
    }
    found = {name: readers[name]() for name in (KINDS if kind is None else (kind,))}
    if format_ == "json":
        typer.echo(json.dumps(found if kind is None else found[kind], indent=1, default=str))
        return
    console = common.stdout()
    for name, rows in found.items():
        console.print(_suite_table(rows) if name == "suites" else _table(name, rows, settings=settings))


def datasets(folders: tuple[Path, ...]) -> Rows:
    from samcmp.data import cards, fetch

    rows = []
    for name in cards.names(folders):
        card = cards.find(name, folders)
        rows.append(
            {
                "name": name,
                "title": card.title,
                "kind": card.kind,
                "size": card.size,
                "molecules": card.molecules,
                "images": card.images,
                "task": card.task,
                "targets": list(card.target_columns),
                "tasks": card.tasks,
                "metric": card.metric,
                "split": card.split,
                "built_in": card.built_in,
                "cached": card.built_in or fetch.is_cached(card),
                "paper": card.paper,
                "licence": card.licence,
            }
        )
    return rows


def models() -> Rows:
    from samcmp import backbones

    found = ((name, backbones.entry(name)) for name in backbones.names())
    return [{"name": name, "what": entry.summary, "paper": entry.paper} for name, entry in found]


def optimizers() -> Rows:
    from samcmp import optim

    found = ((name, optim.entry(name)) for name in optim.names())
    return [
        {"name": name, "passes_per_step": e.passes, "what": e.summary, "paper": e.paper, "settings": {**e.settings}}
        for name, e in found
    ]


def _suites(config: Path | None, folders: tuple[Path, ...]) -> Rows:
    from samcmp.experiment import suites

    return [
        {
            "name": name,
            "title": suite.title,
            "datasets": list(suite.datasets),
            "models": list(suite.models),
            "optimizers": list(suites.optimizers_of(suite)),
        }
        for name, suite in suites.read(config, cards=folders).suites.items()
    ]


# ---------------------------------------------------------------------------------------------- tables


def _columns(kind: str, *, settings: bool) -> dict[str, Callable[[dict[str, Any]], str]]:
    """Return the columns of a catalogue's table, each with what it shows of a row."""
    if kind == "datasets":
        return {
            "name": lambda row: row["name"],
            "size": lambda row: "n/a" if row["size"] is None else f"{row['size']:,}",
            "targets": lambda row: str(row["tasks"]),
            "metric": lambda row: row["metric"],
            "cached": lambda row: "built in" if row["built_in"] else "yes" if row["cached"] else "no",
            "what": lambda row: row["title"],
        }
    if kind == "optimizers" and settings:
        return {
            "name": lambda row: row["name"],
            "settings and defaults": lambda row: ", ".join(f"{key}={value}" for key, value in row["settings"].items()),
        }
    names = ["name", *["passes per step"] * (kind == "optimizers"), "what", "paper"]
    return {name: itemgetter(name.replace(" ", "_")) for name in names}


def _empty(title: str, columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        right = column in {"size", "targets"}
        table.add_column(column, no_wrap=i == 0, overflow="fold", justify="right" if right else "left")
    return table


def _table(kind: str, rows: Rows, *, settings: bool) -> Table:
    from rich.text import Text

    columns = _columns(kind, settings=settings)
    table = _empty(kind.capitalize(), list(columns))
    for row in rows:
        table.add_row(*(Text(show(row)) for show in columns.values()))
    return table


def _suite_table(rows: Rows) -> Table:
    from rich.text import Text

    table = _empty("Suites", ("name", "what, and datasets × models × optimizers"))
    for row in rows:
        product = " × ".join(", ".join(row[key]) for key in ("datasets", "models", "optimizers"))
        table.add_row(Text(row["name"]), Text(f"{row['title']}\n").append(product, style="dim"))
    return table
