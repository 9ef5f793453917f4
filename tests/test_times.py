"""A time has a unit, and means the same in every command and file."""

from __future__ import annotations

import pytest

from samcmp.errors import UsageError
from samcmp.times import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5min", 300),
        ("1h", 3600),
        ("1.5h", 5400),
        (".5 min", 30),
        (" 2min ", 120),
        ("1s", 1),
        ("2d", 172800),
        ("1w", 604800),
    ],
)
def test_a_time_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["60", "1.5", " 7 "])
def test_a_bare_number_is_refused_because_it_once_meant_seconds_here_and_minutes_there(text: str) -> None:
    with pytest.raises(UsageError, match="no unit") as caught:
        seconds_of(text)
    assert f"{text.strip()}s" in str(caught.value.remedy)


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "soon", "5 minutes", "-5min", "1h30", "1e3s", "5MIN", "s", "١s", "1.s"]
)
def test_what_is_not_a_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="not a time") as caught:
        seconds_of(text)
    assert "--budget 5min" in str(caught.value.remedy)


@pytest.mark.parametrize("text", ["0s", "0.5s", "0h", f"{'9' * 400}s"])
def test_a_time_that_is_nothing_or_endless_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="at least 1 s"):
        seconds_of(text)
