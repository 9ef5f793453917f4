"""What a user asks for that cannot be: refused at once, and nothing else is harmed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from samcmp.errors import UsageError
from samcmp.records import Case, Protocol
from samcmp.setup import check_settings
from samcmp.store import write_atomically


@pytest.mark.parametrize(
    ("optimizer", "settings"), [("sam", {"rho": -1}), ("graphsam", {"beta": 2}), ("looksam", {"k": 0})]
)
def test_a_value_that_an_optimizer_refuses_is_refused_before_any_run(
    optimizer: str, settings: dict[str, float]
) -> None:
    case = Case("train", "demo", "gcn", optimizer, protocol=Protocol(epochs=1), optimizer_settings=settings)
    with pytest.raises(UsageError, match=next(iter(settings))):
        check_settings([case])


def test_a_link_to_a_file_stays_a_link_and_its_file_gets_the_text(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(pipe, b"text")
        assert os.read(reader, 10) == b"text"
        assert pipe.is_fifo()
    finally:
        os.close(reader)
