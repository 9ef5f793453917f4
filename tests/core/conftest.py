"""The command line, called as its user calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from samcmp.cli import main
from tests.core.commands import Run


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
