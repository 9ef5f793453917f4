"""The rhythm of every optimizer of the catalogue, found without a model."""

from __future__ import annotations

from typing import Any

import pytest

from samcmp import optim
from samcmp.profiling import cadence

N, EPOCHS = 51, 30  # BBBP at batch 32, as the paper trains it

# gradient evaluations a step, from the papers (spec: summary table); AE-SAM decides by its gradients
EXPECTED = {
    "adam": 1.0,
    "sam": 2.0,
    "asam": 2.0,
    "sam-one": 1 + 1 / (N * EPOCHS),
    "sam-k": 1 + 1 / 8,
    "sam-k-skip": 1 + 1 / 8,
    "looksam": 1 + 1 / 8,
    "ae-sam": None,
    "graphsam": 1 + 1 / N,
    "s2-sam": 1.0,
    "msam": 1.0,
    "f-sam": 2.0,
    "gsam": 2.0,
    "wsam": 2.0,
    "vasso": 2.0,
    "late-sam": 1.2,
}


def rhythm(name: str, *, steps_per_epoch: int = N, **settings: Any) -> cadence.Cadence:
    def build(base: Any, steps: int, epochs: int) -> Any:
        return optim.build(name, base, steps_per_epoch=steps, epochs=epochs, seed=3, settings=settings)

    return cadence.of(build, steps_per_epoch=steps_per_epoch, epochs=EPOCHS)


@pytest.mark.parametrize("name", optim.names())
def test_every_optimizer_has_a_rhythm_whose_shares_add_up(name: str) -> None:
    found = rhythm(name)
    if found.kind == "data-dependent":
        assert found.shares is None
        return
    assert found.shares is not None
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.period >= 1
    if found.kind in ("rare", "late"):
        assert 0 < found.twin_share <= 1


@pytest.mark.parametrize("name", EXPECTED)
def test_the_counted_gradients_are_the_papers(name: str) -> None:
    assert rhythm(name).mean_passes == (None if EXPECTED[name] is None else pytest.approx(EXPECTED[name]))


@pytest.mark.parametrize(("k", "period"), [(1, 1), (3, 3), (5, 5), (8, 8), (16, 16)])
def test_the_period_of_looksam_is_its_k(k: int, period: int) -> None:
    found = rhythm("looksam", k=k)
    assert (found.kind, found.period) == ("periodic", period)
    assert found.mean_passes == pytest.approx(1 + 1 / k)


def test_rst_is_recognised_as_drawn_and_its_share_is_the_seeds_own() -> None:
    found = rhythm("rst")
    assert found.kind == "drawn"
    assert found.mean_passes == pytest.approx(1.5, abs=0.05)


def test_aesam_is_recognised_as_depending_on_gradients() -> None:
    assert rhythm("ae-sam").kind == "data-dependent"


@pytest.mark.parametrize("steps_per_epoch", [20, 51, 196])
def test_an_anchor_an_epoch_is_rare_whatever_the_epochs_length(steps_per_epoch: int) -> None:
    found = rhythm("graphsam", steps_per_epoch=steps_per_epoch)
    assert found.kind == "rare"
    assert found.mean_passes == pytest.approx(1 + 1 / steps_per_epoch)


def test_a_short_epoch_is_a_period() -> None:
    found = rhythm("graphsam", steps_per_epoch=6)
    assert (found.kind, found.period) == ("periodic", 6)
