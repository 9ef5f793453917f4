"""Text from files, servers and exceptions is text: no terminal, spreadsheet or editor takes it for a command."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from samcmp.cli.console import SafeConsole
from samcmp.errors import DataError
from samcmp.experiment.store import Store
from samcmp.printable import csv_cell, printable, printable_json
from samcmp.records import Record
from tests.commands import Run
from tests.report.made import cell

COMMANDS = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\x7f\u202e\u2066"
FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1")


def is_plain(text: str) -> bool:
    return not any((unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t") or c in "\u202e\u2066" for c in text)


@given(st.text())
def test_any_text_is_printable_says_the_same_once_and_is_left_alone_where_it_is_plain(text: str) -> None:
    shown = printable(text)
    assert is_plain(shown)
    assert printable(shown) == shown
    assert not is_plain(text) or shown == text or any(c in text for c in "\u061c\u200e\u200f\u2028\u2029\u202a\u202b")
    shown.encode()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.sampled_from([COMMANDS]))
def test_json_that_is_printable_says_exactly_the_same(text: str) -> None:
    shown = printable_json(json.dumps({"a": text}, ensure_ascii=False))
    assert is_plain(shown)
    assert json.loads(shown) == {"a": text}


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula(text: str) -> None:
    assert str(csv_cell(text))[0] == "'"


@pytest.mark.parametrize("value", [-1.5, 3, "-1.5", "+2e3", None, True, "plain", "a=b", "1-2", ""])
def test_numbers_and_other_text_stay_what_they_are(value: object) -> None:
    assert csv_cell(value) == value


@pytest.mark.parametrize("coloured", [False, True])
def test_on_a_console_only_the_programs_own_words_have_escape_sequences(coloured: bool) -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=coloured, width=200)
    table = Table("name")
    table.add_row(Text(COMMANDS, style="bold"))
    for what in (Text(COMMANDS, style="red"), table, COMMANDS):
        console.print(what, markup=False)
    with Progress(console=console) as bars:
        bars.add_task(COMMANDS, total=2)
    shown = out.getvalue()
    assert ("\x1b[" in shown) == coloured
    assert "\\x1b[2J" in shown
    for piece in ("\x1b[2J", "\x1b]", "\x07", "\x9b", "\x08", "\x7f", "\u202e", "\u2066"):
        assert piece not in shown


def spoiled(record: Record) -> Record:
    """The same Record with commands in every text that came from a file, a name or an exception."""
    case = dataclasses.replace(
        record.case,
        dataset=f"={COMMANDS}d",
        model=f"@m{COMMANDS}|`*<b>",
        optimizer_settings={"note": f"-{COMMANDS}"} if record.case.optimizer == "graphsam" else {},
    )
    failed = record.case.kind == "train" and record.case.optimizer == "sam" and record.case.split_seed == 0
    if failed:
        record = dataclasses.replace(record, status="error", reason=f"=1+1 {COMMANDS}", accuracy=None)
    return dataclasses.replace(record, case=case, notes=(f"+note {COMMANDS}",))


@pytest.fixture
def store(in_empty_folder: Path) -> Path:
    kept = Store(in_empty_folder / "store")
    for record in cell():
        kept.add(spoiled(record))
    return kept.folder


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "html", "csv", "json"])
def test_no_report_holds_a_command_of_a_record(run: Run, store: Path, form: str) -> None:
    code, out, err = run("report", "--store", str(store), "--format", form)
    assert code == 0, err
    assert is_plain(out)
    assert is_plain(err)
    code, _, _ = run("report", "--store", str(store), "--format", form, "--output", "file")
    assert code == 0
    assert is_plain(Path("file").read_text(encoding="utf-8"))
    if form == "csv":
        rows = list(csv.reader(io.StringIO(out)))
        assert len(rows) == 4
        for value in (value for row in rows for value in row if value[:1] in "=+-@" and value):
            float(value)
        assert any(value.startswith("'=") for row in rows for value in row)


def test_an_error_of_a_server_or_a_file_reaches_no_terminal_as_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from samcmp.cli.common import print_error

    print_error(DataError(f"answers 500 {COMMANDS}", where=f"a{COMMANDS}b", remedy=f"c{COMMANDS}"))
    assert is_plain(capsys.readouterr().err)
