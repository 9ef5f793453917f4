"""GROVER against the released code's numbers, and what its settings promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from samcmp.backbones import grover
from samcmp.backbones.grover import Config, Model, depth_probabilities, random_depths
from tests.backbones.grover_oracle import Oracle, padding_first
from tests.places import ORACLES, needs_oracles

TOLERANCES = {torch.float64: 1e-13, torch.float32: 5e-6}


def bce(prediction: Tensor, y: Tensor) -> Tensor:
    known = ~y.isnan()
    each = torch.nn.functional.binary_cross_entropy_with_logits(prediction, y.nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


@pytest.fixture(scope="module")
def small() -> Oracle:
    return Oracle.load("small")


def ready_batch(small: Oracle, dtype: torch.dtype = torch.float64) -> grover.GraphBatch:
    return small.batch(dtype=dtype)


@needs_oracles
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_outputs_and_loss_equal_the_released_code_with_the_padding_row(small: Oracle, dtype: torch.dtype) -> None:
    model, batch = small.model(dtype, random_depth=False).train(), small.batch(dtype=dtype)
    p, q = model.heads(batch)
    tolerance = TOLERANCES[dtype]
    np.testing.assert_allclose(p.detach().numpy(), small.arrays["logits_from_atom"], atol=tolerance, rtol=0)
    np.testing.assert_allclose(q.detach().numpy(), small.arrays["logits_from_bond"], atol=tolerance, rtol=0)
    assert model.loss(batch, bce).item() == pytest.approx(small.about["train_loss"], abs=tolerance)
    predicted = model.eval().predict(batch, torch.sigmoid).detach().numpy()
    np.testing.assert_allclose(predicted, small.arrays["pred_eval"], atol=tolerance, rtol=0)
    np.testing.assert_allclose(model(batch).detach().numpy(), ((p + q) / 2).detach().numpy(), atol=tolerance, rtol=0)


@needs_oracles
@pytest.mark.parametrize(
    ("dtype", "relative", "absolute"), [(torch.float64, 1e-11, 1e-15), (torch.float32, 5e-6, 1e-6)]
)
def test_every_gradient_norm_equals_the_released_code(
    small: Oracle, dtype: torch.dtype, relative: float, absolute: float
) -> None:
    model = small.model(dtype, random_depth=False).train()
    model.loss(small.batch(dtype=dtype), bce).backward()
    for name, parameter in model.named_parameters():
        expected = small.about["grad_norm"][name]
        assert parameter.grad is not None
        assert parameter.grad.norm().item() == pytest.approx(expected, rel=relative, abs=absolute), name


@needs_oracles
def test_full_gradients_equal_the_released_code(small: Oracle) -> None:
    model = small.model(random_depth=False).train()
    model.loss(small.batch(), bce).backward()
    for name, parameter in model.named_parameters():
        expected = small.arrays[f"grad/{name}"]
        assert parameter.grad is not None
        # the oracle's bulk arrays are rounded to float32
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=2e-6, atol=1e-9, err_msg=name)


@needs_oracles
def test_the_only_tensors_without_a_place_here_are_those_without_a_gradient(small: Oracle) -> None:
    ours = {name for name, _ in small.model().named_parameters()}
    assert ours == {name for name, norm in small.about["grad_norm"].items() if norm is not None}


@needs_oracles
@pytest.mark.parametrize("view", ["node", "edge"])
def test_intermediate_states_equal_the_released_code(small: Oracle, view: str) -> None:
    model, batch = small.model(random_depth=False).eval(), small.batch()
    of_bonds = view == "edge"
    neighbours = grover.Neighbours.of(batch, of_bonds=of_bonds, padding_row=True)
    [block] = model.grover["encoders"].blocks(of_bonds=of_bonds)  # type: ignore[operator]
    x = block.start(grover.features_of(batch, of_bonds=of_bonds, padding_row=True))
    assert_close(padding_first(x), small.arrays[f"{view}0_in"])
    m = block.pass_messages(x, neighbours, depths=[3] * 6)
    for i in range(6):
        assert_close(padding_first(m[i]), small.arrays[f"{view}0_h{i // 3}_{'qkv'[i % 3]}"])
    u = block.attend(*(linear(m[i::3]) for i, linear in enumerate(block.attn["linear_layers"])))
    by_head = block.attn["output_linear"](u)
    assert_close(padding_first(by_head), small.arrays[f"{view}0_attn"])
    assert_close(padding_first(block.W_o(by_head.flatten(1))), small.arrays[f"{view}0_Wo"])
    assert_close(padding_first(block.joined(u)), small.arrays[f"{view}0_out"])
    assert_close(padding_first(block(x, neighbours, depths=[3] * 6)), small.arrays[f"{view}0_out"])


@needs_oracles
def test_atom_vectors_and_readouts_equal_the_released_code(small: Oracle) -> None:
    model, batch = small.model().eval(), small.batch()
    for vectors, branch in zip(model.encode(batch), ("atom", "bond"), strict=True):
        assert_close(vectors.detach().numpy(), small.arrays[f"enc_atom_from_{branch}"][1:])
        readout = model.molecule_vectors(vectors, batch).detach().numpy()
        np.testing.assert_allclose(readout, small.arrays[f"readout_from_{branch}"], atol=1e-13, rtol=0)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)  # stored as float32


@needs_oracles
def test_a_depth_for_each_network_equals_the_released_code(small: Oracle) -> None:
    drawn = small.about["depthmap"]
    depths = [
        [[drawn[f"grover.encoders.{view}_blocks.0.heads.{i}.mpn_{role}"] for i in range(2) for role in "qkv"]]
        for view in ("node", "edge")
    ]
    p, q = small.model().heads(small.batch(), depths=depths)
    np.testing.assert_allclose(p.detach().numpy(), small.arrays["depthmap_logits_from_atom"], atol=1e-13, rtol=0)
    np.testing.assert_allclose(q.detach().numpy(), small.arrays["depthmap_logits_from_bond"], atol=1e-13, rtol=0)


@needs_oracles
def test_each_molecule_alone_with_its_padding_row_equals_the_released_code(small: Oracle) -> None:
    model = small.model().eval()
    for i, expected in enumerate(small.arrays["single_pred_eval"]):
        found = model.predict(small.batch(range(i, i + 1)), torch.sigmoid)[0]
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-13, rtol=0)


@needs_oracles
@pytest.mark.parametrize("settings", [{}, {"activation": "tanh"}])
def test_without_the_padding_row_batch_mates_do_not_matter(small: Oracle, settings: dict[str, str]) -> None:
    together, alone = small.batch(), [small.batch(range(i, i + 1)) for i in range(len(small.about["smiles"]))]
    model = small.model(padding_row=False, **settings).eval()
    separate = torch.cat([model(batch) for batch in alone])
    torch.testing.assert_close(model(together), separate, atol=1e-13, rtol=0)
    padded = small.model().eval()
    assert (padded(together) - torch.cat([padded(batch) for batch in alone])).abs().max() > 0.01


@needs_oracles
def test_parameter_counts_are_those_that_a_fine_tuning_gradient_reaches() -> None:
    counts = json.loads((ORACLES / "grover" / "param_counts.json").read_text())
    assert counts
    for key, expected in counts.items():
        hidden, name = key[1:].split("_")
        with torch.device("meta"):
            model = Model(Config(hidden=int(hidden), depth=6, activation=name.lower()), 1)
        assert sum(p.numel() for p in model.parameters()) == expected["reached_by_finetune_gradient"], key


@needs_oracles
def test_every_parameter_gets_a_gradient_from_the_clean_start_and_almost_none_from_the_released_one(
    small: Oracle,
) -> None:
    batch = small.batch()

    def moved(**settings: bool) -> set[str]:
        torch.manual_seed(0)
        model = Model(small.config(padding_row=False, random_depth=False, **settings), 3).double()
        model.loss(batch, bce).backward()
        return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-14}

    every = {name for name, _ in small.model().named_parameters()}
    # The key bias shifts all scores of a softmax alike: its gradient is zero in exact arithmetic.
    keys = {name for name in every if name.endswith("linear_layers.1.bias")}
    assert moved() >= every - keys
    assert moved(released_initialisation=True) == {f"mol_atom_from_{view}_ffn.4.bias" for view in ("atom", "bond")}


def test_random_depths_follow_the_truncated_normal_table() -> None:
    probabilities = depth_probabilities(6)
    assert probabilities == pytest.approx((0.0214, 0.1363, 0.3423, 0.3423, 0.1363, 0.0214), abs=1e-4)
    assert sum(probabilities) == pytest.approx(1)
    torch.manual_seed(0)
    drawn = random_depths(6, 60_000)
    share = torch.bincount(drawn, minlength=9)[3:9] / len(drawn)
    assert drawn.min() >= 3
    assert drawn.max() <= 8
    assert share.tolist() == pytest.approx(probabilities, abs=0.008)


def test_depths_are_drawn_in_training_only_and_from_torchs_generator() -> None:
    model = Model(Config(hidden=8, heads=2), 1)
    torch.manual_seed(3)
    first = model.draw_depths()
    torch.manual_seed(3)
    assert model.draw_depths() == first
    assert len({depth for view in first for block in view for depth in block}) > 1
    fixed = [[[3] * 6], [[3] * 6]]
    assert model.eval().draw_depths() == fixed
    assert Model(Config(hidden=8, heads=2, random_depth=False), 1).draw_depths() == fixed


@needs_oracles
def test_a_batch_without_labels_has_a_finite_loss(small: Oracle) -> None:
    from dataclasses import replace

    model, batch = small.model(padding_row=False), small.batch()
    loss = model.loss(replace(batch, y=torch.full_like(batch.y, torch.nan)), bce)
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@needs_oracles
def test_the_loss_holds_the_disagreement_of_the_two_heads(small: Oracle) -> None:
    batch = small.batch()
    model = small.model(padding_row=False, random_depth=False)
    p, q = model.heads(batch)
    known = ~batch.y.isnan()
    extra = ((p - q)[known] ** 2).mean()
    expected = bce(p, batch.y) + bce(q, batch.y) + 0.1 * extra
    assert model.loss(batch, bce).item() == pytest.approx(expected.item(), rel=1e-13)


@needs_oracles
def test_extra_molecule_features_reach_both_heads_and_must_be_in_the_batch(small: Oracle) -> None:
    from dataclasses import replace

    torch.manual_seed(0)
    model = Model(small.config(padding_row=False, molecule_features="rdkit2d"), 3).double().eval()
    batch = small.batch()
    with pytest.raises(ValueError, match="rdkit2d"):
        model(batch)
    zeros = replace(batch, molecule_features=torch.zeros(batch.num_graphs, 200, dtype=torch.float64))
    ones = replace(zeros, molecule_features=torch.ones(batch.num_graphs, 200, dtype=torch.float64))
    for before, after in zip(model.heads(zeros), model.heads(ones), strict=True):
        assert ((before - after).abs() > 1e-6).any(1).all()


@needs_oracles
def test_the_read_out_attention_of_a_molecule_sums_to_one(small: Oracle) -> None:
    torch.manual_seed(0)
    model = Model(small.config(padding_row=False, self_attention=True, attention_out=5), 3).double().eval()
    batch = small.batch()
    for weights in model.attention(batch):
        assert weights.shape == (batch.num_atoms, 5)
        sums = torch.zeros(batch.num_graphs, 5, dtype=torch.float64).index_add(0, batch.graph_of_atom, weights)
        torch.testing.assert_close(sums, torch.ones_like(sums))
    with pytest.raises(ValueError, match="self_attention"):
        small.model().attention(batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 10, "heads": 4}, "multiple"),
        ({"activation": "sine"}, "activation"),
        ({"dropout": 1.0}, "dropout"),
        ({"ffn_layers": 0}, "ffn_layers"),
        ({"depth": -1}, "depth"),
    ],
)
def test_settings_that_make_no_model_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)  # type: ignore[arg-type]


@needs_oracles
def test_autocast_stays_close_to_single_precision(small: Oracle) -> None:
    model, batch = small.model(torch.float32, padding_row=False).eval(), small.batch(dtype=torch.float32)
    exact = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(batch)
    torch.testing.assert_close(rough.float(), exact, atol=0.3, rtol=0.1)
