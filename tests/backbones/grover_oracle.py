"""Batches and models of the GROVER oracles: arrays made elsewhere, in the order in which we number bonds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samcmp.backbones.grover import Config, Model
from samcmp.graphs.batch import GraphBatch
from tests.places import ORACLES

TORCH_NAMES = {
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "tanh": "tanh",
    "SELU": "selu",
    "ELU": "elu",
}


@dataclass(frozen=True)
class Oracle:
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    state: dict[str, Tensor]

    @classmethod
    def load(cls, tag: str) -> Oracle:
        folder = ORACLES / "grover"
        arrays = dict(np.load(folder / f"{tag}.npz", allow_pickle=False))
        state = {k: torch.from_numpy(v) for k, v in np.load(folder / f"{tag}_state.npz", allow_pickle=False).items()}
        return cls(arrays, json.loads((folder / f"{tag}.json").read_text()), state)

    def config(self, **changes: Any) -> Config:
        c = self.about["config"]
        settings: dict[str, Any] = {
            "hidden": c["hidden_size"],
            "depth": c["depth"],
            "heads": c["num_attn_head"],
            "blocks": c["num_mt_block"],
            "activation": TORCH_NAMES[c["activation"]],
            "dropout": c["dropout"],
            "bias": c["bias"],
            "ffn_hidden": c["ffn_hidden_size"],
            "ffn_layers": c["ffn_num_layers"],
            "disagreement": c["dist_coff"],
            "self_attention": c["self_attention"],
            "attention_hidden": c["attn_hidden"],
            "attention_out": c["attn_out"],
            "molecule_features": "rdkit2d" if c["features_dim"] else None,
            "molecule_width": c["features_dim"] or 200,
            "padding_row": True,
        }
        return Config(**{**settings, **changes})

    def model(self, dtype: torch.dtype = torch.float64, **changes: Any) -> Model:
        model = Model(self.config(**changes), self.about["config"]["num_tasks"])
        model.load_state_dict({name: self.state[name] for name in model.state_dict()})
        return model.to(dtype)

    def molecule(self, i: int) -> tuple[np.ndarray, ...]:
        names = ("f_atoms", "f_bonds", "b2a")
        f_atoms, f_bonds, source = (self.arrays[f"mol{i:02d}_{name}"] for name in names)
        return f_atoms, f_bonds[0::2, f_atoms.shape[1] :], source

    def batch(self, which: range | None = None, dtype: torch.dtype = torch.float64) -> GraphBatch:
        """The molecules ``which`` (all) as one batch; every atom and bond is a kind of its own."""
        which = range(len(self.about["smiles"])) if which is None else which
        molecules = [self.molecule(i) for i in which]
        sizes = [len(m[0]) for m in molecules]
        sources, targets, offset = [], [], 0
        for (f_atoms, _, source), size in zip(molecules, sizes, strict=True):
            target = source.reshape(-1, 2)[:, ::-1].reshape(-1)  # pairs are adjacent in the oracle too
            sources.append(source + offset)
            targets.append(target + offset)
            offset += len(f_atoms)
            del size
        atoms = torch.from_numpy(np.concatenate([m[0] for m in molecules])).to(dtype)
        bonds = torch.from_numpy(np.concatenate([m[1] for m in molecules])).to(dtype)
        y = [[float("nan") if v is None else v for v in self.about["targets"][i]] for i in which]
        features = self.arrays.get("features")
        return GraphBatch(
            atom_kind=torch.arange(len(atoms)),
            atom_table=atoms,
            edge_index=torch.from_numpy(np.stack([np.concatenate(sources), np.concatenate(targets)])).long(),
            bond_kind=torch.arange(len(bonds)),
            bond_table=bonds,
            graph_of_atom=torch.repeat_interleave(torch.arange(len(which)), torch.tensor(sizes)),
            atom_ptr=torch.tensor([0, *sizes]).cumsum(0),
            bond_ptr=torch.tensor([0, *(len(m[2]) for m in molecules)]).cumsum(0),
            y=torch.tensor(y, dtype=dtype),
            rows=torch.tensor(list(which)),
            max_atoms=max(sizes),
            molecule_features=None if features is None else torch.from_numpy(features[list(which)]).to(dtype),
        )


def padding_first(x: Tensor) -> np.ndarray:
    """Our arrays keep the padding row last, the oracles first."""
    return torch.cat([x[-1:], x[:-1]]).detach().numpy()
