"""Writes the manifest of a batch while it runs, and lets its journal forget what needs nothing more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from airflow_provider_claid.api.errors import ClaidBatchUnfinishedError, ClaidConfigurationError
from airflow_provider_claid.delivery.batch.endings import Line
from airflow_provider_claid.delivery.batch.fence import ASK_EVERY
from airflow_provider_claid.delivery.batch.journal import Journal
from airflow_provider_claid.delivery.batch.manifest import Manifest
from airflow_provider_claid.delivery.store_errors import StoreBusyError, may_be_back
from airflow_provider_claid.delivery.threads import in_thread

log = logging.getLogger(__name__)

SETTLE_EVERY = 15.0
KEEP_TRYING = 20.0
PAUSE = 1.0
GLANCE = 0.1


class Writer:
    """
    Writes lines as they come, several at once where the place of the manifest asks for it.

    `on_fault` hears of what stops it, within seconds of the begin of a later attempt.
    """

    def __init__(self, manifest: Manifest, journal: Journal, on_fault: Callable[[BaseException], None]) -> None:
        self._manifest = manifest
        self._journal = journal
        self._on_fault = on_fault
        self._task: asyncio.Task[None] | None = None
        self._unsettled: list[int] = []
        self._written_at = self._settled_at = self._asked_at = time.monotonic()

    def add(self, line: Line) -> None:
        """Take a line in."""
        self._manifest.add(line)
        if self._task is None:
            self._task = asyncio.create_task(self._write_on())
            self._task.add_done_callback(self._ended)

    async def write(self) -> None:
        """Write all that waits; raises `StoreBusyError`."""
        while self._manifest.pending:
            await self._write_some()

    async def close(self, *, whole: bool) -> None:
        """
        Write what is left; `whole`: and the manifest once more in order.

        Raises `ClaidBatchUnfinishedError` if the store fails for 20 s, or a later attempt has begun: nothing is lost,
        the journal knows it all. A place that is gone, or denied, may be back by then too.
        """
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        until = time.monotonic() + KEEP_TRYING
        while True:
            try:
                await self.write()
                await self._settle()
                if whole:
                    await in_thread(self._manifest.finish)
            except StoreBusyError as busy:
                if time.monotonic() > until:
                    message = f"The manifest {self._manifest.uri} cannot be written: {busy}. A retry writes it"
                    raise ClaidBatchUnfinishedError(message, billed="yes") from busy
                await asyncio.sleep(PAUSE)
            except ClaidConfigurationError as fault:
                if time.monotonic() > until or not may_be_back(fault):
                    raise
                await asyncio.sleep(PAUSE)
            else:
                return

    async def _write_on(self) -> None:
        while True:
            try:
                if time.monotonic() > self._asked_at + ASK_EVERY:
                    await in_thread(self._manifest.go_on)
                    self._asked_at = time.monotonic()
                if self._is_due():
                    await self._write_some()
                if time.monotonic() > self._settled_at + SETTLE_EVERY:
                    await self._settle()
            except StoreBusyError as busy:
                log.warning("The manifest waits: %s", busy)
                await asyncio.sleep(PAUSE)
            await asyncio.sleep(GLANCE)

    def _is_due(self) -> bool:
        waiting, since = self._manifest.pending, time.monotonic() - self._written_at
        return waiting >= self._manifest.most or (waiting > 0 and since > self._manifest.patience)

    async def _write_some(self) -> None:
        items = await in_thread(self._manifest.write)
        self._unsettled += [item for item in items if self._manifest.is_final(item)]
        self._written_at = time.monotonic()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._on_fault(fault)

    async def _settle(self) -> None:
        if self._unsettled:
            await in_thread(self._journal.settle, self._unsettled)
        self._unsettled, self._settled_at = [], time.monotonic()
