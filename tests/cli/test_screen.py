"""What a comparison looks like on screens of several widths: nothing is cut off, every row keeps its name."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from samcmp.analysis.build import compare
from samcmp.cli.common import score
from samcmp.report import terminal
from tests.report.made import cell

COMPARISON = compare([*cell(), *cell(dataset="esol")])


def printed(width: int) -> list[str]:
    text = io.StringIO()
    terminal.write(COMPARISON, Console(file=text, width=width))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def numbers(lines: list[str]) -> list[str]:
    """The numbers of every optimizer's rows, however the columns are parted."""
    rows = [
        line.split() for line in lines if {"adam", "sam", "graphsam"} & set(line.split()) and "optimizer" not in line
    ]
    return sorted(word for row in rows for word in row if any(c.isdigit() for c in word))


def table_of(lines: list[str]) -> list[str]:
    return lines[: next(i for i, line in enumerate(lines) if line.startswith(("demo / ", "esol / ")))]


@pytest.mark.parametrize("width", [50, 60, 80, 100, 120, 200])
def test_no_cell_of_the_table_is_cut_and_no_line_is_wider_than_the_screen(width: int) -> None:
    lines = printed(width)
    assert not any("…" in line for line in lines)
    assert max(map(len, lines)) <= width
    for optimizer in ("adam", "sam", "graphsam"):
        assert any(optimizer in line.split() for line in table_of(lines))


@pytest.mark.parametrize("width", [50, 80])
def test_a_narrow_screen_shows_every_number_of_a_wide_one(width: int) -> None:
    wide, narrow = (numbers(table_of(printed(w))) for w in (200, width))
    assert narrow == wide
    assert len(wide) > 20


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.70456, "0.7046"), (0.0, "0.0000"), (1.17e-9, "1.17e-09"), (2.36e36, "2.36e+36"), (float("nan"), "nan")],
)
def test_a_score_is_readable_whatever_its_unit(value: float, shown: str) -> None:
    assert score(value) == shown


def test_a_table_of_tiny_errors_has_figures_not_zeros() -> None:
    records = [
        dataclasses.replace(r, accuracy=dataclasses.replace(r.accuracy, test=r.accuracy.test * 1e-9))
        if r.accuracy
        else r
        for r in cell()
    ]
    text = io.StringIO()
    terminal.write(compare(records), Console(file=text, width=200))
    scores = [word for line in text.getvalue().splitlines() if "±" in line and "(5)" in line for word in line.split()]
    assert any(0 < float(word) < 1e-6 for word in scores if "e-" in word)
