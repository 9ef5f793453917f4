"""``samcmp report`` as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samcmp.experiment.store import Store
from tests.places import ROOT
from tests.report.made import cell

BARE = """
import sys
from samcmp.cli import main
sys.argv = ["samcmp", *sys.argv[1:]]
try:
    main()
finally:
    heavy = sorted({"torch", "pandas", "matplotlib", "pyarrow", "rdkit"} & set(sys.modules))
    print("imported:", heavy, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    kept = Store(folder)
    for record in cell() + cell(dataset="bbbp", model="grover", seed=1, level=0.92):
        kept.add(record)
    return folder


def samcmp(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-c", BARE, "report", *map(str, arguments)],
        capture_output=True, text=True, encoding="utf-8", env=environment, cwd=cwd, check=False,
    )  # fmt: skip


def test_a_stored_comparison_prints_without_torch_pandas_or_matplotlib(store: Path) -> None:
    found = samcmp("--store", store)
    assert found.returncode == 0, found.stderr
    assert "as accurate as sam and faster" in found.stdout
    assert "imported: []" in found.stderr


def test_published_numbers_stand_beside_ours(store: Path) -> None:
    shown = samcmp("--store", store, "--published", "-d", "bbbp").stdout
    assert "beside the GraphSAM paper" in shown
    assert "0.928 ± 0.016" in shown
    assert "dead-initialisation" in shown


def test_a_dataset_can_be_picked(store: Path) -> None:
    found = json.loads(samcmp("--store", store, "-d", "bbbp", "--format", "json").stdout)
    assert [c["dataset"] for c in found["cells"]] == ["bbbp"]


@pytest.mark.parametrize("form", ["markdown", "latex", "html", "csv", "json", "parquet", "table"])
def test_every_format_is_written_to_a_file(store: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / f"out.{form}"
    found = samcmp("--store", store, "--format", form, "--output", target)
    assert found.returncode == 0, found.stderr
    assert target.stat().st_size > 500


def test_figures_are_written(store: Path, tmp_path: Path) -> None:
    wanted = {kind: tmp_path / f"{kind}.png" for kind in ("pareto", "differences", "curves", "profiles")}
    found = samcmp("--store", store, *(a for kind, path in wanted.items() for a in ("--figure", f"{kind}={path}")))
    assert found.returncode == 0, found.stderr
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in wanted.values())


def test_the_gate_answers_with_its_exit_code(store: Path, tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    samcmp("--store", store, "--format", "json", "--output", baseline)
    assert samcmp("--store", store, "--baseline", baseline).returncode == 0
    assert samcmp("--store", store, "--baseline", tmp_path / "none.json").returncode == 14


def test_the_schema_is_printed(tmp_path: Path) -> None:
    assert json.loads(samcmp("--json-schema", cwd=tmp_path).stdout)["title"] == "samcmp comparison, version 2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "latx"], "Did you mean 'latex'?"),
        (["--figure", "paretto=a.png"], "Did you mean 'pareto'?"),
        (["--figure", "pareto=a.bmp"], ".svg"),
        (["--figure", "pareto"], "pareto=pareto.svg"),
        (["-d", "bbb"], "Did you mean 'bbbp'?"),
        (["--format", "parquet"], "--output FILE"),
        (["--margin", "-1"], "--margin"),
    ],
)
def test_wrong_input_is_one_clear_message_and_exit_code_2(store: Path, arguments: list[str], said: str) -> None:
    found = samcmp("--store", store, *arguments)
    assert found.returncode == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    found = samcmp("--store", tmp_path / "nothing")
    assert found.returncode == 2
    assert "samcmp compare" in found.stderr
