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

MAPPED = os.environ.get("TEST_MAPPED", "generate")
WAIT = {"task_id": "wait", "poke_interval": 1, "timeout": 30}

with DAG("generates_and_waits", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    if MAPPED == "nothing":
        generate = ClaidGenerateImageOperator(task_id="generate", number_of_images=2, prompt=PROMPTS[0], **ARGUMENTS)
    else:
        partial = ClaidGenerateImageOperator.partial(task_id="generate", number_of_images=2, **ARGUMENTS)
        generate = partial.expand(prompt=PROMPTS)
    images = XComArg(generate, key=KEY)
    if MAPPED == "both":
        ClaidImageSensor.partial(**WAIT).expand(images=images)
    else:
        ClaidImageSensor(images=images, **WAIT)
