"""
Buckets, for reading: which pictures are there, and a part of one. Everything here blocks: call it in a thread.

A key is what follows the bucket in a URI; on this machine, the path without its first slash.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from pathlib import Path
from stat import S_ISREG
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.store_errors import missing_bucket, store_errors


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a list shows it: its size in bytes, and a version that changes when its content does."""

    key: str
    size: int
    modified: datetime | None
    version: str


_LAST_CHARACTER = "\U0010fffd"

# Reading local files takes no waiting, only the interpreter: more threads would hold up a triggerer's event loop.
_few = [threading.BoundedSemaphore(2)]
# Threads of the parent that hold it are not in a forked child.
os.register_at_fork(after_in_child=lambda: _few.__setitem__(0, threading.BoundedSemaphore(2)))


class Bucket(Protocol):
    """
    An opened bucket. Its methods block.

    They raise `FileNotFoundError`, `StoreBusyError` for what may pass, `ClaidConfigurationError` for what will not.
    """

    def find(self, keys: Sequence[str]) -> Iterator[Entry]:
        """Yield those of these objects that are there."""

    def walk(self, prefix: str) -> Iterator[Entry]:
        """Yield all objects under a folder (a key with a final slash, or "" for all), page by page."""

    def read(self, key: str, start: int, end: int) -> bytes:
        """Read bytes `start` up to, without, `end` in one request."""


def open_bucket(scheme: str, name: str, conn_id: str | None) -> Bucket:
    """Open a bucket with a connection that was looked up before; raises `ClaidInputError` for an unknown scheme."""
    if scheme == "file":
        return LocalBucket()
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    place = f"{scheme}://{name}/"
    with store_errors(place, conn_id):
        try:
            path = ObjectStoragePath(place, conn_id=conn_id)
            fs = path.fs
        except (ValueError, ImportError) as cause:
            fix = f"Install the provider of this scheme, or check the connection ({cause})."
            raise ClaidInputError(
                "images or folder", place, "a scheme that Airflow has a file system for", fix
            ) from cause
    kind = S3Bucket if scheme.startswith("s3") else ObjectBucket
    return kind(fs, name, place, conn_id)


class LocalBucket:
    """The files of this machine."""

    def find(self, keys: Sequence[str]) -> Iterator[Entry]:
        """Look at each file: that is cheap here."""
        with _few[0]:
            found = [entry for key in keys if (entry := self._entry(key)) is not None]
        yield from found

    def walk(self, prefix: str) -> Iterator[Entry]:
        """Walk through the folder and those below."""
        with store_errors(f"file:///{prefix}", None):
            for folder, _, names in os.walk(Path("/", prefix), onerror=_raise_unless_missing):
                yield from self.find([str(Path(folder, name)).lstrip("/") for name in names])

    def read(self, key: str, start: int, end: int) -> bytes:
        """Read a part of a file."""
        with _few[0], store_errors(f"file:///{key}", None), Path("/", key).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def _entry(self, key: str) -> Entry | None:
        with store_errors(f"file:///{key}", None):
            try:
                status = Path("/", key).stat()
            except ValueError:
                return None
            except OSError as fault:
                # A name too long or a link to itself is no file either; one such must not hide its neighbours.
                if fault.errno in {ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG}:
                    return None
                raise
        if not S_ISREG(status.st_mode):
            return None
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
        return Entry(key, status.st_size, modified, f"{status.st_mtime_ns}-{status.st_size}")


class ObjectBucket:
    """A bucket of any object store that Airflow has a file system for."""

    def __init__(self, fs: Any, name: str, place: str, conn_id: str | None) -> None:
        self._fs = fs
        self._name = name
        self._place = place
        self._conn_id = conn_id

    def find(self, keys: Sequence[str]) -> Iterator[Entry]:
        """List each folder once, from what its wanted names have in common."""
        folders: dict[str, set[str]] = {}
        for key in keys:
            folders.setdefault(key[: key.rfind("/") + 1], set()).add(key)
        for folder, within in folders.items():
            start = _common_start(within)[len(folder) :]
            yield from (entry for entry in self._list(folder, start) if entry.key in within)

    def walk(self, prefix: str) -> Iterator[Entry]:
        """List everything under the folder."""
        return self._list(prefix, "")

    def read(self, key: str, start: int, end: int) -> bytes:
        """Read a range of an object."""
        with store_errors(self._place + key, self._conn_id):
            return bytes(self._fs.cat_file(f"{self._name}/{key}", start=start, end=end))

    def _list(self, folder: str, start: str) -> Iterator[Entry]:
        with store_errors(self._place + folder, self._conn_id):
            self._fs.invalidate_cache()
            found = self._find_all(folder + start)
        for path, info in found.items():
            key = path[len(self._name) + 1 :]
            if info.get("type") != "directory" and key.startswith(folder):
                yield _entry(key, info)

    def _find_all(self, prefix: str) -> dict[str, Any]:
        """Find by the beginning of the key, from the bucket: file systems trim the slashes of a folder's name."""
        found: dict[str, Any] = {}
        try:
            found = self._fs.find(self._name, prefix=prefix, detail=True)
            # Google tells of a missing bucket, and may refuse to be asked for one; Azure's file system does neither.
            doubtful = not found and self._place.startswith(("abfs", "adl"))
        except FileNotFoundError:
            doubtful = True
        if doubtful and not self._fs.exists(self._name):
            raise missing_bucket(self._place, self._conn_id)
        return found


class S3Bucket(ObjectBucket):
    """A bucket of S3, listed page by page (1,000 keys, in order), each page beginning where a wanted key may be."""

    def __init__(self, fs: Any, name: str, place: str, conn_id: str | None) -> None:
        super().__init__(impatient(fs), name, place, conn_id)

    def find(self, keys: Sequence[str]) -> Iterator[Entry]:
        """List from wanted key to wanted key, so that what lies between costs no pages."""
        wanted = sorted(set(keys), reverse=True)
        prefix = _common_start(wanted)
        after = ""
        while wanted:
            last = after = max(after, _just_before(wanted[-1]))
            page = self._page(prefix, after if after > prefix else "")
            for entry in _entries(page):
                after = entry.key
                while wanted and wanted[-1] < entry.key:
                    wanted.pop()
                if wanted and wanted[-1] == entry.key:
                    wanted.pop()
                    yield entry
            if not page.get("IsTruncated") or after <= last:
                return

    def walk(self, prefix: str) -> Iterator[Entry]:
        """List everything under the folder."""
        token: str | None = None
        while True:
            page = self._page(prefix, "", token)
            yield from _entries(page)
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return

    def _page(self, prefix: str, after: str, token: str | None = None) -> dict[str, Any]:
        more = {"StartAfter": after} if after else {}
        more |= {"ContinuationToken": token} if token else {}
        try:
            with store_errors(self._place + prefix, self._conn_id):
                page: dict[str, Any] = self._fs.call_s3("list_objects_v2", Bucket=self._name, Prefix=prefix, **more)
        except FileNotFoundError as cause:
            # A list is never "not found": this is no such bucket, or no S3 at all.
            raise missing_bucket(self._place, self._conn_id) from cause
        return page


_impatient_copies: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def impatient(fs: Any) -> Any:
    """
    Return a copy of an S3 file system that tries twice, unless the connection says how often.

    A failed look is followed by another; botocore's five tries in each of s3fs's five would hold a thread for minutes.
    """
    if fs.config_kwargs.get("signature_version"):
        # A signer of the connection's own is tied to this very object.
        return fs
    if (known := _impatient_copies.get(fs)) is not None:
        return known
    config = {"retries": {"total_max_attempts": 2}, **fs.config_kwargs}
    options = {**fs.storage_options, "config_kwargs": config}
    copy = type(fs)(*fs.storage_args, **options, skip_instance_cache=True)
    copy.retries = 1
    # One for all watches of a connection: a client and its connections take more than a megabyte.
    return _impatient_copies.setdefault(fs, copy)


def _entries(page: dict[str, Any]) -> Iterable[Entry]:
    for item in page.get("Contents", ()):
        yield Entry(item["Key"], item["Size"], item["LastModified"], item["ETag"])


def _entry(key: str, info: dict[str, Any]) -> Entry:
    """Read what gcsfs, adlfs and other file systems call size, time and version."""
    modified = modified_at(info)
    version = info.get("etag") or info.get("ETag") or modified
    return Entry(key, int(info.get("size") or 0), modified, str(version))


def modified_at(info: dict[str, Any]) -> datetime | None:
    """Return when an object was last modified, by the names that s3fs, gcsfs, adlfs and others have for it."""
    modified = info.get("LastModified") or info.get("last_modified") or info.get("updated") or info.get("mtime")
    return datetime.fromisoformat(modified) if isinstance(modified, str) else modified


def _just_before(key: str) -> str:
    """Return a text that sorts before a key, with few or no other keys between."""
    start, last = key[:-1], ord(key[-1])
    # Before a space are control characters, before U+E000 surrogates, which no URL can carry.
    return f"{start}{chr(last - 1)}{_LAST_CHARACTER}" if last > 0x20 and last != 0xE000 else start


def _common_start(keys: Collection[str]) -> str:
    if not keys:
        return ""
    return os.path.commonprefix([min(keys), max(keys)])  # noqa: RUF071 - characters are meant, not folders


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
