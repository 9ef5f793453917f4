"""Get a dataset's file: from the cache, a mirror, a bundle or its URL, checked against its SHA-256 every time.

Where the publisher gives an MD5 alone, that is checked when the file is got, and its SHA-256 is recorded beside it and
checked from then on.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote, urlsplit

from samcmp import files
from samcmp.data.cards import DatasetCard
from samcmp.data.download import Progress, Unreachable, checked, copied, download, without_password
from samcmp.errors import DataError, WriteError
from samcmp.files import CACHE, cache_folder

__all__ = ["Progress", "Unreachable", "cached_path", "ensure", "how_to_get", "is_cached", "read"]

MIRROR = "SAMCMP_MIRROR"
_bundles: dict[str, tempfile.TemporaryDirectory[str]] = {}  # URL -> where its bundle lies until this process ends
_REMEDY = f"Make room, or name another folder with {CACHE}=FOLDER."


def cached_path(card: DatasetCard) -> Path:
    """Return where the card's file lies once it is fetched."""
    return card.data or cache_folder() / "files" / card.name.partition("@")[0] / card.file_name


def is_cached(card: DatasetCard) -> bool:
    """Whether the card's file is on this machine. Its content is checked when it is read."""
    try:
        return cached_path(card).is_file()
    except WriteError:  # no place for a cache
        return False


def ensure(card: DatasetCard, *, source: str | Path | None = None, progress: Progress | None = None) -> Path:
    """Return the card's file, getting it first when it is not cached.

    ``source`` is a folder or a bundle, here or at a URL; without it SAMCMP_MIRROR is used, and without that the card's
    own URL. A cached file whose SHA-256 is wrong is got again. Raises DataError, and WriteError for the cache.
    """
    path = cached_path(card)
    if card.data is not None:
        return _local(card, path)
    if _is_good(card, path):
        return path
    with files.alone(path, remedy=_REMEDY):
        if not _is_good(card, path):  # else another process was faster
            _get(card, path, source=str(source or os.environ.get(MIRROR) or ""), progress=progress)
    return path


def read(card: DatasetCard, *, source: str | Path | None = None, progress: Progress | None = None) -> bytes:
    """Return the content of the card's file, which is got first where needed: the very bytes that were checked.

    Raises DataError and WriteError as :func:`ensure` does.
    """
    path = cached_path(card)
    digest = ""
    for attempt in range(2):
        if is_cached(card):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise _unreadable(path, error) from None
            digest = hashlib.sha256(content).hexdigest()
            local = card.data is not None and card.md5 and not card.sha256  # nothing is recorded of it
            if hashlib.md5(content).hexdigest() == card.md5 if local else _matches(card, digest):
                return content
        if attempt == 0:
            ensure(card, source=source, progress=progress)
    raise _damaged(card, str(path), digest)  # changed while it was read


def _is_good(card: DatasetCard, path: Path) -> bool:
    try:
        digest = _sha256(path) if path.is_file() else ""
        if digest and not _matches(card, digest) and _is_published(card, path, digest):
            _record(card, path, digest)  # one that was put there by hand
        return bool(digest) and _matches(card, digest)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot be read: {error.strerror or error}", where=str(path), remedy="Check its permissions.")


def _local(card: DatasetCard, path: Path) -> Path:
    if not path.is_file():
        raise DataError("no such file", where=str(path), remedy=f"It holds the dataset {card.name!r}; check the path.")
    if not _is_published(card, path, _sha256(path)):
        raise _damaged(card, str(path), _sha256(path))
    return path


def _get(card: DatasetCard, path: Path, *, source: str, progress: Progress | None) -> None:
    from samcmp.data import bundle

    remote = source.startswith(("http://", "https://", "file://"))
    if not source:
        if not card.url:
            raise DataError(f"{card.file_name} has no URL", where=f"dataset {card.name}", remedy=how_to_get(card))
        _download(card, card.url, path=path, progress=progress)
    elif remote and bundle.is_named_so(checked(source, where="--from").path):
        archive = _here(source, remedy=how_to_get(card), progress=progress)
        _from_bundle(card, archive, path=path, came_from=without_password(source), progress=progress)
    elif remote:
        _download(card, f"{source.rstrip('/')}/{quote(card.file_name)}", path=path, progress=progress)
    elif bundle.is_named_so(source):
        _from_bundle(card, Path(source).expanduser(), path=path, came_from=source, progress=progress)
    else:
        copy = Path(source).expanduser() / card.file_name
        if not copy.is_file():
            raise DataError(f"there is no {card.file_name}", where=source, remedy=how_to_get(card))
        try:
            stream = copy.open("rb")
        except OSError as error:
            raise _unreadable(copy, error) from None
        with stream:
            _keep(card, stream, path=path, came_from=str(copy), progress=progress, total=copy.stat().st_size)


def _download(card: DatasetCard, url: str, *, path: Path, progress: Progress | None) -> None:
    """Download into a part file beside ``path``, which takes the file's name once its SHA-256 is right."""
    part = path.with_name(path.name + ".part")
    digest = ""
    with files.refusals(path, remedy=_REMEDY):
        for _ in range(2):
            resumed = download(url, part, name=card.file_name, remedy=how_to_get(card), progress=progress)
            digest = _sha256(part)
            if _is_published(card, part, digest):
                os.replace(part, path)
                _record(card, path, digest)
                return
            part.unlink()
            if not resumed:  # when it was continued, its beginning may be of another file: start afresh once
                break
    raise _damaged(card, without_password(url), digest)


def _here(url: str, *, remedy: str, progress: Progress | None) -> Path:
    """Download a bundle, once for all the datasets that this process takes from it."""
    if url not in _bundles:
        with files.refusals(cache_folder(), remedy=_REMEDY):
            cache_folder().mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(dir=cache_folder(), prefix="bundle-")
            name = PurePosixPath(urlsplit(url).path).name
            download(url, Path(folder.name) / name, name=name, remedy=remedy, progress=progress)
        _bundles[url] = folder
    return next(Path(_bundles[url].name).iterdir())


def _from_bundle(card: DatasetCard, archive: Path, *, path: Path, came_from: str, progress: Progress | None) -> None:
    from samcmp.data import bundle

    with bundle.member(archive, card.file_name, where=came_from) as stream:
        _keep(card, stream, path=path, came_from=came_from, progress=progress, total=None)


def _keep(
    card: DatasetCard, stream: IO[bytes], *, path: Path, came_from: str, progress: Progress | None, total: int | None
) -> None:
    """Copy a stream to its place in the cache, under a temporary name until its SHA-256 is known to be right."""
    with files.writing(path, remedy=_REMEDY) as aside:
        with aside.open("wb") as out:
            for done in copied(stream, out, 0):
                if progress:
                    progress(card.file_name, done, total)
        digest = _sha256(aside)
        if not _is_published(card, aside, digest):
            raise _damaged(card, came_from, digest)
    _record(card, path, digest)


def _matches(card: DatasetCard, digest: str) -> bool:
    """Whether a file of this SHA-256 is the card's, by the card or by what was recorded."""
    if card.md5 and not card.sha256:
        return digest == recorded_sha256(card)
    return not card.sha256 or digest in card.sha256


def _is_published(card: DatasetCard, path: Path, digest: str) -> bool:
    """Whether a file whose SHA-256 is ``digest`` is the card's, by its publisher's MD5 where that is all there is."""
    if card.sha256 or not card.md5:
        return _matches(card, digest)
    with path.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    return md5 == card.md5 and recorded_sha256(card) in {None, digest}


def recorded_sha256(card: DatasetCard) -> str | None:
    """Return the SHA-256 that was recorded when a file known by its MD5 was got; None where none was."""
    if card.data is not None:  # a user's own file, beside which nothing is written
        return None
    try:
        text = _record_path(cached_path(card)).read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return text.split(" ")[0].strip() or None


def _record(card: DatasetCard, path: Path, digest: str) -> None:
    if card.md5:
        files.write(_record_path(path), f"{digest}  {path.name}\n".encode(), remedy=_REMEDY)


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damaged(card: DatasetCard, came_from: str, digest: str) -> DataError:
    said = f"its card says {' or '.join(d[:16] + '...' for d in card.sha256)}"
    if card.md5:
        known = recorded_sha256(card)
        said = f"its publisher's MD5 is {card.md5}, which it has not"
        if known:
            said = f"{known[:16]}... was recorded beside it at the first fetch"
    return DataError(
        f"{card.file_name} has the SHA-256 {digest[:16]}... where {said}",
        where=came_from,
        remedy="The file is damaged, cut short or another version; it was not kept. Run the command again, "
        "or point to a good copy with --from.",
    )


def how_to_get(card: DatasetCard) -> str:
    """Say how a file reaches a machine that cannot download it."""
    link = (
        f"Get {card.file_name} from {without_password(card.url)} on a machine with a network"
        if card.url
        else "Get a copy"
    )
    return (
        f"{link}, put it in a folder, and name the folder with --from FOLDER or {MIRROR}=FOLDER "
        "(a bundle of `samcmp fetch --bundle` will do too, and so will the URL of either)."
    )
