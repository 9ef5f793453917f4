"""The cache of a dataset's graphs, and the worker processes that fill it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samcmp.data.molecules import Molecules
from samcmp.errors import DataError, SamcmpError
from samcmp.graphs import cachefile, chunks, featurize, graphstore
from samcmp.graphs.batch import Columns, MolGraph
from samcmp.graphs.graphset import GraphSet

COLUMNS = Columns("compt", "compt", scalars=("gasteiger",))
ROOT = Path(__file__).resolve().parents[2]


def made(smiles: tuple[str, ...] = ("CCO", "c1ccccc1", "[Na+].[Cl-]"), name: str = "made") -> Molecules:
    return Molecules(
        name=name,
        rows=np.arange(len(smiles), dtype=np.int64),
        smiles=smiles,
        y=np.zeros((len(smiles), 1)),
        tasks=("a",),
        kind="regression",
        metric="rmse",
        dataset_hash="",
    )


def lengths(graph: MolGraph) -> dict[str, Any]:
    return {"length": np.array([len(graph.atoms)])}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMCMP_CACHE", str(tmp_path))
    return tmp_path / "graphs"


@pytest.fixture
def featurised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of molecules of each featurisation that was done."""
    calls: list[int] = []
    original = graphstore.build

    def counted(molecules: Molecules, *rest: Any, **options: Any) -> graphstore.GraphArrays:
        calls.append(len(molecules))
        return original(molecules, *rest, **options)

    monkeypatch.setattr(graphstore, "build", counted)
    return calls


def content(graphs: GraphSet) -> list[np.ndarray]:
    return graphs.arrays()


def same(a: GraphSet, b: GraphSet) -> bool:
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(content(a), content(b), strict=True))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def test_the_second_load_reads_the_file_and_gives_the_same_arrays(folder: Path, featurised: list[int]) -> None:
    first = GraphSet.load_or_build(made(), COLUMNS, prepare=lengths)
    second = GraphSet.load_or_build(made(), COLUMNS, prepare=lengths)
    assert same(first, second)
    assert same(first, GraphSet.load_or_build(made(), COLUMNS, prepare=lengths, cache=False))
    assert featurised == [3, 3]  # the first load, and the one without a cache
    assert len(files(folder)) == 2  # graphs and what prepare made


def test_only_what_decides_the_content_makes_a_new_file(
    folder: Path, featurised: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    GraphSet.load_or_build(made(), COLUMNS)
    other_labels = replace(made(), y=np.ones((3, 1)))
    GraphSet.load_or_build(other_labels, replace(COLUMNS, atoms="grover"))  # the same codes serve every column set
    assert len(featurised) == 1
    GraphSet.load_or_build(made(), replace(COLUMNS, scalars=()))
    GraphSet.load_or_build(made(("CCO", "C", "N")), COLUMNS)
    monkeypatch.setattr(graphstore, "VERSION", "another")
    GraphSet.load_or_build(made(), COLUMNS)
    monkeypatch.setattr("rdkit.__version__", "another")
    GraphSet.load_or_build(made(), COLUMNS)
    assert len(featurised) == len(files(folder)) == 5


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b[:5], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_file_is_made_anew_and_that_is_said_once(
    folder: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    first = GraphSet.load_or_build(made(), COLUMNS)
    (path,) = files(folder)
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING, logger="samcmp"):
        assert same(first, GraphSet.load_or_build(made(), COLUMNS))
        assert same(first, GraphSet.load_or_build(made(), COLUMNS))
    assert len(caplog.records) == 1
    assert path.name in caplog.text
    assert "made anew" in caplog.text


def rewritten(arrays: dict[str, np.ndarray], how: str, *, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Change one array as a fault or a hand would: any that can be read and fits where it stood."""
    name = sorted(arrays)[generator.integers(len(arrays))]
    array = arrays[name]
    changed = {
        "zeroed": lambda: np.where(array == 0, 1, 0).astype(array.dtype),
        "reversed": lambda: np.ascontiguousarray(array.ravel()[::-1].reshape(array.shape)) + array.dtype.type(1),
        "flat": lambda: array.reshape(1, -1),
        "longer": lambda: np.concatenate([array, array]) if array.ndim else array,
        "another type": lambda: array.astype(np.float64),
        "empty": lambda: array[:0],
    }[how]
    return {**arrays, name: changed()}


@pytest.mark.parametrize("how", ["zeroed", "reversed", "flat", "longer", "another type", "empty"])
@pytest.mark.parametrize("seed", range(4))
def test_arrays_that_were_changed_are_made_anew_and_that_is_said(
    folder: Path, how: str, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.numpy import load_file, save_file

    first = GraphSet.load_or_build(made(), COLUMNS, prepare=lengths)
    for path in files(folder):
        before = load_file(path)
        save_file(rewritten(before, how, generator=np.random.default_rng(seed)), path)
    with caplog.at_level(logging.WARNING, logger="samcmp"):
        assert same(GraphSet.load_or_build(made(), COLUMNS, prepare=lengths), first)
    assert len([r for r in caplog.records if "is damaged" in r.getMessage()]) == len(files(folder)) == 2


def test_a_file_with_any_bit_flipped_gives_the_same_arrays(folder: Path) -> None:
    first = GraphSet.load_or_build(made(), COLUMNS, prepare=lengths)
    path = max(files(folder), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    for i in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1 :])
        assert same(GraphSet.load_or_build(made(), COLUMNS, prepare=lengths), first)


def test_loaded_arrays_are_maps_of_the_file_and_writing_to_them_leaves_it_alone(folder: Path) -> None:
    GraphSet.load_or_build(made(), COLUMNS)
    (path,) = files(folder)
    before = path.read_bytes()
    arrays = cachefile.read(path)
    assert arrays is not None
    arrays["atom_kind"][:] = 0
    assert path.read_bytes() == before


def test_an_interrupted_write_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()

    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(KeyboardInterrupt):
        cachefile.write(folder / "x.safetensors", {"a": np.zeros(3)})
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    monkeypatch.setenv("SAMCMP_CACHE", str(in_the_way))
    with caplog.at_level(logging.WARNING, logger="samcmp"):
        assert len(GraphSet.load_or_build(made(), COLUMNS)) == 3
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("name", ["../../escape", "a/b", "C:\\x", "", ".", "\0", "<script>"])
def test_a_name_from_a_file_never_leaves_the_cache_folder(name: str, folder: Path) -> None:
    path = cachefile.path_for(folder, name, decides=1)
    assert path.parent == folder
    assert path.resolve().parent == folder.resolve()


def test_what_prepare_makes_is_cached_until_its_code_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "own_prepare.py"
    text = "import numpy as np\ndef prepare(graph):\n    return {'x': np.full(len(graph.atoms), VALUE)}\n"
    monkeypatch.syspath_prepend(str(tmp_path))
    for value in (1, 2):
        source.write_text(text.replace("VALUE", str(value)))
        sys.modules.pop("own_prepare", None)
        (tmp_path / "__pycache__").exists() and [p.unlink() for p in (tmp_path / "__pycache__").iterdir()]
        import own_prepare  # type: ignore[import-not-found]

        for _ in range(2):
            graphs = GraphSet.load_or_build(made(), Columns("chemprop-v1"), prepare=own_prepare.prepare)
            assert graphs.batch(torch.tensor([2, 0])).extras["x"].tolist() == [value] * 5


def closing_over(value: int) -> Callable[[MolGraph], dict[str, Any]]:
    return lambda graph: {"x": np.array([value])}


def with_default(value: int) -> Callable[[MolGraph], dict[str, Any]]:
    def prepare(graph: MolGraph, value: int = value) -> dict[str, Any]:
        return {"x": np.array([value])}

    return prepare


@pytest.mark.parametrize("make", [closing_over, with_default])
def test_a_prepare_that_carries_values_is_not_cached(
    make: Callable[[int], Callable[[MolGraph], dict[str, Any]]], folder: Path
) -> None:
    for value in (1, 2):
        graphs = GraphSet.load_or_build(made(), Columns("chemprop-v1"), prepare=make(value))
        assert graphs.batch(torch.tensor([0])).extras["x"].tolist() == [value]


def test_descriptors_are_computed_once_and_ride_along(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from samcmp.graphs import descriptors

    expected = descriptors.compute("rdkit2d", made().smiles)
    columns = Columns("grover", molecule="rdkit2d")
    GraphSet.load_or_build(made(), columns)
    monkeypatch.setattr(descriptors, "compute", lambda *_, **__: pytest.fail("computed again"))
    batch = GraphSet.load_or_build(made(), columns).batch(torch.tensor([2, 0]))
    assert batch.molecule_features is not None
    assert np.array_equal(batch.molecule_features.numpy(), expected[[2, 0]])


def test_two_processes_that_build_one_cache_at_once_both_succeed(folder: Path) -> None:
    program = (
        "import numpy as np; from samcmp.data import cards, molecules; from samcmp.graphs.batch import Columns\n"
        "from samcmp.graphs.graphset import GraphSet\n"
        "graphs = GraphSet.load_or_build(molecules.load(cards.find('demo')), Columns('grover'))\n"
        "print(len(graphs), sum(int(a.sum()) for a in graphs.arrays()[:4]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]
    assert said[0].startswith("1128 ")
    assert len(files(folder)) == 1


def test_worker_processes_make_the_same_arrays_and_report_progress() -> None:
    smiles = made().smiles * 40
    options = {"scalars": ["gasteiger"]}
    calls: list[tuple[str, int, int | None]] = []
    found = [
        chunks.work(
            "samcmp.graphs.featurize:chunk",
            smiles,
            rows=range(len(smiles)),
            options=options,
            seconds_each=0.02,
            label="molecules",
            progress=lambda *call: calls.append(call),
            workers=workers,
        )
        for workers in (1, 2)
    ]
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    assert np.array_equal(found[0]["atoms"], featurize.featurize_many(smiles).atoms)
    assert calls[-1] == ("molecules", 120, 120)
    assert [done for _, done, _ in calls] == [25, 50, 75, 100, 120] * 2


def test_a_worker_names_the_row_of_a_smiles_that_cannot_be_read() -> None:
    with pytest.raises(DataError, match="C1CC") as caught:
        chunks.work(
            "samcmp.graphs.featurize:chunk",
            ["C", "C", "C1CC", "C"],
            rows=[3, 5, 7, 9],
            options={"scalars": []},
            seconds_each=0.5,
            label="molecules",
            workers=2,
        )
    assert caught.value.where == "row 7"


def test_a_worker_that_dies_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(SamcmpError, match="ended with code"):
        chunks.work("os:abort", ["C", "C"], rows=[0, 1], options={}, seconds_each=0.5, label="molecules", workers=2)
