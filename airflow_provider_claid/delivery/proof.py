"""The proof that a target can be written into: before the first payment, and again after its store has said no."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidNotSentError
from airflow_provider_claid.delivery.checks import Target
from airflow_provider_claid.delivery.store_errors import (
    WRITE_RIGHTS,
    StoreBusyError,
    missing_bucket,
    store_errors,
    way_to,
)

FIELD = "save_to"
CHECK = ".claid-write-check"
"""The hidden object or file that proves the right to write."""

_proven: dict[tuple[str, str | None], bool] = {}
"""Targets that this process may write into, by URI and connection, and whether their store creates exclusively."""


class Provable:
    """A target and its proof; whoever opens it says how that is done. Its methods block."""

    _rights = WRITE_RIGHTS

    def __init__(self, target: Target) -> None:
        self._target = target
        self._proving = threading.Lock()

    @property
    def is_proven(self) -> bool:
        """Whether the right to write is proven."""
        return self._key in _proven

    def prove(self) -> None:
        """Prove the right to write, once for all who ask at the same time."""
        with self._proving:
            if self.is_proven:
                return
            try:
                _proven[self._key] = self._prove()
            except StoreBusyError as busy:
                raise ClaidNotSentError(f"{FIELD}: {busy}") from busy

    @property
    def creates_exclusively(self) -> bool:
        """Whether the store refuses to create what is there."""
        return _proven.get(self._key, False)

    def forget(self) -> None:
        """Take the right to write for unproven."""
        _proven.pop(self._key, None)

    def uri(self, name: str) -> str:
        """Return the URI of a picture."""
        return self._target.uri + name

    def _prove(self) -> bool:
        """Write something and remove it; return whether the store refuses a second create."""
        raise NotImplementedError

    @property
    def _key(self) -> tuple[str, str | None]:
        return self._target.uri, self._target.conn_id

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        place, conn_id = self._target.uri + name, self._target.conn_id
        try:
            with store_errors(place, conn_id, field=FIELD, rights=self._rights):
                yield
        except FileNotFoundError as cause:
            # Of what is written, only the place can be missing.
            raise missing_bucket(place, conn_id, FIELD) from cause
        except StoreBusyError as busy:
            raise StoreBusyError(f"{way_to(place, conn_id)}: {busy}. Try again when it answers") from busy

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """As above, for a picture: whatever the fault, the right to write is to be proven again before more is paid."""
        try:
            with self._errors(name):
                yield
        except (ClaidConfigurationError, StoreBusyError):
            self.forget()
            raise
