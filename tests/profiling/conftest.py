"""Sessions of this room are timed by the processor time of the process: a busy machine makes them long, not wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from samcmp.profiling.clocks import HostClock


def own_clock(device: Any) -> HostClock:
    return HostClock(time.process_time_ns, cpu_counter=time.process_time_ns)


@pytest.fixture(scope="module", autouse=True)
def _own_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samcmp.profiling.session.clock_for", own_clock)
        patch.setattr("samcmp.profiling.selfcheck.clock_for", own_clock)
        yield
