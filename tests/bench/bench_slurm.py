"""What a chunk of a Slurm array costs beside the training in it, on a cluster of its own on this machine.

The peer is the training itself: as many times the median run of the same chunk as there are runs. What is on top, a
Python that starts and the first import of torch, is there once a task; the goal is at most 5 % of a chunk's training.
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from pathlib import Path

from samcmp.engines import Setting, Work, slurm_jobs
from samcmp.engines.chunks import CHUNK_SECONDS
from samcmp.engines.slurm import Slurm
from samcmp.experiment.keys import Inputs
from samcmp.experiment.store import Store
from samcmp.experiment.where import SlurmTable, Where
from samcmp.records import Case, Protocol
from samcmp.training.setup import Options
from tests.engines import slurm_cluster

RUNS, EPOCHS = 4, 60


def cases() -> tuple[dict[str, Case], Options]:
    inputs = Inputs()
    made = [
        Case("train", "demo", "gcn", "adam", seed=n, data=inputs.datasets.identity("demo"), protocol=Protocol(EPOCHS))
        for n in range(RUNS)
    ]
    return {inputs.key_of(case): case for case in made}, Options(code=inputs.code_of(*made))


def main() -> None:
    if (why := slurm_cluster.missing()) is not None:
        print(f"not run: {why}")
        return
    cluster = slurm_cluster.Cluster(nodes=1)
    os.environ["SLURM_CONF"] = str(cluster.config)
    try:
        _chunk(cluster)
    finally:
        cluster.stop()


def _chunk(cluster: slurm_cluster.Cluster) -> None:
    """One chunk of real training: what the task took beyond its runs."""
    slurm_jobs.WATCH_SECONDS = 1.0
    todo, options = cases()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        engine = Slurm(Setting(Where(SlurmTable(engine="slurm"), "--on slurm"), store=store, dry_run=True))
        began = time.perf_counter()
        work = Work(todo, store)
        trained = [f.record for f in engine.train(work, options, pool=engine.look(), listen=_quiet, timeout=None)]
        wall = time.perf_counter() - began
        job = cluster.call("squeue", "-h", "-t", "all", "-o", "%F").split()[0]
        cluster.wait_for(lambda: "JobState=COMPLETED" in cluster.call("scontrol", "show", "job", job))
        shown = cluster.call("scontrol", "show", "job", job)
    minutes, seconds = map(int, re.findall(r"RunTime=00:(\d\d):(\d\d)", shown)[0])
    inside = RUNS * statistics.median(record.seconds for record in trained)
    task = 60 * minutes + seconds
    assert all(record.status == "ok" for record in trained)
    print(f"{RUNS} runs of {EPOCHS} epochs, demo gcn adam: {inside:.1f} s of training")
    print(f"the task took {task} s (Slurm's clock, whole seconds): {100 * (task / inside - 1):.1f} % on top")
    print(f"from submission to the last result {wall:.1f} s: {100 * (wall / inside - 1):.1f} % on top")
    fixed = task - inside
    print(f"a task's fixed cost of {fixed:.1f} s is {100 * fixed / CHUNK_SECONDS:.2f} % of a chunk of half an hour")


def _quiet(event: object) -> None:
    pass


if __name__ == "__main__":
    main()
