"""What the stores of several hosts have in common: their clock, their versions, and what is done about a loss."""

from __future__ import annotations

import os
import secrets
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from airflow_provider_claid.pacing.budget import Budget
from airflow_provider_claid.pacing.clock import StoreClock
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.schedule import Pace, Schedule
from airflow_provider_claid.pacing.store import Change, ScheduleStore, StoreError, key_of
from airflow_provider_claid.pacing.window import Quota

T = TypeVar("T")

CONNECT_SECONDS = 2
STEP_SECONDS = 2.0
# A clock that differs by more was stepped; below this, a schedule of the other clock is a legal one of ours.
STEPPED = 1.0
# Of how many writes a state knows the names; a process that looks again after more cannot tell whether one was lost.
KEPT_WRITES = 32
# The clock of these stores counts from 1970, that of a host's own store from its boot.
EARLIEST = 1e9


@dataclass(frozen=True)
class Version:
    """
    One state of an account: the `count`-th since its `line` began, which is when the store had nothing of it.

    `writes` are random names of the last writes that led to it, the newest first: a store that took over without the
    newest ones goes on differently.
    """

    line: str = ""
    count: int = 0
    writes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Version:
        """Return what `str` wrote; what nobody of ours wrote is a line of its own."""
        line, count, *writes = [*text.split("."), ""]
        return cls(line, int(count) if count.isdecimal() else 0, tuple(filter(None, writes)))

    def __str__(self) -> str:
        return ".".join((self.line, str(self.count), *self.writes)) if self.line else ""

    def next(self) -> Version:
        """Return a version for the state that follows; no other is the same."""
        writes = (secrets.token_hex(4), *self.writes[: KEPT_WRITES - 1])
        return Version(self.line or secrets.token_hex(4), self.count + 1, writes)

    def follows(self, seen: Version) -> bool:
        """Tell whether nothing that led to `seen` is missing, as far as is known."""
        later = self.count - seen.count
        if self.line != seen.line or later < 0:
            return False
        return later >= len(self.writes) or self.writes[later : later + 1] == seen.writes[:1]


@dataclass(frozen=True)
class Kept:
    """What a store keeps of an account: its dumps, and when they were written, by the store's clock."""

    version: Version = Version()
    written_at: float = 0.0
    schedule: bytes = b""
    budget: bytes = b""


class Memory:
    """
    What this process last saw of a shared account, as a pure class: it makes good for what a store has lost.

    A store that was emptied, or that goes on from an older state, gets back what is missing. A clock that was stepped
    takes the bookings with it, so that nobody waits for it, and nobody sends sooner because of it.
    """

    def __init__(self) -> None:
        self._version = Version()
        self._schedule = Schedule()
        self._budget = Budget()
        self._stepped_at = 0.0
        self._stepped_by = 0.0

    @property
    def hosts(self) -> Mapping[str, float]:
        """Which hosts used the account, when this was last seen."""
        return self._schedule.hosts

    def see(self, version: Version, schedule: Schedule, budget: Budget) -> None:
        """Take note of what was just written."""
        self._version, self._schedule, self._budget = version, schedule, budget

    def stepped(self, now: float, seconds: float) -> None:
        """Take note of a step of the store's clock; `now` is after it."""
        if abs(seconds) > STEPPED:
            self._schedule.shift(seconds)
            self._stepped_at, self._stepped_by = now, seconds

    def resume(self, kept: Kept, now: float) -> tuple[Schedule, Budget]:
        """Return what is to be gone on with, at the store's time `now`."""
        if kept.version == self._version:
            return self._schedule.copy(), self._budget.copy()
        schedule, budget, lost = self._loaded(kept)
        if kept.written_at > now + STEPPED:
            schedule.shift(now - kept.written_at)
        elif kept.written_at <= self._stepped_at - self._stepped_by and self._stepped_by > 0:
            schedule.shift(self._stepped_by)
        if lost:
            schedule.remember(self._schedule)
            budget.remember(self._budget)
        return schedule, budget

    def _loaded(self, kept: Kept) -> tuple[Schedule, Budget, bool]:
        """Return what is kept, and whether something is missing in it that was seen before."""
        lost = not kept.version.follows(self._version)
        try:
            return Schedule.load(kept.schedule), Budget.load(kept.budget), lost
        except ValueError:
            return Schedule(), Budget(), True


class SharedStore(ScheduleStore):
    """
    The schedule and the budget of an account in a store that several hosts reach. Its clock is the store's.

    `host` names the host that this process is of. Raises `StoreError` where the store does not answer in time, or
    refuses.
    """

    def __init__(self, place: Place, account: str, host: str = "") -> None:
        self._host = host or secrets.token_hex(4)
        self._place = place
        self._key = key_of(account)
        self._clock = StoreClock()
        self._memory = Memory()
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def refused(self, at: float, pace: Pace, quota: Quota) -> bool:
        """Note a 429 (`Schedule.refused`); nobody is blamed for one that this host's own store booked meanwhile."""
        if at > EARLIEST:
            return super().refused(at, pace, quota)
        self._step(lambda schedule, now, _: schedule.refused(now, now, pace, quota))
        return True

    def accepted(self, at: float, took: float, quota: Quota) -> bool:
        """Note what an answer says (`Schedule.accepted`), unless this host's own store booked the request meanwhile."""
        return at < EARLIEST or super().accepted(at, took, quota)

    def _due(self, at: float) -> float:
        return self._clock.monotonic(at)

    def _wall(self, at: float, now: float) -> float:
        return at

    def _step(self, change: Change[T], *, budgeted: bool = False) -> T:
        if self._pid != os.getpid():
            # In a forked child: a thread of the parent may have held the lock, and the client is the parent's.
            self._pid, self._lock = os.getpid(), threading.Lock()
            self._forget_client()

        def by_this_host(schedule: Schedule, now: float, budget: Budget) -> T:
            schedule.note_host(self._host, now)
            return change(schedule, now, budget)

        with self._lock:
            return self._transact(by_this_host, budgeted=budgeted)

    def hosts(self) -> Mapping[str, float]:
        """Return which hosts used the account when this process last saw it; asks nobody."""
        return self._memory.hosts

    @abstractmethod
    def _transact(self, change: Change[T], *, budgeted: bool) -> T:
        """Do what `_step` says, while no other thread does."""

    @abstractmethod
    def _forget_client(self) -> None:
        """Leave the client to the process that made it."""

    def _now(self) -> float:
        return self._clock.store_time(time.monotonic())

    def _observe(self, sent: float, stamp: float) -> None:
        """Take note of the store's time in an answer that came just now."""
        received = time.monotonic()
        stepped = self._clock.observe(sent, stamp, received)
        self._memory.stepped(self._clock.store_time(received), stepped)

    def _failure(self, cause: Exception) -> StoreError:
        return StoreError(f"The pacing store {self._place} cannot be used ({' '.join(str(cause).split())})")
