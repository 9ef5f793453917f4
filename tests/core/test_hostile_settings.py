"""What a user asks for that cannot be: refused at once, and nothing else is harmed."""

from __future__ import annotations

import pytest

from samcmp.errors import UsageError
from samcmp.records import Case, Protocol
from samcmp.setup import check_settings


@pytest.mark.parametrize(
    ("optimizer", "settings"), [("sam", {"rho": -1}), ("graphsam", {"beta": 2}), ("looksam", {"k": 0})]
)
def test_a_value_that_an_optimizer_refuses_is_refused_before_any_run(
    optimizer: str, settings: dict[str, float]
) -> None:
    case = Case("train", "demo", "gcn", optimizer, protocol=Protocol(epochs=1), optimizer_settings=settings)
    with pytest.raises(UsageError, match=next(iter(settings))):
        check_settings([case])
