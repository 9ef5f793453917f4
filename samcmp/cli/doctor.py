"""``samcmp doctor``: what this machine has, what is missing, what to do."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from samcmp.cli import common, diagnosis, options, output
from samcmp.cli.diagnosis import Finding


def doctor(
    format_: options.ShortFormat = "table",
    store: options.StoreDir = None,
) -> None:
    """Say what this machine has (Python, torch, CUDA, driver, NVML, cores, folders), what is missing and what to do.

    Exit code 1 when something that samcmp cannot do without is missing.

    Examples:

      samcmp doctor

      samcmp doctor --format json
    """
    output.check(format_, allowed=("table", "json"))
    found = diagnosis.findings(store)
    if format_ == "json":
        typer.echo(json.dumps([asdict(finding) for finding in found], indent=1))
    else:
        _print(found)
    if any(finding.state == "missing" for finding in found):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    style = {"ok": "green", "note": "yellow", "missing": "bold red"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("", "what", "found"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        text = Text(finding.found)
        if finding.remedy:
            text.append(f"\n{finding.remedy}", style="italic")
        table.add_row(Text(finding.state, style=style[finding.state]), finding.what, text)
    common.stdout().print(table)
