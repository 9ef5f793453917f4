"""Losses that pass over missing labels, and metrics equal to scikit-learn's."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, roc_auc_score

from samcmp.errors import UsageError
from samcmp.training import tasks
from tests.places import ROOT


def labels(n: int, t: int, *, seed: int, missing: float = 0.2) -> np.ndarray:
    draw = np.random.default_rng(seed)
    y = (draw.random((n, t)) < 0.3).astype(float)
    y[draw.random((n, t)) < missing] = np.nan
    return y


@pytest.mark.parametrize("digits", [1, 2, 16])  # few digits: many ties
@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_scikit_learn(seed: int, digits: int) -> None:
    y = labels(301, 12, seed=seed)
    prediction = np.round(np.random.default_rng(seed + 99).random(y.shape), digits)
    score = tasks.score("roc-auc", y, prediction)
    for t in range(12):
        known = ~np.isnan(y[:, t])
        wanted = roc_auc_score(y[known, t], prediction[known, t])
        assert score.per_task[t] == pytest.approx(wanted, abs=1e-12)
    assert score.mean == pytest.approx(np.mean(score.per_task), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, math.nan]), st.integers(-3, 3)), min_size=1, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[float, int]]) -> None:
    y = np.array([[label] for label, _ in pairs])
    prediction = np.array([[float(value)] for _, value in pairs])
    positive = [value for label, value in pairs if label == 1]
    negative = [value for label, value in pairs if label == 0]
    found = tasks.roc_auc(y, prediction)[0]
    if not positive or not negative:
        assert math.isnan(found)
        return
    wins = sum((p > q) + 0.5 * (p == q) for p in positive for q in negative)
    assert found == pytest.approx(wins / (len(positive) * len(negative)), abs=1e-12)


def test_tasks_with_one_class_are_left_out_and_counted() -> None:
    y = np.array([[1.0, 1.0, np.nan, 0.0], [0.0, 1.0, np.nan, 0.0], [1.0, np.nan, np.nan, 1.0]])
    score = tasks.score("roc-auc", y, np.array([[0.9, 0.1, 0.5, 0.2], [0.2, 0.2, 0.5, 0.3], [0.8, 0.3, 0.5, 0.1]]))
    assert score.per_task == (1.0, None, None, 0.0)
    assert (score.tasks_scored, score.tasks_total, score.smallest_class) == (2, 4, 1)
    assert score.mean == 0.5
    assert "2 of 4 tasks" in str(score)


def test_no_scorable_task_gives_nan() -> None:
    score = tasks.score("roc-auc", np.ones((4, 2)), np.zeros((4, 2)))
    assert math.isnan(score.mean)
    assert (score.tasks_scored, score.smallest_class) == (0, None)


def test_constant_predictions_score_one_half() -> None:
    assert tasks.score("roc-auc", np.array([[0.0], [1.0], [1.0]]), np.zeros((3, 1))).mean == 0.5


@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_errors_equal_scikit_learn(metric: str) -> None:
    draw = np.random.default_rng(5)
    y, prediction = draw.normal(size=(257, 4)), draw.normal(size=(257, 4))
    y[draw.random(y.shape) < 0.3] = np.nan
    score = tasks.score(metric, y, prediction)
    for t in range(4):
        known = ~np.isnan(y[:, t])
        if metric == "rmse":
            wanted = math.sqrt(mean_squared_error(y[known, t], prediction[known, t]))
        else:
            wanted = mean_absolute_error(y[known, t], prediction[known, t])
        assert score.per_task[t] == pytest.approx(wanted, abs=1e-12)
    assert score.mean == pytest.approx(np.mean(score.per_task), abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        tasks.score("rmse", np.zeros((2, 1)), np.array([[0.0], [bad]]))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="both"):
        tasks.score("rmse", np.zeros((2, 1)), np.zeros((3, 1)))


def test_unknown_metric_is_named() -> None:
    with pytest.raises(UsageError, match="unknown metric 'auc'"):
        tasks.higher_is_better("auc")


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_loss_is_the_mean_over_the_labels_that_exist(kind: str) -> None:
    y = torch.from_numpy(labels(17, 5, seed=1))
    prediction = torch.randn(17, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    total, count = 0.0, 0
    for g in range(17):
        for t in range(5):
            target = float(y[g, t])
            if math.isnan(target):
                continue
            p = 1 / (1 + math.exp(-float(prediction[g, t])))
            cross = -(target * math.log(p) + (1 - target) * math.log(1 - p))
            total += cross if kind == "classification" else (float(prediction[g, t]) - target) ** 2
            count += 1
    assert float(tasks.Criterion(kind)(prediction, y)) == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_missing_labels_leave_no_gradient(kind: str) -> None:
    y = torch.tensor([[1.0, math.nan], [math.nan, math.nan]])
    prediction = torch.randn(2, 2, requires_grad=True)
    tasks.Criterion(kind)(prediction, y).backward()
    assert prediction.grad is not None
    assert prediction.grad[0, 0] != 0
    assert prediction.grad.flatten()[1:].tolist() == [0.0, 0.0, 0.0]


def test_a_batch_without_labels_has_loss_zero() -> None:
    prediction = torch.randn(3, 2, requires_grad=True)
    loss = tasks.Criterion("classification")(prediction, torch.full((3, 2), math.nan))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert prediction.grad is not None
    assert not prediction.grad.any()


def test_graph_losses_add_up_to_the_batch_loss() -> None:
    y = torch.from_numpy(labels(9, 4, seed=3))
    prediction = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    criterion = tasks.Criterion("classification")
    known = (~y.isnan()).sum(1)
    joined = (criterion.per_graph(prediction, y) * known).sum() / known.sum()
    assert float(joined) == pytest.approx(float(criterion(prediction, y)), rel=1e-12)


def test_an_unlabelled_diverged_output_does_not_spoil_the_loss() -> None:
    y = torch.tensor([[1.0, math.nan]])
    assert math.isfinite(float(tasks.Criterion("regression")(torch.tensor([[0.5, math.inf]]), y)))


def test_standardizing_uses_population_statistics_and_can_be_undone() -> None:
    y = np.array([[1.0, 5.0, np.nan], [3.0, 5.0, np.nan], [np.nan, 5.0, np.nan]])
    found = tasks.Standardizer.fit(y)
    assert found.mean.tolist() == [2.0, 5.0, 0.0]
    assert found.std.tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(found.undo(found.apply(y)), y)


def test_equal_labels_with_rounding_have_no_scale() -> None:
    assert tasks.Standardizer.fit(np.full((7, 1), 0.1)).std.tolist() == [1.0]


def test_better_never_prefers_a_tie_or_nan() -> None:
    assert tasks.better("rmse", 0.9, 1.0)
    assert tasks.better("roc-auc", 0.9, 0.8)
    assert not tasks.better("roc-auc", 0.8, 0.8)
    assert not tasks.better("rmse", math.nan, 1.0)


def test_metric_names_cost_no_torch() -> None:
    heavy = "('torch', 'scipy', 'pandas', 'sklearn')"
    code = f"import sys, samcmp.training.tasks; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
