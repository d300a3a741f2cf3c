import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, task

with DAG("killed"):

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def sleeper(**context):
        if context["ti"].try_number == 1:
            Path(context["dag_run"].conf["mark"]).touch()
            time.sleep(120)
        return context["ti"].try_number

    sleeper()
