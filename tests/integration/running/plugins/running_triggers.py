"""Triggers for the tests' Dags: a triggerer imports from the plugins folder, and not from the Dags folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent


class LinesTrigger(BaseEventTrigger):
    """
    Fire one event for each line that is added to a file, across restarts.

    The number of lines read is kept in the asset's state store and, at each start, written to `<file>.starts`. A line
    `raise` ends the trigger with an error.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"path": self.path}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # A triggerer's first question to a state store stops it for seconds: not asked before there is a file.
        while not (lines := self._lines()):
            await asyncio.sleep(0.1)
        read = await self.asset_state_store.aget("lines_read", default=0)
        self._note_start(read)
        while True:
            for line in lines[read:]:
                read += 1
                await self.asset_state_store.aset("lines_read", read)
                if line == "raise":
                    raise RuntimeError("told to raise")
                yield TriggerEvent({"line": line, "number": read})
            await asyncio.sleep(0.1)
            lines = self._lines()

    def _note_start(self, read: int) -> None:
        with Path(f"{self.path}.starts").open("a") as starts:
            starts.write(f"{read}\n")

    def _lines(self) -> list[str]:
        path = Path(self.path)
        return path.read_text().splitlines() if path.exists() else []
