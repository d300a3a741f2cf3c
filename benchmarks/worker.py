"""
A warm worker: runs tasks as Airflow's LocalExecutor does, each in a forked child, and tells what each child used.

Real are the supervisor, the fork, the task runner and the parsing of the Dag file in the child. The API server's
answers come from `answer`, in the supervisor, so that none of its work is in a figure. Run by `benchmarks.task`, in an
AIRFLOW_HOME of its own, and by `benchmarks.batch`, with a plan: Dag, task and how often, as JSON.
"""

# ruff: noqa: TID251 - this is Airflow's own machinery, of 3.x; it has no other address

from __future__ import annotations

import gc
import importlib
import json
import re
import resource
import sys
import uuid
from pathlib import Path

import httpx

NOW = "2026-01-01T00:00:00Z"
DAG_RUN = {
    "dag_id": "any",
    "run_id": "any",
    "run_type": "manual",
    "state": "running",
    "logical_date": NOW,
    "data_interval_start": None,
    "data_interval_end": None,
    "start_date": NOW,
    "end_date": None,
    "run_after": NOW,
    "partition_key": None,
    "consumed_asset_events": [],
}
SDKS = ("boto3", "botocore", "aiobotocore", "s3fs")
REPEATS = 7


def main(out: str, plan: str = "") -> None:
    """Run every task several times, in turns; first the parent has not imported the operator, then it has."""
    # LocalExecutor's workers are forked from the scheduler, so they have what it has.
    import airflow.executors.local_executor
    import airflow.jobs.scheduler_job_runner
    import airflow.sdk.execution_time.supervisor
    import airflow.sdk.execution_time.task_runner  # noqa: F401

    if plan:
        gc.freeze()
        sample, todo = Path(out).with_suffix(".sample"), json.loads(plan)
        found = [{"task": task, **run_task(dag, task, sample)} for dag, task, times in todo for _ in range(times)]
        Path(out).write_text(json.dumps(found))
        return
    tasks = [("bare", "sleep"), ("pictures", "output_folder"), ("pictures", "file"), ("pictures", "s3")]
    sample = Path(out).with_suffix(".sample")
    found = []
    for imported in (False, True):
        if imported:
            importlib.import_module("airflow_provider_claid.operators.claid")
        # So does LocalExecutor before it forks: a collection in a child would copy the parent's memory.
        gc.freeze()
        for number in range(REPEATS + 1):
            for dag_id, task_id in tasks:
                used = run_task(dag_id, task_id, sample)
                if number:  # the first round fills the disk cache
                    found.append({"task": task_id, "imported": imported, **used})
    Path(out).write_text(json.dumps(found))


def run_task(dag_id: str, task_id: str, sample: Path) -> dict[str, object]:
    """Run one task in a forked child; return what the child used."""
    from airflow.executors.workloads.base import BundleInfo
    from airflow.sdk.api.client import Client
    from airflow.sdk.api.datamodels._generated import TaskInstance
    from airflow.sdk.execution_time.supervisor import ActivitySubprocess

    instance = TaskInstance(
        id=uuid.uuid4(),
        task_id=task_id,
        dag_id=dag_id,
        run_id=f"run-{uuid.uuid4()}",
        try_number=1,
        dag_version_id=uuid.uuid4(),
    )
    child = ActivitySubprocess.start(
        what=instance,
        dag_rel_path=f"{dag_id}.py",
        bundle_info=BundleInfo(name="dags-folder"),
        client=Client(base_url=None, token="", dry_run=True, transport=httpx.MockTransport(answer)),
        target=lambda: measured(sample, frozenset(sys.modules)),
    )
    if child.wait() or child.final_state != "success":
        raise RuntimeError(f"The task {task_id} ended as {child.final_state}")
    used = json.loads(sample.read_text())
    sample.unlink()
    return used


def answer(request: httpx.Request) -> httpx.Response:
    """Answer as Airflow's API server would: with the run, with a list of URIs from XCom, with yes to all the rest."""
    if request.url.path.endswith("/run"):
        return httpx.Response(200, json={"dag_run": DAG_RUN, "max_tries": 0, "should_retry": False})
    if request.method == "GET" and request.url.path.startswith("/xcoms/"):
        return httpx.Response(200, json={"key": "return_value", "value": ["file:///any.png"]})
    return httpx.Response(200, json={"ok": True})


def measured(sample: Path, before: frozenset[str]) -> None:
    """Be the child: run the task, and at its end write down what this process used."""
    from airflow.sdk.execution_time import task_runner

    try:
        task_runner.main()
    finally:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        new = set(sys.modules) - before
        used = {
            "cpu": (usage.ru_utime + usage.ru_stime) * 1000,
            "peak": _megabytes("status", "VmHWM"),
            "private": _megabytes("smaps_rollup", "Private_Dirty") + _megabytes("smaps_rollup", "Private_Clean"),
            "modules": len(new),
            "sdks": [name for name in SDKS if name in new],
        }
        sample.write_text(json.dumps(used))


def _megabytes(file: str, name: str) -> float:
    """Read a line of a file that Linux keeps for this process."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/self/{file}").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main(*sys.argv[1:])
