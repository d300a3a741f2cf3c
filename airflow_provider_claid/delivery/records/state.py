"""
Records in Airflow 3.3's task state store: a key for each submission, kept for ever.

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow_provider_claid.api.errors import ClaidRecordsError
from airflow_provider_claid.delivery.records.store import read_submission
from airflow_provider_claid.delivery.records.submission import Intent, Result, Submission
from airflow_provider_claid.delivery.store_errors import StoreBusyError


class StateStore:
    """Airflow's store of one task instance, asked by one thread at a time; raises `StoreBusyError`."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._turn = threading.Lock()

    def get(self, key: str) -> Any:
        """Return a value; None if there is none."""
        with self._turn, _errors():
            return self._store.get(key)

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a value for ever. Half a surrogate pair, which no database takes, is replaced."""
        whole = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        with self._turn, _errors():
            # Airflow's NEVER_EXPIRE is this very object.
            self._store.set(key, whole, retention=timedelta.max)


class TaskStateRecords:
    """
    The `Records` of a task in its state store.

    The store belongs to one try of a task: an earlier try reads nothing any more and cannot write, so a claim, which
    always writes before anything is sent, is exclusive.
    """

    fenced = True
    removable = True

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def where(self, number: int) -> str:
        """Return the name of the key."""
        return f"the key {_key(number)} of the task state store"

    def claim(self, intent: Intent) -> bool:
        """Set the key unless it is there; what a set that failed has yet written is this attempt's own."""
        if (value := self._store.get(_key(intent.number))) is not None:
            kept = value.get("intent") if isinstance(value, dict) else None
            return isinstance(kept, dict) and kept.get("token") == intent.token
        self._store.set(_key(intent.number), {"intent": intent.to_json()})
        return True

    def finish(self, number: int, result: Result, *, unless_ended: bool = False) -> None:
        """Add the result to the intent."""
        value = self._store.get(_key(number))
        if isinstance(value, dict) and not (unless_ended and "result" in value):
            self._store.set(_key(number), {"intent": value["intent"], "result": result.to_json()})
        elif not unless_ended:
            raise ClaidRecordsError(
                f"{self.where(number)} is gone: a later try of the task has begun, or it was deleted"
            )

    def read(self, number: int) -> Submission | None:
        """Read intent and result."""
        value = self._store.get(_key(number))
        if value is None:
            return None
        parts = value if isinstance(value, dict) else {}
        return read_submission(parts.get("intent"), parts.get("result"), self.where(number))


def _key(number: int) -> str:
    return f"claid_submission_{number}"


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except Exception as cause:
        raise StoreBusyError(f"Airflow's task state store failed ({type(cause).__name__}: {cause})") from cause
