"""One process at a time, wherever the lock file lies; and who waits is told for whom."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from samcmp import files, locks
from samcmp.locks import locked
from samcmp.profiling.lock import device_lock, lock_path
from tests.places import ROOT

HOLD = (
    "import sys; from pathlib import Path; from samcmp.locks import locked\n"
    "with locked(Path(sys.argv[1]), what='it', say=print): print('in', flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A lock file and the number of the process that holds it."""
    path = tmp_path / "a.lock"
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "in\n"
        yield path, process.pid
        process.kill()


def test_who_waits_is_told_the_process_its_machine_since_when_and_the_file(holder: tuple[Path, int]) -> None:
    path, number = holder
    said: list[str] = []
    with (
        pytest.raises(TimeoutError, match=f"process {number} on "),
        locked(path, what="it", say=said.append, most_seconds=0.5),
    ):
        pass
    assert len(said) == 1
    assert re.fullmatch(
        rf"waiting for it: process {number} on \S+, since 20\d\d-\S+ has it \(lock file: .*a.lock\)", said[0]
    )


def test_a_wait_goes_on_and_is_said_again(holder: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "REMIND_SECONDS", 0.3)
    said: list[str] = []
    with pytest.raises(TimeoutError), locked(holder[0], what="it", say=said.append, most_seconds=1.5):
        pass
    assert len(said) >= 3


def test_short_waits_are_silent(holder: tuple[Path, int]) -> None:
    said: list[str] = []
    with pytest.raises(TimeoutError), locked(holder[0], what="it", say=said.append, quiet_seconds=9, most_seconds=0.5):
        pass
    assert said == []


def test_who_waits_for_a_file_of_the_cache_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "QUIET_SECONDS", 0.2)
    words = [
        sys.executable,
        "-c",
        HOLD.replace("sys.stdin.read()", "import time; time.sleep(1)"),
        str(tmp_path / "a.lock"),
    ]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        with caplog.at_level(logging.WARNING, "samcmp"), files.alone(tmp_path / "a"):
            pass
    assert f"process {process.pid} on " in caplog.text


@pytest.mark.parametrize(
    "refusal", [NotImplementedError("as filelock 3.16"), OSError(errno.ENOSYS, "no"), OSError(errno.ENOLCK, "no")]
)
def test_where_the_file_system_has_no_locks_the_files_being_there_is_the_lock(
    refusal: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(filelock.FileLock):  # type: ignore[misc,valid-type]
        def acquire(self, *_: Any, **__: Any) -> Any:
            raise refusal

    monkeypatch.setattr(filelock, "FileLock", Refused)
    for _ in range(2):  # it is given back, too
        held = locked(tmp_path / "a.lock", what="it", say=print)
        again = locked(tmp_path / "a.lock", what="it", say=print, most_seconds=0.3)
        with held, pytest.raises(TimeoutError), again:
            pass


def test_another_refusal_is_not_taken_for_a_missing_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(filelock.FileLock):  # type: ignore[misc,valid-type]
        def acquire(self, *_: Any, **__: Any) -> Any:
            raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(filelock, "FileLock", Refused)
    with pytest.raises(OSError, match="read-only"), locked(tmp_path / "a.lock", what="it", say=print):
        pass


@pytest.mark.parametrize("how", ["symlink_to", "hardlink_to"])
def test_the_holders_name_is_never_written_through_a_link(how: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    getattr(tmp_path / "a.lock.holder", how)(victim)
    with locked(tmp_path / "a.lock", what="it", say=print):
        assert victim.read_text() == "precious"
    assert victim.read_text() == "precious"


def test_what_another_user_wrote_into_a_lock_file_reaches_the_terminal_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    said: list[str] = []
    with locked(path, what="it", say=print):
        (tmp_path / "a.lock.holder").write_bytes(b"\x1b[2Jprocess 1\r\n\xff" + b"x" * 10_000)
        with pytest.raises(TimeoutError), locked(path, what="it", say=said.append, most_seconds=0.3):
            pass
    assert said[0].isprintable()
    assert len(said[0]) < 500


def test_a_device_is_waited_for_as_long_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_LOCKS", str(tmp_path))
    words = [
        sys.executable,
        "-c",
        HOLD.replace("sys.stdin.read()", "import time; time.sleep(1)"),
        str(lock_path("cpu")),
    ]
    said: list[str] = []
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        assert process.stdout
        process.stdout.readline()
        with device_lock("cpu", say=said.append) as problem:
            assert problem is None
    assert f"process {process.pid} on " in said[0]
