"""
A whole catalogue of prompts becomes pictures: in chunks, on all workers at once, at the account's full speed.

The list is a text file with a prompt a line (`.txt`), or a JSON object a line with `prompt` and an `id` of its own that
names the picture (`.jsonl`). Each run has a folder for its pictures, and each chunk is a task. One that fails, or whose
worker is lost, is tried again and goes on with what is missing of it; what was paid for is never paid again. A picture
costs one credit.

Needs the Airflow connection `claid_default` (type Claid.ai, password = API key), with a `pacing_conn_id` if the workers
are on several machines, and folders that all of them reach, `s3://` say.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import datetime, timedelta

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    ObjectStoragePath,
    Param,
    dag,
    get_current_context,
    task,
)

from airflow_provider_claid.delivery.names import name_key
from airflow_provider_claid.operators.claid import ClaidGenerateBatchOperator

PROMPTS = os.environ.get("CLAID_CATALOG_PROMPTS", "file:///tmp/claid-catalog/prompts.txt")
FOLDER = os.environ.get("CLAID_CATALOG_FOLDER", "file:///tmp/claid-catalog/")
PARAMS = {
    "prompts": Param(PROMPTS, type="string", pattern=r"\.(txt|jsonl)$", description="URI of the list"),
    "folder": Param(FOLDER, type="string", pattern="/$", description="URI of the folder that gets everything"),
    "chunk": Param(500, type="integer", minimum=1, description="Prompts of one task"),
    "max_failed": Param(
        0, type="number", minimum=0, description="How many prompts of a chunk may fail: below 1 a share, else a count"
    ),
}


def ids_of(lines: list[str], suffix: str) -> Counter[str]:
    """
    Count the ids of a list by the files that they name: `42` and `42.png`, `A` and `a` are one.

    A line that is no JSON object is left for the task of its chunk to refuse.
    """
    counts: Counter[str] = Counter()
    for line in lines if suffix == ".jsonl" else ():
        try:
            name = name_key(json.loads(line)["id"])
        except (KeyError, TypeError, ValueError, RecursionError):
            continue
        counts.update([name] if name else [])
    return counts


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["claid"],
    params=PARAMS,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=30)},
    doc_md=__doc__,
)
def claid_catalog():
    @task
    def cut(params: dict, run_id: str) -> list[str]:
        """Cut the list into files of a chunk each, so that no prompt travels through Airflow's database."""
        source, folder = ObjectStoragePath(params["prompts"]), ObjectStoragePath(params["folder"]) / "chunks" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        # Records go into a folder that is there: a provider does not make one, as a lost one holds what was paid for.
        (ObjectStoragePath(params["folder"]) / "records").mkdir(parents=True, exist_ok=True)
        lines = [line for line in source.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        # Chunks share a folder, and each of them knows only its own ids.
        if twice := [each for each, count in ids_of(lines, source.suffix).items() if count > 1]:
            raise AirflowFailException(f"{source} has these ids more than once: {twice[:10]}. Nothing was sent")
        chunks = []
        for number, start in enumerate(range(0, len(lines), params["chunk"])):
            chunks.append(folder / f"{number:05}{source.suffix}")
            chunks[-1].write_text("\n".join(lines[start : start + params["chunk"]]), encoding="utf-8")
        return [str(chunk) for chunk in chunks]

    chunks = cut()
    pictures = ClaidGenerateBatchOperator.partial(
        task_id="generate",
        save_to="{{ params.folder }}pictures/{{ run_id }}/",
        records_path="{{ params.folder }}records/",
        max_failed="{{ params.max_failed }}",
    ).expand(prompts=chunks)

    @task
    def report(chunks: list[str] | None) -> dict[str, int]:
        """Print what became of the prompts of each chunk, also of one that failed, and return the sums."""
        ti = get_current_context()["ti"]
        if not chunks:
            return {}
        results = ti.xcom_pull("generate", key="claid_result", map_indexes=list(range(len(chunks))))
        totals: Counter[str] = Counter()
        for chunk, result in zip(chunks, results, strict=True):
            print(chunk, result or "has no result")
            totals.update({name: count for name, count in (result or {}).items() if name != "manifest"})
        return dict(totals)

    # A teardown runs whatever became of the chunks, and does not hide from the run that one has failed.
    pictures >> report(chunks).as_teardown()


claid_catalog()
