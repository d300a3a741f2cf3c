"""A batch: all its items in one event loop, each paid once and brought to where it lasts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from airflow_provider_claid.api.bill import Bill, opened_bill
from airflow_provider_claid.api.errors import ClaidBudgetError, ClaidError
from airflow_provider_claid.api.models import CREDITS_PER_IMAGE
from airflow_provider_claid.delivery.batch.crew import Crew
from airflow_provider_claid.delivery.batch.endings import Counts
from airflow_provider_claid.delivery.batch.journal import Journal
from airflow_provider_claid.delivery.batch.manifest import Manifest
from airflow_provider_claid.delivery.batch.outcome import credits_of, line_of, line_without
from airflow_provider_claid.delivery.batch.progress import Progress, Snapshot
from airflow_provider_claid.delivery.batch.rules import Allowance, Breaker, Width, verdict
from airflow_provider_claid.delivery.batch.writer import Writer
from airflow_provider_claid.delivery.checks import OnFiltered
from airflow_provider_claid.delivery.job import ImageJob, deliver, order
from airflow_provider_claid.delivery.prompts.source import Item
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.storage import Folder
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.pacing.schedule import Pace

AT_ONCE = 64
"""Items that are read at once."""

COPIES = 16
"""Jobs whose pictures are in memory at once."""

COLLECT_SECONDS = 3.5
"""Seconds for which a killed batch waits for answers: Airflow ends its process 5 s after it was told to stop."""

LOG_EVERY = 10.0
GLANCE = 0.1


@dataclass
class Batch:
    """
    What is asked for: `items` can be read any number of times, `job_of` makes the job of one, with its record.

    `duplicates` maps an item to the earlier one whose pictures it gets. `max_credits` is what the batch may cost in
    all, over all attempts. `killed` is the wish of Airflow that it end. `report` is told of the bill of each item,
    `show` how far the batch is, every 10 s.
    """

    items: Iterable[Item]
    job_of: Callable[[Item], ImageJob]
    open_folder: Callable[[], Folder] | None
    pace: Pace
    journal: Journal
    manifest: Manifest
    on_filtered: OnFiltered = "fail"
    duplicates: Mapping[int, int] = field(default_factory=dict)
    allowance: Allowance = field(default_factory=Allowance)
    max_credits: int | None = None
    killed: Stop = field(default_factory=Stop)
    report: Callable[[Bill], None] = lambda bill: None
    show: Callable[[Snapshot], None] = lambda snapshot: None


async def run(batch: Batch) -> Counts:
    """
    Bring every item to an end, in the manifest; costs 1 credit a picture, none for what is recorded as paid.

    The manifest tells of every item also if the batch fails. Raises the error that stopped the batch, with the counts
    in its message, or `ClaidBatchError` if more items failed than may.
    """
    work = _Run(batch, await in_thread(batch.open_folder) if batch.open_folder else None)
    try:
        await work.to_its_end()
    finally:
        await work.close()
    counts = batch.manifest.counts
    error = verdict(
        counts, batch.allowance, batch.on_filtered, work.cause, again=work.again, uri=batch.manifest.uri
    )  # fmt: skip
    if error is not None:
        raise error
    return counts


class _Run:
    def __init__(self, batch: Batch, folder: Folder | None) -> None:
        self.cause: ClaidError | None = None
        """Why nothing more is sent."""
        self.again = False
        """Whether a later attempt can do more for an item that failed."""
        self._batch = batch
        self._folder = folder
        self._stop = Stop()
        self._crew = Crew(Width(batch.pace), self._on_fault)
        self._breaker = Breaker()
        self._writer = Writer(batch.manifest, batch.journal)
        self._progress = Progress(time.monotonic(), batch.manifest.counts.done)
        self._copying = asyncio.Semaphore(COPIES)
        self._booked = 0

    async def to_its_end(self) -> None:
        """Begin with what is recorded as paid, whose addresses die; then the rest, in order."""
        journal, watch = self._batch.journal, asyncio.create_task(self._watch())
        try:
            begun = frozenset(journal.items())
            if begun:
                await self._begin_all(lambda item: item.index in begun)
            await self._begin_all(lambda item: item.index not in begun)
            await self._crew.until(lambda: self._crew.is_idle or self._stop.asked)
            if self._stop.asked:
                self._crew.let_go()
                await self._crew.collect(lambda: COLLECT_SECONDS if self._batch.killed.asked else None)
        finally:
            watch.cancel()
            await self._crew.abandon()

    async def close(self) -> None:
        """Write what is left to say of each item, and the manifest in order."""
        batch = self._batch
        self._show()
        if batch.manifest.counts.done < batch.manifest.counts.total:
            async for item in _chunks(batch.items):
                self._conclude(item)
        await self._writer.close(whole=not batch.killed.asked)

    def _conclude(self, item: Item) -> None:
        manifest, first = self._batch.manifest, self._batch.duplicates.get(item.index)
        if first is not None and not manifest.is_final(item.index) and (line := manifest.line(first)):
            self._writer.add(replace(line, index=item.index, id=item.id, credits=0, submissions=0, duplicate_of=first))
        elif manifest.ending(item.index) is None:
            self._writer.add(line_without(item, self._batch.journal.known(item.index), None))

    async def _begin_all(self, wanted: Callable[[Item], bool]) -> None:
        async for item in _chunks(self._batch.items):
            if self._stop.asked:
                return
            if (
                wanted(item)
                and item.index not in self._batch.duplicates
                and not self._batch.manifest.is_final(item.index)
            ):
                await self._begin(item)

    async def _begin(self, item: Item) -> None:
        await self._crew.until(lambda: self._crew.has_room or self._stop.asked)
        cost, limit = self._cost(item), self._batch.max_credits
        if limit is not None and (spent := self._batch.manifest.counts.credits + self._booked) + cost > limit:
            message = f"max_credits: {spent} of the {limit} credits of this batch are spent or under way, too many for"
            self._stop_for(ClaidBudgetError(f"{message} {cost} more. Raise max_credits and clear the task to go on"))
        if not self._stop.asked:
            bill = Bill()
            self._booked += cost
            self._crew.start(self._bring(item, bill, cost), bill)

    async def _bring(self, item: Item, bill: Bill, cost: int) -> None:
        job, known = replace(self._batch.job_of(item), stop=self._stop), self._batch.journal.known
        error: ClaidError | None = None
        with opened_bill(bill):
            try:
                begun = time.monotonic()
                paid = await order(job)
                self._crew.paid(bill, time.monotonic() - begun)
                async with self._copying:
                    result = await deliver(job, paid, self._folder)
                line, error = line_of(item, result, known(item.index), self._batch.on_filtered)
            except ClaidError as fault:
                line, error = line_without(item, known(item.index), fault), fault
            finally:
                self._booked -= cost
                self._batch.report(bill)
        self._writer.add(line)
        self.again = self.again or (error is not None and error.retryable)
        if not self._stop.asked and (cause := self._breaker.cause(error)):
            self._stop_for(cause)

    def _cost(self, item: Item) -> int:
        """Return what an item will have cost, over what its line in the manifest says already."""
        known = self._batch.journal.known(item.index)
        more = 0 if any(each.delivered for each in known) else item.request.options.number_of_images * CREDITS_PER_IMAGE
        return credits_of(known) + more - self._batch.manifest.credits(item.index)

    def _stop_for(self, cause: ClaidError) -> None:
        self.cause = self.cause or cause
        self._stop.asked = True
        self._crew.wake()

    def _on_fault(self, fault: BaseException) -> None:
        self._stop_for(ClaidError(f"{type(fault).__name__}: {fault}", billed="unknown"))

    async def _watch(self) -> None:
        """Look several times a second whether a signal handler said stop; tell now and then how far the batch is."""
        shown_at = time.monotonic()
        while True:
            if self._batch.killed.asked:
                self._stop.asked = True
                self._crew.wake()
            if time.monotonic() > shown_at + LOG_EVERY:
                shown_at = time.monotonic()
                self._show()
            await asyncio.sleep(GLANCE)

    def _show(self) -> None:
        counts = self._batch.manifest.counts
        self._batch.show(self._progress.snapshot(time.monotonic(), counts, self._stop.under_way))


async def _chunks(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Yield items that are read in a thread, some at once."""
    iterator = iter(items)
    while some := await in_thread(_next, iterator):
        for item in some:
            yield item


def _next(items: Iterator[Item]) -> list[Item]:
    return list(islice(items, AT_ONCE))
