"""Training steps of the models on one device, in several modes: what ``bench_gpu`` times."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.places import MIRROR

BATCHES = 6
# name -> (float32 matrix products of torch, autocast to bf16, compiled)
MODES: dict[str, tuple[str, bool, bool]] = {
    "eager": ("highest", False, False),
    "eager, tf32": ("high", False, False),
    "eager, bf16": ("highest", True, False),
    "compiled": ("highest", False, True),
    "compiled, tf32": ("high", False, True),
}
Row = dict[str, Any]
Loss = Callable[..., Any]


def dataset() -> str:
    """Name the data: BBBP where its file is at hand, else molecules that need no download."""
    from samcmp.data import cards, fetch

    return "bbbp" if MIRROR.is_dir() or fetch.is_cached(cards.find("bbbp")) else "demo-large"


def source() -> str | None:
    return str(MIRROR) if MIRROR.is_dir() else None


@contextlib.contextmanager
def mode(precision: str, *, bf16: bool, device: Any) -> Iterator[None]:
    """Multiply float32 matrices as ``precision`` says, and run in bf16 where asked to."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def matrix_product(precision: str, *, bf16: bool, device: Any) -> float:
    """Return the TFLOP/s of a large matrix product: what this device gives at best in this precision."""
    import torch

    from samcmp.profiling.clocks import clock_for

    size = 8192 if device.type == "cuda" else 256
    a = torch.randn(size, size, device=device)
    a = a.bfloat16() if bf16 else a

    def work() -> Sequence[int]:
        for _ in range(10):
            torch.mm(a, a)
        return [1] * 10

    with mode(precision, bf16=False, device=device):
        clock_for(device).block(work)
        seconds = clock_for(device).block(work).seconds
    return 10 * 2 * size**3 / seconds / 1e12


class Bench:
    """One model over its resident batches, the same weights and seeds in every mode."""

    def __init__(self, name: str, *, batch_size: int, device: Any) -> None:
        import torch

        from samcmp import backbones
        from samcmp.data import cards, molecules
        from samcmp.graphs.graphset import GraphSet
        from samcmp.training.tasks import Task

        found = molecules.load(cards.find(dataset()), source=source())
        self.config = backbones.build_config(name, dataset=found.name)
        prepare = backbones.prepare_of(self.config)
        graphs = GraphSet.load_or_build(found, self.config.columns, prepare=prepare, device=device)
        self.tasks, self.device, self.batch_size = len(found.tasks), device, batch_size
        self.criterion = Task(found.kind, found.metric, found.tasks).criterion
        order = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(0))
        self.batches = [b.to(device) for b in graphs.batches(order, batch_size, drop_last=True)][:BATCHES]
        if not self.batches:
            raise ValueError(f"{found.name} has fewer than {batch_size} molecules")

    def model(self) -> Any:
        import torch

        from samcmp import backbones

        torch.manual_seed(0)
        return backbones.build(self.config, self.tasks).to(self.device).train()

    def losses(self, model: Any, loss: Loss, steps: int, *, update: Any = None) -> list[Any]:
        """Take steps; step k sees batch k and seed k, whatever the mode."""
        import torch

        seen = []
        for k in range(steps):
            torch.manual_seed(k % len(self.batches))
            for p in model.parameters():
                p.grad = None
            value = loss(model, self.batches[k % len(self.batches)], self.criterion)
            value.backward()
            if update is not None:
                update.step()
            seen.append(value.detach())
        return seen

    def flops(self) -> float:
        """Count the matrix products of a mean step, forward and backward."""
        from torch.utils.flop_counter import FlopCounterMode

        from samcmp.training.loop import model_loss

        model = self.model()
        with FlopCounterMode(display=False) as counter:
            self.losses(model, model_loss, len(self.batches))
        return counter.get_total_flops() / len(self.batches)

    def measure(self, name: str, *, steps: int, compiler: str) -> Row:
        """Time one mode: rounds over all batches until ``steps`` are taken, after two untimed rounds."""
        import torch

        from samcmp.profiling.clocks import clock_for
        from samcmp.training.loop import model_loss

        precision, bf16, compiled = MODES[name]
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = self.model()
        adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
        loss: Loss = torch.compile(model_loss, backend=compiler, dynamic=True) if compiled else model_loss
        with mode(precision, bf16=bf16, device=self.device):
            first = float(self.losses(model, loss, 1)[0])
            for _ in range(2):
                self.losses(model, loss, len(self.batches), update=adam)
            rounds = max(1, steps // len(self.batches))
            count = rounds * len(self.batches)

            def work() -> Sequence[int]:
                self.losses(model, loss, count, update=adam)
                return [1] * count

            timed = clock_for(self.device).block(work)
        per_step = timed.seconds / count
        return {
            "mode": name,
            "graphs_per_second": self.batch_size / per_step,
            "seconds_per_step": per_step,
            "host_bound": timed.host_bound if self.device.type == "cuda" else None,
            "first_loss": first,
            "graph_breaks": sum(torch._dynamo.utils.counters["graph_break"].values()) if compiled else None,
        }
