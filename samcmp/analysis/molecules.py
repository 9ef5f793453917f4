"""A single test set: what its molecules or images say about two arms, where splits cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from samcmp.analysis.auc import bootstrap_auc, bootstrap_error, delong, mcnemar
from samcmp.analysis.comparison import Interval, Settings
from samcmp.analysis.grouping import Group
from samcmp.analysis.numbers import form_for, signed
from samcmp.errors import Damaged

# a Record's key -> its test rows (n,), truth (n, tasks) and prediction (n, tasks or classes), or None: not kept
Predictions = Callable[[str], Mapping[str, npt.NDArray[Any]] | None]


def one_test_set(group: Group, arm: str, reference: str, *, predictions: Predictions, settings: Settings) -> str | None:
    """Test two arms on the samples of their common test set, in words; None where predictions are not kept.

    One task and one run of each: DeLong's test; of classes McNemar's. Else a paired bootstrap over samples, with the
    predictions of several seeds averaged first: the question is then about the averaged models.
    """
    first, second = group.runs.get(arm, {}), group.runs.get(reference, {})
    common = [block for block in first if block in second and first[block].accuracy and second[block].accuracy]
    try:
        pairs = [(predictions(first[block].key), predictions(second[block].key)) for block in common]
    except Damaged as error:
        return f"no test over the {group.holds}: {error}"
    kept = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not kept:
        return None
    every = [arrays for pair in kept for arrays in pair]
    if any(not np.array_equal(arrays[k], every[0][k], equal_nan=True) for arrays in every for k in ("rows", "truth")):
        return None
    metric = next(r.accuracy.metric for r in first.values() if r.accuracy)
    truth = kept[0][0]["truth"]
    mine, theirs = (np.mean([pair[i]["prediction"] for pair in kept], axis=0) for i in (0, 1))
    difference, method = _test(metric, truth, mine, theirs, settings)
    if difference is None or difference.low is None or difference.high is None:
        return None
    if len(kept) > 1:
        method += f", predictions averaged over {len(kept)} seeds"
    form = form_for((r.accuracy.test for r in first.values() if r.accuracy), metric=metric)
    return (
        f"on these {truth.shape[0]} test {group.holds} {signed(difference.value, form)} "
        f"[{signed(difference.low, form)}, {signed(difference.high, form)}] ({method})"
    )


def _test(
    metric: str, truth: npt.NDArray[Any], mine: npt.NDArray[Any], theirs: npt.NDArray[Any], settings: Settings
) -> tuple[Interval | None, str]:
    """Return the difference with its interval, and the method; None where these molecules can decide nothing."""
    how = {"draws": settings.draws, "seed": settings.seed}
    if not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
        return None, ""
    if metric == "accuracy":
        difference, p = mcnemar(truth[:, 0], mine, theirs, alpha=settings.alpha, **how)
        return difference, f"McNemar, p = {p:.2g}"
    if metric != "roc-auc":
        squared = metric == "rmse"
        return bootstrap_error(truth, mine, theirs, squared=squared, alpha=settings.alpha, **how), "paired bootstrap"
    smaller = np.minimum((truth == 0).sum(axis=0), (truth == 1).sum(axis=0))  # class of each task
    if smaller.max() < 2:
        return None, ""
    if truth.shape[1] > 1:
        return bootstrap_auc(truth, mine, theirs, alpha=settings.alpha, **how), "stratified paired bootstrap"
    known = ~np.isnan(truth[:, 0])
    test = delong(truth[known, 0], mine[known, 0], theirs[known, 0], alpha=settings.alpha)
    return test.difference, "DeLong" if test.p is None else f"DeLong, p = {test.p:.2g}"
