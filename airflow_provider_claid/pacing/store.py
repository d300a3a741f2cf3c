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

from airflow_provider_claid.pacing.schedule import Exhausted, Pace, Schedule


class StoreError(Exception):
    """A store cannot be used now; the message names it and the remedy."""


@dataclass(frozen=True)
class Booking:
    """A booked send time: `at` in the store's clock names it, `due` is the same moment in this process's monotonic."""

    at: float
    due: float


class Store(Protocol):
    """
    A schedule shared by whoever uses the same store. Each call is one atomic step and may block; thread-safe.

    Raises `StoreError` where the store cannot be used.
    """

    def book(self, pace: Pace, *, instead_of: float | None = None, spread: float = 0.0) -> Booking:
        """Book the earliest legal send time (`Schedule.book`)."""

    def refused(self, at: float, pace: Pace, exhausted: Exhausted) -> bool:
        """Note a 429 for the request booked at `at`; False if this schedule cannot explain it."""

    def exhausted(self, at: float, exhausted: Exhausted) -> bool:
        """Note an accepted request that was its window's last; False if this schedule cannot explain that."""

    def close(self, seconds: float) -> None:
        """Let nobody send for this long."""


class ScheduleStore(ABC):
    """A store that keeps a `Schedule` and opens it for one atomic step at a time."""

    @abstractmethod
    def _open(self) -> AbstractContextManager[tuple[Schedule, float]]:
        """Yield the schedule and the monotonic clock; keep the schedule when the block ends without an error."""

    def book(self, pace: Pace, *, instead_of: float | None = None, spread: float = 0.0) -> Booking:
        """Book the earliest legal send time (`Schedule.book`)."""
        with self._open() as (schedule, now):
            at = schedule.book(now, pace, instead_of=instead_of, spread=spread)
        # The clock of these stores is this host's monotonic one, so both names mean one moment.
        return Booking(at, due=at)

    def refused(self, at: float, pace: Pace, exhausted: Exhausted) -> bool:
        """Note a 429 (`Schedule.refused`)."""
        with self._open() as (schedule, now):
            return schedule.refused(now, at, pace, exhausted)

    def exhausted(self, at: float, exhausted: Exhausted) -> bool:
        """Note a window's last request (`Schedule.exhausted`)."""
        with self._open() as (schedule, _):
            return schedule.exhausted(at, exhausted)

    def close(self, seconds: float) -> None:
        """Let nobody send for this long (`Schedule.close`)."""
        with self._open() as (schedule, now):
            schedule.close(now, seconds)


class MemoryStore(ScheduleStore):
    """The schedule of one process, whose first booking is at some moment of the next `start_within` seconds."""

    def __init__(self, start_within: float = 0.0) -> None:
        self._schedule = Schedule()
        self._start_within = start_within
        self._lock = threading.Lock()

    @contextmanager
    def _open(self) -> Iterator[tuple[Schedule, float]]:
        with self._lock:
            now = time.monotonic()
            self._schedule.close(now, random.random() * self._start_within)
            self._start_within = 0.0
            yield self._schedule, now
