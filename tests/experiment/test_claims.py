"""Claims: one process does what several could, a dead one's work is taken over, and nobody waits without a word."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from samcmp.engines import Finished, Work
from samcmp.engines.work import sessions
from samcmp.experiment import claims, sharing
from samcmp.experiment.claims import Claims, Owner
from samcmp.experiment.store import Store
from samcmp.experiment.upkeep import survey
from samcmp.records import Case, Record
from tests.places import ROOT

KEY = "ab" * 32
HOLDER = """
import sys, time
from pathlib import Path
from samcmp.experiment.claims import Claims
held = Claims(Path(sys.argv[1]))
assert held.acquire(sys.argv[2]) is None
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed KEY."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path), KEY]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_claim_of_a_living_process_names_it_and_that_of_a_killed_one_is_taken_over_at_once(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with Claims(tmp_path) as mine:
        owner = mine.acquire(KEY)
        assert owner is not None
        assert re.fullmatch(rf"host \S+, process {holder.pid}", str(owner))
        os.kill(holder.pid, 9)
        deadline = time.monotonic() + 10
        while mine.acquire(KEY) is not None and time.monotonic() < deadline:  # it is a zombie at first: nobody waited
            time.sleep(0.01)
        assert claims.read(tmp_path / "claims" / f"{KEY}.claim") is not None
        assert mine._own.keys() == {KEY}
    assert list((tmp_path / "claims").iterdir()) == []


def elsewhere(folder: Path, *, age: float = 0.0, key: str = KEY) -> Path:
    """Write the claim of a process on another host, whose clock is off by ``age``."""
    path = folder / "claims" / f"{key}.claim"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(Owner("far", 1, "another boot", "1", "t"))))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@pytest.mark.parametrize("age", [-86400.0, 0.0, 86400.0])
def test_a_claim_of_another_host_is_dead_when_it_has_not_changed_for_so_long_whatever_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    monkeypatch.setattr(claims, "STALE_SECONDS", 0.3)
    path = elsewhere(tmp_path, age=age)
    with Claims(tmp_path) as mine:
        for beat in range(1, 5):  # it lives
            assert str(mine.acquire(KEY)) == "host far, process 1"
            os.utime(path, (time.time() - age + beat, time.time() - age + beat))
            time.sleep(0.1)
        assert mine.acquire(KEY) is not None
        time.sleep(0.4)
        assert mine.acquire(KEY) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"host": 3, "other": 1}', b"[1]"])
def test_a_claim_that_says_nothing_is_waited_for_and_then_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(claims, "STALE_SECONDS", 0.1)
    elsewhere(tmp_path).write_bytes(content)
    with Claims(tmp_path) as mine:
        assert str(mine.acquire(KEY)) == "another process"
        time.sleep(0.2)
        assert mine.acquire(KEY) is None


def test_of_many_that_take_over_a_dead_claim_one_alone_gets_it(tmp_path: Path) -> None:
    ended = Owner("here", 2**22 + 1, claims._space(), "1", "t")
    with ThreadPoolExecutor(8) as pool:
        for n in range(40):
            key = f"{n:064x}"
            path = tmp_path / "claims" / f"{key}.claim"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(dataclasses.asdict(ended)))
            all_ = [Claims(tmp_path) for _ in range(8)]
            got = list(pool.map(lambda mine, key=key: mine.acquire(key) is None, all_))  # type: ignore[misc]
            assert sum(got) == 1
            owner = claims.read(path)
            assert owner is not None
            assert owner.process == os.getpid()
            for mine in all_:
                mine.close()
    assert list((tmp_path / "claims").iterdir()) == []


def test_whoever_was_taken_over_leaves_the_claim_of_its_new_owner(tmp_path: Path) -> None:
    first = Claims(tmp_path)
    assert first.acquire(KEY) is None
    path = elsewhere(tmp_path)
    first.close()
    assert path.exists()


def test_a_takeover_that_was_cut_short_blocks_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "STALE_SECONDS", 0.1)
    path = elsewhere(tmp_path)
    path.write_text(json.dumps(dataclasses.asdict(Owner("here", 2**22 + 1, claims._space(), "1", "t"))))
    path.with_name(path.name + claims.GUARD).touch()
    with Claims(tmp_path) as mine:
        assert mine.acquire(KEY) is not None
        time.sleep(0.2)
        assert mine.acquire(KEY) is not None  # the guard goes
        assert mine.acquire(KEY) is None


def test_a_claim_is_kept_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.05)
    with Claims(tmp_path) as mine:
        mine.acquire(KEY)
        path = tmp_path / "claims" / f"{KEY}.claim"
        before = path.stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path.stat().st_mtime_ns > before


# ---------------------------------------------------------------------------------------------- a plan that is shared


def cases(n: int = 6) -> dict[str, Case]:
    return {f"{i:064x}": Case("train", "demo", "gcn", "adam", seed=i) for i in range(n)}


def failed(key: str, case: Case) -> Finished:
    return Finished(Record(key, case, "error", reason="it failed"), None)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(sharing, "QUIET_SECONDS", 0.0)


def test_two_processes_share_a_plan_and_each_sees_what_the_other_has_stored(tmp_path: Path, impatient: None) -> None:
    store, every = Store(tmp_path), cases()
    seen: dict[str, list[str]] = {"a": [], "b": []}
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        a, b = (
            Work(every, store, claims=held, by_others=lambda record, name=name: seen[name].append(record.key))  # type: ignore[misc]
            for name, held in (("a", one), ("b", two))
        )
        ran: list[str] = []
        while a.more or b.more:
            taken = [(work, got) for work in (a, b) if (got := work.take()) is not None]
            assert len({key for _, (key, _) in taken}) == len(taken)
            for work, (key, case) in taken:
                ran.append(key)
                work.keep(failed(key, case))  # a failure is a result
    assert sorted(ran) == sorted(every)
    assert sorted(seen["a"] + seen["b"]) == sorted(every)
    assert seen["a"]
    assert seen["b"]
    assert list((tmp_path / "claims").iterdir()) == []


def test_waiting_says_for_whom_and_how_many(tmp_path: Path, impatient: None, holder: subprocess.Popen[str]) -> None:
    said: list[str] = []
    with Claims(tmp_path) as mine:
        work = Work({KEY: cases()[f"{0:064x}"]}, Store(tmp_path), claims=mine, say=said.append)
        assert work.take() is None
        assert work.take() is None
        assert work.more
    assert len(said) == 1
    assert re.fullmatch(rf"waiting for 1 run of host \S+, process {holder.pid}", said[0])


def test_a_failure_that_is_run_again_is_done_when_another_process_has_failed_at_it_again(
    tmp_path: Path, impatient: None
) -> None:
    store, every = Store(tmp_path), cases(1)
    ((key, case),) = every.items()
    store.add(failed(key, case).record)
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        seen: list[Record] = []
        a, b = Work(every, store, claims=one), Work(every, store, claims=two, by_others=seen.append)
        assert a.take() == (key, case)
        assert b.take() is None
        a.keep(Finished(dataclasses.replace(failed(key, case).record, reason="again"), None))
        assert b.take() is None
        assert [record.reason for record in seen] == ["again"]
        assert not b.more


def test_what_is_given_back_is_for_others(tmp_path: Path, impatient: None) -> None:
    every = cases(1)
    (key,) = every
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        a, b = (Work(every, Store(tmp_path), claims=held) for held in (one, two))
        assert a.take() is not None
        assert b.take() is None
        a.give_back(key)
        assert b.take() is not None


def test_a_profile_session_is_measured_by_one_process_and_waited_for_by_the_other(
    tmp_path: Path, impatient: None
) -> None:
    store = Store(tmp_path)
    session = {f"{i:064x}": Case("profile", "demo", "gcn", name) for i, name in enumerate(("adam", "sam"))}
    seen: list[object] = []
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        a = sessions([session], store, claims=one)
        b = sessions([session], store, claims=two, by_others=seen.append)
        taken = a.take()
        assert taken is not None
        assert b.take() is None
        for key, case in session.items():
            assert not seen
            store.add(Record(key, case, "ok"))
            b.take()
        a.end(taken[0])
        assert b.take() is None
    assert seen == [session]


def test_dead_claims_are_leftovers_and_living_ones_are_no_strangers(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    far = elsewhere(tmp_path, key="cd" * 32)
    with Claims(tmp_path) as mine:
        mine.acquire("ef" * 32)
        found = survey(Store(tmp_path))
        assert (found.leftovers, found.others) == ([], [])
        holder.kill()
        holder.wait()
        assert [file.path.name for file in survey(Store(tmp_path)).leftovers] == [f"{KEY}.claim"]
        old = time.time() - 2 * 86400
        os.utime(far, (old, old))
        assert len(survey(Store(tmp_path)).leftovers) == 2
