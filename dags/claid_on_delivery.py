"""
Starts by itself when pictures arrive in a folder, whoever put them there: an operator, Claid, or a person.

Airflow 3.0 and newer. The watcher runs in the triggerer and costs no credits. Each run gets the pictures of one
delivery; from Airflow 3.3 on, a restart of the triggerer neither repeats nor loses one.
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
        uris = [uri for event in events for uri in event.extra["payload"]["uris"]]
        for uri in uris:
            print(uri)
        return uris

    take()


claid_on_delivery()
