"""The Pareto front of accuracy and speed, and the best of each column."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samcmp.analysis.comparison import Row, Settings, training_speed
from samcmp.analysis.paired import Array, alike

LEADS = ("accuracy", "speed", "memory")


def pareto_front(accuracy: npt.ArrayLike, speed: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Mark what nothing else beats: no other is at least as good on both (higher is better) and better on one.

    Equal points are on the front together; a point with a NaN is not on it and beats nothing. Raises ValueError for
    vectors of unlike length.
    """
    a, s = np.asarray(accuracy, dtype=np.float64), np.asarray(speed, dtype=np.float64)
    if a.ndim != 1 or a.shape != s.shape:
        raise ValueError(f"expected an accuracy and a speed a point, got shapes {a.shape} and {s.shape}")
    return _front(a, s)


def _front(a: npt.NDArray[Any], s: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark the front of K points, or of K points in each of several draws: (..., K)."""
    mine, others = (a[..., :, None], s[..., :, None]), (a[..., None, :], s[..., None, :])
    as_good = (mine[0] >= others[0]) & (mine[1] >= others[1])  # [..., i, j]: i is as good as j on both
    better = (mine[0] > others[0]) | (mine[1] > others[1])
    on: npt.NDArray[np.bool_] = ~((as_good & better).any(axis=-2) | np.isnan(a) | np.isnan(s))
    return on


def front_probability(
    scores: npt.ArrayLike,
    log_speed: npt.ArrayLike,
    log_speed_se: npt.ArrayLike,
    *,
    test_over_train: float,
    draws: int = 10_000,
    seed: int = 0,
) -> Array | None:
    """Return for each of K arms how often it is on the Pareto front when the means could be what the data allow.

    ``scores`` (J, K), higher is better, on common blocks; speeds (K,). Mean scores are drawn from a multivariate t
    with J - 1 degrees of freedom, centred on the means, with the corrected resampled covariance (the one behind the
    paired intervals, so that blocks shared by two arms stay shared); log speeds from normals. None for one block.
    """
    x = np.asarray(scores, dtype=np.float64)
    blocks = x.shape[0]
    if blocks < 2:
        return None
    # single precision: a share of 10,000 draws is known to two digits
    rng, single = np.random.default_rng(seed), np.float32
    centred = (x - x.mean(axis=0)) * math.sqrt((1.0 / blocks + test_over_train) / (blocks - 1))
    scale = np.sqrt(rng.chisquare(blocks - 1, (draws, 1)) / (blocks - 1)).astype(single)
    accuracy = rng.standard_normal((draws, blocks), dtype=single) @ centred.astype(single) / scale  # (draws, K)
    accuracy += (x.mean(axis=0) - x.mean()).astype(single)
    log_speeds = np.asarray(log_speed, dtype=np.float64)
    speed = rng.standard_normal((draws, x.shape[1]), dtype=single) * np.asarray(log_speed_se, dtype=single)
    speed += (log_speeds - log_speeds.mean()).astype(single)
    share: Array = _front(accuracy, speed).mean(axis=0)
    return share


def with_front(rows: Sequence[Row], *, higher: bool, factor: float | None, settings: Settings) -> list[Row]:
    """Mark the Pareto front of mean score and speed of training, with the probability of being on it."""
    both = [row for row in rows if row.score and row.graphs_per_second]
    if not both:
        return list(rows)
    sign = 1.0 if higher else -1.0
    speeds = [training_speed(row) or 0.0 for row in both]
    front = pareto_front(alike([[sign * row.score.mean for row in both if row.score]])[0], speeds)
    common = sorted(set.intersection(*(set(row.blocks) for row in both)))
    share = None
    if len(common) > 1 and factor is not None:
        scores = sign * np.array([[row.blocks[block] for row in both] for block in common])
        spread = [_log_speed_se(row) for row in both]
        share = front_probability(
            scores, np.log(speeds), spread, test_over_train=factor, draws=settings.draws, seed=settings.seed
        )
    marks = {
        row.arm: (bool(on), None if share is None else float(share[i]))
        for i, (row, on) in enumerate(zip(both, front, strict=True))
    }
    return [
        dataclasses.replace(row, front=marks[row.arm][0], front_probability=marks[row.arm][1])
        if row.arm in marks
        else row
        for row in rows
    ]


def _log_speed_se(row: Row) -> float:
    """Standard error of log speed against the other arms of the session, from its widest ratio interval."""
    widths = [
        (math.log(r.high) - math.log(r.low)) / (2 * 1.96)
        for r in row.speed_to.values()
        if r.low is not None and r.high is not None and r.low > 0
    ]
    return max(widths, default=0.0)


def with_best(rows: Sequence[Row], *, higher: bool) -> list[Row]:
    """Note for each row the columns in which no other row is better; a column that are all alike has no best."""
    sign = 1.0 if higher else -1.0
    columns: dict[str, dict[str, float]] = {
        "accuracy": {row.arm: sign * row.score.mean for row in rows if row.score},
        "speed": {row.arm: row.graphs_per_second for row in rows if row.graphs_per_second is not None},
        "memory": {row.arm: -float(row.peak_bytes) for row in rows if row.peak_bytes is not None},
    }
    leaders: dict[str, set[str]] = {}
    for column, values in columns.items():
        (level,) = alike([list(values.values())]) if values else ((),)
        if len(set(level)) > 1:
            leaders[column] = {arm for arm, value in zip(values, level, strict=True) if value == max(level)}
    return [dataclasses.replace(row, best=tuple(c for c in LEADS if row.arm in leaders.get(c, set()))) for row in rows]
