"""What every store of a schedule offers, and the one that lives in this process's memory."""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_claid.pacing.budget import Budget, Spend, utc_day
from airflow_provider_claid.pacing.schedule import Exhausted, Pace, Schedule


class StoreError(Exception):
    """A store cannot be used now; the message names it and the remedy."""


@dataclass(frozen=True)
class Booking:
    """
    A booked send time: `at` in the store's clock names it, `due` is the same moment in this process's monotonic.

    `credits` were booked with it, on the UTC `day` (ISO) of that moment.
    """

    at: float
    due: float
    credits: int = 0
    day: str | None = None


class Store(Protocol):
    """
    A schedule shared by whoever uses the same store. Each call is one atomic step and may block; thread-safe.

    Raises `StoreError` where the store cannot be used.
    """

    def book(
        self, pace: Pace, *, instead_of: Booking | None = None, spread: float = 0.0, spend: Spend | None = None
    ) -> Booking:
        """
        Book the earliest legal send time (`Schedule.book`), and with a `spend` its credits on the day of sending.

        `instead_of` is given back with its credits. Raises `BudgetError`, with nothing changed, if the day's credits
        do not suffice.
        """

    def refund(self, booking: Booking) -> None:
        """Give the credits of a booking back, at each call; its send time stays booked."""

    def refused(self, at: float, pace: Pace, exhausted: Exhausted) -> bool:
        """Note a 429 for the request booked at `at`; False if this schedule cannot explain it."""

    def exhausted(self, at: float, exhausted: Exhausted) -> bool:
        """Note an accepted request that was its window's last; False if this schedule cannot explain that."""

    def close(self, seconds: float) -> None:
        """Let nobody send for this long."""


class ScheduleStore(ABC):
    """A store that keeps a `Schedule` and opens it for one atomic step at a time."""

    @abstractmethod
    def _open(self, *, budgeted: bool = False) -> AbstractContextManager[tuple[Schedule, float, Budget]]:
        """
        Yield the schedule, the monotonic clock and the budget; keep both when the block ends without an error.

        Unless `budgeted`, the budget is an empty one that nobody keeps.
        """

    def book(
        self, pace: Pace, *, instead_of: Booking | None = None, spread: float = 0.0, spend: Spend | None = None
    ) -> Booking:
        """Book the earliest legal send time, and its credits (`Schedule.book`, `Budget.book`)."""
        missed = instead_of.at if instead_of else None
        with self._open(budgeted=spend is not None) as (schedule, now, budget):
            at = schedule.book(now, pace, instead_of=missed, spread=spread)
            # The clock of these stores is this host's monotonic one, so both names mean one moment.
            booking = Booking(at, due=at)
            if spend is not None:
                day = utc_day(time.time() + at - now)
                if instead_of and instead_of.day:
                    budget.refund(instead_of.day, instead_of.credits)
                budget.book(day, spend)
                booking = Booking(at, due=at, credits=spend.credits, day=day)
        return booking

    def refund(self, booking: Booking) -> None:
        """Give the credits of a booking back (`Budget.refund`)."""
        if booking.day:
            with self._open(budgeted=True) as (_, _, budget):
                budget.refund(booking.day, booking.credits)

    def refused(self, at: float, pace: Pace, exhausted: Exhausted) -> bool:
        """Note a 429 (`Schedule.refused`)."""
        with self._open() as (schedule, now, _):
            return schedule.refused(now, at, pace, exhausted)

    def exhausted(self, at: float, exhausted: Exhausted) -> bool:
        """Note a window's last request (`Schedule.exhausted`)."""
        with self._open() as (schedule, _, _):
            return schedule.exhausted(at, exhausted)

    def close(self, seconds: float) -> None:
        """Let nobody send for this long (`Schedule.close`)."""
        with self._open() as (schedule, now, _):
            schedule.close(now, seconds)


class MemoryStore(ScheduleStore):
    """The schedule of one process, whose first booking is at some moment of the next `start_within` seconds."""

    def __init__(self, start_within: float = 0.0) -> None:
        self._schedule = Schedule()
        self._budget = Budget()
        self._start_within = start_within
        self._lock = threading.Lock()

    @contextmanager
    def _open(self, *, budgeted: bool = False) -> Iterator[tuple[Schedule, float, Budget]]:
        with self._lock:
            now = time.monotonic()
            self._schedule.close(now, random.random() * self._start_within)
            self._start_within = 0.0
            schedule, budget = self._schedule.copy(), self._budget.copy() if budgeted else Budget()
            yield schedule, now, budget
            self._schedule = schedule
            if budgeted:
                self._budget = budget
