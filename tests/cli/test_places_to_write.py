"""Where results go: what cannot be written or read there is said before anything is run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import samcmp
from samcmp.cli.common import refuse_overwriting
from samcmp.experiment.store import Store
from tests.commands import TINY, Run


@pytest.mark.parametrize("command", ["compare", "compare --dry-run", "train", "profile", "report"])
def test_a_store_that_is_a_file_is_named_as_it_was_typed(run: Run, command: str) -> None:
    Path("results").write_text("something")
    code, _, err = run(*command.split(), "--store", "results")
    assert code == 2
    assert "error: results: is a file" in err
    assert "--store DIR" in err
    assert Path("results").read_text() == "something"


def test_a_store_below_a_file_is_refused_with_the_stores_own_name(run: Run) -> None:
    Path("results").write_text("something")
    code, _, err = run("compare", *TINY, "--store", "results/mine")
    assert code == 2
    assert "error: results/mine: cannot be written" in err
    assert ".probe" not in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("compare", "--output", "folder"), "--output folder: is a folder"),
        (("compare", "--output", "file/x.txt"), "--output file/x.txt: "),
        (("train", "--save", "folder"), "--save folder: is a folder"),
        (("train", "--save-split", "file/x.json"), "--save-split file/x.json: "),
        (("report", "--output", "folder"), "--output folder: is a folder"),
        (("report", "--figure", "front=file/x.svg"), "--figure file/x.svg: "),
        (("compare", "--figure", "front=file/x.svg"), "--figure file/x.svg: "),
        (("fetch", "demo", "--audit", "--output", "folder"), "--output folder: is a folder"),
        (("compare", "--save-best", "file"), "--save-best file: is a file"),
        (("compare", "--save-best", "file/x"), "--save-best file/x: "),
        (("compare", "--save-best", "file/x", "--dry-run"), "--save-best file/x: "),
        (("merge", "folder", "--into", "file"), "--into file: is a file"),
        (("merge", "folder", "--into", "file/x"), "--into file/x: file is a file, not a folder"),
        (("report", "--output", "report.pdf"), "--output report.pdf: what to write is not told by .pdf"),
        (("inspect", "--output", "inside.tar.gz"), "--output inside.tar.gz: what to write is not told by .gz"),
        (("fetch", "demo", "--output", "data.html"), "Allowed: table, json."),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_any_run(run: Run, words: tuple[str, ...], says: str) -> None:
    Path("folder").mkdir()
    Path("file").write_text("something")
    code, _, err = run(*words)
    assert code == 2
    assert says in err
    assert not Path(".samcmp").exists()


@pytest.mark.parametrize("content", [None, "smiles,y\n"])
def test_a_baseline_that_cannot_be_read_closes_the_gate_before_any_run(run: Run, content: str | None) -> None:
    if content is not None:
        Path("old.json").write_text(content)
    code, out, err = run("compare", *TINY, "--baseline", "old.json")
    assert code == 14
    assert "old.json: " in err
    assert out == ""
    assert not Path(".samcmp").exists()


def test_a_figure_that_has_nothing_to_draw_is_refused_before_the_table_is_printed(run: Run) -> None:
    assert run("train", "--subset", "40", "--epochs", "1", "--device", "cpu")[0] == 0
    code, out, err = run("report", "--figure", "profiles=p.svg", "--figure", "curves=c.svg")
    assert code == 2
    assert "--figure profiles=p.svg: nothing to draw" in err
    assert "two datasets or models" in err
    assert out == ""
    assert not Path("c.svg").exists()


def test_a_table_that_goes_to_a_file_does_not_go_to_the_screen(run: Run) -> None:
    assert run("train", "--subset", "40", "--epochs", "1", "--device", "cpu")[0] == 0
    code, out, err = run("report", "--output", "table.txt")
    assert (code, out) == (0, "")
    assert "wrote table.txt" in err
    assert "graphsam" in Path("table.txt").read_text()


def test_the_ending_of_a_file_says_what_is_written_unless_the_format_is_named(run: Run) -> None:
    begins = {
        "table": b"No rec", "table.txt": b"No rec", "page.HTML": b"<!DOCTYPE", "page.htm": b"<!DOCTYPE",
        "a.md": b"**No rec", "a.tex": b"%", "a.csv": b"cell,", "a.json": b"{", "a.parquet": b"PAR1",
    }  # fmt: skip
    assert run("train", "--subset", "40", "--epochs", "1", "--device", "cpu")[0] == 0
    for name, start in begins.items():
        assert run("report", "--output", name)[0] == 0
        assert Path(name).read_bytes().startswith(start), name
    assert run("report", "--output", "report.pdf", "--format", "csv")[0] == 0
    assert Path("report.pdf").read_bytes().startswith(begins["a.csv"])


@pytest.mark.parametrize(
    ("form", "meant"), [("txt", "table"), ("text", "table"), ("md", "markdown"), ("TeX", "latex"), ("jsn", "json")]
)
def test_an_unknown_format_gets_the_one_that_is_nearest_by_meaning(run: Run, form: str, meant: str) -> None:
    code, _, err = run("report", "--format", form)
    assert code == 2
    assert f"Did you mean '{meant}'" in err


def test_a_disk_that_fills_up_ends_a_comparison_with_one_message_and_keeps_what_is_finished(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Store.add
    kept: list[str] = []

    def full(self: Store, record: Any, *more: Any) -> Path:
        if len(kept) == 2:
            monkeypatch.setattr(os, "replace", refuse)
        kept.append(record.key)
        return whole(self, record, *more)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = ("compare", *TINY, "-o", "adam", "-o", "sam")
    monkeypatch.setattr(Store, "add", full)
    code, _, err = run(*words)
    assert code == 2
    assert "the disk is full" in err
    assert "finished runs are kept" in err
    assert {r.key for r in Store(Path(".samcmp")).records()} == set(kept[:2])
    assert list(Path(".samcmp").rglob("*.part")) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [("list",), ("compare", "--dry-run")], ids=" ".join)
def test_a_screen_that_takes_nothing_more_is_one_message(in_empty_folder: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "samcmp", *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "standard output: cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_screen_without_the_signs_of_a_table_shows_another_sign_for_them(in_empty_folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    words = [sys.executable, "-m", "samcmp", "list", "suites"]
    done = subprocess.run(words, capture_output=True, env=environment, text=True)
    assert done.returncode == 0, done.stderr
    assert "demo ? gcn ? adam" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "--data", "mine.csv", "--target", "y", "--output", "mine.csv"),
        ("compare", "--data", "mine.csv", "--target", "y", "--log", "./mine.csv"),
        ("compare", "--log", "mine.csv", "--data", "mine.csv", "--target", "y"),
        ("compare", "--data", "mine.csv", "--target", "y", "--split-file", "s.json", "--gate-json", "s.json"),
        ("compare", "-o", "my_sam.py:MySAM", "--output", "my_sam.py"),
        ("compare", "-m", "my_sam.py:Net", "--summary", "my_sam.py"),
        ("compare", "--config", "b.toml", "--gate-junit", "b.toml"),
        ("compare", "--figure", "front=new.svg", "--figure", "curves=new.svg"),
        ("compare", "--log", "new.txt", "--output", "new.txt"),
        ("inspect", "--data", "mine.csv", "--target", "y", "--output", "mine.csv"),
        ("profile", "--data", "mine.csv", "--target", "y", "--trace", "mine.csv"),
        ("train", "--data", "mine.csv", "--target", "y", "--save", "link.csv"),
        ("train", "--data", "mine.csv", "--target", "y", "--save-split", "hard.csv"),
        ("train", "--init-from", "w.safetensors", "--save", "w.safetensors"),
        ("fetch", "--audit", "--data", "mine.csv", "--target", "y", "--output", "mine.csv"),
        ("predict", "w.safetensors", "--data", "mine.csv", "--output", "mine.csv"),
        ("predict", "w.safetensors", "--data", "mine.csv", "--output", "w.safetensors"),
    ],
)  # fmt: skip
def test_no_command_writes_over_a_file_that_it_reads_or_twice_into_one(run: Run, words: tuple[str, ...]) -> None:
    files = ("mine.csv", "s.json", "my_sam.py", "b.toml", "w.safetensors")
    for name in files:
        Path(name).write_text(f"the content of {name}")
    Path("link.csv").symlink_to("mine.csv")
    Path("hard.csv").hardlink_to("mine.csv")
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "is the file of " in err
    assert [Path(name).read_text() for name in files] == [f"the content of {name}" for name in files]
    assert not Path("new.txt").exists()


def test_in_python_nothing_is_written_over_what_is_read(run: Run) -> None:
    Path("mine.csv").write_text("smiles,y\n")
    for call, argument in ((samcmp.train, "save"), (samcmp.train, "save_split"), (samcmp.profile, "trace")):
        with pytest.raises(samcmp.SamcmpError, match=f"{argument}=mine.csv: is the file of data="):
            call(data="mine.csv", target="y", **{argument: "mine.csv"})
    assert Path("mine.csv").read_text() == "smiles,y\n"


def test_a_device_and_a_new_baseline_are_no_files_to_be_lost(run: Run) -> None:
    assert run("report", "--log", "/dev/null", "--output", "/dev/null")[0] == 2  # an empty store, nothing else
    refuse_overwriting(
        {"--baseline": "old.json", "--output": "old.json", "--log": None, "--data": "a\0b", "--quiet": True}
    )
