"""The campaigns in results/ are data, and what the documents say of them is rendered from it."""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path

import pandas
import pytest
from jsonschema import Draft202012Validator

from samcmp.analysis.claims import CLAIMS
from samcmp.analysis.comparison import from_json_text
from samcmp.analysis.numbers import signed
from samcmp.analysis.schema import schema
from tests import pictures
from tests.places import ROOT, script

RENDER = script(ROOT / "results" / "render.py")
CAMPAIGNS: list[Path] = RENDER.campaigns()


def test_documents_show_what_the_campaigns_hold() -> None:
    for path, text in RENDER.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make results`"


def test_the_first_page_s_figure_shows_what_its_campaign_holds() -> None:
    pictures.check(RENDER.pictures())


def test_every_campaign_is_shown() -> None:
    shown = {kind for _, kind, _ in RENDER.SHOWN.findall(RENDER.SUMMARY.read_text(encoding="utf-8"))}
    assert shown == {folder.name for folder in CAMPAIGNS} | {"claims", "steps", "controls"}


def test_no_page_is_left_of_a_campaign_that_is_gone() -> None:
    assert set(RENDER.page_of("").parent.glob("*.md")) == {RENDER.page_of(folder.name) for folder in CAMPAIGNS}


@pytest.mark.parametrize("folder", CAMPAIGNS, ids=lambda folder: folder.name)
def test_a_campaign_is_whole(folder: Path) -> None:
    about = tomllib.loads((folder / "campaign.toml").read_text(encoding="utf-8"))
    assert about.keys() == {"title", "commands", "commit", "machine", "note"}
    text = (folder / "comparison.json").read_text(encoding="utf-8")
    Draft202012Validator(schema()).validate(json.loads(text))
    assert from_json_text(text).cells


@pytest.mark.parametrize("folder", [f for f in CAMPAIGNS if (f / "runs.csv").exists()], ids=lambda folder: folder.name)
def test_the_means_are_those_of_the_runs(folder: Path) -> None:
    runs = pandas.read_csv(folder / "runs.csv")
    chosen = runs[runs["chosen"] & (runs["status"] == "ok")]
    means = chosen.groupby(["cell", "arm"])["test"].agg(["mean", "std", "size"])
    comparison = from_json_text((folder / "comparison.json").read_text(encoding="utf-8"))
    rows = {(cell.name, row.arm): row.score for cell in comparison.cells for row in cell.rows}
    assert set(means.index) == set(rows)
    for name, score in rows.items():
        assert score is not None
        found = means.loc[name]
        sd = math.nan if score.sd is None else score.sd
        expected = pytest.approx((found["mean"], found["std"], found["size"]), nan_ok=True)
        assert (score.mean, sd, score.n) == expected


def test_what_is_drawn_as_gained_over_adam_is_what_the_claims_rest_on() -> None:
    said = " ".join(claim.evidence for claim in RENDER.judged("GraphSAM is more accurate than Adam"))
    drawn = [gain for of in RENDER.gains().values() for gain in of if gain[1].optimizer == "graphsam"]
    assert len({model for model, *_ in drawn}) >= 6
    for _, _, ours, _ in drawn:
        assert f"graphsam over adam {signed(ours.value, '.3f')} [{signed(ours.low, '.3f')}, " in said


def test_the_summary_says_nothing_that_the_campaigns_do_not() -> None:
    text = RENDER.SUMMARY.read_text(encoding="utf-8")
    said = text[text.index("In short, at the paper's") : text.index("### The paper's claims")]
    shown = "\n".join(block[0] for block in RENDER.SHOWN.finditer(text))
    for number in re.findall(r"\d\.\d+", said):
        assert re.search(rf"(?<!\d){re.escape(number)}(?!\d)", shown), number
    outcomes = {text: [claim.outcome for claim in RENDER.judged(text)] for text, *_ in CLAIMS}
    for of_adam in ("GraphSAM is more accurate than Adam", "SAM is more accurate than Adam"):
        assert "holds" not in outcomes[of_adam]
    as_sam = outcomes["GraphSAM is as accurate as SAM"]
    assert f"in {as_sam.count('holds')} of {len(as_sam)} comparisons" in said
    transformers = RENDER.read("esol-table1-transformers").published
    assert {row.agreement for row in RENDER.read("esol-grover-descriptors").published} == {"agree"}
    assert {row.agreement for row in transformers if row.model == "grover"} == {"disagree"}
    of_compt = [*transformers, *RENDER.read("esol-compt-beta").published, *RENDER.read("esol-compt-gamma").published]
    below = [row.difference.value for row in of_compt if row.model == "compt"]
    assert f"{min(below):.3f} to {max(below):.3f} below ours" in said
    worse = {
        cell.model
        for name in ("esol-table1", "esol-table1-transformers")
        for cell in RENDER.read(name).cells
        for verdict in cell.verdicts
        if (verdict.arm, verdict.role, verdict.word) == ("sam", "base", "worse")
    }
    assert worse == {"gcn", "mpnn", "grover"}
    assert "*worse* than Adam on ESOL with GCN, MPNN and GROVER" in " ".join(said.split())
