"""A server that means harm or is broken, and URLs that cannot be: a few requests, some seconds, one clear error."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samcmp.data import download, fetch
from samcmp.data.cards import DatasetCard
from samcmp.errors import DataError, SamcmpError

CONTENT = b"smiles,y\n" + b"CCO,1\n" * 2000
Answer = Callable[[socket.socket, bytes], None]  # what is done with a connection after its request was read


class Server:
    """A server that answers with whatever a test writes into the connection."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer: Answer = lambda connection, request: None
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/set.csv"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                got = connection.recv(4096)
                if not got:  # the probe whether there is a server at all
                    return
                request += got
            self.asked.append(request)
            try:
                self.answer(connection, request)
            except OSError:
                return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("SAMCMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SAMCMP_MIRROR", raising=False)
    monkeypatch.setattr(download, "WAIT", 0.0)
    made = Server()
    yield made
    made.listening.close()


def card(url: str) -> DatasetCard:
    return DatasetCard(
        name="set", title="A set", smiles_column="smiles", target_columns=("y",), task="classification",
        metric="roc-auc", file_name="set.csv", url=url, sha256=(hashlib.sha256(CONTENT).hexdigest(),),
    )  # fmt: skip


def reply(body: bytes, *, status: str = "200 OK", **headers: str) -> bytes:
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n".encode("utf-8", "surrogateescape") + body


def test_a_server_that_cuts_its_answer_and_then_sends_wrong_bytes_is_asked_a_few_times(server: Server) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        start = 0 if b"Range" not in request else int(request.split(b"bytes=")[1].split(b"-")[0])
        body = b"x" * (len(CONTENT) - start)
        status = "206 Partial Content" if start else "200 OK"
        connection.sendall(reply(body[: len(body) // 2], status=status, Content_Length=str(len(body))))

    server.answer = answer
    with pytest.raises(DataError):
        fetch.ensure(card(server.url))
    assert len(server.asked) <= download.TRIES + 1


def test_a_continued_file_with_wrong_bytes_is_fetched_afresh_once(server: Server) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        if b"Range" in request:
            start = int(request.split(b"bytes=")[1].split(b"-")[0])
            connection.sendall(reply(b"x" * (len(CONTENT) - start), status="206 Partial Content"))
        elif len(server.asked) == 1:
            connection.sendall(reply(CONTENT[:100], Content_Length=str(len(CONTENT))))
        else:
            connection.sendall(reply(CONTENT))

    server.answer = answer
    assert fetch.ensure(card(server.url)).read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize("dripping", ["status", "headers", "body"])
def test_a_drip_ends_at_the_limit(server: Server, monkeypatch: pytest.MonkeyPatch, dripping: str) -> None:
    monkeypatch.setattr(download, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(download, "SLOW_SECONDS", 1.0)
    first = {"status": b"", "headers": b"HTTP/1.1 200 OK\r\nX: ", "body": reply(b"", Content_Length="99999")}[dripping]

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall(first)
        for _ in range(600):
            connection.sendall(b"H")
            time.sleep(0.05)

    server.answer = answer
    with pytest.raises(fetch.Unreachable, match=r"no whole answer within 1 s|less than 1,024 bytes a second"):
        fetch.ensure(card(server.url))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "length", ["9" * 5000, "2²", "²", "-5", "+5", "0x10", "1e3", "five", "", "99999999999999999999"]
)
def test_a_length_that_is_none_is_not_relied_on(server: Server, length: str) -> None:
    server.answer = lambda connection, request: connection.sendall(reply(CONTENT, Content_Length=length))
    with contextlib.suppress(SamcmpError):  # http's own reading of it may end the answer early
        assert fetch.ensure(card(server.url)).read_bytes() == CONTENT
    assert len(server.asked) <= download.TRIES + 1


HOSTILE = {
    "no answer": b"",
    "noise": bytes(range(256)) * 20,
    "another protocol": b"220 ftp.example ready\r\n",
    "a reason that moves the cursor": reply(b"", status="500 \x1b[2J\x1b]0;owned\x07"),
    "an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    "a chunk of no size": reply(b"zz\r\nabc\r\n", Transfer_Encoding="chunked"),
    "a cut chunk": reply(b"ffff\r\nabc", Transfer_Encoding="chunked"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_a_server_says_ends_in_one_error_that_names_the_file(server: Server, what: str) -> None:
    server.answer = lambda connection, request: connection.sendall(HOSTILE[what])
    with pytest.raises(SamcmpError, match=r"set\.csv"):
        fetch.ensure(card(server.url))
    assert len(server.asked) <= download.TRIES + 1


@pytest.mark.parametrize(
    "target",
    [
        "ftp://127.0.0.1/set.csv", "file:///etc/passwd", "data:,x", "gopher://127.0.0.1/", "http://[::1",
        "http://127.0.0.1:99999/", "http://127.0.0.1:abc/", f"http://{'a' * 64}.example/", "http:///x",
        "http://user:secret@127.0.0.1:1/", "//", "javascript:1",
    ],
)  # fmt: skip
def test_a_redirect_to_anything_but_a_plain_url_of_http_is_refused(server: Server, target: str) -> None:
    server.answer = lambda connection, request: connection.sendall(reply(b"", status="302 Found", Location=target))
    with pytest.raises(SamcmpError) as caught:
        fetch.ensure(card(server.url))
    assert "secret" not in str(caught.value)
    assert len(server.asked) <= 12  # a redirect to the server itself ends, too


def test_a_redirect_to_a_server_of_http_is_followed(server: Server) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        moved = reply(b"", status="302 Found", Location=f"http://127.0.0.1:{server.port}/moved/set.csv")
        connection.sendall(reply(CONTENT) if b"/moved/" in request else moved)

    server.answer = answer
    assert fetch.ensure(card(server.url)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:99999/set.csv", "http://127.0.0.1:abc/set.csv", "http://127.0.0.1:-1/set.csv",
        "http://[::1/set.csv", "http://]/set.csv", f"http://{'a' * 64}.example/set.csv",
        f"http://{'a.' * 200}x/set.csv",
        "http://.../set.csv", "http:///set.csv", "http://", "https:", "ftp://127.0.0.1/set.csv", "http://a..b/set.csv",
        "http://user:secret@127.0.0.1:abc/set.csv", "http://user:secret@[::1/set.csv", "http://\x00/set.csv",
        "http://user:secret@127.0.0.1:9/set.csv", "http://\ud800.example/set.csv",
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_mirror", [False, True])
def test_a_url_that_cannot_be_is_one_error_without_its_password(
    server: Server, url: str, as_mirror: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = url.removesuffix("/set.csv") if as_mirror else None
    if as_mirror and not url.startswith("http"):
        pytest.skip("taken for a folder")
    with pytest.raises(SamcmpError) as caught:
        fetch.ensure(card(url), source=source)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/dätä/sét.csv", "/a b/set.csv", "/a%20b/set.csv", "/a+b/set.csv?x=ü&y=1"])
def test_a_path_that_is_not_ascii_is_asked_for_by_its_bytes(server: Server, path: str) -> None:
    server.answer = lambda connection, request: connection.sendall(reply(CONTENT))
    assert fetch.ensure(card(f"http://127.0.0.1:{server.port}{path}")).read_bytes() == CONTENT
    asked = server.asked[0].split(b" ")[1]
    assert asked.isascii()
    assert b" " not in asked
    assert b"%25" not in asked, "what is escaped already is left"


def test_a_name_and_password_in_a_url_log_in_there_and_are_not_shown(server: Server) -> None:
    login = base64.b64encode(b"someone:s3cret/x").decode()

    def answer(connection: socket.socket, request: bytes) -> None:
        ok = f"Authorization: Basic {login}".encode() in request
        connection.sendall(reply(CONTENT) if ok else reply(b"", status="401 Unauthorized"))

    server.answer = answer
    url = f"http://someone:s3cret%2Fx@127.0.0.1:{server.port}/set.csv"
    assert fetch.ensure(card(url)).read_bytes() == CONTENT
    server.answer = lambda connection, request: connection.sendall(reply(b"something else"))
    fetch.cached_path(card(url)).unlink()
    with pytest.raises(DataError) as caught:
        fetch.ensure(card(url))
    assert "s3cret" not in str(caught.value)
    assert "someone" not in str(caught.value)
