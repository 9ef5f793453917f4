"""What the GraphSAM paper claims, and whether these runs bear it out: it holds, it does not, or they cannot tell.

Each claim is a sentence about two arms of a cell and is judged where both were run as the paper ran them, by the paired
difference over splits with its corrected 95 % interval (Nadeau and Bengio 2003) and the margin that was fixed before.
One claim at a time: the intervals are not adjusted for their number, unlike those of the verdicts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samcmp.analysis import published
from samcmp.analysis.comparison import Cell, Claim, Comparison, Interval, Outcome, Row
from samcmp.analysis.numbers import signed, times
from samcmp.analysis.paired import Adjusted, paired_difference
from samcmp.analysis.sentences import form_of, with_limits
from samcmp.records import Protocol

LEAST_BLOCKS = 3  # for a test of two deviations
LEVEL = 0.05


IMAGE_EPOCHS = 200  # usual on CIFAR; the paper does not say


@dataclass(frozen=True, slots=True)
class Finding:
    """How one claim stands in one cell, and by what."""

    outcome: Outcome
    evidence: str


Judge = Callable[[Cell], Finding | None]  # None: the cell lacks the arms


def other_experiment(cell: Cell) -> str:
    """Say what makes these runs another experiment than the paper's; empty where nothing does."""
    if cell.tuning is not None:
        return "ours is tuned, the paper's settings are given"
    if cell.protocol.get("subset") is not None:
        return f"ours is a subset of {cell.protocol['subset']} {cell.holds}"
    if why := _other_step(cell):
        return why
    of_images = cell.holds == "images"
    if of_images and cell.split != "fixed":
        return f"ours is a {cell.split} split, the paper's test set is the publisher's"
    if not of_images and cell.split not in {"random", "cv5"}:
        return f"ours is a {cell.split} split, the paper's is random"
    epochs = cell.protocol.get("epochs")
    full, whose = Protocol().epochs, "the released command"
    if of_images:
        full, whose = IMAGE_EPOCHS, "the suite paper-table11"
    if isinstance(epochs, int) and epochs < full:
        return f"ours trained {epochs} epochs, {whose} {full}"
    return ""


def _other_step(cell: Cell) -> str:
    """Say what makes a single step another one: its speed depends on neither the splits nor the epochs."""
    base = "sgd" if cell.holds == "images" else Protocol().base
    if cell.protocol.get("base") not in {None, base}:
        return f"ours is over {cell.protocol['base']}, the paper's over {base}"
    unstated = published.UNSTATED.get(cell.model, {})
    changed = {key: value for key, value in sorted(cell.model_settings.items()) if unstated.get(key) != value}
    if changed:
        return f"ours changes the model: {', '.join(f'{key}={value}' for key, value in changed.items())}"
    return ""


def with_claims(comparison: Comparison) -> Comparison:
    """Return the comparison with every claim judged in every cell that has a number of the paper beside it.

    The claims are about molecules; cells of images are left out.
    """
    named = {row.cell for row in comparison.published}
    cells = [cell for cell in comparison.cells if cell.name in named and cell.holds == "molecules"]
    claims = [claim for text, run, judge in CLAIMS for claim in _judged(text, run, judge, cells)] if cells else []
    return dataclasses.replace(comparison, claims=tuple(claims))


def _judged(text: str, run: str, judge: Judge, cells: Sequence[Cell]) -> Iterator[Claim]:
    told = False
    for cell in cells:
        finding = judge(cell)
        if finding is None:
            continue
        told = True
        if why := _other_step(cell) if judge is _graphsam_faster else other_experiment(cell):
            finding = Finding("cannot be told", why)
        yield Claim(text, cell.name, finding.outcome, finding.evidence)
    if not told:
        yield Claim(text, None, "cannot be told", f"nothing here was run for it: samcmp compare --suite {run}")


# ------------------------------------------------------------------------------------------------- two arms of a cell


def _arm(cell: Cell, optimizer: str, **settings: object) -> Row | None:
    """The arm of these settings, all others at what the paper states or at their defaults."""
    wanted = _in_full(optimizer, settings)
    rows = [row for row in cell.rows if row.optimizer == optimizer and not row.own]
    return next((row for row in rows if _in_full(optimizer, row.optimizer_settings) == wanted), None)


def _in_full(optimizer: str, settings: Mapping[str, object]) -> Mapping[str, object]:
    return {**published.defaults(optimizer), **settings}


def _sam(cell: Cell) -> Row | None:
    """The arm that the paper calls SAM: on CoMPT with the shrinking radius, where that was run."""
    scheduled = _arm(cell, "sam", rho_schedule="step") if cell.model == "compt" else None
    return scheduled or next((row for row in cell.rows if row.role == "sam"), None)


def _base(cell: Cell) -> Row | None:
    return next((row for row in cell.rows if row.role == "base"), None)


def difference(cell: Cell, first: Row, second: Row) -> tuple[Interval, str] | None:
    """Return how much better the first is over the splits that both have, and that in words; None without a split.

    In the unit of the metric, with the corrected 95 % interval of the paired differences (Nadeau and Bengio 2003).
    """
    common = sorted(first.blocks.keys() & second.blocks.keys())
    if not common:
        return None
    sign = 1.0 if cell.higher_is_better else -1.0
    d = paired_difference(
        [sign * (first.blocks[block] - second.blocks[block]) for block in common],
        margin=0.0,
        test_over_train=cell.test_over_train or 0.0,
    )
    text, form = f"{first.label} over {second.label}", form_of(cell)
    if d.low is None or d.high is None:
        return Interval(d.mean), f"{text} {signed(d.mean, form)} on a single split"
    return Interval(d.mean, d.low, d.high), f"{text} {with_limits(d.mean, Adjusted(d.low, d.high), form)}, {d.n} splits"


def _better(cell: Cell, first: Row | None, second: Row | None) -> Finding | None:
    """Is the first more accurate? It is not where any gain is shown to be smaller than the margin."""
    found = difference(cell, first, second) if first and second else None
    if found is None:
        return None
    d, text = found
    if d.low is not None and d.low > 0.0:
        return Finding("holds", text)
    if d.high is not None and (d.high < (cell.margin or 0.0) or d.high <= 0.0):
        return Finding("does not hold", text)
    return Finding("cannot be told", text)


def _as_accurate(cell: Cell, first: Row | None, second: Row | None) -> Finding | None:
    """Is the first no worse than the second by the margin? It is worse where the whole interval is below zero."""
    found = difference(cell, first, second) if first and second else None
    if found is None or cell.margin is None:
        return None
    d, text = found
    if d.low is not None and d.low > -cell.margin:
        return Finding("holds", text)
    if d.high is not None and d.high < 0.0:
        return Finding("does not hold", text)
    return Finding("cannot be told", text)


def _all(findings: Sequence[Finding | None]) -> Finding | None:
    """One claim about several pairs: it holds where each does, and falls with the first that does not."""
    known = [finding for finding in findings if finding is not None]
    outcomes: tuple[Outcome, ...] = ("does not hold", "cannot be told", "holds")
    for outcome in outcomes:
        found = [finding.evidence for finding in known if finding.outcome == outcome]
        if found:
            return Finding(outcome, "; ".join(found))
    return None


# ------------------------------------------------------------------------------------------------- the claims


def _graphsam_as_sam(cell: Cell) -> Finding | None:
    return _as_accurate(cell, _arm(cell, "graphsam"), _sam(cell))


def _graphsam_over_adam(cell: Cell) -> Finding | None:
    return _better(cell, _arm(cell, "graphsam"), _base(cell))


def _sam_over_adam(cell: Cell) -> Finding | None:
    return _better(cell, _sam(cell), _base(cell))


def _graphsam_faster(cell: Cell) -> Finding | None:
    row = _arm(cell, "graphsam")
    if row is None or "sam" not in row.speed_to:
        return None
    ratio = row.speed_to["sam"]
    if ratio.low is None or ratio.high is None:
        return Finding("cannot be told", f"{times(ratio)}, without an interval")
    outcome: Outcome = "holds" if ratio.low > 1.0 else "does not hold" if ratio.high < 1.0 else "cannot be told"
    return Finding(outcome, times(ratio))


def _sam_one_worst(cell: Cell) -> Finding | None:
    worst = _arm(cell, "sam-one")
    others = [row for row in cell.rows if worst and row.arm != worst.arm and row.role != "base" and not row.own]
    return _all([_better(cell, row, worst) for row in others])


def _ae_sam_unstable(cell: Cell) -> Finding | None:
    """Is AE-SAM's deviation over splits larger than SAM's? Paired (Pitman 1939, Morgan 1939)."""
    from scipy.stats import pearsonr

    first, second = _arm(cell, "ae-sam"), _sam(cell)
    if first is None or second is None:
        return None
    common = sorted(first.blocks.keys() & second.blocks.keys())
    if len(common) < LEAST_BLOCKS:
        return Finding("cannot be told", f"a deviation needs {LEAST_BLOCKS} splits, there are {len(common)}")
    x, y = (np.array([row.blocks[block] for block in common]) for row in (first, second))
    text = f"SD {x.std(ddof=1):{form_of(cell)}} against {y.std(ddof=1):{form_of(cell)}}, {len(common)} splits"
    if np.ptp(x + y) == 0.0 or np.ptp(x - y) == 0.0:
        return Finding("cannot be told", text)
    r, p = pearsonr(x + y, x - y)
    if p >= LEVEL:
        return Finding("cannot be told", f"{text}, p = {p:.2f}")
    return Finding("holds" if r > 0.0 else "does not hold", f"{text}, p = {p:.2g}")


def _best_of(optimizer: str, *free: str, **best: object) -> Judge:
    """Is the arm of these settings better than each that differs from it in the free ones alone?"""

    def judge(cell: Cell) -> Finding | None:
        praised = _arm(cell, optimizer, **best)
        rows = [row for row in cell.rows if row.optimizer == optimizer and not row.own and row is not praised]
        return _all([_better(cell, praised, row) for row in rows if _apart(praised, row) <= {*free, *best}])

    return judge


def _apart(first: Row | None, second: Row) -> set[str]:
    """The settings in which two arms of an optimizer differ."""
    one, other = (_in_full(row.optimizer, row.optimizer_settings) for row in (first or second, second))
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


CLAIMS: tuple[tuple[str, str, Judge], ...] = (
    ("GraphSAM is as accurate as SAM", "paper-table1", _graphsam_as_sam),
    ("GraphSAM is more accurate than Adam", "paper-table1", _graphsam_over_adam),
    ("SAM is more accurate than Adam", "paper-table1", _sam_over_adam),
    ("GraphSAM is faster than SAM (the paper: up to 1.55×)", "paper-table2", _graphsam_faster),
    ("SAM-One is the worst of the SAM family", "paper-table2", _sam_one_worst),
    ("AE-SAM is less stable than SAM", "paper-table2", _ae_sam_unstable),
    ("a shrinking rho is better than a fixed one, in SAM", "paper-table8", _best_of("sam", "rho", rho_schedule="step")),
    (
        "a shrinking rho is better than a fixed one, in GraphSAM",
        "paper-table8",
        _best_of("graphsam", "rho", rho_schedule="step"),
    ),
    ("beta 0.99 is better than others", "paper-table3", _best_of("graphsam", beta=0.99)),
    ("gamma 0.5 is better than others", "paper-table9", _best_of("graphsam", gamma=0.5)),
    ("anchoring in every epoch is better than less often", "paper-figure6", _best_of("graphsam-k", K=1)),
)
