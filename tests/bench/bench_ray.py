"""What a case costs on Ray beside its training, and how much memory many cases take: 10,000 runs that take no time.

The peer is Ray itself: as many empty tasks, with as many in flight, as they come back. The goal is at most 3 ms a case.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil

from samcmp.engines import Setting, Work
from samcmp.engines.ray import A_SLOT, Ray
from samcmp.experiment.keys import Inputs
from samcmp.experiment.where import RayTable, Where
from samcmp.records import Case, Protocol
from samcmp.training.setup import Options
from tests.places import ROOT

RUNS = 10_000
PLAIN = """
import sys, time, ray
address, runs, beside = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ray.init(address=address, log_to_driver=False, logging_level="ERROR")

@ray.remote(num_cpus=1, max_retries=0)
def empty():
    return None

ray.get([empty.remote() for _ in range(beside)])
began = time.perf_counter()
waiting, left = [empty.remote() for _ in range(beside)], runs - beside
while waiting:
    ended, waiting = ray.wait(waiting, num_returns=1)
    ray.get(ended)
    if left:
        waiting.append(empty.remote())
        left -= 1
print((time.perf_counter() - began) / runs)
"""


def main() -> None:
    if find_spec("ray") is None:
        print("not run: Ray is not installed")
        return
    with _cluster() as address:
        empty = subprocess.run(
            [sys.executable, "-c", PLAIN, address, "2000", str(2 * A_SLOT)], capture_output=True, text=True, check=True
        )
        alone = float(empty.stdout.split()[-1])
        each, counts, sizes = _cases(address)
    print(f"an empty task of Ray, {2 * A_SLOT} in flight on 2 slots: {1000 * alone:6.2f} ms")
    print(f"a case that takes no time, a Record back:  {1000 * each:6.2f} ms, {each / alone:.1f} times that")
    print(f"{len(counts):,} of {RUNS:,} keys came back, at most {max(counts.values())} time each")
    for what, (early, late) in sizes.items():
        print(f"{what}: {early / 2**20:.0f} MiB after {RUNS // 10:,} cases, {late / 2**20:.0f} MiB after all")


@contextmanager
def _cluster() -> Iterator[str]:
    """Two nodes of one CPU whose training runs take no time."""
    import json

    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        path = os.pathsep.join([str(Path(__file__).parent / "empty_runs"), str(ROOT)])
        holder = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "engines" / "ray_nodes.py"), folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": path, "SAMCMP_CACHE": f"{folder}/cache"},
        )  # fmt: skip
        try:
            assert holder.stdout is not None
            yield json.loads(holder.stdout.readline())[0]
        finally:
            holder.communicate(timeout=60)


def _cases(address: str) -> tuple[float, Counter[str], dict[str, tuple[int, int]]]:
    """Run them all: seconds each, how often each key came back, memory of both processes early and late."""
    inputs = Inputs()
    data = inputs.datasets.identity("demo")
    made = [Case("train", "demo", "gcn", "adam", protocol=Protocol(), seed=n, data=data) for n in range(RUNS)]
    todo = {inputs.key_of(case): case for case in made}
    engine = Ray(Setting(Where(RayTable(engine="ray", address=address), f"--on ray:{address}")))
    counts: Counter[str] = Counter()
    sizes: list[tuple[int, int]] = []
    began = 0.0
    try:
        work = Work(todo)
        pool = engine.look()
        assert engine.child is not None
        processes = psutil.Process(), psutil.Process(engine.child.process.pid)
        options = Options(code=inputs.code_of(*made))
        for done in engine.train(work, options, pool=pool, listen=lambda event: None, timeout=None):
            counts[done.record.key] += 1
            if len(counts) == 100:  # both workers have started
                began = time.perf_counter()
            if len(counts) in {RUNS // 10, RUNS}:
                sizes.append((processes[0].memory_info().rss, processes[1].memory_info().rss))
        each = (time.perf_counter() - began) / (RUNS - 100)
    finally:
        engine.close()
    (first, first_driver), (last, last_driver) = sizes[0], sizes[-1]
    return each, counts, {"this process": (first, last), "the one that speaks with Ray": (first_driver, last_driver)}
