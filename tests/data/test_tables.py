"""A user's table in every form that is read gives one dataset; what is not read is named for what it is."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from samcmp.data import molecules, table, unpack
from samcmp.data.molecules import Molecules
from samcmp.data.user_table import user_card
from samcmp.errors import DataError
from tests.cli import damaging, fuzzing

FRAME = pd.DataFrame(
    {"smiles": [f"{'C' * i}O" for i in range(1, 31)], "value": [i / 8 for i in range(30)], "active": [0, 1] * 15}
)
CSV = FRAME.to_csv(index=False)


def semicolons(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, sep=";", decimal=",")


def zipped(content: bytes, name: str = "my.csv", **more: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
        for other, text in more.items():
            archive.writestr(other, text)
    return out.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


FORMS: dict[str, bytes] = {
    "plain.csv": CSV.encode(),
    "old-mac.csv": CSV.replace("\n", "\r").encode(),
    "blank-lines.csv": CSV.replace("\n", "\n\n  \n").encode(),
    "mark.csv": CSV.encode("utf-8-sig"),
    "utf-16.csv": CSV.encode("utf-16"),
    "utf-16-le.csv": CSV.encode("utf-16-le"),
    "utf-16-be.csv": CSV.encode("utf-16-be"),
    "utf-32.csv": CSV.encode("utf-32"),
    "tabs.tsv": FRAME.to_csv(index=False, sep="\t").encode(),
    "tabs.txt": FRAME.to_csv(index=False, sep="\t").encode(),
    "bars.csv": FRAME.to_csv(index=False, sep="|").encode(),
    "semicolons.csv": semicolons(FRAME).encode(),
    "excel.csv": ("sep=;\r\n" + semicolons(FRAME)).encode(),
    "commas-in-tabs.tsv": FRAME.to_csv(index=False, sep="\t", decimal=",").encode(),
    "a.csv.gz": gzip.compress(CSV.encode()),
    "a.csv.bz2": bz2.compress(CSV.encode()),
    "a.csv.xz": lzma.compress(CSV.encode()),
    "a.zip": zipped(CSV.encode()),
    "a-mac.zip": zipped(CSV.encode(), **{"__MACOSX/._my.csv": b"x"}),
    "packed-without-saying-so.csv": gzip.compress(CSV.encode()),
    "a.parquet": parquet(FRAME),
    "booleans.parquet": parquet(FRAME.assign(active=FRAME.active == 1)),
    "true.csv": FRAME.assign(active=FRAME.active == 1).to_csv(index=False).encode(),
    "yes.csv": FRAME.assign(active=FRAME.active.map({1: "Yes", 0: "no"})).to_csv(index=False).encode(),
}


def loaded(path: Path, *targets: str) -> Molecules:
    return molecules.load(user_card(path, "smiles", targets or ("value", "active"), "regression"))


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_table_gives_the_same_dataset(name: str, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.csv").write_text(CSV)
    expected = loaded(tmp_path / "plain" / "a.csv")
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    found = loaded(path)
    assert found.smiles == expected.smiles
    assert np.array_equal(found.y, expected.y)
    assert found.rows.tolist() == expected.rows.tolist()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("semicolons.csv", "column 'value': a comma is read as the decimal point"),
        ("true.csv", "column 'active': true is read as 1, false as 0"),
        ("booleans.parquet", "column 'active': true is read as 1, false as 0"),
        ("yes.csv", "column 'active': yes is read as 1, no as 0"),
    ],
)
def test_what_was_read_as_something_else_is_said(name: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    assert said in loaded(path).notes


def test_missing_values_of_parquet_are_missing_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = FRAME.assign(active=pd.array([None, *FRAME.active[1:]], dtype="Int64"), value=[np.nan, *FRAME.value[1:]])
    path.write_bytes(parquet(frame))
    y = loaded(path).y
    assert np.isnan(y[0]).all()
    assert not np.isnan(y[1:]).any()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("my.csv")
        info.size = len(CSV)
        archive.addfile(info, io.BytesIO(CSV.encode()))
    return out.getvalue()


def arrays() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.zeros(3))
    return out.getvalue()


SDF = "methane\n  RDKit\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0 0.0 0.0 C\nM  END\n$$$$\n"
FOREIGN: dict[str, tuple[bytes, str]] = {
    "a.sdf": (SDF.encode(), "an SDF or MOL file"),
    "a.xlsx": (zipped(b"x", "xl/workbook.xml"), "an Excel workbook"),
    "a.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an Excel workbook"),
    "a.ods": (zipped(b"x", "content.xml"), "an OpenDocument file"),
    "a.html": (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page"),
    "a.csv": (b"\n <html><head>sign in</head></html>", "an HTML page"),
    "a.json": (b'{"smiles": ["C"]}', "a JSON file"),
    "records.json": (b'[{"smiles": "C"}]', "a JSON file"),
    "a.xml": (b"<?xml version='1.0'?><a/>", "an XML file"),
    "a.pkl": (pickle.dumps({"smiles": ["C"]}), "a pickle"),
    "a.npz": (arrays(), "a NumPy archive"),
    "a.tar": (tarred(), "a tar archive"),
    "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file"),
    "a.db": (b"SQLite format 3\0" + bytes(9), "a SQLite database"),
    "a.mol2": (b"@<TRIPOS>MOLECULE\nx\n", "a MOL2 file"),
    "lfs.csv": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "a.pdf": (b"%PDF-1.7\n", "a PDF"),
    "two.zip": (zipped(b"a", **{"b.csv": b"b"}), "2 files"),
    "none.zip": (b"PK\x05\x06" + bytes(18), "holds nothing"),
    "empty.csv": (b"", "the file is empty"),
    "blank.csv": (b"\n\n \n", "the file is empty"),
    "mark-only.csv": (b"\xef\xbb\xbf", "the file is empty"),
    "header.csv": (b"smiles,value\n", "there is a header but no row"),
    "no-header.csv": (CSV.partition("\n")[2].replace("CO", "C(=O)O", 1).encode(), "first line is data"),
    "list.smi": (b"CC(=O)O acid\nCCO ethanol\n", "first line is data"),
    "cut.parquet": (parquet(FRAME)[:-30], "Parquet that cannot be read"),
    "cut.csv.gz": (gzip.compress(CSV.encode())[:-20], "gzip file is damaged"),
    "cut.csv.bz2": (bz2.compress(CSV.encode())[:-20], "bzip2 file is damaged"),
    "cut.csv.xz": (lzma.compress(CSV.encode())[:-20], "xz file is damaged"),
    "cut.zip": (zipped(CSV.encode())[:-40], "zip file is damaged"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_read_is_named_for_what_it_is(name: str, tmp_path: Path) -> None:
    content, said = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        loaded(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        loaded(tmp_path)


@pytest.mark.parametrize("ending", damaging.PACKERS)
def test_unpacking_takes_memory_for_what_is_there_and_not_for_what_is_allowed(ending: str) -> None:
    text = b"smiles,y\nC,1\n"
    with fuzzing.little_memory():
        assert unpack.unpack(damaging.PACKERS[ending](text), "mine") == text


def test_a_zip_file_whose_beginning_is_missing_is_damaged() -> None:
    data = damaging.PACKERS[".zip"](b"smiles,y\n" + b"C,1\n" * 9)
    for cut in range(5, len(data)):  # places in it are then counted from before its start
        with contextlib.suppress(DataError):
            unpack.unpack(data[:4] + data[cut:], "mine")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "LARGEST", 1000)
    packs: list[Callable[[bytes], bytes]] = [gzip.compress, bz2.compress, lzma.compress, zipped]
    for pack in packs:
        path = tmp_path / "a"
        path.write_bytes(pack(b"smiles,y\n" + b"C,1\n" * 1000))
        with pytest.raises(DataError, match="unpacks to more than 1,000 bytes"):
            table.read(path)


@pytest.mark.parametrize(
    "cell",
    ["1_000", "\uff11\uff12", "\u0663", "1,5", "1e", "0x10", "1 000", "\u22121", "\u00bd", "1.5.2", "5 nM", ">10"],
)
def test_what_only_looks_like_a_number_names_row_and_column(cell: str, tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(CSV.replace("CCCO,0.25,0", f'CCCO,"{cell}",0'), encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2, column 'value': .* is not a number"):
        loaded(path)


def test_thousands_and_decimal_commas_in_one_column_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(semicolons(FRAME).replace("CCCO;0,25;0", "CCCO;1.234,5;0"))
    with pytest.raises(DataError, match=r"row 2, column 'value': '1.234,5' is not a number"):
        loaded(path)


@pytest.mark.parametrize("other", ["1", "yes", "maybe"])
def test_words_beside_other_labels_are_not_guessed(other: str, tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(FORMS["true.csv"].decode().replace("CCCO,0.25,False", f"CCCO,0.25,{other}"))
    with pytest.raises(DataError, match=r"column 'active': .* is not a number"):
        loaded(path)


def test_a_short_row_is_no_row_with_a_missing_label(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(CSV.replace("CCCO,0.25,0", "CCCO,0.25"))
    with pytest.raises(DataError, match="row 2 has 2 cells where the header has 3 columns"):
        loaded(path)
