"""
The records of a batch: a log of numbered segments, each created exclusively, so that two attempts share one order.

`<records_path>/<job key>/head` names the batch, `…/000001` and so on hold up to 32 entries each, `…/settled` says
where the next attempt may begin to read. Everything here but `known` and `items` blocks: call it in a thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial

from airflow_provider_claid.api.errors import ClaidInputError, ClaidRecordsError
from airflow_provider_claid.delivery.backoff import persistent
from airflow_provider_claid.delivery.batch.entries import Entry, Known, fingerprint_of, head, packed, unpacked
from airflow_provider_claid.delivery.batch.numbered import AT_ONCE, MissingError, numbered, read_on
from airflow_provider_claid.delivery.records.objects import Objects, create_proven, unreadable
from airflow_provider_claid.delivery.records.submission import Intent, Result, Submission

MOST = 32
"""Entries of a segment at the most."""

REFRESH_SECONDS = 1.0
"""Seconds for which what other attempts have written is not asked for again."""


@dataclass
class _Waiting:
    entry: Entry
    done: bool = False
    accepted: bool = False
    error: Exception | None = None


@dataclass(frozen=True)
class _Settled:
    """
    That the segments up to `segment` tell of nothing but items of which the manifest tells all that will be asked.

    Those are the items below `items`, without `rest`. `last` is the last segment that there was.
    """

    segment: int = 0
    items: int = 0
    rest: list[int] = field(default_factory=list)
    last: int = 0

    def holds(self, done: Callable[[int], bool]) -> bool:
        """Tell whether the manifest is still as it was, or knows more: it may have been deleted, or another's."""
        return all(map(done, set(range(self.items)).difference(self.rest)))


class Journal:
    """
    The log of one batch. Thread-safe: entries that come while one segment is written go into the next one together.

    Raises `StoreBusyError` for what may pass, after some tries, and `ClaidRecordsError` or `ClaidConfigurationError`
    for what a person must mend.
    """

    def __init__(self, objects: Objects, key: str) -> None:
        self._objects = objects
        self._key = key
        self._last = 0
        self._items = 0
        self._known = Known()
        self._done: Callable[[int], bool] = lambda item: False
        self._queue: list[_Waiting] = []
        self._turn = threading.Lock()
        """Held by whoever reads or writes the log, which takes long."""
        self._looking = threading.Lock()
        """Held for moments, by whoever looks at what is known or queued: an event loop does."""
        self._refreshed_at = 0.0

    def where(self, name: str = "") -> str:
        """Return the URI of the log, or of something in it."""
        return f"{self._objects.uri}{self._key}/{name}"

    def open(self, fingerprint: str, total: int, done: Callable[[int], bool]) -> None:
        """
        Begin the log, or read it on behalf of the items that are not `done`: those of which the manifest tells all.

        Raises `ClaidInputError` if it is of a batch with other prompts, `ClaidRecordsError` if a part of it is gone.
        """
        reserve(self._objects, f"{self._key}/head", fingerprint, total)
        self._done = done
        written = self._settled()
        settled = written if written.holds(done) else _Settled()
        self._last, self._items = settled.segment, settled.items
        with self._turn:
            for segment, entries in self._read_on(AT_ONCE):
                self._take(segment, entries, unless=done)
        if self._last < max(written.segment, written.last):
            # Its end is gone, or so many that those behind them were not found.
            raise self._missing(self._last + 1)

    def known(self, item: int) -> list[Submission]:
        """Return the submissions of an item that is not forgotten, in order."""
        with self._looking:
            return self._known.of(item)

    def items(self) -> list[int]:
        """Return the items, not forgotten ones, of which something is recorded."""
        with self._looking:
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
        with self._looking:
            self._queue.append(waiting)
        with self._turn:
            while not waiting.done:
                with self._looking:
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
        with self._looking:
            return self._known.get(item, number)

    def settle(self, items: list[int]) -> None:
        """Forget items whose lines in the manifest are durable, and note from where on there is something to read."""
        with self._looking:
            for item in items:
                self._known.forget(item)
            oldest = self._known.oldest()
            last, below = self._last, self._items
        segment = last if oldest is None else oldest - 1
        settled = _Settled(segment, below, [item for item in range(below) if not self._done(item)], last)
        self._objects.put(f"{self._key}/settled", json.dumps(asdict(settled)).encode())

    def _settled(self) -> _Settled:
        try:
            value = json.loads(self._get("settled") or b"{}")
            rest = [int(item) for item in value["rest"]]
            return _Settled(int(value["segment"]), int(value["items"]), rest, int(value.get("last", 0)))
        except (LookupError, TypeError, ValueError):
            return _Settled()

    def _write(self, group: list[_Waiting]) -> None:
        try:
            while open_ones := [each for each in group if not self._is_answered(each)]:
                entries = [each.entry for each in open_ones]
                segment = self._last + 1
                if not persistent(partial(self._objects.create, self._path(segment), packed(entries))):
                    # Another attempt's, or our own if the store has carried it out and answered badly.
                    entries = list(unpacked(self._existing(segment), self.where(numbered(segment))))
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
        with self._looking:
            waiting.done = not self._known.learns_from(entry)
            known = self._known.get(entry.item, entry.number)
        waiting.accepted = entry.intent is None or (known is not None and known.intent.token == entry.intent.token)
        return waiting.done

    def _take(self, segment: int, entries: list[Entry], unless: Callable[[int], bool] = lambda item: False) -> None:
        """Take in the entries of the next segment, in one step: what is behind it and not known counts as settled."""
        with self._looking:
            self._last = segment
            for entry in entries:
                self._items = max(self._items, entry.item + 1)
                if not unless(entry.item):
                    self._known.add(entry, segment, self.where(numbered(segment)))

    def _read_on(self, at_once: int) -> Iterator[tuple[int, list[Entry]]]:
        """Read the segments that follow, up to the first that is not there; each is to be taken in."""
        try:
            for segment, raw in read_on(lambda number: self._objects.get(self._path(number)), self._last, at_once):
                yield segment, list(unpacked(raw, self.where(numbered(segment))))
        except MissingError as gap:
            raise self._missing(gap.number) from gap

    def _missing(self, segment: int) -> ClaidRecordsError:
        message = (
            f"The record {self.where(numbered(segment))} of a batch is gone, and later ones are or were there. Nothing "
            "is sent, as it may stand for paid requests: restore it, or begin anew with another records_path"
        )
        return ClaidRecordsError(message, billed="unknown")

    def _existing(self, segment: int) -> bytes:
        raw = self._get(numbered(segment))
        if raw is None:
            raise unreadable(self.where(numbered(segment)))
        return raw

    def _path(self, segment: int) -> str:
        return f"{self._key}/{numbered(segment)}"

    def _get(self, name: str) -> bytes | None:
        return persistent(partial(self._objects.get, f"{self._key}/{name}"))


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


def reserve(objects: Objects, name: str, fingerprint: str, total: int) -> None:
    """Take a place for one batch, whoever comes at the same time; raises `ClaidInputError` if another one has it."""
    if persistent(partial(create_proven, objects, name, head(fingerprint, total))):
        return
    where = objects.uri + name
    recorded = fingerprint_of(persistent(partial(objects.get, name)), where)
    if recorded != fingerprint:
        raise another_batch(where, recorded, fingerprint)


def another_batch(where: str, recorded: str, fingerprint: str) -> ClaidInputError:
    """Return the error for a batch whose prompts differ from those that were begun in the same place."""
    return ClaidInputError(
        "prompts",
        f"a batch of fingerprint {fingerprint}, where {where} is of fingerprint {recorded}",
        "the prompts, the connection and the deduplicate that this batch was begun with",
        "Restore them; or, to begin anew and pay for all, set reuse=False and another manifest_path, if there is one, "
        "and clear the task.",
    )
