"""One Comparison in every format: what it shows, how wide it is, and that names stay names."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Comparison, from_json_text, to_json_text
from samcmp.analysis.published_comparison import with_published
from samcmp.analysis.schema import schema, text
from samcmp.errors import SamcmpError
from samcmp.records import Record
from samcmp.report import FORMATS, latex, markdown, render
from samcmp.report.flat import rows, to_parquet
from samcmp.report.terminal import write
from tests.places import ROOT
from tests.report.made import cell, run

HOSTILE = "[bold]x[/] <script>a</script> $\\alpha$ & 50% | `c` _d_ {e} #f ~g^ 'h' \"i\""


def screen(comparison: Comparison, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    write(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def two_cells() -> list[Record]:
    return cell() + cell(dataset="esol", model="grover", metric="rmse", level=1.0, seed=3)


def test_the_default_table_fits_100_columns_and_names_every_column() -> None:
    shown = screen(compare(cell()))
    header = next(line for line in shown.splitlines() if line.startswith("dataset"))
    for column in (
        "dataset",
        "model",
        "optimizer",
        "ROC-AUC ↑",
        "graphs/s",
        "× sam",
        "× adam",
        "passes",
        "memory",
        "front",
    ):
        assert column in header
    assert max(map(len, shown.splitlines())) <= 100
    assert "graphsam " in shown  # no name broken or cut


LONG = "some/long/directory/of/mine/my_sam.py:MySharpnessAwareMinimizerWithMomentum"
MANY = (
    "adam", "sam", "graphsam", "looksam", "ae-sam", "rst", "sam-k", "sam-one", "graphsam-released",
    "adam-released-schedule", LONG, "other/my_sam.py:MySharpnessAwareMinimizerWithMomentum",
)  # fmt: skip
WIDE = ("tox21", "bbbp", "esol", "sider", "a-long-name-of-a-dataset-of-mine-2024", "freesolv")
TASKS = {f"task {i}": 0.8 for i in range(12)}


@pytest.fixture(scope="module")
def wide() -> Comparison:
    """12 optimizers on 6 datasets, two of the optimizers and a model from files far away; a dataset of 12 tasks."""
    arms = {name: (0.001 * i, 1.0 + i / 5, 1.0 + i / 5) for i, name in enumerate(MANY)}
    records: list[Record] = []
    for k, dataset in enumerate(WIDE):
        model = "grover" if k % 2 else "a/b/model.py:MyModelOfALongName"
        records += cell(dataset=dataset, model=model, arms=arms, seed=k, blocks=3)
    records[0] = dataclasses.replace(records[0], notes=(f"profile: bursts of other work for {LONG}[rho=0.1]",))
    several = [
        r if r.accuracy is None or r.case.dataset != "tox21"
        else dataclasses.replace(r, accuracy=dataclasses.replace(r.accuracy, per_task=TASKS, tasks_total=12))
        for r in records
    ]  # fmt: skip
    return with_published(compare(several))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_wide_suite_with_long_names_loses_no_column_and_no_character(wide: Comparison, width: int) -> None:
    shown = screen(wide, width)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    headers = " ".join(line for line in shown.splitlines() if line.startswith("dataset"))
    for column in ("model", "optimizer", "ROC-AUC ↑", "graphs/s", "× sam", "× adam", "passes", "memory", "front"):
        assert column in headers


def test_a_class_from_a_file_has_a_short_name_and_its_path_once_in_a_note(wide: Comparison) -> None:
    for form in ("table", "html"):
        text = screen(wide, 400) if form == "table" else render(wide, form)
        assert text.count(LONG) == 1
        assert f"mine/my_sam.py:MySharpnessAwareMinimizerWithMomentum is {LONG}" in text
        assert text.count("MyModelOfALongName is a/b/model.py:MyModelOfALongName") == 1
    assert LONG in to_json_text(wide)


def test_every_row_shows_mean_deviation_runs_speed_passes_and_memory() -> None:
    comparison = compare(cell())
    line = next(line for line in screen(comparison).splitlines() if " sam " in line and "±" in line)
    score = comparison.cells[0].rows[1].score
    assert score is not None
    assert f"{score.mean:.3f} ± {score.sd:.3f} (5)" in line
    for value in ("1.00×", "2.00", "50.0 MiB", "0.51×"):
        assert value in line


def test_splits_are_named_with_sixteen_digits_of_their_hash() -> None:
    records = cell()
    shown = screen(compare(records))
    for record in records:
        if record.case.kind == "train":
            assert f"demo/random/{record.case.split_seed} {record.split_hash[:16]}" in shown


def test_a_failed_run_shows_as_a_hole_with_its_cause() -> None:
    records = [r for r in cell() if r.case.optimizer != "graphsam"]
    records += [run(0.0, "graphsam", b, status="out-of-memory", reason="needs 9 GiB") for b in range(5)]
    for shown in (screen(compare(records)), render(compare(records), "markdown")):
        assert "out-of-memory" in shown
        assert "5 runs out-of-memory: needs 9 GiB" in shown
        assert "n/a" in shown


def test_a_missing_measurement_is_never_zero() -> None:
    shown = screen(compare(cell(speeds=False)))
    assert "not profiled" in shown
    assert "0 B" not in shown
    assert "0.00" not in shown.split("demo / gcn:")[0]


def test_the_same_sentences_appear_in_every_format() -> None:
    comparison = compare(cell())
    sentence = comparison.cells[0].sentences[0]
    assert sentence.startswith("graphsam: as accurate as sam and faster: ")
    flat = " ".join(screen(comparison).split())
    assert sentence in flat
    assert markdown.escape(sentence) in render(comparison, "markdown")
    assert latex.escape(sentence) in render(comparison, "latex")
    assert sentence in json.loads(render(comparison, "json"))["cells"][0]["sentences"]


@pytest.mark.parametrize("form", ["screen", "markdown", "latex"])
def test_what_to_use_stands_above_everything_with_its_rule(form: str) -> None:
    for records in (cell(), two_cells()):
        comparison = compare(records)
        assert comparison.recommendation is not None
        said, rule = comparison.recommendation.text, comparison.rule
        escape = {"markdown": markdown.escape, "latex": latex.escape}.get(form, str)
        shown = screen(comparison, 300) if form == "screen" else render(comparison, form)
        above = shown[: shown.index("dataset")]
        assert escape(said) in above
        assert escape(rule) in above
        if len(comparison.cells) > 1:
            for each in comparison.cells:
                assert each.recommendation is not None
                assert escape(each.recommendation.text) in shown


def test_what_to_use_is_a_field_of_json_and_two_columns_of_csv() -> None:
    comparison = compare(two_cells())
    found = json.loads(render(comparison, "json"))
    assert found["recommendation"]["arm"] == "adam"
    assert found["rule"] == comparison.rule
    assert [c["recommendation"]["arm"] for c in found["cells"]] == ["adam", "adam"]
    assert from_json_text(to_json_text(comparison)) == comparison
    lines = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert [line["optimizer"] for line in lines if line["recommended"] == "True"] == ["adam", "adam"]
    assert all(line["recommendation"].startswith("Use adam: ") for line in lines)


@pytest.mark.parametrize("form", ["screen", "markdown", "latex"])
def test_every_column_and_statistic_is_defined_where_it_is_printed(form: str) -> None:
    comparison = compare(two_cells())
    shown = screen(comparison, 400) if form == "screen" else render(comparison, form)
    flat = " ".join(shown.replace(r"$\times$", "×").replace(r"\%", "%").split())
    for term in ("score: ", "graphs/s: ", "× sam, × adam: ", "passes: ", "memory: ", "front: ", "verdicts: ",
                 "mean rank: ", "IQM: ", "time score: ", "tau (", "×: geometric mean"):  # fmt: skip
        assert term in flat, term


def test_a_comparison_without_speeds_defines_none() -> None:
    shown = screen(compare(cell(speeds=False)), 300)
    assert "graphs/s: " not in shown
    assert "score: " in shown


def test_the_claim_is_both_halves_or_not_established() -> None:
    fast = {"adam": (0.0, 1.0, 1.0), "sam": (0.01, 2.0, 2.0), "good": (0.01, 1.0, 1.1), "bad": (-0.05, 1.0, 1.1)}
    slow = {"same": (0.01, 2.0, 2.0)}
    found = compare(cell(arms=fast | slow, run_sd=0.001, blocks=8)).cells[0]
    claims = {v.arm: v.claim for v in found.verdicts if v.role == "sam"}
    assert claims == {"good": True, "bad": False, "same": False}
    said = " ".join(found.sentences)
    assert "good: as accurate as sam and faster: established" in said
    assert "bad: as accurate as sam and faster: not established (accuracy worse" in said
    assert "same: as accurate as sam and faster: not established" in said


def test_inconclusive_says_how_many_splits_would_settle_it() -> None:
    found = compare(cell(blocks=3, run_sd=0.008, seed=5)).cells[0]
    needed = [v for v in found.verdicts if v.word == "inconclusive" and v.blocks_needed]
    assert needed
    assert any(f"about {needed[0].blocks_needed} splits needed" in s for s in found.sentences)


def test_a_sweep_of_many_arms_does_not_print_a_wall_of_text() -> None:
    arms = {"adam": (0.0, 1.0, 1.0), "sam": (0.01, 2.0, 2.0)} | {f"arm{i}": (-0.1, 2.0, 2.0) for i in range(20)}
    assert len(compare(cell(arms=arms)).cells[0].sentences) == 2


def hostile() -> Comparison:
    records = cell(dataset=HOSTILE, model="m]]")
    return dataclasses.replace(compare(records), notes=(HOSTILE,))


def test_names_reach_the_terminal_as_they_are() -> None:
    assert HOSTILE in " ".join(screen(hostile(), width=400).split())


def test_names_cannot_become_markup_in_markdown() -> None:
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(render(hostile(), "markdown"))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<table>") == 1
    columns = {line.count("<td") for line in html.split("<tr>")[2:]}
    assert columns == {11}


def test_names_cannot_become_commands_in_latex() -> None:
    plain = latex.escape(HOSTILE)
    names = ("backslash", "asciicircum", "asciitilde", "less", "greater", "bar", "asciigrave")
    for known in (*(f"\\text{name}{{}}" for name in names), *(f"\\{c}" for c in "{}$&#%_")):
        plain = plain.replace(known, "")
    assert not set(plain) & set('\\{}$&#%_^~<>|`"')
    assert latex.escape("中") == "[U+4E2D]"


def test_latex_opens_and_closes_every_environment_and_keeps_its_columns() -> None:
    shown = render(compare(two_cells()), "latex")
    stack = []
    for line in shown.splitlines():
        for name in ("table", "tabular", "itemize"):
            if line.startswith(f"\\begin{{{name}}}"):
                stack.append(name)
            if line.startswith(f"\\end{{{name}}}"):
                assert stack.pop() == name
    assert not stack
    for part in shown.split("\\begin{tabular}{")[1:]:
        columns = len(part.split("}")[0])
        body = part.split("\\toprule")[1].split("\\bottomrule")[0]
        assert {line.count(" & ") for line in body.splitlines() if line.endswith("\\\\")} == {columns - 1}


def test_latex_begins_with_the_table_of_a_paper_optimizers_by_datasets() -> None:
    arms = {"adam": (0.0, 1.0, 1.0), "sam": (0.05, 2.0, 2.0), "rst": (-0.05, 1.5, 1.5)}
    made = cell(arms=arms, run_sd=0.001) + cell(dataset="a_b", arms=arms, metric="rmse", level=1.0, run_sd=0.001)
    made = [r for r in made if (r.case.dataset, r.case.optimizer) != ("a_b", "rst")]
    comparison = compare(made)
    shown = render(comparison, "latex")
    assert shown.count("\\caption") == shown.count("\\label") == shown.count("\\begin{table}")
    paper = shown.split("\\begin{table}")[1]
    assert "\\label{tab:samcmp}" in paper
    assert "optimizer & a\\_b & demo" in paper
    for name, mark in (("sam", "$^{+}$"), ("rst", "$^{-}$")):
        line = next(line for line in paper.splitlines() if line.startswith(f"{{}}{name} &"))
        score = next(row.score for row in comparison.cells[1].rows if row.label == name)
        assert score is not None
        assert f"{score.mean:.3f}" in line
        assert f"$\\pm$ {score.sd:.3f}{mark}" in line
        assert ("\\textbf" in line) == (name == "sam")
        assert (" -- " in line) == (name == "rst")
    for note in ("Imaginary", "demo/random/0"):
        assert note not in paper.split("\\end{table}")[0]


def test_csv_has_a_row_an_arm_and_empty_fields_for_what_is_missing() -> None:
    comparison = compare(two_cells() + cell(dataset="tox21", speeds=False))
    read = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert len(read) == 9
    assert float(read[0]["mean"]) == comparison.cells[0].rows[0].score.mean  # type: ignore[union-attr]
    missing = [line for line in read if line["dataset"] == "tox21"]
    assert {line["graphs_per_second"] for line in missing} == {""}
    assert all("graphs_per_second: not profiled" in line["missing"] for line in missing)


def test_json_comes_back_equal() -> None:
    comparison = with_published(compare(two_cells()))
    assert from_json_text(to_json_text(comparison)) == comparison


def test_json_fits_its_schema_and_nonsense_does_not() -> None:
    validator = Draft202012Validator(schema())
    Draft202012Validator.check_schema(schema())
    found = json.loads(to_json_text(with_published(compare(two_cells() + cell(dataset="x", speeds=False)))))
    validator.validate(found)
    found["cells"][0]["rows"][0]["arm"] = 3
    assert not validator.is_valid(found)


def test_the_published_schema_is_the_one_in_use() -> None:
    assert (ROOT / "docs" / "schema" / "comparison-2.json").read_text(encoding="utf-8") == text()


def test_an_export_from_before_recommendations_is_read() -> None:
    found = json.loads(to_json_text(compare(cell())))
    for place in (found, *found["cells"]):
        del place["recommendation"]
    del found["rule"]
    for verdict in found["cells"][0]["verdicts"]:
        for field in ("adjusted_low", "adjusted_high", "low_excluded", "high_excluded", "within_margin"):
            del verdict[field]
    old = from_json_text(json.dumps(found))
    assert old.recommendation is None
    assert "Use " not in screen(old)


@pytest.mark.parametrize("broken", ["", "[]", "{}", '{"schema": 1}', '{"schema": 99}', "\x00"])
def test_other_json_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match=r"comparison|newer|Comparison"):
        from_json_text(broken)


def test_parquet_holds_the_rows_of_the_csv(tmp_path: Path) -> None:
    from pyarrow import parquet

    comparison = compare(two_cells())
    to_parquet(comparison, tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == rows(comparison)


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(SamcmpError, match="unknown format 'latx'") as caught:
        render(compare([]), "latx")
    assert "'latex'" in str(caught.value)


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"table", "parquet"}))
def test_an_empty_comparison_renders(form: str) -> None:
    assert isinstance(render(compare([]), form), str)
    assert "No Records match" in screen(compare([]))
