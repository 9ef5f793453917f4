"""Batches of images: normalised by the training images, augmented as a plain loop does, alike for every optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samcmp import optim
from samcmp.data import cards
from samcmp.data import images as image_data
from samcmp.experiment.config import unfit
from samcmp.images.imageset import ImageSet
from samcmp.records import Case, Protocol
from samcmp.training.setup import Options, Setup, assemble

PROTOCOL = Protocol(epochs=2, batch_size=16, subset=60)
CASE = Case("train", "demo-images", "resnet18", "sam", PROTOCOL, split="fixed", model_settings={"width": 2})


def a_set(n: int = 20) -> ImageSet:
    found = image_data.subset(image_data.load(cards.find("demo-images")), n)
    return ImageSet.of(found.pixels, found.y, found.rows, train=np.arange(n // 2))


def test_channels_are_normalised_by_the_training_images_alone() -> None:
    images = a_set()
    x = images.batch(torch.arange(10)).x.double()
    assert x.mean((0, 2, 3)).abs().max() < 1e-6
    assert (x.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6
    assert images.batch(torch.arange(20)).x.mean((0, 2, 3)).abs().max() > 1e-3


def plainly_augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pad one image after the other with black, cut a window out of it, and turn it round."""
    corner = torch.randint(9, (len(pixels), 2), generator=generator)
    flip = torch.randint(2, (len(pixels),), generator=generator, dtype=torch.bool)
    out = []
    for image, (top, left), turned in zip(pixels, corner.tolist(), flip.tolist(), strict=True):
        padded = torch.zeros(3, 40, 40, dtype=torch.uint8)
        padded[:, 4:36, 4:36] = image
        window = padded[:, top : top + 32, left : left + 32]
        out.append(window.flip(2) if turned else window)
    return torch.stack(out)


def test_augmentation_is_that_of_a_plain_loop() -> None:
    images = a_set()
    positions = torch.tensor([3, 1, 1, 19, 7])
    made = images.augmented(torch.Generator().manual_seed(5)).batch(positions)
    wanted = plainly_augmented(images.pixels[positions], torch.Generator().manual_seed(5))
    assert torch.equal(made.x, (wanted.float() / 255 - images.mean) / images.std)
    assert made.y.tolist() == images.y[positions].tolist()


def setup_of(**changes: Any) -> Setup:
    return assemble(replace(CASE, **changes), Options())


def pixels_of(batches: Iterator[Any]) -> Tensor:
    return torch.cat([batch.x for batch in batches])


def test_every_optimizer_sees_the_same_augmented_images_and_every_epoch_others() -> None:
    one, other = setup_of(), setup_of(optimizer="graphsam", optimizer_settings={"rho": 0.1})
    assert torch.equal(pixels_of(one.train_batches(0)), pixels_of(other.train_batches(0)))
    assert torch.equal(pixels_of(one.train_batches(1)), pixels_of(other.train_batches(1)))
    assert not torch.equal(pixels_of(one.train_batches(0)), pixels_of(one.train_batches(1)))
    assert not torch.equal(pixels_of(one.train_batches(0)), pixels_of(setup_of(seed=1).train_batches(0)))


def test_images_are_not_augmented_where_they_are_scored_or_where_the_protocol_says_so() -> None:
    setup = setup_of()
    scored = pixels_of(setup.batches(setup.test_positions))
    assert torch.equal(scored, setup.dataset.batch(setup.test_positions).x)
    plain = setup_of(protocol=replace(PROTOCOL, augment=False))
    in_order = torch.cat([batch.x[batch.rows.argsort()] for batch in plain.train_batches(0)])
    rows = torch.cat([batch.rows.sort().values for batch in plain.train_batches(0)])
    assert torch.equal(in_order, plain.dataset.batch(plain.dataset.positions(rows)).x)


class Watching(nn.Module):
    """A model that keeps what it sees, and whose running statistics tell how often it learnt them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3, 6)
        self.seen: list[Tensor] = []

    def forward(self, batch: Any) -> Tensor:
        self.seen.append(batch.x)
        out: Tensor = self.linear(self.norm(batch.x).relu().mean((2, 3)))
        return out


@pytest.mark.parametrize(("optimizer", "passes"), [("adam", 1), ("sam", 2)])
def test_the_second_pass_has_the_same_images_and_leaves_running_statistics_alone(
    optimizer: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = setup_of(optimizer=optimizer)
    model = Watching()
    monkeypatch.setattr(Setup, "new_model", lambda self: model)
    trainer = setup.new_trainer()
    trainer.step(next(setup.train_batches(0)))
    assert len(model.seen) == passes
    assert all(torch.equal(x, model.seen[0]) for x in model.seen)
    assert int(model.norm.num_batches_tracked) == 1


@pytest.mark.parametrize("optimizer", [name for name in optim.names() if not unfit(name, "adam")])
def test_every_optimizer_takes_steps_on_classes(optimizer: str) -> None:
    setup = setup_of(optimizer=optimizer, protocol=replace(PROTOCOL, subset=20, batch_size=8))
    settings = {key: 0 for key in ("start_epoch",) if key in optim.entry(optimizer).settings}  # terms begin at once
    trainer = setup.new_trainer(replace(setup.case, optimizer_settings=settings))
    before = [p.detach().clone() for p in trainer.model.parameters()]
    for epoch in range(4):
        assert np.isfinite(trainer.epoch(setup.train_batches(epoch)).loss)
    assert not any(torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before, strict=True))


def test_a_batch_moves_and_changes_its_type_as_one_of_graphs_does() -> None:
    batch = a_set().batch(torch.arange(4))
    double = batch.to(dtype=torch.float64)
    assert (double.x.dtype, double.y.dtype, double.rows.dtype) == (torch.float64, torch.float64, torch.int64)
    assert batch.to("cpu") is batch
    assert (batch.size, batch.work) == (4, 4)


def test_positions_are_found_by_row_and_a_strange_row_is_refused() -> None:
    images = a_set()
    assert images.positions(images.rows[[4, 2]]).tolist() == [4, 2]
    with pytest.raises(ValueError, match="is not in this set of 20 images"):
        images.positions(np.array([100_000]))
