"""What an optimizer costs: whole training steps on GROVER and CoMPT, and the optimizers' own share of a step.

Whole steps: BBBP, batches of 32 that are ready in memory, one thread, process CPU time. In every round each arm trains
an epoch (51 steps, so that GraphSAM anchors once), step by step in turn; ratios are those of a round's epochs over the
base's, torch's fused Adam by itself, and their least and greatest over the rounds stand beside them.

Optimizers alone, for information: about 4.7 M float32 parameters in 151 tensors; forward and backward are replaced by
handing over ready gradients, as autograd does: new tensor objects every pass, whose time is taken off. Memory is
counted in parameter sizes: own vectors, and the most that one of ten steps took beyond Adam's.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tests.places import MIRROR

STEPS_PER_EPOCH, BATCH, EPOCH_ROUNDS = 51, 32, 3
WHOLE = ("graphsam", "sam", "sam-k", "looksam", "s2-sam")  # beside pytorch-optimizer's SAM
BAR = 0.93  # of Adam's graphs/s, for GraphSAM
ROUNDS, BLOCK = 12, 20
# memory of the specification in parameter sizes, own vectors and while perturbed
MEMORY = {
    "adam": 0, "graphsam": 2, "graphsam-k": 2, "sam": 1, "sam-k": 2, "rst": 1, "s2-sam": 2, "msam": 2, "looksam": 3,
    "ae-sam": 1, "sam-one": 2, "sam-k-skip": 1, "late-sam": 1, "asam": 3, "esam": 1, "vasso": 2, "f-sam": 3, "gsam": 2,
    "wsam": 3, "mesa": 1, "graphsam-released": 3,
}  # fmt: skip


# ---- whole training steps


def epoch_of(name: str) -> tuple[Callable[[], Any], list[Any], Any]:
    """Return how a model is made, the batches of an epoch, and the loss."""
    from samcmp import backbones
    from samcmp.data import cards, molecules
    from samcmp.graphs.graphset import GraphSet
    from samcmp.training.tasks import Task

    sample = molecules.load(cards.find("bbbp"), source=MIRROR if MIRROR.is_dir() else None)
    config = backbones.build_config(name, dataset="bbbp")
    graphs = GraphSet.load_or_build(sample, config.columns, prepare=backbones.prepare_of(config))
    order = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(0))
    batches = [graphs.batch(part) for part in order[: STEPS_PER_EPOCH * BATCH].split(BATCH)]

    def model() -> Any:
        torch.manual_seed(0)
        return backbones.build(config, 1).train()

    return model, batches, Task(sample.kind, sample.metric, sample.tasks).criterion


def adam(params: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=1e-4, fused=True)


def arms_of(make: Callable[[], Any], criterion: Any) -> dict[str, tuple[Any, Callable[[Any], None]]]:
    """Return a closure and a step for each arm: Adam alone, ours, and pytorch-optimizer's SAM."""
    from samcmp import optim
    from samcmp.training.loop import StepClosure

    arms: dict[str, tuple[Any, Callable[[Any], None]]] = {}

    def alone() -> tuple[Any, Callable[[Any], None]]:
        closure = StepClosure(make(), criterion)
        optimizer = adam(closure.parameters)

        def step(closure: Any) -> None:
            closure()
            optimizer.step()

        return closure, step

    def ours(name: str) -> tuple[Any, Callable[[Any], None]]:
        closure = StepClosure(make(), criterion)
        base = adam(closure.parameters)
        recipe = optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=100, seed=0)
        return closure, recipe.optimizer.step

    arms["torch Adam, fused"] = alone()
    arms |= {name: ours(name) for name in WHOLE}
    with contextlib.suppress(ImportError):
        from pytorch_optimizer import SAM

        closure = StepClosure(make(), criterion)
        theirs = SAM(closure.parameters, base_optimizer=torch.optim.Adam, rho=0.05, lr=1e-4, fused=True)

        def step(closure: Any) -> None:
            closure()
            theirs.first_step(zero_grad=True)
            closure()
            theirs.second_step()

        arms["pytorch-optimizer SAM"] = closure, step
    return arms


def print_whole_steps(name: str) -> None:
    make, batches, criterion = epoch_of(name)
    arms = arms_of(make, criterion)
    reference = next(iter(arms))
    rounds: list[dict[str, float]] = []
    order, draw = list(arms), random.Random(0)
    for round_ in range(-1, EPOCH_ROUNDS):  # one to warm up, of a few steps
        spent = dict.fromkeys(arms, 0.0)
        for t, batch in enumerate(batches[:3] if round_ < 0 else batches):
            draw.shuffle(order)
            for arm in order:
                closure, step = arms[arm]
                closure.batch = batch
                torch.manual_seed(t)
                start = time.process_time()
                step(closure)
                spent[arm] += time.process_time() - start
        rounds += [spent] if round_ >= 0 else []
    parameters = sum(p.numel() for p in make().parameters())
    print(f"\nwhole training steps, {name} ({parameters:,} parameters), {EPOCH_ROUNDS} epochs in turn")
    print(f"{'optimizer':<28}{'graphs/s':>10}{'x Adam':>8}   least-greatest")
    for arm in arms:
        ratios = sorted(spent[reference] / spent[arm] for spent in rounds)
        speed = EPOCH_ROUNDS * len(batches) * BATCH / sum(spent[arm] for spent in rounds)
        bar = f"   bar {BAR}" if arm == "graphsam" else ""
        middle = statistics.median(ratios)
        print(f"{arm:<28}{speed:>10.0f}{middle:>8.3f}   {ratios[0]:.3f}-{ratios[-1]:.3f}{bar}", flush=True)


# ---- optimizers alone


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


Alone = tuple[str, Callable[[], None], Handed]


def new_params() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=draw) * 0.05) for shape in shapes()]


def own_arm(name: str) -> Alone:
    from samcmp import optim

    params = new_params()
    recipe = optim.build(name, adam(params), steps_per_epoch=STEPS_PER_EPOCH, epochs=1000, seed=0)
    closure = Handed(params)
    return name, lambda: recipe.optimizer.step(closure), closure


def reference_arm() -> Alone:
    params = new_params()
    base = adam(params)
    closure = Handed(params)

    def step() -> None:
        closure()
        base.step()

    return "torch Adam, fused", step, closure


def foreign_arms() -> list[Alone]:
    try:
        import pytorch_optimizer
    except ImportError:
        print("pytorch-optimizer's classes: n/a (package missing)")
        return []
    arms: list[Alone] = []
    for class_name, settings in (("SAM", {"rho": 0.05}), ("LookSAM", {"rho": 0.05, "k": 8})):
        made = getattr(pytorch_optimizer, class_name)
        params = new_params()
        closure = Handed(params)
        optimizer = made(params, base_optimizer=torch.optim.Adam, lr=1e-4, fused=True, **settings)

        def step(closure: Handed = closure, optimizer: Any = optimizer) -> None:
            closure()
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)

        arms.append((f"pytorch-optimizer {class_name}", step, closure))
    return arms


def measure(arms: list[Alone]) -> dict[str, list[float]]:
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
    optimizer: Any = optim.build(name, adam(params), steps_per_epoch=4, epochs=100, seed=0).optimizer
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

    def held(tensors: Any) -> int:
        return sum(t.numel() * t.element_size() for t in tensors)

    own = sum(held(vector.values()) for vector in optimizer.vectors.values())
    return own / size, (held(optimizer._saved.values()) + peak - memory_of_adam()) / size


def print_alone() -> None:
    arms = [reference_arm(), *(own_arm(name) for name in MEMORY), *foreign_arms()]
    times = measure(arms)
    reference = times["torch Adam, fused"]
    print("\noptimizers alone; memory beyond Adam in parameter sizes: own + while perturbed (specification's sum)")
    print(f"{'optimizer':<28}{'ms/step':>9}{'x Adam':>8}   memory")
    for name, _, _ in arms:
        ratio = statistics.median(a / b for a, b in zip(times[name], reference, strict=True))
        used = "{:.2f} + {:.2f} ({:g})".format(*memory(name), MEMORY[name]) if name in MEMORY else ""
        print(f"{name:<28}{statistics.median(times[name]) * 1e3:>9.2f}{ratio:>8.2f}   {used}", flush=True)


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
        for name in ("grover", "compt"):
            print_whole_steps(name)
        print_alone()


if __name__ == "__main__":
    main()
