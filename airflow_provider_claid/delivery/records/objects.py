"""Small objects for records: created exclusively, replaced whole, read whole. Everything here blocks."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidRecordsError
from airflow_provider_claid.delivery import files
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.records import exclusive
from airflow_provider_claid.delivery.store_errors import (
    StoreBusyError,
    is_empty,
    is_refused_create,
    none_if_denied,
    store_errors,
)

T = TypeVar("T")

RIGHTS = "to put and to get (S3: PutObject, GetObject)"
FIELD = "records_path"

MOST_AT_ONCE = 128 * 2**20
"""Bytes that are put in one request, which are in memory for that moment."""

_NEEDS_A_PERSON = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG
}  # fmt: skip


class Objects(Protocol):
    """A place for small objects; `uri` with a final slash. Raises `StoreBusyError` or `ClaidConfigurationError`."""

    uri: str

    def create(self, name: str, data: bytes) -> bool:
        """Write an object whole and durably unless the name is taken: then change nothing and return False."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole and durably, over an older one."""

    def get(self, name: str) -> bytes | None:
        """Read an object; None if it is not there."""

    def names(self) -> Iterator[str]:
        """Yield all names. Needs the right to list."""


def open_objects(target: Target, field: str = FIELD, *, makes_root: bool = False) -> Objects:
    """
    Open a place of records, which the argument `field` names. Blocks.

    A folder of this machine has to be there: records that seem to be gone with a lost mount would be paid again.
    `makes_root` makes it, but not what is above it. Raises `ClaidConfigurationError` for a place that is not there, and
    for a store without an exclusive create.
    """
    return (
        LocalObjects(target, field, makes_root=makes_root) if target.scheme == "file" else StoreObjects(target, field)
    )


def create_proven(objects: Objects, name: str, data: bytes) -> bool:
    """
    Create exclusively; the first object of a process and place is created twice, and the store must refuse that.

    Raises `ClaidConfigurationError` for a store that overwrites instead.
    """
    if objects.uri in _proven:
        return objects.create(name, data)
    ends = exclusive.twice(partial(objects.create, name, data))
    if ends == [True, True]:
        came = f"{objects.uri}, whose store overwrites where an exclusive create was asked for"
        fix = "Two attempts of a task could both pay: keep records in S3, Google Cloud, Azure or a local folder."
        raise ClaidConfigurationError(FIELD, came, "a store that refuses a second create", fix)
    if set(ends) == {True, False}:
        _proven.add(objects.uri)
    return exclusive.created(ends)


def unreadable(where: str) -> ClaidRecordsError:
    """Return the error for a record that could not be created because it is there, and yet cannot be read."""
    message = f"The record {where} is there and cannot be read: it needs the rights {RIGHTS}. No request is sent"
    return ClaidRecordsError(message, billed="unknown")


_proven: set[str] = set()


class LocalObjects:
    """Files of this machine, below a folder that is there. Each gets its name when it is whole and on the disk."""

    def __init__(self, target: Target, field: str = FIELD, *, makes_root: bool = False) -> None:
        self.uri = target.uri
        self._field = field
        self._root = Path(urlsplit(target.uri).path)
        with self._errors(""):
            if makes_root and not self._root.is_dir():
                files.make_folder(self._root, 0o700)
            self._require_root()

    def create(self, name: str, data: bytes) -> bool:
        """Link the finished file to its name, which fails if that is taken."""
        with self._errors(name):
            return files.create(self._path_of(name), data, 0o600)

    def put(self, name: str, data: bytes) -> None:
        """Rename the finished file over its name."""
        with self._errors(name):
            files.replace(self._path_of(name), data, 0o600)

    def get(self, name: str) -> bytes | None:
        """Read a file; that it is absent counts only where the root is there."""
        with self._errors(name):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                self._require_root()
                return None

    def names(self) -> Iterator[str]:
        """Yield the paths of all files below."""
        with self._errors(""):
            self._require_root()
            for folder, _, names in os.walk(self._root, onerror=_raise_unless_gone):
                for name in names:
                    yield str(Path(folder, name).relative_to(self._root))

    def _path_of(self, name: str) -> Path:
        """Return where an object is to be written; folders between it and the root are made, the root never is."""
        path = self._root / name
        if not path.parent.is_dir():
            self._require_root()
            between = [each for each in path.parents if self._root in each.parents]
            for folder in reversed(between):
                files.make_folder(folder, 0o700)
        return path

    def _require_root(self) -> None:
        try:
            found = stat.S_ISDIR(self._root.stat().st_mode)
        except FileNotFoundError:
            found = False
        if not found:
            raise self._lost()

    def _lost(self) -> ClaidConfigurationError:
        fix = (
            "Mount it, or create it: it is not made here, as one that is lost holds what was paid for. Then clear the "
            "task; below Airflow 3.3 clear it once more if it asks for that."
        )
        return ClaidConfigurationError(self._field, f"{self.uri}, which is no folder here", "a folder that exists", fix)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except files.NoHardLinksError as cause:
            self._refuse_mount(cause)
        except OSError as cause:
            if isinstance(cause, FileNotFoundError | NotADirectoryError) and not self._root.is_dir():
                raise self._lost() from cause
            if cause.errno not in _NEEDS_A_PERSON:
                raise StoreBusyError(f"{self.uri}{name} cannot be used now ({cause})") from cause
            accepted, fix = "a folder in which this user can make and read files", "Check the path and permissions."
            if cause.errno in {errno.EACCES, errno.EPERM} and self._is_of_another_user(name):
                fix = (
                    "They are another OS user's, and are made to be read by that user only: run workers and triggerers "
                    "as one user, without run_as_user, or keep them in an object store."
                )
            raise ClaidConfigurationError(self._field, f"{self.uri}{name} ({cause})", accepted, fix) from cause

    def _is_of_another_user(self, name: str) -> bool:
        """Tell whether the folder of a job was made by another user of this machine."""
        folder = (self._root / name).parent
        try:
            return folder != self._root and folder.stat().st_uid != os.geteuid()
        except OSError:
            return False

    def _refuse_mount(self, cause: OSError) -> NoReturn:
        came = f"{self.uri}, whose file system makes no hard links ({cause.strerror})"
        accepted = "a folder on a disk, or an object store: records are created exclusively, here by hard links"
        fix = f"Set {self._field} to a place on a disk of this machine or in an object store."
        raise ClaidConfigurationError(self._field, came, accepted, fix) from cause


def _raise_unless_gone(fault: OSError) -> None:
    """What cannot be listed is not the same as nothing."""  # noqa: D401
    if not isinstance(fault, FileNotFoundError):
        raise fault


class StoreObjects:
    """Objects of any store that Airflow has a file system for, each put in one request."""

    def __init__(self, target: Target, field: str = FIELD, *, exclusive_create: bool = True) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        self.uri = target.uri
        self._conn_id = target.conn_id
        self._field = field
        with self._errors(""):
            try:
                path = ObjectStoragePath(target.uri, conn_id=target.conn_id)
                self._fs: Any = path.fs
            except (ValueError, ImportError) as cause:
                accepted, fix = "a scheme that Airflow has a file system for", f"Install its provider ({cause})."
                raise ClaidConfigurationError(field, target.uri, accepted, fix) from cause
        if exclusive_create:
            exclusive.require_atomic(type(self._fs), target.uri, field)
        self._root = path.path.rstrip("/")

    def create(self, name: str, data: bytes) -> bool:
        """Put with the store's own condition that there is no such object."""
        with self._errors(name):
            try:
                self._fs.pipe_file(self._path(name), data, mode="create")
            except Exception as cause:
                if is_refused_create(cause):
                    return False
                raise
        return True

    def put(self, name: str, data: bytes) -> None:
        """Put."""
        with self._errors(name):
            self._fs.pipe_file(self._path(name), data)

    def get(self, name: str) -> bytes | None:
        """
        Get, in one request; an absent object counts as absent also where the store answers 403 for it.

        S3 does that without the right to list. Where reading is forbidden altogether, the claim that follows tells.
        """

        def read() -> bytes:
            try:
                # From 0: s3fs asks for the size of what is read without a range first, and lists if it is absent.
                return bytes(self._fs.cat_file(self._path(name), start=0))
            except Exception as cause:
                if is_empty(cause):
                    return b""
                raise

        return self._present(name, read)

    def version(self, name: str) -> str | None:
        """Return the ETag of an object of S3, for `upload`; "" if it is not there, None where there is no condition."""
        if not self.uri.startswith("s3"):
            return None

        def read() -> str:
            self._fs.invalidate_cache()
            return str(self._fs.info(self._path(name))["ETag"])

        return self._present(name, read) or ""

    def upload(self, name: str, path: Path, version: str | None = None) -> bool:
        """
        Put a file of this machine, of any size; False if the object is not of this `version` any more.

        However slow it is, it never takes the place of what another one has put there meanwhile; one of more than
        `MOST_AT_ONCE` bytes is put without that condition.
        """
        with self._errors(name):
            if version is None or path.stat().st_size > MOST_AT_ONCE:
                self._fs.put_file(str(path), self._path(name))
                return True
            bucket, _, key = self._path(name).partition("/")
            condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
            try:
                # Bytes, not the open file: s3fs tries again from where a failed try has read to.
                self._fs.call_s3("put_object", Bucket=bucket, Key=key, Body=path.read_bytes(), **condition)
            except Exception as cause:
                if is_refused_create(cause):
                    return False
                raise
        return True

    def download(self, name: str, path: Path) -> bool:
        """Get an object of any size into a file; False if it is not there."""

        def fetch() -> bool:
            self._fs.invalidate_cache()
            self._fs.get_file(self._path(name), str(path))
            return True

        return bool(self._present(name, fetch))

    def _present(self, name: str, step: Callable[[], T]) -> T | None:
        """Read something of an object; None where it is not there, or denied: S3 says so to those who may not list."""

        def read() -> T:
            with self._errors(name):
                return step()

        try:
            return none_if_denied(read)
        except FileNotFoundError:
            return None

    def names(self) -> Iterator[str]:
        """List everything."""
        with self._errors(""):
            self._fs.invalidate_cache()
            for path in self._fs.find(self._root):
                yield path[len(self._root) + 1 :]

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        with store_errors(self.uri + name, self._conn_id, field=self._field, rights=RIGHTS):
            yield
