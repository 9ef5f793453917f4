"""What is damaged in a store is not there: it is measured again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from samcmp.experiment.store import Store
from samcmp.inspection.kept import Kept
from tests.inspection.made import measured


@pytest.mark.parametrize("ending", [".npz", ".json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_inspection_is_not_there_and_is_named(tmp_path: Path, ending: str, damage: str) -> None:
    kept = Kept(Store(tmp_path))
    made = measured("landscape", "sam", 0, np.random.default_rng(0))
    key = "ab" * 32
    inspection = dataclasses.replace(made.inspection, key=key)
    kept.add(inspection, made.arrays)
    assert kept.has(key)
    (path,) = tmp_path.rglob(f"{key}{ending}")
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
    path.write_bytes({"cut": data[:middle], "flipped": flipped, "empty": b""}[damage])
    assert not kept.has(key)
    assert [at for at, _ in kept.store.damaged] == [path]
    kept.add(inspection, made.arrays)
    assert kept.get(key) is not None
