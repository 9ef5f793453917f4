"""Records go to JSON and back, and equal values have equal keys."""

from __future__ import annotations

import json

import pytest

from samcmp.records import (
    SCHEDULES,
    Accuracy,
    Case,
    Epoch,
    Protocol,
    Record,
    Throughput,
    _unusual,
    content_key,
    from_json,
    to_json,
)


def a_record(**changes: object) -> Record:
    case = Case("train", "esol", "gcn", "graphsam", optimizer_settings={"rho": 0.05, "norm": "global"})
    accuracy = Accuracy("rmse", 0.9, 0.8, 3, {"y": 0.9, "z": None}, 1, 2, None, 80, 10, 10)
    speed = Throughput(100.0, 1.02, 40, 3, (0.1, 0.2, 0.1), 32, "budget", {"sam": (1.9, 1.8, 2.0)})
    facts = {"key": "0" * 64, "case": case, "status": "ok", "accuracy": accuracy, "throughput": speed}
    epochs = (Epoch(0.5, 0.4, None, 1e-3, 1.5, 12),)
    return Record(**{**facts, "history": epochs, **changes})  # type: ignore[arg-type]


def test_a_record_survives_the_way_to_json_and_back() -> None:
    record = a_record()
    assert from_json(Record, json.loads(json.dumps(to_json(record)))) == record
    assert from_json(Record, json.dumps(to_json(record)).encode()) == record


def test_a_number_that_is_not_finite_is_stored_as_missing_never_as_zero() -> None:
    assert to_json({"a": float("nan"), "b": [float("inf")], "c": 0.0}) == {"a": None, "b": [None], "c": 0.0}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"status": "fine"}, "status"),
        ({"surplus": 1}, "surplus"),
        ({"seconds": "long"}, "seconds"),
        ({"history": [{"train_loss": 1.0}]}, "history.0"),
        ({"case": {"kind": "train"}}, "case"),
    ],
)
def test_a_field_that_does_not_fit_is_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        from_json(Record, {**to_json(a_record()), **change})


def test_a_key_does_not_depend_on_the_order_of_settings() -> None:
    one = Case("train", "esol", "gcn", "sam", optimizer_settings={"rho": 0.1, "eta": 1})
    two = Case("train", "esol", "gcn", "sam", optimizer_settings={"eta": 1, "rho": 0.1})
    assert content_key(one) == content_key(two)


@pytest.mark.parametrize("change", [{"seed": 1}, {"optimizer": "adam"}, {"protocol": Protocol(epochs=31)}, {"fold": 0}])
def test_a_key_changes_with_everything_that_decides_the_result(change: dict[str, object]) -> None:
    from dataclasses import replace

    case = Case("train", "esol", "gcn", "sam")
    assert content_key(case) != content_key(replace(case, **change))  # type: ignore[arg-type]


def test_every_learning_rate_that_a_suite_may_name_exists() -> None:
    from samcmp.training import loop

    assert tuple(loop.SCHEDULES) == SCHEDULES


@pytest.mark.parametrize("number", ["1e100", "-1.5E+300", "1e0100", "9" * 19, "-" + "9" * 30])
def test_a_record_is_parsed_twice_only_for_numbers_that_may_be_too_large(number: str) -> None:
    usual = b'{"key": "12e456%s", "small": 1e-100, "seconds": [0.00012345678901234567, 3.5, 1234567890]}' % (
        b"0e000" * 9
    )
    assert not _unusual(usual)
    assert _unusual(usual.replace(b"3.5", number.encode()))
