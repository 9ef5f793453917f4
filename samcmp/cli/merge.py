"""``samcmp merge``: the results of several stores in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common, options, output
from samcmp.errors import UsageError
from samcmp.printable import counted

if TYPE_CHECKING:
    from samcmp.experiment.merge import Merged


@options.grouped
def merge(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE...", help="Folders with results, of shards or hosts.")],
    *,
    into: Annotated[Path, typer.Option("--into", metavar="STORE", help="Where they are copied; made if absent.")],
    format_: options.ShortFormat = "table",
) -> None:
    """Copy the results of several stores into one: those of shards, of other machines, of colleagues.

    Every Record is checked against its name before it is copied, after its predictions. One that is there already is
    compared: equal ones are one. Two different results under one key are told, and so is every damaged file; nothing
    is overwritten. Of a profile that both have, the one that is there stays.

    Exit code: 0 all is merged, 1 there are conflicts or damaged files, 2 wrong input.

    Examples:

      samcmp merge shard-1 shard-2 shard-3 --into all

      samcmp merge /scratch/alice/.samcmp --into .samcmp --format json
    """
    from samcmp.experiment.merge import merge as merged
    from samcmp.experiment.store import Store

    output.check(format_, allowed=("table", "json"))
    common.check_folder(into, "--into")
    seen: dict[Path, Path] = {into.resolve(): into}
    for folder in stores:
        if not folder.is_dir():
            raise UsageError("there is no store here", where=str(folder), remedy="Name folders with results.")
        before = seen.setdefault(folder.resolve(), folder)
        if before is not folder:
            raise UsageError(
                f"is named twice{f', as {before}' if before != folder else ''}",
                where=str(folder),
                remedy="Name every store once, and another one with --into.",
            )
    done = merged([Store(folder) for folder in stores], Store(into))
    if format_ == "json":
        typer.echo(json.dumps(_summary(done, into), indent=1))
    else:
        _tell(done, into)
    if done.conflicts or done.damaged:
        raise typer.Exit(1)


def _summary(done: Merged, into: Path) -> dict[str, object]:
    return {
        "into": str(into),
        "copied": done.copied,
        "there": done.there,
        "measured_twice": done.measured_twice,
        "conflicts": [
            {"key": c.key, "what": c.what, "stores": list(c.folders), "differs": list(c.differs)}
            for c in done.conflicts
        ],
        "damaged": [{"path": str(path), "why": why} for path, why in dict(done.damaged).items()],
    }


def _tell(done: Merged, into: Path) -> None:
    say = common.stderr(always=True)
    for path, why in dict(done.damaged).items():
        say.print(f"left out, damaged: {path}: {why}", markup=False, soft_wrap=True)
    for conflict in done.conflicts:
        say.print(
            f"conflict: {conflict.what}: {', '.join(conflict.differs)} differ between {conflict.folders[0]} and "
            f"{conflict.folders[1]}, which stays as it is (key {conflict.key[:16]})",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    parts = [f"{counted(done.copied, 'result')} copied", f"{done.there:,} already there"]
    if done.measured_twice:
        parts.append(f"{counted(done.measured_twice, 'profile')} measured twice, of which the one in {into} stays")
    if done.conflicts:
        parts.append(counted(len(done.conflicts), "conflict"))
    if done.damaged:
        parts.append(counted(len(dict(done.damaged)), "damaged file"))
    common.stdout().print(f"{into}: {', '.join(parts)}.", markup=False, soft_wrap=True)
