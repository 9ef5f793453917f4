"""A signal that asks a comparison to end: its workers end, what is finished is kept, the exit code names it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from samcmp.experiment.store import Store
from tests.places import ROOT

LONG = (
    *("--subset", "60", "--epochs", "20", "--repeats", "20", "-o", "adam"),
    *("--profile-seconds", "1", "--device", "cpu", "--plain"),
)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_comparison_that_is_asked_to_end_ends_its_workers_and_keeps_what_is_finished(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = [sys.executable, "-m", "samcmp", "compare", *LONG, "--store", str(tmp_path / "store")]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True, text=True)
    try:
        while len(Store(tmp_path / "store").records()) < 2 and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        ends = time.monotonic() + 10
        while is_alive(process.pid) and time.monotonic() < ends:
            time.sleep(0.05)
        assert process.returncode == 128 + number
        assert "Interrupted. Finished runs are kept" in said
        assert "Traceback" not in said
        assert not is_alive(process.pid), "a worker goes on without its parent"
        kept = Store(tmp_path / "store")
        assert 2 <= len(kept.records()) < 21
        assert kept.damaged == []
        assert list((tmp_path / "store").rglob("*.part")) == []
    finally:
        if is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
