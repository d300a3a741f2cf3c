"""How far a batch is: a line for the log, and numbers for metrics."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from airflow_provider_claid.delivery.batch.endings import Counts
from airflow_provider_claid.delivery.batch.rules import describe
from airflow_provider_claid.pacing.schedule import Pace

WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Snapshot:
    """A batch at one moment: items done, in all, and under way; items a second of the last minute; seconds left."""

    counts: Counts
    under_way: int
    rate: float
    left: float | None

    def line(self, pace: Pace) -> str:
        """Say it in one line of a log."""
        done, total = self.counts.done, self.counts.total
        left = "" if self.left is None else f", about {timedelta(seconds=round(self.left))} left"
        allowed = min(pace.per_second, pace.per_minute / 60)
        return (
            f"{done:,} of {total:,} items are done ({done / total:.0%}), {self.under_way} under way, "
            f"{self.rate:.2f} a second (the account's pace is {allowed:.2f}){left}: {describe(self.counts)}"
        )


class Progress:
    """Measures how fast items end; the caller brings the clock, in seconds."""

    def __init__(self, now: float, done: int) -> None:
        self._moments: deque[tuple[float, int]] = deque([(now, done)])

    def snapshot(self, now: float, counts: Counts, under_way: int) -> Snapshot:
        """Take note of where the batch is, and tell."""
        self._moments.append((now, counts.done))
        while len(self._moments) > 2 and self._moments[1][0] <= now - WINDOW_SECONDS:
            self._moments.popleft()
        since, before = self._moments[0]
        rate = (counts.done - before) / (now - since) if now > since else 0.0
        left = (counts.total - counts.done) / rate if rate > 0 and counts.done < counts.total else None
        return Snapshot(counts, under_way, max(0.0, rate), left)
