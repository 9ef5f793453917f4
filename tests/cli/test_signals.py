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


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
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


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["compare -o adam --profile-seconds 60 --plain", "profile -o adam --budget 60s"])
def test_an_end_while_speed_is_measured_has_the_exit_code_of_its_signal(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    words = [sys.executable, "-m", "samcmp", *command.split(), "--device", "cpu", "--store", str(tmp_path / "store")]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            words, cwd=ROOT, stdout=said, stderr=said, env={**os.environ, "SAMCMP_LOCKS": str(tmp_path)}
        )
        while not list(tmp_path.glob("samcmp-*.lock")) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number
    assert "Traceback" not in (tmp_path / "said").read_text()
    assert {record.status for record in Store(tmp_path / "store").records()} <= {"partial"}


@pytest.mark.parametrize("number", SIGNALS)
def test_an_end_after_which_nothing_can_be_said_has_its_exit_code_too(tmp_path: Path, number: signal.Signals) -> None:
    """As where a terminal is closed: everything that is still printed is refused."""
    words = [sys.executable, "-m", "samcmp", "compare", *LONG, "--store", str(tmp_path / "store")]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE)
        assert process.stderr
        process.stderr.readline()
        process.stderr.close()
        process.send_signal(number)
        assert process.wait(timeout=60) in {128 + number, 141}


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from samcmp.cli import main, process\nprocess.handle_signals()\n"
        "os.kill(os.getpid(), signal.SIGHUP); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "goes on\n"
