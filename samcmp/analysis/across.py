"""What several cells say together about each arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samcmp.analysis.cells import (
    critical_difference,
    friedman,
    geometric_mean,
    iqm_intervals,
    performance_profile,
    profile_score,
    ranks,
    wilcoxon,
)
from samcmp.analysis.comparison import Across, Cell, PairTest, Row, Settings, Standing
from samcmp.analysis.paired import Array, Interval, holm

TAU = tuple(1.0 + 0.05 * i for i in range(61))  # 1 to 4, AlgoPerf's range


def across_cells(cells: Sequence[Cell], settings: Settings) -> Across | None:
    """Rank and pool the arms that every cell has a score of; None with fewer than two cells or arms."""
    scored = [cell for cell in cells if any(row.score for row in cell.rows)]
    if len(scored) < 2:
        return None
    having = [{row.arm for row in cell.rows if row.score} for cell in scored]
    common = set.intersection(*having)
    arms = [row.arm for row in scored[0].rows if row.arm in common]
    left_out = {
        arm: f"no score in {sum(arm not in cell for cell in having)} of {len(scored)} cells"
        for arm in dict.fromkeys(row.arm for cell in cells for row in cell.rows)
        if arm not in common
    }
    if len(arms) < 2:
        return None
    rows = [[next(row for row in cell.rows if row.arm == arm) for arm in arms] for cell in scored]
    means = np.array([[row.score.mean if row.score else np.nan for row in line] for line in rows])
    sign = np.array([1.0 if cell.higher_is_better else -1.0 for cell in scored])
    goodness = means * sign[:, None]
    mean_ranks = ranks(goodness).mean(axis=0)
    distance = critical_difference(len(scored), len(arms), alpha=settings.alpha)
    costs = _times(rows)
    profile = performance_profile(costs, np.array(TAU)) if costs is not None else None
    merit = profile_score(costs) if costs is not None else None
    pooled = _iqms(scored, rows, settings)
    standings = [
        Standing(
            arm=arm,
            label=rows[0][k].label,
            cells=len(scored),
            mean_rank=float(mean_ranks[k]),
            tied_with=tuple(
                o for j, o in enumerate(arms) if o != arm and abs(mean_ranks[j] - mean_ranks[k]) <= distance
            ),
            profile_score=None if merit is None else float(merit[k]),
            iqm=None if pooled is None else pooled[k],
            speed_to_sam=_speed([line[k] for line in rows], "sam", settings),
            speed_to_base=_speed([line[k] for line in rows], "base", settings),
        )
        for k, arm in enumerate(arms)
    ]
    return Across(
        cells=tuple(cell.name for cell in scored),
        arms=tuple(arms),
        left_out=left_out,
        standings=tuple(sorted(standings, key=lambda s: s.mean_rank)),
        friedman_p=friedman(goodness)[1],
        critical_difference=distance,
        wilcoxon=_pair_tests(goodness, arms),
        profile_of="training time to the base optimizer's median best validation score, over the shortest of the cell",
        profile_tau=TAU,
        profile={} if profile is None else {arm: tuple(profile[k].tolist()) for k, arm in enumerate(arms)},
        notes=(
            f"{len(scored)} cells and {len(arms)} arms: mean ranks must differ by {distance:.1f} "
            f"(critical difference), so ranks show only large effects",
            "pairs by Wilcoxon are exploratory: all of them, Holm-adjusted",
        ),
    )


def _times(rows: Sequence[Sequence[Row]]) -> Array | None:
    """Return times to target (cells, arms), inf where it was missed; None where a cell has no runs or no speeds."""
    if any(not row.epochs_to_target or row.graphs_per_second is None for line in rows for row in line):
        return None
    times = [[np.inf if row.seconds_to_target is None else row.seconds_to_target for row in line] for line in rows]
    return np.array(times)


def _pair_tests(goodness: Array, arms: Sequence[str]) -> tuple[PairTest, ...]:
    pairs = [(i, j) for i in range(len(arms)) for j in range(i)]
    p = [wilcoxon(goodness[:, i] - goodness[:, j]) for i, j in pairs]
    adjusted = holm(p)
    return tuple(PairTest(arms[i], arms[j], p[n], adjusted[n]) for n, (i, j) in enumerate(pairs))


def _iqms(cells: Sequence[Cell], rows: Sequence[Sequence[Row]], settings: Settings) -> list[Interval] | None:
    """Pool each arm's runs as (m − mean of the base) / SD of the base, signed so that higher is better."""
    bases = [next((row.score for row in cell.rows if row.role == "base" and row.score), None) for cell in cells]
    scales = [(base.mean, base.sd) for base in bases if base is not None and base.sd]
    if len(scales) < len(cells):
        return None
    arms = [
        [
            (1.0 if cell.higher_is_better else -1.0) * (np.array(list(line[k].blocks.values())) - mean) / sd
            for cell, line, (mean, sd) in zip(cells, rows, scales, strict=True)
        ]
        for k in range(len(rows[0]))
    ]
    return iqm_intervals(arms, draws=settings.draws, seed=settings.seed, alpha=settings.alpha)


def _speed(rows: Sequence[Row], role: str, settings: Settings) -> Interval | None:
    ratios = [row.speed_to[role].value for row in rows if role in row.speed_to]
    if len(ratios) < len(rows):
        return None
    return geometric_mean(ratios, draws=settings.draws, seed=settings.seed, alpha=settings.alpha)
