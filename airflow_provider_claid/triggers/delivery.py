"""The event trigger that starts Dags when pictures arrive: for an `AssetWatcher`, Airflow 3.0 and newer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Hashable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.paths import as_uri
from airflow_provider_claid.delivery.watching.arrivals import Arrivals, Delivery
from airflow_provider_claid.delivery.watching.expected import VERIFY, Verify, check_folder, read_since
from airflow_provider_claid.delivery.watching.watermark import EPOCH, Watermark, picture_id
from airflow_provider_claid.exceptions import airflow_errors
from airflow_provider_claid.hooks.watch import Locator
from airflow_provider_claid.triggers.paths import documented_path

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

log = logging.getLogger(__name__)

STATE_KEY = "claid_delivery_watermark"
BETWEEN_EVENTS = 5.0
"""Seconds from one event to the next where one does not hold all that is new."""


class ClaidDeliveryEventTrigger(BaseEventTrigger):
    """
    Tell of new pictures under a folder, so that an `AssetWatcher` starts the Dags that wait for them.

    At most one event a look, `{"folder": uri, "uris": [...], "ids": [...], "filtered": [...]}`: all new pictures, those
    of subfolders too, up to 1,000; `filtered` are those that the content filter made black. Only whole pictures are
    told of. Costs no credits: each look lists the folder, and reads each new picture twice, seldom three times
    (`verify="header"`).

    `ids` are those of the pictures, in the order of `uris`: of address, version and time, so that a picture has the
    same id in whatever event it is, and another one once it is written again. A Dag that skips ids it has handled
    handles each picture once. Airflow may start one Dag run for several events: go through all of them.

    Airflow 3.3 and newer: what was told is kept in the asset state store once the event is in Airflow's database, so
    that a restart neither repeats nor loses a picture; only a triggerer that ends in the second between the two tells
    of its pictures again, by the same ids, but maybe together with others. Below, nothing is kept: a restart tells of
    everything under the folder again, so give `since`, and let the Dag bear it.

    New is what was last modified after what was told, or up to an hour before: a file that is moved in with an older
    date (`mv`, `cp -p`) is not seen.

    :param folder: URI of a folder with a final slash, or a path object: `storage`, `s3`, `gs`, `abfs` or `file`.
    :param since: ISO 8601; what was last modified before it is never told of. Without it, what is there at the
        first look is told of too.
    :param poke_interval: seconds between two looks, at least 1.
    """

    def __init__(
        self,
        folder: Any,
        *,
        since: str | None = None,
        claid_conn_id: str = "claid_default",
        storage_conn_id: str | None = None,
        verify: Verify = "header",
        poke_interval: float = 60.0,
    ) -> None:
        super().__init__()
        # Checked when it is written down: an error here, in a triggerer of another version, would stop the triggerer.
        self.folder = folder
        self.since = since
        self.claid_conn_id = claid_conn_id
        self.storage_conn_id = storage_conn_id
        self.verify = verify
        self.poke_interval = max(poke_interval, 1.0)
        self.asset_state_store: Any = None
        self._arrivals: Arrivals | None = None
        self._unkept: Watermark | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, checked: by them Airflow knows two watchers to be one."""
        with airflow_errors():
            folder = check_folder(self.folder)
            since = read_since(self.since)
            if self.verify not in VERIFY:
                raise ClaidInputError("verify", repr(self.verify), " or ".join(map(repr, VERIFY)))
        return documented_path(self), {
            "folder": folder,
            "since": since.isoformat() if since else None,
            "claid_conn_id": self.claid_conn_id,
            "storage_conn_id": self.storage_conn_id,
            "verify": self.verify,
            "poke_interval": self.poke_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Tell of each delivery, and keep that it was told as soon as the next is asked for."""
        async for payload, mark in self.deliveries():
            try:
                yield TriggerEvent(payload)
            finally:
                await self.keep(mark)

    def shared_stream_key(self) -> Hashable | None:
        """Have Airflow 3.3 acknowledge what was told, where that is kept; the stream is shared with nobody."""
        if self.asset_state_store is None:
            return None
        key = json.dumps(self.serialize(), sort_keys=True)
        _watchers[key] = self
        return key

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return what tells of deliveries and keeps the watermark once the event is in Airflow's database."""
        from airflow_provider_claid.triggers.acknowledged import AcknowledgedDeliveries

        return AcknowledgedDeliveries(_watchers[json.dumps(cls(**kwargs).serialize(), sort_keys=True)])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Tell of each delivery; Airflow acknowledges it when this asks for the next."""
        async for payload in shared_stream:
            yield TriggerEvent(payload)

    async def deliveries(self) -> AsyncIterator[tuple[dict[str, Any], Watermark]]:
        """
        Look for ever; yield each delivery as plain JSON, with the watermark to keep once it was told.

        There is no task that could fail: what is wrong is logged at each look, with the remedy.
        """
        mark = await self._beginning()
        while True:
            delivery = await self._look(mark)
            if delivery.uris:
                log.info("%d new pictures in %s.", len(delivery.uris), self.folder)
                mark = mark.after(delivery.entries, pending=delivery.waiting)
                # One event a look: a second one, while a Dag run is made for the first, would start none.
                yield self._payload(delivery), mark
            await asyncio.sleep(min(self.poke_interval, BETWEEN_EVENTS) if delivery.full else self.poke_interval)
            if self._unkept is not None:
                await self.keep(self._unkept)

    async def keep(self, mark: Watermark) -> None:
        """Keep that everything up to the mark was told; what fails is tried again at the next look."""
        self._unkept = None
        if self.asset_state_store is None:
            return
        try:
            await self.asset_state_store.aset(STATE_KEY, mark.to_json())
        except Exception as error:  # noqa: BLE001 - whatever a state backend raises
            self._unkept = mark
            log.warning("The watermark of %s was not kept: %s: %s", self.folder, type(error).__name__, error)

    async def _look(self, mark: Watermark) -> Delivery:
        try:
            if self._arrivals is None:
                uri = as_uri(self.folder, "folder", folder=True)
                folder = await Locator(self.claid_conn_id, self.storage_conn_id).folder(uri)
                self._arrivals = Arrivals(folder, self.verify)
            return await self._arrivals.look(mark)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look may go well
            log.error("%s is not watched now: %s: %s", self.folder, type(error).__name__, error)  # noqa: TRY400
            # Opened anew, so that a corrected connection counts without a restart.
            self._arrivals = None
            return Delivery()

    def _payload(self, delivery: Delivery) -> dict[str, Any]:
        return {
            "folder": delivery.folder,
            "uris": list(delivery.uris),
            "ids": [picture_id(uri, entry) for uri, entry in zip(delivery.uris, delivery.entries, strict=True)],
            "filtered": list(delivery.black),
        }

    async def _beginning(self) -> Watermark:
        """Return from where to tell, once the state store has answered: without that, all would be told again."""
        while True:
            try:
                return await self._kept() or Watermark(read_since(self.since) or EPOCH)
            except Exception as error:  # noqa: BLE001 - whatever a state backend raises
                remedy = "Watchers of two assets need arguments that differ, another poke_interval say."
                log.error("What was told of %s is not known: %s. %s", self.folder, error, remedy)  # noqa: TRY400
            await asyncio.sleep(self.poke_interval)

    async def _kept(self) -> Watermark | None:
        """Return what an earlier run told of; None where nothing is kept."""
        value = await self.asset_state_store.aget(STATE_KEY) if self.asset_state_store else None
        if value is None:
            return None
        try:
            return Watermark.from_json(value)
        except ValueError as fault:
            log.warning("The watermark of %s cannot be read (%s): what is new is told from now on.", self.folder, fault)
            return Watermark(datetime.now(UTC).replace(microsecond=0))


_watchers: WeakValueDictionary[str, ClaidDeliveryEventTrigger] = WeakValueDictionary()
"""The watchers of this triggerer: Airflow makes a stream's producer from arguments alone, without the state store."""
