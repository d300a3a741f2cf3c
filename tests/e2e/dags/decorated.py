"""Functions that return what pictures are made of: one prompt, one with options, many, and mapped over."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import dag, task

FOLDER = os.environ.get("CLAID_TEST_FOLDER", "file:///tmp/claid-test/")


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False)
def decorated():
    @task.claid_images(save_to=FOLDER)
    def one(name: str) -> str:
        return f"a {name} {{{{ which is data }}}}"

    @task.claid_images(save_to=FOLDER, number_of_images=4)
    def sized() -> dict:
        return {"prompt": "a green boat", "id": "boat", "number_of_images": 2}

    @task.claid_images(save_to=FOLDER)
    def many(names: list[str]) -> list:
        return [{"prompt": f"a {name}", "id": name} for name in names]

    @task.claid_images(save_to=FOLDER, max_failed=0)
    def single(ti=None) -> list[str]:
        return [f"only one for {ti.dag_id}"]

    @task
    def names() -> list[str]:
        return ["cup", "car"]

    found = names()
    one("red bicycle")
    sized()
    many(found)
    single()
    one.override(task_id="mapped").expand(name=found)


decorated()
