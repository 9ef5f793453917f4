"""What travels to a worker on another machine and back: JSON, and arrays as npz. No object is pickled.

One :class:`Terms` holds what all runs of a plan share, an :class:`Order` is one run, a delivery is its Record and the
bytes of its predictions. Whatever is read is checked: a delivery must answer its order.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from samcmp import machine
from samcmp.data import cards, fetch
from samcmp.data.cards import DatasetCard
from samcmp.data.catalogue import Catalogue
from samcmp.engines.work import Finished
from samcmp.errors import DataError, SamcmpError
from samcmp.experiment.store import packed, unpacked
from samcmp.records import Case, Json, Record, from_json, is_key, parse_json, to_json

if TYPE_CHECKING:
    from samcmp.engines import Node
    from samcmp.training.setup import Options

Role = Literal["dataset", "split", "weights", "code"]


@dataclass(frozen=True, slots=True)
class Order:
    """A run that a worker is to do, and the key that it must give it."""

    key: str
    case: Case


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that runs read, known by its content; where it lies is this machine's affair."""

    role: Role
    name: str  # of the dataset; of code the path in the Case; else the file's own
    path: str  # absolute, on the machine that submits
    sha256: str

    def below(self, folder: Path) -> Path:
        """Say where a copy belongs: under its hash, with its own name, whose ending says how it is read."""
        return folder / self.sha256 / Path(self.path).name


@dataclass(frozen=True, slots=True)
class SentCard:
    """A dataset of the user's: its card as JSON, and the SHA-256 of its file."""

    card: Mapping[str, Json]
    sha256: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What all runs of a plan share."""

    device: str  # cpu or cuda:0
    code: Mapping[str, str] = field(default_factory=dict)  # see Inputs.code_of
    versions: Mapping[str, str] = field(default_factory=dict)  # see samcmp.machine.versions
    files: tuple[SentFile, ...] = ()
    cards: tuple[SentCard, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)  # optimizer -> what its Records are to keep
    timeout: float | None = None  # seconds a run may take


def terms(
    cases: Iterable[Case],
    options: Options,
    *,
    notes: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Terms:
    """Collect what the cases need; every file is fetched already. Raises DataError for one that cannot be read.

    Args:
        notes: of an optimizer, what its Records are to keep.
        timeout: seconds a run may take.
    """
    shared = {case.dataset: options.datasets.find(case.dataset) for case in cases}
    sent = [
        _sent("dataset", name, fetch.cached_path(card))
        for name, card in sorted(shared.items())
        if not card.built_in or card.data is not None
    ]
    sent += [_sent("code", name, Path(name)) for name in options.code if name.endswith(".py")]
    for role, path in (("split", options.split_file), ("weights", options.init_from)):
        if path is not None:
            sent.append(_sent(role, path.name, path))  # type: ignore[arg-type]
    by_name = {file.name: file.sha256 for file in sent if file.role == "dataset"}
    own = [
        SentCard(to_json(replace(card, path=None, data=None)), by_name.get(name, "") if card.data is not None else "")
        for name, card in sorted(shared.items())
        if not _is_shipped(card)
    ]
    return Terms(
        options.device, dict(options.code), machine.versions(), tuple(sent), tuple(own), dict(notes or {}), timeout
    )


def _sent(role: Role, name: str, path: Path) -> SentFile:
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check the path.") from None
    return SentFile(role, name, str(path.absolute()), digest)


def _is_shipped(card: DatasetCard) -> bool:
    return card.path is not None and card.path.resolve().parent == cards.shipped_folder().resolve()


def options(terms: Terms, place: Callable[[SentFile], Path]) -> Options:
    """Make the options that a worker runs with.

    Args:
        place: says where a file lies here: the path it was sent with on a shared file system, or a copy, as
            :meth:`SentFile.below` says.

    Raises DataError where a file is not there or is another one. Code is looked up in the current folder: an engine
    that brings it changes into the folder where :func:`code_path` put it.
    """
    from samcmp.training.setup import Options

    here: dict[tuple[str, str], Path] = {
        (file.role, file.name): _checked(file, place(file)) for file in terms.files if file.role != "code"
    }
    roles: dict[str, Path] = {role: path for (role, _), path in here.items()}
    own = [_own_card(sent, here) for sent in terms.cards]
    catalogue = Catalogue(own=own)
    for (role, name), path in here.items():
        card = catalogue.find(name) if role == "dataset" else None
        if card is not None and card.data is None and not fetch.is_cached(card):
            fetch.ensure(card, source=path.parent)
    return Options(
        device=terms.device,
        datasets=catalogue,
        code=terms.code,
        split_file=roles.get("split"),
        init_from=roles.get("weights"),
    )


def _checked(file: SentFile, path: Path) -> Path:
    again = _sent(file.role, file.name, path)
    if again.sha256 != file.sha256:
        raise DataError(
            f"is not the {file.role} file that the plan was made with", where=str(path),
            remedy="Run the same command again; a worker must see the files of the machine that submits.",
        )  # fmt: skip
    return path


def _own_card(sent: SentCard, here: Mapping[tuple[str, str], Path]) -> tuple[DatasetCard, str]:
    card = from_json(DatasetCard, sent.card)
    return (replace(card, data=here["dataset", card.name]) if sent.sha256 else card), sent.sha256


def code_path(file: SentFile, folder: Path) -> Path:
    """Say where a user's module belongs below ``folder``, so that its name in the Case leads to it from there.

    Raises SamcmpError for a name that leads out of it.
    """
    path = Path(os.path.normpath(folder / file.name))
    if Path(file.name).is_absolute() or not path.is_relative_to(folder):
        raise SamcmpError(
            "is not below the current folder, so that no other machine can have it under its name",
            where=file.name,
            remedy="Run the command in the folder of the file, or copy it into this one.",
        )
    return path


# ---------------------------------------------------------------------------------------------- there and back


def to_bytes(sent: Terms | Order | Sequence[Order] | Node | Record) -> bytes:
    """Write as JSON, in ASCII; a number that is not finite becomes null."""
    return json.dumps(to_json(sent), ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def terms_from(data: bytes) -> Terms:
    """Read :class:`Terms`. Raises ValueError for what is none."""
    return from_json(Terms, data)


def order_from(data: bytes | Json) -> Order:
    """Read one order. Raises ValueError for what is none, and for a key that might name another place."""
    order = from_json(Order, data)
    if not is_key(order.key):
        raise ValueError("Order.key: a content key is 64 hexadecimal digits")
    return order


def orders_from(data: bytes) -> list[Order]:
    """Read a list of orders. Raises ValueError for what is none."""
    return [order_from(each) for each in parse_json(data)]


Delivery = tuple[bytes, bytes | None]  # a Record as JSON, its predictions as npz


def delivery(finished: Finished) -> Delivery:
    """Write what came of an order."""
    found = finished.predictions
    return to_bytes(finished.record), None if found is None else packed(found.rows, found.truth, found.prediction)


def delivered(order: Order, data: Delivery) -> Finished:
    """Read what came of ``order``. Raises ValueError for damaged data, and for the Record of something else."""
    from samcmp.experiment.run import Predictions

    record = from_json(Record, data[0])
    if (record.key, to_json(record.case)) != (order.key, to_json(order.case)):
        raise ValueError(f"the record of {record.key[:16]} was delivered for the order {order.key[:16]}")
    if data[1] is None:
        return Finished(record, None)
    arrays = unpacked(data[1])
    return Finished(record, Predictions(**arrays))  # type: ignore[arg-type]
