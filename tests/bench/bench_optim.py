"""Optimizer-only time and memory of a step over fused Adam's, side by side with pytorch-optimizer's classes.

About 4.7 M float32 parameters in 151 tensors on one thread; forward and backward are replaced by handing over ready
gradients, as autograd does: new tensor objects every pass. Process CPU time without the time of the handing over,
arms interleaved, medians over rounds. The row "adam" is this package's step around fused Adam.
Memory is counted in parameter sizes: own vectors, and the most that one of ten steps took beyond Adam's.

The last table says where a step's time goes. Its floor counts what each part has to move through memory, in
parameter sizes, at the rate at which Adam moves its seven: g, and θ, m, v there and back. GraphSAM has to move 7 more
(‖ω‖ 1, d and its norm 3, θ + ε 3), SAM 4 (‖g‖ 1, θ + ε 3), S2-SAM 5 (ω kept and its norm 2, θ + ε 3).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim import Optimizer

ROUNDS, BLOCK = 12, 20
STEPS_PER_EPOCH = 50
# name -> (bar over fused Adam, memory of the specification in parameter sizes, persistent and transient)
BARS: dict[str, tuple[float | None, float]] = {
    "adam": (None, 0), "graphsam": (2.0, 2), "graphsam-k": (2.0, 2), "sam": (2.0, 1), "sam-k": (2.0, 2),
    "rst": (2.0, 1), "s2-sam": (2.0, 2), "msam": (2.0, 1), "looksam": (2.5, 3), "ae-sam": (2.5, 1),
    "sam-one": (None, 2), "sam-k-skip": (None, 1), "late-sam": (None, 1), "asam": (None, 2), "esam": (None, 1),
    "vasso": (None, 2), "f-sam": (None, 2), "gsam": (None, 2), "wsam": (None, 3), "mesa": (None, 1),
    "graphsam-released": (None, 2),
}  # fmt: skip


def shapes() -> list[tuple[int, ...]]:
    layer: list[tuple[int, ...]] = [(300, 300), (300,), (300, 325), (300,), (300,), (10,)]
    return [*(shape for _ in range(25) for shape in layer), (100,)]


class Handed:
    """A closure whose passes only hand gradients over; three sets, so that passes and steps of two passes differ."""

    def __init__(self, params: list[Tensor]) -> None:
        draw = torch.Generator().manual_seed(1)
        self.params = params
        self.sets = [[torch.randn(p.shape, generator=draw) * 0.01 for p in params] for _ in range(3)]
        self.passes = 0
        self.spent = 0.0  # process seconds in here, which are no optimizer's
        self.loss = torch.tensor(1.0)

    def __call__(self, keep: Tensor | None = None) -> Tensor:
        start = time.process_time()
        self.passes += 1
        for p, grad in zip(self.params, self.sets[self.passes % 3], strict=True):
            p.grad = grad.detach()
        self.spent += time.process_time() - start
        return self.loss

    on = __call__

    def losses(self) -> Tensor:
        return torch.arange(32.0)


Arm = tuple[str, Callable[[], None], Handed]


def new_params() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=draw) * 0.05) for shape in shapes()]


def own_arm(name: str) -> tuple[Arm, Optimizer]:
    from samcmp import optim

    params = new_params()
    base = torch.optim.Adam(params, lr=1e-3, fused=True)
    recipe = optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=1000, seed=0)
    closure = Handed(params)
    return (name, lambda: recipe.optimizer.step(closure), closure), recipe.optimizer


def reference_arm() -> Arm:
    params = new_params()
    adam = torch.optim.Adam(params, lr=1e-3, fused=True)
    closure = Handed(params)

    def step() -> None:
        closure()
        adam.step()

    return "torch Adam, fused", step, closure


def foreign_arms() -> list[Arm]:
    try:
        import pytorch_optimizer
    except ImportError:
        print("pytorch-optimizer's classes: n/a (package missing)")
        return []
    arms: list[Arm] = []
    for class_name, settings in (("SAM", {"rho": 0.05}), ("LookSAM", {"rho": 0.05, "k": 8}), ("GSAM", {})):
        made = getattr(pytorch_optimizer, class_name, None)
        if made is None or class_name == "GSAM":
            continue
        params = new_params()
        closure = Handed(params)
        optimizer = made(params, base_optimizer=torch.optim.Adam, lr=1e-3, **settings)

        def step(closure: Handed = closure, optimizer: Any = optimizer) -> None:
            closure()
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)

        arms.append((f"pytorch-optimizer {class_name}", step, closure))
    return arms


def measure(arms: list[Arm]) -> dict[str, list[float]]:
    """Seconds per step of each arm in each round, the closure's own time taken off."""
    for _, step, _ in arms:
        for _ in range(3):
            step()
    found: dict[str, list[float]] = {name: [] for name, _, _ in arms}
    gc.collect()
    gc.disable()  # as timeit does: a collection looks at the objects of all arms and falls on whoever is at work
    for _ in range(ROUNDS):
        for name, step, closure in arms:
            step()  # what the arm before left in the cache is not this arm's
            start = time.process_time() - closure.spent
            for _ in range(BLOCK):
                step()
            found[name].append((time.process_time() - closure.spent - start) / BLOCK)
    gc.enable()
    return found


class Fresh(Handed):
    """Hands over gradients that were just allocated, as a backward pass does, after dropping the old ones."""

    def __call__(self, keep: Tensor | None = None) -> Tensor:
        for p in self.params:
            p.grad = None
        self.passes += 1
        for p, grad in zip(self.params, self.sets[self.passes % 3], strict=True):
            p.grad = grad.clone()
        return self.loss

    on = __call__


def peak_bytes(step: Callable[[], Any]) -> int:
    """Return how far above its start torch's CPU allocator got within some steps."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        for _ in range(10):
            step()
    records = profile.profiler.kineto_results.events()
    changes = [record for record in records if record.name() == "[memory]"]
    now = top = 0
    for record in sorted(changes, key=lambda record: record.start_ns()):
        now += record.nbytes()
        top = max(top, now)
    return top


def stepped(name: str) -> tuple[Any, int]:
    """Return an optimizer after some steps, and the bytes that further steps took at most."""
    from samcmp import optim

    params = new_params()
    base = torch.optim.Adam(params, lr=1e-3, fused=True)
    optimizer: Any = optim.build(name, base, steps_per_epoch=4, epochs=100, seed=0).optimizer
    closure = Fresh(params)
    for _ in range(3):
        optimizer.step(closure)
    for p in params:
        p.grad = None  # a block from before would be freed without being counted
    return optimizer, peak_bytes(lambda: optimizer.step(closure))


@functools.cache
def memory_of_adam() -> int:
    return stepped("adam")[1]


def memory(name: str) -> tuple[float, float]:
    """Return persistent and transient memory beyond Adam's, in parameter sizes."""
    size = sum(p.numel() * p.element_size() for p in new_params())
    optimizer, peak = stepped(name)
    kept = sum(t.numel() * t.element_size() for v in optimizer.kept.values() for t in v.tensors)
    spare = optimizer.space._spare
    scratch = 0 if spare is None else sum(t.numel() * t.element_size() for t in spare.tensors)
    return kept / size, (scratch + peak - memory_of_adam()) / size


VERBS = {
    "length": "norms", "add_": "sums", "sum_": "sums", "add_measured_": "sums", "copy_measured_": "copies",
    "leave": "leaving home", "come_home": "coming home", "descend": "Adam",
}  # fmt: skip
FLOOR = {"adam": 7, "graphsam": 14, "sam": 11, "s2-sam": 12, "msam": 11}  # parameter sizes through memory in a step


def parts(name: str, steps: int = 60) -> dict[str, float]:
    """Milliseconds a step spends in each verb, means over steps; the rest is Python between them."""
    from samcmp.optim import vectors

    (_, step, closure), optimizer = own_arm(name)
    own: Any = optimizer
    for _ in range(5):
        step()
    spent: dict[str, float] = dict.fromkeys(VERBS.values(), 0.0)

    def timed(owner: Any, verb: str) -> Any:
        call, label = getattr(owner, verb), VERBS[verb]

        def wrapped(*arguments: Any, **settings: Any) -> Any:
            start = time.process_time()
            try:
                return call(*arguments, **settings)
            finally:
                spent[label] += time.process_time() - start

        return mock.patch.object(owner, verb, wrapped)

    owners = dict.fromkeys(("leave", "come_home"), own.space) | {"descend": own}
    with contextlib.ExitStack() as stack:
        for verb in VERBS:
            stack.enter_context(timed(owners.get(verb, vectors), verb))
        start = time.process_time() - closure.spent
        for _ in range(steps):
            step()
        whole = time.process_time() - closure.spent - start
    spent["rest"] = whole - sum(spent.values())
    return {label: seconds / steps * 1e3 for label, seconds in spent.items()}


def print_parts() -> None:
    size = sum(p.numel() * p.element_size() for p in new_params())
    found = {name: parts(name) for name in FLOOR}
    rate = FLOOR["adam"] * size / found["adam"]["Adam"]  # bytes in a millisecond
    print(f"\nms of a step by part, and its floor at the {rate / 1e6:.0f} GB/s of Adam's part in the row adam")
    labels = list(found["adam"])
    print(f"{'optimizer':<12}" + "".join(f"{label:>14}" for label in labels) + f"{'sum':>8}{'floor':>8}")
    for name, spent in found.items():
        cells = "".join(f"{spent[label]:>14.2f}" for label in labels)
        floor = FLOOR[name] * size / rate
        print(f"{name:<12}{cells}{sum(spent.values()):>8.2f}{floor:>8.2f}")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    with one_thread():
        owned = [own_arm(name) for name in BARS]
        arms = [reference_arm(), *(arm for arm, _ in owned), *foreign_arms()]
        times = measure(arms)
        reference = times["torch Adam, fused"]
        print("memory beyond Adam in parameter sizes: kept + while perturbed (specification's sum)")
        print(f"{'optimizer':<28}{'ms/step':>9}{'x Adam':>8}{'bar':>6}   memory")
        for name, _, _ in arms:
            ratio = statistics.median(a / b for a, b in zip(times[name], reference, strict=True))
            bar, allowed = BARS.get(name, (None, None))
            used = "" if allowed is None else "{:.2f} + {:.2f} ({:g})".format(*memory(name), allowed)
            milliseconds = statistics.median(times[name]) * 1e3
            print(f"{name:<28}{milliseconds:>9.2f}{ratio:>8.2f}{bar or '-':>6}   {used}", flush=True)
        print_parts()


if __name__ == "__main__":
    main()
