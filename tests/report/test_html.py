"""The page that is sent: complete in one file, escaped, and in a real browser sorted, silent and never too wide."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from samcmp.analysis.build import compare
from samcmp.analysis.comparison import Comparison
from samcmp.analysis.published_comparison import with_published
from samcmp.records import Record
from samcmp.report import html, profile
from samcmp.report.profile_page import render as html_of_speeds
from samcmp.report.table import table
from tests.report.browser import Page, look, needs_browser
from tests.report.made import ARMS, cell, run

HOSTILE = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>' {{ 7*7 }} &amp; $x$ ]]> -->"
EMPTY = {"meta", "link", "br", "img", "path", "rect", "circle", "use"}


class Read(HTMLParser):
    """What an HTML parser sees: elements with their attributes, text, and whether all that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [of for name, of in self.found if name == tag]


def many() -> list[Record]:
    made = cell(epochs=8) + cell(dataset="bbbp", model="grover", seed=1, level=0.92)
    made += cell(dataset="esol", model="gcn", metric="rmse", level=1.0, seed=3, speeds=False)
    return [*made, run(0.0, "looksam", 0, status="out-of-memory", reason="needs 9 GiB")]


def page_of(records: list[Record]) -> tuple[Comparison, Read]:
    comparison = with_published(compare(records))
    return comparison, Read(html.render(comparison, records))


def test_the_page_says_all_that_the_other_formats_say() -> None:
    comparison, page = page_of(many())
    layout = table(comparison)
    said = [layout.recommendation, layout.rule, *layout.footnotes, *layout.remarks, *layout.main.remarks]
    said += [
        text for c in comparison.cells for text in (*c.sentences, c.recommendation.text if c.recommendation else "")
    ]
    said += [text for grid in layout.extras for text in (grid.title, *grid.remarks)]
    said += [f"{s.name} {s.hash}" for c in comparison.cells for s in c.splits]
    said += [entry.text for grid in (layout.main, *layout.extras) for row in grid.rows for entry in row]
    assert "needs 9 GiB" in page.text
    for text in said:
        assert " ".join(text.split()) in page.text


def test_the_unit_of_the_labels_is_on_the_axes_of_the_page() -> None:
    records = cell(metric="rmse", level=1.0)
    assert "RMSE (kcal/mol)" in Read(html.render(compare(records), records, "kcal/mol")).text


def test_the_recommendation_is_the_only_headline() -> None:
    comparison = compare(many())
    text = html.render(comparison)
    assert comparison.recommendation is not None
    assert text.count("<h1>") == 1
    assert f"<h1>{comparison.recommendation.text}</h1>" in text


def test_it_is_one_short_file_that_asks_for_nothing() -> None:
    _, page = page_of(many())
    for tag, of in page.found:
        for name, value in of.items():
            if name.startswith("xmlns"):
                continue
            assert name not in {"src", "srcset", "action"}, tag
            assert "://" not in (value or ""), (tag, name)
            if name.endswith("href"):
                assert (value or "").startswith(("#", "data:,")), value


def test_every_id_is_there_once_and_every_link_leads_to_one() -> None:
    _, page = page_of(many())
    ids = Counter(of["id"] for _, of in page.found if "id" in of)
    assert set(ids.values()) == {1}
    for _, of in page.found:
        for name, value in of.items():
            if name.endswith("href") and value and value.startswith("#"):
                assert value[1:] in ids
            if name == "aria-labelledby":
                assert value in ids


def test_tables_and_figures_speak() -> None:
    _, page = page_of(many())
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(of.get("scope") in {"col", "row"} for of in page.all("th"))
    assert all(of.get("aria-hidden") == "true" for of in page.all("svg"))
    figures = page.all("figure")
    assert len(figures) == 5  # a front and curves a cell, but no front without speeds
    drawings = [of for of in page.all("div") if of.get("role") == "img"]
    assert len(drawings) == 5
    assert all(of["aria-label"] for of in drawings)
    for landmark in ("header", "nav", "main"):
        assert len(page.all(landmark)) == 1
    levels = [int(tag[1]) for tag, _ in page.found if tag in {"h1", "h2", "h3"}]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def hostile() -> tuple[Comparison, list[Record]]:
    records = [
        dataclasses.replace(r, case=dataclasses.replace(r.case, model=f"m{HOSTILE}"), notes=(HOSTILE,))
        for r in cell(dataset=HOSTILE, epochs=4)
    ]
    records = [
        dataclasses.replace(r, machine={**r.machine, "processor": HOSTILE}, versions={"torch": HOSTILE})
        for r in records
    ]
    return compare(records, suite=HOSTILE), records


def test_names_cannot_become_elements_attributes_or_templates() -> None:
    comparison, records = hostile()
    page = Read(html.render(comparison, records))
    plain = Read(html.render(compare(cell(epochs=4)), cell(epochs=4)))
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, of in page.found for name in of)
    assert {tag for tag, _ in page.found} == {tag for tag, _ in plain.found}
    assert " ".join(HOSTILE.split()) in page.text
    assert "49" not in page.text.split("Notes")[-1].split("Splits")[0]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.890 ± 0.024 (5)", 0.89),
        ("1,898", 1898.0),
        ("1.97×", 1.97),
        ("6.12 MiB", 6.12 * 2**20),
        ("323 KiB", 323 * 2**10),
        ("−0.005 [−0.054, +0.044]", -0.005),
        ("+0.004 [−0.035, +0.044]", 0.004),
        ("slower 0.57× [0.54, 0.60]", 0.57),
        ("2.18e-09 ± 1.00e-10 (3)", 2.18e-09),
        ("● 100%", 100.0),
        ("n/a", None),
        ("out-of-memory", None),
        ("", None),
    ],
)
def test_a_column_is_sorted_by_the_number_it_shows(text: str, number: float | None) -> None:
    assert html.sort_value(text) == number


def test_a_page_that_would_be_long_leaves_figures_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    records = many()
    comparison = compare(records)
    bare = len(html.render(comparison).encode())
    whole = len(html.render(comparison, records).encode())
    monkeypatch.setattr(html, "MOST_BYTES", (bare + whole) // 2)
    text = html.render(comparison, records)
    assert len(text.encode()) <= (bare + whole) // 2
    assert 0 < text.count("<figure") < 5
    assert f"{5 - text.count('<figure')} figures are left out" in text


# ---------------------------------------------------------------------------------------------- in a browser

COLUMN = """(column) => {
  const head = [...document.querySelectorAll('#results th[scope=col]')].find((h) => h.textContent.startsWith(column));
  return [head.getAttribute('aria-sort'), ...[...document.querySelectorAll('#results tbody tr')].map(
    (row) => row.cells[head.cellIndex].textContent.trim())];
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = many()
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.render(with_published(compare(records)), records), encoding="utf-8")
    return path


@needs_browser
def test_a_column_sorts_by_mouse_and_keyboard_and_says_how(report: Path) -> None:
    async def sort(page: Page) -> None:
        as_printed = (await page.run(f"({COLUMN})('graphs/s')"))[1:]
        head = "[...document.querySelectorAll('#results thead button')].find((b) => b.textContent == 'graphs/s')"
        await page.run(f"{head}.click()")
        up = await page.run(f"({COLUMN})('graphs/s')")
        await page.run(f"{head}.focus()")
        await page.press("Enter", 13, "\r")
        down = await page.run(f"({COLUMN})('graphs/s')")
        await page.press(" ", 32, " ")
        back = await page.run(f"({COLUMN})('graphs/s')")
        numbers = [html.sort_value(text) for text in as_printed]
        known = sorted(n for n in numbers if n is not None)
        assert up[0] == "ascending"
        assert [html.sort_value(t) for t in up[1:]] == [*known, *[None] * numbers.count(None)]
        assert down[0] == "descending"
        assert [html.sort_value(t) for t in down[1:]] == [*known[::-1], *[None] * numbers.count(None)]
        assert back == ["none", *as_printed]

    page = look(report, sort)
    assert page.complaints == []
    assert page.asked == [report.resolve().as_uri()]


@needs_browser
@pytest.mark.parametrize("width", [320, 400, 1200])
def test_no_screen_is_too_narrow(report: Path, width: int) -> None:
    async def measure(page: Page) -> None:
        await page.size(width)
        assert await page.run("document.documentElement.scrollWidth") <= width
        wide = "[...document.querySelectorAll('table')].filter((t) => t.scrollWidth > t.parentElement.clientWidth)"
        boxes = await page.run(f"{wide}.map((t) => getComputedStyle(t.parentElement).overflowX)")
        assert set(boxes) <= {"auto"}
        assert boxes or width == 1200

    assert look(report, measure).complaints == []


@needs_browser
def test_dark_mode_and_print_have_their_own_colours(report: Path, tmp_path: Path) -> None:
    colours = "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; })()"

    async def see(page: Page) -> None:
        light = await page.run(colours)
        await page.dark()
        dark = await page.run(colours)
        assert brightness(light[0]) < 60 < 200 < brightness(light[1])
        assert brightness(dark[1]) < 60 < 200 < brightness(dark[0])
        text = await page.run("getComputedStyle(document.querySelector('figure svg text')).fill")
        assert brightness(text) > 200
        await page.call("Emulation.setEmulatedMedia", media="print")
        assert brightness((await page.run(colours))[1]) == 255
        assert await page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
        await page.printed(tmp_path / "page.pdf")

    assert look(report, see).complaints == []
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


LOST = """() => {  // ink that is as dark as the page, and paper that is white
  const lost = [];
  for (const part of document.querySelectorAll('figure svg path, figure svg use, figure svg text')) {
    if (part.closest('defs, clipPath')) continue;
    const [fill, stroke] = ['fill', 'stroke'].map(
      (kind) => (getComputedStyle(part)[kind].match(/^rgb\\((.*)\\)$/)?.[1] ?? '128,128,128').split(',').map(Number));
    const paper = part.tagName == 'path' && part.getBoundingClientRect().width > 60 && Math.min(...fill) > 250;
    const ink = Math.max(...stroke) < 60 && !part.outerHTML.includes('stroke: var(--back)');  // a marker's rim is paper
    if (ink || paper || (part.tagName == 'text' && Math.max(...fill) < 200)) lost.push(part.outerHTML);
  }
  return lost;
}"""


@needs_browser
def test_a_figure_has_the_page_s_colours_in_the_dark(report: Path) -> None:
    async def see(page: Page) -> None:
        assert len(await page.run(f"({LOST})()")) > 50  # by daylight: the axes, the black optimizer
        await page.dark()
        assert await page.run(f"({LOST})()") == []

    assert look(report, see).complaints == []


def brightness(colour: str) -> float:
    return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


@needs_browser
def test_without_scripts_the_page_is_complete(report: Path) -> None:
    async def see(page: Page) -> None:
        found = await page.call("DOM.getDocument", depth=-1)
        names = names_of(found["root"])
        assert names["BUTTON"] == 0
        assert names["TABLE"] > 3

    look(report, see, scripts=False)


def names_of(node: dict[str, object]) -> Counter[str]:
    found = Counter([str(node["nodeName"])])
    for child in node.get("children", []):  # type: ignore[attr-defined]
        found += names_of(child)
    return found


@needs_browser
def test_a_browser_takes_no_name_for_a_command(tmp_path: Path) -> None:
    comparison, records = hostile()
    (tmp_path / "hostile.html").write_text(html.render(comparison, records), encoding="utf-8")

    async def see(page: Page) -> None:
        assert await page.run("document.scripts.length") == 1
        assert await page.run("document.images.length") == 0

    page = look(tmp_path / "hostile.html", see)
    assert page.complaints == []
    assert len(page.asked) == 1


# ---------------------------------------------------------------------------------------------- of speeds alone


def sessions() -> list[list[Record]]:
    arms = {**ARMS, "a/long/way/to/my_sam.py:MySAM": (0.0, 2.0, 1.5), HOSTILE: (0.0, 1.0, 1.0)}
    made = []
    for size in (32, 64):
        records = [r for r in cell(arms=arms, blocks=1) if r.case.kind == "profile"]
        for i, record in enumerate(records):
            ratios = {
                "sam": (1.9 / (i + 1), 1.8 / (i + 1), 2.0 / (i + 1)),
                "adam": (1.0 / (i + 1), 0.9 / (i + 1), None),
            }
            ratios.pop(record.case.arm, None)
            protocol = dataclasses.replace(record.case.protocol, batch_size=size)
            records[i] = dataclasses.replace(
                record,
                case=dataclasses.replace(record.case, protocol=protocol),
                throughput=dataclasses.replace(record.throughput, ratio_to=ratios),  # type: ignore[type-var]
                notes=(HOSTILE,),
            )
        made.append(records)
    return made


def test_a_page_of_speeds_says_all_that_its_tables_say_and_draws_each_ratio() -> None:
    done = sessions()
    page = Read(html_of_speeds(done))
    said = [e.text for records in done for grid in profile.grids(records) for row in grid.rows for e in row]
    said += [text for records in done for text in profile.remarks(records)]
    for text in said:
        assert " ".join(text.split()) in page.text
    assert len(page.all("circle")) == 2 * (4 + 4)  # two sessions; each optimizer over sam and over adam but itself
    assert "MySAM is a/long/way/to/my_sam.py:MySAM" in page.text
    assert page.text.count("a/long/way") == 1
    assert len(page.all("script")) == 1
    assert page.all("img") == []


@needs_browser
def test_speeds_sort_are_silent_and_never_too_wide(tmp_path: Path) -> None:
    path = tmp_path / "speeds.html"
    path.write_text(html_of_speeds(sessions()), encoding="utf-8")
    box = "document.querySelector('[aria-labelledby=session-1-ratios]')"
    ratios = f"[...{box}.querySelectorAll('tbody tr')].map((row) => parseFloat(row.cells[3].textContent))"
    head = f"[...{box}.querySelectorAll('button')].find((b) => b.textContent == 'speed')"

    async def see(page: Page) -> None:
        await page.size(400)
        assert await page.run("document.documentElement.scrollWidth") <= 400
        await page.run(f"{head}.click()")
        shown = await page.run(ratios)
        assert shown == sorted(shown)
        await page.dark()
        assert brightness(await page.run("getComputedStyle(document.body).backgroundColor")) < 60

    page = look(path, see)
    assert page.complaints == []
    assert page.asked == [path.resolve().as_uri()]
