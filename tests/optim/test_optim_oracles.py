"""Every optimizer follows the trajectory of a plain reference written from its equations, to 1e-12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from samcmp import optim
from tests.optim.runs import STEPS_PER_EPOCH, follow, stored
from tests.places import needs_oracles

TOLERANCE = 1e-12
Make = Callable[[torch.optim.Optimizer], optim.Recipe]


def by_name(name: str, /, *, seed: int = 0, **settings: Any) -> Make:
    return lambda base: optim.build(name, base, steps_per_epoch=STEPS_PER_EPOCH, epochs=4, seed=seed, settings=settings)


ARMS: dict[str, Make] = {
    "plain": by_name("adam"),
    "sam": by_name("sam"),
    "asam_all_eta0": by_name("asam", eta=0.0, all_tensors=True),
    "asam_weights_eta0.01": by_name("asam"),
    "sam_one": by_name("sam-one"),
    "sam_k8_reuse": by_name("sam-k"),
    "sam_k8_skip": by_name("sam-k-skip"),
    "looksam_k5": by_name("looksam", rho=0.05, k=5, alpha=0.7),
    "looksam_graphsam_paper": by_name("looksam"),
    "aesam": by_name("ae-sam"),
    "rst_p0.5": by_name("rst", seed=7),
    "graphsam_alg1": by_name("graphsam"),
    "graphsam_K2": by_name("graphsam-k"),
    "graphsam_public_compt_lam1": by_name("graphsam-released"),
    "esam": by_name("esam", seed=9),
    "saf": by_name("saf", gap=1, start_epoch=0),
    "mesa": by_name("mesa", decay=0.95, start_epoch=0),
    "vasso": by_name("vasso"),
    "fsam": by_name("f-sam", rho=0.05),
    "gsam": by_name("gsam"),
    "msam": by_name("msam", rho=0.05),
    "s2sam": by_name("s2-sam"),
    "late_sam_epoch2": by_name("late-sam", share=0.5),
}


@needs_oracles
@pytest.mark.parametrize("name", ARMS)
def test_optimizer_follows_its_oracle_with_the_promised_passes(name: str) -> None:
    path, passes, _, _ = follow(stored("problem"), ARMS[name])
    want = stored(name)
    assert np.abs(path - want["params"]).max() <= TOLERANCE
    assert passes == want["n_fwd_bwd"].tolist()


@needs_oracles
def test_teacher_weights_of_mesa_end_at_the_oracles() -> None:
    _, _, _, recipe = follow(stored("problem"), ARMS["mesa"])
    got = torch.cat([part.reshape(-1) for part in recipe.optimizer.own("v")]).numpy()  # type: ignore[attr-defined]
    assert np.abs(got - stored("mesa")["mesa_ema_final"]).max() <= TOLERANCE
