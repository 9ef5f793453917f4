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
import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from samcmp.analysis.claims import CLAIMS, difference, other_experiment
from samcmp.analysis.comparison import Cell, Claim, Comparison, Interval, Row, from_json_text
from samcmp.analysis.numbers import times
from samcmp.analysis.published_comparison import with_published
from samcmp.analysis.sentences import metric_name
from samcmp.report import canvas, figures, markdown
from samcmp.report.extras import beside
from samcmp.report.grid import Column, Entry, Grid
from samcmp.report.styles import styles_of
from samcmp.report.table import table

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
FRONT = {"fair-two-trials": DOCS / "images" / "front.svg"}  # campaign -> its first figure
OVER_ADAM = DOCS / "images" / "over-adam.svg"
SUMMARY = DOCS / "reproduction.md"
PAPER_EPOCHS = 30  # of the released command
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
    return "\n".join([textwrap.fill(said, 120, break_on_hyphens=False), "", "```sh", *about["commands"], "```", ""])


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
    fronts = {path: canvas.svg(figures.draw("front", read(name)).figure) for name, path in FRONT.items()}
    return {**fronts, OVER_ADAM: canvas.svg(over_adam())}


Gain = tuple[str, Row, Interval, float | None]  # model, arm, ours, the paper's


def gains() -> dict[str, list[Gain]]:
    """Return what SAM and GraphSAM gain over Adam, ours as in :func:`difference` and the paper's means, by dataset.

    Of cells that were run as the paper ran them; one that several campaigns hold is the first one's.
    """
    found: dict[tuple[str, str], dict[str, Gain]] = {}
    for comparison in map(read, [folder.name for folder in campaigns()]):
        for cell in comparison.cells:
            changed = ", ".join(f"{value}" for value in cell.model_settings.values())
            name = f"{cell.model}{f' with {changed}' if changed else ''}"
            panel = f"{cell.dataset.upper()}, {metric_name(cell).rstrip(' ↑↓')}"
            for arm, gain in _gains(cell, comparison, name):
                found.setdefault((panel, name), {}).setdefault(arm, gain)
    by_dataset: dict[str, list[Gain]] = {}
    for (panel, _), of_arms in sorted(found.items()):
        by_dataset.setdefault(panel, []).extend(of_arms.values())
    return by_dataset


def _gains(cell: Cell, comparison: Comparison, name: str) -> Iterator[tuple[str, Gain]]:
    printed = {row.arm: row.paper for row in comparison.published if row.cell == cell.name}
    base = next((row for row in cell.rows if row.role == "base"), None)
    if base is None or base.arm not in printed or cell.protocol["epochs"] != PAPER_EPOCHS:
        return
    sign = 1.0 if cell.higher_is_better else -1.0
    for row in sorted(cell.rows, key=lambda row: (row.optimizer == "graphsam", row.label)):
        plain = row.optimizer_settings in ({}, {"rho_schedule": "step"})
        found = difference(cell, row, base) if row.optimizer in {"sam", "graphsam"} and plain else None
        if found is not None:
            paper = sign * (printed[row.arm] - printed[base.arm]) if row.arm in printed else None
            yield row.arm, (name, row, found[0], paper)


@canvas.plain_matplotlib()
def over_adam() -> Figure:
    """Draw :func:`gains`: a panel a dataset, a line an arm, ours with its 95 % interval and the paper's as a cross."""
    shown = gains()
    heights = [len(of) + 2.0 for of in shown.values()]
    figure = Figure(figsize=(6.8, 0.21 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(shown), height_ratios=heights, squeeze=False)[:, 0]
    looks = styles_of((row.optimizer, row.label) for of in shown.values() for _, row, _, _ in of)
    for (title, of), panel in zip(shown.items(), axes, strict=True):
        panel.axvline(0.0, color=canvas.GREY, linewidth=0.8)
        for y, (_, row, ours, paper) in enumerate(of):
            look = looks[row.label]
            panel.plot([ours.low, ours.high], [y, y], color=look["color"], linewidth=2, solid_capstyle="butt")
            panel.plot(ours.value, y, **canvas.points(look), markersize=6)
            if paper is not None:
                panel.plot(paper, y, color="black", marker="x", markersize=6, linestyle="none", zorder=4)
        panel.set_yticks(range(len(of)), [f"{model}: {canvas.tick(row.label)}" for model, row, _, _ in of])
        panel.set_ylim(len(of) - 0.4, -0.6)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_title(title, loc="left")
    axes[-1].set_xlabel("gain over Adam, better →")
    return figure


if __name__ == "__main__":
    sys.exit(main())
