"""``samcmp selfcheck``: is this machine fit for comparisons?"""

from __future__ import annotations

from typing import Annotated

import typer

from samcmp.cli import common, options
from samcmp.times import seconds_of

MARKS = {True: ("passed", "green"), False: ("FAILED", "bold red"), None: ("not settled", "yellow")}


def selfcheck(
    device: options.Device = "auto",
    budget: Annotated[str, typer.Option(metavar="TIME", help="For the checks that need rounds.")] = "60s",
    seed: Annotated[int, options.seed("Of the orders of rounds.")] = 0,
) -> None:
    """Measure the measuring: equal things must come out equal, and known differences must be found.

    Exit code 1 where a check fails. "Not settled" means that the machine is too noisy at the moment: try again when it
    is idle, or with a larger --budget.

    Examples:

      samcmp selfcheck

      samcmp selfcheck --device cuda:0 --budget 2min
    """
    seconds = seconds_of(budget)
    where = common.pick_device(device)

    from rich.text import Text

    from samcmp.profiling import selfcheck as checks
    from samcmp.profiling.lock import device_lock
    from samcmp.profiling.nvml import open_torch_device
    from samcmp.training.setup import resolve_device

    console = common.stdout()
    torch_device = resolve_device(where)
    key = open_torch_device(torch_device).read("uuid") or str(torch_device)
    failed = 0
    with device_lock(key, say=lambda text: common.stderr().print(text, markup=False)):
        for check in checks.run(torch_device, seconds=seconds, seed=seed):
            word, style = MARKS[check.passed]
            console.print(Text.assemble((f"{word:<12}", style), f"{check.name}: {check.measured}"), soft_wrap=True)
            failed += check.passed is False
    if failed:
        raise typer.Exit(1)
