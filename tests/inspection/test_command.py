"""``samcmp inspect`` as its users meet it: what is done once is done, and what is wrong says what to do."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samcmp.experiment.store import Store
from samcmp.inspection import work
from samcmp.inspection.kept import Kept
from samcmp.inspection.work import Stored
from samcmp.records import from_json
from tests.commands import Run

TINY = ("--subset", "40", "--batch-size", "8", "--epochs", "2", "--device", "cpu")
LANDSCAPE = ("--what", "landscape", "--directions", "2")
CHEAP = ("--what", "gradients", *LANDSCAPE)
OWN = """
from samcmp.optim.sam import SAM


class Half(SAM):
    def perturbs(self):
        return self.clock % 2 == 0
"""

MODEL = """
import torch
from torch_geometric.nn import global_add_pool


class Net(torch.nn.Module):
    def __init__(self, atom_features, tasks):
        super().__init__()
        self.first = torch.nn.Linear(atom_features, 8)
        self.second = torch.nn.Linear(8, tasks)

    def forward(self, data):
        return self.second(global_add_pool(torch.relu(self.first(data.x)), data.batch))
"""


def stored(folder: str = ".samcmp") -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The optimizers that are trained meanwhile."""
    seen: list[str] = []
    train = work._train

    def noted(piece: Any, *rest: Any) -> Any:
        seen.append(piece.case.optimizer)
        return train(piece, *rest)

    monkeypatch.setattr(work, "_train", noted)
    return seen


def test_the_same_command_twice_works_once_and_other_points_measure_the_landscape_alone(
    run: Run, trained: list[str]
) -> None:
    code, first, said = run("inspect", *TINY, *CHEAP, "-o", "adam", "-o", "sam")
    assert (code, trained) == (0, ["adam", "sam"])
    assert "Expected: about" in said
    before = stored()
    code, again, said = run("inspect", *TINY, *CHEAP, "-o", "adam", "-o", "sam")
    assert (code, again, said) == (0, first, "")
    assert stored() == before
    code, _, said = run("inspect", *TINY, *CHEAP, "-o", "adam", "-o", "sam", "--points", "7")
    assert code == 0
    assert trained == ["adam", "sam"]
    assert "2 measurements, 0 runs to train" in said
    assert {name.split("/")[0] for name in stored().keys() - before.keys()} == {"inspections"}


def test_interrupted_and_repeated_it_goes_on(run: Run, trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from samcmp.cli.inspecting import Display

    tell = Display.tell

    def interrupted(self: Display, event: Any) -> None:
        tell(self, event)
        if isinstance(event, Stored) and self.finished == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Display, "tell", interrupted)
        code, _, said = run("inspect", *TINY, *CHEAP, "-o", "adam", "-o", "sam")
    assert code == 130
    assert "goes on where it stopped" in said
    assert len(list(Path(".samcmp/inspections").rglob("*.json"))) == 3
    before = stored()
    code, _, said = run("inspect", *TINY, *CHEAP, "-o", "adam", "-o", "sam")
    assert code == 0
    assert trained == ["adam", "sam"]
    assert "1 measurement, 0 runs to train" in said
    after = stored()
    assert {name: after[name] for name in before} == before


def test_a_run_is_the_one_that_compare_makes_and_another_stops_it(run: Run) -> None:
    protocol = ("--subset", "40", "--batch-size", "8", "--epochs", "2", "--device", "cpu")
    assert run("train", *protocol, "-o", "sam")[0] == 0
    assert run("inspect", *protocol, "-o", "sam", "--what", "gradients")[0] == 0
    kept = Store(Path(".samcmp"))
    (record,) = kept.records()
    trained = Kept(kept).trained(record.key)
    assert trained is not None
    assert trained == work.of_record(record) or trained.machine != record.machine
    assert trained.history == work.of_record(record).history
    epochs = (replace(record.history[0], train_loss=0.5), *record.history[1:])
    kept.add(replace(record, history=epochs))
    for file in (*Path(".samcmp/inspections").rglob("*.*"), *Path(".samcmp/weights").rglob("*.*")):
        file.unlink()
    code, _, said = run("inspect", *protocol, "-o", "sam", "--what", "gradients")
    assert code == 2
    assert "training loss of epoch 1 is" in said
    assert "the stored run has 0.5" in said
    assert "Another machine? Use another --store." in said
    assert not list(Path(".samcmp/inspections").rglob("*.json"))


def test_a_users_optimizer_is_inspected_in_a_process_of_its_own(run: Run) -> None:
    Path("own.py").write_text(OWN)
    code, out, _ = run("inspect", *TINY, "-o", "own.py:Half", "--what", "gradients", "--format", "csv")
    assert code == 0
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(out))}
    assert rows["pairs_direction"]["value"] == "1.0"
    assert rows["pairs_direction_approximated"]["missing"]


def test_json_holds_everything_and_a_path_leads_from_one_optimizer_to_the_other(run: Run) -> None:
    code, out, _ = run("inspect", *TINY, "-o", "adam", "-o", "sam", "--what", "path", "--format", "json")
    assert code == 0
    (path,) = json.loads(out)["inspections"]
    assert (path["run"]["case"]["optimizer"], path["other"]["case"]["optimizer"]) == ("adam", "sam")
    assert path["arrays"]["alpha"][0] == -0.5
    assert path["scalars"]["distance"] > 0
    from samcmp.inspection import Inspection

    assert from_json(Inspection, {k: v for k, v in path.items() if k != "arrays"}).what == "path"


def test_last_weights_are_others_than_the_best_and_both_come_of_one_training(run: Run, trained: list[str]) -> None:
    longer = (*TINY[:4], "--epochs", "6", *TINY[6:])
    made = []
    for which in ("best", "last"):
        options = ("--weights", which, "--what", "landscape", "--format", "csv")
        code, out, _ = run("inspect", *longer, "-o", "adam", "--set", "gcn.dropout=0.5", *options)
        assert code == 0
        made.append({row["name"]: row["value"] for row in csv.DictReader(io.StringIO(out))})
    assert trained == ["adam"]
    kept = Kept(Store(Path(".samcmp")))
    (file,) = Path(".samcmp/weights").rglob("*.json")
    run_ = kept.trained(file.stem)
    assert run_ is not None
    assert run_.accuracy is not None
    assert (made[0] == made[1]) == (run_.accuracy.best_epoch == 5)


def test_damaged_weights_are_trained_again(run: Run, trained: list[str]) -> None:
    assert run("inspect", *TINY, *LANDSCAPE, "-o", "adam")[0] == 0
    (best,) = Path(".samcmp/weights").rglob("*.best.safetensors")
    whole = best.read_bytes()
    best.write_bytes(whole[:-100])
    code, _, _ = run("inspect", *TINY, *LANDSCAPE, "-o", "adam", "--points", "7")
    assert code == 0
    assert trained == ["adam", "adam"]
    assert best.read_bytes() == whole


def test_a_diverged_run_has_its_reason_in_the_cells_and_the_others_go_on(run: Run, trained: list[str]) -> None:
    words = ("inspect", *TINY, *CHEAP, "-o", "adam", "-o", "sam", "--set", "sam.rho=1e30")
    code, out, _ = run(*words)
    assert code == 0
    assert "n/a" in out
    assert "diverged:" in out
    assert run(*words)[1] == out
    assert trained == ["adam", "sam"]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (("--what", "attention"), ("--what attention", "gcn has no attention", "Models with attention: compt.")),
        (("--what", "path", "-o", "sam"), ("--what path", "a path needs two optimizers", "Name two with --optimizer.")),
        (
            ("--repeats", "2", "-o", "sam", "-o", "adam", "--figure", "generalisation=g.svg"),
            ("generalisation=g.svg", "4 runs are too few for a rank correlation", "Take --repeats 5 or more."),
        ),
        (
            ("--what", "gradients", "--figure", "landscape=l.svg"),
            ("--figure landscape=l.svg", "landscape was not measured", "Add --what landscape."),
        ),
        (("--what", "gradient"), ("--what", "unknown measurement 'gradient'", "Did you mean 'gradients'?")),
        (
            ("--what", "gradients", "--points", "5"),
            ("--points", "is about landscape and path, which are not measured here", "Add --what landscape"),
        ),
        (("--row", "3"), ("--row", "is about attention, which is not measured here", "Add --what attention")),
        (("--weights", "first"), ("--weights", "unknown value 'first'", "Allowed: best, last.")),
        (("--points", "20"), ("--points", "odd number", "20")),
        (("--molecules", "many"), ("--molecules", "whole number", "many")),
        (("--format", "pdf"), ("--format", "unknown format 'pdf'", "Allowed: csv, html, json, latex")),
        (("--format", "parquet"), ("--format parquet", "parquet is not a text", "Name a file with --output")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_says_what_where_and_the_remedy(
    run: Run, words: tuple[str, ...], messages: tuple[str, ...]
) -> None:
    code, out, said = run("inspect", *words)
    assert (code, out) == (2, "")
    for message in messages:
        assert message in " ".join(said.split())
    assert not Path(".samcmp").exists()


@pytest.mark.parametrize(("row", "code"), [("99999", 2), ("0", 2), ("135", 0)])
def test_a_row_that_no_split_tests_is_refused_before_anything_is_trained(
    run: Run, trained: list[str], row: str, code: int
) -> None:
    """Rows that are tested of the 40: see the file that --save-split writes."""
    ended, out, said = run("inspect", *TINY, "-m", "compt", "-o", "adam", "--what", "attention", "--row", row)
    assert ended == code, said
    if code:
        assert f"--row {row}: is a test molecule of no split of demo" in said
        assert not trained
    else:
        assert "entropy" in out


def test_figures_are_files_that_carry_their_captions(run: Run) -> None:
    figures = ("--figure", "pairs=p.svg", "--figure", "landscape=l.svg")
    code, _, said = run("inspect", *TINY, *CHEAP, "-o", "adam", "-o", "sam", *figures)
    assert code == 0
    assert "wrote p.svg and p.caption.txt" in said
    for name in ("p", "l"):
        caption = Path(f"{name}.caption.txt").read_text().strip()
        assert "demo, gcn: 1 run per optimizer" in caption
        description = ET.parse(f"{name}.svg").getroot().find(".//{http://purl.org/dc/elements/1.1/}description")
        assert description is not None
        assert description.text == caption


def test_a_users_model_is_inspected_too(run: Run) -> None:
    Path("net.py").write_text(MODEL)
    code, out, said = run("inspect", *TINY, "-m", "net.py:Net", "-o", "sam", *CHEAP, "--format", "csv")
    assert code == 0, said
    rows = {(row["what"], row["name"]): row["value"] for row in csv.DictReader(io.StringIO(out))}
    assert float(rows["gradients", "pairs_direction"]) == 1.0
    assert float(rows["landscape", "loss"]) > 0


def test_a_store_knows_its_inspections_and_lets_go_of_them_alone(run: Run) -> None:
    assert run("inspect", *TINY, *LANDSCAPE, "-o", "adam")[0] == 0
    assert run("train", *TINY, "-o", "adam")[0] == 0
    Path(".samcmp/inspections/mine.txt").write_text("not samcmp's")
    _, out, _ = run("store", "size")
    assert "inspections and their weights" in out
    assert "1 file that samcmp does not recognise" in out
    code, out, _ = run("store", "prune", "--inspections")
    assert (code, "5 files went" in out) == (0, True)
    assert [name.split("/")[0] for name in stored()] == ["inspections", "predictions", "records"]
