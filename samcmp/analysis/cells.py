"""Several cells together: ranks, performance profiles, pooled scores and speed ratios. Arrays in, numbers out.

``scores`` are (cells, arms) with higher better unless said otherwise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samcmp.analysis.distributions import chi2_above, range_quantile
from samcmp.analysis.paired import Array, Interval


def ranks(scores: npt.ArrayLike) -> Array:
    """Return the ranks within each cell, 1 = best, ties by their mean rank (cells, arms)."""
    x = np.asarray(scores, dtype=np.float64)
    above = (x[:, None, :] > x[:, :, None]).sum(axis=2)
    equal = (x[:, None, :] == x[:, :, None]).sum(axis=2)
    result: Array = above + (equal + 1) / 2.0
    return result


def friedman(scores: npt.ArrayLike) -> tuple[float, float]:
    """Return Friedman's chi-squared, corrected for ties, and its p-value (Friedman 1937). One if all are tied."""
    r = ranks(scores)
    cells, arms = r.shape
    if arms < 2:
        raise ValueError("ranks need two arms or more")
    between = 12.0 / (cells * arms * (arms + 1)) * float((r.sum(axis=0) ** 2).sum()) - 3.0 * cells * (arms + 1)
    ties = 0.0
    for row in r:
        _, counts = np.unique(row, return_counts=True)
        ties += float((counts**3 - counts).sum())
    correction = 1.0 - ties / (cells * arms * (arms**2 - 1))
    if correction <= 0.0:
        return 0.0, 1.0
    return between / correction, chi2_above(between / correction, arms - 1)


def critical_difference(cells: int, arms: int, *, alpha: float = 0.05) -> float:
    """Return Nemenyi's critical difference of mean ranks: q_alpha sqrt(k (k + 1) / (6 N)) (Demsar 2006)."""
    q = range_quantile(1.0 - alpha, arms) / math.sqrt(2.0)
    return q * math.sqrt(arms * (arms + 1) / (6.0 * cells))


def wilcoxon(differences: npt.ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test (1945), zeros left out, ties by midranks.

    The distribution under H0 is counted exactly over all signs, whatever the ties.
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0.0]
    if d.size == 0:
        return 1.0
    size = np.abs(d)
    midranks = (size[None, :] < size[:, None]).sum(axis=1) + ((size[None, :] == size[:, None]).sum(axis=1) + 1) / 2.0
    doubled = np.rint(2.0 * midranks).astype(np.int64)
    ways = np.zeros(int(doubled.sum()) + 1)
    ways[0] = 1.0
    for rank in doubled.tolist():
        ways[rank:] = ways[rank:] + ways[: ways.size - rank]
        ways *= 0.5
    statistic = int(doubled[d > 0.0].sum())
    smaller = min(statistic, int(doubled.sum()) - statistic)
    return min(1.0, 2.0 * float(ways[: smaller + 1].sum()))


def performance_profile(costs: npt.ArrayLike, tau: npt.ArrayLike) -> Array:
    """Return rho(tau) (arms, tau): the share of cells in which an arm costs at most tau times the cheapest.

    Dolan and More 2002. ``costs`` (cells, arms) are positive, lower is better, inf where the goal was not reached.
    """
    c = np.asarray(costs, dtype=np.float64)
    if (c <= 0.0).any() or np.isnan(c).any():
        raise ValueError("costs are positive, inf where a goal was not reached")
    best = c.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isfinite(c), c / best, np.inf)
    profile: Array = (ratio[:, :, None] <= np.asarray(tau, dtype=np.float64)).mean(axis=0)
    return profile


def profile_score(costs: npt.ArrayLike, *, most: float = 4.0) -> Array:
    """Return (1 / (r_max - 1)) * integral of rho from 1 to r_max, the benchmark score of AlgoPerf (Dahl et al. 2023).

    rho is a staircase, so its integral is a sum: a cell with ratio r < r_max adds (r_max - r) / cells.
    """
    c = np.asarray(costs, dtype=np.float64)
    if (c <= 0.0).any() or np.isnan(c).any():
        raise ValueError("costs are positive, inf where a goal was not reached")
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isfinite(c), c / c.min(axis=1, keepdims=True), np.inf)
    score: Array = np.clip(most - ratio, 0.0, None).mean(axis=0) / (most - 1.0)
    return score


def iqm(values: npt.ArrayLike) -> float:
    """Return the interquartile mean: of what is left after a quarter is cut from each end (Agarwal et al. 2021)."""
    x = np.sort(np.asarray(values, dtype=np.float64).ravel())
    cut = x.size // 4
    return float(x[cut : x.size - cut].mean())


def iqm_intervals(
    arms: Sequence[Sequence[npt.ArrayLike]], *, draws: int = 10_000, seed: int = 0, alpha: float = 0.05
) -> list[Interval]:
    """Return each arm's IQM over all its runs, with a stratified percentile bootstrap (Agarwal et al. 2021).

    ``arms`` holds for each arm one array of runs a cell; resamples are drawn within each cell. Arms with equally many
    runs share the resamples, so they stay paired.
    """
    strata = [[np.asarray(runs, dtype=np.float64) for runs in arm] for arm in arms]
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, arm in enumerate(strata):
        alike.setdefault(tuple(runs.size for runs in arm), []).append(i)
    found: dict[int, Interval] = {}
    for sizes, members in alike.items():
        pooled = [np.concatenate(strata[i]) for i in members]
        if max(sizes) < 2:
            found |= {i: Interval(iqm(x)) for i, x in zip(members, pooled, strict=True)}
            continue
        means = _resampled_iqms(pooled, sizes, draws=draws, seed=seed)
        limits = np.quantile(means, [alpha / 2.0, 1.0 - alpha / 2.0], axis=1)
        for place, i in enumerate(members):
            found[i] = Interval(iqm(pooled[place]), float(limits[0, place]), float(limits[1, place]))
    return [found[i] for i in range(len(strata))]


def _resampled_iqms(pooled: Sequence[Array], sizes: tuple[int, ...], *, draws: int, seed: int) -> Array:
    """Return the IQM of every resample (arms, draws), from how often each run is drawn.

    In the order of the values, the runs that count are those between the first and third quarter of the draws: with C
    the cumulated counts, clipped to that range, the IQM is the sum of x_i (C_i - C_{i-1}). No resample is sorted.
    """
    total = sum(sizes)
    cut = total // 4
    ends = np.cumsum(sizes)
    starts = ends - np.array(sizes)
    orders = [np.argsort(x, kind="stable") for x in pooled]
    falls = [np.append(x[o][:-1] - x[o][1:], x[o][-1]) for x, o in zip(pooled, orders, strict=True)]
    rng = np.random.default_rng(seed)
    chunk = max(1, 4_000_000 // total)
    means = np.empty((len(pooled), draws))
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        drawn = np.concatenate(
            [first + rng.integers(0, size, (count, size)) for first, size in zip(starts, sizes, strict=True)], axis=1
        )
        flat = (drawn + total * np.arange(count)[:, None]).ravel()
        counts = np.bincount(flat, minlength=count * total).reshape(count, total).astype(np.int32)
        for i, (x, order, fall) in enumerate(zip(pooled, orders, falls, strict=True)):
            inside = np.clip(np.cumsum(counts[:, order], axis=1, dtype=np.int32), cut, total - cut)
            means[i, start : start + count] = (inside @ fall - cut * x[order[0]]) / (total - 2 * cut)
    return means


def geometric_mean(ratios: npt.ArrayLike, *, draws: int = 10_000, seed: int = 0, alpha: float = 0.05) -> Interval:
    """Return the geometric mean of ratios over cells with the percentile bootstrap over cells."""
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    value = float(np.exp(logs.mean()))
    if logs.size < 2:
        return Interval(value)
    low, high = np.quantile(_shares(logs.size, draws, seed) @ logs, [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(value, float(np.exp(low)), float(np.exp(high)))


@functools.lru_cache(maxsize=2)
def _shares(n: int, draws: int, seed: int) -> Array:
    """Return the share of each of n cells in every resample (draws, n); all arms are resampled alike."""
    shares: Array = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=draws) / n
    return shares
