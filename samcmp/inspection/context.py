"""What measurements at fixed weights are given: the weights in evaluation mode, and batches drawn once per split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from samcmp.inspection import Context, Settings
from samcmp.training.loop import stream

if TYPE_CHECKING:
    from torch import Tensor

    from samcmp.training.setup import Setup


def prepare(
    setup: Setup,
    weights: Mapping[str, Tensor],
    settings: Settings,
    *,
    other: Mapping[str, Tensor] | None = None,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> Context:
    """Build the model with ``weights`` and choose the molecules; all optimizers of a split get the same ones.

    Raises RuntimeError where the weights are another model's.
    """
    model = setup.new_model()
    model.load_state_dict(dict(weights))
    model.eval()
    seed = int(setup.split.hash[:15], 16)
    positions = setup.train_positions
    if settings.molecules is not None and settings.molecules < len(positions):
        generator = torch.Generator().manual_seed(stream(seed, "inspected molecules"))
        order = torch.randperm(len(positions), generator=generator)[: settings.molecules].sort().values
        positions = positions[order]
    return Context(
        setup=setup,
        model=model,
        train=tuple(setup.batches(positions)),
        test=tuple(setup.batches(setup.test_positions)),
        settings=settings,
        seed=seed,
        other=other,
        say=say,
    )
