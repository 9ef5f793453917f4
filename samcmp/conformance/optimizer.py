"""What every optimizer of the family promises, tried on any optimizer: ours, a third party's, a user's own.

    report = check_optimizer(lambda base: MySAM(base, rho=0.05))
    print(report)

``build`` gets a torch optimizer and returns an optimizer around it, or a :class:`samcmp.optim.Recipe`. Each promise is
a function that is tried on a small network: it returns what it found, or raises Broken. One that cannot be tried (no
two-phase form, no compiler) is reported as such, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from samcmp.conformance.ddp import replicas_stay_identical
from samcmp.conformance.loops import accumulation, scaler_overflow, scaler_scale
from samcmp.conformance.parameters import (
    absent_gradients,
    bf16_weights,
    deep_copy,
    frozen_later,
    group_added,
    sparse_refused,
    state_across_devices,
    state_round_trip,
    two_groups,
    zero_gradients,
)
from samcmp.conformance.report import Broken, NotApplicable, Report, try_each
from samcmp.conformance.trial import STEPS, Build, Net, Subject, adam, batch, finite, same, sgd, train


def base_at_rho_zero(subject: Subject) -> None:
    for base in (adam, sgd):
        run = subject.run(base)
        if not any("rho" in group for group in run.optimizer.param_groups):
            if subject.rho_zero is None:
                raise NotApplicable("neither its groups nor its constructor name rho")
            run = replace(subject, build=subject.rho_zero).run(base)
        for group in run.optimizer.param_groups:
            for key in ("rho", "initial_rho", "radius", "initial_radius"):
                if key in group:
                    group[key] = 0.0
        plain = Subject(lambda own: own).run(base)
        if not same(train(run), train(plain)):
            raise Broken(f"with rho = 0 the weights differ from those of {base.__name__} alone")


def restored(subject: Subject) -> None:
    for dtype in (torch.float64, torch.bfloat16):  # what float64 may hide by chance bf16 shows
        run = subject.run(sgd, model=Net(dtype), lr=0.0)
        before = run.weights()
        after = train(run)
        if not same(after, before):
            apart = max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))
            why = "are not taken back" if apart > torch.finfo(dtype).eps * 100 else "are off in their last digits, as "
            how = "" if why.startswith("are not") else "after adding ε and subtracting it: copy θ and put the copy back"
            raise Broken(f"with learning rate 0 the {str(dtype).removeprefix('torch.')} weights {why}{how}")


def same_storage(subject: Subject) -> None:
    model = Net()
    places = [[p.data_ptr() for p in model.parameters()]]
    run = subject.run(model=model)
    run.closure.watch = lambda: places.append([p.data_ptr() for p in run.model.parameters()])
    train(run)
    if any(place != places[0] for place in places):
        raise Broken("parameters change their storage, when the optimizer is built or between passes")


def restored_when_raising(subject: Subject) -> None:
    for at in range(1, 2 * STEPS + 1):
        run = subject.run()
        run.closure.raises_at = at
        for t in range(STEPS):
            before = run.weights()
            try:
                run.step(t)
            except InterruptedError:
                if not same(run.weights(), before):
                    raise Broken(
                        f"the closure raised in pass {at}, the weights stay perturbed: restore them in a finally block"
                    ) from None
                break
        run.closure.raises_at = None
        if not finite(train(run, 2)):
            raise Broken(f"no finite step follows a closure that raised in pass {at}")


def promised_passes(subject: Subject) -> str:
    run = subject.run()
    taken = [run.step(t) for t in range(STEPS if subject.passes is None else len(subject.passes))]
    if subject.passes is None:
        raise NotApplicable(f"nothing was promised; the first steps take {taken}")
    if taken != list(subject.passes):
        raise Broken(f"promised {list(subject.passes)}, took {taken}")
    return f"{taken}"


def loss_of_first_pass(subject: Subject) -> None:
    run = subject.run()
    run.closure.x, run.closure.y = batch(0)
    first = float(run.closure.losses().mean())
    loss = run.optimizer.step(run.closure)
    if loss is None or not math.isclose(float(loss), first, rel_tol=1e-3):
        raise Broken(f"step returned {loss}, the loss before the first step was {first}")


def lr_schedulers(subject: Subject) -> None:
    run = subject.run(sgd)
    scheduler = torch.optim.lr_scheduler.StepLR(run.optimizer, step_size=1, gamma=0.0)
    train(run, 1)
    scheduler.step()
    if any(group["lr"] != 0 for group in run.optimizer.param_groups):
        raise Broken("a torch scheduler does not change the groups")
    before = run.weights()
    if not same(train(run, 2, first=1), before, within=1e-9):  # how weights are restored is another promise
        raise Broken("the learning rate that a torch scheduler set is not used")


def compiled_model(subject: Subject) -> None:
    plain = subject.run()
    model = Net()
    run = subject.run(model=model)
    model.load_state_dict(subject.run().model.state_dict())
    try:
        compiled: Any = torch.compile(model, backend="aot_eager")
        run.closure.model = compiled
        run.closure.model(batch(0)[0])
    except Exception as error:
        raise NotApplicable(f"torch.compile does not work here: {type(error).__name__}") from None
    if not same(train(run), train(plain), within=1e-12):
        raise Broken("a compiled model trains differently")


class _NoReading(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in {torch.ops.aten._local_scalar_dense, torch.ops.aten.item, torch.ops.aten.is_nonzero}:
            raise Broken("a step reads a tensor's value on the host (.item(), bool(), float())")
        return func(*args, **(kwargs or {}))


def no_host_reads(subject: Subject) -> None:
    if subject.reads_host:
        raise NotApplicable("it says that it decides by a device value")
    run = subject.run(sgd)
    with _NoReading():  # type: ignore[no-untyped-call]
        train(run)


def global_random_untouched(subject: Subject) -> None:
    import random

    import numpy as np

    run = subject.run()
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    train(run)
    after = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    if not torch.equal(before[0], after[0]) or before[1:] != after[1:]:
        raise Broken("a step draws from a global random generator, and so changes dropout or the data's order")


def grad_mode(subject: Subject) -> None:
    plain, run = subject.run(), subject.run()
    with torch.no_grad():
        ends = train(run)
    if not same(ends, train(plain)):
        raise Broken("step inside torch.no_grad() differs: the closure must run with gradients")


PROMISES: dict[str, Callable[[Subject], str | None]] = {
    "rho = 0 is the base optimizer, bit for bit": base_at_rho_zero,
    "weights are restored bit for bit": restored,
    "weights are restored when the closure raises": restored_when_raising,
    "parameters keep their storage": same_storage,
    "passes per step are those promised": promised_passes,
    "step returns the loss of its first pass": loss_of_first_pass,
    "a checkpoint resumes at every step, read without pickle": state_round_trip,
    "a state moves to another device": state_across_devices,
    "two param groups, each with its rho": two_groups,
    "add_param_group in mid-training": group_added,
    "frozen and unused parameters stay": absent_gradients,
    "a parameter frozen in mid-training stays": frozen_later,
    "zero gradients move nothing": zero_gradients,
    "sparse gradients are refused": sparse_refused,
    "torch's learning-rate schedulers work": lr_schedulers,
    "GradScaler: the scale does not matter": scaler_scale,
    "GradScaler: an overflow in either pass does no harm": scaler_overflow,
    "gradient accumulation equals the whole batch": accumulation,
    "a compiled model trains the same": compiled_model,
    "replicas of two ranks stay identical": replicas_stay_identical,
    "bf16 weights": bf16_weights,
    "a deep copy is independent": deep_copy,
    "no host reads in a step": no_host_reads,
    "global random streams are not touched": global_random_untouched,
    "step works inside no_grad": grad_mode,
}


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
