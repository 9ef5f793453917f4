"""Runs on a real Slurm cluster, which is this machine: equal results whatever happens to jobs, nodes and commands."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from samcmp.engines import Began, Finished, Setting, Work, local, slurm_jobs
from samcmp.engines.slurm import Slurm
from samcmp.engines.slurm_commands import Commands, Unreachable
from samcmp.errors import SamcmpError, UsageError
from samcmp.experiment.keys import Inputs
from samcmp.experiment.store import Store
from samcmp.experiment.where import SlurmTable, Where
from samcmp.records import Case, Protocol, to_json
from samcmp.training.setup import Options
from tests.commands import Run
from tests.engines import slurm_cluster
from tests.engines.slurm_cluster import Cluster

pytestmark = pytest.mark.skipif(slurm_cluster.missing() is not None, reason=slurm_cluster.missing() or "")
Listen = Callable[[object], None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    patch = pytest.MonkeyPatch()
    made = Cluster()
    patch.setenv("SLURM_CONF", str(made.config))
    patch.setattr(slurm_jobs, "WATCH_SECONDS", 0.3)
    yield made
    patch.undo()
    made.stop()


def plan(*models: str, arms: tuple[str, ...] = ("adam",), seeds: int = 1) -> tuple[dict[str, Case], Options]:
    """Tiny cases of the demo set under their keys, and what they run with."""
    inputs = Inputs()
    cases = [
        Case(
            "train", "demo", model, arm, seed=seed, split_seed=seed, data=inputs.datasets.identity("demo"),
            protocol=Protocol(epochs=1, subset=40, batch_size=8), code=inputs.contents_of(model, arm),
        )
        for model in models
        for seed in range(seeds)
        for arm in arms
    ]  # fmt: skip
    return {inputs.key_of(case): case for case in cases}, Options(code=inputs.code_of(*cases))


@pytest.fixture
def made_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of these tests are made in a moment: no process of its own is worth it."""
    monkeypatch.setattr("samcmp.engines.slurm.featurise", lambda cases, options: None)


def engine(store: Store, **settings: object) -> Slurm:
    where = Where(SlurmTable(engine="slurm", **settings), "--on slurm")  # type: ignore[arg-type]
    return Slurm(Setting(where, store=store, dry_run=True))


def train(
    slurm: Slurm, cases: dict[str, Case], options: Options, listen: Listen = lambda event: None
) -> list[Finished]:
    work = Work(cases, slurm.store)
    done = []
    try:
        for finished in slurm.train(work, options, pool=slurm.look(), listen=listen, timeout=None):
            work.keep(finished)
            done.append(finished)
    finally:
        slurm.close()
    return done


def results(store: Store, cases: dict[str, Case]) -> dict[str, object]:
    """What must be equal of two result sets: Records without times and machine, and the bytes of the predictions."""
    found: dict[str, object] = {}
    for key in cases:
        record = store.get(key)
        assert record is not None
        history = tuple(dataclasses.replace(epoch, seconds=0.0) for epoch in record.history)
        plain = dataclasses.replace(record, created="", seconds=0.0, machine={}, history=history)
        arrays = store.predictions(key) or {}
        found[key] = to_json(plain), {name: np.asarray(array).tobytes() for name, array in arrays.items()}
    return found


def test_an_array_completes_equal_though_a_task_is_requeued_and_a_node_vanishes(
    cluster: Cluster, tmp_path: Path, made_graphs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, options = plan("gcn", arms=("adam", "sam"), seeds=2)
    here = Store(tmp_path / "here")
    work = Work(cases, here)
    for finished in local.run_here(work, options, listen=lambda event: None):
        work.keep(finished)
    monkeypatch.setattr("samcmp.engines.chunks.CHUNK_SECONDS", 120.0)  # two tasks
    there = Store(tmp_path / "a store's 100% $(exit 1)")
    slurm = engine(there, cpus=2)  # a node each

    def disturb(event: object) -> None:
        if isinstance(event, Began) and event.place == "n1" and "n1" not in disturbed:
            task = next(t for t in slurm.jobs.commands.tasks([slurm.waiting[0].folder.name]) if t.node == "n1")
            cluster.call("scontrol", "requeue", f"{task.job}_{task.index}")
            disturbed.append("n1")
        elif isinstance(event, Began) and event.place == "n2" and "n2" not in disturbed:
            cluster.lose("n2")
            disturbed.append("n2")

    disturbed: list[str] = []
    done = train(slurm, cases, options, disturb)
    cluster.back("n2")
    assert sorted(disturbed) == ["n1", "n2"]
    assert sorted(f.record.key for f in done) == sorted(cases)
    assert results(there, cases) == results(here, cases)
    logs = "".join(path.read_text() for path in slurm.jobs.root.glob("*/logs/*.log"))
    assert "ended by a signal; what is finished is kept" in logs
    assert logs.count("requeued 1 times") == 2


SICK = """
import os
import torch
from torch_geometric.nn import global_mean_pool


class Net(torch.nn.Module):
    def __init__(self, in_channels, bond_features, tasks):
        super().__init__()
        self.head = torch.nn.Linear(in_channels, tasks)

    def forward(self, data):
        if os.environ.get("SLURM_JOB_ID"):
            os.kill(os.getpid(), 9)
        return self.head(global_mean_pool(data.x, data.batch))
"""


def test_a_cancelled_job_is_told_and_the_same_command_completes_it_detached(
    cluster: Cluster, in_empty_folder: Path, made_graphs: None
) -> None:
    Path("sick.py").write_text(SICK)
    cases, options = plan("gcn", "sick.py:Net")
    store = Store(in_empty_folder / "store")

    def cancel(event: object) -> None:
        if isinstance(event, Began):
            cluster.call("scancel", str(first.waiting[0].job.number))

    first = engine(store)
    with pytest.raises(SamcmpError, match=r"job \d+ was cancelled"):
        train(first, cases, options, cancel)
    assert all(store.get(key) is None for key in cases)

    second = engine(store)
    said = second.detach(Work(cases, store), [], options, pool=second.look(), seconds=1, timeout=None)
    second.close()
    assert "The same command collects the results" in said
    numbers = set(cluster.call("squeue", "-h", "-o", "%F").split())
    done = {f.record.case.model: f.record for f in train(engine(store), cases, options)}
    assert done["gcn"].status == "ok"
    assert done["sick.py:Net"].status == "error"  # a killed worker costs its own run alone
    assert "signal 9" in (done["sick.py:Net"].reason or "")
    assert set(cluster.call("squeue", "-h", "-t", "all", "-o", "%F").split()) >= numbers
    assert len(numbers) == 1
    assert f"submitted job {numbers.pop()}: 2 runs in 1 task" in said


def test_compare_trains_measures_and_prints_and_the_second_time_asks_the_cluster_for_nothing(
    cluster: Cluster, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    words = (
        *("compare", "--on", "slurm", "--device", "cpu", "-d", "demo", "-m", "gcn", "-o", "adam", "--store", "s"),
        *("--subset", "40", "--batch-size", "8", "--epochs", "1", "--repeats", "1", "--profile-seconds", "1"),
    )
    code, out, err = run(*words)
    assert code == 0, err
    assert "adam" in out
    assert "graphs/s" in out
    assert "asks a node what it is" in caplog.text
    records = Store(Path("s")).records()
    assert sorted((r.case.kind, r.status) for r in records) == [("profile", "ok"), ("train", "ok")]
    submitted = cluster.call("squeue", "-h", "-t", "all", "-o", "%F")
    assert run(*words)[0] == 0
    assert cluster.call("squeue", "-h", "-t", "all", "-o", "%F") == submitted


def test_a_dry_run_shows_chunks_and_the_sbatch_line_and_leaves_nothing(cluster: Cluster, run: Run) -> None:
    queued = cluster.call("squeue", "-h", "-t", "all", "-o", "%F")
    code, out, _ = run(
        "compare", "--on", "slurm", "--device", "cpu", "-d", "demo", "-m", "gcn", "--dry-run", "--store", "s"
    )
    assert code == 0
    assert "On slurm: 2 nodes, 4 slots" in out
    assert "Chunks: " in out
    assert "Submits: sbatch --parsable --requeue --open-mode=append" in out
    assert cluster.call("squeue", "-h", "-t", "all", "-o", "%F") == queued
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("settings", "sentence", "key"),
    [
        ({"cpus": 64}, "Requested node configuration is not available", "cpus = 64"),
        ({"constraint": "a100"}, "Invalid feature specification", "constraint = 'a100'"),
        ({"memory": "999G"}, "Requested node configuration is not available", "memory = '999G'"),
    ],
)
def test_what_can_never_run_is_refused_before_it_queues_in_slurms_own_words(
    cluster: Cluster, tmp_path: Path, settings: dict[str, object], sentence: str, key: str
) -> None:
    cases, _ = plan("gcn")
    slurm = engine(Store(tmp_path), **settings)
    with pytest.raises(UsageError, match=sentence) as caught:
        slurm.announce(cases, slurm.look())
    assert key in (caught.value.remedy or "")
    assert not list(tmp_path.iterdir())


def test_an_unknown_partition_is_named_with_its_key(cluster: Cluster, tmp_path: Path) -> None:
    where = Where(SlurmTable(engine="slurm", partition="gpuu"), "--on c", "benchmarks.toml: run.c")
    with pytest.raises(UsageError, match=r"Slurm says: .*partition") as caught:
        Commands(where).try_out(["--partition=gpuu"], "#!/bin/sh\n")
    assert caught.value.where == "benchmarks.toml: run.c.partition"


def test_a_controller_that_does_not_answer_is_said(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "slurm.conf"
    config.write_text(cluster.config.read_text().replace("SlurmctldTimeout=10", "SlurmctldTimeout=1\nMessageTimeout=2"))
    port = next(line for line in config.read_text().splitlines() if line.startswith("SlurmctldPort"))
    config.write_text(config.read_text().replace(port, "SlurmctldPort=9"))
    for path in (config, tmp_path / "absent.conf"):
        monkeypatch.setitem(os.environ, "SLURM_CONF", str(path))
        with pytest.raises(Unreachable, match="--on slurm: the controller does not answer"):
            engine(Store(tmp_path)).look()
