"""``samcmp store``: what a store holds, how large it is, and taking results out of it."""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samcmp.cli import common, completion, options, output
from samcmp.errors import UsageError, unknown
from samcmp.printable import counted
from samcmp.times import seconds_of

if TYPE_CHECKING:
    from samcmp.experiment.store import Store
    from samcmp.experiment.upkeep import Contents, Entry, File

ACTIONS = ("list", "size", "prune")


@options.grouped
def store_(
    action: Annotated[
        str,
        typer.Argument(
            metavar="[ACTION]",
            help="list, size or prune.",
            autocompletion=completion.among(*ACTIONS),
        ),
    ] = "list",
    *,
    dataset: options.Datasets = None,
    model: options.Models = None,
    optimizer: options.Optimizers = None,
    suite: options.Suite = None,
    older_than: Annotated[str | None, typer.Option(metavar="AGE", help="Made longer ago: 12h, 30d, 8w.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Runs that did not end well.")] = False,
    leftovers: Annotated[
        bool, typer.Option("--leftovers", help="prune: what killed processes left, a day old or more.")
    ] = False,
    inspections: Annotated[
        bool, typer.Option("--inspections", help="prune: all that `samcmp inspect` kept, weights included.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="prune: say what would go, remove nothing.")] = False,
    config: options.Config = None,
    format_: options.ShortFormat = "table",
    store: options.StoreDir = None,
) -> None:
    """Look after a store: `list` what is in it, its `size`, and `prune` results that are not wanted any more.

    The options narrow down what is listed or removed; what they name together is what goes. A suite means the results
    of its datasets, models and optimizers. `prune` asks nothing and says what went. It removes results and their
    predictions alone, never a file that it does not recognise, and nothing that another process has just written.

    Examples:

      samcmp store

      samcmp store list -d esol --format json

      samcmp store size

      samcmp store prune --failed --dry-run

      samcmp store prune --older-than 90d --suite smoke
    """
    from samcmp.experiment import upkeep
    from samcmp.experiment.store import Store

    if action not in ACTIONS:
        raise unknown("action", action, ACTIONS, where="samcmp store")
    output.check(format_, allowed=("table", "json"))
    for flag, given in (("--leftovers", leftovers), ("--inspections", inspections), ("--dry-run", dry_run)):
        if given and action != "prune":
            raise UsageError(f"is of `samcmp store prune`, and this is {action}", where=flag, remedy="Leave it out.")
    least = None if older_than is None else seconds_of(older_than, where="--older-than", example="30d", least=0.0)
    product = None if suite is None else _of_suite(suite, config)
    kept = Store(common.store_folder(store))
    if not kept.folder.is_dir():
        raise UsageError("there is no store here", where=str(kept.folder), remedy="Name one with --store DIR.")
    contents = upkeep.survey(kept)
    now = datetime.datetime.now(datetime.UTC)
    chosen = [
        entry
        for entry in contents.entries
        if (not dataset or entry.record.case.dataset in dataset)
        and (not model or entry.record.case.model in model)
        and (not optimizer or entry.record.case.optimizer in optimizer)
        and (product is None or _in_product(entry, product))
        and (least is None or (now - entry.made).total_seconds() > least)
        and (not failed or entry.record.status != "ok")
    ]
    narrowed = any((dataset, model, optimizer, suite, older_than, failed))
    if action == "prune":
        if not narrowed and not leftovers and not inspections:
            raise UsageError(
                "does not say what goes",
                where="samcmp store prune",
                remedy="Add --older-than 90d, --failed, --dataset, --model, --optimizer, --suite, --inspections or "
                "--leftovers.",
            )
        files = {"left by a killed process": contents.leftovers} if leftovers else {}
        files |= {"inspected": contents.inspections} if inspections else {}
        _prune(kept, chosen if narrowed else [], files, dry_run=dry_run)
    elif action == "size":
        _size(kept, contents, chosen if narrowed else contents.entries, form=format_)
    else:
        _list(chosen, form=format_, now=now)
    common.print_damaged(kept, "left alone, damaged")


def _of_suite(name: str, config: Path | None) -> tuple[set[str], set[str], set[str]]:
    from samcmp.experiment import suites

    known = suites.read(config).suites
    if name not in known:
        raise unknown("suite", name, known, where="--suite")
    return set(known[name].datasets), set(known[name].models), set(suites.optimizers_of(known[name]))


def _in_product(entry: Entry, product: tuple[set[str], set[str], set[str]]) -> bool:
    case = entry.record.case
    return case.dataset in product[0] and case.model in product[1] and case.optimizer in product[2]


# ---------------------------------------------------------------------------------------------- list, size


def _rows(entries: list[Entry]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        case = entry.record.case
        groups[case.dataset, case.model, case.optimizer].append(entry)
    return [
        {
            "dataset": names[0],
            "model": names[1],
            "optimizer": names[2],
            "runs": sum(entry.record.case.kind == "train" for entry in group),
            "profiles": sum(entry.record.case.kind == "profile" for entry in group),
            "failed": sum(entry.record.status != "ok" for entry in group),
            "bytes": sum(entry.bytes for entry in group),
            "oldest": min(entry.made for entry in group).isoformat(timespec="seconds"),
            "newest": max(entry.made for entry in group).isoformat(timespec="seconds"),
        }
        for names, group in sorted(groups.items())
    ]


def _list(entries: list[Entry], *, form: str, now: datetime.datetime) -> None:
    from samcmp.report.grid import Column, Entry, Grid
    from samcmp.report.terminal import Screen

    rows = _rows(entries)
    if form == "json":
        typer.echo(json.dumps(rows, indent=1))
        return
    columns = [Column(title, right=False) for title in ("dataset", "model", "optimizer")]
    columns += [Column(title) for title in ("runs", "profiles", "failed", "size", "age")]
    lines = []
    for row in rows:
        ages = [_age(now - datetime.datetime.fromisoformat(row[key])) for key in ("newest", "oldest")]
        shown = [row["dataset"], row["model"], row["optimizer"], row["runs"], row["profiles"], row["failed"]]
        shown += [_bytes(row["bytes"]), " to ".join(dict.fromkeys(ages))]
        lines.append(tuple(Entry(str(cell)) for cell in shown))
    console = common.stdout()
    console.print(Screen(Grid(tuple(columns), tuple(lines))))
    console.print()
    console.print(_total(entries), markup=False)


def _size(kept: Store, contents: Contents, entries: list[Entry], *, form: str) -> None:
    predictions = sum(entry.predictions.bytes for entry in entries if entry.predictions)
    found = {
        "records": sum(entry.file.bytes for entry in entries),
        "predictions": predictions,
        "inspections": sum(file.bytes for file in contents.inspections),
        "leftovers": sum(file.bytes for file in contents.leftovers),
        "others": sum(file.bytes for file in contents.others),
    }
    if form == "json":
        typer.echo(json.dumps({"store": str(kept.folder), "results": len(entries), "bytes": found}, indent=1))
        return
    console = common.stdout()
    console.print(f"{kept.folder}: {_total(entries)}", markup=False, soft_wrap=True)
    console.print(f"records {_bytes(found['records'])}, predictions {_bytes(found['predictions'])}", markup=False)
    if contents.inspections:
        console.print(
            f"inspections and their weights {_bytes(found['inspections'])} (prune --inspections)", markup=False
        )
    if contents.leftovers:
        files = counted(len(contents.leftovers), "file")
        console.print(f"{files} of killed processes: {_bytes(found['leftovers'])} (prune --leftovers)", markup=False)
    if contents.others:
        files = counted(len(contents.others), "file")
        console.print(f"{files} that samcmp does not recognise: {_bytes(found['others'])}", markup=False)


def _total(entries: list[Entry]) -> str:
    return f"{counted(len(entries), 'result')}, {_bytes(sum(entry.bytes for entry in entries))}"


def _bytes(count: int) -> str:
    from samcmp.analysis.numbers import memory

    return memory(count) or "0 B"


def _age(span: datetime.timedelta) -> str:
    seconds = max(span.total_seconds(), 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


# ---------------------------------------------------------------------------------------------- prune


def _prune(kept: Store, chosen: list[Entry], files: Mapping[str, list[File]], *, dry_run: bool) -> None:
    """Remove results, and other files by what they are."""
    from samcmp.experiment import upkeep

    console = common.stdout()
    for entry in chosen:
        record = entry.record
        status = "" if record.status == "ok" else f", {record.status}"
        case = record.case
        what = f"{case.kind} of {case.dataset} {case.model} {case.arm} {case.block}{status}"
        console.print(f"{record.key[:16]}  {record.created}  {what}", markup=False, soft_wrap=True)
    for what, some in files.items():
        for file in some:
            console.print(f"{what}: {file.path}", markup=False, soft_wrap=True)
    every = [file for some in files.values() for file in some]
    other = "leftover" if "inspected" not in files else "file"

    size = _bytes(sum(entry.bytes for entry in chosen) + sum(file.bytes for file in every))
    if dry_run:
        console.print(f"{counted(len(chosen), 'result')} and {counted(len(every), other)} would go: {size}.")
        return
    stayed: list[Path] = []
    gone = upkeep.remove(chosen, skipped=stayed.append)
    swept = sum(map(upkeep.remove_file, every))
    for path in stayed:
        common.stderr().print(f"left alone, changed or removed meanwhile: {path}", markup=False, soft_wrap=True)
    console.print(f"{counted(gone, 'result')} and {counted(swept, other)} went from {kept.folder}: {size}.")
