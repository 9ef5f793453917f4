"""What one training step frees, the next one uses again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from samcmp import machine

if sys.argv[1] == "kept":
    machine.keep_freed_memory()
for _ in range(2):
    held = [np.ones(3 << 20, dtype=np.uint8) for _ in range(12)]
    del held
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    held = [np.ones(3 << 20, dtype=np.uint8) for _ in range(12)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Count the pages that ten steps, 36 MiB each, had to ask the system for."""
    run = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides by itself what it gives back")
def test_pages_of_freed_blocks_are_not_asked_for_again() -> None:
    assert faults("kept") * 3 < faults("given back")
