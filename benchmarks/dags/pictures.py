"""One picture, delivered in each of the three ways."""

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

PROMPT = "a red bicycle leaning against a wall"

with DAG("pictures", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    ClaidGenerateImageOperator(task_id="output_folder", prompt=PROMPT, output_folder="storage://my-storage/benchmark/")
    ClaidGenerateImageOperator(task_id="file", prompt=PROMPT, save_to=os.environ["BENCHMARK_FOLDER"])
    ClaidGenerateImageOperator(
        task_id="s3", prompt=PROMPT, save_to=os.environ["BENCHMARK_BUCKET"], storage_conn_id="aws_default"
    )
