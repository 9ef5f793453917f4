"""The gate of ``compare`` and ``report``: the baseline is read first, and what was found is said and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samcmp.cli import common
from samcmp.errors import UsageError

if TYPE_CHECKING:
    from samcmp.analysis.comparison import Comparison
    from samcmp.analysis.gate import Gate


GATE = "Gate for continuous integration"
Baseline = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Exit with 10-14 when worse than this JSON.", rich_help_panel=GATE),
]
GateJson = Annotated[Path | None, typer.Option(metavar="FILE", help="Write every check as JSON.", rich_help_panel=GATE)]
GateJunit = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write every check as a test case, JUnit XML.", rich_help_panel=GATE)
]
Summary = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help='Append a summary in Markdown: "$GITHUB_STEP_SUMMARY".', rich_help_panel=GATE),
]


@dataclass(frozen=True, slots=True)
class GateOptions:
    """A baseline that nothing may be worse than, and where that is written down."""

    baseline: Baseline = None
    gate_json: GateJson = None
    gate_junit: GateJunit = None
    summary: Summary = None


def baseline(options: GateOptions) -> Comparison | None:
    """Read a gate's baseline before anything is run. One that cannot be read ends the command with the gate's code."""
    files = {"--gate-json": options.gate_json, "--gate-junit": options.gate_junit, "--summary": options.summary}
    for option, path in files.items():
        if path is not None and options.baseline is None:
            raise UsageError(
                "says what a gate found, and there is none", where=f"{option} {path}", remedy="Add --baseline FILE."
            )
        common.check_writable(path, option)
    if options.baseline is None:
        return None
    from samcmp.analysis import gate as gates

    found = gates.read(options.baseline)
    if isinstance(found, gates.Gate):
        _tell(found, options)
        raise typer.Exit(found.code)
    return found


def judge(comparison: Comparison, before: Comparison, options: GateOptions) -> int:
    """Compare with a baseline, say what was found, and return the exit code that says what got worse."""
    from samcmp.analysis import gate as gates

    found = gates.compare(comparison, before)
    _tell(found, options)
    return found.code


def _tell(found: Gate, options: GateOptions) -> None:
    for line in found.lines:
        common.stderr(always=True).print(line, markup=False, soft_wrap=True)
    from samcmp import files
    from samcmp.report import gate as forms

    if options.gate_json is not None:
        files.write(options.gate_json, forms.to_json(found).encode())
    if options.gate_junit is not None:
        files.write(options.gate_junit, forms.to_junit(found).encode())
    if options.summary is not None:
        _append(options.summary, forms.to_markdown(found))


def _append(path: Path, text: str) -> None:
    """Add to a file that other steps of a job write to, too."""
    from samcmp import files

    with files.refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
