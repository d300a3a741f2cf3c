"""
Three prompts become three pictures in a folder: paced, paid for once, checked, stored, and seen to be there.

Needs the Airflow connection `claid_default` (type Claid.ai, password = API key) and costs three credits a run.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import dag, get_current_context, task

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator
from airflow_provider_claid.sensors.claid import ClaidImageSensor

FOLDER = os.environ.get("CLAID_QUICKSTART_FOLDER", "file:///tmp/claid-quickstart/")
PROMPTS = [
    "studio photo of a red bicycle on white",
    "a green glass teapot in morning light",
    "a paper lighthouse above a sea of blue folds",
]


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["claid"], doc_md=__doc__)
def claid_quickstart():
    pictures = ClaidGenerateImageOperator.partial(task_id="generate", save_to=FOLDER).expand(prompt=PROMPTS)

    @task
    def report(pictures: list[list[str]]) -> list[dict]:
        """Print where each picture is, its size and what it cost."""
        tasks = range(len(pictures))
        results = get_current_context()["ti"].xcom_pull("generate", key="claid_result", map_indexes=list(tasks))
        rows = [
            {"prompt": prompt, "credits": result["credits"], **image}
            for prompt, result in zip(PROMPTS, results, strict=True)
            for image in result["images"]
        ]
        for row in rows:
            print(f"{row['uri']}  {row['width']}x{row['height']}  {row['bytes']} bytes  {row['credits']} credit")
        return rows

    delivered = ClaidImageSensor(task_id="delivered", images=pictures.output, poke_interval=5, timeout=300)
    report(pictures.output) >> delivered


claid_quickstart()
