"""Fetching: checked, atomic, resumable, quick to say what is wrong, and never led out of an archive."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import multiprocessing
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from samcmp.data import bundle, fetch
from samcmp.data.cards import DatasetCard
from samcmp.errors import DataError, WriteError

CONTENT = b"smiles,activity\n" + b"".join(b"C%s,%d\n" % (b"C" * (i % 40), i % 2) for i in range(9000))


@dataclass
class Server:
    """A server on this machine whose answers can be cut short."""

    content: bytes = CONTENT
    file: str = "set.csv"
    cut_first: int | None = None  # bytes after which the first answer breaks off
    ranges: bool = True
    busy_first: int | None = None  # status of the first answer
    asked: list[str | None] = field(default_factory=list)  # Range of each request
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if not self.path.partition("?")[0].endswith(f"/{state.file}"):
                self.send_error(404)
                return
            if state.busy_first and len(state.asked) == 1:
                self.send_error(state.busy_first)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.cut_first is not None and len(state.asked) == 1:
                body = body[: state.cut_first]
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}/data"
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMCMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SAMCMP_MIRROR", raising=False)
    return tmp_path / "cache"


def card(url: str = "", *, content: bytes = CONTENT) -> DatasetCard:
    return DatasetCard(
        name="set",
        title="A set",
        smiles_column="smiles",
        target_columns=("activity",),
        task="classification",
        metric="roc-auc",
        file_name="set.csv",
        url=f"{url}/set.csv" if url else "",
        sha256=(hashlib.sha256(content).hexdigest(),),
    )


def left_behind(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def test_a_file_is_downloaded_once_and_reports_its_progress(server: Server, cache: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    one = card(server.url)
    assert not fetch.is_cached(one)
    path = fetch.ensure(one, progress=lambda *step: seen.append(step))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("set.csv", len(CONTENT), len(CONTENT))
    assert fetch.ensure(one) == path
    assert len(server.asked) == 1
    assert left_behind(cache) == ["set.csv"]


def test_a_broken_connection_goes_on_where_it_stopped(server: Server, cache: Path) -> None:
    server.cut_first = 100_000
    assert fetch.ensure(card(server.url)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]


def test_the_part_of_an_interrupted_command_is_continued(server: Server, cache: Path) -> None:
    part = fetch.cached_path(card(server.url)).with_name("set.csv.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:5000])
    assert fetch.ensure(card(server.url)).read_bytes() == CONTENT
    assert server.asked == ["bytes=5000-"]


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samcmp.data.download.WAIT", 0.0)
    server.busy_first = 503
    assert fetch.ensure(card(server.url)).read_bytes() == CONTENT
    assert len(server.asked) == 2
    fetch.cached_path(card()).unlink()
    server.asked.clear()
    server.busy_first = 403
    with pytest.raises(DataError, match="403"):
        fetch.ensure(card(server.url))
    assert len(server.asked) == 1


def test_a_server_with_many_silent_addresses_is_given_up_after_two(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [nowhere] * 8)
    tried: list[object] = []

    def silent(self: socket.socket, address: object) -> int:
        tried.append(address)
        return errno.EAGAIN

    monkeypatch.setattr("socket.socket.connect_ex", silent)
    with pytest.raises(fetch.Unreachable, match="no answer within 4 s"):
        fetch.ensure(card("http://samcmp.invalid"))
    assert len(tried) == 2


@pytest.mark.parametrize("stale", [b"another file", CONTENT + b"more than there is"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_another_file_is_thrown_away(server: Server, cache: Path, stale: bytes, ranges: bool) -> None:
    server.ranges = ranges
    part = fetch.cached_path(card(server.url)).with_name("set.csv.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(stale)
    assert fetch.ensure(card(server.url)).read_bytes() == CONTENT


def test_a_damaged_download_is_refused_named_and_not_kept(server: Server, cache: Path) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(DataError, match=r"(?s)set\.csv has the SHA-256 .* not kept"):
        fetch.ensure(card(server.url))
    assert left_behind(cache) == []


def test_a_missing_file_names_the_answer_and_the_way_out(server: Server, cache: Path) -> None:
    with pytest.raises(DataError, match="404") as caught:
        fetch.ensure(replace(card(server.url), url=f"{server.url}/other.csv"))
    assert "--from" in str(caught.value)
    assert left_behind(cache) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://samcmp.invalid"])
def test_without_a_network_one_message_says_what_to_do_at_once(url: str, cache: Path) -> None:
    start = time.monotonic()
    with pytest.raises(fetch.Unreachable) as caught:
        fetch.ensure(card(url))
    assert time.monotonic() - start < 8
    text = str(caught.value)
    for piece in ("set.csv", f"{url}/set.csv", "SAMCMP_MIRROR", "--from", "cannot be reached"):
        assert piece in text
    assert caught.value.exit_code == 2


def test_a_cached_file_that_was_damaged_is_got_again(server: Server, cache: Path) -> None:
    path = fetch.ensure(card(server.url))
    path.write_bytes(CONTENT[:77])
    assert fetch.ensure(card(server.url)).read_bytes() == CONTENT


def test_a_mirror_is_a_folder_or_a_url(
    server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "set.csv").write_bytes(CONTENT)
    for place in (str(folder), folder.as_uri(), server.url, server.url + "/"):
        monkeypatch.setenv("SAMCMP_MIRROR", place)
        path = fetch.ensure(card("https://samcmp.invalid"))
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_from_wins_over_the_mirror(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set.csv").write_bytes(CONTENT)
    monkeypatch.setenv("SAMCMP_MIRROR", str(tmp_path / "nowhere"))
    assert fetch.ensure(card(), source=tmp_path).read_bytes() == CONTENT


def test_a_damaged_mirror_copy_is_refused_and_not_kept(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes(CONTENT[:-100])
    with pytest.raises(DataError, match="SHA-256"):
        fetch.ensure(card(), source=tmp_path)
    assert left_behind(cache) == []


def test_a_copy_that_cannot_be_read_is_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "set.csv").write_bytes(CONTENT)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"set\.csv: cannot be read: Permission denied"):
        fetch.ensure(card(), source=tmp_path)


def test_either_of_two_checksums_is_accepted(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes(CONTENT)
    two = replace(card(), sha256=("0" * 64, *card().sha256))
    assert fetch.ensure(two, source=tmp_path).is_file()


def test_a_cache_that_is_no_folder_is_named(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set.csv").write_bytes(CONTENT)
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("SAMCMP_CACHE", str(tmp_path / "occupied"))
    with pytest.raises(WriteError, match="SAMCMP_CACHE=FOLDER"):
        fetch.ensure(card(), source=tmp_path)


def test_a_full_disk_is_named_with_the_variable_that_helps_and_nothing_is_left(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "refused")

    (tmp_path / "set.csv").write_bytes(CONTENT)
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(WriteError, match=r"(?s)set\.csv: .*disk is full.*SAMCMP_CACHE=FOLDER"):
        fetch.ensure(card(), source=tmp_path)
    assert left_behind(cache) == []


def _ensure(url: str, out: multiprocessing.Queue[bytes]) -> None:
    out.put(fetch.ensure(card(url)).read_bytes())


def test_two_processes_that_fetch_one_file_both_succeed(server: Server, cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    out: multiprocessing.Queue[bytes] = context.Queue()
    both = [context.Process(target=_ensure, args=(server.url, out)) for _ in range(2)]
    for process in both:
        process.start()
    assert [out.get(timeout=30) for _ in both] == [CONTENT, CONTENT]
    for process in both:
        process.join()
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz", "all.tgz"])
def test_a_bundle_carries_a_file_to_a_machine_without_network(name: str, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes(CONTENT)
    bundle.write(tmp_path / name, [("set.csv", tmp_path / "set.csv")])
    assert fetch.ensure(card(), source=tmp_path / name).read_bytes() == CONTENT
    with bundle.member(tmp_path / name, bundle.SUMS, where=name) as sums:
        assert sums.read().decode() == f"{card().sha256[0]}  set.csv\n"


def test_a_zip_will_do_as_a_bundle(cache: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("mirror/set.csv", CONTENT)
    assert fetch.ensure(card(), source=tmp_path / "all.zip").read_bytes() == CONTENT


def _bundle_of(names: list[str], folder: Path, ending: str) -> bytes:
    path = folder / f"packed{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, CONTENT)
    else:
        (folder / "content").write_bytes(CONTENT)
        bundle.write(path, [(name, folder / "content") for name in names])
    return path.read_bytes()


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize("query", ["", "?download=1"])
def test_a_bundle_at_a_url_is_downloaded_once_for_all_its_datasets_and_not_kept(
    server: Server, cache: Path, tmp_path: Path, ending: str, query: str
) -> None:
    server.file = f"all{ending}"
    server.content = _bundle_of(["set.csv", "other.csv"], tmp_path, ending)
    url = f"{server.url}/{server.file}{query}"
    other = replace(card(), name="other", file_name="other.csv")
    for one in (card("https://samcmp.invalid"), other):
        assert fetch.ensure(one, source=url).read_bytes() == CONTENT
    assert len(server.asked) == 1
    fetch._bundles.pop(url).cleanup()  # as at the end of the process
    assert left_behind(cache) == ["other.csv", "set.csv"]


def test_a_bundle_at_a_url_is_checked_as_one_that_lies_here(server: Server, cache: Path, tmp_path: Path) -> None:
    server.file = "all.zip"
    url = f"{server.url}/all.zip"
    for content, said in (
        (_bundle_of(["other.csv"], tmp_path, ".zip"), r"no set\.csv in the bundle"),
        (_bundle_of(["set.csv", "../out.csv"], tmp_path, ".zip"), "leads out of the archive"),
        (_bundle_of(["set.csv"], tmp_path, ".zip").replace(CONTENT[:20], b"?" * 20)[:-200], "damaged"),
    ):
        server.content = content
        with pytest.raises(DataError, match=said) as caught:
            fetch.ensure(card(), source=url)
        assert caught.value.where == url
        fetch._bundles.pop(url).cleanup()
    assert left_behind(cache) == []


def test_a_bundle_of_another_day_is_refused_by_the_checksum(server: Server, cache: Path, tmp_path: Path) -> None:
    server.file, server.content = "all.tar", _bundle_of(["set.csv"], tmp_path, ".tar")
    url = f"{server.url}/all.tar"
    with pytest.raises(DataError, match="SHA-256"):
        fetch.ensure(card(content=b"the file of today"), source=url)
    fetch._bundles.pop(url).cleanup()
    assert left_behind(cache) == []


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_an_archive_that_unpacks_to_more_than_any_bundle_is_refused_before_it_is_unpacked(
    cache: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samcmp.data.bundle.LARGEST", len(CONTENT) + 5000)
    path = tmp_path / f"packed{ending}"
    _bundle_of(["set.csv"], tmp_path, ending)
    assert fetch.ensure(card(), source=path).is_file()
    fetch.cached_path(card()).unlink()
    _bundle_of(["set.csv", "a.csv"], tmp_path, ending)
    with pytest.raises(DataError, match="it unpacks to"):
        fetch.ensure(card(), source=path)
    assert left_behind(cache) == []


def _header_that_claims(size: int, kind: bytes, body: bytes) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + body


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("packed", [False, True])
def test_a_bundle_whose_header_claims_gigabytes_takes_no_memory(
    cache: Path, tmp_path: Path, kind: bytes, packed: bool
) -> None:
    """Two GiB of zeros are two MB of gzip; 64 MiB tell the same here."""
    import gzip
    import tracemalloc

    path = tmp_path / "bad.tar"
    content = _header_that_claims(2 << 30, kind, b"\0" * (64 << 20))
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    del content
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="claims 2,048 MiB"):
            fetch.ensure(card(), source=path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_bundle_of_much_more_than_its_bytes_is_refused(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set.csv", b"\0" * (80 << 20))
    with pytest.raises(DataError, match="it unpacks to"):
        fetch.ensure(card(), source=path)
    assert left_behind(cache) == []


def test_a_member_of_negative_size_is_refused(cache: Path, tmp_path: Path) -> None:
    info = tarfile.TarInfo("set.csv")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-(1 << 9)).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "bad.tar").write_bytes(bytes(header) + b"\0" * 2048)
    with pytest.raises(DataError):
        fetch.ensure(card(), source=tmp_path / "bad.tar")


def test_a_server_that_does_not_stop_sending_is_cut_off(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samcmp.data.download.LARGEST", 100_000)
    with pytest.raises(DataError, match="sends more than any dataset holds"):
        fetch.ensure(card(server.url))
    assert left_behind(cache) == []


def test_a_folder_with_the_name_of_a_bundle_is_one_message(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "all.tar").mkdir()
    with pytest.raises(DataError, match=r"all\.tar: is no file"):
        fetch.ensure(card(), source=tmp_path / "all.tar")


def _tar_with(path: Path, info: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as archive:
        good = tarfile.TarInfo("set.csv")
        good.size = len(CONTENT)
        archive.addfile(good, io.BytesIO(CONTENT))
        archive.addfile(info, io.BytesIO(b""))


@pytest.mark.parametrize("name", ["../set.csv", "a/../../x", "/etc/x", "..\\x", "C:\\x"])
@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_an_archive_that_leads_out_is_refused_as_a_whole(name: str, suffix: str, cache: Path, tmp_path: Path) -> None:
    path = tmp_path / f"bad{suffix}"
    if suffix == ".tar":
        _tar_with(path, tarfile.TarInfo(name))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("set.csv", CONTENT)
            archive.writestr(name, b"")
    with pytest.raises(DataError, match="leads out of the archive"):
        fetch.ensure(card(), source=path)
    assert left_behind(cache) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_an_archive_are_refused(kind: bytes, cache: Path, tmp_path: Path) -> None:
    info = tarfile.TarInfo("innocent")
    info.type, info.linkname = kind, "/etc/passwd"
    _tar_with(tmp_path / "bad.tar", info)
    with pytest.raises(DataError, match="link or a device"):
        fetch.ensure(card(), source=tmp_path / "bad.tar")


@pytest.mark.parametrize("name", ["cut.tar", "cut.tar.gz", "cut.zip"])
def test_a_bundle_cut_short_is_refused(name: str, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes(CONTENT)
    whole = tmp_path / ("whole" + name.removeprefix("cut"))
    if name.endswith(".zip"):
        with zipfile.ZipFile(whole, "w") as archive:
            archive.writestr("set.csv", CONTENT)
    else:
        bundle.write(whole, [("set.csv", tmp_path / "set.csv")])
    data = whole.read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 3])
    with pytest.raises(DataError):
        fetch.ensure(card(), source=tmp_path / name)
    assert left_behind(cache) == []


def test_a_file_that_a_bundle_lacks_is_named(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_bytes(CONTENT)
    bundle.write(tmp_path / "all.tar", [("other.csv", tmp_path / "other.csv")])
    with pytest.raises(DataError, match=r"no set\.csv in the bundle"):
        fetch.ensure(card(), source=tmp_path / "all.tar")
