"""The GPU bench on its code path, with a CPU as the device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.bench import bench_gpu
from tests.bench.gpu_models import Bench

TINY = ["--device", "cpu", "--batch-sizes", "8", "--steps", "6", "--compile", "aot_eager"]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMCMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SAMCMP_LOCKS", str(tmp_path))


def results(tmp_path: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads((tmp_path / "results" / "bench_gpu.json").read_text())
    return found


def test_models_are_timed_in_every_mode_and_their_losses_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_gpu.main([*TINY, "--only", "models", "--models", "gcn"]) == 0
    rows = {str(row["mode"]): row for row in results(tmp_path)["models"]}
    assert list(rows) == ["eager", "eager, tf32", "eager, bf16", "compiled", "compiled, tf32"]
    assert all(float(str(row["tflops"])) > 0 for row in rows.values())
    assert rows["compiled"]["loss_difference"] == pytest.approx(0, abs=1e-5)
    assert 0 < float(str(rows["eager, bf16"]["loss_difference"])) < 0.05
    assert capsys.readouterr().out.count("gcn") == len(rows)


def test_optimizers_are_measured_against_adam_and_their_bound(tmp_path: Path) -> None:
    words = ["--only", "optimizers", "--costed", "gcn", "--optimizers", "sam", "--budget", "3", "--subset", "60"]
    assert bench_gpu.main([*TINY, *words]) == 0
    rows = {row["optimizer"]: row for row in results(tmp_path)["optimizers"]}
    assert set(rows) == {"adam", "sam"}
    assert rows["sam"]["passes_per_step"] == 2
    assert 0.3 < float(str(rows["sam"]["efficiency"])) < 1.5


def test_counted_products_are_those_of_a_linear_layer_at_least() -> None:
    bench = Bench("gcn", batch_size=8, device=torch.device("cpu"))
    atoms = sum(batch.num_atoms for batch in bench.batches) / len(bench.batches)
    one_layer = 3 * 2 * atoms * 128 * 128  # forward, and the gradients of both factors
    assert one_layer < bench.flops() < 10 * one_layer


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_one_line_says_so_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_gpu.main() == 0
    assert "no CUDA device" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()
