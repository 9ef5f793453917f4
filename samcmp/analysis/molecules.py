"""A single test set: what its molecules say about two arms, where splits cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from samcmp.analysis.auc import bootstrap_auc, bootstrap_error, delong
from samcmp.analysis.comparison import Interval, Settings
from samcmp.analysis.join import Group
from samcmp.analysis.numbers import signed

# a Record's key -> its test rows (n,), truth and prediction (n, tasks), or None where they were not kept
Predictions = Callable[[str], Mapping[str, npt.NDArray[Any]] | None]


def one_test_set(group: Group, arm: str, reference: str, *, predictions: Predictions, settings: Settings) -> str | None:
    """Test two arms on the molecules of their common test set, in words; None where predictions are not kept.

    One task and one run of each: DeLong's test. Else a paired bootstrap over molecules, with the predictions of
    several seeds averaged first: the question is then about the averaged models.
    """
    first, second = group.runs.get(arm, {}), group.runs.get(reference, {})
    common = [
        block
        for block in first
        if block in second and first[block].accuracy is not None and second[block].accuracy is not None
    ]
    pairs = [(predictions(first[block].key), predictions(second[block].key)) for block in common]
    kept = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not kept or any(not np.array_equal(a["rows"], b["rows"]) for a, b in kept):
        return None
    if any(not np.array_equal(a["rows"], kept[0][0]["rows"]) for a, _ in kept):
        return None
    metric = next(r.accuracy.metric for r in first.values() if r.accuracy)
    truth = kept[0][0]["truth"]
    mine = np.mean([a["prediction"] for a, _ in kept], axis=0)
    theirs = np.mean([b["prediction"] for _, b in kept], axis=0)
    found, method = _test(metric, truth, mine, theirs, settings)
    if found.low is None or found.high is None:
        return None
    if len(kept) > 1:
        method += f", predictions averaged over {len(kept)} seeds"
    digits = 3 if metric == "roc-auc" else 4
    return (
        f"on these {truth.shape[0]} test molecules {signed(found.value, digits)} "
        f"[{signed(found.low, digits)}, {signed(found.high, digits)}] ({method})"
    )


def _test(
    metric: str, truth: npt.NDArray[Any], mine: npt.NDArray[Any], theirs: npt.NDArray[Any], settings: Settings
) -> tuple[Interval, str]:
    how = {"draws": settings.draws, "seed": settings.seed}
    if metric != "roc-auc":
        squared = metric == "rmse"
        return bootstrap_error(truth, mine, theirs, squared=squared, alpha=settings.alpha, **how), "paired bootstrap"
    if truth.shape[1] > 1:
        return bootstrap_auc(truth, mine, theirs, alpha=settings.alpha, **how), "stratified paired bootstrap"
    known = ~np.isnan(truth[:, 0])
    if min((truth[known] == 0).sum(), (truth[known] == 1).sum()) < 2:
        return Interval(0.0), ""
    test = delong(truth[known, 0], mine[known, 0], theirs[known, 0], alpha=settings.alpha)
    return test.difference, f"DeLong, p = {test.p:.2g}"
