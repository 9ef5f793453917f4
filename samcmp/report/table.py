"""The table as data: columns, cells with a mark for the best, footnotes. Terminal, Markdown and LaTeX draw it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from samcmp.analysis.comparison import Cell, Comparison, Interval, Row
from samcmp.analysis.names import columns_of, in_full
from samcmp.analysis.numbers import counted, memory, rate
from samcmp.analysis.sentences import form_of, headline, how_all_tuned, metric_name
from samcmp.report.extras import extras
from samcmp.report.grid import Column, Entry, Footnotes, Grid

MOST_SPLITS = 10  # named under the table; JSON has them all


@dataclass(frozen=True, slots=True)
class Table:
    """What is printed: what to use, the main table, its footnotes, verdicts in words, and what belongs beside it."""

    recommendation: str  # empty: there is nothing to compare
    rule: str  # that it is made by
    main: Grid  # its remarks define the columns
    footnotes: tuple[str, ...]
    verdicts: tuple[tuple[str, tuple[str, ...]], ...]  # headline, sentences
    extras: tuple[Grid, ...]
    remarks: tuple[str, ...]
    splits: tuple[str, ...]


def table(comparison: Comparison) -> Table:
    """Lay out a Comparison."""
    metrics = dict.fromkeys(metric_name(cell) for cell in comparison.cells if cell.metric)
    single = next(iter(metrics)) if len(metrics) == 1 else None
    base_names = {row.arm for cell in comparison.cells for row in cell.rows if row.role == "base"}
    base = next(iter(base_names)) if len(base_names) == 1 else "base"
    columns = [Column(n, right=False, foldable=n == "optimizer") for n in ("dataset", "metric", "model", "optimizer")]
    columns.append(Column(single or "score"))
    columns += [
        Column(f"{_counted(comparison)}/s"),
        Column("× sam"),
        Column(f"× {base}"),
        Column("passes"),
        Column("memory"),
    ]
    columns.append(Column("front", right=False))
    notes = Footnotes()
    rows: list[tuple[Entry, ...]] = []
    starts = set()
    for cell in comparison.cells:
        starts.add(len(rows))
        rows.extend(_row(row, cell, notes) for row in cell.rows)
    remarks = _cell_notes(comparison)
    sessions = dict.fromkeys(cell.speed_session for cell in comparison.cells if cell.speed_session)
    if sessions:
        remarks.append(f"speed measured on {'; '.join(sessions)}")
    paths = in_full(comparison)
    remarks = [*_reading(comparison), *[paths] * bool(paths), *remarks]
    return Table(
        recommendation=comparison.recommendation.text if comparison.recommendation else "",
        rule=comparison.rule,
        main=Grid(tuple(columns), tuple(rows), frozenset(starts), remarks=_legend(comparison, base)),
        footnotes=tuple(notes.texts),
        verdicts=tuple((headline(cell), said) for cell in comparison.cells if (said := _said(cell, comparison))),
        extras=extras(comparison),
        remarks=(*remarks, *comparison.notes),
        splits=_splits(comparison),
    )


def _counted(comparison: Comparison) -> str:
    return counted(cell.holds for cell in comparison.cells) if comparison.cells else "graphs"


def _said(cell: Cell, comparison: Comparison) -> tuple[str, ...]:
    """The sentences of a cell, after its recommendation where the one above the table is for several cells."""
    if len(comparison.cells) == 1 or cell.recommendation is None:
        return cell.sentences
    return (cell.recommendation.text, *cell.sentences)


def _legend(comparison: Comparison, base: str) -> tuple[str, ...]:
    """Define the columns, as far as they hold anything."""
    rows = [row for cell in comparison.cells for row in cell.rows]
    said = []
    if any(row.score for row in rows):
        tuned = how_all_tuned(comparison.cells)
        said.append(f"score: test, at the best validation epoch, mean ± SD over runs (their number){tuned}")
    if any(row.graphs_per_second for row in rows):
        what = "a whole training's speed" if any(row.times != 1.0 for row in rows) else "the speed"
        said.append(f"{_counted(comparison)}/s: in training, median of interleaved rounds")
        said.append(f"× sam, × {base}: {what} over theirs, median of ratios within rounds, not the quotient of medians")
        said.append("passes: gradient evaluations a step; memory: peak of a step")
        said.append("front: ● nothing else is more accurate and faster; %: in that share of draws from the uncertainty")
    return ("; ".join(said),) if said else ()


def _cell_notes(comparison: Comparison) -> list[str]:
    """Each note once, with the cells that it is about."""
    about: dict[str, list[str]] = {}
    for cell in comparison.cells:
        for note in dict.fromkeys(cell.notes):
            about.setdefault(note, []).append(cell.name)
    every = len(comparison.cells)
    return [f"{f'all {every} cells' if len(of) == every > 1 else ', '.join(of)}: {note}" for note, of in about.items()]


def _reading(comparison: Comparison) -> list[str]:
    """Say what stands beside the words of the verdicts."""
    tested = max((v.comparisons for cell in comparison.cells for v in cell.verdicts), default=0)
    if tested == 0:
        return []
    said = "verdicts: mean paired difference, positive is better, and the"
    if tested == 1:
        cut = any(v.low_excluded or v.high_excluded for cell in comparison.cells for v in cell.verdicts)
        more = ", cut (round bracket) where the test excludes 0 or the margin" if cut else ""
        return [f"{said} 95 % interval that its word is read off{more}"]
    together = f"the {tested}" if len(comparison.cells) == 1 else f"each cell's (at most {tested})"
    return [
        f"{said} interval that its word is read off, 95 % for {together} comparisons together: Bonferroni's, cut "
        "(round bracket) where Holm's tests exclude 0 or the margin"
    ]


def _splits(comparison: Comparison) -> tuple[str, ...]:
    names = dict.fromkeys(f"{s.name} {s.hash}".strip() for cell in comparison.cells for s in cell.splits)
    shown = list(names)[:MOST_SPLITS]
    if len(names) > MOST_SPLITS:
        shown.append(f"and {len(names) - MOST_SPLITS} more (all of them in --format json)")
    return tuple(shown)


def _row(row: Row, cell: Cell, notes: Footnotes) -> tuple[Entry, ...]:
    dataset, model = columns_of(cell)
    return (
        Entry(dataset),
        Entry(metric_name(cell)),
        Entry(model),
        Entry(row.label),
        _score(row, cell, notes),
        _number(row, "graphs_per_second", rate(row.graphs_per_second), notes, bold="speed" in row.best),
        _ratio(row.speed_to.get("sam")),
        _ratio(row.speed_to.get("base")),
        Entry("n/a" if row.passes_per_step is None else f"{row.passes_per_step:.2f}"),
        _number(row, "peak_bytes", memory(row.peak_bytes), notes, bold="memory" in row.best),
        Entry(front(row)),
    )


def _score(row: Row, cell: Cell, notes: Footnotes) -> Entry:
    reasons = [_hole(hole.status, hole.reason, len(hole.blocks)) for hole in row.holes]
    note = notes("; ".join(reasons)) if reasons else None
    if row.score is None:
        if reasons:
            return Entry(row.holes[0].status, note=note)
        return Entry("n/a", note=notes(f"score: {row.missing.get('score', 'not run')}"))
    form = form_of(cell)
    spread = "" if row.score.sd is None else f" ± {row.score.sd:{form}}"
    lost = sum(len(hole.blocks) for hole in row.holes)
    runs = f"{row.score.n}/{row.score.n + lost}" if lost else f"{row.score.n}"
    return Entry(f"{row.score.mean:{form}}{spread} ({runs})", bold="accuracy" in row.best, note=note)


def _hole(status: str, reason: str, runs: int) -> str:
    detail = "" if reason == status else f": {reason}"
    return f"{runs} run{'s' * (runs != 1)} {status}{detail}"


def _number(row: Row, column: str, text: str | None, notes: Footnotes, *, bold: bool) -> Entry:
    if text is not None:
        return Entry(text, bold=bold)
    name = {"graphs_per_second": "speed", "peak_bytes": "memory"}[column]
    return Entry("n/a", note=notes(f"{name}: {row.missing.get(column, 'not measured')}"))


def _ratio(ratio: Interval | None) -> Entry:
    return Entry("n/a" if ratio is None else f"{ratio.value:.2f}×")


def front(row: Row) -> str:
    """Mark the Pareto front, with how sure that is where the data say."""
    if row.front is None:
        return "n/a"
    if row.front_probability is None:
        return "●" if row.front else ""
    share = f"{100 * row.front_probability:.0f}%"
    if row.front:
        return f"● {share}"
    return f"  {share}" if row.front_probability >= 0.05 else ""


def compact(layout: Grid) -> Grid:
    """Make a printed table narrow: no name twice in a group, the metric under the dataset or in the header."""
    mixed = layout.columns[4].title == "score"
    rows = []
    for i, row in enumerate(layout.rows):
        dataset, metric, model, *rest = row
        first = i in layout.starts
        alone = first and (i + 1 in layout.starts or i + 1 == len(layout.rows))
        name = dataset if first else metric if mixed and i - 1 in layout.starts else Entry("")
        if alone and mixed:
            name = Entry(f"{dataset.text} {metric.text}")
        rows.append((name, model if first else Entry(""), *rest))
    return dataclasses.replace(layout, columns=(layout.columns[0], *layout.columns[2:]), rows=tuple(rows))
