"""How widely a model's attention is spread: its entropy (Shannon 1948), in nats, and the map of one molecule.

Wang et al. (2024) show both in figure 10.

    H_i = -Σ_j A_ij ln A_ij, 0 ln 0 = 0        mean over atoms i, heads and layers, then over molecules

A is what ``model.attention(batch)`` returns: a list with, for each layer, A (G, h, L, L), or an object that has it as
``attention``; row i of a molecule sums to 1 over its n atoms, and what lies beyond n is padding. H_i is between 0, one
atom, and ln n, all atoms alike: over ln n, molecules of different size can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from samcmp.errors import UsageError
from samcmp.graphs.batch import GraphBatch
from samcmp.graphs.graphset import GraphSet
from samcmp.inspection import Context, Parts

if TYPE_CHECKING:
    from numpy.typing import NDArray


SUM = 1e-3  # a row's sum may be off by
Layers = Sequence[Tensor]  # A (G, h, L, L) of each layer


def measure(context: Context) -> Parts:
    """Measure the attention of a run's weights, and of those it began with, on the test molecules.

    Returns the scalars ``entropy`` and ``entropy_share`` (over ln n, of molecules with two atoms or more), both also
    with ``_initial``; the arrays ``entropy`` (M,) of the molecules, their ``atoms`` (M,) and ``rows`` (M,),
    ``by_layer`` (layers,), and one molecule's ``map`` (n, n), the last layer's mean over heads, with ``map_initial``,
    ``map_row`` (1,) and ``symbols`` (n,); there is no map where the row asked for is no test molecule of the split.
    Entropies are in nats. Costs two forward passes over the test molecules. Raises UsageError for a dataset of images,
    and ValueError where the model has no attention between atoms.
    """
    setup, graphs = context.setup, context.setup.dataset
    if not isinstance(graphs, GraphSet):
        raise UsageError(
            f"{setup.samples.holds} have no atoms", where="attention", remedy="Take a dataset of molecules."
        )
    model, test = context.model, [batch for batch in context.test if isinstance(batch, GraphBatch)]
    entropies, atoms, rows, by_layer = entropy(model, test)
    with torch.random.fork_rng([setup.device] if setup.device.type == "cuda" else []):
        initial = setup.new_model().eval()
    at_first, _, _, layers_at_first = entropy(initial, test)
    context.say(1, 2)
    arrays: dict[str, NDArray[Any]] = {
        "entropy": entropies, "entropy_initial": at_first, "atoms": atoms, "rows": rows,
        "by_layer": by_layer, "by_layer_initial": layers_at_first,
    }  # fmt: skip
    scalars, missing = {}, {}
    place = _chosen(atoms, rows, context.settings.row)
    if place is None:
        missing["map"] = f"row {context.settings.row} is no test molecule of this split"
    else:
        position = graphs.positions(rows[[place]])
        batch = graphs.batch(position)
        arrays |= {
            "map": heat_map(model, batch), "map_initial": heat_map(initial, batch), "map_row": rows[[place]],
            "symbols": _symbols(graphs.smiles[int(position)]),
        }  # fmt: skip
    for ending, values in (("", entropies), ("_initial", at_first)):
        for name, mean in (("entropy", _mean(values)), ("entropy_share", _mean(shares(values, atoms)))):
            if mean is None:
                missing[name + ending] = "attention is no finite number, or no molecule has two atoms"
            else:
                scalars[name + ending] = mean
    context.say(2, 2)
    return Parts(scalars, arrays, missing, 2 / 3)


def entropy(
    model: nn.Module, batches: Iterable[GraphBatch]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return each molecule's entropy (M,), its atoms (M,) and row (M,), and the mean entropy of every layer (l,).

    Raises ValueError where the model has no attention between atoms.
    """
    entropies, atoms, rows = [], [], []
    for batch in batches:
        size = batch.atom_ptr.diff()
        entropies.append(torch.stack([entropy_of_rows(A, size) for A in layers_of(model, batch)]).cpu())  # (l, G)
        atoms.append(size.cpu())
        rows.append(batch.rows.cpu())
    every = torch.cat(entropies, 1).numpy()  # (l, M)
    return every.mean(0), torch.cat(atoms).numpy(), torch.cat(rows).numpy(), every.mean(1)


def entropy_of_rows(A: Tensor, size: Tensor) -> Tensor:
    """Return (G,) the mean over heads and a molecule's own atoms of the entropy of A's rows, in nats, float64.

    Shapes: A (G, h, L, L), size (G,); what lies beyond a molecule's atoms is not read. Raises ValueError where a row of
    finite numbers does not sum to 1.
    """
    own = torch.arange(A.shape[-1], device=A.device) < size.to(A.device)[:, None]  # (G, L)
    pairs = (own[:, None, :, None] & own[:, None, None, :]).expand_as(A)
    P = A.double().where(pairs, torch.zeros((), dtype=torch.float64, device=A.device))
    strays = (P.sum(-1) - own[:, None, :].double()).abs()
    if bool((strays > SUM).any()):
        raise ValueError("the rows of its attention do not sum to 1 over the atoms of a molecule")
    mean: Tensor = torch.special.entr(P).sum((1, 2, 3)) / (A.shape[1] * size.to(A.device))
    return mean


def layers_of(model: nn.Module, batch: GraphBatch) -> Layers:
    """Return A (G, h, L, L) of every layer. Raises ValueError where the model has no attention between atoms."""
    made: Any = getattr(model, "attention", None)
    problem = "it has no method attention(batch)"
    if callable(made):
        try:
            with torch.no_grad():
                layers = [getattr(layer, "attention", layer) for layer in made(batch)]
        except (TypeError, ValueError) as error:
            layers, problem = [], str(error)
        shape = (batch.num_graphs, batch.max_atoms, batch.max_atoms)
        if layers and all(isinstance(A, Tensor) and A.dim() == 4 and A[:, 0].shape == shape for A in layers):
            return layers
        if layers:
            problem = "what its method returns is no list of (G, heads, L, L)"
    raise ValueError(f"the model has no attention between atoms: {problem}")


def heat_map(model: nn.Module, batch: GraphBatch) -> NDArray[np.float64]:
    """Return (n, n) of a batch of one molecule: the last layer's attention, mean over heads; a row sums to 1."""
    made: NDArray[np.float64] = layers_of(model, batch)[-1][0].double().mean(0).cpu().numpy()
    return made


def shares(entropies: NDArray[np.float64], atoms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the entropies (M,) over ln n of the ``atoms`` (M,), 0 to 1, for the molecules with two atoms or more."""
    several = atoms > 1
    made: NDArray[np.float64] = entropies[several] / np.log(atoms[several])
    return made


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) and np.isfinite(values).all() else None


def _chosen(atoms: NDArray[np.int64], rows: NDArray[np.int64], row: int | None) -> int | None:
    """The place of the molecule to draw: the one asked for, if it is here, or the one of median size."""
    if row is None:
        order = np.lexsort((rows, atoms))
        return int(order[(len(order) - 1) // 2])
    at = np.flatnonzero(rows == row)
    return int(at[0]) if len(at) else None


def _symbols(smiles: str) -> NDArray[np.str_]:
    """The elements of a molecule's atoms, in the order of the SMILES."""
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles)
    return np.array([atom.GetSymbol() for atom in molecule.GetAtoms()], dtype=np.str_)
