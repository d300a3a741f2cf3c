"""One sensor, with what the test put into the environment; what it returns is read by a task behind it."""

import json
import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_claid.sensors.claid import ClaidImageSensor

ARGUMENTS = json.loads(os.environ.get("TEST_ARGUMENTS", '{"folder": "file:///nowhere/", "expected_count": 1}'))

with DAG("waits_for_pictures", schedule=None, start_date=datetime(2026, 1, 1)) as dag:

    @task
    def hand_on(uris: list[str]) -> list[str]:
        return uris

    wait = ClaidImageSensor(task_id="wait", **{"poke_interval": 1, "timeout": 60, **ARGUMENTS})
    hand_on(wait.output)
