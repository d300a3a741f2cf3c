"""Where pictures are put: a folder of any `ObjectStoragePath`, written in one atomic step per picture."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import Target

_CONTENT_TYPE = {
    "s3": "ContentType",
    "s3a": "ContentType",
    "s3n": "ContentType",
    "gs": "content_type",
    "gcs": "content_type",
}


class Folder(Protocol):
    """An opened target. Its methods block: call them in a thread."""

    def publish(self, name: str, data: bytes, mime: str) -> str:
        """Write one picture under this name, whole or not at all, over an older one; return its URI."""


def open_folder(target: Target) -> Folder:
    """Open the target, before anything is paid: raises `ClaidInputError` for what can be known by now. Blocks."""
    if target.scheme == "file":
        return LocalFolder(target)
    return ObjectFolder(target)


class LocalFolder:
    """A folder of this machine. Nothing of Airflow's storage is loaded for it: that imports boto3."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._path = Path(urlsplit(target.uri).path)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            writable = os.access(self._path, os.W_OK | os.X_OK)
        except OSError as cause:
            raise ClaidInputError("save_to", target.uri, "a folder that can be made", str(cause)) from cause
        if not writable:
            raise ClaidInputError("save_to", target.uri, "a folder that this user can write", "Check its permissions.")

    def publish(self, name: str, data: bytes, mime: str) -> str:
        """Write a file beside, sync it to the disk, and rename it over."""
        unfinished = self._path / f".{name}.{uuid.uuid4().hex}.part"
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path / name)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        return self._target.uri + name


class ObjectFolder:
    """A folder of an object store, through Airflow's `ObjectStoragePath` and the connection it names."""

    def __init__(self, target: Target) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        self._target = target
        try:
            path = ObjectStoragePath(target.uri, conn_id=target.conn_id)
            self._fs: Any = path.fs
        except (ValueError, ImportError) as cause:
            fix = f"Install the provider of this scheme, or check it ({cause})."
            raise ClaidInputError("save_to", target.uri, "a scheme that Airflow has a file system for", fix) from cause
        self._root = path.path.rstrip("/")

    def publish(self, name: str, data: bytes, mime: str) -> str:
        """Put the object in one request, with its content type."""
        keyword = _CONTENT_TYPE.get(self._target.scheme)
        self._fs.pipe_file(f"{self._root}/{name}", data, **({keyword: mime} if keyword else {}))
        return self._target.uri + name
