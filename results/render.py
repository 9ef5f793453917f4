"""Write the measured campaigns of this folder into the documents that show them: ``make results``.

A campaign is a folder: ``comparison.json`` and ``runs.csv`` as `samcmp report` exports them (``--format csv --rows
runs``), and ``campaign.toml`` with its commands, commit, machine and what to know. Each has a page of its own,
docs/results/NAME.md. Between the lines ``<!-- results: KIND -->`` and ``<!-- end -->`` docs/reproduction.md shows what
all of them come to: KIND is ``claims``, ``steps``, ``controls`` or a campaign, of which the answer and the main table
are shown.
"""

from __future__ import annotations

import functools
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from samcmp.analysis.claims import CLAIMS, difference, other_experiment
from samcmp.analysis.comparison import Claim, Comparison, Interval, from_json_text
from samcmp.analysis.numbers import times
from samcmp.analysis.published_comparison import with_published
from samcmp.report import canvas, figures, markdown
from samcmp.report.extras import beside
from samcmp.report.grid import Column, Entry, Grid
from samcmp.report.table import table

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
FRONT = {"fair-two-trials": DOCS / "images" / "front.svg"}  # campaign -> its first figure
SUMMARY = DOCS / "reproduction.md"
SPEEDS = "bbbp-speeds"  # the campaign that `steps` shows
CONTROLS = (  # what the released code does otherwise, the arm that does, the one that does not
    ("each loss is weighted by itself, as in the released SAM arms", "adam-loss-weighted", "adam"),
    ("the learning rates of the released Adam arm of CoMPT", "adam-released-schedule", "adam"),
    ("GraphSAM as released, which weights losses, too", "graphsam-released", "graphsam"),
    ("the same against Adam, whose losses are not weighted", "graphsam-released", "adam"),
    ("the same against Adam, whose losses are", "graphsam-released", "adam-loss-weighted"),
)
SHOWN = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def campaigns() -> list[Path]:
    return sorted(path.parent for path in HERE.glob("*/campaign.toml"))


@functools.cache
def read(name: str) -> Comparison:
    """Return a campaign; where the paper's numbers were asked for, with what is known of them today."""
    comparison = from_json_text((HERE / name / "comparison.json").read_text(encoding="utf-8"))
    tables = {row.table for row in comparison.published}
    return with_published(comparison, tables.pop() if len(tables) == 1 else None) if tables else comparison


def page_of(name: str) -> Path:
    return DOCS / "results" / f"{name}.md"


def documents() -> dict[Path, str]:
    """Return every document as the campaigns now make it."""
    pages = {page_of(folder.name): page(folder.name) for folder in campaigns()}
    text = SUMMARY.read_text(encoding="utf-8")
    return {**pages, SUMMARY: SHOWN.sub(lambda found: found[1] + shown(found[2]) + found[3], text)}


def page(name: str) -> str:
    """Return a campaign as a page: what was run, then the whole comparison."""
    about = tomllib.loads((HERE / name / "campaign.toml").read_text(encoding="utf-8"))
    comparison = read(name)
    return f"# {about['title']}\n\n{_conditions(name, comparison)}\n{markdown.render(comparison)}"


def shown(kind: str) -> str:
    """Return what docs/reproduction.md shows between two of its marks."""
    summaries = {"claims": claims, "steps": steps, "controls": controls}
    return "\n".join([*markdown.grid_lines(summaries[kind]()), ""]) if kind in summaries else brief(kind)


def brief(name: str) -> str:
    """Return a campaign's answer and main table, and where the rest stands."""
    comparison = read(name)
    layout = table(comparison)
    lines = [_conditions(name, comparison), f"**{markdown.escape(layout.recommendation)}**", ""]
    lines += [*markdown.grid_lines(_beside_the_paper(_known(layout.main), comparison)), ""]
    lines += [f"[Verdicts with their intervals, every note, the paper beside ours](results/{name}.md)"]
    return "\n".join(lines) + "\n"


def _known(grid: Grid) -> Grid:
    """Leave out the columns that say nothing in any row."""
    kept = [i for i, _ in enumerate(grid.columns) if any(row[i].text not in {"", "n/a"} for row in grid.rows)]
    rows = tuple(tuple(replace(row[i], note=None) for i in kept) for row in grid.rows)
    return replace(grid, columns=tuple(grid.columns[i] for i in kept), rows=rows)


def _beside_the_paper(grid: Grid, comparison: Comparison) -> Grid:
    """Add the paper's number to every row, and ours minus it, where there are any."""
    printed = {(row.cell, row.arm): beside(row) for row in comparison.published if row.difference is not None}
    if not printed:
        return grid
    arms = [(cell.name, row.arm) for cell in comparison.cells for row in cell.rows]
    rows = [(*row, *map(Entry, printed.get(arm, ("n/a", "n/a")))) for row, arm in zip(grid.rows, arms, strict=True)]
    return replace(grid, columns=(*grid.columns, Column("the paper"), Column("ours − the paper")), rows=tuple(rows))


def _conditions(name: str, comparison: Comparison) -> str:
    about = tomllib.loads((HERE / name / "campaign.toml").read_text(encoding="utf-8"))
    versions = sorted({f"torch {version['torch']}" for version in comparison.versions if "torch" in version})
    said = f"{about['machine']}; {', '.join(versions)}; commit {about['commit']}. {about['note']}"
    return "\n".join([said, "", "```sh", *about["commands"], "```", ""])


def claims() -> Grid:
    """Each claim of the paper with what every cell that was run for it says."""
    columns = ("claim of the paper", "campaign", "here", "by")
    rows = [row for text, suite, _ in CLAIMS for row in _evidence(text, suite)]
    return Grid(tuple(Column(name, right=False) for name in columns), tuple(rows))


def judged(text: str) -> dict[Claim, str]:
    """Return how a claim stands in each cell, and by which campaign; runs that several share count once."""
    by_campaign: dict[Claim, str] = {}
    for folder in campaigns():
        for claim in _as_the_paper(read(folder.name), text):
            by_campaign.setdefault(claim, folder.name)
    return by_campaign


def _evidence(text: str, suite: str) -> Iterator[tuple[Entry, ...]]:
    cells = judged(text)
    if not cells:
        yield Entry(text), Entry("–"), Entry("cannot be told"), Entry(f"not run: samcmp compare --suite {suite}")
    counts = Counter(claim.outcome for claim in cells)
    together = ", ".join(f"{outcome} in {n}" for outcome, n in counts.most_common())
    for i, (claim, name) in enumerate(cells.items()):
        first = Entry("" if i else text if len(cells) == 1 else f"{text} ({together})")
        yield first, Entry(name), Entry(claim.outcome, bold=True), Entry(f"{claim.cell}: {claim.evidence}")


def _as_the_paper(comparison: Comparison, text: str) -> Iterator[Claim]:
    """The claim in every cell where it could be judged: not where ours is another experiment."""
    why = {cell.name: other_experiment(cell) for cell in comparison.cells}
    for claim in comparison.claims:
        if claim.text == text and claim.cell is not None and claim.evidence != why[claim.cell]:
            yield claim


def controls() -> Grid:
    """What each difference of the released code is worth: the paired difference over splits, in every cell."""
    rows = []
    for folder in campaigns():
        for cell in read(folder.name).cells:
            arms = {row.arm: row for row in cell.rows}
            pairs = [(what, arms[one], arms[other]) for what, one, other in CONTROLS if {one, other} <= arms.keys()]
            said = [(what, difference(cell, one, other)) for what, one, other in pairs]
            rows += [(Entry(what), Entry(cell.name), Entry(found[1])) for what, found in said if found]
    columns = (Column("what the released code does", right=False), Column("cell", right=False))
    return Grid((*columns, Column("it is worth", right=False)), tuple(rows))


def steps() -> Grid:
    """What a step costs: the speed over SAM's that its gradients allow, ours, and the paper's."""
    comparison = read(SPEEDS)
    printed = {(row.cell, row.arm): row.paper_speed_to_sam for row in comparison.published}
    optimizers = list(dict.fromkeys(row.arm for cell in comparison.cells for row in cell.rows))
    columns = [Column("optimizer", right=False), Column("gradients a step"), Column("× SAM they allow")]
    for cell in comparison.cells:
        columns += [Column(f"{cell.model}: ours"), Column("the paper")]
    rows = []
    for optimizer in optimizers:
        passes = next(row.passes_per_step for cell in comparison.cells for row in cell.rows if row.arm == optimizer)
        entries = [Entry(optimizer), Entry(_number(passes, ".2f")), Entry(_number(passes and 2.0 / passes, ".2f"))]
        for cell in comparison.cells:
            row = next(row for row in cell.rows if row.arm == optimizer)
            entries += [
                Entry(_ratio(row.speed_to.get("sam"))),
                Entry(_number(printed.get((cell.name, optimizer)), ".2f")),
            ]
        rows.append(tuple(entries))
    return Grid(tuple(columns), tuple(rows))


def _ratio(ratio: Interval | None) -> str:
    return "n/a" if ratio is None else times(ratio)


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else f"{value:{form}}"


def main() -> int:
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path, text in pictures().items():
        path.write_text(text, encoding="utf-8")
    return 0


def pictures() -> dict[Path, str]:
    """Return the figures that are drawn of campaigns, as SVG."""
    return {path: canvas.svg(figures.draw("front", read(name)).figure) for name, path in FRONT.items()}


if __name__ == "__main__":
    sys.exit(main())
