"""The promises of an optimizer, one function each: returns, or raises Broken or NotApplicable."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from samcmp.conformance.ddp import replicas_stay_identical
from samcmp.conformance.loops import accumulation, scaler_overflow, scaler_scale
from samcmp.conformance.optimizer import STEPS, Broken, Net, NotApplicable, Run, Subject, adam, batch, same, sgd


def _train(run: Run, steps: int = STEPS, *, first: int = 0) -> list[Tensor]:
    for t in range(first, first + steps):
        run.step(t)
    return run.weights()


def _finite(weights: list[Tensor]) -> bool:
    return all(bool(torch.isfinite(w).all()) for w in weights)


def base_at_rho_zero(subject: Subject) -> None:
    for base in (adam, sgd):
        run = subject.run(base)
        if not any("rho" in group for group in run.optimizer.param_groups):
            raise NotApplicable("the optimizer has no rho")
        for group in run.optimizer.param_groups:
            for key in ("rho", "initial_rho", "radius", "initial_radius"):
                if key in group:
                    group[key] = 0.0
        plain = Subject(lambda own: own).run(base)
        if not same(_train(run), _train(plain)):
            raise Broken(f"with rho = 0 the weights differ from those of {base.__name__} alone")


def comes_home(subject: Subject) -> None:
    run = subject.run(sgd, lr=0.0)
    before, seen = run.weights(), []
    run.closure.watch = lambda: seen.append(not same(run.weights(), before))
    if not same(_train(run), before):
        raise Broken("with learning rate 0 the weights after some steps are not those from before, bit for bit")


def same_storage(subject: Subject) -> None:
    run = subject.run()
    places: list[list[int]] = []
    run.closure.watch = lambda: places.append([p.data_ptr() for p in run.model.parameters()])
    _train(run)
    if any(place != places[0] for place in places):
        raise Broken("parameters change their storage between passes")


def comes_home_when_raising(subject: Subject) -> None:
    for at in range(1, 2 * STEPS + 1):
        run = subject.run()
        run.closure.raises_at = at
        for t in range(STEPS):
            before = run.weights()
            try:
                run.step(t)
            except InterruptedError:
                if not same(run.weights(), before):
                    raise Broken(f"the closure raised in pass {at} and the weights are not home") from None
                break
        run.closure.raises_at = None
        if not _finite(_train(run, 2)):
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


def state_round_trip(subject: Subject) -> None:
    whole = subject.run()
    ends = _train(whole)
    for stop in range(STEPS):
        run = subject.run()
        _train(run, stop)
        file = io.BytesIO()
        schedulers = [*getattr(run.recipe, "epoch_schedulers", ()), *getattr(run.recipe, "step_schedulers", ())]
        states = [run.model.state_dict(), run.optimizer.state_dict(), [s.state_dict() for s in schedulers]]
        torch.save(states, file)
        file.seek(0)
        model, state, scheduled = torch.load(file, weights_only=True)
        again = subject.run()
        again.model.load_state_dict(model)
        again.optimizer.load_state_dict(state)
        fresh = [*getattr(again.recipe, "epoch_schedulers", ()), *getattr(again.recipe, "step_schedulers", ())]
        for scheduler, own in zip(fresh, scheduled, strict=True):
            scheduler.load_state_dict(own)
        if not same(_train(again, STEPS - stop, first=stop), ends):
            raise Broken(f"a run that was saved after step {stop} and resumed ends elsewhere")


def state_across_devices(subject: Subject) -> None:
    if not torch.cuda.is_available():
        raise NotApplicable("there is one kind of device here")
    run = subject.run()
    _train(run, 4)
    model = copy.deepcopy(run.model).cuda()
    other = subject.run(model=model)
    other.optimizer.load_state_dict(run.optimizer.state_dict())
    other.closure.x, other.closure.y = (part.cuda() for part in batch(4))
    other.optimizer.step(other.closure)
    run.step(4)
    if not same(run.weights(), [w.cpu() for w in other.weights()], within=1e-9):
        raise Broken("a state loaded on another device continues differently")


def two_groups(subject: Subject) -> None:
    def split(model: Any) -> Any:
        return [{"params": [*model.inner.parameters()]}, {"params": [*model.outer.parameters()], "lr": 0.0}]

    run = subject.run(groups=split)
    if len(run.optimizer.param_groups) != 2:
        raise Broken("the optimizer does not show the base's two groups")
    groups = run.optimizer.param_groups
    for key in {"rho", "radius", "initial_rho", "initial_radius"} & set(groups[1]):
        groups[0][key], groups[1][key] = 0.5, 0.0
    moved: list[bool] = []
    outer = [p.detach().clone() for p in run.net.outer.parameters()]
    run.closure.watch = lambda: moved.append(not same([*run.net.outer.parameters()], outer))
    inner = [p.detach().clone() for p in run.net.inner.parameters()]
    _train(run, 4)
    if any(moved):
        raise Broken("a group with rho = 0 and learning rate 0 was moved")
    if same([*run.net.inner.parameters()], inner):
        raise Broken("the other group was not trained")


def _inner(model: Any) -> Any:
    return model.inner.parameters()


def group_added(subject: Subject) -> None:
    run = subject.run(groups=_inner)
    _train(run, 4)
    before = [p.detach().clone() for p in run.net.outer.parameters()]
    run.optimizer.add_param_group({"params": [*run.net.outer.parameters()]})
    if not _finite(_train(run, 4, first=4)):
        raise Broken("weights are not finite after a group was added")
    if same([*run.net.outer.parameters()], before):
        raise Broken("a group that was added in mid-training is not trained")


def absent_gradients(subject: Subject) -> None:
    run = subject.run()
    out_of_play = [run.net.inner.bias.requires_grad_(False), run.net.unused]
    held = [p.detach().clone() for p in out_of_play]
    moved: list[bool] = []
    run.closure.watch = lambda: moved.append(not same(out_of_play, held))
    if not _finite(_train(run)):
        raise Broken("a frozen and an unused parameter make the weights non-finite")
    if any(moved) or not same(out_of_play, held):
        raise Broken("a frozen or an unused parameter moved")


def frozen_later(subject: Subject) -> None:
    run = subject.run(sgd)
    _train(run, 4)
    frozen = run.net.inner.bias.requires_grad_(False)
    frozen.grad = None
    held = [frozen.detach().clone()]
    moved: list[bool] = []
    run.closure.watch = lambda: moved.append(not same([frozen], held))
    _train(run, 4, first=4)
    if any(moved):
        raise Broken("a parameter frozen in mid-training is still perturbed")


class _Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T) * 0


def zero_gradients(subject: Subject) -> None:
    run = subject.run(model=_Flat())
    if not _finite(_train(run)):
        raise Broken("a zero gradient makes the weights non-finite")
    if not same(run.weights(), [torch.ones(1, 4, dtype=torch.float64)]):
        raise Broken("zero gradients move the weights")


class _Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 1, sparse=True, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.table(x[:, 0].abs().long().clamp(max=4))
        return out


def sparse_refused(subject: Subject) -> None:
    run = subject.run(lambda params: torch.optim.SGD(params, lr=0.1), model=_Sparse())
    try:
        _train(run, 4)
    except (ValueError, RuntimeError, TypeError) as error:
        if "sparse" in str(error).lower():
            return
        raise Broken(f"a sparse gradient is refused with: {error}") from None
    raise Broken("a sparse gradient was taken without a word")


def lr_schedulers(subject: Subject) -> None:
    run = subject.run(sgd)
    scheduler = torch.optim.lr_scheduler.StepLR(run.optimizer, step_size=1, gamma=0.0)
    _train(run, 1)
    scheduler.step()
    if any(group["lr"] != 0 for group in run.optimizer.param_groups):
        raise Broken("a torch scheduler does not change the groups")
    before = run.weights()
    if not same(_train(run, 2, first=1), before):
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
    if not same(_train(run), _train(plain), within=1e-12):
        raise Broken("a compiled model trains differently")


def bf16_weights(subject: Subject) -> None:
    run = subject.run(sgd, model=Net(torch.bfloat16))
    if not _finite(_train(run)) or any(p.dtype != torch.bfloat16 for p in run.model.parameters()):
        raise Broken("bf16 weights do not stay finite bf16 weights")
    still = subject.run(sgd, model=Net(torch.bfloat16), lr=0.0)
    before = still.weights()
    if not same(_train(still), before):
        raise Broken("bf16 weights do not come home bit for bit")


def deep_copy(subject: Subject) -> None:
    run = subject.run()
    _train(run, 4)
    model, recipe = copy.deepcopy((run.model, run.recipe))
    twin = Run(model, recipe, type(run.closure)(model, getattr(recipe, "optimizer", recipe)))
    held = run.weights()
    moved = _train(twin, 4, first=4)
    if not same(run.weights(), held):
        raise Broken("training a deep copy moves the original")
    if not same(_train(run, 4, first=4), moved):
        raise Broken("a deep copy trains differently")


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
        _train(run)


def global_random_untouched(subject: Subject) -> None:
    import random

    import numpy as np

    run = subject.run()
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    _train(run)
    after = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    if not torch.equal(before[0], after[0]) or before[1:] != after[1:]:
        raise Broken("a step draws from a global random generator, and so changes dropout or the data's order")


def grad_mode(subject: Subject) -> None:
    plain, run = subject.run(), subject.run()
    with torch.no_grad():
        ends = _train(run)
    if not same(ends, _train(plain)):
        raise Broken("step inside torch.no_grad() differs: the closure must run with gradients")


PROMISES: dict[str, Callable[[Subject], str | None]] = {
    "rho = 0 is the base optimizer, bit for bit": base_at_rho_zero,
    "weights come home bit for bit": comes_home,
    "weights come home when the closure raises": comes_home_when_raising,
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
