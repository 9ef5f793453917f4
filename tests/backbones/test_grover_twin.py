"""GROVER, its networks together and equal surroundings once, against the plain formulation, for every switch."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from samcmp.backbones import surroundings
from samcmp.backbones.grover import Config, Model
from samcmp.backbones.layers import reverse
from samcmp.graphs.batch import GraphBatch
from tests.backbones.grover_twin import Tables, Twin

SETTINGS: dict[str, dict[str, Any]] = {
    "released size": {"hidden": 20},
    "padding row": {"hidden": 20, "padding_row": True, "bias": True},
    "deep, learned slopes, biases": {"hidden": 16, "depth": 6, "activation": "prelu", "bias": True},
    "two blocks": {"hidden": 16, "blocks": 2, "activation": "leaky_relu"},
    "two blocks, padding row": {"hidden": 16, "blocks": 2, "activation": "prelu", "padding_row": True},
    "read-out attention, three layers": {"self_attention": True, "attention_out": 3, "ffn_layers": 3, "hidden": 16},
    "no inlet in the node view": {"hidden": 151, "heads": 1},
    "no inlet in the edge view": {"hidden": 165, "heads": 5},
    "one layer of head": {"hidden": 16, "ffn_layers": 1, "activation": "elu"},
    "smooth": {"hidden": 16, "activation": "tanh"},
    "selu": {"hidden": 16, "activation": "selu", "bias": True},
    "extra features": {"hidden": 16, "molecule_features": "rdkit2d", "molecule_width": 7, "activation": "prelu"},
}


def random_batch(*, molecules: int = 7, seed: int = 0, kinds: int = 5) -> GraphBatch:
    """Trees and rings with a few kinds of atom, so that many surroundings are equal; the first has no bond."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [1, *torch.randint(2, 12, (molecules - 1,), generator=generator).tolist()]
    pairs, bonds_of, offset = [], [], 0
    for size in sizes:
        edges = [(int(torch.randint(0, i, (1,), generator=generator)), i) for i in range(1, size)]
        if size > 4:
            edges.append((0, size - 1) if (0, size - 1) not in edges else (1, size - 1))
        edges = sorted(set(edges))
        pairs += [(offset + i, offset + j) for i, j in edges]
        bonds_of.append(2 * len(edges))
        offset += size
    undirected = torch.tensor(pairs)
    edge_index = torch.stack([undirected, undirected.flip(1)], 1).view(-1, 2).t().contiguous()
    return GraphBatch(
        atom_kind=torch.randint(0, kinds, (offset,), generator=generator),
        atom_table=torch.randn(kinds, 151, generator=generator, dtype=torch.float64),
        edge_index=edge_index,
        bond_kind=torch.randint(0, 2, (len(pairs),), generator=generator),
        bond_table=torch.randn(2, 14, generator=generator, dtype=torch.float64),
        graph_of_atom=torch.repeat_interleave(torch.arange(molecules), torch.tensor(sizes)),
        atom_ptr=torch.tensor([0, *sizes]).cumsum(0),
        bond_ptr=torch.tensor([0, *bonds_of]).cumsum(0),
        y=torch.zeros(molecules, 2, dtype=torch.float64),
        rows=torch.arange(molecules),
        max_atoms=max(sizes),
        molecule_features=torch.randn(molecules, 7, generator=generator, dtype=torch.float64),
    )


def model_of(settings: dict[str, Any]) -> Model:
    torch.manual_seed(1)
    model = Model(Config(**settings), 2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def outputs_and_gradients(heads: tuple[Tensor, Tensor]) -> Tensor:
    p, q = heads
    (p.sin().sum() + q.cos().sum()).backward()
    return torch.cat([p, q]).detach()


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("name", SETTINGS)
def test_outputs_and_gradients_equal_the_plain_formulation(name: str, once: bool) -> None:
    settings, batch = SETTINGS[name], random_batch()
    model = model_of(settings).train()
    if not model.config.molecule_features:
        from dataclasses import replace

        batch = replace(batch, molecule_features=None)
    state = {k: v.detach().clone().requires_grad_() for k, v in model.state_dict().items()}
    torch.manual_seed(5)
    depths = model.draw_depths()
    assert min(min(block) for view in depths for block in view) < max(max(block) for view in depths for block in view)
    expected = outputs_and_gradients(Twin(model.config, state).heads(batch, Tables.of(batch), depths=depths))
    with mock.patch.object(surroundings, "apply", return_value=once):
        found = outputs_and_gradients(model.heads(batch, depths=depths))
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-10)
    for key, parameter in model.named_parameters():
        wanted = state[key].grad
        wanted = torch.zeros_like(parameter) if wanted is None else wanted
        got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(got, wanted, atol=1e-11, rtol=1e-9, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("of_bonds", [False, True])
def test_on_a_cpu_equal_surroundings_are_one_row_where_no_dropout_tells_them_apart(of_bonds: bool) -> None:
    batch = random_batch()
    rows = batch.num_bonds if of_bonds else batch.num_atoms

    def rows_of(model: Model) -> int:
        seen: list[int] = []
        encoder: Any = model.grover["encoders"]
        [block] = encoder.blocks(of_bonds=of_bonds)
        block.sublayer["norm"].register_forward_hook(lambda module, given, out: seen.append(len(out)))
        model(batch)
        return seen[0]

    assert rows_of(model_of(SETTINGS["released size"]).train()) < rows
    with_dropout = {"hidden": 20, "dropout": 0.1}
    assert rows_of(model_of(with_dropout).train()) == rows
    assert rows_of(model_of(with_dropout).eval()) < rows


@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_training_with_random_depths_compiles_whole_and_draws_the_same(activation: str) -> None:
    batch = random_batch()
    model = model_of({"hidden": 16, "activation": activation, "bias": True}).train()
    found = []
    for loss in (model.loss, torch.compile(model.loss, fullgraph=True, backend="aot_eager")):
        for seed in (3, 4):
            torch.manual_seed(seed)
            model.zero_grad()
            value = loss(batch, mse_loss)
            value.backward()
            found.append([value.detach(), *(p.grad for p in model.parameters())])
    torch._dynamo.reset()
    assert not torch.equal(found[0][0], found[1][0])
    for one, other in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)


def test_gradients_of_the_whole_model_equal_finite_differences() -> None:
    batch = random_batch(molecules=3)
    model = model_of({"hidden": 8, "heads": 2, "activation": "prelu", "ffn_hidden": 4, "random_depth": False})
    named = dict(model.named_parameters())
    names = [
        f"grover.encoders.{name}.weight"
        for name in ("edge_blocks.0.heads.0.mpn_q.W_h", "node_blocks.0.heads.1.mpn_k.act_func")
    ]

    def f(*values: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(model, {**named, **dict(zip(names, values, strict=True))}, (batch,))
        return out

    assert torch.autograd.gradcheck(f, [named[name] for name in names], fast_mode=True)


def test_a_seed_gives_the_same_bits_twice() -> None:
    batch, bits = random_batch(), []
    for _ in range(2):
        model = model_of({"hidden": 16, "dropout": 0.2, "activation": "prelu"}).train()
        torch.manual_seed(9)
        bits.append(outputs_and_gradients(model.heads(batch)))
    assert torch.equal(*bits)


def test_slopes_of_several_networks_are_torchs_with_their_gradients_and_at_zero_too() -> None:
    block: Any = model_of({"hidden": 8, "heads": 2, "activation": "prelu"}).grover["encoders"].blocks(of_bonds=False)[0]  # type: ignore[operator]
    x = torch.cat([torch.linspace(-3, 3, 13, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)])
    x = x.expand(2, 1, 15).clone().requires_grad_()
    slopes = torch.tensor([0.3, -0.2], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    ours = block.activated(x, slopes)
    theirs = torch.stack([torch.nn.functional.prelu(one, slope.view(1)) for one, slope in zip(x, slopes, strict=True)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    weight = torch.linspace(-1, 2, 30, dtype=torch.float64).view_as(x)
    for one, other in zip(*(torch.autograd.grad((y * weight).sum(), (x, slopes)) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-15)


def test_reverse_exchanges_each_bond_with_its_reverse() -> None:
    m = torch.arange(12.0).view(6, 2)
    assert torch.equal(reverse(m), m[[1, 0, 3, 2, 5, 4]])
    assert reverse(m[:0]).shape == (0, 2)
