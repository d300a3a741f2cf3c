"""A folder of an object store: pictures are put in one request each, with their type, their mark and their tags."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.delivery.backoff import persistent
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.mark import Mark
from airflow_provider_claid.delivery.proof import CHECK, FIELD, Provable
from airflow_provider_claid.delivery.store_errors import is_conflict, is_denied, is_refused_create, none_if_denied
from airflow_provider_claid.delivery.watching.buckets import impatient

log = logging.getLogger(__name__)

T = TypeVar("T")

_CHECK_BYTES = b"The right to write here was checked with this object.\n"
_CREATES = 3
"""Creates that are to be refused at the second time: another process may remove the object between two of ours."""

_S3, _GOOGLE, _AZURE = {"s3", "s3a", "s3n"}, {"gs", "gcs"}, {"abfs", "abfss", "adl"}
TAG_RIGHTS = {
    **dict.fromkeys(_S3, "s3:PutObjectTagging"),
    **dict.fromkeys(_AZURE, "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/tags/write"),
}
"""The schemes of stores whose objects have tags, each with the right that writing them needs."""

NO_TAGS: Mapping[str, str] = {}
_TAG_LENGTH = 256


@dataclass(frozen=True)
class _Object:
    """What is put."""

    name: str
    data: bytes
    mime: str
    mark: Mark


def _check(name: str) -> _Object:
    return _Object(name, _CHECK_BYTES, "text/plain", Mark())


class ObjectFolder(Provable):
    """A folder of an object store, through Airflow's `ObjectStoragePath` and the connection it names."""

    def __init__(self, target: Target, tags: Mapping[str, str]) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        super().__init__(target)
        self._tags = {name: tag_value(value, target.scheme) for name, value in tags.items()}
        with self._errors(""):
            try:
                path = ObjectStoragePath(target.uri, conn_id=target.conn_id)
                self._fs: Any = path.fs
            except (ValueError, ImportError) as cause:
                fix = f"Install the provider of this scheme, or check it ({cause})."
                accepted = "a scheme that Airflow has a file system for"
                raise ClaidConfigurationError(FIELD, target.uri, accepted, fix) from cause
        self._root = path.path.rstrip("/")
        self.keeps_identity = target.scheme in _S3 | _GOOGLE | _AZURE

    def publish(self, name: str, data: bytes, mime: str, mark: Mark, *, over: bool = False) -> str | None:
        """Put the object in one request, with its content type, its mark, and its tags if the store takes them."""
        with self._writing(name):
            exclusive = self.creates_exclusively
            if not over and not exclusive and self._is_there(name):
                return None
            kept = self._put(self._fs, _Object(name, data, mime, mark), create=exclusive and not over)
        return self.uri(name) if kept else None

    def mark(self, name: str) -> Mark | None:
        """Read the metadata."""
        return self._present(name, lambda: Mark.from_metadata(self._metadata(f"{self._root}/{name}")))

    def read(self, name: str) -> bytes | None:
        """Get an object."""
        # From 0: s3fs asks for the size of what is read without a range first.
        return self._present(name, lambda: bytes(self._fs.cat_file(f"{self._root}/{name}", start=0)))

    def _present(self, name: str, step: Callable[[], T]) -> T | None:
        """Read something of an object; None where it is not there, or denied: S3 says so to those who may not list."""

        def read() -> T | None:
            with self._errors(name):
                try:
                    return step()
                except FileNotFoundError:
                    return None

        return none_if_denied(read)

    def _prove(self) -> bool:
        """Create the hidden object, where it is left over put it again; return whether a second create is refused."""
        fs = impatient(self._fs) if self._target.scheme in _S3 else self._fs
        exclusive, name = False, CHECK
        with self._errors(""):
            try:
                exclusive = not self._create(fs, name)
                if exclusive:
                    self._put(fs, _check(name), create=False)
            except Exception as cause:
                if not is_denied(cause):
                    raise
                # Who may create and not overwrite (Google's objectCreator) cannot use the one of another process.
                name = f"{CHECK}-{uuid.uuid4().hex}"
                self._create(fs, name)
            exclusive = exclusive or any(self._is_refused(fs, name) for _ in range(_CREATES))
        self._remove(fs, name)
        return exclusive and self.keeps_identity

    def _create(self, fs: Any, name: str) -> bool:
        return self._put(fs, _check(name), create=True)

    def _is_refused(self, fs: Any, name: str) -> bool:
        try:
            return not self._create(fs, name)
        except Exception as cause:
            # Google wants the right to delete for what would overwrite.
            if is_denied(cause):
                return True
            raise

    def _remove(self, fs: Any, name: str) -> None:
        try:
            fs.rm_file(f"{self._root}/{name}")
        except Exception as cause:  # noqa: BLE001 - what is left behind harms nobody
            log.info("%s%s is left behind, as it may not be deleted: %s", self._target.uri, name, cause)

    def _put(self, fs: Any, what: _Object, *, create: bool) -> bool:
        """Put an object in one request; False if it was to be created and is there."""
        try:
            return self._put_with(fs, what, self._tags, create=create)
        except Exception as cause:
            if not self._tags:
                raise
            right, said = TAG_RIGHTS[self._target.scheme], f"{type(cause).__name__}: {cause}"
        # Whether it was the tags is seen by a second put without them.
        kept = self._put_with(fs, what, NO_TAGS, create=create)
        self._tags = {}
        log.warning("%s was stored without tags, which need the right %s. The store said %s", what.name, right, said)
        return kept

    def _put_with(self, fs: Any, what: _Object, tags: Mapping[str, str], *, create: bool) -> bool:
        """Put an object; again where S3 says that another one wrote or removed it meanwhile, as tasks that start do."""
        return persistent(partial(self._put_once, fs, what, tags, create=create), is_conflict)

    def _put_once(self, fs: Any, what: _Object, tags: Mapping[str, str], *, create: bool) -> bool:
        path = f"{self._root}/{what.name}"
        properties = _properties(self._target.scheme, what.mime, what.mark.metadata(), tags)
        try:
            if self._target.scheme in _AZURE:
                _put_blob(fs, path, what.data, properties, create=create)
            else:
                fs.pipe_file(path, what.data, **properties, **({"mode": "create"} if create else {}))
        except Exception as cause:
            if create and is_refused_create(cause):
                return False
            raise
        return True

    def _metadata(self, path: str) -> Mapping[str, str]:
        if self._target.scheme in _S3:
            found: Mapping[str, str] = self._fs.metadata(path)
            return found
        self._fs.invalidate_cache()
        return self._fs.info(path).get("metadata") or {}

    def _is_there(self, name: str) -> bool:
        if self.keeps_identity:
            return self.mark(name) is not None
        self._fs.invalidate_cache()
        return bool(self._fs.exists(f"{self._root}/{name}"))


def tag_value(value: str, scheme: str) -> str:
    """Return what a store of this scheme accepts of a tag's value: other characters become _, the rest is cut off."""
    # Letters of any script on S3, which counts in UTF-16; ASCII on Azure.
    kept = re.sub(r"[^\w +\-=.:/@]" if scheme in _S3 else r"[^A-Za-z0-9_ +\-=.:/]", "_", value)
    return kept.encode("utf-16-le")[: 2 * _TAG_LENGTH].decode("utf-16-le", errors="ignore")


def _properties(scheme: str, mime: str, metadata: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, Any]:
    """Return what goes with the bytes, in the words of the file system of this scheme."""
    if scheme in _S3:
        tagging = {"Tagging": urlencode(tags, quote_via=quote)} if tags else {}
        return {"ContentType": mime} | ({"Metadata": metadata} if metadata else {}) | tagging
    if scheme in _GOOGLE:
        return {"content_type": mime, "metadata": metadata}
    if scheme in _AZURE:
        from azure.storage.blob import ContentSettings

        settings = {"content_settings": ContentSettings(content_type=mime), "metadata": metadata}
        return settings | ({"tags": tags} if tags else {})
    return {}


def _put_blob(fs: Any, path: str, data: bytes, properties: Mapping[str, Any], *, create: bool) -> None:
    """Upload as adlfs does, whose own method has no room for metadata."""
    from fsspec.asyn import sync

    async def upload() -> None:
        container, name, _ = fs.split_path(path)
        metadata = {"is_directory": "false"} | properties["metadata"]
        async with fs.service_client.get_blob_client(container=container, blob=name) as client:
            await client.upload_blob(data, overwrite=not create, **{**properties, "metadata": metadata})

    sync(fs.loop, upload)
