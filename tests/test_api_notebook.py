"""The example notebook in docs/ runs as it stands, and shows what it did when it was executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT

nbformat: Any = pytest.importorskip("nbformat", reason="nbformat is not installed (pip install -e '.[dev]')")
nbclient: Any = pytest.importorskip("nbclient", reason="nbclient is not installed (pip install -e '.[dev]')")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (pip install -e '.[dev]')")

PAGE = ROOT / "docs" / "notebook.ipynb"


def test_every_cell_runs_prints_no_error_and_shows_the_kinds_of_output_that_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    page = nbformat.read(PAGE, as_version=4)
    nbformat.validate(page)
    again = nbformat.read(PAGE, as_version=4)
    nbclient.NotebookClient(again, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [kinds(cell) for cell in again.cells] == [kinds(cell) for cell in page.cells]
    assert any("image/png" in kinds(cell) for cell in page.cells)
    assert "/home/" not in PAGE.read_text()


def kinds(cell: Any) -> list[str]:
    shown: list[str] = []
    for output in cell.get("outputs", []):
        shown += sorted(output.get("data", {"stream": None}))
    return shown


def test_progress_in_a_notebook_goes_to_the_cell_and_needs_no_widgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    text = (
        "import samcmp\n_ = samcmp.compare('demo', 'gcn', ['adam', 'sam'], subset=60, epochs=1, repeats=1,"
        " profile_seconds=1, device='cpu', jobs=1)"
    )
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)])
    nbclient.NotebookClient(page, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for output in page.cells[0].outputs)
    assert {output.get("name") for output in page.cells[0].outputs} == {"stderr"}
    assert "[2/2]" in said
    assert "Warning" not in said
    assert "\x1b" not in said
