"""What a Record says about its machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from samcmp import machine


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_quota_is_read_from_either_kind_of_control_group(
    files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert machine.cpu_quota(root=tmp_path, own=tmp_path / "none") == quota


GROUPS: dict[str, tuple[str, dict[str, str], float | None, int | None]] = {
    "two, own group": ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/b/memory.max": "7"}, 0.5, 7),
    "two, between own and root": (
        "0::/a/b/c", {"a/b/c/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "a/memory.max": "9"}, 2.0, 9,
    ),
    "two, the least counts": (
        "0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "150000 100000", "cpu.max": "max 100000"}, 1.5, None,
    ),
    "two, the host's path": ("0::/docker/0f", {"cpu.max": "300000 100000", "memory.max": "8"}, 3.0, 8),
    "two, outside its name space": ("0::/../../x", {"cpu.max": "300000 100000"}, 3.0, None),
    "one, own group": (
        "4:cpu,cpuacct:/a\n3:memory:/m",
        {
            "cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            "memory/m/memory.limit_in_bytes": "5", "memory/memory.limit_in_bytes": str(1 << 62),
        },
        0.5, 5,
    ),
    "one, by the short name": (
        "4:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, 0.5, None,
    ),
    "one without a limit": (
        "4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None, None,
    ),
    "both": (
        "4:cpu:/a\n0::/b",
        {"unified/b/cpu.max": "100000 100000", "cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"},
        1.0, None,
    ),
    "nonsense": (":::\nx\n0::", {"cpu.max": "1 0", "memory.max": "²"}, None, None),
}  # fmt: skip


@pytest.mark.parametrize("case", GROUPS)
def test_the_least_limit_on_the_way_from_the_own_group_to_the_root_counts(case: str, tmp_path: Path) -> None:
    own, files, quota, memory = GROUPS[case]
    (tmp_path / "own").write_text(own + "\n")
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert machine.cpu_quota(root=tmp_path / "fs", own=tmp_path / "own") == quota
    assert machine.memory_limit(root=tmp_path / "fs", own=tmp_path / "own") == memory


@pytest.mark.parametrize(("text", "limit"), [("1073741824", 1 << 30), ("max", None), (str(1 << 62), None), ("", None)])
def test_a_memory_limit_is_a_limit_or_none(text: str, limit: int | None, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(text)
    assert machine.memory_limit(root=tmp_path, own=tmp_path / "none") == limit


def test_facts_are_plain_json_and_say_how_torch_computes() -> None:
    facts = json.loads(json.dumps(machine.metadata(torch.device("cpu")), allow_nan=False))
    assert facts["threads"] == torch.get_num_threads()
    assert facts["device"] == "cpu"


def test_settings_of_the_allocator_and_of_threads_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HOME", "/somewhere/of/mine")
    settings = machine.metadata()["settings"]
    assert settings["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert settings["OMP_NUM_THREADS"] == "3"
    assert "HOME" not in settings


def test_two_machines_differ_where_speeds_may_not_be_compared() -> None:
    one = machine.metadata()
    assert machine.differences(one, one) == []
    assert machine.differences(one, one | {"processor": "another", "load": 9.0}) == ["processor"]
