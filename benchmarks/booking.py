"""The booking step: milliseconds of a store's `book`, alone and with other processes booking."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from airflow_provider_claid.pacing.budget import Spend
from airflow_provider_claid.pacing.schedule import Pace
from benchmarks.places import STORES, place
from benchmarks.table import show
from tests.pacing_stores import Where
from tests.services.processes import ServiceMissingError

STEPS = 300
PAUSE = 0.05
CASES = ((1, 0.0), (4, 0.0), (8, 0.0), (1, PAUSE), (4, PAUSE), (8, PAUSE))
NAMES = {"sqlite": "SQLite", "redis": "Redis", "postgres": "PostgreSQL"}
GOALS = {"sqlite": 0.3, "redis": 1.0, "postgres": 3.0}


def main() -> None:
    """Measure every case and print the table."""
    rows = []
    for store in STORES:
        try:
            rows += [_row(store, processes, pause, spend) for spend in (False, True) for processes, pause in CASES]
        except ServiceMissingError as missing:
            print(f"\n{NAMES[store]} is left out: {missing}")
    goals = ", ".join(f"{NAMES[store]} {goal:g} ms" for store, goal in GOALS.items())
    show(
        "Booking step",
        ("store", "credits", "processes", "pause between bookings", "p50 ms", "p99 ms"),
        rows,
        f"{STEPS} bookings per process on a schedule that holds a full minute; goals for p50: {goals}.",
        "Without a pause, processes do nothing but book; a real account books at most four times a second.",
        "With credits (`daily_credits`), SQLite and PostgreSQL wait for the disk. All servers on this machine.",
    )


def _row(store: str, processes: int, pause: float, spend: bool) -> tuple[object, ...]:
    taken = sorted(measured(store, processes, pause, spend=spend))
    p50, p99 = statistics.median(taken), taken[int(len(taken) * 0.99)]
    between = f"{pause * 1000:.0f} ms" if pause else "none"
    return NAMES[store], "booked" if spend else "none", processes, between, f"{p50:.3f}", f"{p99:.3f}"


def measured(store: str, processes: int, pause: float, *, spend: bool) -> list[float]:
    """Return what each booking of all processes took, in milliseconds."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder, place(store) as server:
        where = Where("benchmark", Path(folder), server)
        _fill(where)
        barrier, results = context.Barrier(processes), context.Queue()
        arguments = (where, pause, Spend(1, 1_000_000) if spend else None, barrier, results)
        started = [context.Process(target=_book, args=arguments) for _ in range(processes)]
        for process in started:
            process.start()
        taken = [one for _ in started for one in results.get(timeout=300)]
        for process in started:
            process.join(10)
    return taken


def _fill(where: Where) -> None:
    """Book a full minute's worth of requests, half a minute ago."""
    booked = [0.2625 * index - 50.0 for index in range(119)]
    where.open()._step(lambda schedule, now, _: schedule.bookings.extend(now + each for each in booked))


def _book(where: Where, pause: float, spend: Spend | None, barrier: Barrier, results: Any) -> None:
    """Book again and again, each time instead of the last booking, so that the schedule keeps its length."""
    store, pace, taken = where.open(), Pace(), []
    last = store.book(pace, spend=spend)
    barrier.wait(60)
    for _ in range(STEPS):
        time.sleep(random.uniform(0.5, 1.5) * pause)
        started = time.perf_counter()
        last = store.book(pace, instead_of=last, spend=spend)
        taken.append((time.perf_counter() - started) * 1000)
    results.put(taken)


if __name__ == "__main__":
    main()
