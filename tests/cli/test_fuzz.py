"""No command line and no file, however wrong, ends in a traceback, in a hang or outside its folder.

``SAMCMP_FUZZ=N`` tries N lines and N/2 files; ``full`` 2,000 and 1,000. ``SAMCMP_FUZZ_SEED`` draws others. Every
line and file has its own number, so that a fault is seen again by that number alone.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import damaging, fuzzing
from tests.commands import TINY

ASKED = os.environ.get("SAMCMP_FUZZ", "80")
LINES = 2000 if ASKED == "full" else int(ASKED)
FILES, RUNS = LINES // 2, LINES // 20
SEED = os.environ.get("SAMCMP_FUZZ_SEED", "0")

pytestmark = pytest.mark.timeout(60 + 4 * LINES, method="thread")  # the alarm belongs to the lines


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything, a store with a tuned comparison included."""
    folder = tmp_path_factory.mktemp("template")
    fuzzing.furnish(folder)
    program = (
        "import sys, tarfile; from samcmp.cli import main\n"
        "def go(*words):\n"
        "    sys.argv = ['samcmp', *words]\n"
        "    try: main()\n"
        "    except SystemExit as end: assert not end.code, words\n"
        f"go('compare', *{TINY!r}, '-o', 'adam', '-o', 'sam', '--tune', '2', '--store', 'store')\n"
        "go('report', '--store', 'store', '--format', 'json', '--output', 'results.json')\n"
        f"go('train', *{fuzzing.TINY!r}, '-o', 'adam', '--save', 'weights', '--store', 'other')\n"
        "with tarfile.open('bundle.tar', 'w') as bundle: bundle.add('mine.csv')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def fence(tmp_path_factory: pytest.TempPathFactory) -> fuzzing.Fence:
    return fuzzing.Fence(tmp_path_factory.getbasetemp())


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and a home and a place for temporary files of the test's own."""
    for name in ("HOME", "TMPDIR", "SAMCMP_CACHE", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("SAMCMP_MIRROR", raising=False)
    fuzzing.without_network(monkeypatch)
    return tmp_path / "work"


def check(faults: list[str]) -> None:
    assert not faults, f"{len(faults)} faults\n" + "\n".join(faults[:40])


def told(number: int, words: list[str], outcome: fuzzing.Outcome) -> str:
    return f"--- {number}: {words!r:.600}\n{outcome.fault}\n{outcome.text[-400:]}"


def test_no_command_line_ends_in_a_traceback_or_a_hang(
    template: Path, apart: Path, fence: fuzzing.Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzzing.without_runs(monkeypatch)
    known = fuzzing.commands()
    faults = []
    for number in range(LINES):
        words = fuzzing.line(random.Random(f"{SEED} line {number}"), known)
        with fuzzing.furnished(template, apart):
            outcome = fuzzing.run(words, fence)
        if outcome.fault:
            faults.append(told(number, words, outcome))
    check(faults)


def test_no_damaged_file_ends_in_a_traceback_or_a_hang(
    template: Path, apart: Path, fence: fuzzing.Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzzing.without_runs(monkeypatch)
    faults = []
    for number in range(FILES):
        with fuzzing.furnished(template, apart) as folder:
            words = damaging.mutant(random.Random(f"{SEED} file {number}"), folder)
            outcome = fuzzing.run(words, fence)
        if outcome.fault:
            faults.append(told(number, words, outcome))
    check(faults)


def test_what_is_not_refused_runs(template: Path, apart: Path, fence: fuzzing.Fence) -> None:
    """Damaged tables and splits again, without the stop before the run."""
    faults = []
    for number in range(RUNS):
        with fuzzing.furnished(template, apart) as folder:
            words = damaging.mutant(random.Random(f"{SEED} file {number}"), folder)
            if words[0] in {"train", "compare"} and "--dry-run" not in words:
                words[0:1] = ["train", *fuzzing.TINY, "-o", "adam"]
                words = words if "-m" in words else [*words, "-m", "gcn"]
            elif words[0] == "profile":
                words = ["fetch", "--audit", "--data", "mine.csv", "--target", "y"]
            outcome = fuzzing.run(words, fence)
        if outcome.fault:
            faults.append(told(number, words, outcome))
    check(faults)
