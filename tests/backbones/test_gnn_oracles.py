"""The graph networks against numbers from their reference implementations (see oracles/gnn/README.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samcmp import backbones
from samcmp.backbones import surroundings
from samcmp.backbones.layers import reverse, sum_into
from samcmp.graphs.batch import GraphBatch
from tests.backbones.oracle_batches import batch_from_arrays, relative, tensor
from tests.places import ORACLES, needs_oracles

pytestmark = needs_oracles
FOLDER = ORACLES / "gnn"
TIGHT, LOOSE = 1e-10, 1e-5
PATHS = {"plain": False, "distinct": True}
Archive = Any


def our_dmpnn(name: str) -> str:
    name = name.replace("message_passing.", "").replace("predictor.ffn.0.0", "head.1")
    return name.replace("predictor.ffn.1.2", "head.4")


def our_cmpnn(name: str) -> str:
    name = name.replace("encoder.encoder.", "")
    pairs = {"W_i_atom": "W_a", "W_i_bond": "W_b", "W_h_": "W_k.", "lr.": "W_c.", "ffn.": "head."}
    pairs |= {"gru.bias": "beta", "gru.gru": "gru"}
    for theirs, ours in pairs.items():
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    return name


def our_mpnn(name: str) -> str:
    pairs = {"lin0": "embed", "conv.nn": "edge", "conv.lin": "root", "conv.bias": "bias", "_l0": "", "s2s": "readout"}
    for theirs, ours in (pairs | {"lin1": "head.0", "lin2": "head.2"}).items():
        name = name.replace(theirs, ours)
    return name


def our_gcn(name: str) -> str:
    name = name.replace("gnn.", "").replace("lin.", "").replace("convs.0", "first")
    return name.replace("convs.1", "convs.0").replace("convs.2", "convs.1")


@dataclass
class Oracle:
    """One archive: our model with its weights, its molecules as one batch."""

    archive: Archive
    rename: Callable[[str], str]
    model: str
    settings: dict[str, Any]

    def __getitem__(self, key: str) -> Tensor:
        return tensor(self.archive, key)

    def build(self, dtype: torch.dtype = torch.float64, **settings: Any) -> nn.Module:
        config = backbones.build_config(self.model, settings={"hidden": 32, **self.settings, **settings})
        model = backbones.build(config, 3).double()
        keys = [k for k in self.archive.files if k.startswith("sd/") and "W_h_atom" not in k]
        model.load_state_dict({self.rename(k[3:]): self[k] for k in keys})
        return model.to(dtype)

    def batch(self, *, kinds: bool = True) -> GraphBatch:
        if self.model != "cmpnn":
            atoms, bonds = ("in/V", "in/E") if "in/V" in self.archive.files else ("in/x", "in/edge_attr")
            each = self[bonds][::2].contiguous()
            return batch_from_arrays(
                self[atoms], self["in/edge_index"], bonds=each, graph_of_atom=self["in/batch"], kinds=kinds
            )
        source, reverse = self["in/b2a"][1:] - 1, self["in/b2revb"][1:] - 1  # row 0 is padding
        graph = torch.arange(16).repeat_interleave(self["in/a_scope"][:, 1])
        bonds_once = self["in/f_bonds"][1::2, 133:].contiguous()
        ends = torch.stack([source, source[reverse]])
        return batch_from_arrays(self["in/f_atoms"][1:], ends, bonds=bonds_once, graph_of_atom=graph, kinds=kinds)

    def assert_gradients(self, model: nn.Module, output: Tensor, group: str) -> None:
        loss = (output * self[f"{group}/loss_weight"]).sum()
        assert relative(loss, self[f"{group}/loss"]) < TIGHT
        loss.backward()
        start = f"{group}/grad/" if group == "batch" else f"{group}/"
        keys = [k for k in self.archive.files if k.startswith(start) and "loss" not in k]
        assert len(keys) == len(list(model.parameters()))
        for key in keys:
            found = model.get_parameter(self.rename(key[len(start) :])).grad
            assert found is not None
            assert relative(found, self[key]) < TIGHT, key


RENAME = {"dmpnn": our_dmpnn, "atommp": our_dmpnn, "cmpnn": our_cmpnn, "mpnn": our_mpnn, "gcn": our_gcn}


def settings_of(name: str) -> dict[str, Any]:
    """Read an archive's settings from its name, as the oracles' table gives them."""
    family = name.split("_")[0]
    found: dict[str, Any] = {}
    if family in ("dmpnn", "atommp"):
        found |= {"features": "chemprop-v2" if "_v2_" in name else "chemprop-v1", "depth": 5 if "_d5" in name else 3}
        found |= {"bias": "bias" in name, "undirected": "undirected" in name}
        found |= {"messages": "atoms" if family == "atommp" else "bonds"}
    elif family == "cmpnn":
        found |= {"depth": 4 if "_d4" in name else 3, "bias": "bias" in name}
    elif family == "mpnn":
        found |= {"edge_hidden": 48, "aggregation": "mean" if "_mean_" in name else "sum"}
    return found


def open_oracle(path: Path) -> Oracle:
    family = path.stem.split("_")[0]
    model = "dmpnn" if family == "atommp" else family
    return Oracle(np.load(path, allow_pickle=False), RENAME[family], model, settings_of(path.stem))


def archives(*families: str) -> list[Any]:
    paths = sorted(p for p in FOLDER.glob("*.npz") if p.stem.split("_")[0] in families) if FOLDER.is_dir() else []
    return [pytest.param(p, id=p.stem) for p in paths]


@pytest.fixture(params=list(PATHS))
def path_taken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(surroundings, "apply", lambda *_, **__: PATHS[request.param])
    return str(request.param)


@pytest.mark.parametrize("path", archives("dmpnn", "atommp"))
@pytest.mark.parametrize("aggregation", ["mean", "sum", "norm"])
def test_dmpnn_states_outputs_and_gradients(path: Path, aggregation: str, path_taken: str) -> None:
    oracle = open_oracle(path)
    for kinds in (False, True):
        model: Any = oracle.build(aggregation=aggregation)
        batch = oracle.batch(kinds=kinds)
        atoms = model.atom_states(batch)
        assert relative(atoms, oracle["out/atom"]) < TIGHT
        assert relative(model.pool(atoms, batch), oracle[f"out/mol_{aggregation}"]) < TIGHT
        output = model(batch)
        assert relative(output, oracle[f"out/output_{aggregation}"]) < TIGHT
        oracle.assert_gradients(model, output, f"grad_{aggregation}")


@pytest.mark.parametrize("path", archives("dmpnn"))
def test_dmpnn_states_before_and_after_every_step(path: Path) -> None:
    oracle = open_oracle(path)
    if oracle.settings["undirected"]:
        pytest.skip("the oracle's steps start from averaged states")
    model: Any = oracle.build()
    batch = oracle.batch()
    source, target = batch.edge_index
    z = model.W_i(torch.cat([batch.atom_features[source], batch.directed_bond_features], 1))
    assert relative(z, oracle["mid/H0_preact"]) < TIGHT
    h = z.relu()
    for t in range(1, oracle.settings["depth"]):
        m = sum_into(h, target, batch.num_atoms)[source] - reverse(h)
        assert relative(m, oracle[f"mid/M_{t}"]) < TIGHT
        assert relative(model.W_h(m), oracle[f"mid/WhM_{t}"]) < TIGHT
        h = (z + model.W_h(m)).relu()
    into = torch.cat([batch.atom_features, sum_into(h, target, batch.num_atoms)], 1)
    assert relative(into, oracle["mid/Wo_in"]) < TIGHT


@pytest.mark.parametrize("path", archives("dmpnn", "atommp"))
def test_dmpnn_in_float32(path: Path, path_taken: str) -> None:
    oracle = open_oracle(path)
    output = oracle.build(torch.float32)(oracle.batch().to(dtype=torch.float32))
    assert relative(output, oracle["out32/output_mean"]) < LOOSE


@pytest.mark.parametrize("path", archives("cmpnn"))
def test_cmpnn_with_the_authors_padding(path: Path) -> None:
    oracle = open_oracle(path)
    model: Any = oracle.build(padded=True)
    batch = oracle.batch()
    c = model.atom_states(batch)
    assert relative(c, oracle["batch/lr/out"][1:]) < TIGHT
    o = model.sequence_states(c, batch)
    assert relative(o, oracle["batch/gru/out"][1:]) < TIGHT
    assert relative(model.W_o(o), oracle["batch/W_o/out"][1:]) < TIGHT
    assert relative(model.molecule_vectors(batch), oracle["batch/mol_vecs"]) < TIGHT
    output = model(batch)
    assert relative(output, oracle["batch/output"]) < TIGHT
    oracle.assert_gradients(model, output, "batch")


@pytest.mark.parametrize("path", archives("cmpnn"))
def test_cmpnn_packed_gives_every_molecule_what_it_gets_alone(path: Path) -> None:
    oracle = open_oracle(path)
    model: Any = oracle.build()
    assert relative(model.molecule_vectors(oracle.batch()), oracle["single/mol_vecs"]) < TIGHT
    assert relative(model(oracle.batch()), oracle["single/output"]) < TIGHT


@pytest.mark.parametrize("path", archives("cmpnn"))
def test_cmpnn_in_float32(path: Path) -> None:
    oracle = open_oracle(path)
    output = oracle.build(torch.float32, padded=True)(oracle.batch().to(dtype=torch.float32))
    assert relative(output, oracle["batch32/output"]) < LOOSE


@pytest.mark.parametrize("path", archives("mpnn"))
def test_mpnn_messages_states_and_gradients(path: Path, path_taken: str) -> None:
    oracle = open_oracle(path)
    model: Any = oracle.build()
    seen: list[Tensor] = []
    model.gru.register_forward_hook(lambda module, given, out: seen.append(out))
    batch = oracle.batch(kinds=path_taken == "distinct")
    atoms = model.atom_states(batch)
    assert relative(atoms, oracle["mid/state_2"]) < TIGHT
    if path_taken == "plain":
        for t, state in enumerate(seen):
            assert relative(state, oracle[f"mid/state_{t}"]) < TIGHT
    assert relative(model.readout(atoms, batch), oracle["out/set2set"]) < TIGHT
    output = model(batch)
    assert relative(output, oracle["out/output"]) < TIGHT
    oracle.assert_gradients(model, output, "grad")


@pytest.mark.parametrize("path", archives("mpnn"))
def test_mpnn_in_float32(path: Path, path_taken: str) -> None:
    oracle = open_oracle(path)
    output = oracle.build(torch.float32)(oracle.batch().to(dtype=torch.float32))
    assert relative(output.double(), oracle["out/output"]) < LOOSE


@pytest.mark.parametrize("path", archives("gcn"))
def test_gcn_layers_pools_and_gradients(path: Path) -> None:
    oracle = open_oracle(path)
    model: Any = oracle.build()
    seen: list[Tensor] = []
    for conv in model.convs:
        conv.register_forward_hook(lambda module, given, out: seen.append(out))
    batch = oracle.batch()
    atoms = model.atom_states(batch)
    for layer, state in enumerate(seen, start=1):
        assert relative(state, oracle[f"mid/conv_{layer}"]) < TIGHT
    for readout in ("mean", "sum", "max"):
        pooled = oracle.build(readout=readout).pool(atoms, batch)  # type: ignore[operator]
        assert relative(pooled, oracle[f"out/mol_{readout}"]) < TIGHT
    output = model(batch)
    assert relative(output, oracle["out/output_mean"]) < TIGHT
    oracle.assert_gradients(model, output, "grad")
    single = oracle.build(torch.float32)(batch.to(dtype=torch.float32))
    assert relative(single.double(), oracle["out/output_mean"]) < LOOSE
