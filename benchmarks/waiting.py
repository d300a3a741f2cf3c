"""The process in which many triggers wait in one event loop; run by `benchmarks.triggerer`."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook

from benchmarks.child import megabytes, serve
from benchmarks.lateness import lateness, run_out

CONNECTION = "aws_default"
INTERVAL = 5.0


def start() -> dict[str, Any]:
    """Load what every triggerer has."""
    import_module("airflow.triggers.base")
    BaseHook.get_connection(CONNECTION)
    return {"rss": megabytes("VmRSS")}


def warm(kind: str, uris: list[str]) -> dict[str, Any]:
    """Load the class, then run one trigger for pictures that are there; say by how much each held up the loop."""
    return asyncio.run(_warm(kind, uris))


def wait(kind: str, groups: list[list[str]], seconds: float, steady: float, late: float) -> dict[str, Any]:
    """Let one trigger for each group wait, for so many seconds; CPU is from `steady` to `late`, memory at `late`."""
    return asyncio.run(_wait(kind, groups, seconds, (steady, late)))


async def _warm(kind: str, uris: list[str]) -> dict[str, Any]:
    async with lateness() as importing:
        import_module(MODULES[kind])
    async with lateness() as first:
        event = await run_out(TRIGGERS[kind](uris))
    return {"import": importing.longest(), "first": first.longest(), "event": _status(event)}


async def _wait(kind: str, groups: list[list[str]], seconds: float, window: tuple[float, float]) -> dict[str, Any]:
    began = time.perf_counter()
    gc.collect()
    collection = time.perf_counter() - began
    events: Counter[str] = Counter()
    before, (steady, end) = megabytes("VmRSS"), window

    async def run(uris: list[str]) -> None:
        events[_status(await run_out(TRIGGERS[kind](uris)))] += 1

    async with lateness() as late:
        used, tasks = [time.process_time()], []
        for uris in groups:
            # So does the triggerer between two of them.
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(run(uris)))
        await asyncio.sleep(steady)
        used.append(time.process_time())
        await asyncio.sleep(end - steady)
        used.append(time.process_time())
        held = megabytes("VmRSS") - before
        await asyncio.wait(tasks, timeout=seconds - end)
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "beginning": late.longest(end=steady),
        "own_beginning": late.longest(end=steady, collections=False),
        "later": late.longest(start=steady),
        "own_later": late.longest(start=steady, collections=False),
        "p99": late.p99(start=steady),
        "collection": collection,
        "beginning_cpu": used[1] - used[0],
        "cpu": (used[2] - used[1]) / (end - steady),
        "held": held,
        "events": dict(events),
    }


def _status(event: Any) -> str:
    payload = event.payload
    return str(payload.get("status")) if isinstance(payload, dict) else str(payload)


def _claid(uris: list[str]) -> Any:
    from airflow_provider_claid.triggers.claid import ClaidImageTrigger

    connection = CONNECTION if uris[0].startswith("s3") else None
    return ClaidImageTrigger(images=uris, storage_conn_id=connection, poke_interval=INTERVAL)


def _keys(uris: list[str]) -> Any:
    from airflow.providers.amazon.aws.triggers.s3 import S3KeyTrigger

    return S3KeyTrigger(None, uris, aws_conn_id=CONNECTION, poke_interval=INTERVAL)


def _file(uris: list[str]) -> Any:
    """Wait for the last one only: this trigger knows one file."""
    from airflow.providers.standard.triggers.file import FileTrigger

    return FileTrigger(uris[-1].removeprefix("file://"), poke_interval=INTERVAL)


MODULES = {
    "ours": "airflow_provider_claid.triggers.claid",
    "keys": "airflow.providers.amazon.aws.triggers.s3",
    "file": "airflow.providers.standard.triggers.file",
}
TRIGGERS: dict[str, Callable[[list[str]], Any]] = {"ours": _claid, "keys": _keys, "file": _file}

if __name__ == "__main__":
    serve(start=start, warm=warm, wait=wait)
