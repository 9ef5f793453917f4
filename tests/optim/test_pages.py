"""Contents that move between addresses, and optimizers whose weights come home by that."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch

from samcmp import optim
from samcmp.conformance.optimizer import check_optimizer
from samcmp.conformance.trial import STEPS_PER_EPOCH
from samcmp.optim import pages, vectors
from samcmp.optim.space import Space

pytestmark = pytest.mark.skipif(not pages.available(), reason="this system does not move pages between addresses")
NUMEL = 700_001  # two huge pages, the second partly


@pytest.fixture
def buffers() -> tuple[torch.Tensor, torch.Tensor]:
    return pages.zeros(NUMEL, dtype=torch.float32).normal_(), pages.zeros(NUMEL, dtype=torch.float32).normal_()


def test_contents_move_aside_and_back_and_addresses_stay(buffers: tuple[torch.Tensor, torch.Tensor]) -> None:
    here, home = buffers
    contents, before = here.clone(), (here.data_ptr(), home.data_ptr())
    shelter = pages.Shelter(here, home)
    for turn in range(5):
        shelter.leave()
        assert torch.equal(home, contents)
        here.fill_(turn)
        assert torch.equal(home, contents)
        shelter.come_home()
        assert torch.equal(here, contents)
        here.mul_(2)
        contents.mul_(2)
    assert (here.data_ptr(), home.data_ptr()) == before


@pytest.mark.parametrize("refused", [{0}, {1}, {2}, {3}, {0, 1}, {2, 3}, {0, 3}, {0, 1, 2, 3}])
def test_contents_come_home_where_the_kernel_refuses_moves(
    refused: set[int], buffers: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = buffers
    contents, real = here.clone(), pages._mremap()
    numbers: dict[tuple[int, int], int] = {}  # of a move by its addresses, in the order in which they are first tried

    def tired(source: int, size: int, _: int, flags: int, target: int) -> Any:
        number = numbers.setdefault((source, target), len(numbers))
        return ctypes.c_void_p(-1).value if number in refused else real(source, size, size, flags, target)

    monkeypatch.setattr(pages, "_mremap", lambda: tired)
    shelter = pages.Shelter(here, home)
    for turn in range(3):
        shelter.leave()
        here.fill_(turn)
        assert torch.equal(home, contents)
        shelter.come_home()
        assert torch.equal(here, contents)
    assert refused & set(numbers.values())


@pytest.mark.parametrize("name", ["sam", "asam", "graphsam", "graphsam-released", "mesa", "s2-sam", "msam", "looksam"])
def test_promises_hold_where_weights_come_home_in_pages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SMALLEST", 1)
    moves: list[int] = []
    call = pages.Shelter.leave
    monkeypatch.setattr(pages.Shelter, "leave", lambda self: (moves.append(1), call(self))[1])

    def build(base: torch.optim.Optimizer) -> Any:
        return optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=0, settings={})

    report = check_optimizer(build, leave_out=("replicas of two ranks stay identical",))
    assert report.ok, str(report)
    assert moves or name == "mesa"  # MESA leaves home in its loss term, not in a step


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1.0, 1e20])
def test_norm_of_float32_is_accurate_at_every_magnitude(scale: float) -> None:
    params = [torch.nn.Parameter(torch.zeros(300, 301)), torch.nn.Parameter(torch.zeros(7))]
    space = Space([{"params": params}], flat=True)
    for p in params:
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * scale
    exact = float(torch.cat([p.grad.double().view(-1) for p in params if p.grad is not None]).norm())
    assert float(vectors.norm(space.gradient())) == pytest.approx(exact, rel=1e-6)


def test_a_gradient_with_inf_has_no_finite_norm() -> None:
    param = torch.nn.Parameter(torch.zeros(9))
    param.grad = torch.ones(9)
    param.grad[4] = torch.inf
    assert not torch.isfinite(vectors.norm(Space([{"params": [param]}], flat=True).gradient()))
