"""What to use: one arm a cell, one over several cells, by a rule that is printed with them.

It rests on the declared verdicts alone, which are tuned where the comparison is, and on the time of whole trainings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from samcmp.analysis.comparison import Cell, Recommendation, Row, Verdict, training_speed
from samcmp.analysis.numbers import times
from samcmp.analysis.sentences import difference, form_of, runs_of, word_of
from samcmp.printable import counted

RULE = (
    "Rule: the fastest optimizer that is shown to be better than the base, or to be no worse by the margin and faster; "
    "if there is none, the base."
)
RULE_OVER_CELLS = "Over several: what is recommended most often and shown to be worse in none; else the base."
NONE = "No recommendation: "
MOST_NAMES = 3  # cells that are named before they are counted


def recommend(cell: Cell) -> Recommendation:
    """Apply :data:`RULE` to the verdicts of a cell."""
    base = next((row for row in cell.rows if row.role == "base"), None)
    against = [v for v in cell.verdicts if v.role == "base"]
    if base is None:
        return Recommendation(None, f"{NONE}the base optimizer is not among those compared.")
    if base.score is None:
        return Recommendation(None, f"{NONE}{base.label} has no score ({base.missing.get('score', 'not run')}).")
    if not any(v.mean is not None for v in against):
        return Recommendation(None, f"{NONE}nothing is compared with {base.label}.")
    rows = {row.arm: row for row in cell.rows}
    shown = [v for v in against if v.word == "better" or v.claim]
    if shown:
        best = max(shown, key=lambda v: (training_speed(rows[v.arm]) or 0.0, v.mean or 0.0))
        return Recommendation(best.arm, f"Use {rows[best.arm].label}: {_why(best, cell, base)}{_rests_on(cell)}.")
    return Recommendation(
        base.arm, f"Use {base.label}: {_why_base(against, rows)}{_rests_on(cell, _needed(against, rows))}."
    )


def _why(verdict: Verdict, cell: Cell, base: Row) -> str:
    numbers = difference(verdict, form_of(cell))
    if verdict.word == "better":
        little = ", by less than the margin" if verdict.within_margin else ""
        said = f"better than {base.label}, {numbers}{little}"
        if verdict.speed is None:
            return f"{said}; speed not measured"
        return f"{said}, {'and faster, ' if verdict.speed_word == 'faster' else 'at '}{times(verdict.speed)} its speed"
    ratio = "" if verdict.speed is None else times(verdict.speed)
    return f"no worse than {base.label} by the margin ({word_of(verdict)} {numbers}) and faster, {ratio}"


def _why_base(against: Sequence[Verdict], rows: dict[str, Row]) -> str:
    faster = [rows[v.arm].label for v in against if v.speed_word == "faster"]
    if faster:
        what = "which is faster, is" if len(faster) == 1 else "which are faster, are"
        return f"nothing is shown to be more accurate, and {', '.join(faster)}, {what} not shown to be as accurate"
    if all(v.speed is None for v in against):
        return "nothing is shown to be more accurate, and no speed was measured"
    unsure = "shown to be " if any(v.speed_word == "ambiguous" for v in against) else ""
    return f"nothing is shown to be more accurate, and nothing is {unsure}faster"


def _needed(against: Sequence[Verdict], rows: dict[str, Row]) -> str:
    """Say what it would take to tell the undecided ones."""
    undecided = [v for v in against if v.word == "inconclusive"]
    if not undecided:
        return ""
    known = [(v.blocks_needed, rows[v.arm].label) for v in undecided if v.blocks_needed is not None]
    if known:
        splits, label = min(known)
        return f"; {label} would need about {splits} to tell"
    causes = dict.fromkeys(v.why for v in undecided if v.why)
    return f"; {next(iter(causes))}" if causes else ""


def _rests_on(cell: Cell, needed: str = "") -> str:
    tuned = f", {counted(cell.tuning.trials, 'trial')} each" if cell.tuning else ""
    splits = len(cell.splits)
    alike = splits == max(len(row.blocks) for row in cell.rows)
    return f" ({counted(splits, 'split') if alike else runs_of(cell)}{tuned}{needed})"


def recommend_over(cells: Sequence[Cell]) -> Recommendation | None:
    """Name one arm for all cells, and where another is recommended; of a single cell its own recommendation."""
    if len(cells) < 2:
        return cells[0].recommendation if cells else None
    by_arm: dict[str | None, list[Cell]] = {}
    for cell in cells:
        by_arm.setdefault(cell.recommendation.arm if cell.recommendation else None, []).append(cell)
    worse = {v.arm for cell in cells for v in cell.verdicts if v.role == "base" and v.word == "worse"}
    bases = Counter(row.arm for cell in cells for row in cell.rows if row.role == "base")
    able = [arm for arm in by_arm if arm is not None and arm not in worse]
    if not bases or set(by_arm) == {None}:
        causes = dict.fromkeys(c.recommendation.text.removeprefix(NONE) for c in cells if c.recommendation)
        why = next(iter(causes)) if len(causes) == 1 else "the reason is with each cell."
        return Recommendation(None, f"Over {len(cells)} cells: no recommendation: {why}")
    usual = bases.most_common(1)[0][0]
    best = max(able, key=lambda arm: (len(by_arm[arm]), arm in bases), default=usual)
    label = {row.arm: row.label for cell in cells for row in cell.rows}
    others = [
        f"{'no recommendation' if arm is None else label[arm]} for {_named(of)}"
        for arm, of in by_arm.items()
        if arm != best
    ]
    where = "; ".join(others) if others else "in every one"
    return Recommendation(best, f"Over {len(cells)} cells: use {label[best]}{'; ' if others else ', '}{where}.")


def _named(cells: Sequence[Cell]) -> str:
    names = [cell.name for cell in cells]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"
