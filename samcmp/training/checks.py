"""What is refused before any run: splits, initial weights and settings that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from samcmp import child
from samcmp.errors import UsageError
from samcmp.records import Case
from samcmp.training.setup import config_of, load_samples, make_split

if TYPE_CHECKING:
    from samcmp.training.setup import Options


def check_splits(cases: Iterable[Case], options: Options) -> list[str]:
    """Refuse splits that repeat each other or cannot be scored, before any run; return what should be said of the data.

    Raises UsageError where two blocks of a dataset would be one partition under two names, DataError where a part
    holds a single class or no label.
    """
    from samcmp.data import coverage, splits

    wanted: dict[tuple[str, int | None], dict[tuple[str, int, int | None], Case]] = {}
    for case in cases:
        blocks = wanted.setdefault((case.dataset, case.protocol.subset), {})
        blocks.setdefault((case.split, case.split_seed, case.fold), case)
    said: list[str] = []
    for blocks in wanted.values():
        samples = load_samples(next(iter(blocks.values())), options)
        made = [make_split(samples, case, options) for case in blocks.values()]
        said += [*samples.notes, *splits.refuse_repeats(made)]
        for split in made:
            splits.check_parts(samples, split)
            said += split.notes
        said += coverage.sentences([coverage.coverage(samples, split) for split in made], holds=samples.holds)
    return list(dict.fromkeys(said))


def check_tested(row: int, cases: Iterable[Case], options: Options) -> None:
    """Refuse a row of the published files that no split of the cases tests. Raises UsageError."""
    different = {(case.dataset, case.split, case.split_seed, case.fold): case for case in cases}.values()
    if not any(row in make_split(load_samples(case, options), case, options).test for case in different):
        raise UsageError(
            f"is a test molecule of no split of {', '.join(dict.fromkeys(case.dataset for case in different))}",
            where=f"--row {row}", remedy="`samcmp train --save-split FILE` writes a split's rows.",
        )  # fmt: skip


def check_weights(cases: Iterable[Case], options: Options) -> None:
    """Refuse initial weights that a model cannot take, before any run. Raises DataError."""
    if options.init_from is None:
        return
    different = {(case.model, case.dataset): case for case in cases}.values()
    _try_each([(_check_weights, case, options) for case in different], foreign=_has_foreign_model)


def _check_weights(case: Case, options: Options) -> None:
    from samcmp import backbones
    from samcmp.training import checkpoints

    if options.init_from is not None:
        weights = checkpoints.read(options.init_from, sha256=case.protocol.init_from or "")
        model = backbones.build(config_of(case), options.datasets.find(case.dataset).outputs)
        checkpoints.load_into(model, weights)


def check_settings(cases: Iterable[Case], written: Mapping[str, str]) -> None:
    """Refuse a value that a model or an optimizer does not take, before any run. Raises UsageError.

    Args:
        written: where the settings of an arm or a model were written; those that are not in it are not tried.
    """
    from samcmp import optim

    models: dict[tuple[str, str, str], Case] = {}
    arms: dict[str, Case] = {}
    for case in cases:
        if case.arm in written:
            arms.setdefault(case.arm, case)
        if case.model in written:
            models.setdefault((case.model, case.dataset, repr(case.model_settings)), case)
    _try_each([(_check_model, case, written[case.model]) for case in models.values()], foreign=_has_foreign_model)
    _try_each(
        [(_check_optimizer, case, written[arm]) for arm, case in arms.items()],
        foreign=lambda case: optim.is_foreign(case.optimizer),
    )


Check = tuple[Callable[[Case, Any], None], Case, Any]


def _has_foreign_model(case: Case) -> bool:
    from samcmp import backbones

    return backbones.is_foreign(case.model)


def _try_each(checks: Sequence[Check], *, foreign: Callable[[Case], bool]) -> None:
    """Make the checks, those of code of others in a process of its own. What ends that process will be in a Record.

    Raises UsageError where that code is still being imported after :data:`samcmp.child.IMPORT_SECONDS`.
    """
    for check, case, more in checks:
        if not foreign(case):
            check(case, more)
    others = [each for each in checks if foreign(each[1])]
    if others:
        try:
            child.call(_make, others, seconds=child.IMPORT_SECONDS)
        except child.Died as death:
            if death.status == "timeout":
                names = ", ".join(dict.fromkeys(name for _, case, _ in others for name in (case.model, case.optimizer)))
                raise too_slow(names, death) from None


def too_slow(what: str, death: child.Died) -> UsageError:
    """Build the error for code of others that does not come to the end of its import."""
    remedy = "Look for a loop, a download or a question at the top of its file: what takes long goes into a function."
    return UsageError(f"{death.reason} to be imported", where=what, remedy=remedy)


def _make(checks: Sequence[Check]) -> None:
    for check, case, more in checks:
        check(case, more)


def _check_model(case: Case, where: str) -> None:
    try:
        config_of(case)
    except UsageError as error:
        raise UsageError(error.what, where=where, remedy=error.remedy) from None


def _check_optimizer(case: Case, where: str) -> None:
    import torch

    from samcmp import optim

    base = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    settings = case.settings
    try:
        optim.build(case.optimizer, base, steps_per_epoch=2, epochs=2, seed=0, settings=settings)
    except UsageError as error:
        raise UsageError(error.what, where=where, remedy=error.remedy) from None
    except (TypeError, ValueError) as error:
        defaults = optim.entry(case.optimizer).settings
        what = str(error)
        if isinstance(error, TypeError):  # a default of None tells no type
            given = ", ".join(f"{key}={value!r}" for key, value in settings.items())
            what = f"a value of another type than the optimizer takes: {given}"
        shown = ", ".join(f"{key}={defaults[key]}" for key in settings)
        raise UsageError(what, where=where, remedy=f"The default is {shown}.") from None
