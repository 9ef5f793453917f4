"""The command line on images, from a fetch to a report: the demo set, and a file in CIFAR's binary format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samcmp.experiment.store import Store
from samcmp.training import modelfile
from tests.commands import TINY, Run
from tests.images import archives

SMALL = ("-m", "resnet18", "--set", "resnet18.width=2")


@pytest.fixture
def cards(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with the card of a tiny CIFAR, whose archive lies in a mirror."""
    monkeypatch.setenv("SAMCMP_CACHE", str(in_empty_folder / "cache"))
    monkeypatch.setenv("SAMCMP_MIRROR", str(in_empty_folder / "mirror"))
    (in_empty_folder / "mirror").mkdir()
    data = archives.packed(archives.members())
    (in_empty_folder / "mirror" / "tiny.tar.gz").write_bytes(data)
    archives.write_card(in_empty_folder / "cards", data)
    return "cards"


def test_a_comparison_on_a_file_in_cifars_format_counts_images(run: Run, cards: str) -> None:
    words = ("-d", "tiny", "--cards", cards, *SMALL, "-o", "adam", "-o", "sam", *TINY)
    code, out, err = run("compare", *words)
    assert code == 0, err
    assert "images/s" in out
    assert "graphs/s" not in out
    assert "accuracy ↑" in out
    assert "tiny/fixed/0" in out  # the publisher's test set without asking for it
    records = [record for record in Store(Path(".samcmp")).records() if record.case.kind == "train"]
    assert {record.holds for record in records} == {"images"}
    for record in records:
        assert record.accuracy is not None
        assert set(record.accuracy.per_class) == set(archives.CLASSES)
        kept = Store(Path(".samcmp")).predictions(record.key)
        assert kept is not None
        truth, shares = kept["truth"], kept["prediction"]
        assert (truth.shape[1], shares.shape[1]) == (1, 3)
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
        assert record.accuracy.test == pytest.approx(np.mean(shares.argmax(axis=1) == truth[:, 0]))


def test_a_fetch_says_the_sha256_and_an_audit_counts_classes(run: Run, cards: str) -> None:
    code, out, err = run("fetch", "tiny", "--cards", cards, "--format", "json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert len(row["sha256"]) == 64
    assert row["images"] == row["size"] == 72
    code, out, _ = run("fetch", "tiny", "--cards", cards, "--audit", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found["sha256"] == row["sha256"]
    assert np.sum(list(found["classes"].values()), axis=0).tolist() == [60, 12]


@pytest.mark.parametrize(
    ("words", "said", "remedy"),
    [
        (
            ("-d", "cifar10", "-m", "gcn"),
            "gcn reads molecules, and cifar10 holds images",
            "Models of images: resnet18.",
        ),
        (("-d", "esol", "-m", "resnet18"), "resnet18 reads images, and esol holds molecules", "gcn, mpnn"),
        (("-d", "demo-images", "-m", "resnet18", "--split", "scaffold"), "images have no scaffolds", "stratified"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy_before_anything_is_read(
    run: Run, words: tuple[str, ...], said: str, remedy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAMCMP_CACHE", str(tmp_path / "nothing"))
    code, out, err = run("compare", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert remedy in err


def test_a_trained_model_is_written_and_predict_says_why_it_cannot_read_it(run: Run) -> None:
    words = ("-d", "demo-images", *SMALL, "--subset", "40", "--batch-size", "8", "--epochs", "1", "--device", "cpu")
    code, out, err = run("train", *words, "-o", "sam", "--save", "m.safetensors")
    assert code == 0, err
    assert "images/s" in out
    said, _ = modelfile.read(Path("m.safetensors"))
    assert (said.kind, said.holds, said.outputs) == ("multiclass", "images", 6)
    assert len(said.pixel_mean) == len(said.pixel_std) == 3
    Path("new.csv").write_text("smiles\nCCO\n")
    code, _, err = run("predict", "m.safetensors", "--data", "new.csv")
    assert code == 2
    assert "predicts images, and a table holds molecules" in err


def test_gradients_and_the_landscape_of_images_are_inspected(run: Run) -> None:
    words = ("-d", "demo-images", *SMALL, "--subset", "40", "--batch-size", "16", "--epochs", "2", "--device", "cpu")
    what = ("--what", "gradients", "--what", "landscape")
    more = (*what, "--molecules", "16", "--directions", "1", "--points", "3", "--format", "json")
    code, out, err = run("inspect", *words, "-o", "adam", "-o", "sam", *more)
    assert code == 0, err
    assert "nan" not in out.lower()
    found = json.loads(out)
    assert found
