"""Which texts are molecules, and which of them are the same one: RDKit is asked once, before anything is decided."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from samcmp import files
from samcmp.errors import DataError, WriteError

VERSION = 1  # counted up when the same texts would be judged otherwise
WORTH_KEEPING = 0.2  # seconds of work above which the answer is kept in the cache folder


@dataclass(frozen=True, slots=True)
class Screening:
    """What RDKit says of n texts, by their places in the list."""

    problems: Mapping[int, str]  # place -> why no molecule is made of the text
    repeats: Mapping[int, int]  # place -> first place with the same canonical isomeric SMILES


@lru_cache(maxsize=4)  # every run of a comparison loads its molecules
def screen(smiles: tuple[str, ...], *, strict: bool) -> Screening:
    """Parse every text once. ``strict`` asks for RDKit's whole sanitising, else a valence may be impossible.

    The answer is a function of the texts and the RDKit version; a long one is kept in the cache folder.
    """
    path = _cached(smiles, strict)
    kept = _read(path)
    if kept is not None:
        return kept
    began = time.perf_counter()
    made = _screen(smiles, strict)
    if time.perf_counter() - began > WORTH_KEEPING:
        with suppress(WriteError):  # then it is made again
            _write(path, made)
    return made


def _screen(smiles: tuple[str, ...], strict: bool) -> Screening:
    from rdkit.Chem import MolToSmiles

    from samcmp.graphs.featurize import parse, parse_strictly

    read = parse_strictly if strict else parse
    problems: dict[int, str] = {}
    repeats: dict[int, int] = {}
    first: dict[str, int] = {}
    for place, text in enumerate(smiles):
        try:
            canonical = str(MolToSmiles(read(text)))
        except DataError as error:
            problems[place] = error.what
            continue
        if first.setdefault(canonical, place) != place:
            repeats[place] = first[canonical]
    return Screening(problems, repeats)


def _cached(smiles: tuple[str, ...], strict: bool) -> Path:
    import rdkit

    key = hashlib.sha256(f"{VERSION}\n{rdkit.__version__}\n{strict}\n".encode())
    key.update(json.dumps(smiles).encode())
    return files.cache_folder() / "screened" / f"{key.hexdigest()[:32]}.json"


def _write(path: Path, made: Screening) -> None:
    body = json.dumps([list(made.problems.items()), list(made.repeats.items())])
    digest = hashlib.sha256(body.encode()).hexdigest()
    files.write(path, json.dumps({"sha256": digest, "body": body}).encode())


def _read(path: Path) -> Screening | None:
    """Return a kept answer; None where there is none or it is damaged."""
    try:
        content: Any = json.loads(path.read_bytes())
        body = content["body"]
        if hashlib.sha256(body.encode()).hexdigest() != content["sha256"]:
            return None
        problems, repeats = json.loads(body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Screening(dict(map(tuple, problems)), dict(map(tuple, repeats)))
