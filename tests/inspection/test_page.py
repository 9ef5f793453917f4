"""What was measured as a page, as LaTeX and as Parquet: all that the table says, and nothing that breaks them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pandas
import pytest

from samcmp.inspection import WHAT, render
from samcmp.inspection.drawing import FIGURES
from samcmp.inspection.results import Results
from samcmp.report import html
from tests.inspection import made
from tests.report.test_html import HOSTILE, Read


def everything(**more: object) -> Results:
    """All measurements of five runs of three optimizers."""
    one, *others = (made.results(what, runs=5, **more) for what in WHAT)  # type: ignore[arg-type]
    arms = [
        dataclasses.replace(arm, measured={k: v for of in (one, *others) for k, v in of.arms[i].measured.items()})
        for i, arm in enumerate(one.arms)
    ]
    pairs = tuple(pair for of in others for pair in of.pairs)
    return dataclasses.replace(one, arms=tuple(arms), pairs=pairs, what=tuple(WHAT), failed=("sam: path: killed",))


@pytest.fixture(scope="module")
def results() -> Results:
    return everything()


@pytest.fixture(scope="module")
def page(results: Results) -> str:
    return render.render(results, "html")


def said(results: Results) -> list[str]:
    table, footnotes = render.grid(results)
    paths = render.pairs(results)
    assert paths is not None
    texts = [table.title, paths.title, *footnotes, *table.remarks, *paths.remarks]
    return texts + [entry.text for grid in (table, paths) for row in grid.rows for entry in row]


def test_the_page_says_all_that_the_table_says_and_shows_every_figure_with_its_caption(
    results: Results, page: str
) -> None:
    read = Read(page)
    for text in (*said(results), *results.failed):
        assert " ".join(text.split()) in read.text
    drawings = [of for of in read.all("div") if of.get("role") == "img"]
    assert len(drawings) == len(FIGURES)
    captions = [of["aria-label"] or "" for of in drawings]
    assert all(caption in read.text for caption in captions)
    assert read.text.count("one scale for all three") + read.text.count("One scale for all three") == 1  # in no picture


def test_the_page_is_one_file_whose_ids_are_there_once(page: str) -> None:
    read = Read(page)
    ids = Counter(of["id"] for _, of in read.found if "id" in of)
    assert set(ids.values()) == {1}
    for _, of in read.found:
        for name, value in of.items():
            assert name not in {"src", "srcset", "action"}
            if name.endswith("href"):
                assert (value or "").startswith("data:") or (value or "").removeprefix("#") in ids
    levels = [int(tag[1]) for tag, _ in read.found if tag in {"h1", "h2", "h3"}]
    assert levels[0] == 1
    assert levels.count(1) == 1


def test_names_cannot_become_elements() -> None:
    read = Read(render.render(everything(models=(HOSTILE,)), "html"))
    assert len(read.all("script")) == 1
    assert read.all("img") == []
    assert " ".join(HOSTILE.split()) in read.text


def test_a_page_that_would_be_long_leaves_the_largest_figures_out_and_says_so(
    results: Results, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "MOST_BYTES", len(page.encode()) // 2)
    text = render.render(results, "html")
    assert len(text.encode()) <= len(page.encode()) // 2
    assert 0 < text.count("<figure") < len(FIGURES)
    assert f"{len(FIGURES) - text.count('<figure')} figures are left out" in text


def test_latex_has_a_sign_for_everything_that_the_tables_say(results: Results) -> None:
    text = render.render(results, "latex")
    assert "[U+" not in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") >= 2
    assert r"cos($\hat{\varepsilon}$[t], g[t]) $\geq$ 0" in text
    assert r"$\|$$\nabla$L$\|$" in text


def test_parquet_holds_the_rows_of_the_csv(results: Results, tmp_path: Path) -> None:
    render.to_parquet(results, tmp_path / "inside.parquet")
    (tmp_path / "inside.csv").write_text(render.render(results, "csv"))
    one, other = pandas.read_parquet(tmp_path / "inside.parquet"), pandas.read_csv(tmp_path / "inside.csv")
    assert list(one.columns) == list(other.columns)
    assert one["value"].astype(float).tolist() == pytest.approx(other["value"].tolist(), nan_ok=True)
