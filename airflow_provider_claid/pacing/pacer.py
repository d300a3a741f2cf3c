"""The pace of one account in one event loop: books, waits, and hands requests their moment."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from airflow_provider_claid.pacing.announced import Announced, said_of_minute, used_up_window
from airflow_provider_claid.pacing.budget import Spend
from airflow_provider_claid.pacing.fallback import FallbackStore, HostsFallbackStore
from airflow_provider_claid.pacing.headers import RateLimit, parse
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.postgres import PostgresStore
from airflow_provider_claid.pacing.redis import RedisStore
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.shared import SharedStore
from airflow_provider_claid.pacing.slot import Slot
from airflow_provider_claid.pacing.sqlite import SQLiteStore, host_of, spare_folders
from airflow_provider_claid.pacing.store import Booking, MemoryStore, NotYetError, Store
from airflow_provider_claid.pacing.window import Quota

log = logging.getLogger(__name__)

LAST_RESORT_SECONDS = 16.0
"""Seconds over which processes without any store spread their first requests: they cannot know of each other."""

T = TypeVar("T")


class Pacer:
    """
    Hands out the slots of one account in one event loop: at most one is outstanding, so none is hoarded.

    Bookings go through one thread of its own, because a store may block. `shared`: the store is that of several hosts.
    """

    def __init__(self, store: Store, pace: Pace, *, shared: bool = False) -> None:
        self._limits = pace
        self._announced = Announced()
        self._warned: set[tuple[float, int]] = set()
        self._shared = shared
        self.spread = 0.0
        self._store = store
        self._said_to_wait = False
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="claid-pacing")

    @asynccontextmanager
    async def slot(self, spend: Spend | None = None) -> AsyncIterator[Slot]:
        """
        Wait for this process's turn and book. The turn ends when the request has left, or with the block.

        With a `spend` its credits are booked too, and given back if the block ends before the request could leave.
        Raises `BudgetError` if they do not suffice, `StoreError` if they cannot be booked.
        """
        await self._turn.acquire()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._turn.release()

        slot = Slot(self, release, spend)
        try:
            await slot.book()
            yield slot
        finally:
            release()
            if not slot.passed:
                await slot.refund()

    @property
    def pace(self) -> Pace:
        """The limits of the account, or those that Claid announces where they are lower."""
        return self._announced.pace(self._limits, time.monotonic())

    def waits_because(self, cause: NotYetError) -> None:
        """Say once why nothing is sent yet."""
        if not self._said_to_wait:
            self._said_to_wait = True
            log.warning("%s. Requests wait for that.", cause)

    def book(self, instead_of: Booking | None, spread: float, spend: Spend | None) -> Booking:
        """Book the earliest legal send time. Blocks."""
        return self._store.book(self.pace, instead_of=instead_of, spread=spread, spend=spend)

    def refund(self, booking: Booking) -> None:
        """Give the credits of a booking back. Blocks."""
        self._store.refund(booking)

    def accepted(self, slot: Slot, rate_headers: Mapping[str, str]) -> RateLimit | None:
        """
        Read the headers of an answer; they brake where they say something that our bookings do not explain.

        What they say of the minute may prove that it is a fixed window, which the schedule then uses.

        Waits for nothing: the answer is paid for, and must not get lost on the way to its caller.
        """
        limit = parse(rate_headers)
        if limit is None:
            return None
        self._heed_policies(limit)
        quota = said_of_minute(limit)
        if quota is not None:
            took = time.monotonic() - slot.due
            # A process that is ending takes no new work; a brake is not worth the answer.
            with suppress(RuntimeError):
                self._thread.submit(self._note, slot.at, took, quota)
        return limit

    def _note(self, at: float, took: float, quota: Quota) -> None:
        if not self._store.accepted(at, took, quota):
            _warn_of_others("Claid counted more requests than this schedule booked", shared=self._shared)

    async def refused(self, slot: Slot, rate_headers: Mapping[str, str], retry_after: float | None) -> float | None:
        """Take note of a 429 and brake; return the seconds until another try makes sense, None if nobody said."""
        limit = parse(rate_headers)
        self._heed_policies(limit or RateLimit())
        used_up = used_up_window(limit or RateLimit(), self.pace)
        if not await self.step(partial(self._store.refused, slot.at, self.pace, used_up)):
            _warn_of_others("Claid refused a request that this schedule does not explain", shared=self._shared)
        if retry_after is not None:
            await self.step(partial(self._store.close, retry_after))
            return retry_after
        return used_up.reset if limit else None

    def close(self) -> None:
        """End the thread, once it has done what it was given."""
        self._thread.shutdown(wait=False)

    def _heed_policies(self, limit: RateLimit) -> None:
        """Keep to the limits that the server announces where they are lower, until it announces others."""
        self._announced.note(limit.policies, time.monotonic())
        for window, count in self._announced.lower_than(self._limits, time.monotonic()).items():
            if (window, count) not in self._warned:
                self._warned.add((window, count))
                log.warning(
                    "Claid allows this account %d requests per %g s, less than the connection says; the lower limit is "
                    "kept. Set requests_per_second and requests_per_minute in the connection to your account's limits.",
                    count,
                    window,
                )

    async def step(self, step: Callable[[], T]) -> T:
        """Run what blocks in the thread of this pacer, after what it was given before."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, step)

    async def complete(self, step: Callable[[], object], seconds: float) -> None:
        """Run what blocks as `step` does, also if the wait for it is cancelled or takes longer than this."""
        # A process that is ending takes no new work.
        with suppress(RuntimeError):
            await asyncio.wait({asyncio.wrap_future(self._thread.submit(step))}, timeout=seconds)


_pacers: dict[asyncio.AbstractEventLoop, dict[tuple[str, Path, Place | None, Pace], Pacer]] = {}
_stores: dict[tuple[str, Path, Place | None], Store] = {}
_stores_lock = threading.Lock()
_warned_of_others = False


def pacer(account: str, pace: Pace, folder: Path, place: Place | None = None) -> Pacer:
    """
    Return the pacer of this account for the running event loop.

    The schedule is shared by all of this host; with a `place`, by all that use it.
    """
    loop = asyncio.get_running_loop()
    if loop not in _pacers:
        # list() copies in one step: other threads add theirs meanwhile.
        for ended in [each for each in list(_pacers) if each.is_closed()]:
            _end(_pacers.pop(ended, {}).values())
    pacers = _pacers.setdefault(loop, {})
    kept = (account, folder, place)
    if (*kept, pace) not in pacers:
        with _stores_lock:
            if kept not in _stores:
                _stores[kept] = store_of(*kept)
        pacers[*kept, pace] = Pacer(_stores[kept], pace, shared=place is not None)
    return pacers[*kept, pace]


def store_of(account: str, folder: Path, place: Place | None) -> Store:
    """Make the store of an account: that of this host, before which comes the place of several."""
    if place is None:
        return host_store(account, folder, required=True)
    return HostsFallbackStore(shared_store(place, account, host_of(folder)), host_store(account, folder))


def shared_store(place: Place, account: str, host: str = "") -> SharedStore:
    """Make the store of several hosts; `host` names this one, else this process counts as one of its own."""
    return (RedisStore if place.kind == "redis" else PostgresStore)(place, account, host)


def host_store(account: str, folder: Path, *, required: bool = False) -> Store:
    """
    Make the store of this host: the configured folder, else another of this host, else this process's memory.

    A `required` folder has to be usable at first; the others help if it fails later.
    """
    store: Store = MemoryStore(start_within=LAST_RESORT_SECONDS)
    for each in spare_folders(folder):
        store = FallbackStore(SQLiteStore(each, account), store, share=1.0)
    return FallbackStore(SQLiteStore(folder, account), store, required=required)


def close() -> None:
    """Forget the pacers of the running event loop and end their threads."""
    _end(_pacers.pop(asyncio.get_running_loop(), {}).values())


def _end(pacers: Iterable[Pacer]) -> None:
    for each in pacers:
        each.close()


def _warn_of_others(what: str, *, shared: bool) -> None:
    global _warned_of_others  # noqa: PLW0603
    if not _warned_of_others:
        _warned_of_others = True
        remedy = (
            "Let it use the same pacing_conn_id and the same account in its connection"
            if shared
            else "Set pacing_conn_id in the connection of each, so that they share one pace"
        )
        log.warning(
            "%s: another host, container or user uses this account. %s; or lower requests_per_second and "
            "requests_per_minute to each one's share of the account's limits. On one host, another OS user "
            "(run_as_user) or another [claid] pacing_dir is another schedule, too.",
            what,
            remedy,
        )


def _after_fork() -> None:
    """Start anew in a forked child: a thread of the parent may have held a lock of what it inherited."""
    global _stores_lock  # noqa: PLW0603
    _stores_lock = threading.Lock()
    _stores.clear()
    _pacers.clear()


os.register_at_fork(after_in_child=_after_fork)
