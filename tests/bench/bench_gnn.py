"""The graph networks against named peers: process CPU seconds on one thread, both sides in turn within one run.

Step: zero gradients, forward, masked loss, backward, fused Adam; batches of 64 in memory on both sides.
End to end: a whole epoch, batching included, on both sides from featurised molecules in memory.
Molecules that chemprop cannot read are left out on both sides, and counted.

Most of CMPNN's time is in its GRU, which reads every atom in order: the line below each of its rows says what ratio its
matrix products alone would give.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samcmp import backbones
from samcmp.data import cards, molecules
from samcmp.graphs.batch import Columns, GraphBatch
from samcmp.graphs.graphset import GraphSet
from samcmp.training.tasks import Criterion, Task
from tests.backbones import gnn_twins
from tests.bench.products import products
from tests.places import MIRROR

BATCH, COUNT, ROUNDS = 64, 8, 3
DATASETS = ("bbbp", "tox21")
Run = Callable[[], None]


def dataset(name: str) -> Any:
    return molecules.load(cards.find(name), source=MIRROR if MIRROR.is_dir() else None)


def graphs_of(name: str, features: str) -> tuple[GraphSet, Criterion]:
    found = dataset(name)
    task = Task(found.kind, found.metric, found.tasks)
    return GraphSet.load_or_build(found, Columns(features)), task.criterion


def some_positions(among: Tensor) -> tuple[Tensor, ...]:
    """Draw the positions of ``COUNT`` batches with a fixed seed."""
    order = among[torch.randperm(len(among), generator=torch.Generator().manual_seed(0))]
    return order[: BATCH * COUNT].split(BATCH)


def some_batches(graphs: GraphSet) -> list[GraphBatch]:
    return [graphs.batch(part) for part in some_positions(torch.arange(len(graphs)))]


def stepper(model: nn.Module, call: Callable[[Any], Tensor], inputs: list[tuple[Any, Tensor]], loss: Criterion) -> Run:
    """Return a function that takes one training step on the next of ``inputs``."""
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    turn = iter(_forever(inputs))

    def step() -> None:
        given, y = next(turn)
        adam.zero_grad(set_to_none=True)
        loss(call(given), y).backward()  # type: ignore[no-untyped-call]
        adam.step()

    return step


def _forever(items: list[Any]) -> Iterator[Any]:
    while True:
        yield from items


def compare(name: str, ours: Run, theirs: Run, *, graphs: int, blocks: tuple[int, int]) -> float:
    """Print graphs a CPU second of both, measured in turn; return their ratio. ``blocks`` are the calls in a turn."""
    ours(), theirs()
    spent = [0.0, 0.0]
    for _ in range(ROUNDS):
        for side, (run, calls) in enumerate(zip((ours, theirs), blocks, strict=True)):
            began = time.process_time()
            for _ in range(calls):
                run()
            spent[side] += (time.process_time() - began) / calls
    speed = [graphs * ROUNDS / seconds for seconds in spent]
    print(f"{name:52} {speed[0]:9.0f} {speed[1]:9.0f} {speed[0] / speed[1]:6.2f}x", flush=True)
    return speed[0] / speed[1]


def dmpnn_step(name: str) -> None:
    from chemprop.data import BatchMolGraph

    graphs, loss = graphs_of(name, "chemprop-v2")
    tasks = graphs.y.shape[1]
    read, left_out = read_by_chemprop(graphs)
    place = {int(position): k for k, position in enumerate(read)}
    chosen = some_positions(read)
    ready = [graphs.batch(part) for part in chosen]
    found = chemprop_dataset(graphs, read)
    theirs = [
        (BatchMolGraph([found[place[int(p)]].mg for p in part]), batch.y)
        for part, batch in zip(chosen, ready, strict=True)
    ]
    model = backbones.build(backbones.build_config("dmpnn", settings={"features": "chemprop-v2"}), tasks)
    peer, encode = chemprop_model(tasks)
    compare(
        f"D-MPNN step, {name}{left_out} | chemprop {chemprop_version()}",
        stepper(model, model, [(b, b.y) for b in ready], loss),
        stepper(peer, encode, theirs, loss),
        graphs=BATCH,
        blocks=(COUNT, COUNT // 2),
    )


def chemprop_version() -> str:
    from importlib.metadata import version

    return version("chemprop")


def chemprop_model(tasks: int) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    from chemprop.models import MPNN
    from chemprop.nn import BinaryClassificationFFN, BondMessagePassing, MeanAggregation

    peer = MPNN(BondMessagePassing(), MeanAggregation(), BinaryClassificationFFN(n_tasks=tasks))

    def encode(graph: Any) -> Tensor:
        out: Tensor = peer.predictor.train_step(peer.fingerprint(graph)).view(-1, tasks)
        return out

    return peer, encode


def read_by_chemprop(graphs: GraphSet) -> tuple[Tensor, str]:
    """Return the positions of the molecules that chemprop can read, and what to print of the others."""
    from chemprop.utils import make_mol
    from rdkit.rdBase import BlockLogs

    def reads(smiles: str) -> bool:
        try:
            make_mol(smiles)
        except RuntimeError:
            return False
        return True

    with BlockLogs():
        read = [k for k, smiles in enumerate(graphs.smiles) if reads(smiles)]
    left = len(graphs) - len(read)
    return torch.tensor(read), f" less {left} unread" if left else ""


def chemprop_dataset(graphs: GraphSet, read: Tensor) -> Any:
    from chemprop.data import MoleculeDatapoint, MoleculeDataset
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        points = [MoleculeDatapoint.from_smi(graphs.smiles[k], graphs.y[k].numpy()) for k in read.tolist()]
        found = MoleculeDataset(points)
        found.cache = True
    return found


def dmpnn_epoch(name: str) -> None:
    from chemprop.data import build_dataloader
    from lightning import pytorch as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # importing it sets its own level
    graphs, loss = graphs_of(name, "chemprop-v2")
    tasks = graphs.y.shape[1]
    model = backbones.build(backbones.build_config("dmpnn", settings={"features": "chemprop-v2"}), tasks)
    peer, _ = chemprop_model(tasks)
    read, left_out = read_by_chemprop(graphs)
    loader = build_dataloader(chemprop_dataset(graphs, read), batch_size=BATCH, num_workers=0, shuffle=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}

    def theirs() -> None:
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", enable_checkpointing=False, **quiet)
        trainer.fit(peer, loader)

    label = f"D-MPNN epoch, {name}{left_out} | chemprop's Trainer"
    compare(label, epoch_of(model, graphs, loss, among=read), theirs, graphs=len(read), blocks=(1, 1))


def epoch_of(model: nn.Module, graphs: GraphSet, loss: Criterion, *, among: Tensor | None = None) -> Run:
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    everything = torch.arange(len(graphs)) if among is None else among
    generator = torch.Generator().manual_seed(0)

    def epoch() -> None:
        for batch in graphs.batches(everything, BATCH, generator=generator):
            adam.zero_grad(set_to_none=True)
            loss(model(batch), batch.y).backward()  # type: ignore[no-untyped-call]
            adam.step()

    return epoch


def mpnn_step(name: str) -> None:
    graphs, loss = graphs_of(name, "chemprop-v1")
    tasks = graphs.y.shape[1]
    ready = some_batches(graphs)
    model = backbones.build(backbones.build_config("mpnn"), tasks)
    peer = gnn_twins.EdgeMatrixMPNN(tasks=tasks)
    compare(
        f"MPNN step, {name} | PyG's NNConv",
        stepper(model, model, [(b, b.y) for b in ready], loss),
        stepper(
            peer, lambda b: peer(b.x, b.edge_index, b.edge_attr, b.batch), [(b.to_pyg(), b.y) for b in ready], loss
        ),
        graphs=BATCH,
        blocks=(COUNT, 2),
    )


def cmpnn_step(name: str) -> None:
    graphs, loss = graphs_of(name, "chemprop-v1")
    tasks = graphs.y.shape[1]
    ready = some_batches(graphs)
    peer = gnn_twins.PaddedCMPNN(tasks=tasks)
    theirs = [(gnn_twins.padded(b), b.y) for b in ready]
    for read_out, settings in (("packed", {}), ("padded", {"padded": True})):
        model = backbones.build(backbones.build_config("cmpnn", settings=settings), tasks)
        mine = stepper(model, model, [(b, b.y) for b in ready], loss)
        label = f"CMPNN step, {read_out}, {name} | padded, by molecule"
        ratio = compare(label, mine, stepper(peer, peer, theirs, loss), graphs=BATCH, blocks=(COUNT, COUNT // 2))
        of_all = products(mine, calls=COUNT)
        print(f"  {of_all}; alone {ratio / of_all.share:.2f}x", flush=True)


def gcn_epoch(name: str) -> None:
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader

    graphs, loss = graphs_of(name, "chemprop-v1")
    tasks = graphs.y.shape[1]
    model = backbones.build(backbones.build_config("gcn"), tasks)
    peer = gnn_twins.PygGCN(tasks=tasks)
    items = []
    for batch in graphs.batches(torch.arange(len(graphs)), 1):
        items.append(Data(x=batch.atom_features, edge_index=batch.edge_index, y=batch.y))
    loader = DataLoader(items, batch_size=BATCH, shuffle=True)
    adam = torch.optim.Adam(peer.parameters(), lr=1e-4, fused=True)

    def theirs() -> None:
        for batch in loader:
            adam.zero_grad(set_to_none=True)
            loss(peer(batch.x, batch.edge_index, batch.batch), batch.y).backward()  # type: ignore[no-untyped-call]
            adam.step()

    label = f"GCN epoch, {name} | PyG's GCN and DataLoader"
    compare(label, epoch_of(model, graphs, loss), theirs, graphs=len(graphs), blocks=(1, 1))


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'ours | peer':52} {'graphs/s':>9} {'peer':>9} {'ratio':>7}")
    for run in (dmpnn_step, dmpnn_epoch, mpnn_step, cmpnn_step, gcn_epoch):
        for name in DATASETS:
            try:
                run(name)
            except ModuleNotFoundError as missing:
                print(f"{run.__name__:30} {name:13} n/a ({missing.name} is missing)")


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
