"""Carry units out: train what has to be trained, watched where that is asked for, and measure at its weights.

Each unit is stored as soon as it is done. Code that is not the project's runs in a process of its own.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from samcmp.child import Child, Died
from samcmp.errors import SamcmpError, StoreError, cause_of
from samcmp.experiment import run as runs
from samcmp.experiment.run import Progress
from samcmp.experiment.store import Store
from samcmp.inspection import WHAT, Inspection, Parts, Settings, Trained
from samcmp.inspection.kept import Kept
from samcmp.inspection.units import Unit, runs_to_train
from samcmp.records import Case, Record, to_json
from samcmp.training.setup import assemble, foreign

if TYPE_CHECKING:
    from samcmp.inspection.watch import Watch
    from samcmp.training.setup import Options, Setup

FINAL = ("ok", "diverged")  # how a run may have ended that is not tried again


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of work: a run with the units that are missing of it, or units of a pair of runs."""

    train_key: str
    case: Case
    units: tuple[Unit, ...] = ()
    train: bool = False

    @property
    def watched(self) -> bool:
        """Whether something is measured while the run trains."""
        return any(WHAT[unit.what].watched for unit in self.units)


@dataclass(frozen=True, slots=True)
class Measuring:
    """How far a measurement is."""

    unit: Unit
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A unit is in the store."""

    unit: Unit


@dataclass(frozen=True, slots=True)
class Failed:
    """A run, or a measurement of it, did not end well; it is tried again by the next call."""

    case: Case
    what: str  # train, or a measurement
    status: str
    reason: str


Event = Progress | Measuring | Stored | Failed
Tell = Callable[[Event], None]


def plan(todo: Sequence[Unit], kept: Kept, settings: Settings) -> list[Piece]:
    """Return what is to be done, in order: every run before the pairs that it belongs to."""
    to_train = runs_to_train(todo, kept, settings)
    grouped: dict[tuple[str, str], list[Unit]] = {}
    for unit in todo:
        for key in (unit.train_key, unit.other_key):
            if unit.other_key and key in to_train:
                grouped.setdefault((key, ""), [])
        grouped.setdefault((unit.train_key, unit.other_key), []).append(unit)
    cases = {unit.train_key: unit.case for unit in todo} | to_train
    return [
        Piece(key, cases[key], tuple(own), train=not other and key in to_train) for (key, other), own in grouped.items()
    ]


def carry_out(piece: Piece, options: Options, store: Path, settings: Settings, tell: Tell) -> None:
    """Do one piece of work and say how far it is; where code of others runs in it, in a process of its own.

    Raises SamcmpError for what the user can mend.
    """
    if not is_apart(piece):
        do(piece, options, store, settings, tell)
        return
    child = Child(_apart, piece, options, store, settings)
    try:
        while not isinstance(event := child.receive(), _Done):
            tell(event)
    except Died as death:
        tell(Failed(piece.case, "train", death.status, death.reason))
    finally:
        child.end()


def do(piece: Piece, options: Options, store: Path, settings: Settings, tell: Tell) -> None:
    """Do one piece of work in this process."""
    kept = Kept(Store(store))
    setup = _train(piece, options, kept, tell) if piece.train else None
    trained = kept.trained(piece.train_key)
    units = [unit for unit in piece.units if not WHAT[unit.what].watched]
    if trained is None or not units:
        return
    if trained.status == "ok" and kept.weights(piece.train_key, settings.weights) is None:  # damaged
        setup = _train(replace(piece, units=()), options, kept, tell)
    setup = setup or assemble(piece.case, options)
    for unit in units:
        _measure(unit, setup, kept, settings, tell)


def is_apart(piece: Piece) -> bool:
    """Whether code of others runs in it."""
    return foreign(piece.case) or any(unit.other_case is not None and foreign(unit.other_case) for unit in piece.units)


@dataclass(frozen=True, slots=True)
class _Done:
    """Nothing more comes."""


def _apart(pipe: Connection, piece: Piece, options: Options, store: Path, settings: Settings) -> None:
    do(piece, options, store, settings, pipe.send)
    pipe.send(_Done())


# ---------------------------------------------------------------------------------------------- training


def _train(piece: Piece, options: Options, kept: Kept, tell: Tell) -> Setup | None:
    """Train a run and keep its weights and, where it was watched, its gradients. Returns None where it failed."""
    from samcmp.inspection.watch import Watch

    seen: list[tuple[runs.Run, Watch | None]] = []

    def prepare(run: runs.Run) -> None:
        watch = None
        if piece.watched:
            every = next(unit.settings["every"] for unit in piece.units if WHAT[unit.what].watched)
            watch = Watch(run.trainer.closure, every=every, rho=lambda: _radius(run))
            run.trainer.closure = watch  # type: ignore[assignment]  # all that an optimizer calls of it
        seen.append((run, watch))

    saving = replace(options, save=kept.weights_path(piece.train_key, "best"))
    record, _ = runs.train(piece.case, saving, key=piece.train_key, listen=tell, prepare=prepare)
    if record.status not in FINAL or not seen:
        tell(Failed(piece.case, "train", record.status, record.reason or "no reason is known"))
        return None
    trained = of_record(record)
    _compare(trained, kept)
    run, watch = seen[0]
    if record.status == "ok":
        kept.add_last(piece.train_key, run.model.state_dict())
    kept.add_trained(trained)
    if watch is not None:
        from samcmp.inspection.gradients import of_steps

        parts = of_steps(watch.steps(), run.setup.steps_per_epoch)
        for unit in piece.units:
            if WHAT[unit.what].watched:
                _keep(unit, parts, kept, tell)
    return run.setup


def _radius(run: runs.Run) -> float | None:
    """The radius that all groups of the optimizer have; None where they have none, or several."""
    radii = {group.get("rho") for group in run.trainer.optimizer.param_groups}
    radius = next(iter(radii)) if len(radii) == 1 else None
    return float(radius) if isinstance(radius, (int, float)) else None


def of_record(record: Record) -> Trained:
    """Leave a Record's times out."""
    return Trained(
        train_key=record.key,
        case=record.case,
        status=record.status,
        reason=record.reason,
        accuracy=record.accuracy,
        history=tuple({k: v for k, v in to_json(epoch).items() if k != "seconds"} for epoch in record.history),
        dataset_hash=record.dataset_hash,
        split_hash=record.split_hash,
        parameters=record.parameters,
        holds=record.holds,
        versions=record.versions,
        machine=record.machine,
    )


COMPARED = {
    "train_loss": "training loss", "valid_score": "validation score", "test_score": "test score",
    "test_loss": "test loss",
}  # fmt: skip


def _compare(trained: Trained, kept: Kept) -> None:
    """Refuse a run that is not the one which the store has already. Raises StoreError."""
    record = kept.store.get(trained.train_key)
    known = [] if record is None or record.status != "ok" else [of_record(record)]
    earlier = kept.trained(trained.train_key)
    for before in (*known, *([earlier] if earlier else [])):
        for n, (old, new) in enumerate(zip(before.history, trained.history, strict=False), start=1):
            for name, words in COMPARED.items():
                if old.get(name) is not None and old[name] != new[name]:
                    raise StoreError(
                        f"{words} of epoch {n} is {new[name]:.9g}, the stored run has {old[name]:.9g}",
                        where=trained.train_key[:16], remedy="Another machine? Use another --store.",
                    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- measuring


def _measure(unit: Unit, setup: Setup, kept: Kept, settings: Settings, tell: Tell) -> None:
    """Measure one unit at its run's weights and keep it; a run that came to no weights has a reason in their place."""
    from samcmp.inspection import context

    keys = [key for key in (unit.train_key, unit.other_key) if key]
    ends = [end for end in map(kept.trained, keys) if end is not None]
    if len(ends) < len(keys):
        tell(Failed(unit.case, unit.what, "error", "a run of the pair was not trained"))
        return
    for end in ends:
        if end.status != "ok":
            _keep(unit, Parts(missing={"all": f"{end.case.arm} {end.status}: {end.reason}"}), kept, tell)
            return
    tell(Measuring(unit, 0, 1))
    try:
        states = [state for key in keys if (state := kept.weights(key, settings.weights)) is not None]
        if len(states) < len(keys):
            raise RuntimeError("its weights cannot be read")
        given = context.prepare(
            setup, states[0], settings, other=states[1] if unit.other_key else None,
            say=lambda done, total: tell(Measuring(unit, done, total)),
        )  # fmt: skip
        parts = WHAT[unit.what].load()(given)
    except SamcmpError:
        raise
    except Exception as error:  # of a model of others, or no memory: the other units go on
        tell(Failed(unit.case, unit.what, *cause_of(error)))
        return
    _keep(unit, parts, kept, tell)


def _keep(unit: Unit, parts: Parts, kept: Kept, tell: Tell) -> None:
    trained = kept.trained(unit.train_key)
    if trained is None:
        raise RuntimeError("a unit belongs to a run that was kept")
    finite = {name: float(value) for name, value in parts.scalars.items() if math.isfinite(value)}
    infinite = dict.fromkeys(parts.scalars.keys() - finite.keys(), "not a finite number")
    made = Inspection(
        key=unit.key,
        what=unit.what,
        settings=unit.settings,
        run=trained,
        other=kept.trained(unit.other_key) if unit.other_key else None,
        scalars=finite,
        missing={**infinite, **parts.missing},
        passes=parts.passes,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    kept.add(made, parts.arrays)
    tell(Stored(unit))
