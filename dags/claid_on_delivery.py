"""
Starts by itself when pictures arrive in a folder, whoever put them there: an operator, Claid, or a person.

Airflow 3.0 and newer. The watcher runs in the triggerer and costs no credits. Airflow may start one run for several
events, so this goes through all of them. From Airflow 3.3 on, a restart of the triggerer loses no picture, and repeats
one only if it comes in the second after its event: by the same id, maybe in another event. To handle each picture once,
keep its id where your work is kept (as the key of a row, say) and skip ids that are there.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import Asset, dag, get_current_context, task
from airflow.sdk import AssetWatcher

from airflow_provider_claid.triggers.claid import ClaidDeliveryEventTrigger

FOLDER = os.environ.get("CLAID_DELIVERY_FOLDER", "file:///tmp/claid-quickstart/")

deliveries = Asset(
    "claid_deliveries",
    watchers=[AssetWatcher(name="claid_deliveries", trigger=ClaidDeliveryEventTrigger(FOLDER, poke_interval=10))],
)


@dag(schedule=[deliveries], start_date=datetime(2026, 1, 1), catchup=False, tags=["claid"], doc_md=__doc__)
def claid_on_delivery():
    @task
    def take() -> list[str]:
        """Print which pictures have arrived; put what is to be done with them here."""
        events = get_current_context()["triggering_asset_events"][deliveries]
        payloads = [event.extra["payload"] for event in events]
        # By id: of two events with the same picture, one counts.
        pictures = {name: uri for told in payloads for name, uri in zip(told["ids"], told["uris"], strict=True)}
        for name, uri in pictures.items():
            print(name, uri)
        return list(pictures.values())

    take()


claid_on_delivery()
