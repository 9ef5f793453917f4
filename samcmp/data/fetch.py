"""Get a dataset's file: from the cache, a mirror, a bundle or its URL, checked against its SHA-256 every time."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from samcmp.data.cards import DatasetCard
from samcmp.data.download import Progress, Unreachable, copied, download
from samcmp.errors import DataError

__all__ = ["Progress", "Unreachable", "cache_folder", "cached_path", "ensure", "how_to_get", "is_cached"]

MIRROR = "SAMCMP_MIRROR"
CACHE = "SAMCMP_CACHE"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")


def cache_folder() -> Path:
    """Return the folder for everything that can be made again: SAMCMP_CACHE, or the platform's cache folder."""
    named = os.environ.get(CACHE)
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("samcmp", appauthor=False))


def cached_path(card: DatasetCard) -> Path:
    """Return where the card's file lies once it is fetched."""
    return card.data or cache_folder() / "files" / card.name.partition("@")[0] / card.file_name


def is_cached(card: DatasetCard) -> bool:
    """Whether the card's file is on this machine. Its content is checked when it is read."""
    return cached_path(card).is_file()


def ensure(card: DatasetCard, *, source: str | Path | None = None, progress: Progress | None = None) -> Path:
    """Return the card's file, getting it first when it is not cached.

    ``source`` is a folder, a URL or a bundle; without it SAMCMP_MIRROR (a folder or a URL) is used, and without
    that the card's own URL. A cached file whose SHA-256 is wrong is removed and got again. Raises DataError.
    """
    path = cached_path(card)
    if card.data is not None:
        return _local(card, path)
    if _is_good(card, path):
        return path
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    from filelock import FileLock

    with writing(path), FileLock(path.with_name(path.name + ".lock")):
        if not _is_good(card, path):  # else another process was faster
            path.unlink(missing_ok=True)
            _get(card, path, source=source or os.environ.get(MIRROR) or None, progress=progress)
    return path


def _is_good(card: DatasetCard, path: Path) -> bool:
    try:
        return path.is_file() and _matches(card, _sha256(path))
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot be read: {error.strerror or error}", where=str(path), remedy="Check its permissions.")


def _local(card: DatasetCard, path: Path) -> Path:
    if not path.is_file():
        raise DataError("no such file", where=str(path), remedy=f"It holds the dataset {card.name!r}; check the path.")
    if card.sha256 and not _matches(card, _sha256(path)):
        raise _damaged(card, str(path), _sha256(path))
    return path


def _get(card: DatasetCard, path: Path, *, source: str | Path | None, progress: Progress | None) -> None:
    if source is None:
        if not card.url:
            raise DataError(f"{card.file_name} has no URL", where=f"dataset {card.name}", remedy=how_to_get(card))
        _download(card, card.url, path=path, progress=progress)
    elif str(source).startswith(("http://", "https://", "file://")):
        from urllib.parse import quote

        _download(card, f"{str(source).rstrip('/')}/{quote(card.file_name)}", path=path, progress=progress)
    elif str(source).endswith(ARCHIVES):
        from samcmp.data import bundle

        with bundle.member(Path(source).expanduser(), card.file_name) as stream:
            _keep(card, stream, path=path, came_from=str(source), progress=progress, total=None)
    else:
        copy = Path(source).expanduser() / card.file_name
        if not copy.is_file():
            raise DataError(f"there is no {card.file_name}", where=str(source), remedy=how_to_get(card))
        try:
            stream = copy.open("rb")
        except OSError as error:
            raise _unreadable(copy, error) from None
        with stream:
            _keep(card, stream, path=path, came_from=str(copy), progress=progress, total=copy.stat().st_size)


def _download(card: DatasetCard, url: str, *, path: Path, progress: Progress | None) -> None:
    """Download into a part file beside ``path``, which takes the file's name once its SHA-256 is right."""
    part = path.with_name(path.name + ".part")
    resumed = True
    while resumed:
        resumed = download(url, part, name=card.file_name, remedy=how_to_get(card), progress=progress)
        digest = _sha256(part)
        if _matches(card, digest):
            os.replace(part, path)
            return
        part.unlink()  # when it was continued, its beginning may be of another file: start afresh once
    raise _damaged(card, url, digest)


def _keep(
    card: DatasetCard, stream: IO[bytes], *, path: Path, came_from: str, progress: Progress | None, total: int | None
) -> None:
    """Copy a stream to its place in the cache, under a temporary name until its SHA-256 is known to be right."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            for done in copied(stream, out, 0):
                if progress:
                    progress(card.file_name, done, total)
        digest = _sha256(temporary)
        if not _matches(card, digest):
            raise _damaged(card, came_from, digest)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _matches(card: DatasetCard, digest: str) -> bool:
    return not card.sha256 or digest in card.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damaged(card: DatasetCard, came_from: str, digest: str) -> DataError:
    return DataError(
        f"{card.file_name} has the SHA-256 {digest[:16]}... where its card says "
        f"{' or '.join(d[:16] + '...' for d in card.sha256)}",
        where=came_from,
        remedy="The file is damaged, cut short or another version; it was not kept. Run the command again, "
        "or point to a good copy with --from.",
    )


def how_to_get(card: DatasetCard) -> str:
    """Say how a file reaches a machine that cannot download it."""
    link = f"Get {card.file_name} from {card.url} on a machine with a network" if card.url else "Get a copy"
    return (
        f"{link}, put it in a folder, and name the folder with --from FOLDER or {MIRROR}=FOLDER "
        "(a URL or a bundle of `samcmp fetch --bundle` will do too)."
    )


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: under a temporary name beside it, then renamed. Raises DataError."""
    with writing(path, remedy="Make room, or name another place."):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextmanager
def writing(path: Path, *, remedy: str = f"Make room, or name another folder with {CACHE}=FOLDER.") -> Iterator[None]:
    """Turn the system's refusal to write into a message that names the folder and the remedy."""
    reasons = {
        errno.ENOSPC: "the disk is full",
        getattr(errno, "EDQUOT", -1): "the disk quota is used up",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "there is no permission to write",
        errno.EPERM: "there is no permission to write",
        errno.ENOTDIR: "a part of the path is a file, not a folder",
        errno.EEXIST: "a part of the path is a file, not a folder",
        errno.ENOENT: "there is no such folder",
        errno.EISDIR: "it is a folder",
    }
    try:
        yield
    except OSError as error:
        if error.errno not in reasons:
            raise
        why = reasons[error.errno]
        raise DataError(f"cannot write {path.name}: {why}", where=str(path.parent), remedy=remedy) from None
