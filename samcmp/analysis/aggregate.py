"""Several cells together: ranks, performance profiles, pooled scores and speed ratios of each arm.

``scores`` are (cells, arms) with higher better unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from samcmp.analysis.comparison import Across, Cell, Interval, PairTest, Row, Settings, Standing
from samcmp.analysis.paired import Array, alike, holm

LEAST_DRAWS, MOST_DRAWN = 2_000, 5_000_000  # bootstrap samples of runs, and runs in all of them
TAU = tuple(1.0 + 0.05 * i for i in range(61))  # 1 to 4, AlgoPerf's range


def across_cells(cells: Sequence[Cell], settings: Settings) -> Across | None:
    """Rank and pool the arms that every cell has a score of; None with fewer than two cells or arms."""
    scored = [cell for cell in cells if any(row.score for row in cell.rows)]
    if len(scored) < 2:
        return None
    having = [{row.arm for row in cell.rows if row.score} for cell in scored]
    common = set.intersection(*having)
    arms = [row.arm for row in scored[0].rows if row.arm in common]
    if len(arms) < 2:
        return None
    rows = [[next(row for row in cell.rows if row.arm == arm) for arm in arms] for cell in scored]
    means = np.array([[row.score.mean if row.score else np.nan for row in line] for line in rows])
    goodness = alike(means * np.array([[1.0 if cell.higher_is_better else -1.0] for cell in scored]))
    distance = critical_difference(len(scored), len(arms), alpha=settings.alpha)
    costs = _times(rows)
    profile = None if costs is None else performance_profile(costs, np.array(TAU))
    standings = _standings(scored, rows, goodness, costs, distance=distance, settings=settings)
    return Across(
        cells=tuple(cell.name for cell in scored),
        arms=tuple(arms),
        left_out={
            arm: f"no score in {sum(arm not in cell for cell in having)} of {len(scored)} cells"
            for arm in dict.fromkeys(row.arm for cell in cells for row in cell.rows)
            if arm not in common
        },
        standings=tuple(sorted(standings, key=lambda s: s.mean_rank)),
        friedman_p=friedman(goodness)[1],
        critical_difference=distance,
        wilcoxon=_pair_tests(goodness, arms),
        profile_of="training time to the base's best validation score less the margin, over the cell's shortest",
        profile_tau=TAU,
        profile={} if profile is None else {arm: tuple(profile[k].tolist()) for k, arm in enumerate(arms)},
        notes=(
            f"{len(scored)} cells and {len(arms)} arms: mean ranks must differ by {distance:.1f} "
            f"(critical difference), so ranks show only large effects",
            "pairs by Wilcoxon are exploratory: all of them, Holm-adjusted",
        ),
    )


def _standings(
    cells: Sequence[Cell],
    rows: Sequence[Sequence[Row]],
    goodness: Array,
    costs: Array | None,
    *,
    distance: float,
    settings: Settings,
) -> list[Standing]:
    """Return each arm's standing from its rows, one of every cell."""
    mean_ranks = ranks(goodness).mean(axis=0)
    merit = None if costs is None else profile_score(costs)
    pooled = _iqms(cells, rows, settings)
    return [
        Standing(
            arm=of_arm[0].arm,
            label=of_arm[0].label,
            cells=len(cells),
            mean_rank=float(mean_ranks[k]),
            tied_with=tuple(
                other.arm
                for j, other in enumerate(rows[0])
                if j != k and abs(mean_ranks[j] - mean_ranks[k]) <= distance
            ),
            profile_score=None if merit is None else float(merit[k]),
            iqm=None if pooled is None else pooled[k],
            speed_to_sam=_speed(of_arm, "sam", settings),
            speed_to_base=_speed(of_arm, "base", settings),
        )
        for k, of_arm in enumerate(zip(*rows, strict=True))
    ]


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
    bases = [next((row.score for row in cell.rows if row.role == "base"), None) for cell in cells]
    scales = [(base.mean, base.sd if cell.higher_is_better else -base.sd)
              for cell, base in zip(cells, bases, strict=True) if base is not None and base.sd]  # fmt: skip
    if len(scales) < len(cells):
        return None
    arms = [
        [(np.array(list(row.blocks.values())) - mean) / sd for row, (mean, sd) in zip(of_arm, scales, strict=True)]
        for of_arm in zip(*rows, strict=True)
    ]
    return [iqm_interval(arm, draws=settings.draws, seed=settings.seed, alpha=settings.alpha) for arm in arms]


def _speed(rows: Sequence[Row], role: str, settings: Settings) -> Interval | None:
    ratios = [row.speed_to[role].value for row in rows if role in row.speed_to]
    if len(ratios) < len(rows):
        return None
    return geometric_mean(ratios, draws=settings.draws, seed=settings.seed, alpha=settings.alpha)


def ranks(scores: npt.ArrayLike) -> Array:
    """Return the ranks within each cell, 1 = best, ties by their mean rank (cells, arms)."""
    mean_ranks: Array = stats.rankdata(-np.asarray(scores, dtype=np.float64), axis=1)
    return mean_ranks


def friedman(scores: npt.ArrayLike) -> tuple[float, float]:
    """Return Friedman's chi-squared, corrected for ties, and its p-value (Friedman 1937). One if all are tied.

    As scipy's for three arms or more; scipy refuses two.
    """
    r = ranks(scores)
    cells, arms = r.shape
    if arms < 2:
        raise ValueError("ranks need two arms or more")
    middle = (arms + 1) / 2.0
    within = float(((r - middle) ** 2).sum())
    if within == 0.0:
        return 0.0, 1.0
    statistic = (arms - 1) * float(((r.sum(axis=0) - cells * middle) ** 2).sum()) / within
    return statistic, float(special.chdtrc(arms - 1, statistic))


def critical_difference(cells: int, arms: int, *, alpha: float = 0.05) -> float:
    """Return Nemenyi's critical difference of mean ranks: q_alpha sqrt(k (k + 1) / (6 N)) (Demsar 2006)."""
    q = float(stats.studentized_range.ppf(1.0 - alpha, arms, np.inf)) / math.sqrt(2.0)
    return q * math.sqrt(arms * (arms + 1) / (6.0 * cells))


def wilcoxon(differences: npt.ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test (1945), zeros left out, ties by midranks.

    The distribution under H0 is counted exactly over all signs, which scipy does only where there are no ties.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0.0]
    if d.size == 0:
        return 1.0
    doubled = np.rint(2.0 * stats.rankdata(np.abs(d))).astype(np.int64)
    share = np.ones(1)  # of the 2^n signs, by twice the sum of the positive ranks
    for rank in doubled.tolist():
        share = (np.pad(share, (0, rank)) + np.pad(share, (rank, 0))) / 2.0
    statistic = int(doubled[d > 0.0].sum())
    smaller = min(statistic, int(doubled.sum()) - statistic)
    return min(1.0, 2.0 * float(share[: smaller + 1].sum()))


def performance_profile(costs: npt.ArrayLike, tau: npt.ArrayLike) -> Array:
    """Return rho(tau) (arms, tau): the share of cells in which an arm costs at most tau times the cheapest.

    Dolan and More 2002. ``costs`` (cells, arms) are positive, lower is better, inf where the goal was not reached.
    """
    profile: Array = (_ratios(costs)[:, :, None] <= np.asarray(tau, dtype=np.float64)).mean(axis=0)
    return profile


def profile_score(costs: npt.ArrayLike, *, most: float = 4.0) -> Array:
    """Return (1 / (r_max - 1)) * integral of rho from 1 to r_max, the benchmark score of AlgoPerf (Dahl et al. 2023).

    rho is a staircase, so its integral is a sum: a cell with ratio r < r_max adds (r_max - r) / cells.
    """
    score: Array = np.clip(most - _ratios(costs), 0.0, None).mean(axis=0) / (most - 1.0)
    return score


def _ratios(costs: npt.ArrayLike) -> Array:
    """Return every cost over the smallest of its cell (cells, arms), inf where the goal was not reached."""
    c = np.asarray(costs, dtype=np.float64)
    if (c <= 0.0).any() or np.isnan(c).any():
        raise ValueError("costs are positive, inf where a goal was not reached")
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(c), c / c.min(axis=1, keepdims=True), np.inf)


def iqm(values: npt.ArrayLike) -> float:
    """Return the interquartile mean: of what is left after a quarter is cut from each end (Agarwal et al. 2021)."""
    return float(stats.trim_mean(np.ravel(values), 0.25))


def iqm_interval(
    cells: Sequence[npt.ArrayLike], *, draws: int = 10_000, seed: int = 0, alpha: float = 0.05
) -> Interval:
    """Return the IQM over all runs of an arm, with a stratified percentile bootstrap (Agarwal et al. 2021).

    ``cells`` holds one array of runs a cell; resamples are drawn within each cell. Arms with equally many runs are
    resampled alike, so they stay paired. Of very many runs fewer samples are drawn, 2,000 at least.
    """
    strata = [np.asarray(runs, dtype=np.float64) for runs in cells]
    value = iqm(np.concatenate(strata))
    if max(runs.size for runs in strata) < 2:
        return Interval(value)
    draws = min(draws, max(LEAST_DRAWS, MOST_DRAWN // sum(runs.size for runs in strata)))
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([runs[rng.integers(0, runs.size, (draws, runs.size))] for runs in strata], axis=1)
    low, high = np.quantile(stats.trim_mean(drawn, 0.25, axis=1), [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(value, float(low), float(high))


def geometric_mean(ratios: npt.ArrayLike, *, draws: int = 10_000, seed: int = 0, alpha: float = 0.05) -> Interval:
    """Return the geometric mean of ratios over cells with the percentile bootstrap over cells."""
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    value = float(np.exp(logs.mean()))
    n = logs.size
    if n < 2:
        return Interval(value)
    shares = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=draws) / n  # of each cell
    low, high = np.quantile(shares @ logs, [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(value, float(np.exp(low)), float(np.exp(high)))
