"""Stores of a schedule for the one suite that all of them must pass, opened as often as a test likes."""

from __future__ import annotations

import multiprocessing
import random
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from airflow_provider_claid.pacing.budget import BudgetError, Spend
from airflow_provider_claid.pacing.owner import MARK, Mark
from airflow_provider_claid.pacing.pacer import shared_store
from airflow_provider_claid.pacing.place import Place
from airflow_provider_claid.pacing.schedule import MINUTE, Pace
from airflow_provider_claid.pacing.sqlite import SQLiteStore
from airflow_provider_claid.pacing.store import MemoryStore

_memories = {}


def age_mark(folder, seconds):
    """Let the machine that used a pacing folder last have been silent for so long."""
    mark = Mark.load((folder / MARK).read_text())
    (folder / MARK).write_text(replace(mark, at=mark.at - seconds).dump())


@dataclass(frozen=True)
class Where:
    """An account's schedule: in a folder, at a place, or in this process's memory."""

    account: str
    folder: Path | None = None
    place: Place | None = None

    def open(self):
        """Return a client of its own; of a memory, the only one."""
        if self.place is not None:
            return shared_store(self.place, self.account)
        if self.folder is not None:
            return SQLiteStore(self.folder, self.account)
        return _memories.setdefault(self.account, MemoryStore())


@dataclass(frozen=True)
class Load:
    """What one client does: so many bookings in turn, some of them missed, some given back, all of this by dice."""

    pace: Pace
    limit: int
    count: int
    seed: int

    def run(self, store):
        """Return the bookings that were kept, and the credits that they cost."""
        dice, kept, credits = random.Random(self.seed), [], 0
        for _ in range(self.count):
            spend = Spend(dice.randint(1, 4), self.limit) if dice.random() < 0.6 else None
            with suppress(BudgetError):
                booking = store.book(self.pace, spread=dice.choice((0.0, 0.01)), spend=spend)
                if dice.random() < 0.2:
                    booking = store.book(self.pace, instead_of=booking, spend=spend)
                if dice.random() < 0.1:
                    store.refund(booking)
                else:
                    credits += booking.credits
                kept.append(booking)
        return kept, credits


def in_threads(clients, loads):
    """Run each load on its client, all at once."""
    results, threads = [], []
    for client, load in zip(clients, loads, strict=True):
        threads.append(threading.Thread(target=lambda client=client, load=load: results.append(load.run(client))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(loads), "a client has failed"
    return [booking for kept, _ in results for booking in kept], sum(credits for _, credits in results)


def in_processes(where, loads):
    """Run each load in a process of its own, all at once."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(loads)) as pool:
        results = pool.map(_run, [(where, load) for load in loads], chunksize=1)
    return [booking for kept, _ in results for booking in kept], sum(credits for _, credits in results)


def _run(arguments):
    where, load = arguments
    return load.run(where.open())


def assert_paced(bookings, pace):
    """Check that both rules hold for what was booked."""
    times, error = sorted(booking.at for booking in bookings), 1e-5
    assert all(later - earlier >= 1.05 / pace.per_second - error for earlier, later in pairwise(times))
    most = pace.per_minute
    assert all(times[i + most] - times[i] >= MINUTE - error for i in range(len(times) - most))
