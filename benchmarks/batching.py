"""A process that runs batches as a task does, for `benchmarks.batch`."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_claid.delivery import sync
from airflow_provider_claid.delivery.batch import run as run_module
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator
from benchmarks.child import measured, megabytes, serve

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "/tmp"))


def run(count: int, name: str) -> dict[str, Any]:
    """Run one batch from a file; tell seconds, CPU seconds, and memory in MB over what it was before."""
    folder = FOLDER / name
    folder.mkdir()
    prompts = folder / "prompts.jsonl"
    with prompts.open("w") as file:
        for number in range(count):
            file.write(json.dumps({"id": f"sku-{number}", "prompt": f"a red bicycle, number {number}"}) + "\n")
    operator = ClaidGenerateBatchOperator(task_id="batch", prompts=f"file://{prompts}", save_to=f"file://{folder}/out/")
    before = megabytes("VmRSS")
    with operator._batch({"ti": instance(name)}) as batch:
        marks: dict[int, float] = {}

        def show(snapshot: Any) -> None:
            marks.setdefault(4 * snapshot.counts.done // count, megabytes("VmRSS") - before)

        used = measured(lambda: sync.run(run_module.run(replace(batch, show=show))) and None)
        manifest = batch.manifest.seconds
    over = {"peak": used["peak"] - before, "quarter": marks.get(1, 0.0), "half": marks.get(2, 0.0)}
    return {"seconds": used["wall"], "cpu": used["cpu"], "manifest": manifest} | over


def instance(name: str) -> Any:
    """Return what a batch uses of a task instance."""
    return SimpleNamespace(
        dag_id="benchmark", run_id=name, task_id="batch", map_index=-1, try_number=1, max_tries=0, stats_tags={}
    )


if __name__ == "__main__":
    serve(run=run)
