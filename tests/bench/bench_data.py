"""Featurising, loading a cache and cutting batches, each beside the public tool that does the same.

Run ``python tests/bench/bench_data.py``. Every figure is per second of process CPU time on one thread, and every ratio
compares two figures of this one run. Tox21 is read from the mirror where it is at hand, else ``demo-large`` is used.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from samcmp.data import cards, molecules
from samcmp.errors import SamcmpError
from samcmp.graphs import graphstore
from samcmp.graphs.batch import Columns
from samcmp.graphs.columns import ATOM_COLUMNS, BOND_COLUMNS, expand_atoms, expand_bonds
from samcmp.graphs.graphset import GraphSet

ROUNDS = 5

Row = tuple[str, str, str, str]


def rates(jobs: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Return things done per CPU second of each job: the best of ROUNDS, the jobs taking turns."""
    best = dict.fromkeys(jobs, 0.0)
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            gc.collect()
            start = time.process_time()
            done = job()
            best[name] = max(best[name], done / (time.process_time() - start))
    return best


def dataset() -> molecules.Molecules:
    try:
        return molecules.load(cards.find("tox21"))
    except SamcmpError as error:
        print(f"tox21 is not at hand ({error.what}); demo-large instead", file=sys.stderr)
        return molecules.load(cards.find("demo-large"))


def featurising(data: molecules.Molecules) -> Iterator[Row]:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        kept = [i for i, text in enumerate(data.smiles) if Chem.MolFromSmiles(text) is not None]
    chosen = [data.smiles[i] for i in kept]  # all three tools read these
    data = replace(data, smiles=tuple(chosen), rows=data.rows[kept], y=data.y[kept])

    def ours(scalars: tuple[str, ...]) -> Callable[[], int]:
        def job() -> int:
            made = graphstore.build(data, scalars)
            for name in ATOM_COLUMNS:
                expand_atoms(made.atom_codes, name)
            for name in BOND_COLUMNS:
                expand_bonds(made.bond_codes, name)
            return len(chosen)

        return job

    def parse_only() -> int:
        for text in chosen:
            Chem.MolFromSmiles(text)
        return len(chosen)

    jobs = {
        "all columns, Gasteiger too": ours(("gasteiger",)),
        "all columns but Gasteiger": ours(()),
        "RDKit parsing alone": parse_only,
    }
    peers: dict[str, Callable[[], int] | None] = {
        "torch-geometric from_smiles": pyg_featuriser(chosen),
        "chemprop SimpleMolecule...": chemprop_featuriser(chosen),
    }
    with BlockLogs():
        found = rates(jobs | {name: job for name, job in peers.items() if job is not None})
    for name in jobs:
        for peer in peers:
            against = f"{peer} {found[peer]:,.0f}" if peer in found else f"{peer} n/a (package missing)"
            ratio = f"{found[name] / found[peer]:.2f}" if peer in found else "n/a"
            yield f"featurise: {name}", f"{found[name]:,.0f} mol/s", against, ratio


def pyg_featuriser(smiles: list[str]) -> Callable[[], int]:
    from torch_geometric.utils import from_smiles

    def job() -> int:
        for text in smiles:
            from_smiles(text)
        return len(smiles)

    return job


def chemprop_featuriser(smiles: list[str]) -> Callable[[], int] | None:
    try:
        from chemprop.featurizers import SimpleMoleculeMolGraphFeaturizer
    except ImportError:
        return None
    from rdkit import Chem

    featurizer = SimpleMoleculeMolGraphFeaturizer()

    def job() -> int:
        for text in smiles:
            featurizer(Chem.MolFromSmiles(text))
        return len(smiles)

    return job


def loading(data: molecules.Molecules) -> Iterator[Row]:
    """Time the load in a fresh process, and how much its memory grows when every array has been read once."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"SAMCMP_CACHE": folder, "PYTHONPATH": os.pathsep.join(sys.path)}
        program = [sys.executable, __file__, "--load", data.name]
        if cards.find(data.name).data is None:
            environment["SAMCMP_MIRROR"] = str(cached_file(data.name))
        subprocess.run(program, env=environment, check=True, capture_output=True)
        out = subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout
    milliseconds, grown, size = (float(word) for word in out.split())
    yield "load a cached set", f"{milliseconds:.1f} ms", "bar 50 ms", f"{50 / milliseconds:.1f}"
    yield "memory grows by", f"{grown:.2f} MiB", f"the arrays {size:.2f} MiB", f"{grown / size:.2f}"


def cached_file(name: str) -> Any:
    from samcmp.data import fetch

    return fetch.ensure(cards.find(name)).parent


def load_once(name: str) -> None:
    """Print what :func:`loading` wants: milliseconds, MiB grown, MiB of the arrays."""
    import psutil

    data = molecules.load(cards.find(name))
    columns = Columns("chemprop-v1")
    for array in GraphSet.load_or_build(molecules.load(cards.find("demo")), columns).arrays():
        array.sum()  # bring in the code that loading and reading need, which is no part of the set's memory
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    start = time.perf_counter()
    graphs = GraphSet.load_or_build(data, columns)
    seconds = time.perf_counter() - start
    size = sum(array.nbytes for array in graphs.arrays())
    for array in graphs.arrays():
        array.sum()
    grown = process.memory_info().rss - before
    for _ in range(4):  # other programs on the machine can only make a load slower
        start = time.perf_counter()
        GraphSet.load_or_build(data, columns)
        seconds = min(seconds, time.perf_counter() - start)
    print(seconds * 1e3, grown / 2**20, size / 2**20)


def batching(graphs: GraphSet) -> Iterator[Row]:
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader

    everything = [graphs[i] for i in range(len(graphs))]
    listed = [Data(x=one.x, edge_index=one.edge_index, edge_attr=one.edge_attr, y=one.y) for one in everything]
    positions = torch.arange(len(graphs))

    for size in (32, 256):
        limit = len(listed) if size == 256 else 100 * size

        def pyg(size: int = size, limit: int = limit) -> int:
            return sum(1 for _ in DataLoader(listed[:limit], batch_size=size, shuffle=True))

        def ours(size: int = size, limit: int = limit, use: Callable[[Any], object] = lambda batch: None) -> int:
            generator = torch.Generator().manual_seed(0)
            done = 0
            for batch in graphs.batches(positions[:limit], size, generator=generator):
                use(batch)
                done += 1
            return done

        def floats(batch: Any) -> object:
            return batch.atom_features, batch.directed_bond_features

        def floats_once(batch: Any) -> object:
            return batch.atom_features, batch.bond_features

        found = rates(
            {
                "kinds and tables": ours,
                "float32 atoms and bonds": lambda ours=ours: ours(use=floats_once),
                "float32 atoms and directed bonds": lambda ours=ours: ours(use=floats),
                "pyg": pyg,
            }
        )
        peer = found.pop("pyg")
        for name, rate in found.items():
            against = f"PyG DataLoader over a list {peer:,.0f}"
            yield f"batches of {size}: {name}", f"{rate:,.0f} /s", against, f"{rate / peer:.1f}"


def main() -> None:
    torch.set_num_threads(1)
    data = dataset()
    rows: list[Row] = [("what", "figure", "beside", "ratio")]
    rows += featurising(data)
    rows += loading(data)
    rows += batching(GraphSet.load_or_build(data, Columns("chemprop-v1"), cache=False))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    print(f"{data.name}: {len(data):,} molecules, one thread, best of {ROUNDS} rounds, CPU time")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        load_once(sys.argv[2])
    else:
        main()
