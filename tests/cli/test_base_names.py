"""The arm without SAM has its base's name, from the plan over stored Records to every format."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from samcmp.analysis.build import compare
from samcmp.errors import SamcmpError
from samcmp.experiment import suites
from samcmp.experiment.config import Request, read
from samcmp.experiment.plan import build
from samcmp.records import BASES, Case, Protocol, Record, from_json, to_json
from samcmp.report import extras, figures, profile, render, terminal
from tests.commands import TINY, Run
from tests.report.made import cell

OTHERS = [base for base in BASES if base != "adam"]
ADAM = re.compile(r"\badam\b", re.IGNORECASE)


def config(base: str) -> Path:
    """Write the shipped suites with another base into the current folder."""
    text = suites.DEFAULT_FILE.read_text()
    assert 'base = "adam"' in text
    path = Path("benchmarks.toml")
    path.write_text(text.replace('base = "adam"', f'base = "{base}"'))
    return path


def records(base: str, *, dataset: str = "demo") -> list[Record]:
    """Records as older versions stored them: the base alone is called adam, whichever it is."""
    made = [to_json(record) for record in cell(dataset=dataset)]
    for one in made:
        one["case"]["protocol"]["base"] = base
        if one["throughput"] and one["case"]["optimizer"] != "adam":
            one["throughput"]["ratio_to"] = {"adam": [0.5, 0.49, 0.51]}
    return [from_json(Record, one) for one in made]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("asked", ["adam", "its own name"])
def test_a_plan_calls_the_arm_without_sam_after_its_base(base: str, asked: str, in_empty_folder: Path) -> None:
    name = asked if asked == "adam" else base
    planned = build(read(Request(optimizers=(name, "sam"), repeats=1), suites.read(config(base))))
    assert [case.arm for case in planned.train.values()] == [base, "sam"]
    for session in planned.sessions:
        assert {case.peers for case in session.values()} == {tuple(sorted([base, "sam"]))}


@pytest.mark.parametrize("base", BASES)
def test_the_name_of_another_base_is_refused_and_both_are_said(base: str, in_empty_folder: Path) -> None:
    known = suites.read(config(base))
    for other in set(OTHERS) - {base}:
        with pytest.raises(SamcmpError) as refused:
            read(Request(optimizers=(other, "sam")), known)
        assert f"the arm without SAM is called {base}" in str(refused.value)


@pytest.mark.parametrize("base", OTHERS)
@pytest.mark.parametrize("name", ["adam-loss-weighted", "adam-released-schedule"])
def test_the_released_adam_arms_do_not_run_around_another_base(base: str, name: str, in_empty_folder: Path) -> None:
    with pytest.raises(SamcmpError, match=f"the base is {base}"):
        read(Request(optimizers=(name,)), suites.read(config(base)))


@pytest.mark.parametrize("base", BASES)
def test_a_case_has_one_identity_whatever_it_was_called(base: str) -> None:
    named, older = (Case("train", "demo", "gcn", name, Protocol(base=base)) for name in (base, "adam"))
    assert named == older
    assert from_json(Case, to_json(older)) == named


@pytest.mark.parametrize("base", OTHERS)
def test_every_format_carries_the_true_base_and_the_measured_ratios(base: str) -> None:
    comparison = compare([*records(base), *records(base, dataset="esol")])
    (first, _) = comparison.cells
    assert first.rows[0].arm == first.rows[0].label == first.rows[0].optimizer == base
    assert {v.reference for v in first.verdicts if v.role == "base"} == {base}
    assert first.rows[1].speed_to["base"].value == 0.5
    shown = {form: render(comparison, form) for form in ("markdown", "latex", "html", "csv", "json")}
    shown["terminal"] = str(terminal.table(comparison))
    shown["extras"] = str(extras.extras(comparison))
    for form, text in shown.items():
        assert not ADAM.search(text), f"{form} says adam"
        assert base in text, form
    for kind in ("front", "differences"):
        drawn = figures.draw(kind, comparison)
        texts = drawn.figure.findobj(lambda a: hasattr(a, "get_text"))
        words = " ".join([drawn.caption, *(text.get_text() for text in texts)])  # type: ignore[attr-defined]
        assert not ADAM.search(words)


@pytest.mark.parametrize("base", OTHERS)
def test_a_comparison_and_its_profile_run_around_the_true_base(base: str, run: Run) -> None:
    path = config(base)
    words = ("compare", "--config", str(path), "-m", "gcn", "-o", base, "-o", "sam", *TINY)
    code, out, err = run(*words, "--format", "json")
    assert code == 0, err
    stored = [json.loads(p.read_text()) for p in Path(".samcmp").rglob("*.json")]
    assert {one["case"]["optimizer"] for one in stored} == {base, "sam"}
    assert {peer for one in stored if one["throughput"] for peer in one["throughput"]["ratio_to"]} == {base, "sam"}
    made = [from_json(Record, one) for one in stored if one["throughput"]]
    for text in (out, err, *(profile.render([made], form=form) for form in ("markdown", "csv", "json"))):
        assert not ADAM.search(text)
    assert f"x_{base}_ratio" in profile.render([made], form="csv")
    header = next(line for line in run(*words)[1].splitlines() if line.startswith("dataset"))
    assert header.count(f"× {base}") == 1


def test_the_papers_numbers_are_not_set_beside_runs_around_another_base() -> None:
    from samcmp.analysis.published_comparison import with_published

    found = with_published(compare(records("sgd", dataset="bbbp")))
    assert all(row.agreement == "n.a." for row in found.published)
