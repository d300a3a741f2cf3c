"""
What the requests of this process did, as Airflow metrics (StatsD or OpenTelemetry, `[metrics]`).

| name | kind | what |
| --- | --- | --- |
| `claid.requests` | counter, tag `billed`: `no`, `yes`, `unknown` | requests that left, and those that could not |
| `claid.refusals` | counter | of them, refused with 429 |
| `claid.unknown_outcomes` | counter | of them, those that may have been billed |
| `claid.credits` | counter | credits, counted by us: 1 for each picture of an answer |
| `claid.pictures` | counter | pictures that Claid made |
| `claid.copies` | counter | pictures that `save_to` stored |
| `claid.waited` | timer, milliseconds | from asking for a turn to the first byte, one for each request that left |
| `claid.batch.done` | gauge | items of a running batch that have ended, every 10 s |
| `claid.batch.left` | gauge | items of a running batch that have not |
| `claid.batch.under_way` | gauge | requests of a running batch that are not answered yet |
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_claid.api.bill import Bill, opened_bill

if TYPE_CHECKING:
    from airflow_provider_claid.delivery.batch.progress import Snapshot

log = logging.getLogger(__name__)


@contextmanager
def measured(tags: Mapping[str, str] | None = None) -> Iterator[Bill]:
    """Put the work inside on a bill of its own, and tell Airflow's metrics of it at the end, however it ends."""
    with opened_bill() as bill:
        try:
            yield bill
        finally:
            emit(bill, tags or {})


def emit(bill: Bill, tags: Mapping[str, str]) -> None:
    """Tell of the requests of one piece of work, and of its copies."""
    if bill.items or bill.copies:
        with _only_warned():
            _emit(bill, dict(tags))


def gauge(snapshot: Snapshot, tags: Mapping[str, str]) -> None:
    """Tell how far a batch is."""
    from airflow.providers.common.compat.sdk import Stats

    counts = snapshot.counts
    gauges = {"done": counts.done, "left": counts.total - counts.done, "under_way": snapshot.under_way}
    with _only_warned():
        for name, value in gauges.items():
            Stats.gauge(f"claid.batch.{name}", value, tags=dict(tags))


@contextmanager
def _only_warned() -> Iterator[None]:
    try:
        yield
    except Exception as cause:  # noqa: BLE001 - the pictures are paid for
        log.warning("Metrics could not be sent: %s: %s", type(cause).__name__, cause)


def _emit(bill: Bill, tags: dict[str, str]) -> None:
    from airflow.providers.common.compat.sdk import Stats

    for billed, count in Counter(item.billed for item in bill.items).items():
        Stats.incr("claid.requests", count, tags={**tags, "billed": billed})
    counts = {
        "claid.refusals": sum(item.refused for item in bill.items),
        "claid.unknown_outcomes": sum(item.billed == "unknown" for item in bill.items),
        "claid.credits": sum(item.credits for item in bill.items),
        "claid.pictures": sum(item.pictures for item in bill.items),
        "claid.copies": bill.copies,
    }
    for name, count in counts.items():
        if count:
            Stats.incr(name, count, tags=tags)
    for seconds in bill.waits:
        Stats.timing("claid.waited", timedelta(seconds=seconds), tags=tags)
