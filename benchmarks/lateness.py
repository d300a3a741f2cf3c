"""How late an event loop is: something that wants to run every 10 ms, and when it does."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

STEP = 0.01
SHORT = 0.005
"""Seconds of a garbage collection that nobody would see."""


class Lateness:
    """By how many seconds each wake-up came too late, and when; and when Python collected garbage meanwhile."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._seen: list[tuple[float, float]] = []
        self._collections: list[tuple[float, float]] = []
        self._collecting = 0.0

    def longest(self, start: float = 0.0, end: float = float("inf"), *, collections: bool = True) -> float:
        """Return the longest stall that ended between these seconds, or what of it was no garbage collection."""
        within = ((at, late) for at, late in self._seen if start <= at - self._started < end)
        return max((late if collections else self._without(at, late) for at, late in within), default=0.0)

    def p99(self, start: float = 0.0) -> float:
        """Return what 99 of 100 wake-ups were at most late by."""
        late = sorted(late for at, late in self._seen if at - self._started >= start)
        return late[int(len(late) * 0.99)] if late else 0.0

    def _without(self, at: float, late: float) -> float:
        paused = (min(end, at) - max(start, at - late) for start, end in self._collections)
        return late - sum(pause for pause in paused if pause > 0)

    async def watch(self) -> None:
        """Measure until cancelled."""
        gc.callbacks.append(self._collect)
        try:
            while True:
                due = time.monotonic() + STEP
                await asyncio.sleep(STEP)
                now = time.monotonic()
                self._seen.append((now, now - due))
        finally:
            gc.callbacks.remove(self._collect)

    def _collect(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting = time.monotonic()
        elif time.monotonic() - self._collecting > SHORT:
            self._collections.append((self._collecting, time.monotonic()))


@asynccontextmanager
async def lateness() -> AsyncIterator[Lateness]:
    """Measure the running loop."""
    found = Lateness()
    task = asyncio.create_task(found.watch())
    # The first wake-up shows that it runs.
    await asyncio.sleep(3 * STEP)
    try:
        yield found
    finally:
        # A stall up to this moment is still to be seen.
        await asyncio.sleep(3 * STEP)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def run_out(trigger: Any) -> Any:
    """Run an Airflow trigger to its end, as the triggerer does; return its event."""
    events = [event async for event in trigger.run()]
    return events[0]
