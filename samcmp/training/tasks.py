"""Losses that pass over missing labels, and the metrics of the field, for classification and regression.

Shapes: G samples, T tasks, C classes of a multiclass task, which is one task (T = 1) with C outputs. A missing label
is NaN from the file to the loss to the metric. Importing this module costs numpy only; torch comes with the first use
of a loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samcmp.errors import unknown
from samcmp.records import LOWER_IS_BETTER, METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

KINDS = ("classification", "multiclass", "regression")


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of the metric is the better one. Raises UsageError for an unknown metric."""
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    return metric not in LOWER_IS_BETTER


def better(metric: str, new: float, old: float) -> bool:
    """Whether ``new`` beats ``old``; a tie does not, and NaN beats nothing."""
    return new > old if higher_is_better(metric) else new < old


@dataclass(frozen=True, slots=True)
class Task:
    """What is predicted: the kind of label, the metric, and a name for every column of y."""

    kind: str
    metric: str
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()  # of a multiclass task, by number

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a task is one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.kind == "multiclass") != bool(self.classes):
            raise ValueError("a multiclass task has classes, and no other has")
        if self.metric not in METRICS:
            raise ValueError(f"a metric is one of {', '.join(METRICS)}, got {self.metric!r}")

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for a sample: one a task, or one a class."""
        return len(self.classes) or len(self.names)

    @property
    def criterion(self) -> Criterion:
        return Criterion(self.kind)


@dataclass(frozen=True, slots=True)
class Criterion:
    """The training loss: (binary) cross-entropy with logits, or squared error, averaged over the labels that exist.

    loss = sum(mask * l) / max(1, sum(mask)); a batch without any label has loss 0 and gradient 0.
    """

    kind: str

    def __call__(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Return the scalar loss of a batch. No value is read back from the device."""
        return mean_over_labels(self.elements(prediction, y), y)

    def per_graph(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Return every sample's mean loss over the labels it has, 0 where it has none."""
        count = y.shape[1] - y.isnan().sum(1)
        return self.elements(prediction, y).sum(1) / count.clamp(min=1)  # (G,)

    def elements(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Return every label's loss, 0 where it is missing: (G, T)."""
        from torch.nn import functional as F

        missing = y.isnan()
        of_classes = self.kind == "multiclass"
        if len(prediction) != len(y) or (y.shape[1] != 1 if of_classes else prediction.shape != y.shape):
            raise ValueError(f"prediction is {tuple(prediction.shape)} and y is {tuple(y.shape)}")
        # A missing label becomes a constant before the loss, so that no NaN ever meets the gradient.
        target = y.masked_fill(missing, 0.0)
        if of_classes:
            loss = F.cross_entropy(prediction, target.squeeze(1).long(), reduction="none").unsqueeze(1)  # (G, 1)
        elif self.kind == "classification":
            loss = F.binary_cross_entropy_with_logits(prediction, target, reduction="none")
        else:
            loss = F.mse_loss(prediction, target, reduction="none")
        return loss.masked_fill(missing, 0.0)

    @property
    def link(self) -> Callable[[Tensor], Tensor]:
        """The map from a model's raw output to a prediction: sigmoid or softmax of logits, or the value itself."""
        if self.kind == "regression":
            return _identity
        import torch

        return torch.sigmoid if self.kind == "classification" else _softmax


def mean_over_labels(elements: Tensor, y: Tensor) -> Tensor:
    """Return the mean of (G, T) elements, 0 where a label is missing, over the labels that exist. Reads no value."""
    missing = y.isnan()
    return elements.sum() / (missing.numel() - missing.sum()).clamp(min=1)


def _identity(value: Tensor) -> Tensor:
    return value


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def log_loss(kind: str, y: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every label's (binary) cross-entropy of probabilities p, (G, T); NaN where the label is missing."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    if kind == "classification":
        return np.asarray(-(y * np.log(p) + (1 - y) * np.log1p(-p)))
    right = np.take_along_axis(p, np.nan_to_num(y).astype(np.int64), axis=1)  # (G, 1)
    return np.where(np.isnan(y), np.nan, -np.log(right))


@dataclass(frozen=True, slots=True)
class Score:
    """A metric over a whole split, and what it rests on: always say ``k of T tasks``."""

    metric: str
    mean: float  # unweighted over the scored tasks, NaN when there is none
    per_task: tuple[float | None, ...]  # (T,) None: a single class, or no label
    tasks_scored: int
    tasks_total: int
    smallest_class: int | None = None  # fewest samples of a class in a scored task
    per_class: tuple[float | None, ...] = ()  # (C,) share of a class that is right; None: no sample of it

    def __str__(self) -> str:
        of = "" if self.tasks_scored == self.tasks_total else f", {self.tasks_scored} of {self.tasks_total} tasks"
        return f"{METRICS[self.metric]} {self.mean:.4f}{of}"


def score(metric: str, y: NDArray[np.float64], prediction: NDArray[np.float64]) -> Score:
    """Score predictions of a whole split in original units, task by task on the labels that exist.

    A task whose labels are all of one class has no ROC-AUC and is left out of the mean. Raises ValueError for
    predictions that are not finite or do not fit y.
    """
    y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    of_classes = metric == "accuracy" and y.ndim == prediction.ndim == 2 and y.shape == (len(prediction), 1)
    if not of_classes and (y.ndim != 2 or y.shape != prediction.shape):
        raise ValueError(f"y and prediction are both (graphs, tasks); got {y.shape} and {prediction.shape}")
    if not np.isfinite(prediction).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(prediction))} predictions are not finite")
    if metric == "accuracy":
        return _score_accuracy(y[:, 0], prediction)
    if higher_is_better(metric):
        return _score_auc(y, prediction)
    known = ~np.isnan(y)
    count = known.sum(axis=0)
    error = np.where(known, prediction - y, 0.0)
    total = (error * error if metric == "rmse" else np.abs(error)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = total / count
    return _summary(metric, np.sqrt(mean) if metric == "rmse" else mean, smallest_class=None)


def _score_auc(y: NDArray[np.float64], prediction: NDArray[np.float64]) -> Score:
    if not np.isin(y[~np.isnan(y)], (0.0, 1.0)).all():
        raise ValueError("ROC-AUC needs labels 0 and 1, NaN where missing")
    values = roc_auc(y, prediction)
    classes = np.minimum((y == 1).sum(axis=0), (y == 0).sum(axis=0))
    scored = classes > 0
    return _summary("roc-auc", values, smallest_class=int(classes[scored].min()) if scored.any() else None)


def _score_accuracy(y: NDArray[np.float64], p: NDArray[np.float64]) -> Score:
    """The share of samples whose likeliest class is theirs, over all of them and over those of each class."""
    known = ~np.isnan(y)
    right = p[known].argmax(axis=1) == y[known]
    counts = np.bincount(y[known].astype(np.int64), minlength=p.shape[1])
    hits = np.bincount(y[known][right].astype(np.int64), minlength=p.shape[1])
    shares = tuple(float(hit / count) if count else None for hit, count in zip(hits, counts, strict=True))
    mean = np.array([right.mean() if right.size else np.nan])
    present = counts[counts > 0]
    found = _summary("accuracy", mean, smallest_class=int(present.min()) if present.size else None)
    return replace(found, per_class=shares)


def _summary(metric: str, values: NDArray[np.float64], *, smallest_class: int | None) -> Score:
    scored = ~np.isnan(values)
    mean = float(values[scored].mean()) if scored.any() else float("nan")
    per_task = tuple(float(v) if ok else None for v, ok in zip(values, scored, strict=True))
    return Score(metric, mean, per_task, int(scored.sum()), len(values), smallest_class)


def roc_auc(y: NDArray[np.float64], prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under the ROC curve of every task at once, ties by mid-ranks; NaN for a task with a single class.

    AUC = (R1 - n1 (n1 + 1) / 2) / (n1 n0), R1 the rank sum of the positives (Mann and Whitney 1947).
    """
    n, tasks = y.shape
    if n == 0:
        return np.full(tasks, np.nan)
    # Missing labels go last, where they leave the ranks of the others as they are.
    value = np.where(np.isnan(y), np.inf, prediction)  # (G, T)
    order = np.argsort(value, axis=0)
    ordered = np.take_along_axis(value, order, axis=0)
    place = np.arange(n)[:, None]
    new = np.ones((n + 1, tasks), dtype=bool)  # row i: a run of equal values starts at place i
    new[1:n] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(new[:n], place, 0), axis=0)
    last = np.minimum.accumulate(np.where(new[1:], place, n)[::-1], axis=0)[::-1]
    rank = (first + last) / 2.0 + 1.0
    positive = np.take_along_axis(y, order, axis=0) == 1
    n1 = positive.sum(axis=0).astype(np.float64)
    n0 = (y == 0).sum(axis=0).astype(np.float64)
    rank_sum = np.where(positive, rank, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (rank_sum - n1 * (n1 + 1) / 2) / (n1 * n0)
    return np.where((n1 > 0) & (n0 > 0), area, np.nan)


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Regression targets to mean 0 and standard deviation 1 per task, by the training rows' statistics alone."""

    mean: NDArray[np.float64]  # (T,)
    std: NDArray[np.float64]  # (T,) population; 1 where the labels are all equal

    @classmethod
    def fit(cls, y: NDArray[np.float64]) -> Standardizer:
        """Take the statistics of the labels that exist; a task without any keeps its units."""
        known = ~np.isnan(y)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, y, 0.0).sum(axis=0) / count
        variance = np.where(known, (y - mean) ** 2, 0.0).sum(axis=0) / count
        std = np.sqrt(variance)
        # Rounding leaves equal labels a spread of the order of their last digit; that is not a scale.
        return cls(mean, np.where(std <= 1e-14 * np.abs(mean), 1.0, std))

    @classmethod
    def identity(cls, tasks: int) -> Standardizer:
        """Return the map that changes nothing, for classification."""
        return cls(np.zeros(tasks), np.ones(tasks))

    def apply(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return standardised targets (rows, T)."""
        return (y - self.mean) / self.std

    def undo(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return predictions (rows, T) in original units."""
        return np.asarray(z, dtype=np.float64) * self.std + self.mean
