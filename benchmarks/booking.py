"""The booking step: milliseconds of `SQLiteStore.book`, alone and with other processes booking."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.sqlite import SQLiteStore
from benchmarks.table import show

STEPS = 300
PAUSE = 0.05
CASES = ((1, 0.0), (4, 0.0), (8, 0.0), (1, PAUSE), (4, PAUSE), (8, PAUSE))


def main() -> None:
    """Measure every case and print the table."""
    rows = []
    for processes, pause in CASES:
        taken = sorted(measured(processes, pause))
        p50, p99 = statistics.median(taken), taken[int(len(taken) * 0.99)]
        rows.append((processes, f"{pause * 1000:.0f} ms" if pause else "none", f"{p50:.3f}", f"{p99:.3f}"))
    show(
        "Booking step, SQLite",
        ("processes", "pause between bookings", "p50 ms", "p99 ms"),
        rows,
        f"{STEPS} bookings per process on a schedule that holds a full minute; goal: p50 at most 0.3 ms.",
        "Without a pause, processes do nothing but book; a real account books at most four times a second.",
    )


def measured(processes: int, pause: float) -> list[float]:
    """Return what each booking of all processes took, in milliseconds."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder:
        _fill(Path(folder))
        barrier, results = context.Barrier(processes), context.Queue()
        arguments = (Path(folder), pause, barrier, results)
        started = [context.Process(target=_book, args=arguments) for _ in range(processes)]
        for process in started:
            process.start()
        taken = [one for _ in started for one in results.get(timeout=300)]
        for process in started:
            process.join(10)
    return taken


def _fill(folder: Path) -> None:
    """Book a full minute's worth of requests, half a minute ago."""
    booked = [0.2625 * index - 50.0 for index in range(119)]
    store = SQLiteStore(folder, "benchmark")
    store._step(lambda schedule, now, _: schedule.bookings.extend(now + each for each in booked))


def _book(folder: Path, pause: float, barrier: Barrier, results: Any) -> None:
    """Book again and again, each time instead of the last booking, so that the schedule keeps its length."""
    store, pace, taken = SQLiteStore(folder, "benchmark"), Pace(), []
    last = store.book(pace)
    barrier.wait(60)
    for _ in range(STEPS):
        time.sleep(random.uniform(0.5, 1.5) * pause)
        started = time.perf_counter()
        last = store.book(pace, instead_of=last)
        taken.append((time.perf_counter() - started) * 1000)
    results.put(taken)


if __name__ == "__main__":
    main()
