"""
Plans past the machines at hand: many workers on one schedule, in virtual time, by the very rules that tasks book by.

Each worker books, waits for its time, sends, and books again. A booking is a step of the shared store: it takes a round
trip, and is made again if another worker's step came between. What a state of this size really costs is in `booking`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

from airflow_provider_claid.pacing.schedule import Pace, Schedule
from benchmarks.table import show

TOLERANCE = 0.02
SEED = 1
MINUTES = 5
"""Minutes of the account's limits that each plan is for."""

PLANS = (
    (Pace(4, 120), 2),
    (Pace(4, 120), 10),
    (Pace(4, 120), 100),
    (Pace(40, 1_200), 2),
    (Pace(40, 1_200), 10),
    (Pace(40, 1_200), 100),
    (Pace(100, 3_000), 10),
    (Pace(100, 3_000), 100),
)
ROUND_TRIPS = (0.0005, 0.005)


@dataclass
class Outcome:
    """Seconds until the last request left, steps that the store did, and those of them that came too late."""

    seconds: float
    steps: int
    again: int
    missed: int


def main() -> None:
    """Simulate and print the table."""
    rows = []
    for (pace, workers), round_trip in itertools.product(PLANS, ROUND_TRIPS):
        count = pace.per_minute * MINUTES
        found = simulate(pace, workers, round_trip, count)
        ideal = (count - 1) // pace.per_minute * 60 + (count - 1) % pace.per_minute / pace.per_second
        rows.append(
            (f"{pace.per_second:g} and {pace.per_minute:,}", workers, f"{round_trip * 1000:g}", f"{count:,}",
             f"**{ideal / found.seconds:.3f}**", f"{found.again / found.steps:.1%}", f"{found.missed / count:.1%}",
             f"{8 * pace.per_minute * 5 / 1000:,.0f}")
        )  # fmt: skip
    show(
        "Workers on one schedule, simulated",
        ("limits a second and a minute", "workers", "round trip ms", "requests", "**ratio to the ideal**",
         "steps made again", "slots missed", "KB of a state"),
        rows,
        f"Virtual time; the last request to the last of the ideal, {MINUTES} minutes of the limits. A round trip of "
        "0.5 ms is a store in the same rack, of 5 ms one in another zone; it varies by half.",
        "KB of a state: the bookings of five minutes, sent with each step.",
    )  # fmt: skip


def simulate(pace: Pace, workers: int, round_trip: float, count: int) -> Outcome:
    """Let so many workers send `count` requests."""
    luck, schedule, outcome = random.Random(SEED), Schedule(), Outcome(0.0, 0, 0, 0)
    version, left = 0, count
    # What happens when: (time, order, worker, what it does, the version it computed from, its booked time).
    order = itertools.count()
    events: list[tuple[float, int, int, str, int, float | None]] = []

    def later(seconds: float, worker: int, what: str, seen: int, at: float | None) -> None:
        heapq.heappush(events, (now + seconds, next(order), worker, what, seen, at))

    now = 1_000.0
    seen = [0] * workers
    for worker in range(workers):
        later(luck.random() * round_trip, worker, "step", 0, None)
    while events:
        now, _, worker, what, base, at = heapq.heappop(events)
        there_and_back = round_trip * luck.uniform(0.5, 1.5)
        if what == "step":
            outcome.steps += 1
            if base != version:
                # Another one has written since: its answer tells, and the step is made again.
                outcome.again += 1
                later(there_and_back, worker, "step", version, at)
                continue
            booked = schedule.book(now, pace, instead_of=at)
            version += 1
            seen[worker] = version
            later(max(there_and_back / 2, booked - now), worker, "send", version, booked)
        elif at is not None and now > at + TOLERANCE:
            outcome.missed += 1
            later(there_and_back / 2, worker, "step", seen[worker], at)
        elif left:
            left -= 1
            outcome.seconds = now - 1_000.0
            if left >= workers:
                later(there_and_back / 2, worker, "step", seen[worker], None)
    return outcome


if __name__ == "__main__":
    main()
