"""CoMPT's promises: the plain formulation's numbers, one molecule at a time, whatever the molecule."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from samcmp.backbones import build_config
from samcmp.backbones.compt import DATASET_SETTINGS, Config, Model
from samcmp.graphs.batch import GraphBatch
from tests.backbones import compt_twin as twin
from tests.backbones.compt_cases import batch_of, masked_bce

SMILES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "C",
    "[Na+].[Na+].[Na+].[O-]C(=O)[P]([O-])([O-])=O",
    "C/C=C/C#N",
    "c1ccc2c(c1)ccc3c2ccc4c5ccccc5ccc43",
    "[Ca+2]",
    "CN1CCC[C@H]1c1cccnc1",
)
PADDED = 24
RELEASED = {"released_parameters": True, "padded_readout": PADDED}
SMALL: dict[str, Any] = {"hidden": 16, "depth": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    **DATASET_SETTINGS,
    "exp and scale": {"norm": "scale"},
    "softmax and layer": {"kernel": "softmax"},
    "two maps": {"dense_layers": 2},
    "deep head": {"head_layers": 4, "heads": 8},
    "bare head": {"head_layers": 1, "heads": 1},
}
every_variant = pytest.mark.parametrize("variant", list(VARIANTS))


def model_of(tasks: int = 1, **settings: Any) -> Model:
    """A double-precision model whose one-dimensional parameters are off their initial values."""
    torch.manual_seed(3)
    model = Model(replace(Config(), **{**SMALL, **settings}), tasks).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter.add_(0.1 * torch.randn_like(parameter).clamp(-0.5, 0.5))
    return model


def double(smiles: tuple[str, ...], tasks: int = 1) -> GraphBatch:
    return batch_of(smiles, tasks).to(dtype=torch.float64)


def gradients(model: Model, out: Tensor, y: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    masked_bce(out, y).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def assert_same_gradients(ours: dict[str, Tensor | None], theirs: dict[str, Tensor | None]) -> None:
    for name, expected in theirs.items():
        mine = ours[name]
        assert (mine is None) == (expected is None), name
        if mine is not None and expected is not None:
            torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@every_variant
def test_released_settings_equal_the_plain_formulation_with_all_gradients(variant: str) -> None:
    settings = {**VARIANTS[variant], **SMALL, "depth": min(VARIANTS[variant].get("depth", 2), 3), **RELEASED}
    model, batch = model_of(2, **settings), double(SMILES, 2)
    ours = model(batch)
    mine = gradients(model, ours, batch.y)
    plain = twin.forward(model, twin.unpack(batch, PADDED))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    assert_same_gradients(mine, gradients(model, plain, batch.y))


@every_variant
def test_default_read_out_equals_the_plain_formulation_over_real_atoms_with_all_gradients(variant: str) -> None:
    settings = {**VARIANTS[variant], **SMALL, "released_parameters": True, "positions": PADDED}
    model, batch = model_of(2, **settings), double(SMILES, 2)
    ours = model(batch)
    mine = gradients(model, ours, batch.y)
    plain = twin.forward_one_by_one(model, twin.unpack(batch, PADDED))
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    assert_same_gradients(mine, gradients(model, plain, batch.y))


@every_variant
def test_parameters_owned_by_default_give_the_released_ones_function(variant: str) -> None:
    settings = {**VARIANTS[variant], **SMALL}
    released = model_of(1, **settings, released_parameters=True, positions=PADDED)
    ours = model_of(1, **settings, positions=PADDED)
    state = {name: value for name, value in released.state_dict().items() if name in ours.state_dict()}
    state["pos_embed.pe.weight"] = state["pos_embed.pe.weight"][1:]
    ours.load_state_dict(state)
    batch = double(SMILES)
    torch.testing.assert_close(ours(batch), released(batch), rtol=0, atol=1e-12)


def test_a_molecule_does_not_feel_its_batch_mates() -> None:
    for settings in (SMALL, {**SMALL, "kernel": "softmax", "norm": "scale"}):
        model = model_of(2, **settings)
        together = model(double(SMILES, 2))
        alone = torch.cat([model(double((text,), 2)) for text in SMILES])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_the_released_read_out_depends_on_padding_and_the_default_does_not() -> None:
    batch = double(SMILES)
    with torch.no_grad():
        outs = [model_of(padded_readout=length, positions=PADDED)(batch) for length in (24, 60)]
        clean = model_of(positions=PADDED)(batch)
    assert (outs[0] - outs[1]).abs().max() > 1e-3
    assert (outs[0] - clean).abs().max() > 1e-3


@every_variant
def test_every_parameter_owned_by_default_gets_a_gradient_at_initialisation(variant: str) -> None:
    torch.manual_seed(0)
    model, batch = Model(replace(Config(), **{**VARIANTS[variant], "hidden": 32}), 1), batch_of(SMILES)
    masked_bce(model(batch), batch.y).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-8, name


@pytest.mark.parametrize(
    ("dataset", "length", "tasks", "total", "dead"),
    [
        ("bbbp", 90, 1, 2_625_797, 263_168),
        ("tox21", 98, 12, 4_344_340, 526_336),
        ("sider", 96, 27, 2_630_949, 263_168),
        ("clintox", 96, 2, 2_627_590, 263_168),
        ("esol", 55, 1, 2_219_017, 197_376),
        ("freesolv", 24, 1, 2_211_081, 197_376),
        ("lipo", 72, 1, 2_225_924, 197_376),
    ],
)
def test_parameter_counts_are_the_specifications(dataset: str, length: int, tasks: int, total: int, dead: int) -> None:
    released = {"released_parameters": True, "padded_readout": length}
    model = Model(build_config("compt", dataset=dataset, settings=released), tasks)
    count = sum(p.numel() for p in model.parameters())
    discarded = sum(p.numel() for name, p in model.named_parameters() if ".linears.4." in name)
    assert (count, discarded) == (total, dead)
    config = build_config("compt", dataset=dataset)
    ours = sum(p.numel() for p in Model(config, tasks).parameters())
    cancelled = config.hidden * (config.depth + 2)  # key biases, the bonds' bias, the padding's position
    assert ours == total - dead - cancelled + config.hidden * (512 - length)


def test_initial_weights_have_the_papers_ranges() -> None:
    torch.manual_seed(0)
    state = Model(Config(), 1).state_dict()
    bounds = {
        "encoder.layers.0.self_attn.linears.0.weight": (6 / 512) ** 0.5,
        "generator.gru.weight_hh_l0": (6 / 1024) ** 0.5,
        "pos_embed.pe.weight": (6 / 768) ** 0.5,
        "generator.bias": 1 / 16,
    }
    for name, bound in bounds.items():
        assert 0.97 * bound < state[name].abs().max() <= bound, name
    assert state["encoder.layers.3.self_attn.attenuation_lambda"] == pytest.approx(0.1)
    assert Model(replace(Config(), norm="scale"), 1).encoder.norm.scale == 16


@pytest.mark.parametrize("kernel", ["exp", "softmax"])
@pytest.mark.parametrize("rate", [-0.3, 0.0, 0.1])
def test_fragments_stay_finite_and_apart_whatever_the_sign_of_lambda(kernel: str, rate: float) -> None:
    model, batch = model_of(kernel=kernel), double(SMILES)
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.self_attn.attenuation_lambda.fill_(rate)
    out = model(batch)
    masked_bce(out, batch.y).backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    salt = model.attention(batch)[0].message[2, :, :3]  # the three sodium ions
    assert (salt[:, :, 3:] == 0).all()


def test_a_molecule_of_492_atoms_and_one_beyond_the_table_are_read() -> None:
    model = model_of(positions=512)
    long = "C" * 492
    assert model(double((long, "CC"))).isfinite().all()
    few = model_of(positions=8)
    assert few.atoms(double((long,)))[7:].shape[0] == 485
    changed = few(double(("C" * 20, "CC")))
    assert changed.isfinite().all()


def test_a_molecule_larger_than_the_padded_read_out_is_refused() -> None:
    with pytest.raises(ValueError, match="padded_readout is 10, but a molecule has 22 atoms"):
        model_of(padded_readout=10)(double(SMILES))


def test_graphs_without_charges_are_refused() -> None:
    with pytest.raises(ValueError, match="Gasteiger"):
        model_of()(replace(double(SMILES), atom_scalars=None))


@pytest.mark.parametrize("smiles", [("C",), ("[Ca+2]", "O"), ("[Na+].[Cl-]",)])
def test_molecules_without_bonds_are_read_and_trained_on(smiles: tuple[str, ...]) -> None:
    for settings in (SMALL, {**SMALL, "kernel": "softmax"}, {**SMALL, **RELEASED}):
        model, batch = model_of(**settings), double(smiles)
        out = model(batch)
        masked_bce(out, batch.y).backward()
        assert out.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_attention_rows_are_distributions_over_the_own_atoms() -> None:
    model, batch = model_of(heads=4), double(SMILES)
    real = torch.arange(batch.max_atoms) < batch.atom_ptr.diff()[:, None]
    for seen in model.attention(batch):
        total = seen.attention.sum(-1)
        torch.testing.assert_close(total, real[:, None].expand_as(total).double())
        assert (seen.attention * ~real[:, None, None]).abs().max() == 0


def test_extreme_scores_do_not_overflow() -> None:
    model, batch = model_of(), batch_of(SMILES)
    model.float()
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.self_attn.linears[0].weight.mul_(3e3)
    out = model(batch)
    masked_bce(out, batch.y).backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_gradients_pass_a_numerical_check() -> None:
    batch = double(("CC(=O)O", "C.C"))
    for settings in (
        {"hidden": 4, "heads": 2, "depth": 1},
        {"hidden": 4, "depth": 1, "norm": "scale", "kernel": "softmax"},
    ):
        model = model_of(**settings, positions=4)
        names = [name for name, _ in model.named_parameters()]

        def out(*values: Tensor, model: Model = model, names: list[str] = names) -> Tensor:
            return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (batch,))

        values = [p.detach().clone().requires_grad_() for p in model.parameters()]
        assert torch.autograd.gradcheck(out, values, fast_mode=True)


def test_dropout_changes_training_and_nothing_else() -> None:
    model, batch = model_of(dropout=0.3), double(SMILES)
    plain = model_of()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(batch), plain(batch), rtol=0, atol=0)
    model.train()
    torch.manual_seed(1)
    first, second = model(batch), model(batch)
    torch.manual_seed(1)
    assert torch.equal(first, model(batch))
    assert not torch.equal(first, second)


def test_equal_steps_give_equal_bits() -> None:
    batch = batch_of(SMILES)
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        model = Model(replace(Config(), **SMALL), 1)
        found.append(gradients(model, model(batch), batch.y))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_under_autocast_outputs_stay_close_and_every_parameter_learns() -> None:
    model, batch = model_of().float(), batch_of(SMILES)
    expected = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(batch)
        loss = masked_bce(out.float(), batch.y)
    loss.backward()
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_outputs_and_gradients() -> None:
    model, batch = model_of(), double(SMILES)
    mine = gradients(model, model(batch), batch.y)
    compiled = torch.compile(model)(batch)
    torch.testing.assert_close(compiled, model(batch), rtol=0, atol=1e-9)
    theirs = gradients(model, compiled, batch.y)
    for name, expected in mine.items():
        torch.testing.assert_close(theirs[name], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "settings",
    [{"kernel": "linear"}, {"norm": "batch"}, {"heads": 3}, {"depth": 0}, {"dropout": 1.0}, {"padded_readout": 0}],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is .* or |multiple|at least 1"):
        replace(Config(), **settings)


def test_a_data_sets_settings_are_the_authors() -> None:
    assert asdict(build_config("compt", dataset="esol"))["kernel"] == "softmax"
    assert build_config("compt", dataset="tox21").head_layers == 4
    assert build_config("compt", dataset="qm8") == Config()
