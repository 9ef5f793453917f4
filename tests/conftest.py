"""What every test gets: a cache of its own session, the real files where they are, no plugins of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import MIRROR


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("SAMCMP_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.delenv("SAMCMP_STORE", raising=False)
    if MIRROR.is_dir():
        patch.setenv("SAMCMP_MIRROR", str(MIRROR))
    yield
    patch.undo()


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in a folder of its own, so that a default store lands there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
