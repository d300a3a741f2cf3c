"""The process in which sensors and triggers look for pictures; run by `benchmarks.sensing`."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook, BaseSensorOperator

from benchmarks.child import forget_peak, measured, megabytes, serve
from benchmarks.lateness import lateness, run_out

CONNECTION = "aws_default"

_sensors: list[BaseSensorOperator] = []


def start() -> dict[str, Any]:
    """Load what every task needs that has a connection; return the megabytes that this takes."""
    BaseHook.get_connection(CONNECTION)
    return {"rss": megabytes("VmRSS")}


def sensor(kind: str, uris: list[str]) -> dict[str, Any]:
    """Load and make a sensor and look once."""

    def look_first() -> bool:
        _sensors[:] = [SENSORS[kind](uris)]
        return _look()

    return measured(look_first)


def again() -> dict[str, Any]:
    """Look again with the same sensor."""
    return measured(_look)


def trigger(kind: str, uris: list[str]) -> dict[str, Any]:
    """Load and make a trigger and run it to its event; `stall` is by how many seconds it held up the loop."""
    return measured(lambda: asyncio.run(_run(TRIGGERS[kind], uris)))


def begin(kind: str, folder: str) -> dict[str, Any]:
    """Look at a small folder, so that everything is loaded; return the megabytes from which memory is counted."""
    _sensors[:] = [FOLDER_SENSORS[kind](folder, 1)]
    _look()
    _sensors.clear()
    gc.collect()
    forget_peak()
    return {"rss": megabytes("VmRSS")}


def look_at(kind: str, folder: str, count: int) -> dict[str, Any]:
    """Look at a folder of `count` pictures for the first time."""

    def look_first() -> bool:
        _sensors[:] = [FOLDER_SENSORS[kind](folder, count)]
        return _look()

    return measured(look_first)


def look_on(times: int) -> dict[str, Any]:
    """Look at the same folder again, so many times."""
    return measured(lambda: all(_look() for _ in range(times)))


def _look() -> bool:
    return bool(_sensors[0].poke({}))


async def _run(make: Callable[[list[str]], Any], uris: list[str]) -> dict[str, Any]:
    async with lateness() as late:
        event = await run_out(make(uris))
    return {"event": event.payload["status"], "stall": late.longest()}


def _claid(**options: Any) -> BaseSensorOperator:
    from airflow_provider_claid.sensors.claid import ClaidImageSensor

    return ClaidImageSensor(task_id="look", storage_conn_id=CONNECTION, deferrable=False, **options)


def _claid_trigger(uris: list[str]) -> Any:
    from airflow_provider_claid.triggers.claid import ClaidImageTrigger

    return ClaidImageTrigger(images=uris, storage_conn_id=CONNECTION, poke_interval=5.0)


def _exists_trigger(uris: list[str]) -> Any:
    from airflow_provider_claid.triggers.claid import ClaidImageTrigger

    return ClaidImageTrigger(images=uris, storage_conn_id=CONNECTION, poke_interval=5.0, verify="exists")


def _keys(uris: list[str]) -> BaseSensorOperator:
    from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor

    return S3KeySensor(task_id="look", aws_conn_id=CONNECTION, bucket_key=uris, deferrable=False)


def _keys_trigger(uris: list[str]) -> Any:
    from airflow.providers.amazon.aws.triggers.s3 import S3KeyTrigger

    return S3KeyTrigger(None, uris, aws_conn_id=CONNECTION, poke_interval=5.0)


def _wildcard(folder: str, count: int) -> BaseSensorOperator:
    """Count what the list shows: without a function of one's own the first match is enough for this sensor."""
    from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor

    return S3KeySensor(
        task_id="look",
        aws_conn_id=CONNECTION,
        bucket_key=folder + "*.png",
        wildcard_match=True,
        check_fn=lambda files: len(files) >= count,
        deferrable=False,
    )


def _names(folder: str, count: int) -> list[str]:
    return [f"{folder}{number:06}.png" for number in range(count)]


SENSORS: dict[str, Callable[[list[str]], BaseSensorOperator]] = {
    "exists": lambda uris: _claid(images=uris, verify="exists"),
    "header": lambda uris: _claid(images=uris, verify="header"),
    "keys": _keys,
    "wildcard": lambda uris: _wildcard(uris[0].rpartition("/")[0] + "/", len(uris)),
}
FOLDER_SENSORS: dict[str, Callable[[str, int], BaseSensorOperator]] = {
    "exists": lambda folder, count: _claid(folder=folder, expected_count=count, verify="exists"),
    "header": lambda folder, count: _claid(folder=folder, expected_count=count, verify="header"),
    "images": lambda folder, count: _claid(images=_names(folder, count), verify="header"),
    "wildcard": _wildcard,
}
TRIGGERS: dict[str, Callable[[list[str]], Any]] = {
    "header": _claid_trigger,
    "exists": _exists_trigger,
    "keys": _keys_trigger,
}

if __name__ == "__main__":
    serve(start=start, sensor=sensor, again=again, trigger=trigger, begin=begin, look_at=look_at, look_on=look_on)
