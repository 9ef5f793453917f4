"""CoMPT's oracles as batches, and the released model's weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samcmp.backbones.compt import Config, Model, prepare
from samcmp.graphs.batch import GraphBatch
from samcmp.graphs.columns import expand_atoms, expand_bonds
from samcmp.graphs.featurize import featurize
from tests.places import ORACLES

FOLDER = ORACLES / "compt"


@dataclass
class Oracle:
    """One stored run of the released model."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    batch: GraphBatch
    config: Config
    state: dict[str, Tensor]

    def model(self, dtype: torch.dtype) -> Model:
        model = Model(self.config, self.batch.y.shape[1]).to(dtype)
        model.load_state_dict(self.state)
        return model.eval()

    def loss(self, prediction: Tensor) -> Tensor:
        if self.about["loss"] == "bce":
            return masked_bce(prediction, self.batch.y)
        y = (self.batch.y - self.about["label_mean"]) / self.about["label_std"]
        return torch.sqrt(torch.mean((y.to(prediction) - prediction) ** 2))


def masked_bce(prediction: Tensor, y: Tensor) -> Tensor:
    known = ~torch.isnan(y)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        prediction, torch.nan_to_num(y).to(prediction), reduction="none"
    )
    return (losses * known).sum() / known.sum()


def dense_batch(node: np.ndarray, distance: np.ndarray, *, bonds: np.ndarray, labels: np.ndarray) -> GraphBatch:
    """Pack padded inputs: node (B, L, 116), distance (B, L, L), bonds (B, L, L, 13), labels (B, T)."""
    real = node[..., 115] > 0
    sizes = torch.from_numpy(real.sum(1))
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    atoms = torch.from_numpy(node[real].astype(np.float32))
    table = atoms[:, :115].clone()
    table[:, 111:113] = 0
    molecule, i, j = np.nonzero(bonds.any(-1))
    keep = i < j
    molecule, i, j = molecule[keep], i[keep], j[keep]
    rows, kind = np.unique(bonds[molecule, i, j], axis=0, return_inverse=True)
    first = ptr.numpy()[molecule]
    ends = np.stack([first + i, first + j])  # (2, B/2)
    per_bond = np.bincount(molecule, minlength=len(sizes))
    paths = [
        np.where(d[:n, :n] > 1e7, -1, d[:n, :n]).astype(np.int16).ravel() for d, n in zip(distance, sizes, strict=True)
    ]
    y = torch.from_numpy(labels)
    return GraphBatch(
        atom_kind=torch.arange(len(atoms)),
        atom_table=table,
        edge_index=torch.from_numpy(np.stack([ends, ends[::-1]], 2).reshape(2, -1)),
        bond_kind=torch.from_numpy(kind.reshape(-1)),
        bond_table=torch.from_numpy(rows.astype(np.float32)),
        graph_of_atom=torch.arange(len(sizes)).repeat_interleave(sizes),
        atom_ptr=ptr,
        bond_ptr=torch.from_numpy(np.concatenate([[0], 2 * per_bond.cumsum()])),
        y=y,
        rows=torch.arange(len(sizes)),
        max_atoms=int(sizes.max()),
        atom_scalars=atoms[:, 111:113].contiguous(),
        extras={"distance": torch.from_numpy(np.concatenate(paths))},
    )


def batch_of(smiles: Sequence[str], tasks: int = 1) -> GraphBatch:
    """Featurise molecules as a dataset does; labels are drawn, some are missing."""
    graphs = [featurize(text, row, scalars=("gasteiger",)) for row, text in enumerate(smiles)]
    atoms, kind = np.unique(np.concatenate([g.atoms for g in graphs]), axis=0, return_inverse=True)
    bonds, bond_kind = np.unique(np.concatenate([g.bonds for g in graphs]), axis=0, return_inverse=True)
    sizes = torch.tensor([len(g.atoms) for g in graphs])
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    directed = torch.tensor([g.edge_index.shape[1] for g in graphs])
    random = torch.Generator().manual_seed(len(smiles))
    y = torch.randint(0, 2, (len(graphs), tasks), generator=random).double()
    y[torch.rand(y.shape, generator=random) < 0.2] = torch.nan
    y[0] = 1.0
    return GraphBatch(
        atom_kind=torch.from_numpy(kind.reshape(-1)),
        atom_table=torch.from_numpy(expand_atoms(atoms, "compt")),
        edge_index=torch.cat(
            [torch.from_numpy(g.edge_index).long() + at for g, at in zip(graphs, ptr, strict=False)], 1
        ),
        bond_kind=torch.from_numpy(bond_kind.reshape(-1)),
        bond_table=torch.from_numpy(expand_bonds(bonds, "compt")),
        graph_of_atom=torch.arange(len(graphs)).repeat_interleave(sizes),
        atom_ptr=ptr,
        bond_ptr=torch.cat([directed.new_zeros(1), directed.cumsum(0)]),
        y=y,
        rows=torch.arange(len(graphs)),
        max_atoms=int(sizes.max()),
        atom_scalars=torch.from_numpy(np.concatenate([g.scalars for g in graphs])),
        extras={"distance": torch.from_numpy(np.concatenate([prepare(g)["distance"] for g in graphs]))},
    )


def recipe(name: str, shape: list[int]) -> Tensor:
    """The weights that the oracles' README prescribes where it stores none."""
    import zlib

    u = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    if name.endswith("attenuation_lambda"):
        value = 0.1 + 0.05 * u
    elif name.endswith(".a_2"):
        value = 1 + 0.2 * u
    elif name.endswith(".b_2"):
        value = 0.1 * u
    elif len(shape) == 2:
        value = u * np.sqrt(6 / sum(shape))
    else:
        value = u / 16
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def load(tag: str) -> Oracle:
    about = json.loads((FOLDER / f"{tag}.json").read_text())
    with np.load(FOLDER / f"{tag}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    weights = FOLDER / f"{tag}_state.npz"
    labels = arrays["in.labels"].astype(np.float64)
    if about["loss"] == "bce":
        labels[labels < -0.5] = np.nan
    if weights.is_file():
        with np.load(weights, allow_pickle=False) as file:
            state = {name: torch.from_numpy(file[name]) for name in file.files}
    else:
        state = {n: recipe(n, s) for n, s in zip(about["param_names"], about["param_shapes"], strict=True)}
    told = about["model_params"]
    config = Config(
        hidden=told["d_model"],
        depth=told["N"],
        heads=told["h"],
        dense_layers=told["N_dense"],
        head_layers=told["n_generator_layers"],
        kernel=told["distance_matrix_kernel"],
        norm="scale" if told["scale_norm"] else "layer",
        padded_readout=about["max_length"],
        released_parameters=True,
    )
    batch = dense_batch(
        arrays["in.node_features"], arrays["in.distance"], bonds=arrays["in.bond_features"], labels=labels
    )
    return Oracle(about, arrays, batch, config, state)
