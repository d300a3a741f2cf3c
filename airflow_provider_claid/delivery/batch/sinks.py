"""Where a manifest is written: a file of this machine that grows, or one object of a store that is written anew."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError
from airflow_provider_claid.delivery import files
from airflow_provider_claid.delivery.backoff import persistent
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.records.objects import StoreObjects
from airflow_provider_claid.delivery.store_errors import StoreBusyError

FIELD = "manifest_path"

EVERY = 10.0
"""Seconds after which an object is written anew: with the seconds that this takes it is never older than 15 s."""

SHARE = 20.0
"""An object is written anew no more often than so many times the seconds that it took: 5 % of the time."""

TRIES = 3
"""How often an object is put that was changed meanwhile: by a put of our own, perhaps, that was answered badly."""

_NEEDS_A_PERSON = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}


class Sink(Protocol):
    """A place for the lines of one manifest; `uri` is its address. Methods block and raise as `Objects` do."""

    uri: str
    grows: bool
    """Whether lines can be added to what is there."""

    @property
    def patience(self) -> float:
        """Seconds for which lines may wait to be written together."""

    def lines(self) -> Iterator[bytes]:
        """Yield all lines that were written; of half a line nothing."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Write more lines, durably, if it `grows`."""

    def replace(self, lines: Iterable[bytes], ready: Callable[[], None]) -> None:
        """Put these lines in the place of all that was written, in one step; `ready` may raise just before it."""

    def close(self) -> None:
        """Let go of what is open."""


def open_sink(folder: Target, name: str) -> Sink:
    """Open the place of a manifest; raises `ClaidInputError` or `ClaidConfigurationError` for what cannot be used."""
    if folder.scheme == "file":
        return FileSink(Path(urlsplit(folder.uri).path), folder.uri, name)
    return ObjectSink(StoreObjects(folder, FIELD, exclusive_create=False), name)


class FileSink:
    """
    A file that grows. A process that is killed loses no line; a torn last one is left out by the next attempt.

    Each attempt begins with a new file under the same name and adds to that one: what an attempt adds that goes on
    though Airflow took it for dead is in a file that has no name any more.
    """

    grows = True
    patience = 0.0

    def __init__(self, folder: Path, uri: str, name: str) -> None:
        self.uri = uri + name
        self._path = folder / name
        self._file: BinaryIO | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise ClaidInputError(FIELD, self.uri, "a folder that can be made", str(cause)) from cause

    def lines(self) -> Iterator[bytes]:
        """Yield what ends as a line does."""
        with self._errors(), suppress(FileNotFoundError):
            if self._path.is_symlink():
                accepted, fix = "a file of its own", "Give the address that the link leads to, or delete the link."
                raise ClaidConfigurationError(FIELD, f"{self.uri}, a symbolic link", accepted, fix)
            with self._path.open("rb") as file:
                yield from (line for line in file if line.endswith(b"\n"))

    def append(self, lines: Sequence[bytes]) -> None:
        """Add to this attempt's file, and wait for the disk; of what a full disk cuts off nothing remains."""
        if self._file is None:
            raise RuntimeError("A manifest is begun by `replace`.")
        descriptor, rest = self._file.fileno(), memoryview(b"".join(lines))
        with self._errors():
            before = os.lseek(descriptor, 0, os.SEEK_END)
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise

    def replace(self, lines: Iterable[bytes], ready: Callable[[], None]) -> None:
        """Write another file, and give it the name."""
        with self._errors():
            file = files.replace_open(self._path, lines, ready=ready)
        self.close()
        self._file = file

    def close(self) -> None:
        """Close this attempt's file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            if cause.errno not in _NEEDS_A_PERSON:
                raise StoreBusyError(f"{self.uri} cannot be used now ({cause})") from cause
            came, accepted = f"{self.uri} ({cause})", "a file that this user can write"
            raise ClaidConfigurationError(FIELD, came, accepted, "Check the path and permissions.") from cause


class ObjectSink:
    """An object that is put whole, each time. Needs the rights to put and to get."""

    grows = False

    def __init__(self, objects: StoreObjects, name: str) -> None:
        self.uri = objects.uri + name
        self._objects = objects
        self._name = name
        self._seconds = 0.0

    @property
    def patience(self) -> float:
        """As long as it takes to be no older than 15 s, or to take no more than a share of the time."""
        return max(EVERY, SHARE * self._seconds)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the object."""
        with tempfile.NamedTemporaryFile(prefix="claid-manifest-") as whole:
            if persistent(partial(self._objects.download, self._name, Path(whole.name))):
                with Path(whole.name).open("rb") as file:
                    yield from (line for line in file if line.endswith(b"\n"))

    def append(self, lines: Sequence[bytes]) -> None:
        """Raise: nothing can be added to an object."""
        raise NotImplementedError(f"{self.uri} is written whole")

    def replace(self, lines: Iterable[bytes], ready: Callable[[], None]) -> None:
        """Put the object anew, from a file, as it may be larger than what fits into memory."""
        begun = time.monotonic()
        with tempfile.NamedTemporaryFile(prefix="claid-manifest-") as whole:
            for line in lines:
                whole.write(line)
            whole.flush()
            for _ in range(TRIES):
                # The version comes first: what a later attempt puts after it was asked for is not written over.
                version = self._objects.version(self._name)
                ready()
                if self._objects.upload(self._name, Path(whole.name), version):
                    break
            else:
                raise StoreBusyError(f"{self.uri} is written by others")
        self._seconds = time.monotonic() - begun

    def close(self) -> None:
        """Nothing is open."""
