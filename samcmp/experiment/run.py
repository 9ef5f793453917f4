"""Case -> Record: the one place where data, backbone, optimizer and clock meet."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp.data.coverage import coverage
from samcmp.errors import Diverged, SamcmpError, UsageError, cause_of
from samcmp.records import COUNTED, Accuracy, Case, Epoch, Record
from samcmp.training.setup import assemble, foreign

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from samcmp.training.loop import EpochSums
    from samcmp.training.setup import Options, Setup
    from samcmp.training.tasks import Score


@dataclass(frozen=True, slots=True)
class Progress:
    """What a listener hears after every epoch of a run."""

    case: Case
    epoch: int  # finished epochs
    epochs: int
    train_loss: float
    valid_score: float
    metric: str
    graphs_per_second: float  # or images
    seconds: float  # since the run began
    counted: str = "graphs"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Test predictions at the best validation epoch: probabilities, or values in original units."""

    rows: NDArray[np.int64]  # (n,)
    truth: NDArray[np.float64]  # (n, T) NaN where a label is missing; of a multiclass task the class
    prediction: NDArray[np.float64]  # (n, T); of a multiclass task (n, C), one a class


Listener = Callable[[Progress], None]


def train(
    case: Case,
    options: Options,
    *,
    key: str,
    listen: Listener | None = None,
    prepare: Callable[[Run], None] | None = None,
) -> tuple[Record, Predictions | None]:
    """Train ``case`` once and return its Record. What goes wrong in the run is a Record, too, with its cause.

    Args:
        prepare: given the run before its first step, to watch it.

    Raises SamcmpError for what the user can mend before the run (data, names, device); what code of others does with
    the names and shapes it was given is a Record.
    """
    began = time.perf_counter()
    empty = Record(key=key, case=case, status="error", created=_now())
    run: Run | None = None
    try:
        run = Run(assemble(case, options))
        if prepare is not None:
            prepare(run)
        record, predictions = run.go(empty, listen)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit of a user's model, too
        if isinstance(error, SamcmpError) and not (isinstance(error, UsageError) and foreign(case)):
            raise
        status, reason = cause_of(error)
        history = tuple(run.history) if run else ()
        record, predictions = replace(empty, status=status, reason=reason, history=history), None
        if run:
            record = run.with_facts(record)
    return replace(record, seconds=time.perf_counter() - began), predictions


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Run:
    """One training run: epochs, selection by validation, and the test score of the selected epoch."""

    def __init__(self, setup: Setup) -> None:
        from samcmp.training.loop import Selection

        self.setup = setup
        self.trainer = setup.new_trainer()
        self.model = self.trainer.model
        self.selection = Selection(setup.task.metric)
        self.history: list[Epoch] = []
        self.rho: float | None = None
        self.best_weights: dict[str, torch.Tensor] | None = None

    def go(self, empty: Record, listen: Listener | None) -> tuple[Record, Predictions]:
        import numpy as np

        setup, epochs = self.setup, self.setup.case.training.epochs
        began = time.perf_counter()
        best: tuple[Score, NDArray[np.float64]] | None = None
        for epoch in range(epochs):
            sums, seconds = self._timed_epoch(epoch)
            valid, _, _ = evaluate(self.model, setup, setup.valid_positions)
            test, prediction, test_loss = evaluate(self.model, setup, setup.test_positions)
            self._note_epoch(sums.loss, valid.mean, test.mean, seconds=seconds, passes=sums.passes, test_loss=test_loss)
            if self.selection.offer(epoch, valid.mean):
                best = test, prediction
                self._keep_weights()
            if listen is not None:
                speed = sums.samples / seconds if seconds > 0 else math.nan
                elapsed = time.perf_counter() - began
                metric = setup.task.metric
                counted = COUNTED[setup.samples.holds]
                listen(Progress(setup.case, epoch + 1, epochs, sums.loss, valid.mean, metric, speed, elapsed, counted))
        if best is None:
            raise ValueError("no epoch has a validation score: every validation task holds a single class")
        score, prediction = best
        if math.isnan(score.mean):
            raise ValueError("no test score: every test task holds a single class")
        positions = setup.test_positions.numpy()
        record = replace(
            self.with_facts(empty), status="ok", accuracy=self._accuracy(score), history=tuple(self.history)
        )
        self._save_model(record)
        truth = np.asarray(setup.samples.y[positions], dtype=np.float64)
        return record, Predictions(setup.samples.rows[positions], truth, prediction)

    def _timed_epoch(self, epoch: int) -> tuple[EpochSums, float]:
        import torch

        self.rho = self.trainer.optimizer.param_groups[0].get("rho")  # a schedule moves it at the epoch's end
        start = time.perf_counter()
        sums = self.trainer.epoch(self.setup.train_batches(epoch))
        if self.setup.device.type == "cuda":
            torch.cuda.synchronize(self.setup.device)
        seconds = time.perf_counter() - start
        if not math.isfinite(sums.loss):
            raise Diverged(f"the training loss is {sums.loss} in epoch {epoch + 1}")
        return sums, seconds

    def _note_epoch(
        self, loss: float, valid: float, test: float, *, seconds: float, passes: int, test_loss: float
    ) -> None:
        group = self.trainer.optimizer.param_groups[0]
        self.history.append(
            Epoch(
                train_loss=loss,
                valid_score=_number(valid),
                test_score=_number(test),
                learning_rate=float(group["lr"]),
                seconds=seconds,
                passes=passes,
                test_loss=_number(test_loss),
                rho=None if self.rho is None else float(self.rho),
            )
        )

    def _accuracy(self, score: Score) -> Accuracy:
        setup = self.setup
        return Accuracy(
            metric=score.metric,
            test=score.mean,
            valid=self.selection.valid,
            best_epoch=self.selection.epoch,
            per_task=dict(zip(setup.task.names, score.per_task, strict=True)),
            tasks_scored=score.tasks_scored,
            tasks_total=score.tasks_total,
            smallest_class=score.smallest_class,
            per_class=dict(zip(setup.task.classes, score.per_class, strict=True)),
            train_size=len(setup.train_positions),
            valid_size=len(setup.valid_positions),
            test_size=len(setup.test_positions),
            coverage=coverage(setup.samples, setup.split),
        )

    def with_facts(self, record: Record) -> Record:
        """Add what is known of a run however it ended: its data, its model's size, the machine and the versions."""
        from samcmp import machine

        setup = self.setup
        return replace(
            record,
            dataset_hash=setup.samples.dataset_hash,
            split_hash=setup.split.hash,
            parameters=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            notes=(*setup.samples.notes, *setup.split.notes),
            machine=machine.metadata(setup.device),
            versions=machine.versions(),
            holds=setup.samples.holds,
        )

    def _keep_weights(self) -> None:
        if self.setup.options.save is not None or self.setup.options.keep is not None:
            self.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def _save_model(self, record: Record) -> None:
        """Write the model that the test score is of, where it was asked for."""
        if self.best_weights is None or record.accuracy is None:
            return
        from samcmp.training import modelfile

        options = self.setup.options
        path = options.save or (options.keep or Path()) / f"{record.key}.safetensors"
        said = modelfile.describe(self.setup, key=record.key, accuracy=record.accuracy, versions=record.versions)
        modelfile.write(path, self.best_weights, said)


def evaluate(model: nn.Module, setup: Setup, positions: torch.Tensor) -> tuple[Score, NDArray[np.float64], float]:
    """Return score, predictions in original units, (n, T) or (n, C), and mean loss of a part; no batch is dropped.

    Raises Diverged where a prediction is not finite.
    """
    import numpy as np

    from samcmp.training import tasks
    from samcmp.training.loop import predict

    raw = predict(model, setup.batches(positions), link=setup.criterion.link).numpy()
    if len(raw) != len(positions):
        raise ValueError(f"{len(raw)} {setup.samples.holds} were scored, the part has {len(positions)}")
    if not np.isfinite(raw).all():
        raise Diverged(f"{np.count_nonzero(~np.isfinite(raw))} predictions are not finite")
    y = setup.samples.y[positions.numpy()]
    standard = setup.standardizer
    if standard is None:
        losses, prediction = tasks.log_loss(setup.task.kind, y, raw), raw
    else:
        losses = (raw - standard.apply(y)) ** 2
        prediction = standard.undo(raw)
    known = ~np.isnan(losses)
    loss = float(losses[known].mean()) if known.any() else math.nan
    return tasks.score(setup.task.metric, y, prediction), prediction, loss


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
