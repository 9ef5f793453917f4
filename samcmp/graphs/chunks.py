"""Work on many molecules in chunks: in this process when it is quick, else in several.

A worker is ``python -m samcmp.graphs.chunks module:function``, to which requests and answers go by its standard input
and output: the processes that train are daemons, which may have no children through multiprocessing.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from samcmp.errors import SamcmpError

Named = dict[str, NDArray[Any]]
Progress = Callable[[str, int, int | None], None]  # what is being made, molecules done, molecules in all
Request = Mapping[str, Any]  # keyword arguments of the function

WORTH_WORKERS = 15.0  # CPU seconds of work above which starting processes (1 s each) pays
CHUNK_SECONDS = 0.5  # between two calls of progress


def work(
    function: str,
    smiles: Sequence[str],
    *,
    rows: Sequence[int],
    options: Mapping[str, Any],
    seconds_each: float,
    label: str,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Named:
    """Return the arrays that ``function`` ("module:name") makes of all molecules, joined in their order.

    It is called with ``smiles``, ``rows`` and ``options`` as keyword arguments. ``seconds_each`` is the expected CPU
    time of one molecule. Raises what the function raises.
    """
    size = max(1, min(5000, int(CHUNK_SECONDS / seconds_each)))
    requests = [
        {"smiles": list(smiles[i : i + size]), "rows": [int(row) for row in rows[i : i + size]], **options}
        for i in range(0, max(1, len(smiles)), size)  # no molecules: one empty request gives the empty arrays
    ]
    if workers is None:
        workers = _cpus() if len(smiles) * seconds_each > WORTH_WORKERS else 1
    workers = min(workers, len(requests))
    made: list[Named] = []
    done = 0
    answers = _alone(function, requests) if workers < 2 else _together(function, requests, workers=workers)
    for request, answer in zip(requests, answers, strict=True):
        made.append(answer)
        done += len(request["smiles"])
        if progress is not None:
            progress(label, done, len(smiles))
    return {name: np.concatenate([one[name] for one in made]) for name in (made[0] if made else ())}


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _find(function: str) -> Callable[..., Named]:
    module, _, name = function.partition(":")
    call: Callable[..., Named] = getattr(importlib.import_module(module), name)
    return call


def _alone(function: str, requests: Sequence[Request]) -> Any:
    call = _find(function)
    return (call(**request) for request in requests)


def _together(function: str, requests: Sequence[Request], *, workers: int) -> Any:
    """Yield the answers in order; each thread of the pool talks to one worker process at a time."""
    processes = [_start(function) for _ in range(workers)]
    free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
    for process in processes:
        free.put(process)

    def ask(request: Request) -> Named:
        process = free.get()
        try:
            return _ask(process, request)
        finally:
            free.put(process)

    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(ask, requests)
    finally:
        for process in processes:
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
        for process in processes:
            process.communicate()


def _start(function: str) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "samcmp.graphs.chunks", function],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def _ask(process: subprocess.Popen[bytes], request: Request) -> Named:
    if process.stdin is None or process.stdout is None:
        raise ValueError("a worker needs both pipes")
    try:
        pickle.dump(request, process.stdin)
        process.stdin.flush()
        answer = pickle.load(process.stdout)
    except (BrokenPipeError, EOFError, pickle.UnpicklingError):
        code = process.wait()
        raise SamcmpError(
            f"a process that reads molecules ended with code {code}",
            remedy="It may have run out of memory; try again with less running beside it.",
        ) from None
    if isinstance(answer, SamcmpError):
        raise answer
    arrays: Named = answer
    return arrays


def serve(function: str, *, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until their stream ends: the worker's side."""
    call = _find(function)
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: Named | SamcmpError = call(**request)
        except SamcmpError as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


def main(arguments: Sequence[str]) -> int:
    try:
        serve(arguments[0], requests=sys.stdin.buffer, answers=sys.stdout.buffer)
    except (KeyboardInterrupt, BrokenPipeError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
