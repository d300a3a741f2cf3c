"""Mapped generation, and a sensor on what it returned, or on its XCom `claid_result`."""

import json
import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, XComArg

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator
from airflow_provider_claid.sensors.claid import ClaidImageSensor

ARGUMENTS = json.loads(os.environ.get("TEST_GENERATE", "{}"))
KEY = os.environ.get("TEST_XCOM_KEY", "return_value")
PROMPTS = ["a red bicycle", "a teapot"]

with DAG("generates_and_waits", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    generate = ClaidGenerateImageOperator.partial(task_id="generate", number_of_images=2, **ARGUMENTS).expand(
        prompt=PROMPTS
    )
    ClaidImageSensor(task_id="wait", images=XComArg(generate, key=KEY), poke_interval=1, timeout=30)
