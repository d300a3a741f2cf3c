"""Workers that are lost in the middle: what they did is paid once, and what they left is done by the others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.timeout(600)


def billed(sandbox):
    """Return the credits of each prompt."""
    credits = Counter()
    for request in sandbox.report()["requests"]:
        if request["credits"]:
            credits[request["prompt"]] += request["credits"]
    return credits


def is_readable(uri):
    with Image.open(Path(uri.removeprefix("file://"))) as image:
        image.load()
        return image.size == (1024, 1024)


def test_deferred_generations_outlive_a_lost_worker(workers):
    airflow, sandbox = workers.airflow, workers.sandbox
    prompts = [f"deferred {number}" for number in range(60)]
    run = airflow.trigger("deferred_pictures", {"prompts": prompts, "folder": f"file://{workers.folder}/deferred/"})
    airflow.wait_for(lambda: sandbox.report()["totals"]["credits"] >= 20, 120, "a third is paid")
    lost = airflow.wait_for(lambda: airflow.task_processes("worker-1"), 60, "a task of worker-1")
    airflow.kill("worker-1")

    assert airflow.wait_run("deferred_pictures", run, 300) == "success"
    tasks = [task for task in airflow.task_instances("deferred_pictures", run) if task["task_id"] == "generate"]
    print(f"{len(lost)} tasks lost; tries: {Counter(task['try_number'] for task in tasks)}")
    assert max(task["try_number"] for task in tasks) > 1
    assert billed(sandbox) == dict.fromkeys(prompts, 1)
    assert sandbox.report()["totals"]["refused"]["total"] == 0
    for task in tasks:
        uris = airflow.xcom("deferred_pictures", run, "generate", map_index=task["map_index"])
        assert [is_readable(uri) for uri in uris] == [True]
