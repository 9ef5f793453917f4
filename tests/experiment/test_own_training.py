"""What an arm's training has of its own: its length, its learning rates, its weight decay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samcmp.errors import SamcmpError
from samcmp.experiment import suites
from samcmp.experiment.config import Request, read
from samcmp.experiment.keys import Inputs
from samcmp.experiment.plan import Plan, build
from samcmp.experiment.run import train
from samcmp.records import Case, Protocol, Record, from_json, to_json
from samcmp.training.setup import Options, assemble
from tests.commands import TINY, Run

SMALL = Protocol(epochs=2, batch_size=8, subset=40)


def a_plan(*overrides: str, **request: Any) -> Plan:
    request = {"optimizers": ("adam", "sam"), "repeats": 1, **request}
    return build(read(Request(overrides=overrides, **request), suites.read()))


def arms(planned: Plan) -> list[str]:
    return [case.arm for case in planned.train.values()]


def case(optimizer: str = "adam", **more: Any) -> Case:
    return Case("train", "demo", "gcn", optimizer, SMALL, **more)


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("adam.times=1,2", ["adam", "adam ×2", "sam"]),
        ("sam.times=0.5,1", ["adam", "sam ×0.5", "sam"]),
        ("adam.learning_rate=3", ["adam[learning_rate=3.0]", "sam"]),
        ("adam.weight_decay=0.0001", ["adam[weight_decay=0.0001]", "sam"]),
        ("adam.weight_decay=0", ["adam", "sam"]),  # the protocol's
        ("sam.rho=0.05,0.01", ["adam", "sam", "sam[rho=0.01]"]),
    ],
)
def test_an_arm_is_named_by_what_its_training_has_of_its_own(override: str, names: list[str]) -> None:
    assert arms(a_plan(override)) == names


def test_settings_and_training_share_a_name() -> None:
    assert arms(a_plan("sam.rho=0.01", "sam.times=2", "sam.learning_rate=3")) == [
        "adam", "sam[learning_rate=3.0, rho=0.01] ×2"
    ]  # fmt: skip


def test_a_suite_gives_an_arm_its_own_training(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[suites.mine]\ntitle = "t"\ndatasets = ["demo"]\nmodels = ["gcn"]\nrepeats = 1\n'
        'optimizers = ["adam", { name = "adam", times = 2 }, "sam"]\n'
    )
    assert arms(build(read(Request(suite="mine"), suites.read(path)))) == ["adam", "adam ×2", "sam"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("adam.lr=0.01", "Did you mean 'learning_rate', a factor on the schedule? Allowed: learning_rate, times"),
        ("sam.epochs=3", "Did you mean 'times', how many times as long to train?"),
        ("adam.time=2", "Did you mean 'times'?"),
        ("adam.times=0.01", "0.01 of 20 epochs is less than one"),
        ("adam.times=0", "must be above 0"),
        ("adam.learning_rate=-1", "must be above 0"),
        ("adam.weight_decay=-1", "must be at least 0"),
        ("adam.times=true", "expected a number, found True"),
        ("adam.times=inf", "must be finite"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(override: str, says: str) -> None:
    with pytest.raises(SamcmpError) as caught:
        a_plan(override)
    assert says in str(caught.value)
    assert f"--set {override}" in str(caught.value)


def test_arms_of_unlike_length_train_in_one_cell_and_are_profiled_once() -> None:
    planned = a_plan("adam.times=1,2")
    assert len({case.protocol for case in planned.train.values()}) == 1
    assert [case.training.epochs for case in planned.train.values()] == [20, 40, 20]
    (session,) = planned.sessions
    assert [case.arm for case in session.values()] == ["adam", "sam"]
    assert list(session) == list(a_plan().sessions[0]), "the speeds of the shorter comparison serve this one too"


def test_a_case_without_any_of_it_has_the_key_it_always_had() -> None:
    known = to_json(case())
    older = {name: value for name, value in known.items() if name not in {"own", "trial", "search", "drawn"}}
    assert Inputs().key_of(from_json(Case, older)) == Inputs().key_of(case())
    inputs = Inputs()
    changed: list[dict[str, Any]] = [{"own": {"times": 2.0}}, {"trial": 1}, {"search": "1"}, {"drawn": {"rho": 0.1}}]
    assert len({inputs.key_of(case("sam", **more)) for more in ({}, *changed)}) == 5


def test_a_record_of_the_first_schema_still_reads() -> None:
    written = to_json(Record(key="0" * 64, case=case(), status="ok"))
    for name in ("own", "trial", "search", "drawn", "data", "split_file"):
        del written["case"][name]
    read_back = from_json(Record, {**written, "schema": 1})
    assert read_back.case == case()


def test_twice_the_length_has_its_own_decay_and_the_same_beginning() -> None:
    first, second = (assemble(case(own=own), Options()) for own in ({}, {"times": 2.0}))
    one, other = first.new_trainer(), second.new_trainer()
    assert all((a == b).all() for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    assert one.lr_schedule is not None
    assert other.lr_schedule is not None
    steps = first.steps_per_epoch
    assert one.lr_schedule(2 * steps) == pytest.approx(SMALL.peak_lr)  # warm-up takes two epochs of either
    assert other.lr_schedule(4 * steps) == pytest.approx(SMALL.final_lr)
    record, _ = train(case(own={"times": 2.0}), Options(), key="0" * 64)
    assert len(record.history) == 4


@pytest.mark.parametrize("optimizer", ["adam", "adam-released-schedule", "gsam"])
def test_the_learning_rate_is_a_factor_on_the_arms_schedule(optimizer: str) -> None:
    plain, tripled = (
        assemble(case(optimizer, **more), Options()).new_trainer() for more in ({}, {"drawn": {"learning_rate": 3.0}})
    )
    assert plain.lr_schedule is not None
    assert tripled.lr_schedule is not None
    assert all(tripled.lr_schedule(t) == pytest.approx(3 * plain.lr_schedule(t)) for t in (1, 5, 9))
    assert tripled.optimizer.param_groups[0]["lr"] == pytest.approx(3 * plain.optimizer.param_groups[0]["lr"])


def test_what_a_trial_draws_comes_last_and_reaches_the_run() -> None:
    drawn = {"learning_rate": 2.0, "weight_decay": 1e-3, "rho": 0.2}
    trial = case("sam", own={"times": 0.5}, optimizer_settings={"eta": 0.1}, trial=3, search="1", drawn=drawn)
    assert trial.settings == {"eta": 0.1, "rho": 0.2}
    assert trial.training == replace(SMALL, epochs=1, weight_decay=1e-3)
    assert trial.learning_rate == 2.0
    assert trial.arm == "sam[eta=0.1] ×0.5", "a trial is of its arm"
    group = assemble(replace(trial, optimizer_settings={}), Options()).new_trainer().optimizer.param_groups[0]
    assert (group["rho"], group["weight_decay"], group["lr"]) == (0.2, 1e-3, 2e-3)


def test_adam_trained_twice_as_long_stands_beside_sam_in_one_cell(run: Run) -> None:
    code, out, err = run("compare", "-m", "gcn", "-o", "adam", "-o", "sam", "--set", "adam.times=1,2", *TINY)
    assert code == 0, err
    assert out.count("demo / gcn: RMSE") == 1
    assert "adam ×2" in out


@pytest.mark.parametrize("override", ["adam.times=2", "adam.learning_rate=3", "adam.weight_decay=0.1"])
def test_a_profile_refuses_what_changes_no_step(run: Run, override: str) -> None:
    code, out, err = run("profile", "-o", "adam", "--set", override)
    assert code == 2, out
    assert "changes the cost of no step" in err
    assert f"--set {override}" in err
