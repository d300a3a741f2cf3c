"""Inspects objects where they are, a few at a time, and none twice that did not change."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidPictureError
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.buckets import Bucket, Entry, open_bucket
from airflow_provider_claid.delivery.watching.expected import WEB, Address, Promise, Verify
from airflow_provider_claid.delivery.watching.inspection import Inspection, inspect
from airflow_provider_claid.delivery.watching.web import inspect_web

AT_ONCE = 4
"""Pictures of one inspector that are read at the same time; the threads for it are the process's, 8 in all."""

BATCH = 16
"""Pictures that a thread reads in one go: so many that the event loop stays free, so few that others get their turn."""

DIGEST_BYTES = 6


@dataclass(frozen=True, slots=True)
class Item:
    """A picture that a list shows, or that has an address on the web: then `entry` says nothing."""

    uri: str
    address: Address
    entry: Entry
    promise: Promise


class Inspector:
    """
    Remembers what it found by URI and version.

    `verified` is what an earlier inspector's `verified()` returned: what it found whole is not read again. A `lenient`
    one takes a picture that may not be read for a faulty one, as long as others may be.
    """

    def __init__(
        self,
        verify: Verify,
        min_bytes: int = 1,
        *,
        allow_loopback: bool = False,
        verified: str = "",
        lenient: bool = False,
    ) -> None:
        self._verify = verify
        self._min_bytes = min_bytes
        self._allow_loopback = allow_loopback
        self._lenient = lenient
        self._buckets: dict[tuple[str, str, str | None], Bucket] = {}
        self._found: dict[str, tuple[bytes, Inspection]] = {}
        raw = base64.b64decode(verified)
        self._verified = {raw[at : at + DIGEST_BYTES] for at in range(0, len(raw), DIGEST_BYTES)}

    def bucket(self, address: Address) -> Bucket:
        """Return the bucket of an address, opened once. Blocks."""
        if address.store not in self._buckets:
            self._buckets[address.store] = open_bucket(*address.store)
        return self._buckets[address.store]

    def forget(self, uris: Iterable[str]) -> None:
        """Drop what is known of these."""
        for uri in uris:
            self._found.pop(uri, None)

    def verified(self) -> str:
        """Return what was found whole and not black, in 8 characters each: for the next process to go on from."""
        good = {digest for digest, found in self._found.values() if found == Inspection()}
        return base64.b64encode(b"".join(sorted(good | self._verified))).decode()

    def known(self, item: Item) -> Inspection | None:
        """Return what was found of this version of a picture; None if it is to be read."""
        wanted = self._digest(item)
        digest, found = self._found.get(item.uri, (b"", None))
        if found is not None and digest == wanted:
            return found
        return Inspection() if wanted in self._verified else None

    async def inspect(self, items: Iterable[Item]) -> dict[str, Inspection]:
        """Read those that are not known, a few at a time; that one could not be read is a fault, not remembered."""
        found: dict[str, Inspection] = {}
        web: deque[Item] = deque()
        stored: deque[Item] = deque()
        for item in items:
            if known := self.known(item):
                found[item.uri] = known
            else:
                (web if item.address.scheme in WEB else stored).append(item)

        async def read_on() -> None:
            while stored:
                batch = [stored.popleft() for _ in range(min(BATCH, len(stored)))]
                found.update(await in_thread(self._read_batch, batch))
            while web:
                item = web.popleft()
                found[item.uri] = await self._read_web(item)

        try:
            await asyncio.gather(*(read_on() for _ in range(min(AT_ONCE, len(web) + len(stored)))))
        finally:
            web.clear()
            stored.clear()
        denied = [inspection.denied for inspection in found.values() if inspection.denied]
        if denied and len(denied) == len(found):
            raise denied[0]
        return found

    def _read_batch(self, batch: list[Item]) -> dict[str, Inspection]:
        """Inspect these one after the other: a way into a thread and back costs the event loop as much as a read."""
        return {item.uri: self._read_stored(item) for item in batch}

    def _read_stored(self, item: Item) -> Inspection:
        read = partial(self.bucket(item.address).read, item.entry.key)
        try:
            inspection = inspect(item.promise, item.entry.size, read, self._verify)
        except FileNotFoundError:
            return Inspection("it is not there any more")
        except StoreBusyError as busy:
            return Inspection(str(busy))
        except ClaidConfigurationError as denied:
            if not self._lenient:
                raise
            return Inspection(denied.message, denied=denied)
        self._found[item.uri] = (self._digest(item), inspection)
        return inspection

    def _digest(self, item: Item) -> bytes:
        """Name what was verified: this version of the picture, against what was said of it, to this depth."""
        text = f"{item.uri}\0{item.entry.version}\0{self._verify}\0{item.promise}"
        return hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:DIGEST_BYTES]

    async def _read_web(self, item: Item) -> Inspection:
        try:
            inspection = await inspect_web(
                item.promise, self._verify, self._min_bytes, allow_loopback=self._allow_loopback
            )
        except ClaidPictureError as busy:
            return Inspection(busy.message)
        self._found[item.uri] = (self._digest(item), inspection)
        return inspection
