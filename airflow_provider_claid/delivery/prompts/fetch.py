"""A prompt file as it is at one moment: named by a URI, copied to this machine once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from errno import ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from pathlib import Path
from typing import Any

from airflow_provider_claid.api.errors import ClaidInputError, ClaidNotSentError
from airflow_provider_claid.delivery.checks import split_address
from airflow_provider_claid.delivery.paths import as_uri
from airflow_provider_claid.delivery.prompts.formats import READERS
from airflow_provider_claid.delivery.prompts.rows import FIELD
from airflow_provider_claid.delivery.store_errors import StoreBusyError, store_errors

_ENDS = ", ".join(READERS)
_FORM = f"a list of prompts, or the URI of a file with the end {_ENDS}, such as s3://bucket/prompts.csv"
_IN_A_LIST = "A bare string would be billed character by character: put a prompt into a list, prompts=[...]."
_THERE = "the URI of a file that is there"
_RIGHTS = "to read (S3: GetObject)"
_CHUNK = 4 * 2**20


@dataclass(frozen=True)
class PromptFile:
    """Where a prompt file is: `uri` without a connection id, and that id apart; `end` is `.txt` or another kind."""

    uri: str
    scheme: str
    path: str
    end: str
    conn_id: str | None = None


def prompt_file(uri: Any, storage_conn_id: str | None = None) -> PromptFile:
    """
    Read the URI of a prompt file, or its path object; a connection id in it counts as `storage_conn_id`.

    Both `s3://id@bucket/prompts.csv` and `ObjectStoragePath(…, conn_id="id")` name one.
    """
    uri = as_uri(uri, FIELD)
    parts = split_address(uri, FIELD, _FORM)
    inline, _, host = parts.netloc.rpartition("@")
    end = next((end for end in READERS if parts.path.lower().endswith(end)), "")
    local = parts.scheme == "file"
    faults = {
        f"The name of a prompt file ends in {_ENDS}. {_IN_A_LIST}": not end,
        f"Begin with a scheme; a local path is file:///path/prompts.txt. {_IN_A_LIST}": (
            not parts.scheme or "://" not in uri
        ),
        "Leave out ? and #.": bool(parts.query or parts.fragment),
        "Claid's storages are not read: give the bucket's own address.": parts.scheme == "storage",
        "Web addresses are not read: put the file into a bucket.": parts.scheme in {"http", "https"},
        f"It names the connection {inline!r}, storage_conn_id names {storage_conn_id!r}: leave one out.": bool(
            inline and storage_conn_id and inline != storage_conn_id
        ),
        "A local file has three slashes: file:///path/prompts.txt.": local and bool(host),
        "The bucket is missing.": not local and not host,
    }
    for fix, found in faults.items():
        if found:
            raise ClaidInputError(FIELD, f"{uri!r:.200}", _FORM, fix)
    return PromptFile(f"{parts.scheme}://{host}{parts.path}", parts.scheme, parts.path, end, inline or storage_conn_id)


def fetch(source: PromptFile, copy: Path) -> None:
    """
    Copy the file to a path of this machine, in parts. Blocks.

    Raises `ClaidInputError` for a file that is not there or may not be read, and `ClaidNotSentError` for what may pass.
    """
    if source.scheme == "file":
        _copy_local(source, copy)
        return
    try:
        with store_errors(source.uri, source.conn_id, rights=_RIGHTS):
            _copy_object(source, copy)
    except FileNotFoundError as cause:
        raise ClaidInputError(FIELD, f"{source.uri}, which is not there", _THERE) from cause
    except StoreBusyError as busy:
        raise ClaidNotSentError(f"The prompts in {source.uri} cannot be read now: {busy}") from busy


def _copy_local(source: PromptFile, copy: Path) -> None:
    try:
        shutil.copyfile(source.path, copy)
    except (PermissionError, IsADirectoryError, shutil.SpecialFileError) as cause:
        raise ClaidInputError(FIELD, f"{source.uri} ({cause})", "a file that this user can read") from cause
    except (OSError, ValueError) as cause:
        if isinstance(cause, OSError) and cause.errno not in {ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG}:
            raise ClaidNotSentError(f"The prompts in {source.uri} cannot be read now ({cause})") from cause
        raise ClaidInputError(FIELD, f"{source.uri}, which is not there", _THERE) from cause


def _copy_object(source: PromptFile, copy: Path) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        path = ObjectStoragePath(source.uri, conn_id=source.conn_id)
        fs: Any = path.fs
    except (ValueError, ImportError) as cause:
        fix = f"Install the provider of this scheme, or check it ({cause})."
        raise ClaidInputError(FIELD, source.uri, "a scheme that Airflow has a file system for", fix) from cause
    # A size that a list showed earlier would cut the file short. `get_file` of s3fs keeps half a gigabyte in memory.
    fs.invalidate_cache()
    with fs.open(path.path, "rb", block_size=_CHUNK) as remote, copy.open("wb") as local:
        shutil.copyfileobj(remote, local, _CHUNK)
