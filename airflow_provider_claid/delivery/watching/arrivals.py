"""What is new in a folder since the last look: the delivery that an event is made of."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.buckets import Entry
from airflow_provider_claid.delivery.watching.expected import Address, Verify
from airflow_provider_claid.delivery.watching.inspector import Inspector, Item
from airflow_provider_claid.delivery.watching.watch import pictures_under
from airflow_provider_claid.delivery.watching.watermark import EPOCH, Watermark

MOST_IN_ONE = 1_000
"""Pictures in one delivery: it becomes a row in Airflow's database."""


@dataclass(frozen=True)
class Delivery:
    """
    New pictures, whole: their URIs in order, and which of them the content filter made black.

    `folder` is where they are; `entries` are theirs; `waiting` are those of pictures that are new too, but left for
    another look.
    """

    uris: tuple[str, ...] = ()
    black: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    waiting: tuple[Entry, ...] = ()
    folder: str = ""

    @property
    def full(self) -> bool:
        """True if there may be more than one delivery holds."""
        return len(self.uris) >= MOST_IN_ONE


class Arrivals:
    """Looks for new pictures under a folder, all its subfolders included."""

    def __init__(self, folder: Address, verify: Verify) -> None:
        self._folder = folder
        self._inspector = Inspector(verify, lenient=True)

    async def look(self, mark: Watermark) -> Delivery:
        """
        Find what came since the mark, the oldest first; half-written pictures wait for another look.

        Raises `StoreBusyError` for what may pass and `ClaidConfigurationError` for what will not.
        """
        new = await in_thread(self._new, mark)
        found = await self._inspector.inspect(new)
        whole = [item for item in new if not found[item.uri].fault]
        taken, left = sorted(whole[:MOST_IN_ONE], key=lambda item: item.uri), whole[MOST_IN_ONE:]
        self._inspector.forget(item.uri for item in taken)
        return Delivery(
            tuple(item.uri for item in taken),
            tuple(item.uri for item in taken if found[item.uri].black),
            tuple(item.entry for item in taken),
            tuple(item.entry for item in [*left, *(item for item in new if found[item.uri].fault)]),
            self._folder.uri,
        )

    def _new(self, mark: Watermark) -> list[Item]:
        """List what is new, empty files left out: who makes one will write it again. Blocks."""
        items = pictures_under(self._folder, self._inspector.bucket(self._folder).walk(self._folder.key))
        new = [item for item in items if mark.is_new(item.entry) and item.entry.size]
        return sorted(new, key=lambda item: (item.entry.modified or EPOCH, item.uri))
