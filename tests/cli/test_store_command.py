"""A store looked after: what is listed, what goes, and above all what stays."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from samcmp.experiment import upkeep
from samcmp.experiment.store import Store
from samcmp.records import Record
from tests.commands import Run
from tests.report.made import cell

NOW = datetime.datetime.now(datetime.UTC)


def filled(*, days: float = 0.0, dataset: str = "demo", status: str = "ok") -> list[Record]:
    """Fill ``.samcmp`` with a comparison made ``days`` ago; every run has its predictions."""
    store = Store(Path(".samcmp"))
    made = (NOW - datetime.timedelta(days=days)).isoformat(timespec="seconds")
    records = [
        dataclasses.replace(r, status=status, reason="it was so", created=made)  # type: ignore[arg-type]
        for r in cell(dataset=dataset)
    ]
    for record in records:
        store.add(record)
        if record.case.kind == "train":
            store.add_predictions(record.key, rows=np.arange(3), truth=np.ones((3, 1)), prediction=np.ones((3, 1)))
            os.utime(store.path(record.key))  # a run writes its Record last
    return records


def keys() -> set[str]:
    return {record.key for record in Store(Path(".samcmp")).records()}


def files() -> set[Path]:
    return {path for path in Path(".samcmp").rglob("*") if path.is_file()}


def test_the_list_counts_what_the_store_holds(run: Run) -> None:
    records = filled() + filled(dataset="esol", days=10)
    code, out, _ = run("store", "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert {(row["dataset"], row["optimizer"]) for row in rows} == {(r.case.dataset, r.case.optimizer) for r in records}
    assert sum(row["runs"] + row["profiles"] for row in rows) == len(records)
    assert sum(row["bytes"] for row in rows) == sum(path.stat().st_size for path in files())
    assert run("store", "list", "-d", "esol", "-o", "sam")[1].count("esol") == 1
    assert "10 d" in run("store", "list", "-d", "esol")[1]


def test_the_size_tells_records_predictions_and_foreign_files_apart(run: Run) -> None:
    filled()
    Path(".samcmp/notes.txt").write_text("12345")
    found = json.loads(run("store", "size", "--format", "json")[1])
    assert found["bytes"]["others"] == 5
    assert sum(found["bytes"].values()) == sum(path.stat().st_size for path in files())
    assert "1 file that samcmp does not recognise: 5 B" in run("store", "size")[1]


@pytest.mark.parametrize(
    ("words", "stays"),
    [
        (("--older-than", "30d"), {"demo", "failed"}),
        (("--failed",), {"demo", "esol"}),
        (("-d", "demo"), {"esol", "failed"}),
        (("--suite", "smoke"), {"demo", "failed"}),  # of esol
        (("-d", "esol", "--older-than", "90d"), {"demo", "esol", "failed"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_prune_removes_what_its_options_name_together_and_nothing_else(
    run: Run, words: tuple[str, ...], stays: set[str]
) -> None:
    sets = {"demo": filled(), "esol": filled(dataset="esol", days=60), "failed": filled(dataset="lipo", status="error")}
    before = files()
    code, said, _ = run("store", "prune", *words, "--dry-run")
    assert code == 0
    assert files() == before
    code, out, _ = run("store", "prune", *words)
    assert code == 0
    assert keys() == {record.key for name in stays for record in sets[name]}
    gone = {record.key for name in sets.keys() - stays for record in sets[name]}
    assert {key[:16] for key in gone} == {line.split()[0] for line in said.splitlines()[:-1]}
    assert f"{len(gone)} results" in out
    left = {path.stem for path in files()}
    assert not left & gone  # predictions, too


def test_prune_wants_to_be_told_what_goes(run: Run) -> None:
    filled()
    before = files()
    for words in (("store", "prune"), ("store", "prune", "--older-than", "old"), ("store", "clean")):
        assert run(*words)[0] == 2
    assert run("store", "list", "--dry-run")[0] == 2
    assert run("store", "--store", "nowhere")[0] == 2
    assert files() == before


def test_what_is_not_recognised_stays(run: Run) -> None:
    record = filled(days=60)[0]
    folder = Path(".samcmp/records")
    strange = {
        folder / "notes.txt": "mine",
        folder / "ab" / "my.json": "{}",
        folder / "ab" / f"{'ab' * 32}.json": "{damaged",
        folder / "ab" / f"{'ac' * 32}.json.bak": "x",
        Path(".samcmp") / f"{'ad' * 32}.json": "x",
        Path(".samcmp/models/best.safetensors"): "x",
    }
    for path, text in strange.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (0, 0))
    Path("elsewhere.json").write_bytes(Store(Path(".samcmp")).path(record.key).read_bytes())
    Store(Path(".samcmp")).path(record.key).unlink()
    Store(Path(".samcmp")).path(record.key).symlink_to(Path("elsewhere.json").resolve())
    code, _, err = run("store", "prune", "--older-than", "1d", "--leftovers")
    assert code == 0
    assert all(path.read_text() == text for path, text in strange.items())
    assert Path("elsewhere.json").exists()
    assert Store(Path(".samcmp")).path(record.key).is_symlink()
    assert "left alone, damaged" in err


def test_leftovers_of_killed_processes_go_once_no_run_can_still_need_them(run: Run) -> None:
    filled()
    shelf = Path(".samcmp/predictions/ab")
    shelf.mkdir(parents=True, exist_ok=True)
    old, new = shelf / f"{'ab' * 32}.npz", shelf / f"{'ab' * 31}cd.npz"
    part = Path(".samcmp/records/ab/.samcmp-0123456789ab.part")
    part.parent.mkdir(exist_ok=True)
    for path in (old, new, part):
        path.write_bytes(b"x")
    for path in (old, part):
        os.utime(path, (time.time() - 2 * upkeep.SETTLED_SECONDS,) * 2)
    before = keys()
    code, out, _ = run("store", "prune", "--leftovers")
    assert code == 0
    assert "2 leftovers went" in out
    assert not old.exists()
    assert not part.exists()
    assert new.exists()
    assert keys() == before


def test_what_another_process_has_written_meanwhile_stays(in_empty_folder: Path) -> None:
    first, second, third, *_ = [r for r in filled(status="error") if r.case.kind == "train"]
    store = Store(Path(".samcmp"))
    entries = {entry.record.key: entry for entry in upkeep.survey(store).entries}
    again = dataclasses.replace(first, status="ok", reason="")
    store.add(again)  # run again, to a better end
    store.add_predictions(second.key, rows=np.arange(2), truth=np.ones((2, 1)), prediction=np.ones((2, 1)))
    store.path(third.key).unlink()  # removed by another process
    stayed: list[Path] = []
    gone = upkeep.remove([entries[r.key] for r in (first, second, third)], skipped=stayed.append)
    assert gone == 1
    assert set(stayed) == {store.path(first.key), store.path(third.key)}
    assert store.get(first.key) == again
    new = store.predictions(second.key)
    assert new is not None
    assert len(new["rows"]) == 2
    assert not list(Path(".samcmp").rglob("*.part"))


def test_two_processes_that_prune_remove_every_result_once(in_empty_folder: Path) -> None:
    filled()
    entries = upkeep.survey(Store(Path(".samcmp"))).entries
    assert upkeep.remove(entries) == len(entries) > 3
    assert upkeep.remove(entries) == 0
    assert files() == set()
