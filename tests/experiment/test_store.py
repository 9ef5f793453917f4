"""The store keeps whole Records or none, and says clearly what it cannot do."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from samcmp.errors import StoreError, WriteError
from samcmp.experiment.store import Store
from samcmp.records import SCHEMA, Case, Record, content_key


def a_record(n: int = 0) -> Record:
    case = Case("train", "esol", "gcn", "sam", seed=n)
    return Record(key=content_key(case), case=case, status="ok")


def test_what_is_added_is_found_by_its_key_and_listed(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    made = [a_record(n) for n in range(5)]
    for record in made:
        store.add(record)
    assert store.get(made[3].key) == made[3]
    assert {r.key for r in store.records()} == {r.key for r in made}
    assert store.get("f" * 64) is None


def test_a_store_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert Store(tmp_path / "nowhere").records() == []


@pytest.mark.parametrize("key", ["../../etc/passwd", "A" * 64, "short", ""])
def test_a_key_never_becomes_a_path_outside(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Store(tmp_path).get(key)


def test_a_damaged_record_counts_as_missing_and_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.add(a_record())
    path.write_bytes(path.read_bytes()[:40])
    assert store.get(a_record().key) is None
    assert store.records() == []
    assert store.damaged[0][0] == path


@pytest.mark.parametrize("also_unreadable", [False, True])
def test_a_record_of_a_newer_version_is_refused_with_a_remedy(tmp_path: Path, also_unreadable: bool) -> None:
    store = Store(tmp_path)
    path = store.add(dataclasses.replace(a_record(), schema=SCHEMA + 1))
    if also_unreadable:
        path.write_text(json.dumps({**json.loads(path.read_text()), "a_new_field": 1}))
    with pytest.raises(StoreError, match="newer samcmp") as caught:
        store.records()
    assert "Upgrade" in (caught.value.remedy or "")


def test_two_stores_merge_by_copying_files(tmp_path: Path) -> None:
    import shutil

    one, two = Store(tmp_path / "1"), Store(tmp_path / "2")
    one.add(a_record(1))
    two.add(a_record(2))
    shutil.copytree(one.folder, two.folder, dirs_exist_ok=True)
    assert len(two.records()) == 2


def test_predictions_come_back_as_they_were(tmp_path: Path) -> None:
    store, key = Store(tmp_path), a_record().key
    rows, truth = np.arange(4), np.array([[0.0], [np.nan], [1.0], [1.0]])
    store.add_predictions(key, rows=rows, truth=truth, prediction=np.array([[0.25], [0.5], [0.75], [1.0]]))
    found = store.predictions(key)
    assert found is not None
    np.testing.assert_array_equal(found["truth"], truth)
    np.testing.assert_array_equal(found["rows"], rows)
    assert store.predictions("0" * 64) is None


def test_a_full_disk_is_found_before_any_run_and_the_remedy_names_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    for write in (Store(tmp_path).check_writable, lambda: Store(tmp_path).add(a_record())):
        with pytest.raises(WriteError, match=r"(?s)the disk is full.*--store DIR.*finished runs are kept"):
            write()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
