"""Path objects as URIs: `ObjectStoragePath`, `UPath` and `pathlib.Path` are accepted wherever a URI is."""

from __future__ import annotations

import os
from typing import Any

from airflow_provider_claid.api.errors import ClaidInputError

_ACCEPTED = "an absolute path, or a URI such as s3://bucket/folder/"


def is_path(value: Any) -> bool:
    """Tell whether this is a path object; nothing is imported and no store is asked."""
    return isinstance(value, os.PathLike) or _is_universal(value)


def as_uri(value: Any, field: str = "path", *, folder: bool = False) -> Any:
    """
    Return the URI of a path object as a text; any other value unchanged.

    A connection id stays in it (`s3://conn@bucket/key`), nothing is percent-encoded. Path objects keep no final slash,
    so one is added if `folder`. Raises `ClaidInputError`, naming `field`, for a relative path, which each machine would
    read differently, and for a path with storage options of its own, which nothing but that object knows.
    """
    if not is_path(value):
        return value
    uri = _universal(value, field) if _is_universal(value) else os.fsdecode(os.fspath(value))
    if "://" not in uri:
        if not uri.startswith("/"):
            raise ClaidInputError(field, f"the relative path {uri!r:.80}", _ACCEPTED, "Make it absolute.")
        uri = f"file:///{uri.lstrip('/')}"
    return uri if not folder or uri.endswith("/") else f"{uri}/"


def as_uris(value: Any, field: str = "path") -> Any:
    """Do so for the path objects in a list, tuple or set too."""
    if isinstance(value, list | tuple | set) and any(map(is_path, value)):
        return [as_uri(each, field) for each in value]
    return as_uri(value, field)


def _is_universal(value: Any) -> bool:
    """Tell whether it is a path of universal_pathlib, or Airflow's, which wraps one."""
    return all(hasattr(type(value), name) for name in ("protocol", "path", "storage_options"))


def _universal(value: Any, field: str) -> str:
    if options := sorted(set(value.storage_options) - {"conn_id"}):
        came = f"a path with storage options ({', '.join(options)})"
        raise ClaidInputError(field, came, _ACCEPTED, "Put them into an Airflow connection and name it.")
    uri = str(value)
    return f"file{uri.removeprefix('local')}" if uri.startswith("local://") else uri
