"""Write the measured campaigns of this folder into the documents that show them: ``make results``.

A campaign is a folder: ``comparison.json`` and ``runs.csv`` as `samcmp report` exports them (``--format csv --rows
runs``), and ``campaign.toml`` with its commands, commit, machine and what to know. A document shows one between
the lines ``<!-- results: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from samcmp.analysis.comparison import Comparison, from_json_text
from samcmp.report import canvas, figures, markdown

HERE = Path(__file__).parent
FRONT = {"fair-two-trials": HERE.parent / "docs" / "images" / "front.svg"}  # campaign -> its first figure
DOCUMENTS = (HERE.parent / "docs" / "reproduction.md",)
SHOWN = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def campaigns() -> list[Path]:
    return sorted(path.parent for path in HERE.glob("*/campaign.toml"))


def read(name: str) -> Comparison:
    return from_json_text((HERE / name / "comparison.json").read_text(encoding="utf-8"))


def shown(name: str) -> str:
    """Return a campaign as Markdown: what was run, then the whole comparison."""
    folder, comparison = HERE / name, read(name)
    about = tomllib.loads((folder / "campaign.toml").read_text(encoding="utf-8"))
    versions = sorted({f"torch {version['torch']}" for version in comparison.versions if "torch" in version})
    lines = [
        f"**{about['title']}.** {about['machine']}; {', '.join(versions)}; commit {about['commit']}. {about['note']}",
        "",
        "```sh",
        *about["commands"],
        "```",
        "",
        markdown.render(comparison).rstrip(),
    ]
    return "\n".join(lines) + "\n"


def rendered(text: str) -> str:
    """Return a document with every campaign that it shows as it is now."""
    return SHOWN.sub(lambda found: found[1] + shown(found[2]) + found[3], text)


def main() -> int:
    for path in DOCUMENTS:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")
    for name, path in FRONT.items():
        with canvas.plain_matplotlib():
            canvas.save(figures.draw("front", read(name)).figure, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
