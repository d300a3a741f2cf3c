"""Mapped generation, by what the test put into the environment: expanded, by rows, or inside a mapped task group."""

import json
import os
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task, task_group

from airflow_provider_claid.operators.claid import ClaidGenerateImageOperator

WANTED = json.loads(os.environ.get("TEST_MAPPED", '{"expand": {"prompt": ["a red bicycle"]}}'))
RETRIES = {"retries": 2, "retry_delay": timedelta(0)}

with DAG(
    "mapped",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={"sku": "shoe"},
    render_template_as_native_obj=WANTED.get("native", False),
) as dag:
    partial = {"task_id": "generate", **RETRIES, **WANTED.get("partial", {})}

    @task
    def listed(values):
        return values

    if "group" in WANTED:

        @task_group
        def each(prompt):
            ClaidGenerateImageOperator(prompt=prompt, **partial)

        each.expand(prompt=WANTED["group"])
    elif "rows" in WANTED:
        ClaidGenerateImageOperator.partial(**partial).expand_kwargs(WANTED["rows"])
    elif "rows_of_a_task" in WANTED:
        ClaidGenerateImageOperator.partial(**partial).expand_kwargs(listed(WANTED["rows_of_a_task"]))
    elif "listed" in WANTED:
        values = {name: listed.override(task_id=f"list_{name}")(values) for name, values in WANTED["listed"].items()}
        ClaidGenerateImageOperator.partial(**partial).expand(**values)
    elif "decorated" in WANTED:

        @task.claid_images(**partial)
        def prompted(name):
            return {"prompt": f"a {name}", "id": name} if WANTED.get("ids") else f"a {name}"

        prompted.expand(name=WANTED["decorated"])
    else:
        ClaidGenerateImageOperator.partial(**partial).expand(**WANTED["expand"])
