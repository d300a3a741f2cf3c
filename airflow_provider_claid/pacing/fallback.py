"""What paces requests while a store cannot be used: a part of the account's limits, kept by a nearer store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from airflow_provider_claid.pacing.budget import Spend
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.store import Booking, FolderError, NotYetError, OtherMachineError, Store, StoreError
from airflow_provider_claid.pacing.window import Quota

log = logging.getLogger(__name__)

SHARE = 0.25
RETRY_SECONDS = 30.0

T = TypeVar("T")


class FallbackStore:
    """
    A store that is never without a pace.

    While `first` fails, a `share` of the pace is booked in `second`: a quarter, so that four such processes still keep
    the limits. `first` is tried again every 30 s. Each cause is warned of once. Credits are
    booked in `first` or not at all.

    A `required` first store is refused by its `FolderError` unless it has worked before, and always where another
    kernel uses it or has just used it: then somebody else keeps the pace of that account.
    """

    def __init__(self, first: Store, second: Store, share: float = SHARE, *, required: bool = False) -> None:
        self._first = first
        self._second = second
        self._share = share
        self._required = required
        self._worked = False
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
            lambda: self._second.book(self._lent(pace), instead_of=instead_of, spread=spread),
            refuses=self._must_refuse,
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
            self._second.refused(at, self._lent(pace), quota)
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

    def hosts(self) -> Mapping[str, float]:
        """Return which hosts use the account, as far as is known (`Schedule.hosts`)."""
        return self._either(self._first.hosts, self._second.hosts)

    def note_hosts(self, hosts: Mapping[str, float]) -> None:
        """Keep for later which hosts use the account."""
        self._either(lambda: self._first.note_hosts(hosts), lambda: self._second.note_hosts(hosts))

    def _either(
        self, first: Callable[[], T], second: Callable[[], T], refuses: Callable[[StoreError], bool] = lambda _: False
    ) -> T:
        if time.monotonic() >= self._again_at:
            try:
                result = first()
            except StoreError as cause:
                if refuses(cause):
                    raise
                self._failed(cause)
            else:
                self._succeeded()
                return result
        return second()

    def _lent(self, pace: Pace) -> Pace:
        return pace.share(self._share)

    def _must_refuse(self, cause: StoreError) -> bool:
        if not self._required:
            return False
        somebody_else = isinstance(cause, NotYetError | OtherMachineError)
        return somebody_else or (isinstance(cause, FolderError) and not self._worked)

    def _succeeded(self) -> None:
        self._worked = True

    def _failed(self, cause: StoreError) -> None:
        with self._lock:
            again = time.monotonic() < self._again_at + 2 * RETRY_SECONDS
            self._again_at = time.monotonic() + RETRY_SECONDS
        if not again:
            # What the first store has just booked is not known to the second.
            self._second.close(1.0)
        part = "a quarter" if self._share == SHARE else f"{self._share:.3g}"
        self._warn_once(f"{cause}. Until it works again, no more than {part} of the account's limits is used.")

    def _warn_once(self, text: str) -> None:
        with self._lock:
            known = text in self._warned
            self._warned.add(text)
        if not known:
            log.warning("%s", text)


class HostsFallbackStore(FallbackStore):
    """
    The same where `first` is the store of several hosts, and `second` that of this one.

    With more than four hosts each takes its part: how many there are is what `first` told while it worked, which
    `second` keeps for the processes of this host that begin later. Then each spreads its part over the minute, because
    five that send at the same moment exceed a second's limit.
    """

    _told = 0

    def _succeeded(self) -> None:
        super()._succeeded()
        count = len(self._first.hosts())
        if count != self._told and max(count, self._told) > 1 / SHARE:
            self._second.note_hosts(self._first.hosts())
        self._told = count

    def _failed(self, cause: StoreError) -> None:
        seen = self._first.hosts()
        if seen:
            self._second.note_hosts(seen)
        self._share = min(SHARE, 1 / max(1, len(self._second.hosts())))
        super()._failed(cause)

    def _lent(self, pace: Pace) -> Pace:
        part = super()._lent(pace)
        return part if self._share == SHARE else part.evenly()
