"""What watching a training costs: CPU time of epochs with ``samcmp inspect``'s closure over that of the same without.

BBBP, batches of 32, one thread; in every round each form trains an epoch in turn, of equal weights, batches and
dropout, evaluation left out. Median of the rounds' ratios. ``watched``: displacements and gradients of all passes, no
true gradients; ``true``: with a true gradient, and the losses that the conjectures compare, at every step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tests.places import MIRROR

ROUNDS = 3
MOLECULES = {"gcn": None, "grover": 320, "compt": 160}
OPTIMIZERS = ("adam", "sam", "graphsam", "looksam", "gsam")
BARS = {"watched": 1.25, "true": 3.0}


@dataclass(frozen=True)
class Row:
    model: str
    optimizer: str
    seconds: float  # CPU, an epoch without a watch
    ratios: dict[str, float]


def rows() -> Iterator[Row]:
    for model, subset in MOLECULES.items():
        for optimizer in OPTIMIZERS:
            yield _row(model, optimizer, subset)


def _row(model: str, optimizer: str, subset: int | None) -> Row:
    from samcmp.inspection.watch import Watch
    from samcmp.records import Case, Protocol
    from samcmp.training.setup import Options, assemble

    options = Options(source=str(MIRROR) if MIRROR.is_dir() else None)
    setup = assemble(Case("train", "bbbp", model, optimizer, protocol=Protocol(subset=subset)), options)
    trainers = {form: setup.new_trainer() for form in ("plain", *BARS)}
    for form, every in (("watched", 10**9), ("true", 1)):
        trainer = trainers[form]
        groups = trainer.optimizer.param_groups
        trainer.closure = Watch(trainer.closure, every=every, rho=lambda groups=groups: groups[0].get("rho"))  # type: ignore[assignment,misc]
    taken: dict[str, list[float]] = {form: [] for form in trainers}
    for epoch in range(ROUNDS + 1):  # the first warms up
        for form, trainer in trainers.items():
            began = time.process_time()
            trainer.epoch(setup.train_batches(epoch))
            taken[form].append(time.process_time() - began)
    plain = taken["plain"][1:]
    ratios = {form: statistics.median(a / b for a, b in zip(taken[form][1:], plain, strict=True)) for form in BARS}
    return Row(model, optimizer, statistics.median(plain), ratios)


def main() -> None:
    torch.set_num_threads(1)
    print(f"bars: {', '.join(f'{form} {bar}' for form, bar in BARS.items())}")
    print("model   optimizer  CPU s an epoch  watched   true")
    for row in rows():
        shown = f"{row.ratios['watched']:7.2f}  {row.ratios['true']:5.2f}"
        print(f"{row.model:<7} {row.optimizer:<10} {row.seconds:14.2f}  {shown}", flush=True)
