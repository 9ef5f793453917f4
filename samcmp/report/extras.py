"""The tables below the main one: tuning, cost, several cells together, and the paper's numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from samcmp.analysis.comparison import (
    Across,
    Cell,
    Comparison,
    Interval,
    PublishedComparison,
    Row,
    Score,
    Standing,
    TunedSetting,
    Tuning,
    labels,
)
from samcmp.analysis.draws import SHARED
from samcmp.analysis.numbers import interval, signed, times
from samcmp.analysis.paired import Adjusted
from samcmp.analysis.sentences import form_of, how_all_tuned, how_tuned, with_limits
from samcmp.printable import counted
from samcmp.report.grid import Column, Entry, Grid

ACCURACIES = {11}  # tables of the paper that print a hundredth of a per cent


def extras(comparison: Comparison) -> tuple[Grid, ...]:
    """Lay out what belongs below the main table, as far as there is any."""
    several = len(comparison.cells) > 1
    grids = [_tuning(cell, cell.tuning, several) for cell in comparison.cells if cell.tuning is not None]
    grids += [_costs(cell, several) for cell in comparison.cells if any(row.times != 1.0 for row in cell.rows)]
    if comparison.across is not None:
        grids.append(_across(comparison.across, how_all_tuned(comparison.cells)))
    if comparison.published:
        grids.append(_published(comparison))
    if comparison.claims:
        grids.append(_claims(comparison))
    return tuple(grids)


def _tuning(cell: Cell, tuning: Tuning, several: bool) -> Grid:
    """What tuning came to: the settings as given and the chosen ones, on the same splits."""
    names = list(dict.fromkeys(setting.name for row in tuning.rows for setting in row.settings))
    columns = [Column("optimizer", right=False, foldable=True), Column("default"), Column("tuned"), Column("gain")]
    columns += [*(Column(name) for name in names), Column("default kept"), Column("cost")]
    shown, form = labels(cell), form_of(cell)
    optimizers = {row.arm: row.optimizer for row in cell.rows}
    base = next((row.optimizer for row in cell.rows if row.role == "base"), "the base")
    rows = []
    remarks = []
    for row in tuning.rows:
        settings = {setting.name: setting for setting in row.settings}
        rows.append(
            (
                Entry(shown[row.arm]),
                Entry(_mean(row.default, form)),
                Entry(_mean(row.tuned, form)),
                Entry(_gain(row.gain, form)),
                *(Entry(_values(settings[name]) if name in settings else "–") for name in names),
                Entry(f"{row.default_kept} of {len(row.chosen)}"),
                Entry("n/a" if row.cost is None else f"{row.cost:.3g}"),
            )
        )
        remarks += [
            f"{shown[row.arm]}: {s.at_edge} of {len(row.chosen)} choices of {s.name} lie in the {s.edge} tenth of its "
            f"range: widen {_range_of(s.name, optimizers[row.arm])}"
            for s in row.settings
            if s.edge
        ]
        if row.failed:
            tried = sum(row.trials.values())
            remarks.append(f"{shown[row.arm]}: {row.failed} of {tried} trials failed; they were tried and lost")
    if tuning.equal != "trials":
        counts = [f"{shown[row.arm]} {_span(list(row.trials.values()))}" for row in tuning.rows]
        remarks.append(f"trials at equal {tuning.equal}: {', '.join(counts)}")
    remarks.append(
        f"settings: median [least, most] of the splits that left the default; cost: of all trials on a split, in "
        f"trainings of {base}, by gradient evaluations"
    )
    where = f"{cell.name}: " if several else ""
    trials = counted(tuning.trials, "trial")
    title = f"tuning  {where}{trials} an optimizer and split, by validation, ranges {tuning.search}"
    return Grid(tuple(columns), tuple(rows), title=title, remarks=tuple(remarks))


def _mean(score: Score | None, form: str) -> str:
    if score is None:
        return "n/a"
    return f"{score.mean:{form}}" + ("" if score.sd is None else f" ± {score.sd:{form}}")


def _gain(gain: Interval | None, form: str) -> str:
    if gain is None:
        return "n/a"
    if gain.low is None or gain.high is None:
        return signed(gain.value, form)
    return with_limits(gain.value, Adjusted(gain.low, gain.high), form)


def _values(setting: TunedSetting) -> str:
    """Write the chosen values: median [least, most], or how often each of a list's was chosen."""
    numbers = [value for value in setting.values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(setting.values):
        return ", ".join(f"{value} ({count})" for value, count in Counter(map(str, setting.values)).most_common())
    sign = "×" if setting.name == "learning_rate" else ""
    return f"{sign}{median(numbers):.2g} [{min(numbers):.2g}, {max(numbers):.2g}]"


def _range_of(setting: str, optimizer: str) -> str:
    return f"[tuning] {setting}" if setting in SHARED else f"[tuning.optimizers] {optimizer}.{setting}"


def _span(counts: Sequence[int]) -> str:
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _costs(cell: Cell, several: bool) -> Grid:
    """What arms of unlike length cost, and how soon each reaches what the base reaches in the end."""
    columns = (
        Column("optimizer", right=False, foldable=True),
        Column("epochs"),
        Column("passes"),
        Column("time"),
        Column("cost to target"),
    )
    base = next((row for row in cell.rows if row.role == "base"), None)
    rows = tuple(_cost_row(row, cell, base) for row in cell.rows)
    name = base.label if base else "the base"
    remarks = (
        f"passes and time of a whole training in trainings of {name}; cost to target: passes until a run validates as "
        f"well as {name} in the end, less the margin, on its split: median [least, most]",
    )
    title = f"cost  {cell.name}{how_tuned(cell)}" if several else "cost of whole trainings"
    return Grid(columns, rows, title=title, remarks=remarks)


def _cost_row(row: Row, cell: Cell, base: Row | None) -> tuple[Entry, ...]:
    epochs = cell.protocol["epochs"]
    time = row.speed_to.get("base")
    return (
        Entry(row.label),
        Entry(f"{round(epochs * row.times)}" if isinstance(epochs, int) else "n/a"),
        Entry("n/a" if row.passes_to_base is None else f"{row.passes_to_base:.2f}×"),
        Entry("n/a" if time is None else f"{1.0 / time.value:.2f}×"),
        Entry(_to_target(row.cost_to_target)),
    )


def _to_target(costs: Sequence[float | None]) -> str:
    if not costs:
        return "n/a"
    reached = [cost for cost in costs if cost is not None]
    if not reached:
        return f"reached 0 of {len(costs)}"
    ordered = sorted(math.inf if cost is None else cost for cost in costs)
    middle, most = (f"{value:.2f}" if math.isfinite(value) else "missed" for value in (median(ordered), ordered[-1]))
    return f"reached {len(reached)} of {len(costs)}, median {middle} [{ordered[0]:.2f}, {most}]"


def _across(across: Across, tuned: str) -> Grid:
    columns = (
        Column("optimizer", right=False, foldable=True),
        Column("mean rank"),
        Column("IQM (base = 0)"),
        Column("time score"),
        Column("× sam"),
        Column("× base"),
    )
    rows = tuple(_standing(standing) for standing in across.standings)
    remarks = [
        "mean rank: 1 is best, scores that are alike share theirs; IQM: interquartile mean over all runs of (score − "
        "mean of the base) / SD of the base, positive is better, 95 % by bootstrap within cells; time score: area "
        "under the performance profile of the time to target, for tau (time over the cell's shortest) from 1 to 4: 1 "
        "is always fastest, 0 never within 4 times; ×: geometric mean of speed ratios, 95 % by bootstrap over cells",
        *across.notes,
    ]
    if across.friedman_p is not None:
        remarks.insert(0, f"Friedman's test of equal ranks: p = {across.friedman_p:.3g}")
    remarks += [f"{arm} is left out: {why}" for arm, why in across.left_out.items()]
    return Grid(columns, rows, title=f"over {len(across.cells)} cells{tuned}", remarks=tuple(remarks))


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


def _claims(comparison: Comparison) -> Grid:
    columns = (Column("", right=False), Column("claim: what the runs say", right=False, foldable=True))
    rows = [
        (Entry(claim.outcome), Entry(f"{claim.text}: {f'{claim.cell}: ' if claim.cell else ''}{claim.evidence}"))
        for claim in comparison.claims
    ]
    remark = (
        "claims: paired difference over splits, positive where the first is better, with its corrected 95 % interval; "
        "one claim at a time, so not adjusted for their number as the verdicts are"
    )
    return Grid(columns, tuple(rows), title="the paper's claims", remarks=(remark,))


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else f"a{i}"


def beside(row: PublishedComparison) -> tuple[str, str]:
    """Return the paper's number, and ours minus it with its interval."""
    form = ".1f" if row.paper >= 10 else ".4f" if row.paper < 0.05 or row.table in ACCURACIES else ".3f"
    paper = f"{row.paper:{form}}" + ("" if row.paper_sd is None else f" ± {row.paper_sd:{form}}")
    return paper, "n/a" if row.difference is None else _gain(row.difference, form)


def _published_row(row: PublishedComparison, letters: dict[str, str]) -> tuple[Entry, ...]:
    paper, difference = beside(row)
    speeds = (
        "n/a" if row.our_speed_to_sam is None else f"{row.our_speed_to_sam.value:.2f}",
        "n/a" if row.paper_speed_to_sam is None else f"{row.paper_speed_to_sam:.2f}",
    )
    texts = (
        row.dataset + row.cell.removeprefix(f"{row.dataset} / {row.model}"),
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
