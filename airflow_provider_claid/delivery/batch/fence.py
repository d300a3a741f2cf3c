"""
Only the latest attempt at a batch goes on: an earlier one finds the mark of a later one, and stops.

An attempt that Airflow takes for dead may go on, while the next one has begun: a worker that was stopped or cut off for
a while. The numbers of their marks only grow, so it can find out that it is not the latest any more.
"""

from __future__ import annotations

import time
from functools import partial

from airflow_provider_claid.api.errors import ClaidBatchUnfinishedError
from airflow_provider_claid.delivery.backoff import persistent
from airflow_provider_claid.delivery.records.marks import mark_name
from airflow_provider_claid.delivery.records.objects import Objects

ASK_EVERY = 2.0
"""Seconds for which the answer that no later attempt has begun is relied on, where nothing would be overwritten."""


class Fence:
    """Keeps an attempt, by the `number` of its mark, from going on behind a later one. Its methods block."""

    def __init__(self, objects: Objects, key: str, number: int) -> None:
        self.number = number
        self.overtaken = False
        """Whether it was found out that a later attempt has begun."""
        self._objects = objects
        self._key = key
        self._asked_at = time.monotonic()

    def go_on(self) -> None:
        """Raise `ClaidBatchUnfinishedError` if a later attempt had begun some seconds ago; mostly costs nothing."""
        if self.overtaken or time.monotonic() > self._asked_at + ASK_EVERY:
            self.require_latest()

    def require_latest(self) -> None:
        """Raise `ClaidBatchUnfinishedError` if a later attempt has begun. Costs one get."""
        # No number is left out: the next one tells of all later ones.
        later = mark_name(self._key, self.number + 1)
        asked_at = time.monotonic()
        self.overtaken = self.overtaken or persistent(partial(self._objects.get, later)) is not None
        if self.overtaken:
            message = (
                f"A later attempt of this batch has begun ({self._objects.uri}{later}): this one sends nothing more, "
                "and leaves the manifest to that one"
            )
            raise ClaidBatchUnfinishedError(message, billed="unknown")
        self._asked_at = asked_at
