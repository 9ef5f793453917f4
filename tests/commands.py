"""What tests of the command line share: the type of the fixture ``run``, and options that keep a comparison tiny."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]  # words -> exit code, standard output, standard error
TINY = (
    *("--subset", "40", "--batch-size", "8", "--epochs", "1", "--repeats", "2"),
    *("--profile-seconds", "1", "--device", "cpu", "--jobs", "1"),
)
