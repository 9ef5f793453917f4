"""The store keeps whole Records or none, and says clearly what it cannot do."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samcmp.errors import Damaged, StoreError, WriteError, cause_of
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


def npz(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


GOOD = {"rows": np.arange(3), "truth": np.zeros((3, 1)), "prediction": np.full((3, 1), 0.5, dtype=np.float32)}
WHOLE = npz(**GOOD)
BROKEN_PREDICTIONS = {
    "empty": b"",
    "cut": WHOLE[:60],
    "cut at its end": WHOLE[:-30],
    "of another kind": b"PK\x03\x04" + b"x" * 50,
    "one bit turned": WHOLE[:70] + bytes([WHOLE[70] ^ 255]) + WHOLE[71:],
    "an array alone": WHOLE[WHOLE.index(b"rows") :],
    "without the truth": npz(rows=GOOD["rows"], prediction=GOOD["prediction"]),
    "of other lengths": npz(**{**GOOD, "rows": np.arange(4)}),
    "of other tasks": npz(**{**GOOD, "truth": np.zeros((3, 2))}),
    "words": npz(**{**GOOD, "truth": np.full((3, 1), "x")}),
    "objects": npz(**{**GOOD, "truth": np.full((3, 1), None)}),
    "not finite": npz(**{**GOOD, "prediction": np.full((3, 1), np.nan)}),
}


@pytest.mark.parametrize("what", BROKEN_PREDICTIONS)
def test_damaged_predictions_are_named_with_their_key(tmp_path: Path, what: str) -> None:
    store, key = Store(tmp_path), a_record().key
    path = store.add_predictions(key, rows=np.arange(3), truth=GOOD["truth"], prediction=GOOD["prediction"])
    path.write_bytes(BROKEN_PREDICTIONS[what])
    with pytest.raises(Damaged, match=f"predictions of {key[:16]} are damaged: .+"):
        store.predictions(key)


def swap_for(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["folder", "link to nothing", "link to itself", "pipe", "device"])
@pytest.mark.parametrize("place", ["record", "predictions"])
def test_what_is_no_file_is_never_opened_and_is_named(tmp_path: Path, kind: str, place: str) -> None:
    store, record = Store(tmp_path), a_record()
    other = store.add(a_record(1))
    arrays = {"rows": np.arange(3), "truth": GOOD["truth"], "prediction": GOOD["prediction"]}
    path = store.add(record) if place == "record" else store.add_predictions(record.key, **arrays)
    swap_for(path, kind)
    if place == "record":
        assert [r.key for r in store.records()] == [other.stem]
        assert [p for p, _ in store.damaged] == [path]
        assert store.damaged[0][1].startswith("is ")
    else:
        with pytest.raises(Damaged, match=" is "):
            store.predictions(record.key)


def with_text(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


BROKEN_RECORDS: dict[str, Callable[[str], str]] = {
    "deep": lambda _: "[" * 100_000,
    "deep in a field": with_text('"machine": {}', '"machine": ' + '{"a":' * 100_000 + "1" + "}" * 100_000),
    "infinite": with_text('"seconds": 0.0', '"seconds": 1e999'),
    "infinite in a free field": with_text('"machine": {}', '"machine": {"load": -1e999}'),
    "NaN": with_text('"seconds": 0.0', '"seconds": NaN'),
    "Infinity in a free field": with_text('"machine": {}', '"machine": {"load": Infinity}'),
    "5,000 digits": with_text('"parameters": null', '"parameters": ' + "9" * 5000),
    "50 digits": with_text('"parameters": null', '"parameters": ' + "9" * 50),
    "5,000 digits in a free field": with_text('"machine": {}', '"machine": {"load": ' + "9" * 5000 + "}"),
    "5,000 digits of a schema": with_text(f'"schema": {SCHEMA}', '"schema": ' + "9" * 5000),
    "half a character": with_text('"reason": null', '"reason": "\\ud800"'),
    "a list": lambda _: "[]",
    "null": lambda _: "null",
    "empty": lambda _: "",
    "of another key": with_text(a_record().key, a_record(1).key),
}


@pytest.mark.parametrize("what", BROKEN_RECORDS)
def test_a_record_that_cannot_be_computed_with_is_named_and_left_out(tmp_path: Path, what: str) -> None:
    store = Store(tmp_path)
    path = store.add(a_record())
    text = path.read_text()
    assert BROKEN_RECORDS[what](text) != text
    path.write_text(BROKEN_RECORDS[what](text))
    other = store.add(a_record(2))
    assert [record.key for record in store.records()] == [other.stem]
    assert [p for p, _ in store.damaged] == [path]
    assert store.get(path.stem) is None


def test_a_copy_of_a_record_under_another_name_does_not_count_twice(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.add(a_record())
    copy = path.with_name(f"{path.stem} (copy).json")
    copy.write_bytes(path.read_bytes())
    assert len(store.records()) == 1
    assert [p for p, _ in store.damaged] == [copy]


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [ValueError("half \ud800 a character"), Unsayable(), OSError(2, "x", b"\xff".decode(errors="surrogateescape"))],
)
def test_whatever_an_exception_says_its_record_can_be_stored_and_read(tmp_path: Path, error: Exception) -> None:
    status, reason = cause_of(error)
    record = dataclasses.replace(a_record(), status=status, reason=reason)
    store = Store(tmp_path)
    store.add(record)
    assert store.get(record.key) == record


def test_half_a_character_anywhere_does_not_lose_the_record(tmp_path: Path) -> None:
    store, record = (
        Store(tmp_path),
        dataclasses.replace(a_record(), machine={"settings": {"OMP_NUM_THREADS": "\udcff"}}),
    )
    store.add(record)
    assert store.get(record.key) is not None
