"""Looking for pictures, one look at a time: by the sensor on a worker and by its trigger alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from airflow_provider_claid.api.errors import ClaidError
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.buckets import Entry
from airflow_provider_claid.delivery.watching.expected import (
    WEB,
    Address,
    Promise,
    Verify,
    Wanted,
    two_connections,
)
from airflow_provider_claid.delivery.watching.inspection import Inspection, check_size
from airflow_provider_claid.delivery.watching.inspector import Inspector, Item
from airflow_provider_claid.delivery.watching.report import Report
from airflow_provider_claid.delivery.watching.web import refuse_expired

PICTURE_NAMES = (".png", ".jpg", ".jpeg", ".webp", ".avif")
_UNLISTED = Entry("", 0, None, "")


@dataclass(frozen=True)
class Place:
    """A picture that is waited for, and where it is: the storage map applied, the connection looked up."""

    promise: Promise
    address: Address

    @property
    def uri(self) -> str:
        """The URI to hand on."""
        return self.promise.uri if self.on_web else self.address.uri

    @property
    def on_web(self) -> bool:
        """True at a temporary address, which no list shows."""
        return self.address.scheme in WEB


@dataclass(frozen=True)
class Located:
    """Where everything that is wanted is: `pictures`, or a `folder`. Plain http is read if `allow_loopback`."""

    pictures: tuple[Place, ...] = ()
    folder: Address | None = None
    allow_loopback: bool = False


@dataclass
class _Listing:
    """What one look's lists tell: pictures to read, what is known of others, and why others are missing."""

    new: list[Item] = field(default_factory=list)
    known: dict[str, Inspection] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


class Watch:
    """
    Looks for what is wanted, where `locate` says that it is; that is asked at the first look.

    What was inspected once is not read again unless it changed, in another process too if it is given what `verified`
    returned in this one.
    """

    def __init__(
        self,
        wanted: Wanted,
        locate: Callable[[], Awaitable[Located]],
        *,
        verify: Verify = "header",
        min_bytes: int = 1,
        verified: str = "",
    ) -> None:
        self.expected = wanted.count or len(wanted.images)
        self._since = wanted.since
        self._locate = locate
        self._verify = verify
        self._min_bytes = min_bytes
        self._verified = verified
        self._places: dict[str, Place] = {}
        self._folder: Address | None = None
        self._inspector: Inspector | None = None

    async def look(self) -> Report:
        """Look once. Raises a `ClaidError` for what no waiting mends; what may pass is in the report."""
        try:
            inspector = self._inspector or await self._begin()
        except ClaidError as error:
            if not error.retryable:
                raise
            return Report(self.expected, missing={"the place of the pictures": str(error)})
        for place in self._places.values():
            refuse_expired(place.promise)
        # In threads: with hundreds of watches in one triggerer, going through the lists would hold up its event loop.
        listing = await in_thread(self._list, inspector)
        found = await inspector.inspect(listing.new)
        return await in_thread(self._report, listing, found)

    def verified(self) -> str:
        """Return what was found whole so far, for the watch of another process."""
        return self._inspector.verified() if self._inspector else self._verified

    async def _begin(self) -> Inspector:
        located = await self._locate()
        for place in located.pictures:
            known = self._places.setdefault(place.uri, place)
            if known.address != place.address:
                raise two_connections(place.uri, (known.address.conn_id, place.address.conn_id))
        # Two addresses of one picture (storage:// and s3://) are one.
        self.expected = self.expected if located.folder else len(self._places)
        self._folder = located.folder
        self._inspector = Inspector(
            self._verify,
            self._min_bytes,
            allow_loopback=located.allow_loopback,
            verified=self._verified,
            lenient=located.folder is not None,
        )
        return self._inspector

    def _list(self, inspector: Inspector) -> _Listing:
        """List what is wanted, and sort it by what the list and earlier looks tell. Blocks."""
        listing = _Listing()
        items = self._walk(inspector, self._folder, listing) if self._folder else self._find(inspector, listing)
        for item in items:
            if fault := self._fault(item):
                listing.missing[item.uri] = fault
            elif known := inspector.known(item):
                listing.known[item.uri] = known
            else:
                listing.new.append(item)
        return listing

    def _report(self, listing: _Listing, found: Mapping[str, Inspection]) -> Report:
        found = {**listing.known, **found}
        missing = listing.missing | {uri: inspection.fault for uri, inspection in found.items() if inspection.fault}
        delivered = tuple(uri for uri in list(self._places) or sorted(found) if uri in found and uri not in missing)
        black = frozenset(uri for uri in delivered if found[uri].black)
        return Report(self.expected, delivered, black, missing, self._folder.uri if self._folder else None)

    def _walk(self, inspector: Inspector, folder: Address, listing: _Listing) -> list[Item]:
        try:
            items = pictures_under(folder, inspector.bucket(folder).walk(folder.key))
            return [item for item in items if not self._is_old(item.entry)]
        except StoreBusyError as busy:
            listing.missing[folder.uri] = str(busy)
            return []

    def _find(self, inspector: Inspector, listing: _Listing) -> list[Item]:
        items = [_item(place, _UNLISTED) for place in self._places.values() if place.on_web]
        busy: dict[str, str] = {}
        for places in self._by_bucket():
            try:
                bucket = inspector.bucket(next(iter(places.values())).address)
                items += [_item(places[entry.key], entry) for entry in bucket.find(list(places))]
            except StoreBusyError as reason:
                busy |= {place.uri: str(reason) for place in places.values()}
        there = {item.uri for item in items}
        listing.missing.update({uri: busy.get(uri, "it is not there") for uri in self._places if uri not in there})
        return items

    def _by_bucket(self) -> Iterable[dict[str, Place]]:
        """Group the pictures by store; within it, by key."""
        groups: dict[tuple[str, str, str | None], dict[str, Place]] = {}
        for place in self._places.values():
            if not place.on_web:
                groups.setdefault(place.address.store, {})[place.address.key] = place
        return groups.values()

    def _fault(self, item: Item) -> str | None:
        """Return what the list itself shows to be wrong."""
        if item.entry is _UNLISTED:
            return None
        if self._is_old(item.entry):
            return f"it was last modified {item.entry.modified}, before {self._since}"
        return check_size(item.promise, item.entry.size, self._min_bytes)

    def _is_old(self, entry: Entry) -> bool:
        return bool(self._since and entry.modified and entry.modified < self._since)


def pictures_under(folder: Address, entries: Iterator[Entry]) -> Iterator[Item]:
    """Yield what is a picture by its name and not hidden: hidden files are written beside until they are whole."""
    for entry in entries:
        name = entry.key[entry.key.rfind("/") + 1 :]
        if name.lower().endswith(PICTURE_NAMES) and not name.startswith("."):
            uri = f"{folder.scheme}://{folder.bucket}/{entry.key}"
            yield Item(uri, folder, entry, Promise(uri))


def _item(place: Place, entry: Entry) -> Item:
    return Item(place.uri, place.address, entry, place.promise)
