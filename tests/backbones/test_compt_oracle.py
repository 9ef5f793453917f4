"""CoMPT against the released model's stored run: outputs, states, attention, loss, gradients."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from samcmp.backbones.compt import Model, prepare
from samcmp.backbones.layers import gru_over_padding
from samcmp.graphs.featurize import featurize
from tests.backbones.compt_cases import FOLDER, Oracle, load
from tests.places import needs_oracles

pytestmark = needs_oracles
TAGS = [tag for tag in ("small", "small_reg", "default_d192", "default_d256") if (FOLDER / f"{tag}.npz").is_file()]
TAGS = TAGS or ["small"]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}
both_types = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["double", "single"])
every_tag = pytest.mark.parametrize("tag", TAGS)
oracle = cache(load)


@cache
def run(tag: str, dtype: torch.dtype) -> tuple[Model, Tensor, Tensor, dict[str, Tensor]]:
    """Return the model after backward, its outputs and loss, and what passed through its parts."""
    case = oracle(tag)
    model, states = case.model(dtype), {}

    def keep(name: str) -> Any:
        def hook(module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            states[name] = output.detach()

        return hook

    for k, layer in enumerate(model.encoder.layers):
        layer.register_forward_hook(keep(f"layer{k}.node_out"))
        layer.self_attn.register_forward_hook(keep(f"layer{k}.attn_node"))
        layer.feed_forward.register_forward_hook(keep(f"layer{k}.ff_out"))
    model.encoder.register_forward_hook(keep("encoder_out"))
    model.generator.linear.register_forward_hook(keep("readout_linear"))
    out = model(case.batch.to(dtype=dtype))
    loss = case.loss(out)
    loss.backward()
    return model, out.detach(), loss.detach(), states


def packed(case: Oracle, padded: np.ndarray) -> Tensor:
    return torch.from_numpy(padded[case.arrays["in.mask"]]).double()


@every_tag
@both_types
def test_outputs_equal_the_released_models(tag: str, dtype: torch.dtype) -> None:
    expected = torch.from_numpy(oracle(tag).arrays["out.logits_f64"])
    assert (run(tag, dtype)[1] - expected).abs().max() < TOLERANCE[dtype]


@every_tag
@both_types
def test_loss_equals_the_released_models(tag: str, dtype: torch.dtype) -> None:
    difference = abs(run(tag, dtype)[2].item() - oracle(tag).about["loss_value_f64"])
    assert difference < (1e-12 if dtype == torch.float64 else 1e-6)


@every_tag
@both_types
def test_norm_of_every_parameters_gradient_equals_the_released_models(tag: str, dtype: torch.dtype) -> None:
    arrays, parameters = oracle(tag).arrays, dict(run(tag, dtype)[0].named_parameters())
    assert list(parameters) == [str(name) for name in arrays["grad.names"]]
    for name, none, norm in zip(parameters, arrays["grad.is_none"], arrays["grad.l2_norm_f64"], strict=True):
        gradient = parameters[name].grad
        assert (gradient is None) == none, name
        if gradient is None:
            continue
        if name.endswith("linears.1.bias") or name == "edge_embed.lut.bias":  # zero but for rounding
            assert gradient.norm() < 1e-6, name
        else:
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-9 if dtype == torch.float64 else 1e-5), name


@pytest.mark.parametrize("tag", [tag for tag in TAGS if tag.startswith("small")])
def test_full_gradients_equal_the_released_models(tag: str) -> None:
    arrays = oracle(tag).arrays
    for name, parameter in run(tag, torch.float64)[0].named_parameters():
        if parameter.grad is not None:
            stored = torch.from_numpy(arrays[f"gradfull.{name}"]).double()  # single precision
            torch.testing.assert_close(parameter.grad, stored, rtol=1e-6, atol=1e-9)


@every_tag
def test_states_inside_every_layer_equal_the_released_models(tag: str) -> None:
    case, states = oracle(tag), run(tag, torch.float64)[3]
    for name in [*(n for n in states if n.startswith("layer")), "encoder_out"]:
        torch.testing.assert_close(states[name], packed(case, case.arrays[f"mid.{name}"]), rtol=2e-6, atol=1e-5)
    for k in range(case.config.depth):
        stored = case.arrays[f"mid.layer{k}.node_out_f64"]
        ours = states[f"layer{k}.node_out"]
        if stored.shape[1] == 1:  # only the first atom is stored
            ours, stored = ours[case.batch.atom_ptr[:-1]], stored[:, 0]
        else:
            stored = stored[case.arrays["in.mask"]]
        torch.testing.assert_close(ours, torch.from_numpy(stored), rtol=0, atol=1e-11)
    read = states["readout_linear"].transpose(0, 1)  # padding included
    torch.testing.assert_close(read, torch.from_numpy(case.arrays["mid.readout_linear"]).double(), rtol=2e-6, atol=1e-5)


@every_tag
def test_read_out_states_and_molecule_vectors_equal_the_released_models(tag: str) -> None:
    case, (model, _, _, states) = oracle(tag), run(tag, torch.float64)
    batch, generator, length = case.batch.to(dtype=torch.float64), model.generator, case.about["max_length"]
    with torch.no_grad():
        x = states["encoder_out"]
        start = torch.from_numpy(case.arrays["mid.gru_h0"][0]).double()
        gru = gru_over_padding(generator.gru, x, start, batch, length=length).transpose(0, 1)
        pooled = generator.pool_padded(x, batch, length=length)
    torch.testing.assert_close(gru, torch.from_numpy(case.arrays["mid.gru_out"]).double(), rtol=0, atol=5e-6)
    torch.testing.assert_close(pooled, torch.from_numpy(case.arrays["out.pooled_f64"]), rtol=0, atol=1e-12)


@every_tag
def test_embeddings_equal_the_released_models(tag: str) -> None:
    case, model = oracle(tag), run(tag, torch.float64)[0]
    batch, arrays = case.batch.to(dtype=torch.float64), case.arrays
    expected = packed(case, arrays["mid.node_embed"] + arrays["mid.pos_embed"])
    torch.testing.assert_close(model.atoms(batch).detach(), expected, rtol=1e-6, atol=1e-5)
    unique = arrays["edge.unique_features"]
    for row, embedded in zip(unique, arrays["edge.unique_embedding"], strict=True):
        at = 0 if not row.any() else 1 + (batch.bond_table == torch.from_numpy(row)).all(1).nonzero()[0, 0]
        expected = torch.from_numpy(embedded).double()
        torch.testing.assert_close(model.bonds(batch)[at].detach(), expected, rtol=1e-6, atol=1e-5)


@every_tag
def test_attention_that_is_read_out_equals_the_released_models(tag: str) -> None:
    case, model = oracle(tag), run(tag, torch.float64)[0]
    batch = case.batch.to(dtype=torch.float64)
    n, real = batch.max_atoms, torch.from_numpy(case.arrays["in.mask"])[:, : batch.max_atoms]
    pairs = real[:, :, None] & real[:, None, :]  # (G, n, n)
    for k, seen in enumerate(model.attention(batch)):
        stored = [case.arrays[f"att.layer{k}.{name}"] for name in ("attn_out", "diffusion", "message")]
        for ours, array in zip(seen, stored, strict=True):
            kept = pairs if ours.dim() == 3 else pairs[:, None].expand_as(ours)
            expected = torch.from_numpy(array).double()[..., :n, :n].where(kept, 0.0)
            torch.testing.assert_close(ours, expected, rtol=0, atol=5e-6)


@every_tag
def test_another_padding_gives_the_released_models_other_outputs(tag: str) -> None:
    case = oracle(tag)
    lengths = [int(key.rsplit("L")[-1]) for key in case.arrays if key.startswith("pad.logits_f64.L")]
    assert lengths
    for length in lengths:
        model = Model(
            replace(case.config, positions=case.config.padded_readout, padded_readout=length), case.batch.y.shape[1]
        )
        model.double().load_state_dict(case.state)
        with torch.no_grad():
            out = model(case.batch.to(dtype=torch.float64))
        expected = torch.from_numpy(case.arrays[f"pad.logits_f64.L{length}"])
        assert (out - expected).abs().max() < 1e-12


def test_distances_equal_the_oracles_with_no_path_as_minus_one() -> None:
    import json

    about = json.loads((FOLDER / "features.json").read_text())
    with np.load(FOLDER / "features.npz", allow_pickle=False) as file:
        stored, at = file["distance"], file["distance_offset"]
    fragmented = 0
    for k, (_, row, smiles) in enumerate(about["molecules"]):
        expected = stored[at[k] : at[k + 1]]
        ours = prepare(featurize(smiles, row))["distance"]
        assert ours.dtype == np.int16
        np.testing.assert_array_equal(ours, np.where(expected > 1e7, -1, expected))
        fragmented += bool((expected > 1e7).any())
    assert fragmented > 3
