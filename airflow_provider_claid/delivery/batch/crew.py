"""The jobs of a batch that are under way: how many may be, and how they end when the batch stops."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from airflow_provider_claid.api.bill import Bill
from airflow_provider_claid.delivery.batch.rules import Width

log = logging.getLogger(__name__)

BESIDE = 64
"""Jobs that may be busy with their pictures while as many as the pace allows are paying."""

GLANCE = 0.1


class Crew:
    """Tasks, each with the bill of its job. A job pays until it says `paid`, then copies."""

    def __init__(self, width: Width, on_fault: Callable[[BaseException], None]) -> None:
        self._width = width
        self._on_fault = on_fault
        self._tasks: dict[asyncio.Task[None], Bill] = {}
        self._paying: set[Bill] = set()
        self._changed = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Tell whether one more job may begin."""
        return len(self._paying) < self._width.limit and len(self._tasks) < self._width.limit + BESIDE

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is under way."""
        return not self._tasks

    def wake(self) -> None:
        """Let `until` look again."""
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that jobs bring about, or whoever calls `wake`."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def start(self, work: Coroutine[Any, Any, None], bill: Bill) -> None:
        """Begin a job."""
        task = asyncio.create_task(work)
        self._tasks[task] = bill
        self._paying.add(bill)
        task.add_done_callback(self._ended)

    def paid(self, bill: Bill, seconds: float) -> None:
        """Make room for another request: this one has been answered, so many seconds after it asked for its turn."""
        self._paying.discard(bill)
        if bill.waits:
            self._width.note(max(0.0, seconds - bill.waits[-1]))
        self.wake()

    def let_go(self) -> None:
        """Cancel the jobs whose request has not left."""
        for task, bill in self._tasks.items():
            if bill in self._paying and not bill.waits:
                task.cancel()

    async def collect(self, until: Callable[[], float]) -> None:
        """Wait for what is under way, to its end or until a moment in monotonic seconds, which may change meanwhile."""
        while self._tasks and time.monotonic() < until():
            await asyncio.wait(list(self._tasks), timeout=GLANCE)

    async def abandon(self) -> None:
        """Cancel what is still under way: each notes in its record that its outcome is unknown."""
        rest = list(self._tasks)
        for task in rest:
            # Once: a second one would interrupt the note. Where the loop is closed, all have had theirs.
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._paying.discard(self._tasks.pop(task))
        self.wake()
        if not task.cancelled() and (fault := task.exception()) is not None:
            if isinstance(fault, Exception):
                log.error("A job of the batch failed in an unforeseen way.", exc_info=fault)
            self._on_fault(fault)
