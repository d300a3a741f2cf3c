"""A batch: all its items in one event loop, each paid once and brought to where it lasts."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from airflow_provider_claid.api.bill import Bill, opened_bill
from airflow_provider_claid.api.errors import (
    Billed,
    ClaidBatchUnfinishedError,
    ClaidBudgetError,
    ClaidConfigurationError,
    ClaidError,
)
from airflow_provider_claid.api.models import CREDITS_PER_IMAGE
from airflow_provider_claid.delivery.batch.crew import Crew
from airflow_provider_claid.delivery.batch.endings import FINAL, Counts, Line
from airflow_provider_claid.delivery.batch.journal import Journal
from airflow_provider_claid.delivery.batch.manifest import Manifest
from airflow_provider_claid.delivery.batch.outcome import credits_of, line_of, line_without
from airflow_provider_claid.delivery.batch.progress import Progress, Snapshot
from airflow_provider_claid.delivery.batch.rules import Allowance, Breaker, Width, verdict
from airflow_provider_claid.delivery.batch.writer import Writer
from airflow_provider_claid.delivery.checks import OnFiltered
from airflow_provider_claid.delivery.job import ImageJob, deliver, order, require_readable
from airflow_provider_claid.delivery.prompts.source import Item
from airflow_provider_claid.delivery.records.ledger import Ledger
from airflow_provider_claid.delivery.records.submission import Submission, note
from airflow_provider_claid.delivery.stop import Stop
from airflow_provider_claid.delivery.storage import Folder
from airflow_provider_claid.delivery.store_errors import StoreBusyError, is_unknown_caller
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.pacing.schedule import Pace

log = logging.getLogger(__name__)

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

    The pictures that Claid keeps for a day are copied into `folder`, None where it stores them itself.
    `duplicates` maps an item to the earlier one whose pictures it gets. `max_credits` is what the batch may cost in
    all, over all attempts. `killed` is the wish of Airflow that it end. `report` is told of the bill of each item,
    `show` how far the batch is, every 10 s.
    """

    items: Iterable[Item]
    job_of: Callable[[Item], ImageJob]
    folder: Folder | None
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
    work = _Run(batch)
    try:
        try:
            await work.to_its_end()
        finally:
            await work.close()
        counts, again = batch.manifest.counts, work.again or batch.killed.asked
        error = verdict(counts, batch.allowance, batch.on_filtered, work.cause, again=again, uri=batch.manifest.uri)
        if error is not None:
            raise error
    except ClaidError as fault:
        # Whatever one item, or the store, said of itself: this is the end of all of them.
        fault.billed = work.billed
        if isinstance(fault, ClaidConfigurationError) and is_unknown_caller(fault):
            # They were good when the batch began. A retry looks them up anew, and asks the store before it pays.
            message = f"{fault.message} They have expired, most likely: a retry goes on with new ones"
            raise ClaidBatchUnfinishedError(message, billed=fault.billed) from fault
        raise
    return counts


class _Run:
    def __init__(self, batch: Batch) -> None:
        self.cause: ClaidError | None = None
        """Why nothing more is sent."""
        self.again = False
        """Whether a later attempt can do more for an item that failed."""
        self._batch = batch
        self._folder = batch.folder
        self._stop = Stop(above=batch.killed, held=self._is_held)
        self._is_readable = False
        self._crew = Crew(Width(batch.pace), self._on_fault)
        self._breaker = Breaker()
        self._writer = Writer(batch.manifest, batch.journal, self._on_fault)
        self._progress = Progress(time.monotonic(), batch.manifest.counts.done)
        self._copying = asyncio.Semaphore(COPIES)
        self._under_way: dict[int, Item] = {}
        self._unkept: dict[int, Ledger] = {}
        """Of the items whose end the records did not take: only their lines and this process know it."""
        self._interruption: BaseException | None = None
        self._killed_at = math.inf
        # Of each item, what is recorded beyond its line in the manifest.
        self._recorded = {
            index: credits_of(batch.journal.known(index)) - batch.manifest.credits(index)
            for index in batch.journal.items()
        }
        self._booked = sum(self._recorded.values())

    async def to_its_end(self) -> None:
        """Begin everything, and wait for its end; of a batch that is stopped, for the answers that are on their way."""
        watch = asyncio.create_task(self._watch())
        watch.add_done_callback(self._watched)
        asyncio.get_running_loop().set_exception_handler(self._on_lost_exception)
        try:
            await self._begin_everything()
            await self._crew.until(lambda: self._crew.is_idle or self._is_stopped)
            if self._is_stopped:
                self._crew.let_go()
                await self._crew.collect(self._until)
        finally:
            asyncio.get_running_loop().set_exception_handler(None)
            watch.cancel()
            await self._crew.abandon()
        if self._interruption is not None:
            raise self._interruption

    async def close(self) -> None:
        """Write what is left to say of each item, and the manifest in order, unless it is a later attempt's by now."""
        try:
            await self._write_all()
        except ClaidBatchUnfinishedError as fault:
            if not self._batch.manifest.overtaken:
                raise
            # Whatever else stopped this attempt, it is not for Airflow to end the task by.
            self.cause = fault

    async def _write_all(self) -> None:
        batch = self._batch
        self._show()
        for item in self._under_way.values():
            self._conclude(item)
        if batch.killed.asked:
            # There may be no time for all that was not begun.
            with suppress(StoreBusyError, ClaidConfigurationError):
                await self._writer.write()
        if not batch.manifest.counts.is_final:
            async for item in _chunks(batch.items):
                self._conclude(item)
        try:
            await self._writer.close(whole=not batch.killed.asked)
        finally:
            await self._offer_again()

    async def _offer_again(self) -> None:
        """Offer the records once more what they did not take when it came: without it a retry cannot deliver it."""
        for ledger in self._unkept.values():
            last = ledger.last
            if last is None or last.result is None or not await ledger.keep(last.number, last.result):
                return
            self.again = True

    @property
    def billed(self) -> Billed:
        """What the batch has cost so far, over all its attempts, as far as manifest and records tell."""
        counts, journal = self._batch.manifest.counts, self._batch.journal
        known = {each.billed for index in journal.items() for each in journal.known(index)}
        if "unknown" in known or counts.endings["unknown"]:
            return "unknown"
        return "yes" if "yes" in known or counts.credits else "no"

    @property
    def _is_stopped(self) -> bool:
        return self._stop.is_asked or self._interruption is not None

    def _until(self) -> float:
        """Return the moment until which answers are waited for, in monotonic seconds."""
        return self._killed_at + COLLECT_SECONDS

    def _conclude(self, item: Item) -> None:
        """Say how an item stands whose job did not come to its end, unless its line says that already."""
        manifest, first = self._batch.manifest, self._batch.duplicates.get(item.index)
        is_told = item.index in self._unkept and item.index not in self._under_way
        if is_told or manifest.is_final(item.index):
            return
        if first is not None and (line := manifest.line(first)):
            self._writer.add(replace(line, index=item.index, id=item.id, credits=0, submissions=0, duplicate_of=first))
            return
        line = line_without(item, self._batch.journal.known(item.index), None)
        said = manifest.ending(item.index), manifest.credits(item.index)
        if said[0] is None or (line.outcome != "not_started" and (line.outcome, line.credits) != said):
            self._writer.add(self._with_addresses(line))

    def _with_addresses(self, line: Line) -> Line:
        """Leave in a line what the one before knows of pictures: perhaps nothing else tells where they are."""
        before = None if line.images else self._batch.manifest.line(line.index)
        if before is None or not before.images:
            return line
        return replace(line, images=before.images, request_id=line.request_id or before.request_id)

    async def _begin_everything(self) -> None:
        """
        Begin what is recorded as paid, whose addresses die; then the rest; last what is to wait for another attempt.

        A fault, of the prompts' file say, stops the batch as one of a job does.
        """
        known = {index: self._batch.journal.known(index) for index in self._recorded}
        paid = {index for index, each in known.items() if _is_paid(each)}
        late = {index for index, each in known.items() if any(one.state == "open" for one in each)} - paid
        try:
            if paid:
                await self._begin_all(lambda item: item.index in paid)
            await self._begin_all(lambda item: item.index not in paid | late)
            if late:
                await self._begin_all(lambda item: item.index in late)
        except asyncio.CancelledError:
            raise
        except BaseException as fault:
            if isinstance(fault, Exception):
                log.exception("The batch cannot go on.")
            self._on_fault(fault)

    async def _begin_all(self, wanted: Callable[[Item], bool]) -> None:
        async for item in _chunks(self._batch.items):
            if self._is_stopped:
                return
            if (
                wanted(item)
                and item.index not in self._batch.duplicates
                and not self._batch.manifest.is_final(item.index)
            ):
                await self._begin(item)

    async def _begin(self, item: Item) -> None:
        crew, job = self._crew, replace(self._batch.job_of(item), stop=self._stop)
        if not self._is_readable:
            await require_readable(job)
            self._is_readable = True
        cost = self._cost(item, job)
        # What is under way may turn out to cost nothing.
        await crew.until(lambda: self._is_stopped or (crew.has_room and (self._is_affordable(cost) or crew.is_idle)))
        if self._is_stopped:
            return
        if not self._is_affordable(cost):
            spent, limit = self._batch.manifest.counts.credits + self._booked, self._batch.max_credits
            most = "up to " if self._batch.manifest.counts.is_at_most or self.billed == "unknown" else ""
            message = (
                f"max_credits: {most}{spent} of the {limit} credits of this batch are spent, too many for {cost} more"
            )
            self._stop_for(ClaidBudgetError(f"{message}. Raise max_credits and clear the task to go on"))
            return
        bill = Bill()
        self._booked += cost
        self._under_way[item.index] = item
        crew.start(self._bring(item, job, bill, cost), bill)

    async def _bring(self, item: Item, job: ImageJob, bill: Bill, cost: int) -> None:
        known = self._batch.journal.known
        error: ClaidError | None = None
        with opened_bill(bill):
            try:
                begun = time.monotonic()
                paid = await order(job)
                self._crew.paid(bill, time.monotonic() - begun)
                async with self._copying:
                    result = await deliver(job, paid, self._batch.folder)
                line, error = line_of(item, result, known(item.index), self._batch.on_filtered)
            except ClaidError as fault:
                # It may have struck before the records were asked.
                for each in known(item.index):
                    note(each)
                bill.correct(fault)
                line, error = line_without(item, known(item.index), fault), fault
            finally:
                self._booked -= cost + self._recorded.pop(item.index, 0)
                self._batch.report(bill)
                if job.ledger is not None and job.ledger.unkept is not None and job.ledger.unkept.outcome != "unknown":
                    self._unkept[item.index] = job.ledger
        if line.outcome in FINAL:
            self._unkept.pop(item.index, None)
        self._writer.add(self._with_addresses(line))
        del self._under_way[item.index]
        self.again = self.again or (error is not None and error.retryable)
        if self._is_held():
            await self._prove_again()
        if not self._is_stopped and (cause := self._breaker.cause(error, bill.billed)):
            self._stop_for(cause)

    def _is_held(self) -> bool:
        """Tell whether the store has refused a picture since it was last proven that it takes them."""
        return self._folder is not None and not self._folder.is_proven

    async def _prove_again(self) -> None:
        """Ask the store again before anything more is paid; what it says then stops the batch."""
        try:
            if self._folder is not None:
                await in_thread(self._folder.prove)
        except ClaidError as fault:
            fault.billed = "yes"
            self._stop_for(fault)

    def _cost(self, item: Item, job: ImageJob) -> int:
        """Return what an item can cost beyond what is recorded of it, in credits."""
        known, most = self._batch.journal.known(item.index), job.ledger.asked.max_submissions if job.ledger else 1
        used_up = sum(each.state in {"open", "unknown"} for each in known) >= most
        return 0 if used_up or _is_paid(known) else item.request.options.number_of_images * CREDITS_PER_IMAGE

    def _is_affordable(self, cost: int) -> bool:
        limit = self._batch.max_credits
        return limit is None or not cost or self._batch.manifest.counts.credits + self._booked + cost <= limit

    def _stop_for(self, cause: ClaidError) -> None:
        self.cause = self.cause or cause
        self._stop.asked = True
        self._crew.wake()

    def _on_fault(self, fault: BaseException) -> None:
        if isinstance(fault, ClaidError):
            self._stop_for(fault)
        elif isinstance(fault, Exception):
            error = ClaidError(f"{type(fault).__name__}: {fault}", billed="unknown")
            error.__cause__ = fault
            self._stop_for(error)
        else:
            # A signal handler of Airflow (its timeout) raises in whatever runs: not always where it would be heard.
            self._interruption = self._interruption or fault
            self._batch.killed.asked = True
            self._note_kill()

    def _on_lost_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        fault = context.get("exception")
        if fault is None or isinstance(fault, Exception):
            loop.default_exception_handler(context)
        else:
            self._on_fault(fault)

    def _note_kill(self) -> None:
        self._killed_at = min(self._killed_at, time.monotonic())
        self._crew.wake()

    async def _watch(self) -> None:
        """Look several times a second whether a signal handler said stop; tell now and then how far the batch is."""
        shown_at = time.monotonic()
        while True:
            if self._batch.killed.asked:
                self._note_kill()
            if time.monotonic() > shown_at + LOG_EVERY:
                shown_at = time.monotonic()
                self._show()
            await asyncio.sleep(GLANCE)

    def _watched(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and (fault := watch.exception()) is not None:
            self._on_fault(fault)

    def _show(self) -> None:
        counts = self._batch.manifest.counts
        self._batch.show(self._progress.snapshot(time.monotonic(), counts, self._stop.under_way))


def _is_paid(known: Iterable[Submission]) -> bool:
    return any(each.delivered for each in known)


async def _chunks(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Yield items that are read in a thread, some at once."""
    iterator = iter(items)
    while some := await in_thread(_next, iterator):
        for item in some:
            yield item


def _next(items: Iterator[Item]) -> list[Item]:
    return list(islice(items, AT_ONCE))
