"""The inspections in results/ are data, and docs/inside.md is rendered from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samcmp import optim
from samcmp.inspection import render
from samcmp.records import Protocol
from tests import pictures
from tests.places import ROOT, script

INSIDE = script(ROOT / "results" / "inside.py")
CAMPAIGNS: list[Path] = INSIDE.campaigns()
NAMES = re.compile(r"\([\d, abc]+\)|\{[^}]*\}|[Cc]onjecture \d")  # of figures, fields and conjectures
PAPER = NAMES.sub("", " ".join(text for text, *_ in INSIDE.ROWS))
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)")


def test_the_page_shows_what_the_campaigns_hold() -> None:
    text = INSIDE.PAGE.read_text(encoding="utf-8")
    assert INSIDE.page() == text, "run `make results`"
    assert {name for _, name, _ in INSIDE.SHOWN.findall(text)} == {folder.name for folder in CAMPAIGNS}


def test_the_pictures_of_single_numbers_show_what_the_campaigns_hold() -> None:
    pictures.check(INSIDE.pictures())


@pytest.mark.parametrize("folder", CAMPAIGNS, ids=lambda folder: folder.name)
def test_a_number_of_the_sentences_comes_from_the_data_the_command_the_settings_or_the_paper(folder: Path) -> None:
    about = INSIDE.read_about(folder.name)
    known = NUMBER.findall(" ".join(about["commands"]))
    known += [f"{1 - optim.entry('graphsam').settings['beta']:g}", f"{Protocol().epochs}"]
    typed = NAMES.sub("", about["note"] + about["conclusion"])
    assert "{" in about["note"]
    for number in NUMBER.findall(typed):
        digits = len(number.partition(".")[2])
        assert number in known + [f"{float(printed):.{digits}f}" for printed in NUMBER.findall(PAPER)], number


def test_the_page_s_own_words_have_no_number_and_the_paper_s_are_those_that_samcmp_inspect_prints() -> None:
    text = INSIDE.PAGE.read_text(encoding="utf-8")
    assert not NUMBER.findall(INSIDE.SHOWN.sub("", text))
    exact = [number for number in NUMBER.findall(PAPER) if "." in number]
    assert exact
    assert set(exact) <= set(NUMBER.findall(render.PUBLISHED_PAIRS + render.PUBLISHED_ENTROPY))


@pytest.mark.parametrize("folder", CAMPAIGNS, ids=lambda folder: folder.name)
def test_a_campaign_is_whole(folder: Path) -> None:
    about = INSIDE.read_about(folder.name)
    assert about.keys() == {"title", "commands", "commit", "machine", "note", "conclusion"}
    values = INSIDE.read(folder.name)
    shares = [float(v) for (_, _, name), runs in values.items() if name.startswith("pairs_") for v in runs if v]
    assert shares
    assert all(0 <= share <= 1 for share in shares)
    assert all(float(v) == 1.0 for v in values["sam", "gradients", "pairs_direction"])  # by construction
    assert INSIDE.picture_of(folder.name, "pairs").exists()
