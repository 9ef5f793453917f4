"""From a plan to units: each measurement of each run, or pair of runs, under its content key, and what it costs.

Nothing here imports torch: ``--dry-run`` answers in well under a second.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from samcmp import backbones, modules, optim
from samcmp.errors import UsageError, unknown
from samcmp.experiment import cost
from samcmp.inspection import WHAT, Settings
from samcmp.inspection.kept import Kept
from samcmp.records import Case, Json, content_key

PREPARED = "samcmp.inspection.context"  # which molecules, in which batches
DEFAULT = ("gradients", "landscape", "sharpness")


@dataclass(frozen=True, slots=True)
class Unit:
    """One measurement of one run, or of the pair of it and another."""

    key: str
    what: str
    settings: Mapping[str, Json]
    train_key: str
    case: Case
    other_key: str = ""
    other_case: Case | None = None


def has_method(model: str, name: str) -> bool:
    """Tell whether the class of a model has a method that returns a list, one for each layer, without importing it.

    GROVER's attention returns no list: it is the read-out's, not between atoms. A user may leave the type out.
    """
    if backbones.is_user_model(model):
        file, _, of_class = model.rpartition(":")
    else:
        file, of_class = backbones.entry(model).module, "Model"
    path = modules.path_of(file)
    try:
        tree = ast.parse(path.read_bytes() if path else b"")
    except (SyntaxError, ValueError, OSError):  # of a user's file: the run says so
        return False
    return any(
        isinstance(item, ast.FunctionDef)
        and item.name == name
        and (item.returns is None or ast.unparse(item.returns).strip("'\"").startswith(("list", "List", "Sequence")))
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == of_class
        for item in node.body
    )


def chosen(what: Sequence[str], cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the measurements that are asked for, checked; the default ones where none is. Raises UsageError."""
    for name in what:
        if name not in WHAT:
            raise unknown("measurement", name, WHAT, where="--what")
    models = dict.fromkeys(case.model for case in cases)
    for name in what:
        _refuse(name, models, len({case.arm for case in cases}))
    if what:
        return tuple(name for name in WHAT if name in what)
    return (*DEFAULT, *(["attention"] if any(has_method(model, "attention") for model in models) else []))


def _refuse(name: str, models: Mapping[str, None], arms: int) -> None:
    needs = WHAT[name].needs
    if needs and not any(has_method(model, needs) for model in models):
        able = ", ".join(model for model in backbones.BACKBONES if has_method(model, needs))
        raise UsageError(
            f"{' and '.join(models)} {'has' if len(models) == 1 else 'have'} no {needs}",
            where=f"--what {name}", remedy=f"Models with {needs}: {able}.",
        )  # fmt: skip
    if WHAT[name].pair and arms < 2:
        raise UsageError(f"a {name} needs two optimizers", where=f"--what {name}", remedy="Name two with --optimizer.")


def refuse_idle(settings: Settings, what: Sequence[str]) -> None:
    """Refuse a setting of a measurement that is not made. Raises UsageError."""
    for f in fields(settings):
        using = [name for name, measurement in WHAT.items() if f.name in measurement.settings]
        if getattr(settings, f.name) != f.default and not set(using) & set(what):
            raise UsageError(
                f"is about {' and '.join(using)}, which {'is' if len(using) == 1 else 'are'} not measured here",
                where=f"--{f.name}", remedy=f"Add --what {using[0]}, or leave it out.",
            )  # fmt: skip


def units(training: Mapping[str, Case], what: Sequence[str], settings: Settings) -> list[Unit]:
    """Return the units of a plan's training runs: those of one run together, those of pairs after their block's."""
    made: list[Unit] = []
    for _, group in itertools.groupby(training.items(), key=lambda pair: _block(pair[1])):
        runs = list(group)
        for key, case in runs:
            made += [_unit(name, settings, key, case) for name in what if not WHAT[name].pair and _fits(name, case)]
        for name in what:
            if WHAT[name].pair:
                made += [_unit(name, settings, *a, *b) for a, b in itertools.combinations(runs, 2)]
    return made


def _block(case: Case) -> tuple[str, str, str]:
    return case.dataset, case.model, case.block


def _fits(name: str, case: Case) -> bool:
    needs = WHAT[name].needs
    return not needs or has_method(case.model, needs)


def _unit(
    name: str, settings: Settings, key: str, case: Case, other_key: str = "", other_case: Case | None = None
) -> Unit:
    own = WHAT[name].of(settings)
    read = modules.closure((WHAT[name].module, PREPARED))  # what else decides is in the run's key
    code = {module: digest for module, digest in read.items() if module.startswith("samcmp.inspection.")}
    decides = {"train_key": key, "other": other_key, "what": name, "settings": own, "code": code}
    return Unit(content_key(decides), name, own, key, case, other_key, other_case)


def missing(every: Sequence[Unit], kept: Kept) -> list[Unit]:
    """Return the units that are not whole in the store."""
    return [unit for unit in every if not kept.has(unit.key)]


# ---------------------------------------------------------------------------------------------- what it costs


@dataclass(frozen=True, slots=True)
class Expected:
    """The passes that are to be expected, each forward and backward over one batch."""

    training: float = 0.0
    watching: float = 0.0  # true gradients beyond the training's passes, at most
    measuring: float = 0.0

    @property
    def total(self) -> float:
        """All three."""
        return self.training + self.watching + self.measuring


def expected(todo: Sequence[Unit], kept: Kept, settings: Settings) -> Expected | None:
    """Return what the missing units cost, the training of their runs included; None where a size is not known yet."""
    training = watching = measuring = 0.0
    for key, case in runs_to_train(todo, kept, settings).items():
        size = cost.train_size(case)
        if size is None:
            return None
        steps = math.ceil(size / case.protocol.batch_size)
        each = passes_per_step(case, steps)
        evaluated = 0.2 / 0.8 / 3 * steps  # validation and test molecules, forward
        training += case.training.epochs * (steps * each + evaluated)
        if any(unit.train_key == key and WHAT[unit.what].watched for unit in todo):
            share = min(1.0, 2 / settings.every)
            watching += share * case.training.epochs * steps * _approximated(case, steps) * 4 / 3
    for unit in todo:
        size = cost.train_size(unit.case)
        if size is None:
            return None
        molecules = min(size, settings.molecules or size)
        measuring += WHAT[unit.what].passes(settings) * math.ceil(molecules / unit.case.protocol.batch_size)
    return Expected(training, watching, measuring)


def runs_to_train(todo: Sequence[Unit], kept: Kept, settings: Settings) -> dict[str, Case]:
    """Return the runs that must be trained for the missing units: those whose training is watched or not there."""
    found: dict[str, Case] = {}
    for unit in todo:
        ends = [(unit.train_key, unit.case)]
        if unit.other_case is not None:
            ends.append((unit.other_key, unit.other_case))
        for key, case in ends:
            if WHAT[unit.what].watched or not is_trained(key, kept, settings.weights):
                found[key] = case
    return found


def is_trained(train_key: str, kept: Kept, which: str) -> bool:
    """Tell whether a run has been trained and its weights, if it came to any, are there."""
    trained = kept.trained(train_key)
    return trained is not None and (trained.status != "ok" or kept.weights_path(train_key, which).is_file())


def passes_per_step(case: Case, steps_per_epoch: int) -> float:
    """Gradient evaluations a step, as the catalogue says; half of the steps take two where the gradients decide."""
    entry = optim.entry(case.optimizer)
    if entry.kinds is None:
        first = entry.passes.split()[0] if entry.passes else "1"
        return float(first) if first.replace(".", "").isdigit() else 1.0
    if entry.kinds.share is None:
        return 1.5
    return 1 + entry.kinds.share({**entry.settings, **case.settings}, steps_per_epoch, case.training.epochs)


def _approximated(case: Case, steps_per_epoch: int) -> float:
    """The share of steps that may need a true gradient of their own, at most."""
    if case.is_base:
        return 0.0
    return max(0.0, 2.0 - passes_per_step(case, steps_per_epoch))
