"""
Where pictures are put: a folder of any `ObjectStoragePath`, each picture in one atomic step, over nobody else's.

An object tells whose it is in its metadata, written with it in one request. A file has no such place: what is known of
it is in the records.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from airflow_provider_claid.delivery import files
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.mark import Mark
from airflow_provider_claid.delivery.object_folder import NO_TAGS, TAG_RIGHTS, ObjectFolder
from airflow_provider_claid.delivery.proof import CHECK, Provable
from airflow_provider_claid.delivery.store_errors import LOCAL_RIGHTS

log = logging.getLogger(__name__)

_CHECK_FILE = bytes(4096)

_NOT_TO_BE_READ = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP}
"""What stands under a name and is no picture of ours, or nothing: the next name is looked at."""


class Folder(Protocol):
    """
    An opened target. Its methods block: call them in a thread.

    They raise `ClaidConfigurationError` for what a person must mend and `StoreBusyError` for what may pass; both name
    the place and the connection.
    """

    keeps_identity: bool
    """Whether `mark` tells whose a picture is."""

    @property
    def is_proven(self) -> bool:
        """Whether the right to write is proven, and the store has not said otherwise since."""

    def prove(self) -> None:
        """Prove it, unless it is; raises `ClaidConfigurationError`, or `ClaidNotSentError` for what may pass."""

    def publish(self, name: str, data: bytes, mime: str, mark: Mark, *, over: bool = False) -> str | None:
        """
        Write one picture under this name, whole or not at all; return its URI.

        None, and nothing is changed, if the name is taken, unless it is to be written `over` what is there.
        """

    def mark(self, name: str) -> Mark | None:
        """Return whose a picture is, unmarked for one that does not tell; None if there is none that can be read."""

    def read(self, name: str) -> bytes | None:
        """Read a picture; None if there is none that can be read."""

    def uri(self, name: str) -> str:
        """Return the URI of a picture."""


def open_folder(target: Target, tags: Mapping[str, str] = NO_TAGS) -> Folder:
    """
    Open the target, and prove the right to write there, before anything is paid. Blocks.

    Costs a few requests of the store for the first of a process and target. Raises `ClaidConfigurationError` for what
    a person must mend, `ClaidNotSentError` for what may pass. Objects get the `tags`, at most 10, where the store has
    tags; where it has none, a line in the log says so.
    """
    if tags and target.scheme not in TAG_RIGHTS:
        log.info("Stores of scheme %s have no tags: the pictures in %s get none.", target.scheme, target.uri)
        tags = NO_TAGS
    folder: Folder = LocalFolder(target) if target.scheme == "file" else ObjectFolder(target, tags)
    folder.prove()
    return folder


class LocalFolder(Provable):
    """A folder of this machine. Nothing of Airflow's storage is loaded for it: that imports boto3."""

    keeps_identity = False
    _rights = LOCAL_RIGHTS

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._path = Path(urlsplit(target.uri).path)
        # The folder may be gone, and a file costs little: proven for this opening only.
        self.forget()

    def publish(self, name: str, data: bytes, mime: str, mark: Mark, *, over: bool = False) -> str | None:
        """Write a file, durably; where the file system has no exclusive create, look first."""
        path = self._path / name
        with self._writing(name):
            try:
                if not over:
                    return self.uri(name) if files.create(path, data) else None
            except files.NoHardLinksError:
                if os.path.lexists(path):
                    return None
            files.replace(path, data)
        return self.uri(name)

    def mark(self, name: str) -> Mark | None:
        """Tell whether a file is there; whose it is only the records know."""
        return Mark() if os.path.lexists(self._path / name) else None

    def read(self, name: str) -> bytes | None:
        """Read a file; one that another user keeps for himself, a folder or a loop of links is none to be read."""
        with self._errors(name):
            try:
                return (self._path / name).read_bytes()
            except OSError as cause:
                if cause.errno in _NOT_TO_BE_READ:
                    return None
                raise

    def _prove(self) -> bool:
        with self._errors(""):
            missing = [path for path in (self._path, *self._path.parents) if not path.is_dir()]
            try:
                for path in reversed(missing):
                    files.make_folder(path)
                files.replace(self._path / CHECK, _CHECK_FILE)
            except FileNotFoundError as cause:
                # A file system that makes no folders, /proc say.
                raise PermissionError(*cause.args) from cause
            (self._path / CHECK).unlink(missing_ok=True)
        return True
