"""Many prompts as one task of ours, and one prompt as a task of the HTTP provider."""

from __future__ import annotations

import json
import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.http.operators.http import HttpOperator

from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator

COUNT = int(os.environ.get("BENCHMARK_COUNT", "1"))
BODY = {"input": "a red bicycle leaning against a wall", "options": {"number_of_images": 1, "guidance_scale": 5.0}}

with DAG("catalogue", schedule=None, start_date=datetime(2026, 1, 1)):
    ClaidGenerateBatchOperator(
        task_id="batch",
        prompts=[f"a red bicycle, number {number}" for number in range(COUNT)],
        save_to=os.environ.get("BENCHMARK_FOLDER", "file:///tmp/claid-benchmark/"),
    )
    HttpOperator(
        task_id="http",
        http_conn_id="benchmark_http",
        endpoint="/v1/image/generate",
        method="POST",
        data=json.dumps(BODY),
        headers={"Content-Type": "application/json", "Authorization": "Bearer sandbox-key"},
        response_filter=lambda response: response.json()["data"]["output"],
    )
