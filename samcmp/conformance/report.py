"""What came of trying a list of promises: kept, broken, or not applicable, each with what was found."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import TypeVar

from samcmp.errors import in_one_line, place_of

Subject = TypeVar("Subject")


class Broken(Exception):
    """A promise that is not kept; the message says what was found."""


class NotApplicable(Exception):
    """A promise that is not given by nature, or that cannot be tried here; the message says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """One promise: kept, broken (False), or None where it does not apply; and what was found."""

    promise: str
    kept: bool | None
    found: str = ""

    def __str__(self) -> str:
        word = {True: "kept", False: "BROKEN", None: "n/a"}[self.kept]
        return f"{word:7}{self.promise}{f': {self.found}' if self.found else ''}"


@dataclass(frozen=True, slots=True)
class Report:
    """One result for every promise."""

    results: tuple[Result, ...]

    @property
    def broken(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.kept is False)

    @property
    def ok(self) -> bool:
        return not self.broken

    def __getitem__(self, promise: str) -> Result:
        return next(result for result in self.results if result.promise == promise)

    def __str__(self) -> str:
        return "\n".join(map(str, self.results))


def try_each(promises: Mapping[str, Callable[[Subject], str | None]], subject: Subject) -> Report:
    """Try every promise on ``subject``: a promise returns what it found, or raises Broken or NotApplicable."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what libraries say of themselves is not what was found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Report(tuple(_tried(name, promise, subject) for name, promise in promises.items()))
    finally:
        logging.disable(disabled)


def _tried(name: str, promise: Callable[[Subject], str | None], subject: Subject) -> Result:
    try:
        return Result(name, True, promise(subject) or "")
    except NotApplicable as reason:
        return Result(name, None, str(reason))
    except Broken as broken:
        return Result(name, False, str(broken))
    except Exception as error:  # whatever the subject raises breaks this promise; the others are still tried
        text = f"it raised {type(error).__name__}: {in_one_line(error)}"
        return Result(name, False, shorten(text, 300, placeholder=" ...") + place_of(error))
