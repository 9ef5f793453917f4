"""What every optimizer of the family promises, tried on any optimizer: ours, a third party's, a user's own.

    report = check_optimizer(lambda base: MySAM(base, rho=0.05))
    print(report)

``build`` gets a torch optimizer and returns an optimizer around it, or a :class:`samcmp.optim.Recipe`. Each promise is
tried on a small network; one that cannot be tried (no two-phase form, no compiler) is reported as such, with the
reason.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from samcmp.conformance.optimizer_promises import PROMISES
from samcmp.conformance.report import Report, try_each
from samcmp.conformance.trial import Build, Subject


def check_optimizer(
    build: Build,
    *,
    rho_zero: Build | None = None,
    passes: Sequence[int] | None = None,
    reads_host: bool = False,
    leave_out: Collection[str] = (),
) -> Report:
    """Try every promise on the optimizer that ``build(base)`` makes.

    ``rho_zero`` builds it with rho = 0, where its constructor names rho; ``passes`` are the gradients of the first
    steps if they are known, at three steps an epoch; ``reads_host`` says that the optimizer decides by a device value
    (as AE-SAM does); ``leave_out`` names promises not to try.
    """
    tried = {name: promise for name, promise in PROMISES.items() if name not in leave_out}
    return try_each(tried, Subject(build, rho_zero, passes, reads_host))
