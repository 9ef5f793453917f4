"""The datasets of one comparison, known by their content from its beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from samcmp.data import cards, fetch
from samcmp.data.cards import DatasetCard
from samcmp.records import content_key

_NEUTRAL = {  # what a card says for people, to find its file and to check it (the name is part of dataset hashes)
    "title", "url", "sha256", "md5", "file_name", "split", "molecules", "images", "file_rows", "dataset_hash",
    "compt_hash", "scaffold_partition", "unit", "paper", "licence", "remarks", "built_in", "path", "data", "notes",
    "shortage",
}  # fmt: skip
_DECIDES = (*(field.name for field in fields(DatasetCard) if field.name not in _NEUTRAL), "frozen")


def identity(card: DatasetCard, sha256: str) -> str:
    """Identify a dataset by its content, as 64 hexadecimal digits: what its card decides, and its file.

    ``sha256`` is the file's. A file that is downloaded is known by what its card says, fetched or not.
    """
    file = [sha256] if card.data is not None else [card.dataset_hash, *sorted(card.sha256), *filter(None, [card.md5])]
    return content_key([{key: getattr(card, key) for key in _DECIDES}, file])


class Catalogue:
    """Datasets by name. A card, and the hash of a file beside it, is read once: when the dataset is first asked for.

    Args:
        folders: with cards of the user's, beside the shipped ones.
        own: cards that were made of the user's files, each with the SHA-256 of its file.
    """

    def __init__(self, folders: Iterable[Path] = (), own: Iterable[tuple[DatasetCard, str]] = ()) -> None:
        self.folders = tuple(folders)
        own = tuple(own)
        self.own = tuple(card.name for card, _ in own)
        self._cards = {card.name: card for card, _ in own}
        self._identities = {card.name: identity(card, sha256) for card, sha256 in own}

    def find(self, name: str) -> DatasetCard:
        """Return the card called ``name``. Raises UsageError for an unknown one, ConfigError for a wrong card."""
        if name not in self._cards:
            self._cards[name] = cards.find(name, self.folders)
        return self._cards[name]

    def identity(self, name: str) -> str:
        """Return the content of the dataset ``name``: see :func:`identity`. Raises DataError."""
        if name not in self._identities:
            card = self.find(name)
            sha256 = "" if card.data is None else hashlib.sha256(fetch.read(card)).hexdigest()
            self._identities[name] = identity(card, sha256)
        return self._identities[name]
