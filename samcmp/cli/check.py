"""``samcmp check``: try an optimizer of one's own against every promise of the family."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samcmp.errors import UsageError, unknown

if TYPE_CHECKING:
    from samcmp.conformance.optimizer import Build
    from samcmp.conformance.report import Report


def check(
    target: Annotated[
        str, typer.Argument(metavar="FILE.py[:CLASS]", help="Your optimizer, or the name of one in the catalogue.")
    ],
    reads_host: Annotated[
        bool,
        typer.Option("--reads-host", help="It decides by a device value, as AE-SAM does."),
    ] = False,
) -> None:
    """Try your own optimizer against every promise of the family, and say which it keeps.

    A class is called with a torch optimizer, as SAM(torch.optim.Adam(...)); the other arguments need defaults.

    Examples:

      samcmp check my_optimizer.py

      samcmp check my_optimizer.py:MySAM
    """
    from rich.console import Console

    from samcmp.conformance.optimizer import check_optimizer

    name, build = _named(target)
    report = check_optimizer(build, reads_host=reads_host or name == "ae-sam")
    _show(Console(), name, report)
    if not report.ok:
        raise typer.Exit(1)


def _named(target: str) -> tuple[str, Build]:
    path, _, class_name = target.partition(":")
    if not path.endswith(".py"):
        from samcmp import optim
        from samcmp.conformance.optimizer import STEPS_PER_EPOCH

        optim.entry(target)
        return target, lambda base: optim.build(target, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=0)
    found = _class_in(Path(path), class_name)
    return found.__name__, found


def _class_in(path: Path, class_name: str) -> Any:
    """Run a user's file and return the optimizer class in it."""
    import importlib.util

    import torch

    if not path.is_file():
        raise UsageError("there is no such file", where=str(path), remedy="Name a Python file: my_optimizer.py:MySAM")
    spec = importlib.util.spec_from_file_location(f"samcmp_check_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError("this file cannot be imported", where=str(path))
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        raise UsageError(
            f"running the file failed with {type(error).__name__}: {error}", where=str(path), remedy="Mend the file."
        ) from error
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value.__module__ == module.__name__
    }
    if class_name:
        if class_name not in own:
            raise unknown("optimizer class", class_name, own, where=str(path))
        return own[class_name]
    if len(own) != 1:
        listed = ", ".join(sorted(own)) or "none"
        raise UsageError(
            f"expected one torch.optim.Optimizer subclass in the file, found {listed}",
            where=str(path),
            remedy=f"Name the class: {path}:CLASS.",
        )
    return next(iter(own.values()))


def _show(console: Any, name: str, report: Report) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("", "promise", "found"):
        table.add_column(title, overflow="fold", no_wrap=False)
    words = {True: "[green]kept[/]", False: "[bold red]broken[/]", None: "[dim]n/a[/]"}
    for result in report.results:
        table.add_row(words[result.kept], escape(result.promise), escape(result.found))
    console.print(table)
    kept = sum(result.kept is True for result in report.results)
    line = f"{escape(name)}: {kept} promises kept, {len(report.broken)} broken"
    console.print(f"[green]{line}[/]" if report.ok else f"[red]{line}[/]")
