"""A function that returns a prompt, deferred, with what the test put into the environment."""

import json
import os
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

ARGUMENTS = json.loads(os.environ.get("TEST_ARGUMENTS", "{}"))
ARGUMENTS.pop("prompt", None)

with DAG("decorated_deferred", schedule=None, start_date=datetime(2026, 1, 1)) as dag:

    @task.claid_images(retries=2, retry_delay=timedelta(0), **ARGUMENTS)
    def generate():
        return {"prompt": "a red bicycle", "id": "sku"}

    generate()
