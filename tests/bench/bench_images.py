"""Whole training steps on images beside a plain torch loop: the same model, batches, loss and optimizer in one run.

Run ``python -m tests.bench images``. CPU time of this process, one thread; in every round both train the same images of
``demo-images``, taking turns, from their pixels on: ours through the trainer with its augmentation, theirs in the loop
that tutorials write, image by image where a batch is augmented. Ratios: the median over the rounds, the least and the
greatest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

WIDTHS, BATCH, STEPS, ROUNDS = (16, 64), 32, 4, 5
BAR = 0.95  # of the plain loop's images per second, for SGD


def setup_of(width: int) -> Any:
    from samcmp.records import Case, Protocol
    from samcmp.training.setup import Options, assemble

    protocol = Protocol(
        epochs=1, batch_size=BATCH, base="sgd", schedule="constant", peak_lr=0.01, subset=2 * BATCH * STEPS
    )
    case = Case("train", "demo-images", "resnet18", "sgd", protocol, split="fixed", model_settings={"width": width})
    return assemble(case, Options())


def ours(setup: Any) -> Callable[[], None]:
    trainer = setup.new_trainer()

    def epoch() -> None:
        for _, batch in zip(range(STEPS), setup.train_batches(0), strict=False):
            trainer.step(batch)

    return epoch


def plain(setup: Any) -> Callable[[], None]:
    """The loop of a tutorial; its model takes a tensor, as it would there."""
    from samcmp.images.batch import ImageBatch

    model, images = setup.new_model().train(), setup.dataset
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    order = torch.randperm(len(setup.train_positions), generator=torch.Generator().manual_seed(0))

    def epoch() -> None:
        for part in order[: BATCH * STEPS].split(BATCH):
            positions = setup.train_positions[part]
            padded = F.pad(images.pixels[positions], [4] * 4)
            x = torch.stack([augmented(image) for image in padded])
            x = (x.float() / 255 - images.mean) / images.std
            y = images.y[positions, 0].long()
            optimizer.zero_grad()
            F.cross_entropy(model(ImageBatch(x, y, positions)), y).backward()
            optimizer.step()

    return epoch


def augmented(padded: torch.Tensor) -> torch.Tensor:
    top, left, turned = (int(torch.randint(n, ())) for n in (9, 9, 2))
    image = padded[:, top : top + 32, left : left + 32]
    return image.flip(2) if turned else image


def main() -> None:
    torch.set_num_threads(1)
    for width in WIDTHS:
        setup = setup_of(width)
        jobs = {"samcmp": ours(setup), "plain torch": plain(setup)}
        ratios = []
        rates = dict.fromkeys(jobs, 0.0)
        for job in jobs.values():
            job()
        for _ in range(ROUNDS):
            seconds = {}
            for name, job in jobs.items():
                start = time.process_time()
                job()
                seconds[name] = time.process_time() - start
                rates[name] = max(rates[name], BATCH * STEPS / seconds[name])
            ratios.append(seconds["plain torch"] / seconds["samcmp"])
        shown = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        word = "" if middle >= BAR else f"  below {BAR}"
        print(
            f"resnet18 width {width}, images per CPU second: {shown}; ratio {middle:.3f} [{low:.3f}, {high:.3f}]{word}"
        )


if __name__ == "__main__":
    main()
