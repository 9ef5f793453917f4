"""The pages say what is there: rooms, links and pictures exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.commands import TINY, Run
from tests.places import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_and_picture_of_a_page_leads_to_a_file(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert missing == []


def test_the_page_on_the_layout_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {p.name for p in (ROOT / "samcmp").iterdir() if p.is_dir() and p.name != "__pycache__"}
    rooms |= {p.name for p in (ROOT / "samcmp").glob("*.py") if not p.name.startswith("__")}
    assert [room for room in sorted(rooms) if f"{room}/`" not in text and f"`{room}`" not in text] == []


CODE = re.compile(r"^```python title=\"my_sam\.py\"\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/your-optimizer.md"])
def test_the_optimizer_of_a_page_keeps_every_promise_and_is_compared(page: str, run: Run) -> None:
    from samcmp.conformance.optimizer import check_optimizer
    from samcmp.optim import user

    (text,) = CODE.findall((ROOT / page).read_text(encoding="utf-8"))
    assert len(text.splitlines()) <= 20
    Path("my_sam.py").write_text(text, encoding="utf-8")
    report = check_optimizer(lambda base: user.build("my_sam.py:MySAM", base, settings={}))
    assert report.ok, str(report)
    words = ("compare", "-m", "gcn", "-o", "sam", "-o", "my_sam.py:MySAM", "--set", "MySAM.rho=0.001,0.005", *TINY)
    code, out, err = run(*words)
    assert code == 0, err
    assert "MySAM[rho=0.005]" in out
