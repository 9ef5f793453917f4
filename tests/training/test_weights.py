"""Initial weights from files: what fits is taken, what does not is named, nothing in a file runs."""

from __future__ import annotations

import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from samcmp.backbones.grover import Config, Model
from samcmp.errors import DataError
from samcmp.training import checkpoints

SIZE: dict[str, Any] = {"hidden": 12, "heads": 2, "depth": 4, "activation": "prelu", "ffn_hidden": 8}
ARGUMENTS = Namespace(
    hidden_size=12, depth=4, num_attn_head=2, num_mt_block=1, activation="PReLU", bias=False, cuda=True, dropout=0.1
)


def model_of(tasks: int = 3, **changes: Any) -> Model:
    return Model(Config(**{**SIZE, **changes}), tasks)


def released(model: Model) -> dict[str, Any]:
    """A checkpoint as the released code writes it, bond outputs and unused slopes included."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["grover.encoders.ffn_bond_from_atom.W_1.weight"] = torch.ones(48, 177)
    state["grover.encoders.act_func_node.weight"] = torch.ones(1)
    state["readout.cached_zero_vector"] = torch.zeros(12)
    scaler = {"means": np.zeros(3), "stds": np.ones(3, dtype=np.float32)}
    return {"args": ARGUMENTS, "state_dict": state, "data_scaler": scaler, "features_scaler": None}


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    theirs = other.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_released_checkpoint_gives_its_encoder_to_any_task(tmp_path: Path, zipped: bool) -> None:
    source = model_of(3)
    path = tmp_path / "grover.pt"
    torch.save(released(source), path, _use_new_zipfile_serialization=zipped)
    target = model_of(7)
    head = {name: tensor.clone() for name, tensor in target.state_dict().items() if name.startswith("mol_")}
    report = checkpoints.load_into(target, path)
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, head[name] if name in head else source.state_dict()[name]), name
    assert set(report.kept) == set(head)
    assert "grover.encoders.act_func_node.weight" in report.unused


def test_heads_that_fit_are_taken_all_together(tmp_path: Path) -> None:
    source, target = model_of(3), model_of(3)
    torch.save(released(source), tmp_path / "grover.pt")
    assert checkpoints.load_into(target, tmp_path / "grover.pt").kept == ()
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_pre_training_alone_has_no_heads_and_no_read_out_and_that_is_fine(tmp_path: Path) -> None:
    made = released(model_of(3))
    made["state_dict"] = {n: t for n, t in made["state_dict"].items() if n.startswith("grover.")}
    made["state_dict"]["av_task_atom.linear.weight"] = torch.ones(5, 12)
    torch.save(made, tmp_path / "grover.pt")
    report = checkpoints.load_into(model_of(2, self_attention=True), tmp_path / "grover.pt")
    assert {name.partition(".")[0] for name in report.kept} == {
        "mol_atom_from_atom_ffn",
        "mol_atom_from_bond_ffn",
        "readout",
    }
    assert "av_task_atom.linear.weight" in report.unused


def test_a_missing_encoder_tensor_is_named(tmp_path: Path) -> None:
    made = released(model_of())
    gone = "grover.encoders.node_blocks.0.heads.1.mpn_k.W_h.weight"
    del made["state_dict"][gone]
    torch.save(made, tmp_path / "grover.pt")
    with pytest.raises(DataError, match=gone.replace(".", r"\.")) as caught:
        checkpoints.load_into(model_of(), tmp_path / "grover.pt")
    assert "grover.pt" in str(caught.value)


def test_an_encoder_tensor_without_a_place_is_named(tmp_path: Path) -> None:
    made = released(model_of())
    made["state_dict"]["grover.encoders.node_blocks.1.W_o.weight"] = torch.ones(12, 24)
    torch.save(made, tmp_path / "grover.pt")
    with pytest.raises(DataError, match=r"no place for: grover\.encoders\.node_blocks\.1\.W_o\.weight"):
        checkpoints.load_into(model_of(), tmp_path / "grover.pt")


@pytest.mark.parametrize(("changes", "named"), [({"depth": 3}, "depth=4"), ({"activation": "relu"}, "prelu")])
def test_settings_that_contradict_the_checkpoint_are_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    torch.save(released(model_of()), tmp_path / "grover.pt")
    with pytest.raises(DataError, match=named):
        checkpoints.load_into(model_of(**changes), tmp_path / "grover.pt")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    made = released(model_of())
    name = "grover.encoders.edge_blocks.0.W_o.weight"
    made["state_dict"][name] = torch.ones(12, 12)
    torch.save(made, tmp_path / "grover.pt")
    with pytest.raises(DataError, match=r"W_o\.weight \(12, 12\) \(the model: \(12, 24\)\)"):
        checkpoints.load_into(model_of(), tmp_path / "grover.pt")


def test_a_refused_file_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    made = released(model_of())
    made["state_dict"].pop("grover.encoders.ffn_atom_from_bond.W_2.bias")
    torch.save(made, tmp_path / "grover.pt")
    model = model_of()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(DataError):
        checkpoints.load_into(model, tmp_path / "grover.pt")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, plain_pickle: bool) -> None:
    mark, path = tmp_path / "ran", tmp_path / "trap.pt"
    content = {"args": Trap(mark), "state_dict": {"a": torch.ones(1)}}
    if plain_pickle:
        path.write_bytes(pickle.dumps({"args": Trap(mark)}))
    else:
        torch.save(content, path)
    with pytest.raises(DataError, match=r"trap\.pt"):
        checkpoints.load_into(model_of(), path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 64, b"PK\x03\x04 not a zip", b"\x40" + b"\x00" * 7 + b"{broken", b"smiles,y\nC,1\n"]
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.pt"):
        checkpoints.load_into(model_of(), tmp_path / "bad.pt")


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        checkpoints.load_into(model_of(), tmp_path / "none.pt")


def test_what_is_saved_comes_back_bit_for_bit_for_any_model(tmp_path: Path) -> None:
    source = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    path = checkpoints.save(source, tmp_path / "weights.safetensors")
    checkpoints.load_into(target, path)
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]


def test_an_own_state_dict_saved_by_torch_is_read_too(tmp_path: Path) -> None:
    source, target = model_of(), model_of(1)
    torch.save(source.state_dict(), tmp_path / "own.pt")
    report = checkpoints.load_into(target, tmp_path / "own.pt")
    norm = "grover.encoders.atom_from_atom_sublayer.norm.weight"
    assert torch.equal(target.get_parameter(norm), source.get_parameter(norm))
    assert len(report.loaded) + len(report.kept) == len(source.state_dict())


def test_what_fine_tuning_leaves_unread_is_known_by_name() -> None:
    assert not Model.never_read("grover.encoders.edge_blocks.0.heads.0.mpn_v.W_h.weight")
    assert Model.never_read("grover.encoders.bond_from_bond_sublayer.norm.bias")


def test_a_head_of_three_layers_with_one_slope_is_saved_and_read(tmp_path: Path) -> None:
    source, target = model_of(ffn_layers=3), model_of(ffn_layers=3)
    checkpoints.load_into(target, checkpoints.save(source, tmp_path / "deep.safetensors"))
    assert_equal(target, source)
