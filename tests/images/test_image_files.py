"""Files in the binary format of CIFAR are read byte for byte, and damaged or strange ones are refused."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samcmp.data import cards, fetch, images, splits
from samcmp.errors import ConfigError, DataError, UsageError
from tests.data import demo_images
from tests.images import archives


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMCMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMCMP_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror").mkdir()
    return tmp_path / "mirror"


def tiny(mirror: Path, content: dict[str, bytes] | None = None, *, archive: bytes | None = None, more: str = "") -> Any:
    data = archives.packed(content or archives.members()) if archive is None else archive
    (mirror / "tiny.tar.gz").write_bytes(data)
    return cards.read(archives.write_card(mirror.parent / "cards", data, more=more))


@pytest.mark.parametrize("label_bytes", [1, 2], ids=["one label, as CIFAR-10", "coarse and fine, as CIFAR-100"])
def test_pixels_and_classes_are_those_of_the_records(mirror: Path, label_bytes: int) -> None:
    card = tiny(mirror, archives.members(label_bytes=label_bytes), more=f"label_bytes = {label_bytes}\n")
    found = images.load(card)
    wanted = [archives.drawn(n, seed) for seed, n in enumerate(archives.SIZES.values())]
    assert np.array_equal(found.pixels, np.concatenate([pixels for _, pixels, _ in wanted]))
    assert np.array_equal(found.y[:, 0], np.concatenate([classes for classes, _, _ in wanted]))
    assert found.parts == ("train",) * 60 + ("test",) * 12
    assert found.classes == archives.CLASSES


def cut(name: str, size: int) -> dict[str, bytes]:
    return {key: data[:size] if key == name else data for key, data in archives.members().items()}


def linked() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("data_batch_1.bin")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    return out.getvalue()


WHOLE = archives.packed(archives.members())
RECORD = 1 + 3072


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (archives.packed(cut("data_batch_2.bin", 5 * RECORD + 7)), "no whole number of records of 3,073"),
        (archives.packed(cut("data_batch_2.bin", 0)), "has 0 bytes"),
        (archives.packed(cut("test_batch.bin", 5 * RECORD)), "has 65 images where its card says 72"),
        (archives.packed({**archives.members(), "data_batch_1.bin": bytes([9] * 30 * RECORD)}), "is of the class 9"),
        (archives.packed({"data_batch_1.bin": b"x"}), "there is no data_batch_2.bin in the archive"),
        (WHOLE[:5000], "damaged"),
        (b"no archive at all", "damaged"),
        (linked(), "is a link or a device"),
    ],
    ids=["cut record", "empty member", "too few", "strange class", "missing member", "cut", "no tar", "link"],
)
def test_an_archive_that_is_not_what_the_card_says_is_refused(mirror: Path, archive: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        images.load(tiny(mirror, archive=archive))


def test_a_file_with_another_md5_is_not_kept(mirror: Path) -> None:
    card = tiny(mirror)
    (mirror / "tiny.tar.gz").write_bytes(WHOLE + b"\0")
    with pytest.raises(DataError, match="MD5") as caught:
        images.load(card)
    assert "--from" in str(caught.value.remedy)
    assert not fetch.cached_path(card).exists()


def test_the_sha256_is_recorded_at_the_first_fetch_and_holds_from_then_on(mirror: Path) -> None:
    card = tiny(mirror)
    images.load(card)
    path = fetch.cached_path(card)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert fetch.recorded_sha256(card) == sha256
    path.write_bytes(b"damaged")
    assert images.load(card).sha256 == sha256  # got again
    path.with_name("tiny.tar.gz.sha256").write_text("0" * 64)
    with pytest.raises(DataError, match="was recorded beside it at the first fetch"):
        images.load(card)


def test_an_archive_that_was_put_into_the_cache_by_hand_is_checked_and_recorded(mirror: Path) -> None:
    card = tiny(mirror)
    path = fetch.cached_path(card)
    path.parent.mkdir(parents=True)
    (mirror / "tiny.tar.gz").rename(path)
    assert len(images.load(card)) == 72
    assert fetch.recorded_sha256(card) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_fixed_split_has_the_publishers_test_images_and_validates_on_a_tenth_of_the_others(mirror: Path) -> None:
    found = images.load(tiny(mirror))
    one, other = (splits.make(found, "fixed", seed=seed) for seed in (0, 1))
    assert one.test.tolist() == other.test.tolist() == list(range(60, 72))
    assert len(one.valid) == len(other.valid) == 6
    assert set(one.valid) != set(other.valid)
    assert sorted([*one.train, *one.valid]) == list(range(60))


def test_images_have_no_scaffolds(mirror: Path) -> None:
    with pytest.raises(UsageError, match="images have no scaffolds"):
        splits.make(images.load(tiny(mirror)), "scaffold")


def test_a_subset_keeps_rows_parts_and_pixels_together(mirror: Path) -> None:
    whole = images.load(tiny(mirror))
    part = images.subset(whole, 20)
    assert len(part) == 20
    assert np.array_equal(part.pixels, whole.pixels[part.rows])
    assert part.parts == tuple(whole.parts[row] for row in part.rows)
    assert part.dataset_hash != whole.dataset_hash


def test_an_image_that_occurs_twice_is_known_by_its_bytes(mirror: Path) -> None:
    made = archives.members()
    made["test_batch.bin"] = made["data_batch_1.bin"][3 * RECORD : 4 * RECORD] * 12
    assert dict(images.load(tiny(mirror, made)).repeats) == dict.fromkeys(range(60, 72), 3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('smiles_column = "smiles"\n', "a card of images has no key 'smiles_column'"),
        ("label_bytes = 0\n", "1 to 8"),
        ('sha256 = ["abc"]\n', "is not a SHA-256"),
    ],
)
def test_a_wrong_card_of_images_is_refused(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cards.read(archives.write_card(tmp_path / "cards", b"", more=more))


@pytest.mark.parametrize(("name", "classes", "label_bytes"), [("cifar10", 10, 1), ("cifar100", 100, 2)])
def test_the_shipped_cards_name_every_class_once_in_the_publishers_order(
    name: str, classes: int, label_bytes: int
) -> None:
    card = cards.find(name)
    assert (card.outputs, card.label_bytes, card.size) == (classes, label_bytes, 60_000)
    assert list(card.classes) == sorted(card.classes)  # as the publisher sorts them


def test_the_demo_set_is_what_its_generator_draws() -> None:
    found = images.load(cards.find("demo-images"))
    for number in (0, 1, 999, 1000, 1199):
        pixels, label = demo_images.image(number)
        assert np.array_equal(found.pixels[number], pixels)
        assert number < 1000 or found.y[number, 0] == label
    labels = np.array([demo_images.image(number)[1] for number in range(1000)])
    assert (labels != found.y[:1000, 0]).sum() == pytest.approx(50, abs=20)
