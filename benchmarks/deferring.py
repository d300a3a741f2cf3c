"""The process in which many deferred generations run in one event loop; run by `benchmarks.deferred`."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook

from benchmarks.child import forget_peak, megabytes, serve
from benchmarks.contestants import BASE, CAP, HEADERS, body
from benchmarks.lateness import lateness, run_out

CLAID, HTTP = "claid_default", "http_default"
DEADLINE = 3600.0


def start() -> dict[str, Any]:
    """Load what every triggerer has."""
    import_module("airflow.triggers.base")
    BaseHook.get_connection(CLAID)
    return {"rss": megabytes("VmRSS")}


def warm(kind: str) -> dict[str, Any]:
    """Load the class, then run one trigger; say by how much each held up the loop."""
    return asyncio.run(_warm(kind))


def defer(kind: str, count: int, seconds: float, *, again: bool) -> dict[str, Any]:
    """Run so many triggers together, for so many seconds at most; `again`: one that failed after a random wait."""
    return asyncio.run(_defer(kind, count, seconds, again))


async def _warm(kind: str) -> dict[str, Any]:
    async with lateness() as importing:
        import_module(MODULES[kind])
    async with lateness() as first:
        event = await run_out(TRIGGERS[kind]("warm", 0))
    return {"import": importing.longest(), "first": first.longest(), "event": event.payload["status"]}


async def _defer(kind: str, count: int, seconds: float, again: bool) -> dict[str, Any]:
    began = time.perf_counter()
    gc.collect()
    collection = time.perf_counter() - began
    events: Counter[str] = Counter()
    ends = [0.0]
    runs = 0

    async def run(number: int) -> None:
        nonlocal runs
        tries = 0
        while True:
            runs += 1
            status = (await run_out(TRIGGERS[kind]("run", number))).payload["status"]
            if status in DONE or not again:
                break
            await asyncio.sleep(random.uniform(0, min(CAP, BASE * 2**tries)))
            tries += 1
        events[status] += 1
        ends.append(time.monotonic())

    forget_peak()
    before = megabytes("VmRSS")
    async with lateness() as late:
        started, cpu = time.monotonic(), time.process_time()
        tasks = []
        for number in range(count):
            # So does the triggerer between two of them.
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(run(number)))
        await asyncio.wait(tasks, timeout=seconds)
        used = time.process_time() - cpu
        for task in tasks:
            task.cancel()
    peak = megabytes("VmHWM")
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "started": started,
        "makespan": max(ends) - started,
        "events": dict(events),
        "done": sum(events[status] for status in DONE),
        "runs": runs,
        "stall": late.longest(),
        "own_stall": late.longest(collections=False),
        "p99": late.p99(),
        "collection": collection,
        "cpu": used,
        "held": peak - before,
    }


def _claid(run: str, number: int) -> Any:
    """Make a trigger from plain JSON, as a triggerer does: nothing else of ours is loaded for it."""
    from airflow_provider_claid.triggers.generate import ClaidGenerateTrigger

    order = {
        "identity": {"dag_id": "benchmark", "run_id": run, "task_id": "generate", "map_index": number},
        "generation": 0,
        "request": body(_prompt(number)),
        "claid_conn_id": CLAID,
    }
    records = os.environ["AIRFLOW__CLAID__RECORDS_PATH"]
    return ClaidGenerateTrigger(order=order, records_path=records, deadline=time.time() + DEADLINE)


def _http(_: str, number: int) -> Any:
    from airflow.providers.http.triggers.http import HttpTrigger

    headers = HEADERS | {"Content-Type": "application/json"}
    data = json.dumps(body(_prompt(number)))
    return HttpTrigger(HTTP, endpoint="v1/image/generate", headers=headers, data=data)


def _prompt(number: int) -> str:
    return f"a red bicycle leaning against wall {number}"


DONE = ("paid", "success")
MODULES = {
    "ours": "airflow_provider_claid.triggers.generate",
    "http": "airflow.providers.http.triggers.http",
}
TRIGGERS: dict[str, Callable[[str, int], Any]] = {"ours": _claid, "http": _http}

if __name__ == "__main__":
    serve(start=start, warm=warm, defer=defer)
