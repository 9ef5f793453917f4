"""What tests of the command line share: the type of the fixture ``run``, and options that keep a comparison tiny."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]  # words -> exit code, standard output, standard error
TINY = (
    *("--subset", "40", "--batch-size", "8", "--epochs", "1", "--repeats", "2"),
    *("--profile-seconds", "1", "--device", "cpu", "--jobs", "1"),
)


def tiny(*words: str) -> tuple[str, ...]:
    """The options of TINY without those that ``words`` give, then ``words``: an option that takes one is given once."""
    pairs = zip(TINY[::2], TINY[1::2], strict=True)
    return (*(word for pair in pairs if pair[0] not in words for word in pair), *words)
