"""Everything a running sandbox knows, in one place."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_claid.sandbox.accounts import Accounts
from airflow_provider_claid.sandbox.faults import FaultBook
from airflow_provider_claid.sandbox.pictures import PictureStore
from airflow_provider_claid.sandbox.report import NEWEST, Report
from airflow_provider_claid.sandbox.storages import Storages
from airflow_provider_claid.sandbox.wire import Wire
from airflow_provider_claid.sandbox.writing import StorageWriter

if TYPE_CHECKING:
    from airflow_provider_claid.sandbox.settings import Settings


class State:
    """Settings, accounts, storages, pictures, faults, report and connections; touched by the server's loop only."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = asyncio.Event()
        self.storages = Storages(settings.storages)
        self.writer = StorageWriter(settings.s3_endpoint)
        self.report = Report()
        self.pictures = PictureStore()
        self.faults = FaultBook(random.Random(settings.seed))
        self.wire = Wire(self)
        self._start_again()

    def _start_again(self) -> None:
        # The wall clock may step back, and fixed windows need full minutes: monotonic time on a wall-clock zero.
        zero = time.time_ns() - time.monotonic_ns()
        self.accounts = Accounts(self.settings, lambda: zero + time.monotonic_ns())
        self.art = random.Random(self.settings.seed)
        self.faults.luck = random.Random(self.settings.seed)
        self._admitted = 0

    def reset(self) -> None:
        """Forget counts, windows, faults and pictures, and give the credits back; settings and storages stay."""
        self.report = Report()
        self.pictures.clear()
        self.faults.clear()
        self._start_again()

    def change(self, changes: dict[str, Any]) -> None:
        """Take over changed settings, or raise a ValueError that names what is wrong."""
        self.settings = self.settings.changed(changes)
        for account in self.accounts.by_name.values():
            account.apply(self.settings, set(changes))

    def describe(self, newest: int = NEWEST) -> dict[str, Any]:
        """Return the report, and what each account has left, as plain JSON."""
        accounts = {name: {"credits_left": account.credits_left} for name, account in self.accounts.by_name.items()}
        return {**self.report.describe(newest), "accounts": accounts}

    def next_latency(self) -> float:
        """Return the seconds that the next admitted generation takes, the same for each seed and index."""
        self._admitted += 1
        low, high = self.settings.latency
        if low == high or self.settings.seed is None:
            return random.uniform(low, high)
        return random.Random(self.settings.seed * 1_000_003 + self._admitted).uniform(low, high)

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the sandbox runs."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            pass
