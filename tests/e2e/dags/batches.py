"""Batches: one whose prompts another task made, one that is mapped over lists, with what the test put into both."""

import json
import os
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator

ARGUMENTS = json.loads(os.environ.get("TEST_BATCH", '{"save_to": "file:///nowhere/"}'))
MADE = json.loads(os.environ.get("TEST_PROMPTS", '["a red bicycle"]'))

with DAG("batches", schedule=None, start_date=datetime(2026, 1, 1)) as dag:

    @task
    def make():
        return MADE

    @task
    def one(prompt):
        return prompt

    arguments = {"retries": 2, "retry_delay": timedelta(0), **ARGUMENTS}
    made = make()
    ClaidGenerateBatchOperator(task_id="made", prompts=made, **arguments)
    ClaidGenerateBatchOperator(task_id="listed", prompts=[one("a teapot {{ 1 + 1 }}"), "a chair"], **arguments)
    ClaidGenerateBatchOperator.partial(task_id="mapped", **arguments).expand(
        prompts=[["a table", "a bench"], [{"prompt": "a lamp", "number_of_images": 2}]]
    )
