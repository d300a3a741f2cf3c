"""A task that only waits, as long as the sandbox takes for a picture."""

import os
import time
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, task

with DAG("bare", schedule=None, start_date=datetime(2026, 1, 1)) as dag:

    @task
    def sleep():
        time.sleep(float(os.environ["BENCHMARK_LATENCY"]))

    sleep()
