"""The trigger that waits for pictures in the triggerer, for the sensor."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_claid.api.errors import ClaidContentFilteredError, ClaidError
from airflow_provider_claid.delivery.checks import OnFiltered
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.expected import Verify, Wanted, wanted
from airflow_provider_claid.delivery.watching.report import Report, handed_on
from airflow_provider_claid.delivery.watching.watch import Watch
from airflow_provider_claid.exceptions import described
from airflow_provider_claid.hooks.watch import watch_for
from airflow_provider_claid.triggers.delivery import ClaidDeliveryEventTrigger
from airflow_provider_claid.triggers.generate import ClaidGenerateTrigger
from airflow_provider_claid.triggers.paths import documented_path

__all__ = ["ClaidDeliveryEventTrigger", "ClaidGenerateTrigger", "ClaidImageTrigger"]

log = logging.getLogger(__name__)

LISTED_AT_TIMEOUT = 100
LAST_LOOK = 30.0
"""Seconds that a look may take although the deadline has come: a triggerer that was away looks once."""


class ClaidImageTrigger(BaseTrigger):
    """
    Wait for pictures without a worker slot; the arguments are `ClaidImageSensor`'s, in plain JSON.

    :param deadline: Unix time in seconds at which to give up; absolute, so that a restart does not extend it.
    :param verified: what the sensor's own look found whole; it is not read again.
    :param poke_interval: seconds between two looks; doubled after each, up to `max_wait`, if `exponential_backoff`.

    Its one event is `{"status": "delivered", "uris": [...]}`, `{"status": "skipped", "message": ...}` if all are black
    and `on_filtered="skip"` leaves them out, `{"status": "timeout", "message": ...}` or
    `{"status": "failed", "error": {...}}`.
    """

    def __init__(
        self,
        *,
        images: Any = None,
        folder: str | None = None,
        expected_count: int | None = None,
        since: str | None = None,
        claid_conn_id: str = "claid_default",
        storage_conn_id: str | None = None,
        verify: Verify = "header",
        min_bytes: int = 1,
        on_filtered: OnFiltered = "fail",
        poke_interval: float = 60.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        deadline: float | None = None,
        verified: str = "",
    ) -> None:
        super().__init__()
        # Checked when it is written down: an error here, in a triggerer of another version, would stop the triggerer.
        self.images = images
        self.folder = folder
        self.expected_count = expected_count
        self.since = since
        self.claid_conn_id = claid_conn_id
        self.storage_conn_id = storage_conn_id
        self.verify = verify
        self.min_bytes = min_bytes
        self.on_filtered = on_filtered
        self.poke_interval = max(poke_interval, 1.0)
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.deadline = deadline
        self.verified = verified

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, checked, as plain JSON; raises `ClaidInputError`."""
        return documented_path(self), {
            **self._wanted().to_json(),
            "claid_conn_id": self.claid_conn_id,
            "storage_conn_id": self.storage_conn_id,
            "verify": self.verify,
            "min_bytes": self.min_bytes,
            "on_filtered": self.on_filtered,
            "poke_interval": self.poke_interval,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait,
            "deadline": self.deadline,
            "verified": self.verified,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until all is there, something cannot be mended by waiting, or the deadline has come."""
        try:
            watch = watch_for(
                await in_thread(self._wanted),
                self.claid_conn_id,
                self.storage_conn_id,
                verify=self.verify,
                min_bytes=self.min_bytes,
                verified=self.verified,
            )
            event = await self._wait(watch)
        except ClaidContentFilteredError as black:
            log.warning("%s", black.message)
            skipped = {"status": "skipped", "message": black.message}
            event = skipped if self.on_filtered == "skip" else {"status": "failed", "error": described(black)}
        except ClaidError as error:
            event = {"status": "failed", "error": described(error)}
        yield TriggerEvent(event)

    def _wanted(self) -> Wanted:
        return wanted(self.images, self.folder, self.expected_count, self.since)

    async def _wait(self, watch: Watch) -> dict[str, Any]:
        interval, report = self.poke_interval, Report(watch.expected)
        while True:
            try:
                async with asyncio.timeout(max(self._left(), LAST_LOOK)):
                    report = await watch.look()
            except TimeoutError:
                late = {"the last look": "the store did not answer in time"}
                report = replace(report, missing={**report.missing, **late})
            uris = handed_on(report, self.on_filtered)
            if uris is not None:
                return {"status": "delivered", "uris": uris}
            log.info("%s", report.summary())
            if self._left() <= 0:
                return {"status": "timeout", "message": report.summary(LISTED_AT_TIMEOUT)}
            await asyncio.sleep(min(interval, self._left()))
            if self.exponential_backoff:
                interval = min(interval * 2, self.max_wait or math.inf)

    def _left(self) -> float:
        """Return the seconds to the deadline."""
        return math.inf if self.deadline is None else self.deadline - time.time()
