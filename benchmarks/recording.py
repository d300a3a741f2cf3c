"""The process that writes records; run by `benchmarks.records`."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_claid.api import client
from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.models import GeneratedImage
from airflow_provider_claid.delivery import clock
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.payment import pay
from airflow_provider_claid.delivery.records.submission import Intent, Result, fingerprint
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.hooks.order import Order
from airflow_provider_claid.hooks.records import recorded_in
from airflow_provider_claid.pacing import pacer
from airflow_provider_claid.pacing.schedule import Pace
from airflow_provider_claid.pacing.store import MemoryStore
from benchmarks.child import serve
from benchmarks.sandbox import KEY, reset

CONNECTION = "aws_default"
REQUEST = check_request("a red bicycle leaning against a wall", 1, 5.0, None)
IMAGE = GeneratedImage(tmp_url="https://images.claid.ai/temporary/0123456789abcdef.png", width=1024, height=1024)
TOKEN = "0123456789abcdef0123456789abcdef"
HUGE = Pace(per_second=10_000, per_minute=1_000_000)

Send = Callable[[str], Awaitable[object]]


def start() -> dict[str, Any]:
    """Load what every task needs that has a connection."""
    BaseHook.get_connection(CONNECTION)
    return {}


def write(way: str, place: str, run: str, count: int) -> dict[str, Any]:
    """Write the records of so many generations, one after the other; return the milliseconds of each step of each."""
    steps = WAYS[way](place, run)
    return {"steps": [steps(number) for number in range(count)]}


def send(ways: list[str], places: dict[str, str], url: str, requests: int, at_once: int) -> dict[str, Any]:
    """Have so many pictures generated in each of these ways, one way after the other."""
    return asyncio.run(_send(ways, places, url, requests, at_once))


def _records(place: str, run: str) -> Callable[[int], list[float]]:
    def steps(number: int) -> list[float]:
        begun = time.perf_counter()
        identity = Identity("benchmark", run, "generate", number)
        records = recorded_in(place, identity)
        assert records is not None
        now = clock.now()
        lost_at = now + timedelta(seconds=240)
        wish = fingerprint(REQUEST, "claid_default", "https://api.claid.ai")
        intent = Intent(identity, 1, 1, 0, TOKEN, wish, REQUEST, None, now, lost_at)
        result = Result(TOKEN, "done", "yes", now, "req-0123456789", (IMAGE,))
        opened = time.perf_counter()
        assert records.claim(intent)
        claimed = time.perf_counter()
        records.finish(1, result)
        return _milliseconds(begun, opened, claimed, time.perf_counter())

    return steps


def _bare(put: Callable[[str, bytes, bool], None]) -> Callable[[int], list[float]]:
    """Write as many bytes as the records have, with nothing of ours."""

    def steps(number: int) -> list[float]:
        begun = time.perf_counter()
        put(f"{number}.intent", b"x" * 650, True)
        claimed = time.perf_counter()
        put(f"{number}.result", b"x" * 350, False)
        return _milliseconds(begun, begun, claimed, time.perf_counter())

    return steps


def _milliseconds(*moments: float) -> list[float]:
    return [(after - before) * 1000 for before, after in pairwise(moments)]


def _files(place: str, run: str) -> Callable[[int], list[float]]:
    folder = Path(place.removeprefix("file://"), run)
    folder.mkdir(parents=True, exist_ok=True)

    def put(name: str, data: bytes, new: bool) -> None:
        with (folder / name).open("xb" if new else "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    return _bare(put)


def _boto3(place: str, run: str) -> Callable[[int], list[float]]:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    s3 = S3Hook(CONNECTION).get_conn()

    def put(name: str, data: bytes, new: bool) -> None:
        condition = {"IfNoneMatch": "*"} if new else {}
        s3.put_object(Bucket=bucket, Key=f"{prefix}{run}/{name}", Body=data, **condition)

    return _bare(put)


WAYS: dict[str, Callable[[str, str], Callable[[int], list[float]]]] = {
    "records": _records,
    "files": _files,
    "boto3": _boto3,
}


@dataclass(frozen=True)
class Way:
    """Whether records are kept, in which place, and whether they are read first."""

    place: str | None = None
    first_try: bool = False


SENDS = {
    "generate": Way(),
    "local": Way("local", first_try=True),
    "local, read first": Way("local"),
    "s3": Way("s3", first_try=True),
    "s3, read first": Way("s3"),
}


async def _send(ways: list[str], places: dict[str, str], url: str, requests: int, at_once: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder:
        account = Account("records", Endpoint(KEY, url, 60.0), HUGE, Path(folder))
        found = {}
        for way in ways:
            pacer._stores[account.name, account.pacing_dir, None] = MemoryStore()
            reset(url)
            one = _one(account, SENDS[way], places)
            # Connections are open and the store of records is proven before anything is measured.
            await asyncio.gather(*(one(f"warm-{number}") for number in range(at_once)))
            found[way] = await _measured(one, requests, at_once)
            pacer.close()
    await client.close()
    return found


def _one(account: Account, way: Way, places: dict[str, str]) -> Send:
    run = f"{time.time()}"

    async def one(number: str) -> object:
        if way.place is None:
            return await generate(account, REQUEST)
        order = Order(Identity("benchmark", run, f"generate-{number}"), 0, REQUEST, "claid_default")
        records = await in_thread(recorded_in, places[way.place], order.identity)
        assert records is not None
        return await pay(account, order.ledger(account, records), first_try=way.first_try)

    return one


async def _measured(one: Send, requests: int, at_once: int) -> dict[str, Any]:
    taken: list[float] = []
    numbers = iter(range(requests))

    async def worker() -> None:
        for number in numbers:
            begun = time.perf_counter()
            await one(str(number))
            taken.append((time.perf_counter() - begun) * 1000)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"taken": taken, "per_second": requests / wall, "cpu": cpu / requests * 1000}


if __name__ == "__main__":
    serve(start=start, write=write, send=send)
