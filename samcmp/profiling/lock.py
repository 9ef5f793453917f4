"""One measurement a device: a file lock that other samcmp processes on the machine respect."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from samcmp.errors import DeviceError

WAIT_SECONDS = 1800.0


def lock_path(device_key: str) -> Path:
    """Return the lock file of a device: shared by all users of the machine; SAMCMP_LOCKS names another folder."""
    folder = Path(os.environ.get("SAMCMP_LOCKS") or tempfile.gettempdir())
    return folder / f"samcmp-{hashlib.sha256(device_key.encode()).hexdigest()[:16]}.lock"


@contextlib.contextmanager
def device_lock(
    device_key: str,
    *,
    wait_seconds: float = WAIT_SECONDS,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[str | None]:
    """Hold the device. Yields None, or why the lock could not be had although nobody holds it.

    Raises:
        DeviceError: another samcmp measured on the device for longer than ``wait_seconds``.
    """
    from filelock import FileLock

    path = lock_path(device_key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(path), mode=0o666)
        if not _acquired(lock, 0.0):
            say(f"another samcmp is measuring on {device_key}: waiting for it")
            began = time.monotonic()
            while not _acquired(lock, 1.0):
                if time.monotonic() - began > wait_seconds:
                    raise DeviceError(
                        f"another samcmp has been measuring on {device_key} for {wait_seconds:.0f} s",
                        where="device lock",
                        remedy="Let it finish or end it; two measurements on one device spoil each other.",
                    )
    except (OSError, NotImplementedError) as error:
        yield f"no lock could be made ({type(error).__name__}): another samcmp on this device would go unnoticed"
        return
    try:
        yield None
    finally:
        lock.release()


def _acquired(lock: object, timeout: float) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=timeout)  # type: ignore[attr-defined]
    except Timeout:
        return False
    return True
