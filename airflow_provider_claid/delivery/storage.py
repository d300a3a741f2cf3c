"""Where pictures are put: a folder of any `ObjectStoragePath`, written in one atomic step per picture."""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.watching.buckets import modified_at

log = logging.getLogger(__name__)

_S3, _GOOGLE, _AZURE = {"s3", "s3a", "s3n"}, {"gs", "gcs"}, {"abfs", "abfss", "adl"}
_TAG_RIGHTS = {
    **dict.fromkeys(_S3, "s3:PutObjectTagging"),
    **dict.fromkeys(_AZURE, "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/tags/write"),
}
"""The schemes of stores whose objects have tags, each with the right that writing them needs."""

_NO_TAGS: Mapping[str, str] = {}
_TAG_LENGTH = 256


class Folder(Protocol):
    """An opened target. Its methods block: call them in a thread."""

    def publish(self, name: str, data: bytes, mime: str) -> str:
        """Write one picture under this name, whole or not at all, over an older one; return its URI."""

    def read(self, name: str, since: datetime) -> tuple[str, bytes] | None:
        """Read a picture, and return it with its URI; None if there is none that was put there since then."""


def open_folder(target: Target, tags: Mapping[str, str] = _NO_TAGS) -> Folder:
    """
    Open the target, before anything is paid: raises `ClaidInputError` for what can be known by now. Blocks.

    Objects get the `tags`, at most 10, where the store has tags; where it has none, a line in the log says so.
    """
    if tags and target.scheme not in _TAG_RIGHTS:
        log.info("Stores of scheme %s have no tags: the pictures in %s get none.", target.scheme, target.uri)
        tags = _NO_TAGS
    if target.scheme == "file":
        return LocalFolder(target)
    return ObjectFolder(target, tags)


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

    def read(self, name: str, since: datetime) -> tuple[str, bytes] | None:
        """Read a file, unless it is older."""
        try:
            if datetime.fromtimestamp((self._path / name).stat().st_mtime, UTC) < since:
                return None
            return self._target.uri + name, (self._path / name).read_bytes()
        except FileNotFoundError:
            return None


class ObjectFolder:
    """A folder of an object store, through Airflow's `ObjectStoragePath` and the connection it names."""

    def __init__(self, target: Target, tags: Mapping[str, str]) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        self._target = target
        self._tags = {name: tag_value(value, target.scheme) for name, value in tags.items()}
        try:
            path = ObjectStoragePath(target.uri, conn_id=target.conn_id)
            self._fs: Any = path.fs
        except (ValueError, ImportError) as cause:
            fix = f"Install the provider of this scheme, or check it ({cause})."
            raise ClaidInputError("save_to", target.uri, "a scheme that Airflow has a file system for", fix) from cause
        self._root = path.path.rstrip("/")

    def publish(self, name: str, data: bytes, mime: str) -> str:
        """Put the object in one request, with its content type, and its tags if the store takes them."""
        path, tags = f"{self._root}/{name}", self._tags
        try:
            self._fs.pipe_file(path, data, **_properties(self._target.scheme, mime, tags))
        except Exception as cause:
            if not tags:
                raise
            # Paid for: whether it was the tags is seen by a second put without them.
            self._fs.pipe_file(path, data, **_properties(self._target.scheme, mime, _NO_TAGS))
            self._tags = {}
            right, said = _TAG_RIGHTS[self._target.scheme], f"{type(cause).__name__}: {cause}"
            log.warning("%s was stored without tags, which need the right %s. The store said %s", name, right, said)
        return self._target.uri + name

    def read(self, name: str, since: datetime) -> tuple[str, bytes] | None:
        """Get an object, unless it is older; S3 denies what is not there to those who may not list."""
        path = f"{self._root}/{name}"
        try:
            # From 0: s3fs asks for the size of what is read without a range first.
            data = bytes(self._fs.cat_file(path, start=0))
            modified = modified_at(self._fs.info(path))
        except (FileNotFoundError, PermissionError):
            return None
        return (self._target.uri + name, data) if modified and modified >= since else None


def tag_value(value: str, scheme: str) -> str:
    """Return what a store of this scheme accepts of a tag's value: other characters become _, the rest is cut off."""
    # Letters of any script on S3, which counts in UTF-16; ASCII on Azure.
    kept = re.sub(r"[^\w +\-=.:/@]" if scheme in _S3 else r"[^A-Za-z0-9_ +\-=.:/]", "_", value)
    return kept.encode("utf-16-le")[: 2 * _TAG_LENGTH].decode("utf-16-le", errors="ignore")


def _properties(scheme: str, mime: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return what goes with the bytes, in the words of the file system of this scheme."""
    if scheme in _S3:
        return {"ContentType": mime} | ({"Tagging": urlencode(tags, quote_via=quote)} if tags else {})
    if scheme in _GOOGLE:
        return {"content_type": mime}
    if scheme in _AZURE:
        from azure.storage.blob import ContentSettings

        return {"content_settings": ContentSettings(content_type=mime)} | ({"tags": tags} if tags else {})
    return {}
