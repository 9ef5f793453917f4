"""A tuned comparison is a plan like any other: its trials are known, keyed and ordered before the first run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from samcmp.analysis.draws import Range, draw, search_name
from samcmp.errors import SamcmpError
from samcmp.experiment import budget, suites
from samcmp.experiment.config import Request, read
from samcmp.experiment.plan import Plan, build
from samcmp.experiment.store import Store
from samcmp.records import Epoch, Record
from tests.commands import Run
from tests.places import ROOT

SUITE = """
[suites.mine]
title = "t"
datasets = ["demo"]
models = ["gcn"]
optimizers = ["adam", "sam", "asam"]
repeats = 2
"""
RANGES = """
[tuning.optimizers]
sam = { rho = { low = 0.001, high = 0.2 } }
asam = { rho = { low = 0.01, high = 2.0 } }
"""


def a_plan(**request: Any) -> Plan:
    return build(read(Request(**request), suites.read()))


def of_file(folder: Path, text: str, **request: Any) -> Plan:
    path = folder / "mine.toml"
    path.write_text(text)
    return build(read(Request(suite="mine", **request), suites.read(path)))


def test_trial_by_trial_every_arm_has_every_trial_of_every_block() -> None:
    planned = a_plan(tune=4, repeats=3)
    cases = list(planned.train.values())
    assert len(planned.train) == len(cases) == 4 * 3 * 3
    assert [case.trial for case in cases] == [trial for trial in range(4) for _ in range(9)]
    assert set(Counter((case.arm, case.block) for case in cases).values()) == {4}


def test_trial_0_is_the_untuned_comparison_and_all_trials_share_its_profiles() -> None:
    tuned, plain = a_plan(tune=4), a_plan()
    assert list(tuned.train)[: len(plain.train)] == list(plain.train)
    assert [list(session) for session in tuned.sessions] == [list(session) for session in plain.sessions]


def test_more_trials_and_more_splits_extend_what_is_there() -> None:
    assert set(a_plan(tune=4).train) < set(a_plan(tune=8).train)
    assert set(a_plan(tune=4, repeats=3).train) < set(a_plan(tune=4, repeats=5).train)


def test_a_case_says_what_it_drew_and_by_which_search() -> None:
    planned = a_plan(tune=2, optimizers=("adam", "sam", "asam"), repeats=1)
    known = suites.read().ranges
    for case in planned.train.values():
        ranges = known.of(case.optimizer)
        where = {"dataset": case.dataset, "model": case.model, "block": case.block}
        assert case.drawn == draw(ranges, case.trial, **where)
        assert case.search == (search_name(ranges) if case.trial else "")


def test_a_changed_range_changes_the_drawn_keys_of_its_optimizers_only(tmp_path: Path) -> None:
    text = SUITE + RANGES
    one, other = (of_file(tmp_path, t, tune=3) for t in (text, text.replace("high = 0.2", "high = 0.3")))
    changed = set(one.train) - set(other.train)
    assert {(one.train[key].optimizer, one.train[key].trial) for key in changed} == {("sam", 1), ("sam", 2)}
    assert len(changed) == 4


def test_a_suite_may_be_tuned_and_an_option_says_otherwise(tmp_path: Path) -> None:
    text = SUITE + "tune = 3\n" + RANGES
    assert of_file(tmp_path, text).trials == 3
    assert of_file(tmp_path, text, tune=5).trials == 5


def test_a_choice_and_weight_decay_without_log_are_lists(tmp_path: Path) -> None:
    text = (
        SUITE + "[tuning]\nweight_decay = [0, 1e-4]\n[tuning.optimizers]\nsam = { rho_schedule = ['constant', 'step'] }"
    )
    cases = of_file(tmp_path, text, tune=9).train.values()
    assert {case.drawn["weight_decay"] for case in cases if case.trial} == {0.0, 1e-4}
    assert {case.settings["rho_schedule"] for case in cases if case.trial and case.optimizer == "sam"} == {
        "constant", "step"
    }  # fmt: skip


def test_what_has_no_range_of_its_own_is_noted_and_the_base_is_not(tmp_path: Path) -> None:
    assert of_file(tmp_path, SUITE, tune=2).notes == tuple(
        f"{name}: only learning rate and weight decay are tuned; [tuning.optimizers] has no range for it"
        for name in ("sam", "asam")
    )
    assert of_file(tmp_path, SUITE + RANGES, tune=2).notes == ()
    assert of_file(tmp_path, SUITE).notes == ()


@pytest.mark.parametrize("name", sorted({"saf", "mesa"}))
def test_every_shipped_range_is_one_that_its_optimizer_takes(name: str) -> None:
    assert set(suites.read().ranges.of(name)) == {"learning_rate", "weight_decay", "lam"}


def test_every_plain_ball_is_searched_alike_and_holds_its_default() -> None:
    from samcmp import optim

    known = suites.read().ranges
    for name, entry in optim.OPTIMIZERS.items():
        own = known.optimizers.get(name, {})
        if "adaptive" in entry.settings and name not in {"f-sam", "graphsam-released", "msam"}:
            assert own == {"rho": Range(0.001, 0.2)}
        for key, searched in own.items():
            assert isinstance(searched, Range)
            default = entry.settings[key]  # msam's depends on the base
            assert default is None or name == "looksam" or searched.low <= default <= searched.high


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("looksam = { k = [4, 8] }", "k changes what a step costs: cannot be tuned | --set looksam.k=4,8"),
        ("sam = { times = [1, 2] }", "times changes what training costs: cannot be tuned | --set sam.times=1,2"),
        ("sam = { rho = { low = 0.2, high = 0.1 } }", "low must be above 0 and below high | logarithmic; a list is"),
        ("sam = { rho = { low = 0.1, high = 0.1 } }", "low must be above 0 and below high"),
        ("sam = { rho = { low = 0, high = 0.1 } }", "low must be above 0 and below high"),
        ("sam = { rho = { low = -1, high = 0.1 } }", "low must be above 0 and below high"),
        ("sam = { rho = { low = 1 } }", "expected { low = ..., high = ... } or a list"),
        ("sam = { rho = 0.1 }", "expected { low = ..., high = ... } or a list"),
        ("sam = { rho = [] }", "expected { low = ..., high = ... } or a list"),
        ('sam = { rho = ["wide"] }', "expected a number"),
        ('sam = { rho = { low = "a", high = 1 } }', "expected a finite number, found 'a'"),
        ("sam = { rho = { low = 1, high = inf } }", "expected a finite number, found inf"),
        ("sam = { period = { low = 1, high = 5 } }", "a range is of numbers with decimals | [1]"),
        ("sam = { roh = { low = 1, high = 5 } }", "unknown setting of sam 'roh' | Did you mean 'rho'"),
        ("sma = { rho = { low = 1, high = 5 } }", "unknown optimizer 'sma' | Did you mean 'sam'"),
        ("sam = { learning_rate = [1] }", "searched alike for every optimizer | Set [tuning] learning_rate"),
        ("sam = 3", "tuning.optimizers.sam: expected a table"),
        ("[tuning]\nlearning_rates = [1]", "unknown key 'learning_rates' | Did you mean 'learning_rate'"),
        ("[tuning]\nlearning_rate = [0]", "must be above 0, found 0"),
        ("[tuning]\nweight_decay = [-1]", "must be above 0, found -1"),
        ("[tuning]\nlearning_rate = { low = 10, high = 1 }", "tuning.learning_rate: low must be above 0"),
        ("[suites.mine.protocol]\n[tuning]\ntune = 3", "unknown key 'tune'"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused_with_its_file(tmp_path: Path, table: str, says: str) -> None:
    head = "" if table.startswith("[") else "[tuning.optimizers]\n"
    with pytest.raises(SamcmpError) as caught:
        of_file(tmp_path, f"{SUITE}{head}{table}\n")
    for part in ("mine.toml", *says.split(" | ")):
        assert part in str(caught.value)


@pytest.mark.parametrize("number", ["1", "0"])
def test_a_suite_of_one_trial_is_not_tuned(tmp_path: Path, number: str) -> None:
    with pytest.raises(SamcmpError, match=r"suites.mine.tune: must be at least 2"):
        of_file(tmp_path, f"{SUITE}tune = {number}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tune", "1"), "must be at least 2: trial 0 is the settings given"),
        (("--tune", "eight"), "--tune: expected a whole number, got 'eight'"),
        (("--tune", "8", "--set", "sam.rho=0.01"), "sam.rho is both set and tuned | `--set sam.rho`, or its range"),
        (("--tune", "8", "--set", "sam.rho=0.05"), "sam.rho is both set and tuned"),  # the default, too
        (("--tune", "8", "--set", "adam.learning_rate=3"), "adam.learning_rate is both set and tuned"),
        (("--tune", "1000000"), "more than can be planned at once | fewer repeats or trials"),
        (("--equal-cost", "-o", "sam"), "equal cost compares with adam, which is not among the optimizers"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_any_run(run: Run, words: tuple[str, ...], says: str) -> None:
    code, out, err = run("compare", *words)
    assert code == 2, out + err
    for part in says.split(" | "):
        assert part in " ".join(err.split())
    assert not Path(".samcmp").exists()


@pytest.mark.parametrize("table", ["[optimizers.sam]\nrho = 0.02", ""])
def test_a_file_that_sets_what_it_searches_is_refused(tmp_path: Path, table: str) -> None:
    suite = SUITE if table else SUITE.replace('"sam"', '{ name = "sam", rho = 0.02 }')
    with pytest.raises(SamcmpError, match=r"sam.rho is both set and tuned"):
        of_file(tmp_path, f"{suite}{RANGES}{table}\n", tune=2)


@pytest.mark.parametrize("ends", ["{ low = 0.5, high = 3 }", "[0.5, -1]"])
def test_the_ends_of_a_range_are_tried_on_the_constructor_before_any_run(run: Run, ends: str) -> None:
    text = f"{SUITE.replace('asam', 'wsam')}[tuning.optimizers]\nwsam = {{ weight = {ends} }}\n"
    Path("mine.toml").write_text(text)
    code, out, err = run("compare", "--config", "mine.toml", "--suite", "mine", "--tune", "3", "--dry-run")
    assert code == 2, out + err
    assert "mine.toml: tuning.optimizers.wsam.weight: " in err


def test_a_dry_run_says_what_the_runs_are_made_of(run: Run) -> None:
    code, out, err = run("compare", "--tune", "8", "--dry-run")
    assert code == 0, err
    said = " ".join(out.split())
    assert "120 runs: 3 optimizers × 5 splits × 8 trials, 15 of them the untuned comparison" in said
    several = run("compare", "-d", "demo", "-d", "demo-tox", "-m", "gcn", "--tune", "2", "--dry-run")[1]
    assert "60 runs: 2 datasets and models × 3 optimizers × 5 splits × 2 trials" in " ".join(several.split())
    assert "untuned" not in run("compare", "--dry-run")[1]


def test_equal_cost_adds_the_base_trained_twice_as_long_once(tmp_path: Path) -> None:
    arms = [case.arm for case in a_plan(equal_cost=True, repeats=1).train.values()]
    assert arms == ["adam", "sam", "graphsam", "adam ×2"]
    asked = a_plan(equal_cost=True, overrides=("adam.times=1,2",), repeats=1)
    assert [case.arm for case in asked.train.values()].count("adam ×2") == 1
    sgd = of_file(tmp_path, SUITE + '[protocol]\nbase = "sgd"\n', equal_cost=True, repeats=1)
    assert [case.arm for case in sgd.train.values()][-1] == "sgd ×2"


def test_a_released_schedule_that_ends_early_is_noted(tmp_path: Path) -> None:
    planned = of_file(tmp_path, SUITE + '[protocol]\nschedule = "noam-released"\n', equal_cost=True)
    assert planned.notes == (
        "adam ×2: the schedule noam-released ends at epoch 30, however long the training is",
    )  # fmt: skip


def test_a_budget_takes_whole_blocks_with_all_their_trials(tmp_path: Path) -> None:
    planned = a_plan(optimizers=("adam", "sam"), repeats=3, tune=4)
    store = Store(tmp_path)
    for number, case in enumerate(c for c in planned.train.values() if c.block.startswith("random/0") and not c.trial):
        history = (Epoch(0.1, 0.1, 0.1, 1e-3, 1.0, 1),) * 20  # 20 s a run
        store.add(Record(key=f"{number:064x}", case=case, status="ok", seconds=20.0, history=history))
    part, said = budget.fit(planned, store, seconds=2.5 * 8 * 20)
    assert Counter((case.block, case.trial) for case in part.train.values()) == Counter(
        {(f"random/{block}/seed{block}", trial): 2 for block in (0, 1) for trial in range(4)}
    )
    assert "demo gcn: 2 of 3" in said


PLANNER = """
import sys
from samcmp.experiment import config, plan, suites
planned = plan.build(config.read(config.Request(tune=8), suites.read()))
assert len(planned.train) == 120
print(sorted({"torch", "numpy", "pandas", "scipy", "rdkit"} & set(sys.modules)))
"""


def test_trials_are_planned_without_torch_or_numpy() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PLANNER], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "[]\n"
