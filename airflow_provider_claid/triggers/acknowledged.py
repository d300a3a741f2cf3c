"""Deliveries told in Airflow 3.3's acknowledged mode: kept as told when the event is in the database, not before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

if TYPE_CHECKING:
    from airflow_provider_claid.delivery.watching.watermark import Watermark
    from airflow_provider_claid.triggers.delivery import ClaidDeliveryEventTrigger


class AcknowledgedDeliveries(SharedStreamProducer):
    """The stream of one watcher. A triggerer loses events that it did not hand over yet: those are told again."""

    def __init__(self, watcher: ClaidDeliveryEventTrigger) -> None:
        self._watcher = watcher
        self._failed = False

    def open_stream(self) -> AsyncIterator[tuple[dict[str, Any], Watermark]]:
        """Yield each delivery with the watermark to keep once it is acknowledged."""
        return self._watcher.deliveries()

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Keep the watermark of the last of these, up to one that was not acknowledged in time: it is told again."""
        for item in batch:
            self._failed = self._failed or bool(item.outcome.failed)
            if not self._failed:
                await self._watcher.keep(item.broker_payload)
