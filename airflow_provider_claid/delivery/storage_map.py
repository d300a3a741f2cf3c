"""From `storage://name/folder/`, Claid's own words, to the bucket that everybody else knows (Claid API §6.1)."""

from __future__ import annotations

import posixpath
import re

from airflow_provider_claid.api.client import ClaidClient
from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError, ClaidPermissionError
from airflow_provider_claid.api.models import Storage
from airflow_provider_claid.delivery.account import Account

_FORM = re.compile(r"storage://([^/?#\s][^/?#]*)(?:/([^?#]*))?")
_SCHEMES = {"s3": "s3", "gcs": "gs"}

_listed: dict[tuple[str, str], tuple[Storage, ...]] = {}


async def resolve(account: Account, uri: str, field: str = "output") -> str:
    """
    Return where `storage://name/path` is, as `s3://bucket/prefix/path` or `gs://…`; a final slash stays.

    The connection's own map comes first; else Claid is asked, once per process, which needs the Storage scope.
    """
    match = _FORM.fullmatch(uri) if isinstance(uri, str) else None
    if match is None:
        raise ClaidInputError(field, f"{uri!r:.80}", "storage://name/folder/")
    name, path = match[1], match[2] or ""
    if name in account.storages:
        return join(account.storages[name], path)
    storages = await _storages(account, name, field)
    known = {storage.name: storage for storage in storages if storage.name}
    if name not in known:
        fix = f"Connected are: {', '.join(sorted(known)) or 'none'}."
        raise ClaidInputError(field, f"the storage {name!r}", "a storage connected to the account", fix)
    return join(_root(known[name], field), path)


def join(root: str, path: str) -> str:
    """Join the root of a storage and a path in it, whatever slashes either begins or ends with."""
    scheme, _, place = root.partition("://")
    parts = [part.strip("/") for part in (place, path)]
    slash = "/" if path.endswith("/") or not path.strip("/") else ""
    return f"{scheme}://{'/' if scheme == 'file' else ''}{posixpath.join(*filter(None, parts))}{slash}"


def _root(storage: Storage, field: str) -> str:
    bucket = storage.parameters.bucket if storage.parameters else None
    if storage.type not in _SCHEMES or not bucket:
        fix = "Pictures can be written to storages of type s3 and gcs."
        raise ClaidInputError(field, f"{storage.name!r} of type {storage.type}", "a storage that receives output", fix)
    return join(f"{_SCHEMES[storage.type]}://{bucket}", (storage.parameters.path if storage.parameters else None) or "")


async def _storages(account: Account, name: str, field: str) -> tuple[Storage, ...]:
    """Return the account's storages as this process knows them; asked again for a name that is new."""
    key = (account.name, account.endpoint.base_url)
    if name not in {storage.name for storage in _listed.get(key, ())}:
        try:
            _listed[key] = await ClaidClient(account.endpoint).list_storages()
        except ClaidPermissionError as error:
            fix = (
                'Give the key the Storage scope, or put {"name": "s3://bucket/prefix/"} into the connection\'s extra '
                "storages. Pictures of an answer need neither: it names their object_bucket and object_key."
            )
            came = "a key without the Storage scope"
            raise ClaidConfigurationError(field, came, "a key that may list storages", fix) from error
    return _listed[key]
