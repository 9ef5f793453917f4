"""One file over HTTP: bounded tries, short timeouts, and an interrupted transfer goes on where it stopped."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from samcmp.errors import DataError

if TYPE_CHECKING:
    import urllib.error

Progress = Callable[[str, int, int | None], None]  # file name, bytes so far, bytes in all where known

CONNECT_TIMEOUT = 4.0  # seconds for one address of a server
ADDRESSES = 2  # of a server with many that are tried
TIMEOUT = 15.0  # seconds without a byte
TRIES = 3
WAIT = 1.0  # seconds before a busy server is asked again
BUSY = frozenset({429, 500, 502, 503, 504})
BLOCK = 1 << 16
LARGEST = 8 << 30  # bytes of a file; all datasets together have less than a hundredth


class Unreachable(DataError):
    """A server that cannot be reached: without a network the next file will fare no better."""


def download(url: str, part: Path, *, name: str, remedy: str, progress: Progress | None = None) -> bool:
    """Bring ``part`` to the full length of the file at ``url``; say whether it began with bytes of an earlier try.

    Raises Unreachable without a network and DataError for an answer other than the file.
    """
    import http.client
    import ssl
    import urllib.error

    resumed = False
    for attempt in range(1, TRIES + 1):
        have = part.stat().st_size if part.is_file() else 0
        try:
            _check_reachable(url)
            return _transfer(url, part, have=have, name=name, progress=progress) or resumed
        except urllib.error.HTTPError as error:
            if attempt < TRIES and _may_help(error, part, have=have):
                continue
            what = f"{_host(url)} answers {error.code} {error.reason}"
            raise DataError(what, where=name, remedy=remedy) from None
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
            resumed = resumed or have > 0
            got_some = part.is_file() and part.stat().st_size > have
            if attempt < TRIES and got_some:
                continue
            why = str(getattr(error, "reason", None) or error) or type(error).__name__
            raise Unreachable(f"{_host(url)} cannot be reached: {why}", where=name, remedy=remedy) from None
    raise AssertionError("the last try returns or raises")


def _may_help(error: urllib.error.HTTPError, part: Path, *, have: int) -> bool:
    """Prepare another try after an answer that another try may change."""
    if have and error.code == 416:  # the server has no such bytes: the part is of another file
        part.unlink()
        return True
    if error.code in BUSY:
        time.sleep(WAIT)
        return True
    return False


def _check_reachable(url: str) -> None:
    """Try two addresses for a few seconds: urlopen would wait for each of a server's many in turn."""
    import socket
    import urllib.request
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        return
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    code = errno.EHOSTUNREACH
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:ADDRESSES]:
            with socket.socket(family, kind, protocol) as one:
                one.settimeout(CONNECT_TIMEOUT)
                code = one.connect_ex(address)
                if code == 0:
                    return
    except socket.gaierror as error:
        raise ConnectionError(error.strerror) from None
    silent = code in (errno.EAGAIN, errno.ETIMEDOUT)
    raise ConnectionError(f"no answer within {CONNECT_TIMEOUT:g} s" if silent else os.strerror(code))


def _transfer(url: str, part: Path, *, have: int, name: str, progress: Progress | None) -> bool:
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "samcmp"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        have = have if getattr(answer, "status", None) == 206 else 0
        total = _total(answer, have)
        with part.open("r+b" if have else "wb") as out:
            out.seek(have)
            for done in copied(answer, out, have):
                if done > LARGEST:
                    part.unlink()
                    what = f"{_host(url)} sends more than any dataset holds"
                    raise DataError(what, where=name, remedy="Check the URL; nothing of it was kept.")
                if progress:
                    progress(name, done, total)
    length = part.stat().st_size
    if total is not None and length < total:
        raise ConnectionError(f"the connection ended after {length:,} of {total:,} bytes")
    return have > 0


def _total(answer: Any, have: int) -> int | None:
    length = answer.headers.get("Content-Length") or ""
    return have + int(length) if length.isdigit() else None


def copied(source: IO[bytes], out: IO[bytes], done: int) -> Iterator[int]:
    """Copy block by block; yields the number of bytes so far."""
    while block := source.read(BLOCK):
        out.write(block)
        done += len(block)
        yield done


def _host(url: str) -> str:
    """Name a server in a message, without a password that its URL may hold."""
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or url
