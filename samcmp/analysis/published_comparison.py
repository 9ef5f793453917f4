"""Our numbers against those that the GraphSAM paper prints, and whether they agree."""

from __future__ import annotations

import dataclasses
import math

from samcmp.analysis import published
from samcmp.analysis.claims import other_experiment, with_claims
from samcmp.analysis.comparison import Agreement, Cell, Comparison, Interval, PublishedComparison, Row
from samcmp.analysis.paired import standard_error
from samcmp.profiling.ratios import t_quantile


def with_published(comparison: Comparison, table: int | None = None) -> Comparison:
    """Return the comparison with the printed number of each arm that has one, of ``table`` where it is there,
    and the paper's claims judged."""
    rows = [_compared(cell, row, table) for cell in comparison.cells for row in cell.rows]
    return with_claims(dataclasses.replace(comparison, published=tuple(row for row in rows if row is not None)))


def _compared(cell: Cell, row: Row, table: int | None) -> PublishedComparison | None:
    if row.own or cell.tuning is not None:
        return None  # trained otherwise than the paper's
    pretrained = bool(cell.protocol.get("init_from"))
    settings = row.optimizer_settings
    printed = published.find(
        cell.dataset, cell.model, row.optimizer, settings=settings, table=table, pretrained=pretrained
    )
    if printed is None:
        return None
    flags = {flag.name: flag.why for flag in printed.flags}
    speed = published.find_speed(cell.dataset, cell.model, row.optimizer, settings=settings, pretrained=pretrained)
    sam = published.find_speed(cell.dataset, cell.model, "sam", pretrained=pretrained)
    paper_ratio = None
    if speed and sam and speed.graphs_per_second and sam.graphs_per_second:
        paper_ratio = speed.graphs_per_second / sam.graphs_per_second
        flags.update({flag.name: flag.why for flag in (*speed.flags, *sam.flags) if flag.about == "speed"})
    difference, why = _difference(cell, row, printed)
    agreement: Agreement = "n.a."
    if difference is not None and difference.low is not None and difference.high is not None:
        agreement = "agree" if difference.low <= 0.0 <= difference.high else "disagree"
    return PublishedComparison(
        cell=cell.name,
        dataset=cell.dataset,
        model=printed.model,
        arm=row.arm,
        label=row.label,
        table=printed.table,
        paper=printed.value,
        paper_sd=printed.sd,
        ours=row.score,
        difference=difference,
        agreement=agreement,
        why=why,
        paper_speed_to_sam=paper_ratio,
        our_speed_to_sam=row.speed_to.get("sam"),
        flags=tuple(flags),
        reasons=flags,
    )


def _difference(cell: Cell, row: Row, printed: published.Published) -> tuple[Interval | None, str]:
    """Return ours minus the paper's with a 95 % interval (Welch-like, our degrees of freedom), or why there is none.

    Both means carry the corrected resampled standard error; the paper's rests on its deviation over 25 runs where
    it prints one, else on nothing, which makes the interval too narrow, and that is said.
    """
    cause = _not_comparable(cell, printed)
    if row.score is None:
        return None, row.missing.get("score", "no result")
    mean = row.score.mean - printed.value
    if cause:
        return None, cause
    if row.score.sd is None or row.score.low is None or row.score.high is None or cell.test_over_train is None:
        return Interval(mean), "a single run has no interval"
    splits = len(cell.splits)
    n = min(row.score.n, splits) if splits > 1 else row.score.n
    t = t_quantile(0.975, n - 1)
    ours = (row.score.high - row.score.low) / (2.0 * t)
    theirs = 0.0
    why = "both deviations"
    if printed.sd is None:
        why = "our deviation only: the paper prints none here"
    else:
        theirs = standard_error(printed.sd, published.REPEATS, test_over_train=published.TEST_OVER_TRAIN)
    half = t * math.hypot(ours, theirs)
    return Interval(mean, mean - half, mean + half), why


def _not_comparable(cell: Cell, printed: published.Published) -> str:
    return f"the paper reports {printed.metric}" if printed.metric != cell.metric else other_experiment(cell)
