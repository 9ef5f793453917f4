"""What is seen and kept of a command that runs: bars on a narrow screen, the time left, --quiet and --log."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from samcmp.cli import views
from samcmp.engines import Said
from samcmp.experiment import cost
from samcmp.experiment.run import Progress
from samcmp.records import Case, Protocol, Record, Throughput
from tests.commands import TINY, Run

ARM = "graphsam"


def cases(epochs: int = 100) -> dict[str, Case]:
    protocol = Protocol(epochs=epochs)
    return {
        str(seed): Case(
            "train", "bbbp@compt", "grover-large", ARM, protocol, split="scaffold-balanced", split_seed=seed
        )
        for seed in range(30)
    }


def progress(case: Case, epoch: int, *, seconds_each: float = 6.0) -> Progress:
    return Progress(case, epoch, case.protocol.epochs, 0.5, 0.9, "roc-auc", 12345.0, epoch * seconds_each)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bar_count_and_time_left_stay_on_a_narrow_screen(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    view = views.Live(console)
    every = cases()
    view.expect(every, jobs=2)
    for case in list(every.values())[:2]:
        view.began(case)
    assert len(frame(view, width)) == 3
    for case in list(every.values())[:2]:
        view.epoch(progress(case, 10))
    shown = frame(view, width)
    assert len(shown) == 3  # a line a run, none folded
    assert all(len(line) <= width for line in shown)
    assert "20/3000" in shown[0]
    assert "2.5 h left" in shown[0]  # 2,980 epochs of 6 s, two runs side by side
    for line in shown[1:]:
        assert "10/100" in line
        assert "9 min left" in line
        assert "━" in line
        assert "bbbp@compt" in line


def frame(view: views.Live, width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, record=True)
    out.print(view.bars.get_renderable())
    return [line.rstrip() for line in out.export_text().splitlines() if line.strip()]


def test_the_time_left_is_estimated_from_the_first_epoch_and_by_the_arm() -> None:
    adam, sam, other = (dataclasses.replace(cases(10)["0"], optimizer=name) for name in ("adam", "sam", "esam"))
    left = views.Remaining({"a": adam, "b": sam, "c": other}, jobs=1)
    assert left.seconds() is None
    assert left.text() == ""
    left.epoch(progress(adam, 1, seconds_each=1.0))
    assert left.seconds() == pytest.approx(9 + 10 + 10)
    left.epoch(progress(sam, 1, seconds_each=3.0))
    assert left.seconds() == pytest.approx(9 + 27 + 10 * 2)  # the mean of the cell's arms for the third
    left.done(sam)
    assert left.seconds() == pytest.approx(9 + 20)
    assert left.seconds(views.name_of(adam)) == pytest.approx(9)


def test_a_speed_that_was_measured_tells_the_time_before_the_first_epoch() -> None:
    every = cases(10)
    speed = Throughput(100.0, 1.0, 1, 1, (1.0,), 1, "budget", details={"train_size": 1000})
    profiled = dataclasses.replace(every["0"], kind="profile")
    console = Console(file=io.StringIO(), width=80)
    view = views.Lines(console)
    view.done(Record("0" * 64, profiled, "ok", throughput=speed))
    view.expect(every, jobs=1)
    seconds = 30 * 10 * cost.EVALUATION * 1000 / 100.0
    assert view.remaining.seconds() == pytest.approx(seconds)
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said == [f"about {cost.duration(seconds)} left for 30 runs, by the speeds that were measured"]
    longer = {"0": dataclasses.replace(every["0"], own={"times": 2.0})}  # its steps are those that were measured
    view.expect(longer)
    assert view.remaining.seconds() == pytest.approx(2 * seconds / 30)


@pytest.mark.parametrize("kind", [views.Live, views.Lines])
def test_a_class_from_a_file_is_shown_by_its_short_name(kind: type[views.View]) -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=kind is views.Live, color_system=None)
    mine, other = (
        dataclasses.replace(cases()["0"], optimizer=f"some/very/long/directory/of/mine/{file}.py:MySharpnessAware")
        for file in ("one", "two")
    )
    view = kind(console)
    view.expect({"a": mine, "b": other})
    view.began(mine)
    view.done(Record("0" * 64, mine, "error", "it broke"))
    said = "\n".join(frame(view, 80)) if isinstance(view, views.Live) else ""
    said += file.getvalue()
    assert "one.py:MySharpnessAware" in said
    assert "directory" not in said


def test_a_log_of_lines_says_the_first_steps_and_the_estimate_before_the_first_run_has_ended() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = views.Lines(console)
    every = cases()
    view.expect(every, jobs=1)
    view.listen(Said("starting 2 worker processes"))
    view.began(every["0"])
    view.began(every["1"])
    view.epoch(progress(every["0"], 1))
    view.epoch(progress(every["0"], 2))
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[0] == "starting 2 worker processes"
    assert "reading data" in said[1]
    assert said[2] == "about 5.0 h left for 30 runs, by the first epoch"
    assert len(said) == 3


def test_quiet_leaves_the_result_alone_and_the_log_holds_what_was_not_shown(run: Run) -> None:
    words = ("compare", *TINY, "-o", "adam", "-o", "sam", "--format", "csv")
    code, out, err = run(*words, "--quiet", "--log", "logs/run.log")
    assert code == 0
    assert err == ""
    assert out.startswith("cell,")
    lines = Path("logs/run.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d \S", line) for line in lines)
    text = "\n".join(lines)
    for expected in ("$ ", "reading data", "throughput of 2", "epoch 1/1", "[4/4]", "4 training runs and 1"):
        assert expected in text
    assert run(*words, "--log", "logs/run.log")[0] == 0
    assert Path("logs/run.log").read_text().startswith(text)  # appended
    assert "--log logs/run.log" in Path("logs/run.log").read_text()[len(text) :]


def test_an_error_is_said_also_where_all_else_is_quiet_and_is_in_the_log(run: Run) -> None:
    code, _, err = run("train", "--quiet", "--log", "x.log", "--optimizer", "grahpsam")
    assert code == 2
    assert "graphsam" in err
    assert "grahpsam" in Path("x.log").read_text().splitlines()[-2] + Path("x.log").read_text().splitlines()[-1]


@pytest.mark.parametrize("command", ["compare", "train", "profile", "report", "store"])
def test_a_log_that_cannot_be_written_is_refused_at_once_by_its_name(run: Run, command: str) -> None:
    Path("folder").mkdir()
    code, out, err = run(command, "--log", "folder")
    assert code == 2
    assert out == ""
    assert "--log folder: cannot be written: it is a folder" in err


def test_a_run_alone_says_what_it_does_and_how_long_it_takes(run: Run) -> None:
    code, _, err = run("train", "--subset", "40", "--epochs", "2", "-o", "adam", "--log", "train.log")
    assert code == 0
    said = err.splitlines()
    assert "reading data and featurising" in said[0]
    assert "left" in said[1]
    assert "epoch 2/2" in Path("train.log").read_text()
    code, _, err = run("train", "--subset", "40", "--epochs", "2", "-o", "adam", "--seed", "1")
    assert (code, "by earlier runs" in err.splitlines()[0]) == (0, True), err
