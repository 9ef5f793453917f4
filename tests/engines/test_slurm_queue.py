"""What the engine slurm makes of what a queue shows, with a queue that is played: no Slurm is needed here."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from samcmp.engines import Finished, Said, Setting, Work, slurm_jobs
from samcmp.engines.slurm import Slurm
from samcmp.engines.slurm_commands import Commands, Offer, Task, Unreachable, _gpus
from samcmp.engines.slurm_files import RunFolder, run_id, script
from samcmp.errors import SamcmpError, UsageError
from samcmp.experiment.kinds import Kind
from samcmp.experiment.store import Store
from samcmp.experiment.where import SlurmTable, Where
from samcmp.records import Case, Protocol, Record
from samcmp.training.setup import Options

Played = Callable[["Queue", RunFolder, int], None]


class Queue(Commands):
    """Jobs that end as soon as they are looked at; ``play`` does what they would have done."""

    def __init__(self, where: Where, store: Store, play: Played) -> None:
        super().__init__(where)
        self.store = store
        self.play = play
        self.submissions: list[list[str]] = []
        self.cancelled: list[int] = []
        self.avoided: list[str] = []
        self.state, self.reason = "COMPLETED", "None"
        self.silent = 0  # looks without an answer
        self.names: dict[str, int] = {}

    def require(self) -> None:
        pass

    def offers(self, partition: str | None) -> list[Offer]:
        return [Offer("n1", 2, 0, (), "idle"), Offer("n2", 2, 0, (), "idle"), Offer("n3", 2, 0, (), "down*")]

    def most_tasks(self) -> int:
        return 1000

    def tasks(self, names: object) -> list[Task]:
        if self.silent:
            self.silent -= 1
            raise Unreachable("the controller does not answer")
        return [Task(number, 0, self.state, self.reason, "n1") for number in self.names.values()]

    def try_out(self, words: Sequence[str], script: str) -> None:
        pass

    def submit(self, words: Sequence[str], path: str) -> int:
        self.submissions.append(list(words))
        folder = RunFolder(Path(path).parent)
        self.names[folder.name] = number = len(self.submissions)
        self.play(self, folder, number)
        return number

    def cancel(self, jobs: object) -> None:
        self.cancelled += jobs  # type: ignore[operator]

    def keep_away(self, job: int, nodes: object) -> None:
        self.avoided = sorted(nodes)  # type: ignore[call-overload]


def cases(count: int) -> dict[str, Case]:
    return {
        f"{n:064x}": Case("train", "demo", "gcn", "adam", seed=n, protocol=Protocol(subset=40)) for n in range(count)
    }


def record(key: str, status: str = "ok", created: str = "2026-01-01T00:00:00+00:00") -> Record:
    return Record(key, cases(9)[key], status, created=created)  # type: ignore[arg-type]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Slurm, Queue]]:
    monkeypatch.setattr(slurm_jobs, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr("samcmp.engines.slurm.featurise", lambda cases, options: None)

    def make(play: Played, **settings: object) -> tuple[Slurm, Queue]:
        where = Where(SlurmTable(engine="slurm", **settings), "--on slurm")  # type: ignore[arg-type]
        engine = Slurm(Setting(where, store=Store(tmp_path / "store"), dry_run=True))
        engine.jobs.commands = queue = Queue(where, engine.store, play)
        return engine, queue

    return make


def train(engine: Slurm, some: dict[str, Case], said: list[str] | None = None) -> list[Finished]:
    def listen(event: object) -> None:
        if said is not None and isinstance(event, Said):
            said.append(event.text)

    work = Work(some, engine.store)
    done = []
    for finished in engine.train(work, Options(), pool=engine.look(), listen=listen, timeout=None):
        work.keep(finished)
        done.append(finished)
    return done


def does_all(queue: Queue, folder: RunFolder, number: int) -> None:
    for order in folder.plan().orders:
        folder.mark(order.key, job=number, node="n1")
        queue.store.add(record(order.key))


def begins(queue: Queue, folder: RunFolder, number: int) -> None:
    for order in folder.plan().orders:
        folder.mark(order.key, job=number, node="n1")


def nothing(queue: Queue, folder: RunFolder, number: int) -> None:
    pass


Make = Callable[..., tuple[Slurm, Queue]]


def test_what_tasks_have_stored_is_collected_once(played: Make) -> None:
    engine, queue = played(does_all)
    done = train(engine, cases(3))
    assert sorted(f.record.key for f in done) == sorted(cases(3))
    assert all(f.stored for f in done)
    assert len(queue.submissions) == 1


def test_a_run_that_three_jobs_began_and_none_ended_is_recorded_as_an_error(played: Make) -> None:
    engine, queue = played(begins)
    queue.state = "OUT_OF_MEMORY"
    (done,) = train(engine, cases(1))
    assert len(queue.submissions) == 3
    assert done.record.status == "error"
    assert done.record.reason == "its worker ended without a result 3 times; the last job's state: OUT_OF_MEMORY"


def test_runs_that_a_job_did_not_come_to_are_submitted_again_alone(played: Make) -> None:
    def first_run(queue: Queue, folder: RunFolder, number: int) -> None:
        order = folder.plan().orders[0]
        folder.mark(order.key, job=number, node="n1")
        queue.store.add(record(order.key))

    engine, queue = played(first_run)
    queue.state = "TIMEOUT"
    said: list[str] = []
    assert len(train(engine, cases(4), said)) == 4
    assert len(queue.submissions) == 4
    assert "job 1 ended (TIMEOUT) without 3 runs: again as job 2" in said


def test_a_cancelled_job_ends_the_command_and_counts_for_no_try(played: Make) -> None:
    engine, queue = played(begins)
    queue.state = "CANCELLED"
    with pytest.raises(SamcmpError, match="job 1 was cancelled") as caught:
        train(engine, cases(1))
    assert "same command again" in (caught.value.remedy or "")
    assert RunFolder(engine.jobs.root / run_id(cases(1))).marks() == {}


def test_jobs_that_end_unseen_say_that_the_nodes_do_not_see_the_store(played: Make) -> None:
    engine, queue = played(nothing)
    queue.state = "FAILED"
    with pytest.raises(SamcmpError, match="the compute nodes do not see") as caught:
        train(engine, cases(1))
    assert "--store DIR" in (caught.value.remedy or "")


def test_the_last_words_of_a_job_that_began_nothing_are_passed_on(played: Make) -> None:
    def complains(queue: Queue, folder: RunFolder, number: int) -> None:
        (folder.logs / "0.log").write_text("job.sh: line 3: module: command not found\n")

    engine, queue = played(complains)
    queue.state = "FAILED"
    with pytest.raises(SamcmpError, match=r"before a run began: .*module: command not found"):
        train(engine, cases(1))


def test_what_a_task_cannot_go_on_with_ends_the_command_in_its_words(played: Make) -> None:
    def refuses(queue: Queue, folder: RunFolder, number: int) -> None:
        why = SamcmpError("runs torch 2.12.0, the machine that submits 2.13.0", where="node n1", remedy="Install it.")
        folder.failed("n1", 0, why)

    engine, _ = played(refuses)
    with pytest.raises(SamcmpError, match="node n1: runs torch 2") as caught:
        train(engine, cases(1))
    assert caught.value.remedy == "Install it."


def test_a_job_that_will_never_begin_is_told_with_the_key_that_it_is_about(played: Make) -> None:
    engine, queue = played(nothing, time="2h")
    queue.state, queue.reason = "PENDING", "PartitionTimeLimit"
    with pytest.raises(SamcmpError, match="job 1 will never begin: PartitionTimeLimit, says Slurm"):
        train(engine, cases(1))
    engine.close()
    assert queue.cancelled == [1]


def test_a_node_of_another_kind_is_avoided_and_its_runs_go_elsewhere(played: Make) -> None:
    def first_node_refuses(queue: Queue, folder: RunFolder, number: int) -> None:
        if number == 1:
            folder.refuse("n1", SamcmpError("is an AVX2", where="node n1", remedy="constraint"))
        else:
            does_all(queue, folder, number)

    engine, queue = played(first_node_refuses)
    said: list[str] = []
    assert len(train(engine, cases(2), said)) == 2
    assert queue.avoided == ["n1"]
    assert "--exclude=n1" in queue.submissions[1]
    assert [text for text in said if "avoided" in text] == ["node n1 is an AVX2; avoided from now on: n1"]


def test_where_every_node_is_of_another_kind_the_command_ends(played: Make) -> None:
    def both_refuse(queue: Queue, folder: RunFolder, number: int) -> None:
        for node in ("n1", "n2"):
            folder.refuse(node, SamcmpError("is an AVX2", where=f"node {node}", remedy="constraint"))

    engine, _ = played(both_refuse)
    with pytest.raises(SamcmpError, match="is an AVX2"):
        train(engine, cases(1))


def test_a_controller_that_does_not_answer_for_a_while_is_waited_for(played: Make) -> None:
    def then_is_silent(queue: Queue, folder: RunFolder, number: int) -> None:
        does_all(queue, folder, number)
        queue.silent = 2

    engine, _ = played(then_is_silent)
    said: list[str] = []
    assert len(train(engine, cases(1), said)) == 1
    assert any("does not answer" in text for text in said)


def test_a_recorded_failure_that_is_asked_for_again_is_not_taken_for_the_result(played: Make) -> None:
    (key,) = cases(1)

    def mends(queue: Queue, folder: RunFolder, number: int) -> None:
        folder.mark(key, job=number, node="n1")
        if number == 2:
            queue.store.add(record(key, created="2026-01-02T00:00:00+00:00"))

    engine, queue = played(mends)
    engine.store.add(record(key, "error"))
    (done,) = train(engine, cases(1))
    assert done.record.status == "ok"
    assert len(queue.submissions) == 2


def test_an_interrupted_command_cancels_its_own_jobs_and_no_others(played: Make) -> None:
    engine, queue = played(begins)
    queue.state = "RUNNING"
    events = engine.train(Work(cases(2), engine.store), Options(), pool=engine.look(), listen=raises, timeout=None)
    with pytest.raises(KeyboardInterrupt):
        next(events)
    engine.close()
    assert queue.cancelled == [1]
    assert RunFolder(engine.jobs.root / run_id(cases(2))).job is None

    engine.detach(Work(cases(2), engine.store), [], Options(), pool=engine.look(), seconds=1, timeout=None)
    engine.close()
    events = engine.train(Work(cases(2), engine.store), Options(), pool=engine.look(), listen=raises, timeout=None)
    with pytest.raises(KeyboardInterrupt):
        next(events)
    engine.close()
    assert queue.cancelled == [1]
    assert len(queue.submissions) == 2


def raises(event: object) -> None:
    if not isinstance(event, Said) or not event.news:
        raise KeyboardInterrupt


def test_a_plan_that_overlaps_with_a_live_job_submits_the_rest_alone(played: Make) -> None:
    engine, queue = played(nothing)
    queue.state = "PENDING"
    engine.detach(Work(cases(2), engine.store), [], Options(), pool=engine.look(), seconds=1, timeout=None)
    said = engine.detach(Work(cases(5), engine.store), [], Options(), pool=engine.look(), seconds=1, timeout=None)
    assert len(queue.submissions) == 2
    assert "waiting for 2 runs of job 1" in said
    assert "submitted job 2: 3 runs" in said


def test_what_a_job_has_ended_since_the_plan_was_made_is_not_submitted_again(played: Make) -> None:
    engine, queue = played(nothing)
    for key in cases(2):
        engine.store.add(record(key))
    assert len(train(engine, cases(2))) == 2
    assert not queue.submissions


def test_a_mixed_plan_keeps_the_arms_of_a_split_in_one_chunk_and_fixes_no_kind(played: Make) -> None:
    some = {
        f"{n:064x}": Case("train", "demo", "gcn", arm, seed=n // 2, protocol=Protocol(epochs=30_000))
        for n, arm in enumerate(["adam", "sam"] * 3)
    }
    engine, _ = played(nothing, mixed=True)
    engine.table.mixed = True
    job = engine._submit_runs(
        RunFolder(engine.jobs.root / "a"), some, Work(some), Options(), pool=engine.look(), timeout=None
    )
    assert job.plan.kind is None
    for chunk in job.plan.chunks:
        assert {o.case.optimizer for o in chunk} == {"adam", "sam"}


def test_the_first_task_decides_on_which_kind_all_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "kinds").mkdir()
    one, other = Kind("cpu", vector_extensions="AVX2"), Kind("cpu", vector_extensions="AVX512")
    assert folder.kind("all", one) == one
    assert folder.kind("all", other) == one


def test_options_of_sbatch_say_what_the_table_says(played: Make) -> None:
    engine, _ = played(
        nothing, partition="gpu", gres="gpu:a100:2", cpus=4, memory="8G", time="2h", constraint="a100&nvlink"
    )
    folder = RunFolder(Path("/shared/a%b/run/0123"))
    words = engine.jobs.words(folder, engine.jobs.minutes(9), tasks=3, exclude=["n2", "n1"])
    for word in (
        *("--partition=gpu", "--gres=gpu:a100:2", "--cpus-per-task=4", "--mem=8G", "--time=120", "--array=0-2"),
        *("--constraint=a100&nvlink", "--exclude=n1,n2", "--requeue", "--open-mode=append"),
        "--output=/shared/a%%b/run/0123/logs/%a.log",
    ):
        assert word in words
    assert "--exclusive" in engine.jobs.words(folder, 9, node="n1")


@pytest.mark.parametrize(
    ("gres", "count"),
    [("gpu:2", 2), ("gpu:a100:4(S:0-1)", 4), ("gpu:1,lic:3", 1), ("(null)", 0), ("gpu:a:2,gpu:b:1", 3), ("shard:8", 0)],
)
def test_gpus_of_a_node_are_read(gres: str, count: int) -> None:
    assert _gpus(gres) == count


def test_names_reach_the_job_script_quoted(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s $(touch reached) `touch reached` "here" \n'
    text = script(folder, ["echo setup >&2"], python="printf")
    text = text.replace("exec printf -P -m samcmp.engines.slurm_task", "exec printf %s")
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == str(folder)
    assert done.stderr == "setup\n"
    assert not list(tmp_path.iterdir())
    assert shlex.quote(str(folder)) in text


def test_the_folder_of_a_run_holds_no_secret(played: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_MIRROR", "https://user:sesame@mirror")
    monkeypatch.setenv("TOKEN", "sesame")
    engine, _ = played(does_all)
    train(engine, cases(1))
    files = [path for path in engine.jobs.root.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert all(b"sesame" not in path.read_bytes() for path in files)


def test_orders_and_results_are_json(played: Make) -> None:
    engine, _ = played(does_all)
    train(engine, cases(2))
    plan = json.loads((engine.jobs.root / run_id(cases(2)) / "plan.json").read_bytes())
    assert [len(chunk) for chunk in plan["chunks"]] == [2]


def test_without_slurm_the_remedy_is_a_login_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="--on slurm: no sbatch here") as caught:
        Commands(Where(SlurmTable(engine="slurm"), "--on slurm")).require()
    assert "login node" in (caught.value.remedy or "")
