"""
Which stores create an object exclusively, so that of two attempts one pays: those that are known to, and prove it.

What fsspec does by itself for `mode="create"` is to look and then to write: of two who look at once, both write.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidError
from airflow_provider_claid.delivery.store_errors import StoreBusyError

ATOMIC = (
    ("s3fs.core", "S3FileSystem"),
    ("gcsfs.core", "GCSFileSystem"),
    ("gcsfs.extended_gcsfs", "ExtendedGcsFileSystem"),
    ("adlfs.spec", "AzureBlobFileSystem"),
)
"""File systems that pass the condition on to the store: If-None-Match (S3, Azure), generation 0 (Google)."""


def require_atomic(kind: type, uri: str, field: str) -> None:
    """
    Refuse the file system of a class that is not known to create exclusively.

    The class itself counts, not the scheme or the name that another one is registered under. Raises
    `ClaidConfigurationError`, which names the argument `field`.
    """
    for module, name in ATOMIC:
        if getattr(sys.modules.get(module), name, None) is kind:
            return
    came = f"{uri}, whose file system {kind.__module__}.{kind.__qualname__} is not known to create exclusively"
    accepted = "a local folder (file://), S3 (s3fs), Google Cloud Storage (gcsfs) or Azure Blob Storage (adlfs)"
    fix = f"Two attempts of a task could both pay there: set {field} to one of these."
    raise ClaidConfigurationError(field, came, accepted, fix)


def twice(step: Callable[[], bool]) -> list[bool | Exception]:
    """Do a step of a store twice; return what came of each."""
    return [end_of(step) for _ in range(2)]


def end_of(step: Callable[[], bool]) -> bool | Exception:
    """Do a step; return what it returns or raises."""
    try:
        return step()
    except (StoreBusyError, ClaidError) as fault:
        return fault


def created(ends: Sequence[bool | Exception]) -> bool:
    """Tell from the ends of several creates of one object whether one made it; raises if there were only errors."""
    for end in (True, False):
        if end in ends:
            return end
    raise next(end for end in ends if isinstance(end, Exception))
