"""Entropy of attention against direct computation; padding is never read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samcmp import backbones
from samcmp.conformance.backbone import MOLECULES, Subject
from samcmp.inspection.attention import entropy, entropy_of_rows, heat_map, shares
from tests.backbones.test_every_backbone import SMALL

CONFIG = backbones.build_config("compt", settings=SMALL["compt"])


def subject() -> Subject:
    return Subject(lambda tasks: backbones.build(CONFIG, tasks), CONFIG.columns, backbones.prepare_of(CONFIG))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_uniform_rows_have_ln_n_and_one_hot_rows_0_whatever_the_padding(n: int) -> None:
    L = 9
    A = torch.full((1, 3, L, L), torch.nan)  # beyond the molecule
    A[:, :, :n, :n] = 1 / n
    assert float(entropy_of_rows(A, torch.tensor([n]))) == pytest.approx(math.log(n), rel=1e-6)
    A[:, :, :n, :n] = torch.eye(L)[torch.arange(n) * 2 % n, :n]
    assert float(entropy_of_rows(A, torch.tensor([n]))) == 0.0


def test_entropy_is_the_mean_over_atoms_heads_and_molecules_own_layers() -> None:
    A = torch.rand(2, 2, 4, 4).double()
    A[1, :, :, 3:] = 0
    A[1, :, 3:] = 0
    A = A / A.sum(-1, keepdim=True).clamp(min=1e-9)
    found = entropy_of_rows(A, torch.tensor([4, 3]))
    for g, n in enumerate((4, 3)):
        by_hand = np.mean([
            -sum(p * math.log(p) for p in A[g, h, i, :n].tolist()) for h in range(2) for i in range(n)
        ])  # fmt: skip
        assert float(found[g]) == pytest.approx(by_hand)


def test_molecules_of_compt_keep_their_entropy_whatever_shares_their_batch() -> None:
    made = subject()
    model, batch = made.model().eval(), made.batch(MOLECULES)
    together, atoms, rows, by_layer = entropy(model, [batch])
    assert together.shape == atoms.shape == rows.shape == (batch.num_graphs,)
    assert by_layer.shape == (2,)
    assert by_layer.mean() == pytest.approx(together.mean())
    assert (together <= np.log(np.maximum(atoms, 1)) + 1e-6).all()
    assert (together[atoms == 1] == 0).all()
    alone = np.concatenate([entropy(model, [made.batch([smiles])])[0] for smiles in MOLECULES])
    assert together == pytest.approx(alone, rel=1e-9)
    share = shares(together, atoms)
    assert len(share) == (atoms > 1).sum()
    assert ((share >= 0) & (share <= 1 + 1e-6)).all()


def test_map_is_one_molecule_whose_rows_sum_to_one() -> None:
    made = subject()
    A = heat_map(made.model().eval(), made.batch(["CCO"]))
    assert A.shape == (3, 3)
    assert A.sum(1) == pytest.approx(np.ones(3))


class Own(nn.Module):
    """A user's model with attention of its own."""

    def __init__(self, made: Any) -> None:
        super().__init__()
        self.made = made

    def attention(self, batch: Any) -> Any:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made(batch)


def test_model_of_a_users_own_may_return_plain_tensors() -> None:
    batch = subject().batch(MOLECULES)

    def uniform(batch: Any) -> list[Tensor]:
        own = torch.arange(batch.max_atoms) < batch.atom_ptr.diff()[:, None]
        return [own[:, None, None, :].expand(-1, 1, batch.max_atoms, -1) / own.sum(1)[:, None, None, None]]

    found, atoms, _, _ = entropy(Own(uniform), [batch])
    assert found == pytest.approx(np.log(atoms), abs=1e-6)


def test_rows_that_are_no_distributions_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        entropy_of_rows(torch.full((1, 1, 3, 3), 0.5), torch.tensor([3]))


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(1, 1),
        Own(ValueError("the mean read-out has no attention")),
        Own(lambda batch: (torch.ones(batch.num_atoms, 4), torch.ones(batch.num_atoms, 4))),
    ],
    ids=["none", "refused", "of a read-out"],
)
def test_model_without_attention_between_atoms_is_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="no attention"):
        entropy(model, [subject().batch(MOLECULES)])
