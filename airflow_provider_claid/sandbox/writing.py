"""Puts finished pictures into a storage: a folder of this machine, or a bucket."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_claid.sandbox.answers import error, image

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_claid.sandbox.storages import Storage

_GCS_ENDPOINT = "https://storage.googleapis.com"
# Half-written files stay out of the folders that somebody may be watching.
_INCOMING = ".incoming"


class StorageWriter:
    """Writes pictures, from threads; one S3 client for each pair of credentials."""

    def __init__(self, s3_endpoint: str | None) -> None:
        self._s3_endpoint = s3_endpoint
        self._clients: dict[tuple[str | None, ...], Any] = {}
        self._lock = threading.Lock()

    def write(self, storage: Storage, folder: str, number: int, png: bytes) -> dict[str, Any]:
        """
        Store picture `number` (from 1) under a unique name in `folder`; return its entry of the answer.

        A store that refuses is the 400 of type "storage". Blocks.
        """
        name = f"{uuid4().hex}_{number - 1}.png"
        prefix = str(storage.parameters["path"]).strip("/")
        key = "/".join(part for part in (prefix, folder.strip("/"), name) if part)
        bucket = str(storage.parameters["bucket"])
        try:
            uri = self._into_folder(storage.folder, key, png) if storage.folder else self._put(storage, key, png)
        except Exception as refusal:
            raise error(400, f"Storage {storage.name} refused the write: {refusal}", kind="storage") from refusal
        return image(
            object_key=key,
            object_bucket=bucket,
            object_uri=uri,
            claid_storage_uri=f"storage://{storage.name}/{folder}{name}",
        )

    def _into_folder(self, root: Path, key: str, png: bytes) -> str:
        path, incoming = root / key, root / _INCOMING / uuid4().hex
        for folder in (path.parent, incoming.parent):
            folder.mkdir(parents=True, exist_ok=True)
        incoming.write_bytes(png)
        incoming.replace(path)
        return f"file://{path}"

    def _put(self, storage: Storage, key: str, png: bytes) -> str:
        bucket = storage.parameters["bucket"]
        self._client(storage).put_object(Bucket=bucket, Key=key, Body=png, ContentType="image/png")
        return f"{'gs' if storage.type == 'gcs' else 's3'}://{bucket}/{key}"

    def _client(self, storage: Storage) -> Any:
        import boto3
        from botocore.config import Config

        credentials = storage.parameters.get("credentials", {})
        pair = (credentials.get("access_key"), credentials.get("secret_access_key"))
        known = (storage.type, *pair)
        endpoint = self._s3_endpoint or (_GCS_ENDPOINT if storage.type == "gcs" else None)
        with self._lock:
            if known not in self._clients:
                session = boto3.session.Session(*pair)
                self._clients[known] = session.client(
                    "s3",
                    endpoint_url=endpoint,
                    region_name=session.region_name or "us-east-1",
                    # Paths instead of host names for buckets: what MinIO and moto on a loopback address need.
                    config=Config(
                        connect_timeout=5,
                        read_timeout=30,
                        retries={"total_max_attempts": 2},
                        s3={"addressing_style": "path"} if endpoint else None,
                    ),
                )
            return self._clients[known]
