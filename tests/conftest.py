"""What every test gets: a cache of its own session, the real files where they are, no plugins of the machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from samcmp.cli import main
from tests.commands import Run
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


@pytest.fixture
def run(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``samcmp WORDS`` in an empty folder; return its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "120")

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["samcmp", *words])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
