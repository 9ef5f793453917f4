"""A plan's runs in chunks: as many as are worth a task's start, of about equal time."""

from __future__ import annotations

import pytest

from samcmp.engines import chunks
from samcmp.records import Case, Epoch, Protocol, Record


def spent(seconds: dict[str, float], divided: list[list[str]]) -> list[float]:
    return [sum(seconds[key] for key in chunk) for chunk in divided]


@pytest.mark.parametrize(
    ("each", "runs", "tasks", "count"),
    [
        (60.0, 12, 64, 1),  # 12 minutes in all: one task
        (60.0, 31, 64, 2),  # 31 minutes
        (7200.0, 3, 64, 3),  # no more than there are runs
        (1800.0, 100, 8, 8),  # no more than may be submitted
        (0.0, 5, 64, 1),
    ],
)
def test_there_are_as_many_chunks_as_half_hours(each: float, runs: int, tasks: int, count: int) -> None:
    divided = chunks.divide({f"{n}": each for n in range(runs)}, tasks=tasks)
    assert len(divided) == count
    assert sorted(key for chunk in divided for key in chunk) == sorted(f"{n}" for n in range(runs))


def test_the_longest_go_first_each_into_the_emptiest_chunk() -> None:
    seconds = {"a": 3000.0, "b": 2000.0, "c": 2000.0, "d": 1000.0, "e": 500.0}
    assert chunks.divide(seconds, tasks=3) == [["a"], ["b", "d"], ["c", "e"]]


def test_within_a_chunk_runs_keep_the_order_of_the_plan() -> None:
    assert chunks.divide({"short": 1.0, "long": 50.0, "middle": 7.0}, tasks=1) == [["short", "long", "middle"]]


def test_no_chunk_is_much_longer_than_the_best_division_allows() -> None:
    seconds = {f"{n}": 100.0 + 37.0 * (n % 29) for n in range(300)}
    times = spent(seconds, chunks.divide(seconds, tasks=20))
    assert max(times) <= (4 / 3) * max(sum(seconds.values()) / 20, max(seconds.values()))  # Graham 1969


def test_runs_of_one_group_stay_together() -> None:
    seconds = {f"{block}{arm}": 3600.0 for block in "abc" for arm in range(4)}
    divided = chunks.divide(seconds, tasks=64, groups={key: key[0] for key in seconds})
    assert [{key[0] for key in chunk} for chunk in divided] == [{"a"}, {"b"}, {"c"}]


def test_a_task_may_take_half_as_long_again_and_five_minutes() -> None:
    assert chunks.limit_minutes(0.0) == 5
    assert chunks.limit_minutes(1800.0) == 50
    assert chunks.limit_minutes(1801.0) == 51


def case(optimizer: str, model: str = "gcn") -> Case:
    return Case("train", "demo", model, optimizer, protocol=Protocol(epochs=10))


def test_a_run_like_none_before_is_expected_to_take_what_the_others_take() -> None:
    epoch = Epoch(0.1, 0.1, 0.1, 1e-3, 1.0, 1)
    before = Record("0" * 64, case("adam"), "ok", seconds=20.0, history=(epoch, epoch))
    expected = chunks.expected({"a": case("adam"), "b": case("sam"), "c": case("sam", "mpnn")}, [before])
    assert expected == {"a": 100.0, "b": 100.0, "c": 100.0}
    assert chunks.expected({"a": case("adam")}, []) == {"a": 60.0}
