"""Inspections side by side: the runs of each optimizer, what was measured of them, and why something was not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samcmp.analysis.names import short_names
from samcmp.inspection import WHAT, Measured, Settings, Trained
from samcmp.inspection.kept import Kept
from samcmp.inspection.units import Unit
from samcmp.records import Case


@dataclass(frozen=True, slots=True)
class Value:
    """A quantity over the runs of an optimizer: its mean, and their standard deviation where there are several."""

    mean: float
    sd: float | None
    runs: int


@dataclass(frozen=True, slots=True)
class Arm:
    """The runs of one optimizer with its settings on one dataset and model."""

    dataset: str
    model: str
    arm: str
    label: str  # the arm, briefly
    optimizer: str
    cases: tuple[Case, ...]
    runs: Mapping[str, Trained]  # by train key; those that have been trained
    measured: Mapping[str, tuple[Measured, ...]]  # measurement -> one a run, in the order of the cases

    def values(self, what: str, name: str) -> list[float]:
        """Return a scalar of every run that has it."""
        return [m.inspection.scalars[name] for m in self.measured.get(what, ()) if name in m.inspection.scalars]

    def value(self, what: str, name: str) -> Value | None:
        """Return a scalar over the runs; None where no run has it."""
        return _over_runs(self.values(what, name))

    def test(self) -> Value | None:
        """Return the test score over the runs; None where no run has one."""
        return _over_runs([run.accuracy.test for run in self.runs.values() if run.accuracy is not None])

    def reason(self, what: str, name: str) -> str:
        """Say why there is no such scalar, by the first run that says it."""
        for measured in self.measured.get(what, ()):
            missing = measured.inspection.missing
            if said := missing.get(name, missing.get("all")):
                return said
        for run in self.runs.values():
            if run.status != "ok":
                return f"{run.status}: {run.reason}"
        needs = WHAT[what].needs if what in WHAT else ""
        if len(self.runs) < len(self.cases):
            return "the run did not end well"  # why is said where it happened
        return f"{self.model} has no {needs}" if needs else f"{what} was not measured"


@dataclass(frozen=True, slots=True)
class Results:
    """What a command or a store has measured."""

    arms: tuple[Arm, ...]
    pairs: tuple[Measured, ...]  # measurements of two runs
    what: tuple[str, ...]
    settings: Settings
    metric: str = ""
    failed: tuple[str, ...] = ()  # what did not end well in this call

    @property
    def cells(self) -> list[tuple[str, str]]:
        """The datasets and models, in order."""
        return list(dict.fromkeys((arm.dataset, arm.model) for arm in self.arms))

    def of(self, cell: tuple[str, str]) -> list[Arm]:
        """Return the arms of a dataset and model."""
        return [arm for arm in self.arms if (arm.dataset, arm.model) == cell]

    def label(self, case: Case) -> str:
        """Return the short name of a run's optimizer."""
        return next((arm.label for arm in self.arms if arm.arm == case.arm), case.arm)


def gather(
    training: Mapping[str, Case],
    units: Sequence[Unit],
    kept: Kept,
    *,
    what: Sequence[str],
    settings: Settings,
    failed: Sequence[str] = (),
) -> Results:
    """Read from the store what was measured of these runs."""
    runs = {key: run for key in training if (run := kept.trained(key)) is not None}
    read = [found for unit in units if (found := kept.get(unit.key)) is not None]
    return _results(training, runs, read, what=what, settings=settings, failed=failed)


def of_store(kept: Kept) -> Results:
    """Read every inspection of a store, whatever version of a measurement made it, for a figure or an export."""
    return of_all([found for key in kept.every_key() if (found := kept.get(key)) is not None])


def of_all(read: Sequence[Measured]) -> Results:
    """Put inspections side by side, the base first."""
    runs = {measured.inspection.train_key: measured.inspection.run for measured in read}
    ordered = sorted(runs.items(), key=lambda pair: (not pair[1].case.is_base, pair[1].case.arm, pair[1].case.block))
    what = [name for name in WHAT if any(measured.inspection.what == name for measured in read)]
    said = {key: value for measured in read for key, value in measured.inspection.settings.items()}
    return _results({key: run.case for key, run in ordered}, runs, read, what=what, settings=Settings(**said))


def _results(
    training: Mapping[str, Case],
    runs: Mapping[str, Trained],
    read: Sequence[Measured],
    *,
    what: Sequence[str],
    settings: Settings,
    failed: Sequence[str] = (),
) -> Results:
    of_run: dict[tuple[str, str], list[Measured]] = {}
    for one in read:
        of_run.setdefault((one.inspection.what, one.inspection.train_key), []).append(one)
    names = short_names(case.arm for case in training.values())
    grouped: dict[tuple[str, str, str], dict[str, Case]] = {}
    for key, case in training.items():
        grouped.setdefault((case.dataset, case.model, case.arm), {})[key] = case
    alone = [name for name in what if not WHAT[name].pair]
    arms = [
        Arm(
            dataset, model, arm, names[arm], next(iter(cases.values())).optimizer, tuple(cases.values()),
            {key: runs[key] for key in cases if key in runs},
            {name: tuple(m for key in cases for m in of_run.get((name, key), [])) for name in alone},
        )
        for (dataset, model, arm), cases in grouped.items()
    ]  # fmt: skip
    metrics = dict.fromkeys(run.accuracy.metric for run in runs.values() if run.accuracy is not None)
    pairs = tuple(measured for measured in read if measured.inspection.other is not None)
    metric = next(iter(metrics)) if len(metrics) == 1 else ""
    return Results(tuple(arms), pairs, tuple(what), settings, metric, tuple(failed))


def _over_runs(values: Sequence[float]) -> Value | None:
    if not values:
        return None
    return Value(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))
