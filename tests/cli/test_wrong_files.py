"""Files that are not what an option takes: one message with the file, the cause and the remedy, before any run."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from samcmp.experiment import suites
from tests.cli import fuzzing
from tests.commands import Run

ROWS = "".join(f"{'C' * i}O,{i / 10}\n" for i in range(1, 41))
GOOD = f"smiles,y\n{ROWS}"


def written(content: bytes | str | None) -> None:
    """Make the file mine.csv, or a folder of that name."""
    path = Path("mine.csv")
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


WRONG: dict[str, tuple[bytes | str | None, str]] = {
    "Latin-1": (f"smiles,y,é\n{ROWS}".encode("latin-1"), "line 1 is not UTF-8"),
    "a workbook": (b"\xd0\xcf\x11\xe0" + bytes(600), "is an Excel workbook"),
    "not a text": (bytes(range(256)) * 9, "is not UTF-8"),
    "empty": ("", "the file is empty"),
    "a header alone": ("smiles,y\n", "no row"),
    "a column twice": ("smiles,y,y\n" + ROWS.replace("\n", ",1\n"), "'y' occurs 2 times"),
    "no header": (ROWS.replace("CO,", "C(=O)O,"), "the first line is data"),
    "no such SMILES column": (GOOD.replace("smiles", "smi"), "there is no column 'smiles'"),
    "a row too long": (GOOD + "C,1,2\n", "row 40 has 3 cells"),
    "a folder": (None, "is a folder"),
}


@pytest.mark.parametrize("command", ["compare --dry-run", "train", "profile", "fetch --audit"])
@pytest.mark.parametrize("case", WRONG)
def test_a_csv_that_cannot_be_used_is_refused_with_its_name_and_a_remedy(run: Run, command: str, case: str) -> None:
    content, says = WRONG[case]
    written(content)
    code, _, err = run(*command.split(), "--data", "mine.csv", "--target", "y")
    assert code == 2
    first, remedy, *_ = err.splitlines()
    assert first.startswith("error: mine.csv: ")
    assert says in first + remedy
    assert remedy


def test_a_file_that_may_not_be_read_is_refused_with_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written(GOOD)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, _, err = run("compare", "--data", "mine.csv", "--target", "y")
    assert code == 2
    assert "mine.csv: cannot be read: Permission denied" in err


@pytest.mark.parametrize(
    "content",
    [GOOD, "\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), GOOD.replace("\n", "\r"), gzip.compress(GOOD.encode())],
    ids=["plain", "byte order mark", "Windows line ends", "old Mac line ends", "gzip"],
)
def test_a_csv_is_read_however_it_was_saved(run: Run, content: bytes | str) -> None:
    written(content)
    name = "mine.csv"
    if isinstance(content, bytes):
        name = str(Path(name).rename("mine.csv.gz"))
    code, out, _ = run("fetch", "--audit", "--data", name, "--target", "y", "--format", "json")
    assert code == 0
    assert '"molecules": 40' in out


@pytest.mark.parametrize("name", ["../[bold]ü x.csv", ".csv", "no-ending", "esol.csv", "CON.csv"])
def test_a_files_name_never_becomes_a_path_or_markup(run: Run, name: str) -> None:
    Path("below").mkdir()
    path = Path("below") / name
    path.write_text(GOOD)
    code, out, err = run("compare", "--data", str(path), "--target", "y", "--dry-run")
    assert code == 0, err
    shown = next(line for line in out.splitlines() if "gcn" in line).split()[0]
    assert all(letter.isalnum() or letter in "._-" for letter in shown)  # of any script
    assert shown not in {"esol", ".", ".."}


def test_without_a_target_the_columns_are_named(run: Run) -> None:
    written(GOOD)
    code, _, err = run("compare", "--data", "mine.csv")
    assert code == 2
    assert "--target" in err
    assert "'smiles', 'y'" in err


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["pipe", "pipe.json", "pipe.tar", "/dev/zero", "nul\x00"])
@pytest.mark.parametrize(
    "option",
    [
        *(f"compare --{name}" for name in ("data", "config", "init-from", "split-file", "baseline")),
        *("list --config", "fetch esol --from", "train --data", "fetch --audit --data"),
    ],
)
def test_a_pipe_or_a_device_is_neither_waited_for_nor_read_without_end(run: Run, option: str, name: str) -> None:
    for pipe in ("pipe", "pipe.json", "pipe.tar"):
        os.mkfifo(pipe)
    with fuzzing.little_memory():
        code, _, err = run(*option.split(), name, *(("--target", "y") if "--data" in option else ()))
    assert code in {2, 14}
    assert err


def test_a_stream_that_would_be_read_twice_is_refused_and_a_suite_may_be_one(run: Run) -> None:
    read, write = os.pipe()
    os.write(write, suites.DEFAULT_FILE.read_bytes()[:60_000])
    os.close(write)
    try:
        code, _, err = run("compare", "--data", f"/dev/fd/{read}", "--target", "y")
        assert code == 2
        assert "it is read more than once: keep it in a file first" in err
        code, _, err = run("list", "suites", "--config", f"/dev/fd/{read}")
        assert code == 0, err
    finally:
        os.close(read)


ENDLESS = """
import time, torch
time.sleep(1000)
class Slow(torch.nn.Module): ...
"""


@pytest.mark.parametrize("words", [("check",), ("train", "--model"), ("profile", "--model")], ids=lambda w: w[0])
def test_a_file_whose_import_does_not_end_is_ended_and_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("samcmp.child.IMPORT_SECONDS", 8.0)
    Path("slow.py").write_text(ENDLESS)
    code, _, err = run(*words, "slow.py:Slow")
    assert code == 2
    assert "took longer than 8 s to be imported" in err
    assert "slow.py" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--init-from", "mine.csv"), "mine.csv: is not a readable file of weights"),
        (("--init-from", "none"), "--init-from none: cannot be read"),
        (("--split-file", "mine.csv"), "mine.csv: there is no column 'row'"),
        (("--split-file", "none"), "--split-file none: cannot be read"),
        (("--config", "mine.csv"), "mine.csv: is not TOML"),
        (("--config", "."), ".: cannot be read: Is a directory"),
        (("--cards", "mine.csv"), "mine.csv: no such folder"),
        (("--from", "none"), "--from none: no such folder"),
        (("--model", "mine.py"), "mine.py:CLASS"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "train"])
def test_another_options_file_is_refused_before_any_run(
    run: Run, command: str, words: tuple[str, ...], says: str
) -> None:
    written(GOOD)
    code, _, err = run(command, "--device", "cpu", *words)
    assert code == 2
    assert says in err
    assert list(Path().rglob("*.json")) == []
