"""
The manifest of a batch: JSONL, a line for each item that has ended; at the end one for each, in the prompts' order.

Everything but `add` and what tells of one item blocks: call it in a thread.
"""

from __future__ import annotations

import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import IO, Any

from airflow_provider_claid.api.errors import ClaidRecordsError
from airflow_provider_claid.delivery.batch.endings import ENDINGS, FINAL, Counts, Line, Mark
from airflow_provider_claid.delivery.batch.fence import Fence
from airflow_provider_claid.delivery.batch.journal import another_batch
from airflow_provider_claid.delivery.batch.sinks import Sink

NONE = len(ENDINGS)

CLOSE_SECONDS = 1.0

MOST = 500
"""Lines that are written at once at the most."""


class Manifest:
    """
    The lines of one batch of `total` items. The latest line of an item counts, and none after its last one (`FINAL`).

    All lines are kept in a temporary file of this process, and of each item in memory a few bytes: so a batch of any
    size is written in order. Only the attempt that has begun it last writes it.
    """

    def __init__(self, sink: Sink, batch: str, total: int) -> None:
        self._sink = sink
        self._batch = batch
        self._endings = bytearray([NONE]) * total
        self._credits = array("q", bytes(8 * total))
        self._doubtful = bytearray(total)
        self._places = array("q", bytes(8 * total))
        self._moments = array("d", bytes(8 * total))
        self._spool: IO[bytes] = tempfile.TemporaryFile(prefix="claid-manifest-")  # noqa: SIM115 - closed by `close`
        self._pending: list[tuple[int, bytes]] = []
        self._adding = threading.Lock()
        """Held for moments, by whoever adds or reads a line: an event loop does."""
        self._writing = threading.Lock()
        self._fence: Fence | None = None
        self._in_order = True
        """Whether what is at the address has one line for each item that has one, in order."""
        self.counts = Counts(total)
        self.seconds = 0.0
        """Seconds that writing has taken so far."""

    @property
    def uri(self) -> str:
        """Where the manifest is."""
        return self._sink.uri

    @property
    def patience(self) -> float:
        """Seconds for which lines may wait to be written together."""
        return self._sink.patience

    @property
    def most(self) -> int:
        """Lines that are written without waiting for more."""
        return MOST if self._sink.grows else self.counts.total + 1

    @property
    def overtaken(self) -> bool:
        """Whether it was found out that a later attempt has begun."""
        return self._fence is not None and self._fence.overtaken

    @property
    def is_finished(self) -> bool:
        """Whether nothing will be written any more: no item needs anything, and all lines are in order."""
        return self.counts.is_final and self._in_order

    def open(self) -> None:
        """Read what earlier attempts have written; raises `ClaidInputError` for the manifest of another batch."""
        last = -1
        for raw in self._sink.lines():
            try:
                mark = Mark.read(raw)
            except (LookupError, TypeError, ValueError) as fault:
                message = f"A line of the manifest {self.uri} cannot be read ({fault}): {raw[:80]!r}. Mend or delete it"
                raise ClaidRecordsError(message) from fault
            if mark.batch != self._batch or not 0 <= mark.index < self.counts.total:
                raise another_batch(self.uri, mark.batch, self._batch)
            if (mark.outcome in FINAL, mark.at) >= (self.is_final(mark.index), self._moments[mark.index]):
                self._keep(mark, raw)
            self._in_order, last = self._in_order and mark.index > last, mark.index

    def begin(self, fence: Fence) -> None:
        """
        Write what is known by now, in order, as the attempt of this fence: there is something to read from now on.

        Raises `ClaidBatchUnfinishedError`, as `write` and `finish` do, once a later attempt has begun.
        """
        self._fence = fence
        self._write_whole()

    def go_on(self) -> None:
        """Raise `ClaidBatchUnfinishedError` if a later attempt had begun some seconds ago."""
        self._fenced.go_on()

    def ending(self, index: int) -> str | None:
        """Return how an item ended; None if it has not."""
        found = self._endings[index]
        return None if found == NONE else ENDINGS[found]

    def credits(self, index: int) -> int:
        """Return what an item has cost by its line."""
        return self._credits[index]

    def line(self, index: int) -> Line | None:
        """Return the line of an item; None if it has none."""
        return None if self.ending(index) is None else Line.unpacked(self._raw(index))

    def is_final(self, index: int) -> bool:
        """Tell whether an item needs nothing more."""
        return self.ending(index) in FINAL

    def add(self, line: Line) -> None:
        """Take a line in; it is written by the next `write`."""
        # The clock of this machine may be behind that of the one which wrote the line before.
        at = max(line.at, datetime.fromtimestamp(self._moments[line.index], UTC))
        line = replace(line, at=at)
        raw = line.packed(self._batch)
        with self._adding:
            moment = line.at.timestamp()
            self._keep(Mark(self._batch, line.index, line.outcome, line.credits, moment, line.submissions), raw)
            self._pending.append((line.index, raw))

    @property
    def pending(self) -> int:
        """Lines that are not written yet."""
        return len(self._pending)

    def write(self) -> list[int]:
        """Write pending lines durably, and return their items; what cannot be written stays pending."""
        # One at a time: a write goes on in its thread when whoever waited for it is cancelled.
        with self._writing:
            with self._adding:
                lines = self._pending[: self.most]
            if lines:
                begun = time.monotonic()
                self._put([raw for _, raw in lines])
                self.seconds += time.monotonic() - begun
                with self._adding:
                    del self._pending[: len(lines)]
        return [index for index, _ in lines]

    def finish(self) -> None:
        """Write the manifest once more, whole: a line for each item that has one, in the order of the prompts."""
        with self._writing:
            if not self._in_order:
                begun = time.monotonic()
                self._write_whole()
                self.seconds += time.monotonic() - begun

    def read(self) -> Iterator[bytes]:
        """Yield the line of each item that has one, in the order of the prompts."""
        for index, ending in enumerate(self._endings):
            if ending != NONE:
                yield self._raw(index)

    def _put(self, lines: list[bytes]) -> None:
        if self._sink.grows:
            self._fenced.go_on()
            self._in_order = False
            self._sink.append(lines)
        else:
            self._write_whole()

    def _write_whole(self) -> None:
        self._sink.replace(self.read(), self._fenced.require_latest)
        self._in_order = True

    @property
    def _fenced(self) -> Fence:
        if self._fence is None:
            raise RuntimeError("A manifest is written by an attempt that has begun.")
        return self._fence

    def _raw(self, index: int) -> bytes:
        with self._adding:
            self._spool.seek(self._places[index])
            return self._spool.readline()

    def summary(self) -> dict[str, Any]:
        """Return where the manifest is, how many items ended how, and what they cost at most: plain JSON for XCom."""
        counts = self.counts
        return {"manifest": self.uri, "total": counts.total, **counts.endings, "credits": counts.credits}

    def close(self) -> None:
        """Let go of the files; of one that a thread still writes into, the end of the process does."""
        if self._writing.acquire(timeout=CLOSE_SECONDS):
            try:
                self._sink.close()
            finally:
                self._writing.release()
        with suppress(OSError):
            self._spool.close()

    def _keep(self, mark: Mark, raw: bytes) -> None:
        counts, old = self.counts, self.ending(mark.index)
        if old is not None:
            counts.endings[old] -= 1
        counts.endings[mark.outcome] += 1
        counts.credits += mark.credits - self._credits[mark.index]
        counts.doubtful += (mark.submissions > 1) - self._doubtful[mark.index]
        self._endings[mark.index] = ENDINGS.index(mark.outcome)
        self._credits[mark.index] = mark.credits
        self._doubtful[mark.index] = mark.submissions > 1
        self._moments[mark.index] = mark.at
        self._places[mark.index] = self._spool.seek(0, 2)
        self._spool.write(raw)
