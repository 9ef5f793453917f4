"""``samcmp report`` as a user calls it."""

from __future__ import annotations

import json
import os
import re
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
    wanted = {kind: tmp_path / f"{kind}.png" for kind in ("front", "differences", "curves", "profiles")}
    found = samcmp("--store", store, *(a for kind, path in wanted.items() for a in ("--figure", f"{kind}={path}")))
    assert found.returncode == 0, found.stderr
    for kind, path in wanted.items():
        assert path.read_bytes().startswith(b"\x89PNG")
        caption = (tmp_path / f"{kind}.caption.txt").read_text(encoding="utf-8")
        assert "demo / gcn: ROC-AUC, 5 runs on 5 random splits" in caption


@pytest.mark.parametrize(("width", "inches"), [("84mm", 3.307), ("8.4cm", 3.307), ("3.3", 3.3), ("240pt", 3.321)])
def test_a_figure_is_as_wide_as_the_column_it_is_for(store: Path, tmp_path: Path, width: str, inches: float) -> None:
    path = tmp_path / "front.svg"
    found = samcmp("--store", store, "-d", "demo", "--figure", f"front={path}", "--width", width, "--font-size", "7")
    assert found.returncode == 0, found.stderr
    points = re.search(r'<svg[^>]* width="([0-9.]+)pt"', path.read_text(encoding="utf-8"))
    assert points is not None
    assert float(points[1]) == pytest.approx(72 * inches, abs=0.6)


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
        (["--figure", "fornt=a.png"], "Did you mean 'front'?"),
        (["--figure", "front=a.bmp"], ".svg"),
        (["--figure", "front"], "front=front.svg"),
        (["--figure", "pareto=a.png"], "Use --figure front=a.png"),
        (["--width", "wide"], "84mm"),
        (["--width", "1mm"], "84mm"),
        (["--font-size", "0"], "--font-size"),
        (["--against", "smm"], "Did you mean 'sam'?"),
        (["--x", "epoch"], "Did you mean 'epochs'?"),
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
