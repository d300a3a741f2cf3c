"""The last door before a paid request leaves: opened by the pace, shut for a stopped task and an old intent."""

from __future__ import annotations

import asyncio
import math

from airflow_provider_claid.api.bill import current_bill
from airflow_provider_claid.api.client import Gate
from airflow_provider_claid.api.errors import ClaidNotSentError
from airflow_provider_claid.delivery.stop import Stop


class Door:
    """
    The gate of one request: waits for its slot, then lets it pass only if it still may.

    `asked_at` is when it asked for a turn, in seconds of the event loop's clock.
    """

    def __init__(self, stop: Stop, asked_at: float, slot: Gate) -> None:
        self.passed = False
        self._asked_at = asked_at
        self._slot = slot
        self._stop = stop
        self._closes_at = math.inf

    def close_at(self, moment: float) -> None:
        """Let nothing pass after this moment of the event loop's clock."""
        self._closes_at = moment

    async def wait(self) -> None:
        """Return when the first byte may leave; raise `ClaidNotSentError` if it may not any more."""
        await self._slot.wait()
        if self._stop.is_asked:
            raise ClaidNotSentError("The task was stopped before its request left")
        if self._stop.held():
            raise ClaidNotSentError("The place of the pictures takes none now, and is being asked again")
        now = asyncio.get_running_loop().time()
        if now > self._closes_at:
            raise ClaidNotSentError("The request came to its turn too late for its record")
        current_bill().waits.append(now - self._asked_at)
        self.passed = True
        self._stop.under_way += 1

    def sent(self) -> None:
        """Pass on that the last byte has left."""
        self._slot.sent()

    def settled(self) -> None:
        """Note that what became of the request is recorded; once."""
        if self.passed:
            self._stop.under_way -= 1
