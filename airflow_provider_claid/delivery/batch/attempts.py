"""
The attempts at a batch, numbered in the order in which they began: `<job key>/attempts/000001` and so on.

An attempt that Airflow takes for dead may go on, while the next one has begun: a worker that was stopped or cut off for
a while. The numbers only grow, so it can find out that it is not the latest any more.
"""

from __future__ import annotations

import json
import time
import uuid
from functools import partial

from airflow_provider_claid.api.errors import ClaidBatchUnfinishedError
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.backoff import persistent
from airflow_provider_claid.delivery.batch.numbered import numbered, read_on
from airflow_provider_claid.delivery.records.objects import Objects, create_proven, unreadable
from airflow_provider_claid.delivery.records.submission import SCHEMA

ASK_EVERY = 2.0
"""Seconds for which the answer that no later attempt has begun is relied on, where nothing would be overwritten."""


class Attempt:
    """One attempt, by its `number` from 1. Its methods block."""

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
        later = _name(self._key, self.number + 1)
        asked_at = time.monotonic()
        self.overtaken = self.overtaken or persistent(partial(self._objects.get, later)) is not None
        if self.overtaken:
            message = (
                f"A later attempt of this batch has begun ({self._objects.uri}{later}): this one sends nothing more, "
                "and leaves the manifest to that one"
            )
            raise ClaidBatchUnfinishedError(message, billed="unknown")
        self._asked_at = asked_at


def begin(objects: Objects, key: str) -> Attempt:
    """
    Begin an attempt: take the next number, exclusively and durably, whoever else does at this moment. Blocks.

    Costs a get for each earlier attempt, 16 at once, and one create. Raises `StoreBusyError`, and what `Objects` raise.
    """
    token = uuid.uuid4().hex
    content = json.dumps({"schema": SCHEMA, "token": token, "at": clock.now().isoformat()}).encode()
    last = 0
    while True:
        for number, _ in read_on(lambda number: objects.get(_name(key, number)), last):
            last = number
        name = _name(key, last + 1)
        if persistent(partial(create_proven, objects, name, content)):
            return Attempt(objects, key, last + 1)
        found = persistent(partial(objects.get, name))
        if found is None:
            raise unreadable(objects.uri + name)
        # A create that the store has carried out and answered badly is refused when it is tried again.
        if found == content:
            return Attempt(objects, key, last + 1)


def _name(key: str, number: int) -> str:
    return f"{key}/attempts/{numbered(number)}"
