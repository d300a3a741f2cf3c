"""Small objects for records: created exclusively, replaced whole, read whole. Everything here blocks."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidRecordsError
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.store_errors import (
    StoreBusyError,
    is_denied,
    is_empty,
    is_refused_create,
    store_errors,
)

log = logging.getLogger(__name__)

RIGHTS = "to put and to get (S3: PutObject, GetObject)"
FIELD = "records_path"


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


def open_objects(target: Target) -> Objects:
    """Open the place of records; raises `ClaidConfigurationError` for a scheme without a file system."""
    return LocalObjects(target) if target.scheme == "file" else StoreObjects(target)


def create_proven(objects: Objects, name: str, data: bytes) -> bool:
    """
    Create exclusively; the first object of a process and place is created twice, and the store must refuse that.

    Raises `ClaidConfigurationError` for a store that overwrites instead.
    """
    if not objects.create(name, data):
        return False
    if objects.uri not in _proven and objects.create(name, data):
        came = f"{objects.uri}, whose store overwrites where an exclusive create was asked for"
        fix = "Two attempts of a task could both pay: keep records in S3, Google Cloud, Azure or a local folder."
        raise ClaidConfigurationError(FIELD, came, "a store that refuses a second create", fix)
    _proven.add(objects.uri)
    return True


def unreadable(where: str) -> ClaidRecordsError:
    """Return the error for a record that could not be created because it is there, and yet cannot be read."""
    message = f"The record {where} is there and cannot be read: it needs the rights {RIGHTS}. Nothing was sent"
    return ClaidRecordsError(message)


_proven: set[str] = set()


class LocalObjects:
    """Files of this machine. Each is synced to the disk under another name first: half a record blocks for ever."""

    def __init__(self, target: Target) -> None:
        self.uri = target.uri
        self._root = Path(urlsplit(target.uri).path)

    def create(self, name: str, data: bytes) -> bool:
        """Link the finished file to its name, which fails if that is taken."""
        with self._errors(name), self._written(name, data) as unfinished:
            try:
                os.link(unfinished, self._root / name)
            except FileExistsError:
                return False
            _sync(unfinished.parent)
        return True

    def put(self, name: str, data: bytes) -> None:
        """Rename the finished file over its name."""
        with self._errors(name), self._written(name, data) as unfinished:
            unfinished.replace(self._root / name)
            _sync(unfinished.parent)

    def get(self, name: str) -> bytes | None:
        """Read a file."""
        with self._errors(name):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def names(self) -> Iterator[str]:
        """Yield the paths of all files below."""
        with self._errors(""):
            for folder, _, files in os.walk(self._root):
                for file in files:
                    yield str(Path(folder, file).relative_to(self._root))

    @contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[Path]:
        path = self._root / name
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(path.parent.parent)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield unfinished
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (PermissionError, NotADirectoryError, IsADirectoryError) as cause:
            accepted, fix = "a folder in which this user can make and read files", "Check the path and permissions."
            raise ClaidConfigurationError(FIELD, f"{self.uri}{name} ({cause})", accepted, fix) from cause
        except OSError as cause:
            raise StoreBusyError(f"{self.uri}{name} cannot be used now ({cause})") from cause


class StoreObjects:
    """Objects of any store that Airflow has a file system for, each put in one request."""

    def __init__(self, target: Target, field: str = FIELD) -> None:
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
        try:
            with self._errors(name):
                try:
                    # From 0: s3fs asks for the size of what is read without a range first, and lists if it is absent.
                    return bytes(self._fs.cat_file(self._path(name), start=0))
                except Exception as cause:
                    if is_empty(cause):
                        return b""
                    raise
        except FileNotFoundError:
            return None
        except ClaidConfigurationError as fault:
            if is_denied(fault):
                return None
            raise

    def upload(self, name: str, path: Path) -> None:
        """Put a file of this machine, of any size."""
        with self._errors(name):
            self._fs.put_file(str(path), self._path(name))

    def download(self, name: str, path: Path) -> bool:
        """Get an object of any size into a file; False if it is not there."""
        try:
            with self._errors(name):
                self._fs.invalidate_cache()
                self._fs.get_file(self._path(name), str(path))
        except FileNotFoundError:
            return False
        except ClaidConfigurationError as fault:
            if is_denied(fault):
                return False
            raise
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects; where that is not allowed, they stay."""
        for name in names:
            try:
                self._fs.rm_file(self._path(name))
            except Exception as cause:  # noqa: BLE001 - what is left behind harms nobody
                log.info("%s%s is left behind: %s", self.uri, name, cause)
                return

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


def _sync(folder: Path) -> None:
    """Make a new name in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
