"""Things that are to be done once, by whichever process of a store comes first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from samcmp.experiment.claims import Claims, Owner
from samcmp.printable import counted

T = TypeVar("T")
POLL_SECONDS = 1.0  # between two looks at what others do
QUIET_SECONDS = 3.0  # of waiting without a word
REMIND_SECONDS = 300.0


class Shared(Generic[T]):
    """Things by key, of which this process takes one after the other; what others do is waited for, not done twice.

    Args:
        claims: None: nobody else is there.
        done: whether a thing has been done since this was made.
        by_others: given each key that another process has done.
        say: given who is waited for, and for how many things.
    """

    def __init__(
        self,
        things: Mapping[str, T],
        claims: Claims | None = None,
        *,
        done: Callable[[str, T], bool] = lambda key, thing: False,
        by_others: Callable[[str, T], None] = lambda key, thing: None,
        say: Callable[[Counter[str]], None] = lambda owners: None,
    ) -> None:
        self.things = dict(things)
        self._claims, self._done, self._by_others, self._say = claims, done, by_others, say
        self._waiting = list(self.things)[::-1]
        self._others: dict[str, Owner] = {}  # what other processes do
        self._looked = self._idle_since = 0.0
        self._said: tuple[Counter[str], float] = Counter(), 0.0

    @property
    def more(self) -> bool:
        """Whether :meth:`take` may still return something, now or later."""
        return bool(self._waiting or self._others)

    def take(self, fits: Callable[[T], bool] = lambda thing: True) -> tuple[str, T] | None:
        """Return the next thing to do, which is ours until :meth:`end` or :meth:`give_back`; None: none now."""
        found = self._of_others(fits)
        passed: list[str] = []
        while self._waiting and found is None:
            key = self._waiting.pop()
            if not fits(self.things[key]):
                passed.append(key)
            elif self._is_ours(key):
                found = key
        self._waiting += passed[::-1]
        if found is not None:
            self._idle_since = 0.0
            return found, self.things[found]
        self._say_for_whom()
        return None

    def end(self, key: str) -> None:
        """Say that a thing that was taken is done, and its result stored."""
        if self._claims is not None:
            self._claims.release(key)

    def give_back(self, key: str) -> None:
        """Leave a thing that was taken, and was not done, to others."""
        self.end(key)
        self._waiting.append(key)

    def _of_others(self, fits: Callable[[T], bool]) -> str | None:
        """Look at what others do, now and then: pass on what is done, and return what was left undone."""
        if time.monotonic() - self._looked > POLL_SECONDS:
            self._looked = time.monotonic()
            for key in list(self._others):
                if fits(self.things[key]):
                    del self._others[key]
                    if self._is_ours(key):
                        return key
        return None

    def _is_ours(self, key: str) -> bool:
        thing = self.things[key]
        if self._claims is None:
            return True
        owner = self._claims.acquire(key)
        # after the claim: whoever had it before has stored its result first
        if owner is None and not self._done(key, thing):
            return True
        if owner is None:
            self._claims.release(key)
        elif not self._done(key, thing):
            self._others[key] = owner
            return False
        self._by_others(key, thing)
        return False

    def _say_for_whom(self) -> None:
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        if not self._others or now - self._idle_since < QUIET_SECONDS:
            return
        owners = Counter(str(owner) for owner in self._others.values())
        before, when = self._said
        if owners.keys() != before.keys() or now - when > REMIND_SECONDS:
            self._say(owners)
            self._said = owners, now


def sentence(owners: Counter[str], what: str) -> str:
    """Say who is waited for: ``waiting for 3 runs of host X, process Y``."""
    return f"waiting for {'; '.join(f'{counted(n, what)} of {owner}' for owner, n in owners.items())}"
