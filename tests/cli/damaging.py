"""Files damaged at random but repeatably: bytes, fields, lines, encoding or end, and the commands that read them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.cli.fuzzing import SPLITS, TABLE

PIECES = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b"\n", b"\r", b",", b";", b"\t", b"nan", b"-1", b"1e999",
    b"9" * 5000, b"true", b"null", b"[]", b"{}", b"[" * 3000, b"{" * 3000, b"\\u0000", b"\\ud800", b"\xf0\x9f\x92\xa9",
    b"\x1b[2J", b"=1+1", "名前".encode(), b"1_000", "１".encode(), b"1979-05-27", b"0x10", b"inf", b"../x",
    b"/dev/zero", b"pipe", b"a" * 9000,
)  # fmt: skip
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": lambda data: _zipped({"x.csv": data}),
}  # fmt: skip


def _zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Change a file a little, or a lot: bytes, pieces, fields, lines, its encoding, its end."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        data = rng.choice(_WAYS)(rng, data)
    return data


def _bytes(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data or b"\x00")
    for _ in range(rng.choice((1, 2, 5, 50))):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _inserted(rng: random.Random, data: bytes) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(PIECES) + data[at:]


def _field(rng: random.Random, data: bytes) -> bytes:
    """Put something else in the place of a value: what stands between two signs of a file's grammar."""
    signs = [i for i, byte in enumerate(data) if byte in b',;\t\n="[]{}:']
    if len(signs) < 2:
        return _inserted(rng, data)
    k = rng.randrange(len(signs) - 1)
    return data[: signs[k] + 1] + rng.choice(PIECES) + data[signs[k + 1] :]


def _lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    k = rng.randrange(len(lines))
    kind = rng.randrange(5)
    if kind == 0:
        del lines[k]
    elif kind == 1:
        lines.insert(k, lines[rng.randrange(len(lines))])
    elif kind == 2:
        rng.shuffle(lines)
    elif kind == 3:
        lines[k] = lines[k] * rng.choice((2, 300))
    else:
        lines = lines[: k + 1]
    return b"".join(lines)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randint(0, len(data))]


def _encoded(rng: random.Random, data: bytes) -> bytes:
    with contextlib.suppress(UnicodeError):
        return data.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-32", "utf-7", "cp037")))
    return data


def _ends(rng: random.Random, data: bytes) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b" \n", b"")))


_WAYS = (_bytes, _inserted, _inserted, _field, _field, _field, _lines, _lines, _cut, _encoded, _ends)

# What a file is read by: words whose FILE is the damaged one.
READERS: dict[str, tuple[str, ...]] = {
    "suite.toml": (
        "compare --dry-run --config FILE",
        "list suites --config FILE",
        "compare --suite other --dry-run --config FILE",
        "compare --tune 3 --dry-run --config FILE",
        "profile --config FILE",
    ),
    "cards/mine.toml": (
        "fetch --audit --cards cards mine",
        "compare --dry-run --cards cards -d mine",
        "list datasets --cards cards",
        "train --cards cards -d mine",
    ),
    "cards/mine.csv": ("fetch --audit --cards cards mine", "train --cards cards -d mine"),
    "mine.csv": (
        "fetch --audit --data FILE --target y",
        "train --data FILE --target z",
        "compare --data FILE --target y --dry-run",
        "train --data FILE --target y --split-column set",
        "train --data FILE --target y --target z --split scaffold",
        "compare --data FILE --target z --task classification",
        "profile --data FILE --target y",
    ),
    "results.json": ("report --store store --baseline FILE", "compare --dry-run --baseline FILE"),
    "bundle.tar": ("fetch esol --from FILE", "fetch --all --from FILE"),
    "weights": ("train -m gcn --init-from FILE", "train -m grover --init-from FILE"),
    "store": (
        "report --store store",
        "report --store store --format csv",
        "report --store store --figure curves=c.svg",
        "compare --config suite.toml --dry-run --store store",
    ),
    **dict.fromkeys(
        SPLITS,
        (
            "train --data mine.csv --target y --fold 0 --split-file FILE",
            "compare --data mine.csv --target y --split-file FILE",
        ),
    ),
}


def mutant(rng: random.Random, folder: Path) -> list[str]:
    """Damage one file of ``folder`` and return a command line that reads it."""
    name = rng.choice([*READERS, "suite.toml", "suite.toml", "cards/mine.toml", "mine.csv", "mine.csv"])
    words = rng.choice(READERS[name]).split()
    path = folder / name
    if path.is_dir():
        path = rng.choice(sorted(p for p in path.rglob("*") if p.is_file()))
    data = path.read_bytes()
    if name in {"mine.csv", *SPLITS} and rng.random() < 0.2:
        ending, pack = rng.choice([*PACKERS.items()])
        path, data = path.with_name(path.name + ending), pack(data)
    if name == "mine.csv" and rng.random() < 0.1:
        import pandas as pd

        path = path.with_name("mine.parquet")
        pd.read_csv(io.StringIO(TABLE)).to_parquet(path)
        data = path.read_bytes()
    path.write_bytes(damaged(rng, data))
    return [str(path.relative_to(folder)) if word == "FILE" else word for word in words]
