"""What the tests on a GPU share: the device, the marks, molecules that need no download."""

from __future__ import annotations

import pytest
import torch

from samcmp.data import cards, molecules
from samcmp.data.molecules import Molecules

GPU = torch.device("cuda", 0)
MARKS = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def some_molecules() -> Molecules:
    """Return built-in molecules with several tasks and missing labels."""
    return molecules.load(cards.find("demo-tox"))
