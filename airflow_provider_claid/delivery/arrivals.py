"""What is new in a folder since the last look: the deliveries that an event is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from airflow_provider_claid.delivery.buckets import Entry
from airflow_provider_claid.delivery.expected import Address, Verify
from airflow_provider_claid.delivery.inspector import Inspector, Item
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watch import pictures_under
from airflow_provider_claid.delivery.watermark import Watermark

MOST_IN_ONE = 1_000
"""Pictures in one event: it becomes a row in Airflow's database."""


@dataclass(frozen=True)
class Delivery:
    """New pictures of one folder, whole: its URI, theirs in order, and which of them the content filter made black."""

    folder: str
    uris: tuple[str, ...]
    black: tuple[str, ...]
    entries: tuple[Entry, ...]


class Arrivals:
    """Looks for new pictures under a folder, all its subfolders included."""

    def __init__(self, folder: Address, verify: Verify) -> None:
        self._folder = folder
        self._inspector = Inspector(verify)

    async def look(self, mark: Watermark) -> list[Delivery]:
        """
        Return what came since the mark, one delivery per folder; half-written pictures wait for another look.

        Raises `StoreBusyError` for what may pass and `ClaidConfigurationError` for what will not.
        """
        new = await in_thread(self._new, mark)
        found = await self._inspector.inspect(new)
        whole = [item for item in new if not found[item.uri].fault]
        self._inspector.forget(item.uri for item in whole)
        black = {uri for uri, inspection in found.items() if inspection.black}
        return [_delivery(folder, items, black) for folder, items in _by_folder(whole)]

    def _new(self, mark: Watermark) -> list[Item]:
        entries = (entry for entry in self._inspector.bucket(self._folder).walk(self._folder.key) if mark.is_new(entry))
        items = (item for item in pictures_under(self._folder, entries) if item.entry.size)
        return [item for item in items if self._inspector.known(item) is None]


def _delivery(folder: str, items: list[Item], black: set[str]) -> Delivery:
    uris = tuple(item.uri for item in items)
    return Delivery(folder, uris, tuple(uri for uri in uris if uri in black), tuple(item.entry for item in items))


def _by_folder(items: list[Item]) -> Iterator[tuple[str, list[Item]]]:
    def folder(item: Item) -> str:
        return item.uri[: item.uri.rfind("/") + 1]

    for name, group in groupby(sorted(items, key=lambda item: (folder(item), item.uri)), folder):
        members = list(group)
        for start in range(0, len(members), MOST_IN_ONE):
            yield name, members[start : start + MOST_IN_ONE]
