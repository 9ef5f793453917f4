"""A cluster of Ray with two nodes on this machine: equal results, and what becomes of cases when something ends."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from samcmp.data import user_table
from samcmp.data.catalogue import Catalogue
from samcmp.engines import Finished, Pool, Setting, Work, local
from samcmp.engines.ray import Ray
from samcmp.engines.work import Began, Said
from samcmp.errors import SamcmpError
from samcmp.experiment.keys import Inputs
from samcmp.experiment.store import Store
from samcmp.experiment.where import RayTable, Where
from samcmp.records import Case, Protocol, to_json
from samcmp.training.setup import Options
from tests.places import ROOT

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'samcmp[ray]'")

WORKER = "ray::samcmp"  # how Ray calls the process of a task of ours
TINY = Protocol(epochs=1, subset=40, batch_size=8)
MODEL = '''
"""A model that is ill in the way that its file's name says."""
import os, time
import torch
from torch import nn
from torch_geometric.nn import global_mean_pool


class Net(nn.Module):
    def __init__(self, in_channels, bond_features, tasks):
        super().__init__()
        self.head = nn.Linear(in_channels, tasks)

    def forward(self, data):
        {ill}
        return self.head(global_mean_pool(data.x, data.batch))
'''


@dataclass
class Nodes:
    """The cluster, of which one node can be killed."""

    process: subprocess.Popen[str]
    cache: Path  # of the nodes
    address: str = ""
    second: str | None = None  # the node that can be killed

    def read(self) -> None:
        assert self.process.stdout is not None
        self.address, self.second = json.loads(self.process.stdout.readline())

    def do(self, what: str) -> None:
        assert self.process.stdin is not None
        print(what, file=self.process.stdin, flush=True)
        self.read()
        if what == "kill":
            self.second = None


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Two nodes of one CPU each, which take only commands with their token. Sockets need short paths."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    (folder / "token").write_text("0123456789abcdef" * 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        holder = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "engines" / "ray_nodes.py"), str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "SAMCMP_CACHE": str(folder / "cache")},
        )  # fmt: skip
        try:
            found = Nodes(holder, folder / "cache")
            found.read()
            yield found
        finally:
            holder.communicate(timeout=60)  # no more lines: it shuts down
            shutil.rmtree(folder, ignore_errors=True)


def where(nodes: Nodes, **table: Any) -> Where:
    return Where(RayTable(engine="ray", address=nodes.address, **table), f"--on ray:{nodes.address}")


@dataclass
class Reached:
    engine: Ray
    pool: Pool

    def train(self, cases: Iterable[Case], options: Options, **more: Any) -> Iterator[Finished]:
        keyed = {Inputs(options.datasets).key_of(case): case for case in cases}
        options = replace(options, code=Inputs(options.datasets).code_of(*keyed.values()))
        given = {"listen": lambda event: None, "timeout": None, **more}
        return self.engine.train(Work(keyed), options, pool=self.pool, **given)


@pytest.fixture(scope="module")
def reached(nodes: Nodes) -> Iterator[Reached]:
    engine = Ray(Setting(where(nodes)))
    try:
        yield Reached(engine, engine.look())
    finally:
        engine.close()


def ill(name: str, how: str) -> Case:
    """A case with a user's model in the current folder that does ``how`` with the first batch."""
    Path(f"{name}.py").write_text(MODEL.format(ill=how))
    return with_code(Case("train", "demo", f"{name}.py:Net", "adam", protocol=TINY))


def with_code(case: Case) -> Case:
    return replace(case, data=Inputs().datasets.identity("demo"), code=Inputs().contents_of(case.model, case.optimizer))


def comparable(done: Iterable[Finished]) -> dict[str, Any]:
    """What is equal wherever a case runs: the Record without times and machine, and the bytes of its predictions."""
    found = {}
    for each in done:
        record = to_json(each.record)
        for name in ("created", "seconds", "machine"):
            del record[name]
        for epoch in record["history"]:
            del epoch["seconds"]
        p = each.predictions
        kept = () if p is None else (p.rows, p.truth, p.prediction.astype("float32"))  # as a store keeps them
        found[each.record.key] = record, [array.tobytes() for array in kept]
    return found


def here(cases: Iterable[Case], options: Options) -> dict[str, Any]:
    keyed = {Inputs(options.datasets).key_of(case): case for case in cases}
    return comparable(local.run_here(Work(keyed), options, listen=lambda event: None))


def until(condition: Callable[[], bool], *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def working() -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if WORKER in " ".join(p.info["cmdline"] or [])]


# ---------------------------------------------------------------------------------------------- equal results


def test_nodes_are_described_with_their_slots_kind_and_versions(reached: Reached) -> None:
    assert [node.slots for node in reached.pool.used] == [1, 1]
    assert len({node.name for node in reached.pool.nodes}) == 2
    assert reached.pool.used[0].versions["torch"]
    assert len(reached.pool.kinds) == 1
    assert reached.engine.announce({}, reached.pool) == [
        f"Ray at {reached.engine.table.address}: 1 CPU a case, at most 4 cases handed out at a time."
    ]


def test_results_are_equal_to_those_of_this_machine_and_files_come_by_their_content(
    reached: Reached, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (ROOT / "datasets" / "demo.csv").read_text().splitlines()[:61]
    content = "\n".join([*lines, ""]).encode()
    Path("mine.csv").write_bytes(content)
    card = user_table.user_card(Path("mine.csv"), "smiles", ["logS"], content=content)
    options = Options(datasets=Catalogue(own=[(card, hashlib.sha256(content).hexdigest())]))
    cases = [
        Case("train", name, "gcn", optimizer, protocol=replace(TINY, subset=subset), seed=seed,
             data=options.datasets.identity(name))
        for name, subset, optimizer, seed in (
            ("demo", 40, "adam", 0), ("demo", 40, "sam", 1), (card.name, None, "adam", 0), (card.name, None, "sam", 1))
    ]  # fmt: skip
    there = comparable(reached.train(cases, options))
    assert there == here(cases, options)
    assert [record["status"] for record, _ in there.values()] == ["ok"] * 4
    sent = nodes.cache / "sent" / hashlib.sha256(content).hexdigest()
    assert (sent / "mine.csv").read_bytes() == content


def test_a_node_that_is_killed_in_mid_run_costs_nothing(reached: Reached, nodes: Nodes, tmp_path: Path) -> None:
    protocol = replace(TINY, epochs=100)
    cases = [with_code(Case("train", "demo", "gcn", "adam", protocol=protocol, seed=seed)) for seed in (2, 3)]
    victim = next(node.name for node in reached.pool.nodes if str(nodes.second).startswith(node.name[-6:]))
    news = []

    def listen(event: Any) -> None:
        if isinstance(event, Began) and event.place == victim and nodes.second is not None:
            nodes.do("kill")
        if isinstance(event, Said):
            news.append(event.text)

    try:
        there = comparable(reached.train(cases, Options(), listen=listen))
    finally:
        if nodes.second is None:
            nodes.do("add")
    assert [text for text in news if text.startswith(f"node {victim} has ended with demo gcn adam")]
    assert there == here(cases, Options())


# ---------------------------------------------------------------------------------------------- what ends a case


def test_a_worker_that_dies_is_tried_once_more(
    reached: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    news: list[str] = []
    listen = lambda event: news.append(event.text) if isinstance(event, Said) else None  # noqa: E731
    (done,) = reached.train([ill("dies", "os.kill(os.getpid(), 9)")], Options(), listen=listen)
    assert len(news) == 1
    assert news[0].startswith("the worker process of demo dies.py:Net adam")
    assert done.record.status == "error"
    assert "twice (often: out of memory)" in done.record.reason


def test_a_case_that_takes_too_long_is_ended_and_recorded(
    reached: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (done,) = reached.train([ill("slow", "time.sleep(600)")], Options(), timeout=2.0)
    assert (done.record.status, done.record.reason) == ("timeout", "took longer than 2 s")
    assert done.record.machine["architecture"]
    assert until(lambda: not working(), seconds=5)


def test_what_is_left_early_runs_nowhere(reached: Reached, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def listen(event: Any) -> None:
        if isinstance(event, Began):
            assert working()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(reached.train([ill("early", "time.sleep(600)")], Options(), listen=listen))
    assert until(lambda: not working(), seconds=5)


def test_other_code_on_a_node_is_named(reached: Reached) -> None:
    case = with_code(Case("train", "demo", "gcn", "adam", protocol=TINY))
    options = Options(code={**Inputs().code_of(case), "samcmp.training.loop": "0" * 64})
    work = Work({Inputs().key_of(case): case})
    engine = Ray(reached.engine.setting)  # an error ends its connection
    try:
        pool = engine.look()
        with pytest.raises(SamcmpError, match=r"the code of samcmp.training.loop differs") as error:
            list(engine.train(work, options, pool=pool, listen=lambda event: None, timeout=None))
        assert error.value.where in {f"node {node.name}" for node in pool.nodes}
    finally:
        engine.close()


# ---------------------------------------------------------------------------------------------- the whole command


def command(nodes: Nodes, *words: str, **environment: str) -> subprocess.Popen[str]:
    fixed = ("compare", "--on", f"ray:{nodes.address}", "--device", "cpu", "--plain", "-m", "gcn", "-o", "adam")
    return subprocess.Popen(
        [sys.executable, "-m", "samcmp", *fixed, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_a_killed_command_leaves_nothing_running_and_goes_on_when_started_again(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--repeats", "3", "--subset", "200", "--epochs", "10", "--profile-seconds", "1", "--store", "s")
    first = command(nodes, *words)
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith("[1/3]"):
            break
    first.kill()
    first.communicate()
    assert until(lambda: not working(), seconds=10)
    kept = {record.key: record for record in Store(tmp_path / "s").records()}
    assert {"train", "profile"} == {record.case.kind for record in kept.values()}
    second = command(nodes, *words)
    out, err = second.communicate(timeout=120)
    assert (second.returncode, "adam" in out) == (0, True), err
    after = Store(tmp_path / "s").records()
    assert sorted((r.case.kind, r.status) for r in after) == [("profile", "ok"), *[("train", "ok")] * 3]
    assert all(kept[record.key] == record for record in after if record.key in kept)


def test_a_dry_run_shows_the_cluster_and_submits_nothing(nodes: Nodes, tmp_path: Path) -> None:
    run = command(nodes, "--dry-run", "--store", str(tmp_path / "s"))
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert "On ray: 2 nodes, 2 slots: 2 of " in out
    assert "1 CPU a case, at most 4 cases handed out at a time" in out
    assert not (tmp_path / "s").exists()


# ---------------------------------------------------------------------------------------------- refusals


def refused(engine: Ray) -> SamcmpError:
    try:
        with pytest.raises(SamcmpError) as error:
            engine.look()
        return error.value
    finally:
        engine.close()


def test_a_request_that_no_node_satisfies_is_refused_with_what_they_have(nodes: Nodes) -> None:
    error = refused(Ray(Setting(where(nodes, cpus=4, gpus=1))))
    assert error.what == "no node offers 1 GPU and 4 CPUs"
    assert str(error.remedy).count("has 1 CPU") == 2


def test_another_version_on_a_node_is_named(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    from samcmp import machine

    ours = {**machine.versions(), "torch": "2.12.0"}
    monkeypatch.setattr(machine, "versions", lambda: ours)
    error = refused(Ray(Setting(where(nodes))))
    assert "runs torch" in error.what
    assert "the machine that submits 2.12.0" in error.what


def test_cuda_without_a_gpu_on_any_node_is_refused(nodes: Nodes) -> None:
    assert refused(Ray(Setting(where(nodes), devices=("cuda:0",)))).what == "no node offers 1 GPU and 1 CPU"
    assert "need a GPU, found 0" in refused(Ray(Setting(where(nodes, gpus=0), devices=("cuda:0",)))).what
