"""Text from anywhere, fit to be shown: no terminal, table or editor takes a part of it for a command. And plurals."""

from __future__ import annotations

import re

# Controls of terminals but for tab and line break, what turns the direction of writing, and halves of characters.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t")


def printable(text: str) -> str:
    """Return ``text`` with every such character spelled out, as ``\\x1b``."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_json(text: str) -> str:
    """Return a JSON text that says the same and has none of these characters."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def csv_cell(value: object) -> object:
    """Return a value for a CSV: text that a spreadsheet would take for a formula begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def counted(n: int, what: str, several: str = "") -> str:
    """Say how many: ``1 run``, ``2 runs``; ``several`` is the plural where it takes more than an s."""
    return f"{n:,} {what if n == 1 else several or what + 's'}"
