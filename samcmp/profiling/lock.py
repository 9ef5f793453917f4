"""One measurement a device: a file lock that other samcmp processes on the machine respect."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from samcmp.errors import DeviceError
from samcmp.locks import locked


def lock_path(device_key: str) -> Path:
    """Return the lock file of a device: shared by all users of the machine; SAMCMP_LOCKS names another folder.

    Raises OSError where there is no folder for it.
    """
    folder = Path(os.environ.get("SAMCMP_LOCKS") or tempfile.gettempdir())
    return folder / f"samcmp-{hashlib.sha256(device_key.encode()).hexdigest()[:16]}.lock"


@contextlib.contextmanager
def device_lock(
    device_key: str, *, wait_seconds: float | None = None, say: Callable[[str], None] = lambda text: None
) -> Iterator[str | None]:
    """Hold the device; ``say`` hears for whom this waits. Yields None, or why no lock could be made.

    Raises:
        DeviceError: another samcmp measured on the device for longer than ``wait_seconds``; without it, this waits on.
    """
    problem: str | None = None
    with contextlib.ExitStack() as held:
        try:
            path = lock_path(device_key)
            path.parent.mkdir(parents=True, exist_ok=True)
            what = f"another samcmp that is measuring on {device_key}"
            held.enter_context(locked(path, what=what, say=say, most_seconds=wait_seconds))
        except TimeoutError as error:
            raise DeviceError(
                f"another samcmp has been measuring on {device_key} for {wait_seconds:.0f} s: {error}",
                where="device lock",
                remedy="Let it finish or end it; two measurements on one device spoil each other.",
            ) from None
        except (OSError, NotImplementedError) as error:
            problem = f"no lock could be made ({type(error).__name__}): another samcmp here would go unnoticed"
        yield problem
