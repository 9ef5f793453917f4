"""``samcmp compare --tune`` and ``samcmp report`` of it, as a user runs them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samcmp.experiment.store import Store
from samcmp.records import Record
from tests.commands import TINY, Run
from tests.places import ROOT

TUNED = ("compare", "-m", "gcn", "-o", "adam", "-o", "sam", *TINY, "--tune", "3")


def exported(run: Run, *words: str) -> dict[str, Any]:
    code, out, err = run(*words, "--format", "json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def without_speeds(comparison: dict[str, Any]) -> list[Any]:
    """What does not depend on the moment: scores, choices and what was tried."""
    (cell,) = comparison["cells"]
    return [cell["tuning"], [[row["arm"], row["blocks"], row["valid"]] for row in cell["rows"]]]


def test_a_tuned_comparison_runs_once_prints_its_choice_and_is_all_in_the_store(run: Run) -> None:
    code, out, err = run(*TUNED, "--equal-cost")
    assert code == 0, err
    said = " ".join(out.split())
    assert "demo / gcn, tuned with 3 trials each, chosen by validation: RMSE, 2 runs on 2 random splits" in said
    assert "at sam's cost" in said
    assert "tuning 3 trials an optimizer and split" in said
    assert len([r for r in Store(Path(".samcmp")).records() if r.case.kind == "train"]) == 3 * 3 * 2
    assert "18 of 18" not in err
    again = exported(run, *TUNED, "--equal-cost")
    reported = exported(run, "report")
    assert without_speeds(again) == without_speeds(reported)
    assert len(next(csv.DictReader(io.StringIO(run("report", "--format", "csv")[1])))["tuning_gain"]) > 1


def test_more_trials_use_those_that_are_there_and_fewer_can_be_reported(run: Run) -> None:
    assert run(*TUNED)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in Path(".samcmp").rglob("*.json")}
    more = exported(run, *TUNED[:-1], "4")
    assert more["cells"][0]["tuning"]["trials"] == 4
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert exported(run, "report", "--trials", "2")["cells"][0]["tuning"]["trials"] == 2
    code, _, err = run("report", "--trials", "8")
    assert code == 2
    assert "the store holds 4 of every optimizer" in err
    assert "compare --tune 8" in err
    untuned = exported(run, *TUNED[:-2])["cells"][0]
    assert untuned["tuning"] is None
    counts = exported(run, "report", "--equal", "passes")["cells"][0]["tuning"]["rows"]
    assert {row["arm"]: set(row["trials"].values()) for row in counts} == {"adam": {4}, "sam": {2}}
    for kind in ("tuning", "sensitivity", "anytime", "curves"):
        assert run("report", "--figure", f"{kind}={kind}.svg")[0] == 0
        assert Path(f"{kind}.svg").stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("compare", "--equal", "passes"), "nothing is tuned here | Add `--tune 8`"),
        (("compare", "--tune", "8", "--equal", "time"), "unknown unit 'time' | passes, seconds, trials"),
        (("report", "--trials", "1"), "--trials"),
    ],
)
def test_wrong_input_about_tuning_is_one_message(run: Run, words: tuple[str, ...], says: str) -> None:
    code, out, err = run(*words)
    assert code == 2, out
    for part in says.split(" | "):
        assert part in " ".join(err.split())
    assert not Path(".samcmp").exists()


def test_equal_of_a_store_without_trials_says_what_is_missing(run: Run) -> None:
    assert run(*TUNED[:-2])[0] == 0
    code, _, err = run("report", "--equal", "passes")
    assert code == 2
    assert "nothing is tuned here" in err


def test_equal_seconds_without_a_speed_is_refused_before_any_training(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samcmp.profiling import processes

    def no_rounds(cases: dict[str, Any], *_: object, **__: object) -> list[Record]:
        reason = "the budget ended before a single round"
        return [Record(key, case, "timeout", reason) for key, case in cases.items()]

    monkeypatch.setattr(processes, "measure", no_rounds)
    words = (*TUNED, "--equal", "seconds")
    for _ in ("after the session", "by what is stored"):
        code, out, err = run(*words)
        assert code == 2, out
        assert "no speed was measured of demo gcn adam: the budget ended before a single round" in " ".join(err.split())
        assert "Use --equal passes" in err
        assert {r.case.kind for r in Store(Path(".samcmp")).records()} == {"profile"}
    assert run(*words, "--dry-run")[0] == 2


def test_a_killed_and_resumed_tuned_comparison_equals_an_undisturbed_one(run: Run) -> None:
    assert run(*TUNED, "--store", "whole")[0] == 0
    words = [sys.executable, "-m", "samcmp", *TUNED, "--store", "parts"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for stored in (4, 9):  # in the first trial, and in a drawn one
        process = subprocess.Popen(words, env=environment, stdout=-3, stderr=-3, start_new_session=True)
        while process.poll() is None and len(list(Path("parts", "records").rglob("*.json"))) < stored:
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert run(*TUNED, "--store", "parts")[0] == 0
    whole, parts = (exported(run, "report", "--store", name) for name in ("whole", "parts"))
    assert without_speeds(whole) == without_speeds(parts)
    assert {p.name for p in Path("whole").rglob("*.json")} == {p.name for p in Path("parts").rglob("*.json")}


@pytest.mark.parametrize(("trial", "code"), [(0, 1), (2, 0)])
def test_a_trial_that_fails_was_tried_and_only_the_settings_as_given_end_in_a_failure(
    run: Run, trial: int, code: int
) -> None:
    assert run(*TUNED)[0] == 0
    store = Store(Path(".samcmp"))
    record = next(r for r in store.records() if r.case.kind == "train" and r.case.trial == trial)
    store.add(replace(record, status="diverged", reason="nan", accuracy=None))
    found, out, _ = run(*TUNED)
    assert found == code
    assert "1 of 6 trials failed" in out
