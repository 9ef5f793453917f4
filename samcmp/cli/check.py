"""``samcmp check``: try an optimizer or a model of one's own against every promise of its family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samcmp import child
from samcmp.cli import common, completion
from samcmp.errors import UsageError, unknown

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from samcmp.conformance.report import Report

OPTIMIZER, MODEL = "an optimizer", "a model"


def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py[:CLASS]",
            help="Your optimizer or model, or the name of one in the catalogues.",
            autocompletion=completion.optimizers_and_models,
        ),
    ],
    reads_host: Annotated[
        bool,
        typer.Option("--reads-host", help="The optimizer decides by a device value, as AE-SAM does."),
    ] = False,
    reads_order: Annotated[
        bool,
        typer.Option("--reads-order", help="The model reads a molecule's atoms as a sequence, as CMPNN does."),
    ] = False,
) -> None:
    """Try your own optimizer or model against every promise of its family, and say which it keeps.

    An optimizer class is called with a torch optimizer, as SAM(torch.optim.Adam(...)); with the parameters where its
    constructor's first argument is called params, and with the base's class where base_optimizer follows. A model
    class, any torch.nn.Module that takes a torch-geometric batch, is called with the sizes that it names. The other
    arguments need defaults. The exit code is 1 when a promise is broken.

    Examples:

      samcmp check my_optimizer.py

      samcmp check my_model.py:MyModel

      samcmp check graphsam
    """
    console = common.stdout()
    apart = child.Child(_try, target, reads_host, reads_order, parental=True)
    try:
        kind = apart.receive(seconds=child.IMPORT_SECONDS)
        report = apart.receive()
        apart.process.join(child.LAST_SECONDS)  # one that is killed leaves behind what it holds of the system
    except child.Died as death:
        if death.status == "timeout":
            from samcmp.training.checks import too_slow

            raise too_slow(target, death) from None
        console.print(f"{target}: {death.reason}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    finally:
        apart.end()
    console.print(f"{target}: tried as {kind}", markup=False, soft_wrap=True)
    _show(console, target, report)
    if not report.ok:
        raise typer.Exit(1)


def _try(pipe: Connection, target: str, reads_host: bool, reads_order: bool) -> None:
    """Try ``target`` and send what it is tried as, then what was found; in a process of its own, it may end it."""
    trial = _trial(target)
    _refuse(trial, reads_host=reads_host, reads_order=reads_order)
    pipe.send(trial.kind)
    if trial.kind == OPTIMIZER:
        from samcmp.conformance.optimizer import check_optimizer

        pipe.send(check_optimizer(trial.made, rho_zero=trial.rho_zero, reads_host=reads_host or target == "ae-sam"))
    else:
        from samcmp.conformance.backbone import check_config

        pipe.send(check_config(trial.made, **({"order_matters": True} if reads_order else {})))


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: the kind, and the optimizer's ``build(base)`` or the model's configuration."""

    kind: str
    made: Any
    rho_zero: Any = None  # as made, with rho = 0, where the constructor names rho


def _refuse(trial: Trial, *, reads_host: bool, reads_order: bool) -> None:
    for flag, given, kind in (("--reads-host", reads_host, OPTIMIZER), ("--reads-order", reads_order, MODEL)):
        if given and trial.kind != kind:
            raise UsageError(f"this says something of {kind}, and {trial.kind} is tried", where=flag, remedy="Omit it.")


def _trial(target: str) -> Trial:
    """Find what ``target`` names, in the catalogues, in a file or in an installed package."""
    place, _, class_name = target.partition(":")
    if not place.endswith(".py") and not class_name:
        return _of_catalogue(target)

    from torch import nn
    from torch.optim import Optimizer

    from samcmp.userfile import class_in, imported

    made = class_in(imported(place, where=target), class_name, (Optimizer, nn.Module), where=target)
    if issubclass(made, Optimizer):
        from samcmp.conformance.own import builds

        return Trial(OPTIMIZER, *builds(f"{place}:{made.__name__}"))
    return Trial(MODEL, _configured(f"{place}:{made.__name__}", where=target))


def _of_catalogue(name: str) -> Trial:
    from samcmp import backbones, optim

    if name in optim.names():
        from samcmp.conformance.trial import STEPS_PER_EPOCH

        return Trial(OPTIMIZER, lambda base: optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=0))
    if name in backbones.names():
        return Trial(MODEL, backbones.build_config(name))
    raise unknown("optimizer or model", name, [*optim.names(), *backbones.names()])


def _configured(source: str, *, where: str) -> Any:
    """Return the configuration of a user's model; a constructor that cannot be called is the user's mistake."""
    from samcmp import backbones
    from samcmp.backbones import user

    try:
        config = backbones.build_config(source)
        user.arguments(user.load_class(source), config, tasks=1)
    except UsageError as error:
        raise UsageError(error.what, where=where, remedy=error.remedy) from None
    return config


def _show(console: Any, name: str, report: Report) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("", "promise", "found"):
        table.add_column(title, overflow="fold", no_wrap=False)
    words = {True: "[green]kept[/]", False: "[bold red]broken[/]", None: "[dim]n/a[/]"}
    for result in report.results:
        table.add_row(words[result.kept], escape(result.promise), escape(result.found))
    console.print(table)
    kept = sum(result.kept is True for result in report.results)
    color = "green" if report.ok else "red"
    console.print(f"[{color}]{escape(name)}: {kept} promises kept, {len(report.broken)} broken[/]", soft_wrap=True)
