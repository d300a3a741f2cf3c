"""One task of the operator, with what the test put into the environment; three tries."""

import json
import os
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

ARGUMENTS = json.loads(os.environ.get("TEST_ARGUMENTS", '{"prompt": "a red bicycle"}'))
if "execution_timeout" in ARGUMENTS:
    ARGUMENTS["execution_timeout"] = timedelta(seconds=ARGUMENTS["execution_timeout"])

with DAG("one_picture", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    ClaidGenerateImageOperator(task_id="generate", retries=2, retry_delay=timedelta(0), **ARGUMENTS)
