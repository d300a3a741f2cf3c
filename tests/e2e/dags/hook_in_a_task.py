"""The hook in a plain task with three tries."""

from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_claid.hooks.claid import ClaidHook

with DAG("hook_in_a_task", schedule=None, start_date=datetime(2026, 1, 1)) as dag:

    @task(retries=3, retry_delay=timedelta(0))
    def generate():
        return [image.uri for image in ClaidHook().generate("a red bicycle").images]

    generate()
