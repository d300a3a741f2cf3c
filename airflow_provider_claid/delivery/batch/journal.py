"""
The records of a batch: a log of numbered segments, each created exclusively, so that two attempts share one order.

`<records_path>/<job key>/head` names the batch, `…/000001` and so on hold up to 32 entries each, `…/settled` says
where the next attempt has to begin to read. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from airflow_provider_claid.api.errors import ClaidInputError, ClaidRecordsError
from airflow_provider_claid.delivery.batch.entries import Entry, Known, fingerprint_of, head, packed, unpacked
from airflow_provider_claid.delivery.records.objects import RIGHTS, Objects, create_proven
from airflow_provider_claid.delivery.records.submission import Intent, Result, Submission

MOST = 32
"""Entries of a segment at the most."""

AT_ONCE = 16
"""Segments that are asked for at once while the log is read."""

REFRESH_SECONDS = 1.0
"""Seconds for which what other attempts have written is not asked for again."""


@dataclass
class _Waiting:
    entry: Entry
    done: bool = False
    accepted: bool = False
    error: Exception | None = None


class Journal:
    """
    The log of one batch. Thread-safe: entries that come while one segment is written go into the next one together.

    Raises `StoreBusyError` for what may pass and `ClaidRecordsError` or `ClaidConfigurationError` for what a person
    must mend.
    """

    def __init__(self, objects: Objects, key: str) -> None:
        self._objects = objects
        self._key = key
        self._last = 0
        self._known = Known()
        self._queue: list[_Waiting] = []
        self._queued = threading.Lock()
        self._turn = threading.RLock()
        self._refreshed_at = 0.0

    def where(self, name: str = "") -> str:
        """Return the URI of the log, or of something in it."""
        return f"{self._objects.uri}{self._key}/{name}"

    def open(self, fingerprint: str, total: int, done: Callable[[int], bool]) -> None:
        """
        Begin the log, or read it on behalf of the items that are not `done`.

        Raises `ClaidInputError` if it is of a batch with other prompts.
        """
        begun = create_proven(self._objects, f"{self._key}/head", head(fingerprint, total))
        recorded = fingerprint if begun else fingerprint_of(self._objects.get(f"{self._key}/head"), self.where("head"))
        if recorded != fingerprint:
            raise another_batch(self.where(), recorded, fingerprint)
        with self._turn:
            self._last = self._settled()
            for segment, entries in self._read_on(AT_ONCE):
                for entry in entries:
                    if not done(entry.item):
                        self._known.add(entry, segment, self.where(_name(segment)))

    def known(self, item: int) -> list[Submission]:
        """Return the submissions of an item that is not forgotten, in order."""
        with self._turn:
            return self._known.of(item)

    def items(self) -> list[int]:
        """Return the items, not forgotten ones, of which something is recorded."""
        with self._turn:
            return self._known.items()

    def records(self, item: int) -> ItemRecords:
        """Return the records of an item."""
        return ItemRecords(self, item)

    def append(self, entry: Entry) -> bool:
        """
        Write an entry durably, with what comes meanwhile.

        False for an intent whose number another attempt has taken.
        """
        waiting = _Waiting(entry)
        with self._queued:
            self._queue.append(waiting)
        with self._turn:
            while not waiting.done:
                with self._queued:
                    group, self._queue = self._queue[:MOST], self._queue[MOST:]
                self._write(group)
        if waiting.error is not None:
            raise waiting.error
        return waiting.accepted

    def read(self, item: int, number: int) -> Submission | None:
        """Return a submission, of this attempt or another one, as it stood a second ago at the latest."""
        with self._turn:
            if time.monotonic() > self._refreshed_at + REFRESH_SECONDS:
                for segment, entries in self._read_on(1):
                    self._take(segment, entries)
                self._refreshed_at = time.monotonic()
            return self._known.get(item, number)

    def settle(self, items: list[int]) -> None:
        """Forget items whose lines in the manifest are durable, and note from where on there is something to read."""
        with self._turn:
            for item in items:
                self._known.forget(item)
            oldest = self._known.oldest()
            settled = self._last if oldest is None else oldest - 1
        self._objects.put(f"{self._key}/settled", json.dumps({"segment": settled}).encode())

    def _settled(self) -> int:
        raw = self._objects.get(f"{self._key}/settled")
        return int(json.loads(raw)["segment"]) if raw else 0

    def _write(self, group: list[_Waiting]) -> None:
        try:
            while open_ones := [each for each in group if not self._is_answered(each)]:
                entries = [each.entry for each in open_ones]
                segment, data = self._last + 1, packed(entries)
                if not self._objects.create(f"{self._key}/{_name(segment)}", data):
                    # Another attempt's, or our own if the store has carried it out and answered badly.
                    entries = list(unpacked(self._existing(segment), self.where(_name(segment))))
                self._last = segment
                self._take(segment, entries)
        except Exception as cause:  # noqa: BLE001 - each of those who wait raises it
            for each in group:
                each.error = None if each.done else cause
        finally:
            for each in group:
                each.done = True

    def _is_answered(self, waiting: _Waiting) -> bool:
        """Tell whether an entry is in the log, or may not come into it."""
        entry = waiting.entry
        waiting.done = not self._known.learns_from(entry)
        known = self._known.get(entry.item, entry.number)
        waiting.accepted = entry.intent is None or (known is not None and known.intent.token == entry.intent.token)
        return waiting.done

    def _take(self, segment: int, entries: list[Entry]) -> None:
        for entry in entries:
            self._known.add(entry, segment, self.where(_name(segment)))

    def _read_on(self, at_once: int) -> Iterator[tuple[int, list[Entry]]]:
        """Read the segments that follow, up to the first that is not there."""
        with ThreadPoolExecutor(at_once) as threads:
            while True:
                numbers = range(self._last + 1, self._last + 1 + at_once)
                found = threads.map(lambda number: self._objects.get(f"{self._key}/{_name(number)}"), numbers)
                for number, raw in zip(numbers, found, strict=True):
                    if raw is None:
                        return
                    self._last = number
                    yield number, list(unpacked(raw, self.where(_name(number))))

    def _existing(self, segment: int) -> bytes:
        raw = self._objects.get(f"{self._key}/{_name(segment)}")
        if raw is None:
            message = (
                f"The record {self.where(_name(segment))} is there and cannot be read: it needs the rights {RIGHTS}"
            )
            raise ClaidRecordsError(f"{message}. Nothing was sent")
        return raw


class ItemRecords:
    """The `Records` of one item of a batch."""

    fenced = False
    removable = False

    def __init__(self, journal: Journal, item: int) -> None:
        self._journal = journal
        self._item = item

    def claim(self, intent: Intent) -> bool:
        """Write down an intent unless there is one of this number."""
        return self._journal.append(Entry(self._item, intent.number, intent=intent))

    def finish(self, number: int, result: Result, *, unless_ended: bool = False) -> None:
        """Write down how a submission ended; a loss never replaces another end, `unless_ended` or not."""
        self._journal.append(Entry(self._item, number, result=result))

    def read(self, number: int) -> Submission | None:
        """Read one submission."""
        return self._journal.read(self._item, number)

    def where(self, number: int) -> str:
        """Return where the submission is written down."""
        known = self._journal.known(self._item)
        return next((each.where for each in known if each.number == number), self._journal.where())

    def others(self) -> Iterator[Submission] | None:
        """What other jobs put into the same folder is not known here."""  # noqa: D401
        return None


def another_batch(where: str, recorded: str, fingerprint: str) -> ClaidInputError:
    """Return the error for a batch whose prompts differ from those that were begun in the same place."""
    return ClaidInputError(
        "prompts",
        f"a batch of fingerprint {fingerprint}, where {where} is of fingerprint {recorded}",
        "the prompts that this batch was begun with",
        "Restore them; or give this batch another manifest_path, or reuse=False, to begin anew and pay for all.",
    )


def _name(segment: int) -> str:
    return f"{segment:06d}"
