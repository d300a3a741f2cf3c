"""What paces requests while a store cannot be used: a part of the account's limits, kept by a nearer store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from airflow_provider_claid.pacing.budget import Spend
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.store import Booking, Store, StoreError
from airflow_provider_claid.pacing.window import Quota

log = logging.getLogger(__name__)

SHARE = 0.25
RETRY_SECONDS = 30.0

T = TypeVar("T")


class FallbackStore:
    """
    A store that is never without a pace.

    While `first` fails, a `share` of the pace is booked in `second`: a quarter, so that four such processes or hosts
    still keep the limits. `first` is tried again every 30 s. Each cause is warned of once. Credits are
    booked in `first` or not at all.
    """

    def __init__(self, first: Store, second: Store, share: float = SHARE) -> None:
        self._first = first
        self._second = second
        self._share = share
        self._lock = threading.Lock()
        self._again_at = 0.0
        self._warned: set[str] = set()

    def book(
        self, pace: Pace, *, instead_of: Booking | None = None, spread: float = 0.0, spend: Spend | None = None
    ) -> Booking:
        """
        Book the earliest legal send time, within a quarter of the pace while the first store fails.

        With a `spend`, raises the first store's `StoreError` instead.
        """
        if spend is not None:
            # No other store knows what the day has cost.
            return self._first.book(pace, instead_of=instead_of, spread=spread, spend=spend)
        return self._either(
            lambda: self._first.book(pace, instead_of=instead_of, spread=spread),
            lambda: self._second.book(pace.share(self._share), instead_of=instead_of, spread=spread),
        )

    def refund(self, booking: Booking) -> None:
        """Give the credits of a booking back; while the first store fails, they stay booked."""
        try:
            self._first.refund(booking)
        except StoreError as cause:
            self._warn_once(f"{cause}. Credits of requests that were not billed stay booked meanwhile.")

    def refused(self, at: float, pace: Pace, quota: Quota) -> bool:
        """Note a 429; while the first store fails, nobody is blamed for it."""

        def by_the_second() -> bool:
            self._second.refused(at, pace.share(self._share), quota)
            return True

        return self._either(lambda: self._first.refused(at, pace, quota), by_the_second)

    def accepted(self, at: float, took: float, quota: Quota) -> bool:
        """Note what an answer says; while the first store fails, nobody is blamed for it."""

        def by_the_second() -> bool:
            self._second.accepted(at, took, quota)
            return True

        return self._either(lambda: self._first.accepted(at, took, quota), by_the_second)

    def close(self, seconds: float) -> None:
        """Let nobody send for this long."""
        self._either(lambda: self._first.close(seconds), lambda: self._second.close(seconds))

    def _either(self, first: Callable[[], T], second: Callable[[], T]) -> T:
        if time.monotonic() >= self._again_at:
            try:
                return first()
            except StoreError as cause:
                self._failed(cause)
        return second()

    def _failed(self, cause: StoreError) -> None:
        with self._lock:
            again = time.monotonic() < self._again_at + 2 * RETRY_SECONDS
            self._again_at = time.monotonic() + RETRY_SECONDS
        if not again:
            # What the first store has just booked is not known to the second.
            self._second.close(1.0)
        self._warn_once(f"{cause}. Until it works again, no more than a quarter of the account's limits is used.")

    def _warn_once(self, text: str) -> None:
        with self._lock:
            known = text in self._warned
            self._warned.add(text)
        if not known:
            log.warning("%s", text)
