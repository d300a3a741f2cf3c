"""Where a manifest is written: a file of this machine by appending, an object store by numbered parts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError
from airflow_provider_claid.delivery.backoff import persistent
from airflow_provider_claid.delivery.batch.numbered import numbered, read_on
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.records.objects import StoreObjects
from airflow_provider_claid.delivery.store_errors import StoreBusyError

FIELD = "manifest_path"


class Sink(Protocol):
    """A place for the lines of one manifest; `uri` is its address. Methods block and raise as `Objects` do."""

    uri: str
    seconds: float
    """Seconds for which lines may wait to be written together."""

    def lines(self) -> Iterator[bytes]:
        """Yield all lines that were written; of half a line nothing remains."""

    def append(self, lines: Sequence[bytes]) -> None:
        """Write more lines, durably."""

    def replace(self, whole: Path) -> None:
        """Put a whole manifest in the place of all that was written, in one step."""


def open_sink(folder: Target, name: str) -> Sink:
    """Open the place of a manifest; raises `ClaidInputError` or `ClaidConfigurationError` for what cannot be used."""
    if folder.scheme == "file":
        return FileSink(Path(urlsplit(folder.uri).path), folder.uri, name)
    return PartsSink(StoreObjects(folder, FIELD), name)


class FileSink:
    """A file that grows. A process that is killed loses no line; a torn last one is cut off by the next attempt."""

    seconds = 0.0

    def __init__(self, folder: Path, uri: str, name: str) -> None:
        self.uri = uri + name
        self._path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise ClaidInputError(FIELD, self.uri, "a folder that can be made", str(cause)) from cause

    def lines(self) -> Iterator[bytes]:
        """Cut off what no end of line follows, and yield the rest."""
        with self._errors(), suppress(FileNotFoundError), self._path.open("r+b") as file:
            whole = 0
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(whole)
                    return
                whole += len(line)
                yield line

    def append(self, lines: Sequence[bytes]) -> None:
        """Append, and wait for the disk; of what a full disk cuts off nothing remains."""
        with self._errors(), self._path.open("ab", buffering=0) as file:
            before, rest = file.tell(), memoryview(b"".join(lines))
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise

    def replace(self, whole: Path) -> None:
        """Copy beside, wait for the disk, and rename over."""
        unfinished = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        with self._errors():
            try:
                with unfinished.open("wb") as file, whole.open("rb") as source:
                    while chunk := source.read(1 << 20):
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(self._path)
            finally:
                unfinished.unlink(missing_ok=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (PermissionError, IsADirectoryError, NotADirectoryError) as cause:
            accepted = "a file that this user can write"
            raise ClaidConfigurationError(FIELD, f"{self.uri} ({cause})", accepted, "Check its permissions.") from cause
        except OSError as cause:
            raise StoreBusyError(f"{self.uri} cannot be used now ({cause})") from cause


class PartsSink:
    """Parts `<name>.parts/000001` and so on, merged into one object at the end. Needs the rights to put and to get."""

    seconds = 15.0

    def __init__(self, objects: StoreObjects, name: str) -> None:
        self.uri = objects.uri + name
        self._objects = objects
        self._name = name
        self._parts = 0

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the merged manifest, then those of the parts."""
        with tempfile.NamedTemporaryFile(prefix="claid-manifest-") as whole:
            if persistent(partial(self._objects.download, self._name, Path(whole.name))):
                with Path(whole.name).open("rb") as file:
                    yield from file
        for number, raw in read_on(lambda number: self._objects.get(self._part(number)), self._parts):
            self._parts = number
            yield from raw.splitlines(keepends=True)

    def append(self, lines: Sequence[bytes]) -> None:
        """Create the next part; one of this number that another attempt has written stays."""
        while not self._objects.create(self._part(self._parts + 1), b"".join(lines)):
            self._parts += 1
        self._parts += 1

    def replace(self, whole: Path) -> None:
        """Upload the manifest, and delete the parts where that is allowed."""
        self._objects.upload(self._name, whole)
        self._objects.remove([self._part(number) for number in range(1, self._parts + 1)])
        self._parts = 0

    def _part(self, number: int) -> str:
        return f"{self._name}.parts/{numbered(number)}"
