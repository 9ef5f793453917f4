"""The tables below the main one: several cells together, and the paper's numbers."""

from __future__ import annotations

from samcmp.analysis.comparison import Across, Comparison, Interval, PublishedComparison, Standing
from samcmp.analysis.numbers import interval, signed, times
from samcmp.report.grid import Column, Entry, Grid


def extras(comparison: Comparison) -> tuple[Grid, ...]:
    """Lay out what belongs below the main table, as far as there is any."""
    grids = []
    if comparison.across is not None:
        grids.append(_across(comparison.across))
    if comparison.published:
        grids.append(_published(comparison))
    return tuple(grids)


def _across(across: Across) -> Grid:
    columns = (
        Column("optimizer", right=False, foldable=True),
        Column("mean rank"),
        Column("IQM (base = 0)"),
        Column("time score"),
        Column("× sam"),
        Column("× base"),
    )
    rows = tuple(_standing(standing) for standing in across.standings)
    remarks = list(across.notes)
    if across.friedman_p is not None:
        remarks.insert(0, f"Friedman's test of equal ranks: p = {across.friedman_p:.3g}")
    remarks += [f"{arm} is left out: {why}" for arm, why in across.left_out.items()]
    return Grid(columns, rows, title=f"over {len(across.cells)} cells", remarks=tuple(remarks))


def _standing(standing: Standing) -> tuple[Entry, ...]:
    return (
        Entry(standing.label),
        Entry(f"{standing.mean_rank:.2f}"),
        Entry(_or_na(standing.iqm)),
        Entry("n/a" if standing.profile_score is None else f"{standing.profile_score:.3f}"),
        Entry("n/a" if standing.speed_to_sam is None else times(standing.speed_to_sam)),
        Entry("n/a" if standing.speed_to_base is None else times(standing.speed_to_base)),
    )


def _or_na(value: Interval | None) -> str:
    return "n/a" if value is None else interval(value)


def _published(comparison: Comparison) -> Grid:
    columns = (
        Column("dataset", right=False),
        Column("model", right=False),
        Column("optimizer", right=False, foldable=True),
        Column("paper"),
        Column("table"),
        Column("ours − paper"),
        Column("", right=False),
        Column("× sam"),
        Column("flags", right=False),
    )
    flags = {flag: why for row in comparison.published for flag, why in row.reasons.items()}
    letters = {flag: _letter(i) for i, flag in enumerate(flags)}
    rows = tuple(_published_row(row, letters) for row in comparison.published)
    starts, last = set(), None
    for i, row in enumerate(comparison.published):
        if row.cell != last:
            starts.add(i)
            last = row.cell
    causes = dict.fromkeys(f"n.a.: {row.why}" for row in comparison.published if row.agreement == "n.a." and row.ours)
    remarks = [f"{letters[flag]} {flag}: {why}" for flag, why in flags.items()]
    remarks.append("× sam is ours / the paper's speed over SAM; a flag is what to know about the paper's number")
    return Grid(columns, rows, frozenset(starts), "beside the GraphSAM paper", (*causes, *remarks))


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else f"a{i}"


def _published_row(row: PublishedComparison, letters: dict[str, str]) -> tuple[Entry, ...]:
    form = ".1f" if row.paper >= 10 else ".4f" if row.paper < 0.05 else ".3f"
    paper = f"{row.paper:{form}}" + ("" if row.paper_sd is None else f" ± {row.paper_sd:{form}}")
    difference = "n/a"
    if row.difference is not None:
        difference = signed(row.difference.value, form)
        if row.difference.low is not None and row.difference.high is not None:
            difference += f" [{signed(row.difference.low, form)}, {signed(row.difference.high, form)}]"
    speeds = (
        "n/a" if row.our_speed_to_sam is None else f"{row.our_speed_to_sam.value:.2f}",
        "n/a" if row.paper_speed_to_sam is None else f"{row.paper_speed_to_sam:.2f}",
    )
    texts = (
        row.dataset,
        row.model,
        row.label,
        paper,
        str(row.table),
        difference,
        row.agreement,
        " / ".join(speeds),
        "".join(letters[flag] for flag in row.flags),
    )
    return tuple(Entry(text) for text in texts)
