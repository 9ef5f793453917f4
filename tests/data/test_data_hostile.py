"""Whatever a file holds, reading it ends in data or in one clear error, never in a traceback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samcmp.data import bundle, cards, molecules, splits, table
from samcmp.data.molecules import Molecules
from samcmp.data.user_table import user_card
from samcmp.errors import SamcmpError

RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
T = TypeVar("T")
CELLS = st.text(st.sampled_from('C1=,;"\n\r\t\0 .0-eNa\x1b'), max_size=12)


def outcome(call: Callable[[], T]) -> T | SamcmpError:
    try:
        return call()
    except SamcmpError as error:
        return error


@RELAXED
@given(st.binary(max_size=200))
def test_any_bytes_as_csv(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    found = outcome(lambda: table.read(path))
    if isinstance(found, SamcmpError):
        assert str(path) in str(found)
    else:
        assert found.frame.shape == (len(found), len(found.header))
        assert all(isinstance(cell, str) for i in range(len(found.header)) for cell in found.text(i))


@RELAXED
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
def test_any_cells_as_a_users_dataset(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    path = tmp_path / "x.csv"
    quoted = ('"{}","{}"'.format(*(cell.replace('"', '""') for cell in pair)) for pair in cells)
    path.write_text("smiles,label\n" + "\n".join(quoted) + "\n", newline="")
    found = outcome(lambda: molecules.load(user_card(path, "smiles", ["label"])))
    if isinstance(found, SamcmpError):
        assert "\x1b" not in str(found)
    else:
        assert len(found) + len(found.skipped) == len(table.read(path))
        assert not any("\x1b" in note or "\0" in note for note in found.notes)


@RELAXED
@given(st.text(max_size=120))
def test_any_text_as_a_card(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SamcmpError):  # no short text is a whole card
        cards.read(path)


@RELAXED
@given(
    st.dictionaries(
        st.sampled_from(["train", "valid", "val", "test", "dataset_hash", "other"]),
        st.one_of(st.lists(st.integers(-2, 60), max_size=20), st.none(), st.text(max_size=4), st.integers()),
    )
)
def test_any_json_as_a_split(tmp_path: Path, content: dict[str, object]) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    split = outcome(lambda: splits.make(_demo(), "file", file=path))
    if isinstance(split, SamcmpError):
        assert str(path) in str(split)
    else:
        parts = [set(part.tolist()) for part in (split.train, split.valid, split.test)]
        assert all(parts)
        assert len(set.union(*parts)) == sum(map(len, parts))


def _demo() -> Molecules:
    return molecules.subset(molecules.load(cards.find("demo")), 50)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"train": ' + "9" * 5000 + "}", '{"train": [NaN]}'])
def test_json_made_to_hurt(text: str, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(SamcmpError):
        splits.make(_demo(), "file", file=path)


def test_a_card_made_to_hurt(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(SamcmpError, match="is not TOML"):
        cards.read(path)


@RELAXED
@given(st.binary(max_size=400), st.sampled_from([".tar", ".tar.gz", ".zip"]), st.booleans())
def test_any_bytes_as_a_bundle(tmp_path: Path, data: bytes, suffix: str, packed: bool) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(SamcmpError), bundle.member(path, "set.csv", where="here") as stream:
        stream.read()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_bundle_with_any_byte_flipped_gives_the_file_or_an_error(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes(b"smiles,y\nC,1\n" * 50)
    whole = tmp_path / f"whole{suffix}"
    bundle.write(whole, [("set.csv", tmp_path / "set.csv")])
    data = bytearray(whole.read_bytes())
    path = tmp_path / f"flipped{suffix}"
    for i in range(0, len(data), max(1, len(data) // 200)):
        flipped = bytes(data[:i]) + bytes([data[i] ^ 0x55]) + bytes(data[i + 1 :])
        path.write_bytes(flipped)
        try:
            with bundle.member(path, "set.csv", where="here") as stream:
                stream.read()
        except SamcmpError:
            continue
