"""A file appears whole or not at all, whoever writes, whatever fails; and a refusal is said in words."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from samcmp import files
from samcmp.errors import WriteError
from samcmp.profiling.lock import device_lock
from tests.places import ROOT


def test_the_file_gets_its_name_only_when_the_block_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "result"
    with files.writing(target) as aside:
        aside.write_text("half")
        assert not target.exists()
        aside.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_block_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "result"
    target.write_text("before")

    def broken_off() -> None:
        with files.writing(target) as aside:
            aside.write_text("half of what should")
            raise error

    with pytest.raises(error):
        broken_off()
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_the_system_breaks_off_half_way_leaves_the_old_file_and_names_the_cause(tmp_path: Path) -> None:
    """The size of files is limited in a process of its own: the kernel itself refuses the second half."""
    target = tmp_path / "result"
    target.write_text("before")
    program = (
        "import resource, sys; from pathlib import Path; from samcmp import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n    files.write(Path(sys.argv[1]), bytes(100_000), remedy='Do this.')\n"
        "except files.WriteError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(target)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{target}: cannot be written: the file would be larger than is allowed\nDo this.\n"
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EIO, "output"),
    ],
)
def test_a_disk_that_refuses_is_named_in_words(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(WriteError, match=said) as caught:
        files.write(tmp_path / "result", b"text", remedy="Buy another.")
    assert (caught.value.where, caught.value.remedy) == (str(tmp_path / "result"), "Buy another.")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_the_file_and_a_file_in_that_of_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "folder", Path("/")):
        with pytest.raises(WriteError, match="it is a folder"):
            files.write(folder, b"text")
    with pytest.raises(WriteError, match="a part of the path is a file"):
        files.write(tmp_path / "file" / "result", b"text")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), replace(*names)))
    files.write(tmp_path / "result", b"text")
    assert done == ["sync", "name"]


def test_two_processes_that_write_one_file_leave_it_whole_at_every_moment(tmp_path: Path) -> None:
    target = tmp_path / "result"
    program = (
        "import sys; from pathlib import Path; from samcmp import files\n"
        "for _ in range(150): files.write(Path(sys.argv[1]), sys.argv[2].encode() * 300_000)"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, str(target), letter], cwd=ROOT) for letter in "ab"]
    seen: set[bytes] = set()
    while any(process.poll() is None for process in both):
        if target.exists():
            seen.add(target.read_bytes())
    assert [process.returncode for process in both] == [0, 0]
    assert seen == {b"a" * 300_000, b"b" * 300_000}
    assert list(tmp_path.iterdir()) == [target]


def test_the_mode_is_what_the_users_mask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "result", b"text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result").stat().st_mode) == 0o640


def test_a_link_to_a_file_stays_a_link_and_its_file_gets_the_text(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    files.write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write(pipe, b"text")
        assert os.read(reader, 10) == b"text"
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_one_process_at_a_time_is_inside(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from samcmp import files\n"
        "with files.alone(Path(sys.argv[1])): print('in', flush=True); time.sleep(0.3); print('out', flush=True)"
    )
    with (tmp_path / "said").open("w") as said:
        both = [
            subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "made")], cwd=ROOT, stdout=said)
            for _ in range(2)
        ]
        assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert (tmp_path / "said").read_text().split() == ["in", "out", "in", "out"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755])
def test_an_old_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.write_text("a much longer text than the new one")
    target.chmod(mode)
    files.write(target, b"new")
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", mode)


def test_both_names_of_a_file_get_the_text(tmp_path: Path) -> None:
    target, other = tmp_path / "result", tmp_path / "other"
    target.write_text("a much longer text than the new one")
    other.hardlink_to(target)
    files.write(target, b"new")
    assert other.read_bytes() == b"new"
    with files.writing(target) as aside:
        aside.write_bytes(b"newer than that")
    assert other.read_bytes() == b"newer than that"
    assert sorted(tmp_path.iterdir()) == [other, target]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_owner_stays_hers(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.write_text("old")
    os.chown(target, 12345, 23456)
    files.write(target, b"new")
    assert (target.read_bytes(), target.stat().st_uid, target.stat().st_gid) == (b"new", 12345, 23456)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES])
def test_where_a_rename_is_refused_the_old_file_is_overwritten(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    target = tmp_path / "result"
    target.write_text("a much longer text than the new one")
    monkeypatch.setattr(os, "replace", refuse)
    files.write(target, b"new")
    assert target.read_bytes() == b"new"
    with pytest.raises(WriteError):
        files.write(tmp_path / "none", b"new")
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_without_room_says_so_before_an_old_file_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, start: int, size: int) -> None:
        os.truncate(handle, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "result"
    target.write_text("old")
    (tmp_path / "other").hardlink_to(target)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(WriteError, match="the disk is full"):
        files.write(target, b"longer than old")
    assert target.read_bytes() == b"old"


def test_without_a_folder_for_temporary_files_a_pipe_is_written_and_the_rest_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    files.write(Path("/dev/null"), b"text")
    files.write(tmp_path / "result", b"text")
    with (
        pytest.raises(WriteError, match=r"(?s)no folder for temporary files.*TMPDIR=FOLDER"),
        files.writing(Path("/dev/null")),
    ):
        pass
    with device_lock("cpu") as problem:
        assert "no lock could be made" in str(problem)
