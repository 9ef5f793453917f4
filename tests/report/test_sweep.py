"""The figure of a sweep: an optimizer's scores against the one setting that its arms differ in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from samcmp.analysis import build
from samcmp.analysis.comparison import Comparison, Settings
from samcmp.errors import UsageError
from samcmp.records import Record
from samcmp.report import figures
from samcmp.report.sweep import sweeps
from tests.report.made import run


def records(*settings: Mapping[str, Any]) -> list[Record]:
    of_base = [run(0.8 + 0.01 * block, "adam", block) for block in range(3)]
    made = enumerate(settings)
    return of_base + [run(0.7 + 0.05 * i + 0.01 * b, "graphsam", b, settings=s) for i, s in made for b in range(3)]


def compared(*settings: Mapping[str, Any]) -> Comparison:
    return build.compare(records(*settings), Settings())


def test_an_arm_without_the_setting_stands_at_its_default() -> None:
    (line,) = sweeps(compared({"rho": 0.5}, {}, {"rho": 0.005}).cells[0])["rho"]
    assert [value for value, _ in line.points] == [0.005, 0.05, 0.5]
    assert [round(score.mean, 6) for _, score in line.points] == [0.81, 0.76, 0.71]


def test_other_settings_that_differ_are_lines_of_their_own() -> None:
    arms = ({"rho": 0.5}, {}, {"rho": 0.5, "beta": 0.5}, {"beta": 0.5})
    by_key = sweeps(compared(*arms).cells[0])
    assert [line.label for line in by_key["rho"]] == ["graphsam", "graphsam[beta=0.5]"]
    assert {line.label for line in by_key["beta"]} == {"graphsam[rho=0.5]", "graphsam"}


def test_the_figure_has_a_panel_a_setting_and_the_base_across() -> None:
    drawn = figures.draw("sweep", compared({"rho": 0.5}, {}, {"rho": 0.005}))
    (axes,) = drawn.figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "rho"
    assert any(line.get_ydata()[0] == pytest.approx(0.81) for line in axes.lines)  # type: ignore[index]
    assert "Nothing was chosen" in drawn.caption


def test_without_a_sweep_there_is_nothing_to_draw() -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        figures.draw("sweep", compared({}))
