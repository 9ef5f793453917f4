"""Run ``samcmp`` commands in process groups of their own, and end each with SIGKILL at a given moment.

Nine tenths of a tiny comparison are imports, and a kill in them tests nothing. So the commands are forks of this
process, which has imported everything and has run nothing. It is asked, and answers, in lines of JSON.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

STEPS = 4  # of a write at which a group can end: half-way, before the sync, before and after the rename


def kill_in_write(number: int) -> None:
    """End this process group at the given step of its writes, counted from 1."""
    count = itertools.count(1)
    sync, replace = os.fsync, os.replace

    def step() -> None:
        if next(count) == number:
            os.killpg(0, signal.SIGKILL)

    def write_bytes(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            step()
            return len(data) // 2 + file.write(data[len(data) // 2 :])

    def synced(handle: int) -> None:
        step()
        sync(handle)

    def replaced(old: Any, new: Any) -> None:
        step()
        replace(old, new)
        step()

    patched: Any = Path
    patched.write_bytes = write_bytes
    os.fsync, os.replace = synced, replaced  # type: ignore[assignment]


def run(words: list[str], cache: str, log: str, *, step: int | None) -> None:
    """Be the command: the life of the forked process."""
    os.setpgid(0, 0)
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.environ["SAMCMP_CACHE"] = cache
    if step is not None:
        kill_in_write(step)
    from samcmp.cli import main

    sys.argv = ["samcmp", *words]
    main()


def end_of(child: int, seconds: float | None) -> int:
    """Wait for the end of a process group, which is killed after ``seconds``; return its exit code or -9."""
    ends = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, 0 if ends is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if ends is not None and time.monotonic() > ends:
            os.killpg(child, signal.SIGKILL)
            ends = None
        time.sleep(0.001)


def import_everything() -> None:
    from samcmp import report
    from samcmp.cli import compare, execute, output
    from samcmp.experiment.keys import Inputs
    from samcmp.records import Case

    for kind, optimizer in itertools.product(("train", "profile"), ("adam", "sam", "graphsam")):
        for name in Inputs().code_of(Case(kind, "demo", "gcn", optimizer)):  # type: ignore[arg-type]
            importlib.import_module(name)
    assert compare
    assert execute
    assert output
    assert report


def serve() -> None:
    import_everything()
    for line in sys.stdin:
        asked = json.loads(line)
        seconds = asked.pop("seconds")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(**asked)
                code = 0
            except SystemExit as error:
                code = int(error.code or 0)
            finally:
                os._exit(code)
        os.setpgid(child, child)  # here, too: the kill may come before the child's own call
        print(json.dumps(end_of(child, seconds)), flush=True)


if __name__ == "__main__":
    serve()
