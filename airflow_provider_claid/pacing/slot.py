"""One booked send time: the request that uses it is started before it, waits for it, and books anew if it missed it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_claid.pacing.budget import Spend
from airflow_provider_claid.pacing.store import Booking, NotYetError

if TYPE_CHECKING:
    from airflow_provider_claid.pacing.pacer import Pacer

APPROACH = 1.0
"""Seconds before its send time at which a request is started, so that its connection is open and fresh by then."""

TOLERANCE = 0.02
"""Seconds that a request may leave late; one that would be later books anew."""

PATIENCE = 0.25
"""Seconds after its send time for which a request that is still connecting keeps its process's turn."""

REFUND_SECONDS = 1.0
"""Seconds that a request which was not billed waits until its credits are given back."""

T = TypeVar("T")


class TooEarlyError(Exception):
    """The send time moved too far ahead to keep a connection waiting. Nothing was sent."""


class Slot:
    """A booked send time with its credits, and the gate (`api.client.Gate`) of the request that uses it."""

    def __init__(self, pacer: Pacer, release: Callable[[], None], spend: Spend | None) -> None:
        self.passed = False
        """True from when the first byte may have left."""
        self._pacer = pacer
        self._release = release
        self._spend = spend
        # Changed in the pacer's thread alone, one step after the other: a cancelled wait for one loses no credits.
        self._booking: Booking | None = None
        self._tolerance = TOLERANCE

    @property
    def at(self) -> float:
        """The booked time in the store's clock."""
        return self._booked().at

    @property
    def due(self) -> float:
        """The booked time in this process's monotonic clock."""
        return self._booked().due

    async def book(self) -> None:
        """
        Book the earliest legal send time, instead of one that was missed; raises `BudgetError`.

        Waits while another kernel's use of the schedule may still count.
        """
        spread, self._pacer.spread = self._pacer.spread, 0.0
        while True:
            try:
                return await self._pacer.step(partial(self._book, spread))
            except NotYetError as cause:
                self._pacer.waits_because(cause)
                await asyncio.sleep(cause.seconds)

    async def refund(self) -> None:
        """
        Give the credits of a request that was not billed back, once; its send time stays used.

        Waits for it a second at most, and it is done even if the wait is cancelled.
        """
        if self._spend is not None:
            await self._pacer.complete(self._refund, REFUND_SECONDS)

    async def send(self, request: Callable[[Slot], Awaitable[T]]) -> T:
        """
        Start the request shortly before its time, again if the time moved away while it was being started.

        One whose connection is not open in time lets the next take the turn meanwhile.
        """
        while True:
            await asyncio.sleep(max(0.0, self._booked().due - APPROACH - time.monotonic()))
            overdue = max(0.0, self._booked().due - time.monotonic()) + PATIENCE
            timer = asyncio.get_running_loop().call_later(overdue, self._release)
            try:
                return await request(self)
            except TooEarlyError:
                continue
            finally:
                timer.cancel()

    async def wait(self) -> None:
        """
        Return when the request may leave; a slot that was missed is given back and booked anew.

        Each miss doubles what counts as late, so that a busy event loop sends at all; the spacing widens by it.
        """
        while True:
            ahead = self._booked().due - time.monotonic()
            if ahead < -self._tolerance:
                self._tolerance *= 2
                await self.book()
            elif ahead > 2 * APPROACH:
                raise TooEarlyError
            elif ahead > 0:
                await asyncio.sleep(ahead)
            else:
                self.passed = True
                return

    def sent(self) -> None:
        """Let the next request of this process book: this one has left."""
        self._pacer.spread = max(self._pacer.spread, time.monotonic() - self._booked().due)
        self._release()

    def _booked(self) -> Booking:
        assert self._booking is not None
        return self._booking

    def _book(self, spread: float) -> None:
        self._booking = self._pacer.book(self._booking, spread, self._spend)

    def _refund(self) -> None:
        booking = self._booking
        if booking is not None and booking.credits:
            self._booking = replace(booking, credits=0)
            self._pacer.refund(booking)
