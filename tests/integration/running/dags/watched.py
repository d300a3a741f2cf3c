import os

from airflow.sdk import DAG, Asset, AssetWatcher, task
from running_triggers import LinesTrigger

lines = Asset("lines", watchers=[AssetWatcher("added", LinesTrigger(path=os.environ["WATCHED_FILE"]))])

with DAG("watched", schedule=[lines]):

    @task
    def seen(triggering_asset_events):
        return [event.extra for events in triggering_asset_events.values() for event in events]

    seen()
