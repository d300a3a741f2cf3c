"""The event trigger that starts Dags when pictures arrive: for an `AssetWatcher`, Airflow 3.0 and newer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_claid.api.errors import ClaidError, ClaidInputError
from airflow_provider_claid.delivery.arrivals import Arrivals, Delivery
from airflow_provider_claid.delivery.expected import VERIFY, Address, Verify, check_folder, read_since
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.watermark import EPOCH, Watermark
from airflow_provider_claid.exceptions import airflow_errors
from airflow_provider_claid.hooks.watch import Locator

log = logging.getLogger(__name__)

STATE_KEY = "claid_delivery_watermark"
PERSISTED_AFTER = 5.0
"""Seconds until an event is surely in Airflow's database: the triggerer hands events over once a second."""


class ClaidDeliveryEventTrigger(BaseEventTrigger):
    """
    Tell of new pictures under a folder, so that an `AssetWatcher` starts the Dags that wait for them.

    One event per folder and look, `{"folder": uri, "uris": [...], "filtered": [...], "delivery": id}`, at most 1,000
    URIs in it; `filtered` are those that the content filter made black. Only whole pictures are told of. Costs no
    credits: each look lists the folder, and reads each new picture twice at the most (`verify="header"`).

    Airflow 3.3 and newer: what was told is kept in the asset state store, so a restart neither repeats nor loses a
    picture; only a triggerer killed within five seconds after an event repeats it, with the same `delivery`. Below,
    nothing is kept: a restart tells of everything under the folder again, so give `since`, and let the Dag bear it.

    :param folder: URI of a folder with a final slash: `storage`, `s3`, `gs`, `abfs` or `file`.
    :param since: ISO 8601; what was last modified before it is never told of. Without it, what is there at the
        first look is told of too.
    :param poke_interval: seconds between two looks, at least 1.
    """

    def __init__(
        self,
        folder: str,
        *,
        since: str | None = None,
        claid_conn_id: str = "claid_default",
        storage_conn_id: str | None = None,
        verify: Verify = "header",
        poke_interval: float = 60.0,
    ) -> None:
        super().__init__()
        with airflow_errors():
            self.folder = check_folder(folder)
            self._since = read_since(since)
            if verify not in VERIFY:
                raise ClaidInputError("verify", repr(verify), " or ".join(map(repr, VERIFY)))
        self.since = self._since.isoformat() if self._since else None
        self.claid_conn_id = claid_conn_id
        self.storage_conn_id = storage_conn_id
        self.verify = verify
        self.poke_interval = max(poke_interval, 1.0)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: by them Airflow knows two watchers to be one."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "folder": self.folder,
            "since": self.since,
            "claid_conn_id": self.claid_conn_id,
            "storage_conn_id": self.storage_conn_id,
            "verify": self.verify,
            "poke_interval": self.poke_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look for ever. There is no task that could fail: what is wrong is logged at each look, with the remedy."""
        mark = saved = await self._load()
        arrivals: Arrivals | None = None
        while True:
            deliveries: list[Delivery] = []
            try:
                arrivals = arrivals or Arrivals(await self._locate(), self.verify)
                deliveries = await arrivals.look(mark or self._beginning())
            except (ClaidError, StoreBusyError, FileNotFoundError) as error:
                log.error("%s is not watched at the moment: %s", self.folder, error)  # noqa: TRY400 - no traceback
            for delivery in deliveries:
                log.info("%d new pictures in %s.", len(delivery.uris), delivery.folder)
                mark = (mark or self._beginning()).after(delivery.entries)
                try:
                    yield TriggerEvent(_payload(delivery))
                except GeneratorExit:
                    await self._save(mark)
                    raise
            await asyncio.sleep(min(PERSISTED_AFTER, self.poke_interval))
            if mark is not saved and mark is not None and await self._save(mark):
                saved = mark
            await asyncio.sleep(max(0.0, self.poke_interval - PERSISTED_AFTER))

    def _beginning(self) -> Watermark:
        return Watermark(self._since or EPOCH)

    async def _locate(self) -> Address:
        return await Locator(self.claid_conn_id, self.storage_conn_id).folder(self.folder)

    async def _load(self) -> Watermark | None:
        """Return what an earlier run told of; None where nothing is kept."""
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        value = await store.aget(STATE_KEY)
        if value is None:
            return None
        try:
            return Watermark.from_json(value)
        except (ValueError, KeyError, TypeError) as fault:
            log.warning("The watermark of %s cannot be read (%s): what is new is told from now on.", self.folder, fault)
            return Watermark(datetime.now(UTC).replace(microsecond=0))

    async def _save(self, mark: Watermark) -> bool:
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return False
        try:
            await store.aset(STATE_KEY, mark.to_json())
        except Exception as error:  # noqa: BLE001 - whatever a state backend raises: it is tried again at the next look
            log.warning("The watermark of %s was not kept: %s: %s", self.folder, type(error).__name__, error)
            return False
        return True


def _payload(delivery: Delivery) -> dict[str, Any]:
    versions = "\n".join(f"{entry.key} {entry.version}" for entry in delivery.entries)
    return {
        "folder": delivery.folder,
        "uris": list(delivery.uris),
        "filtered": list(delivery.black),
        "delivery": hashlib.sha256(versions.encode()).hexdigest()[:20],
    }
