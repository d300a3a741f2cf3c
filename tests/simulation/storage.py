"""An object store and a task state store that fail, are slow, and lose answers; what they say is never wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_provider_claid.delivery import proof
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.object_folder import ObjectFolder
from airflow_provider_claid.delivery.proof import Provable
from airflow_provider_claid.delivery.records.objects import StoreObjects
from tests.simulation.threads import Line, remote
from tests.simulation.world import EPOCH, START, World

RECORDS = "records"


@dataclass(frozen=True)
class Object:
    """What an object holds, and when it was put there by the store's clock."""

    data: bytes
    modified: Any
    metadata: Mapping[str, str] = field(default_factory=dict)


class Store:
    """An object store with the methods of an fsspec file system that we call."""

    def __init__(self, world: World, trouble: float) -> None:
        self.objects: dict[str, Object] = {}
        self._world = world
        self._trouble = trouble
        self.on_record: Callable[[str, bytes | None, bytes], None] = lambda *_: None

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite", **properties: Any) -> None:
        def put() -> None:
            self.put(path, data, exclusive=mode == "create", metadata=properties.get("Metadata", {}))

        remote(self._world, put, self._trouble)

    def cat_file(self, path: str, start: int = 0) -> bytes:
        found: Object = remote(self._world, lambda: self._get(path), self._trouble)
        return found.data[start:]

    def _get(self, path: str) -> Object:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def metadata(self, path: str) -> Mapping[str, str]:
        found: Object = remote(self._world, lambda: self._get(path), self._trouble)
        return found.metadata

    def find(self, root: str) -> list[str]:
        found: list[str] = remote(
            self._world, lambda: sorted(path for path in self.objects if path.startswith(f"{root}/")), self._trouble
        )
        return found

    def invalidate_cache(self) -> None:
        """There is none."""

    def put(
        self, path: str, data: bytes, *, exclusive: bool = False, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Put an object now."""
        old = self.objects.get(path)
        if old is not None and exclusive:
            raise FileExistsError(path)
        if path.startswith(f"{RECORDS}/"):
            self.on_record(path, old.data if old else None, data)
        self.objects[path] = Object(data, self.clock(), metadata or {})

    def clock(self) -> Any:
        """Return the store's own time."""
        return EPOCH + timedelta(seconds=self._world.now - START)

    def listed(self, folder: str) -> list[str]:
        """List the pictures of a folder."""
        found: list[str] = remote(
            self._world, lambda: sorted(path for path in self.objects if path.startswith(folder)), self._trouble
        )
        return found


class Fenced:
    """The task state store of one task instance: only its latest try can write."""

    def __init__(self, world: World, trouble: float) -> None:
        self.values: dict[str, str] = {}
        self.latest = 0
        self._world = world
        self._trouble = trouble
        self.on_record: Callable[[str, bytes | None, bytes], None] = lambda *_: None

    def accessor(self) -> Accessor:
        """Begin a try."""
        self.latest += 1
        return Accessor(self, self.latest)


class Accessor:
    """What a try of the task holds of the store."""

    def __init__(self, state: Fenced, number: int) -> None:
        self._state = state
        self._number = number
        self._line = Line()

    def get(self, key: str) -> Any:
        def read() -> str | None:
            return self._state.values.get(key) if self._number == self._state.latest else None

        found = remote(self._state._world, read, self._state._trouble, line=self._line)
        return None if found is None else json.loads(found)

    def set(self, key: str, value: Any, *, retention: timedelta) -> None:
        text = json.dumps(value)

        def write() -> None:
            if self._number != self._state.latest:
                raise RuntimeError("409: a later try of this task has begun")
            old = self._state.values.get(key)
            self._state.on_record(key, old.encode() if old else None, text.encode())
            self._state.values[key] = text

        assert retention == timedelta.max
        remote(self._state._world, write, self._state._trouble, line=self._line)


def objects_of(store: Store) -> StoreObjects:
    """Return the product's place of records in this store."""
    objects = StoreObjects.__new__(StoreObjects)
    objects.uri, objects._conn_id, objects._field = f"s3://{RECORDS}/", None, "records_path"
    objects._fs, objects._root = store, RECORDS
    return objects


def folder_of(store: Store, target: Target) -> ObjectFolder:
    """Return the product's folder in this store, proven to be writable."""
    folder = ObjectFolder.__new__(ObjectFolder)
    Provable.__init__(folder, target)
    folder._tags, folder.keeps_identity = {}, True
    folder._fs, folder._root = store, target.uri.removeprefix("s3://").rstrip("/")
    proof._proven[folder._key] = True
    return folder
