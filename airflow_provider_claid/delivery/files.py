"""
The one way in which files of this machine are written, durably: records, images and manifests. Everything here blocks.

A file is written whole under a temporary name beside its own, synced to the disk, and brought to its name in one step;
then its folder is synced, so that the name outlives a loss of power too. Temporary names are `.claid-<32 hexadecimal
digits>.part`: random, 44 bytes whatever the file's name is, made exclusively and never through a symbolic link. What a
SIGKILL leaves of them is removed by the next process that writes into the same folder, an hour later.
"""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

STALE_SECONDS = 3600.0
"""Age at which a temporary file counts as left behind: nobody writes one for that long."""

LOOKED_AT = 10_000
"""Names of a folder that are looked at for temporary files: a larger folder may keep some."""

_UNFINISHED = re.compile(r"\.claid-[0-9a-f]{32}\.part")
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}


class NoHardLinksError(OSError):
    """The file system of this folder makes no hard links, by which files are created exclusively."""


def replace(
    path: Path, content: bytes | Iterable[bytes], mode: int = 0o666, *, ready: Callable[[], None] = lambda: None
) -> None:
    """
    Write a file durably, whole or not at all, over an older one or a symbolic link; the umask applies to `mode`.

    `ready` is called when only the name is missing; what it raises leaves the older file. Raises `OSError`, also if
    only the sync of the folder fails, when the file is there: writing it again is safe.
    """
    replace_open(path, content, mode, ready=ready).close()


def replace_open(
    path: Path, content: bytes | Iterable[bytes], mode: int = 0o666, *, ready: Callable[[], None] = lambda: None
) -> BinaryIO:
    """
    Do as `replace`, and return the file, to write on at its end.

    Whoever takes the name later takes it from this file: what is written then is in nobody's way.
    """
    with _unfinished(path.parent, content, mode) as (unfinished, file):
        ready()
        unfinished.replace(path)
        sync_folder(path.parent)
    return file


def create(path: Path, content: bytes | Iterable[bytes], mode: int = 0o666) -> bool:
    """
    Write a file durably unless its name is taken: then change nothing and return False.

    Of many who create one name at once, one gets True. Raises `NoHardLinksError` where that cannot be had, and
    `OSError`.
    """
    with _unfinished(path.parent, content, mode) as (unfinished, file):
        try:
            os.link(unfinished, path)
        except FileExistsError:
            return False
        except OSError as cause:
            if cause.errno in _NO_LINKS:
                raise NoHardLinksError(cause.errno, cause.strerror, str(path.parent)) from cause
            raise
        finally:
            file.close()
        sync_folder(path.parent)
    return True


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, durably, unless it is there; never the one above it. Raises `OSError`."""
    try:
        folder.mkdir(mode)
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    else:
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """
    Make new names in a folder outlive a loss of power; raises `OSError` where the disk fails.

    Where the file system cannot do that for a folder, or this user may not read it, nothing more can be done.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as cause:
        if cause.errno not in _NO_SYNC:
            raise


def _open_new(path: Path, mode: int = 0o666) -> int:
    """Make a file that is not there and open it for writing, never through a symbolic link; return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


@contextmanager
def _unfinished(folder: Path, content: bytes | Iterable[bytes], mode: int) -> Iterator[tuple[Path, BinaryIO]]:
    """Write a temporary file and sync it; it is gone at the end, unless it has got its name. The file stays open."""
    path = folder / f".claid-{uuid.uuid4().hex}.part"
    file: BinaryIO | None = None
    try:
        file = os.fdopen(_open_new(path, mode), "wb")
        for chunk in (content,) if isinstance(content, bytes) else content:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        yield path, file
    except BaseException:
        if file is not None:
            with suppress(OSError):
                file.close()
        raise
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    _remove_left_behind(folder, int(time.monotonic() // STALE_SECONDS))


@lru_cache(maxsize=256)
def _remove_left_behind(folder: Path, _hour: int) -> None:
    """Do it once in an hour: whoever writes many files does not list their folder for each."""
    with suppress(OSError):
        for path in left_behind(folder):
            with suppress(OSError):
                path.unlink()


def left_behind(folder: Path) -> Iterator[Path]:
    """Yield temporary files of ours that are an hour older than the latest change of their folder."""
    # Not by the clock of this machine: a file server stamps files by its own.
    stale = folder.stat().st_mtime - STALE_SECONDS
    with os.scandir(folder) as entries:
        for entry in islice(entries, LOOKED_AT):
            if _UNFINISHED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < stale:
                        yield Path(entry.path)
