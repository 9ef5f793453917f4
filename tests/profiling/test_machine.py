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
    assert machine.cpu_quota(root=tmp_path) == quota


@pytest.mark.parametrize(("text", "limit"), [("1073741824", 1 << 30), ("max", None), (str(1 << 62), None), ("", None)])
def test_a_memory_limit_is_a_limit_or_none(text: str, limit: int | None, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(text)
    assert machine.memory_limit(root=tmp_path) == limit


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
