"""The inspections in results/ are data, and docs/inside.md is rendered from them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.places import ROOT, script

INSIDE = script(ROOT / "results" / "inside.py")
CAMPAIGNS: list[Path] = INSIDE.campaigns()


def test_the_page_shows_what_the_campaigns_hold() -> None:
    text = INSIDE.PAGE.read_text(encoding="utf-8")
    assert INSIDE.page() == text, "run `make results`"
    assert {name for _, name, _ in INSIDE.SHOWN.findall(text)} == {folder.name for folder in CAMPAIGNS}


@pytest.mark.parametrize("folder", CAMPAIGNS, ids=lambda folder: folder.name)
def test_a_campaign_is_whole(folder: Path) -> None:
    about = tomllib.loads((folder / "inside.toml").read_text(encoding="utf-8"))
    assert about.keys() == {"title", "commands", "commit", "machine", "note", "conclusion"}
    values = INSIDE.read(folder.name)
    shares = [float(v) for (_, _, name), runs in values.items() if name.startswith("pairs_") for v in runs if v]
    assert shares
    assert all(0 <= share <= 1 for share in shares)
    assert all(float(v) == 1.0 for v in values["sam", "gradients", "pairs_direction"])  # by construction
    assert INSIDE.picture_of(folder.name, "pairs").exists()
