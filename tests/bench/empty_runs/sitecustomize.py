"""In the nodes of bench_ray alone: a training run takes no time, and everything around it is as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from samcmp.experiment import run
from samcmp.records import Epoch, Record

_EPOCH = Epoch(train_loss=1.0, valid_score=1.0, test_score=1.0, learning_rate=1e-3, seconds=0.1, passes=1)
_PREDICTIONS = run.Predictions(np.arange(113), np.zeros((113, 1)), np.zeros((113, 1)))


def train(case: Any, options: Any, *, key: str, listen: Any = None) -> Any:
    record = Record(key=key, case=case, status="ok", created="2000-01-01T00:00:00+00:00")
    return replace(record, history=(_EPOCH,) * case.protocol.epochs), _PREDICTIONS


run.train = train
