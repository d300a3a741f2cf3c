"""What every store of a schedule offers, and the one that lives in this process's memory."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from airflow_provider_claid.pacing.budget import Budget, Spend, utc_day
from airflow_provider_claid.pacing.schedule import Pace, Schedule
from airflow_provider_claid.pacing.window import Quota

T = TypeVar("T")
Change = Callable[[Schedule, float, Budget], T]
"""What a step does to a schedule and a budget at a moment of the store's clock; it may raise `BudgetError`."""


def key_of(account: str) -> str:
    """Return what names an account in a store: a hash, never the account's name or key."""
    return hashlib.sha256(b"claid-pacing\0" + account.encode()).hexdigest()[:24]


class StoreError(Exception):
    """A store cannot be used now; the message names it and the remedy."""


class NotYetError(StoreError):
    """A store cannot be used yet: whoever books asks again in so many `seconds`, and sends nothing until then."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class FolderError(StoreError):
    """A folder can keep no schedules until a person mends it: `folder`, what it is (`came`), and how (`fix`)."""

    def __init__(self, folder: Path, came: str, fix: str) -> None:
        super().__init__(f"The pacing folder {folder} {came}: {fix}")
        self.folder = folder
        self.came = came
        self.fix = fix


class OtherMachineError(FolderError):
    """Another machine uses the folder at this moment; its clock is not this one's."""


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

    def refused(self, at: float, pace: Pace, quota: Quota) -> bool:
        """Note a 429 for the request booked at `at`; False if this schedule cannot explain it."""

    def accepted(self, at: float, took: float, quota: Quota) -> bool:
        """
        Note what the answer to the request booked at `at` says, which came `took` seconds later.

        False if it was its window's last and this schedule cannot explain that.
        """

    def close(self, seconds: float) -> None:
        """Let nobody send for this long."""

    def hosts(self) -> Mapping[str, float]:
        """Return which hosts use the account, as far as is known (`Schedule.hosts`)."""

    def note_hosts(self, hosts: Mapping[str, float]) -> None:
        """Keep for later which hosts use the account."""


class ScheduleStore(ABC):
    """A store that keeps a `Schedule` and changes it in one atomic step at a time."""

    @abstractmethod
    def _step(self, change: Change[T], *, budgeted: bool = False) -> T:
        """
        Apply a change to what is kept, and return what it returns; if it raises, nothing is kept of it.

        It may be applied more than once, each time to a fresh copy; the last time counts. Unless `budgeted`, what it
        does to the budget need not be kept.
        """

    def _due(self, at: float) -> float:
        """Return the same moment in this process's monotonic clock, which is the store's where all is on one host."""
        return at

    def _wall(self, at: float, now: float) -> float:
        """Return a moment of the store's clock in seconds since 1970."""
        return time.time() + at - now

    def book(
        self, pace: Pace, *, instead_of: Booking | None = None, spread: float = 0.0, spend: Spend | None = None
    ) -> Booking:
        """Book the earliest legal send time, and its credits (`Schedule.book`, `Budget.book`)."""
        missed = instead_of.at if instead_of else None

        def change(schedule: Schedule, now: float, budget: Budget) -> Booking:
            at = schedule.book(now, pace, instead_of=missed, spread=spread)
            if spend is None:
                return Booking(at, due=at)
            day = utc_day(self._wall(at, now))
            if instead_of and instead_of.day:
                budget.refund(instead_of.day, instead_of.credits)
            budget.book(day, spend)
            return Booking(at, due=at, credits=spend.credits, day=day)

        booking = self._step(change, budgeted=spend is not None)
        return replace(booking, due=self._due(booking.at))

    def refund(self, booking: Booking) -> None:
        """Give the credits of a booking back (`Budget.refund`)."""
        if day := booking.day:
            self._step(lambda _schedule, _now, budget: budget.refund(day, booking.credits), budgeted=True)

    def refused(self, at: float, pace: Pace, quota: Quota) -> bool:
        """Note a 429 (`Schedule.refused`)."""
        return self._step(lambda schedule, now, _: schedule.refused(now, at, pace, quota))

    def accepted(self, at: float, took: float, quota: Quota) -> bool:
        """Note what an answer says (`Schedule.accepted`)."""
        return self._step(lambda schedule, _now, _budget: schedule.accepted(at, took, quota))

    def close(self, seconds: float) -> None:
        """Let nobody send for this long (`Schedule.close`)."""
        self._step(lambda schedule, now, _: schedule.close(now, seconds))

    def hosts(self) -> Mapping[str, float]:
        """Return which hosts use the account (`Schedule.hosts`)."""
        return self._step(lambda schedule, _now, _budget: dict(schedule.hosts))

    def note_hosts(self, hosts: Mapping[str, float]) -> None:
        """Keep which hosts use the account."""

        def change(schedule: Schedule, _now: float, _budget: Budget) -> None:
            schedule.hosts = dict(hosts)

        self._step(change)


class MemoryStore(ScheduleStore):
    """The schedule of one process, whose first booking is at some moment of the next `start_within` seconds."""

    def __init__(self, start_within: float = 0.0) -> None:
        self._schedule = Schedule()
        self._budget = Budget()
        self._start_within = start_within
        self._lock = threading.Lock()

    def _step(self, change: Change[T], *, budgeted: bool = False) -> T:
        with self._lock:
            now = time.monotonic()
            self._schedule.close(now, random.random() * self._start_within)
            self._start_within = 0.0
            schedule, budget = self._schedule.copy(), self._budget.copy()
            result = change(schedule, now, budget)
            self._schedule, self._budget = schedule, budget
        return result
