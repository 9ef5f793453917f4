"""One file over HTTP: bounded tries, a least speed, and an interrupted transfer goes on where it stopped."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from samcmp.errors import DataError

if TYPE_CHECKING:
    import urllib.error
    import urllib.request

Progress = Callable[[str, int, int | None], None]  # file name, bytes so far, bytes in all where known

CONNECT_TIMEOUT = 4.0  # seconds for one address of a server
ADDRESSES = 2  # of a server with many that are tried
TIMEOUT = 15.0  # seconds without a byte
ANSWER_SECONDS = 60.0  # until the headers of an answer are whole
LEAST_RATE = 1024  # bytes a second, on average over an answer, once it has had SLOW_SECONDS
SLOW_SECONDS = 60.0
TRIES = 5
WAIT = 1.0  # seconds before a server is asked again; more each time
BUSY = frozenset({429, 500, 502, 503, 504})
SCHEMES = ("http", "https")
BLOCK = 1 << 16
LARGEST = 8 << 30  # bytes of a file; all datasets together have less than a hundredth


class Unreachable(DataError):
    """A server that cannot be reached: without a network the next file will fare no better."""


def download(url: str, part: Path, *, name: str, remedy: str, progress: Progress | None = None) -> bool:
    """Bring ``part`` to the full length of the file at ``url``; say whether it began with bytes of an earlier try.

    Raises Unreachable without a network and DataError for a URL that cannot be or an answer other than the file.
    """
    import http.client
    import urllib.error

    parts = checked(url, where=name)
    server = parts.hostname or url
    resumed = False
    for attempt in range(1, TRIES + 1):
        have = part.stat().st_size if part.is_file() else 0
        resumed = resumed or have > 0
        try:
            _check_reachable(parts)
            return _transfer(parts, part, have=have, name=name, progress=progress) or resumed
        except urllib.error.HTTPError as error:
            if attempt < TRIES and _may_help(error, part, have=have):
                time.sleep(WAIT * attempt)
                continue
            what = f"{server} answers {error.code} {error.reason}"
            raise DataError(what, where=name, remedy=remedy) from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
            got_some = part.is_file() and part.stat().st_size > have
            if attempt < TRIES and got_some and not isinstance(error, _TooSlow):
                time.sleep(WAIT * attempt)
                continue
            why = str(getattr(error, "reason", None) or error) or type(error).__name__
            raise Unreachable(f"{server} cannot be reached: {why}", where=name, remedy=remedy) from None
    raise AssertionError("the last try returns or raises")


class _TooSlow(ConnectionError):
    """A server that answers, and would for days."""


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url)


def checked(url: str, *, where: str) -> SplitResult:
    """Take a URL apart. Raises DataError for one that names no file on a server."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
        _ = parts.port
    except ValueError as error:
        # what Python says of it may quote the password
        why = "its server or port cannot be read" if "@" in url else str(error)
        raise _no_url(url, why, where=where) from None
    if parts.scheme not in (*SCHEMES, "file"):
        raise _no_url(url, f"its scheme is {parts.scheme or 'missing'}", where=where)
    if parts.scheme != "file" and not host:
        raise _no_url(url, "it names no server", where=where)
    return parts


def _no_url(url: str, why: str, *, where: str) -> DataError:
    remedy = f"Write it as {' or '.join(f'{scheme}://server/path' for scheme in SCHEMES)}."
    return DataError(f"{without_password(url)} cannot be used: {why}", where=where, remedy=remedy)


def _may_help(error: urllib.error.HTTPError, part: Path, *, have: int) -> bool:
    """Prepare another try after an answer that another try may change."""
    if have and error.code == 416:  # the server has no such bytes: the part is of another file
        part.unlink()
        return True
    return error.code in BUSY


def _check_reachable(parts: SplitResult) -> None:
    """Try two addresses for a few seconds: urlopen would wait for each of a server's many in turn."""
    import socket
    import urllib.request

    host = parts.hostname
    if parts.scheme == "file":
        path = Path(urllib.request.url2pathname(parts.path))
        if path.exists() and not path.is_file():  # a pipe is waited for, a device may have no end
            raise ConnectionError("it is no file")
    if parts.scheme not in SCHEMES or not host:
        return
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    code = errno.EHOSTUNREACH
    with _network():
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:ADDRESSES]:
            with socket.socket(family, kind, protocol) as one:
                one.settimeout(CONNECT_TIMEOUT)
                code = one.connect_ex(address)
                if code == 0:
                    return
    silent = code in (errno.EAGAIN, errno.ETIMEDOUT)
    raise ConnectionError(f"no answer within {CONNECT_TIMEOUT:g} s" if silent else os.strerror(code))


@contextmanager
def _network() -> Iterator[None]:
    """Make one kind of error of all that the system says of a connection: what it says of a disk is another matter."""
    import urllib.error

    try:
        yield
    except urllib.error.URLError:
        raise
    except OSError as error:
        raise ConnectionError(error.strerror or str(error) or type(error).__name__) from None


def _transfer(parts: SplitResult, part: Path, *, have: int, name: str, progress: Progress | None) -> bool:
    with _opened(_request(parts, have), name=name) as answer:
        have = have if getattr(answer, "status", None) == 206 else 0
        total = _total(answer, have)
        with part.open("r+b" if have else "wb") as out:
            out.truncate(have)
            out.seek(have)
            done = have
            for block in _received(answer):
                out.write(block)
                done += len(block)
                if done > LARGEST:
                    part.unlink()
                    what = f"{parts.hostname} sends more than any dataset holds"
                    raise DataError(what, where=name, remedy="Check the URL; nothing of it was kept.")
                if progress:
                    progress(name, done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")
    return have > 0


def _request(parts: SplitResult, have: int) -> urllib.request.Request:
    import base64
    import urllib.request

    host = (parts.hostname or "").encode("idna").decode()
    place = f"[{host}]" if ":" in host else host
    place += f":{parts.port}" if parts.port is not None else ""
    path = quote(parts.path, safe="/%~!$&'()*+,;=:@")  # a name that is not ASCII is sent as its bytes
    query = quote(parts.query, safe="/%~!$&'()*+,;=:@?")
    request = urllib.request.Request(
        urlunsplit((parts.scheme, place, path, query, "")), headers={"User-Agent": "samcmp"}
    )
    if have:
        request.add_header("Range", f"bytes={have}-")
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = base64.b64encode(pair.encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {login}")  # for this server alone
    return request


@contextmanager
def _opened(request: urllib.request.Request, *, name: str) -> Iterator[Any]:
    """Open the answer to a request; one whose headers drip is given up."""
    connections: list[Any] = []
    late = threading.Event()

    def cut() -> None:
        late.set()
        for connection in connections:
            with suppress(OSError, AttributeError):  # it has ended meanwhile
                connection.sock.shutdown(2)

    timer = threading.Timer(ANSWER_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        with _network():
            answer = _opener(connections, name=name).open(request, timeout=TIMEOUT)
    except Exception:
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():  # headers that end early look whole
        raise _TooSlow(f"no whole answer within {ANSWER_SECONDS:g} s")
    with answer:
        yield answer


def _opener(connections: list[Any], *, name: str) -> urllib.request.OpenerDirector:
    """Build what opens URLs: redirects stay with HTTP, and every connection is noted in ``connections``."""
    import http.client
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            to = checked(newurl, where=name)
            if to.scheme not in SCHEMES or to.username is not None:
                raise _no_url(newurl, "the server sent us there", where=name)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    class Http(http.client.HTTPConnection):
        def connect(self) -> None:
            connections.append(self)
            super().connect()

    class Https(http.client.HTTPSConnection):
        def connect(self) -> None:
            connections.append(self)
            super().connect()

    class HttpHandler(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(Http, req)

    class HttpsHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: Any) -> Any:
            return self.do_open(Https, req)

    return urllib.request.build_opener(Redirects, HttpHandler, HttpsHandler)


def _received(answer: Any) -> Iterator[bytes]:
    """Yield the bytes of an answer as they come."""
    began, done = time.monotonic(), 0
    while True:
        with _network():
            block = answer.read1(BLOCK)
        if not block:
            return
        done += len(block)
        seconds = time.monotonic() - began
        if seconds > SLOW_SECONDS and done < LEAST_RATE * seconds:
            raise _TooSlow(f"it sends less than {LEAST_RATE:,} bytes a second")
        yield block


def _total(answer: Any, have: int) -> int | None:
    length = answer.headers.get("Content-Length") or ""
    return have + int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def copied(source: IO[bytes], out: IO[bytes], done: int) -> Iterator[int]:
    """Copy block by block; yields the number of bytes so far."""
    while block := source.read(BLOCK):
        out.write(block)
        done += len(block)
        yield done
