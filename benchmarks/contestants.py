"""What competes for an account's speed: each is prepared once per process and then sends one prompt per call."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_claid.pacing.place import Place
from benchmarks.ideal import PER_MINUTE, PER_SECOND
from benchmarks.sandbox import KEY

BASE, CAP, TIMEOUT = 1.0, 60.0, 60.0
HEADERS = {"Authorization": f"Bearer {KEY}"}

Send = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Course:
    """Where to send, and what all processes of one run share: a folder, and for ours the place of the schedule."""

    url: str
    folder: Path
    place: Place | None = None


async def ours(course: Course) -> Send:
    """
    Prepare `delivery.generate.generate` with the default pace.

    Its schedule is in SQLite; with a place there, and the processes have folders of their own, as hosts have.
    """
    from airflow_provider_claid.api.client import ClaidClient
    from airflow_provider_claid.api.endpoint import Endpoint
    from airflow_provider_claid.delivery.account import Account
    from airflow_provider_claid.delivery.checks import check_request
    from airflow_provider_claid.delivery.generate import generate
    from airflow_provider_claid.pacing.schedule import Pace

    if course.place:
        # Like all other imports, before the start.
        import_module("redis" if course.place.kind == "redis" else "psycopg")
    folder = course.folder / (f"pacing-{os.getpid()}" if course.place else "pacing")
    account = Account("benchmark", Endpoint(KEY, course.url, TIMEOUT), Pace(), folder, pacing_place=course.place)
    await ClaidClient(account.endpoint).storage_types()

    async def send(prompt: str) -> None:
        await generate(account, check_request(prompt, 1, 5.0, None))

    return send


async def backoff(course: Course) -> Send:
    """Prepare the usual recipe: send at once, and after a 429 again, with exponential backoff and full jitter."""
    client = await _client(course)

    async def send(prompt: str) -> None:
        tries = 0
        while not await _post(client, prompt):
            await _pause(tries)
            tries += 1

    return send


async def pyrate(course: Course) -> Send:
    """Prepare pyrate-limiter with its SQLite bucket and file lock; after a 429 the backoff, then its turn again."""
    from pyrate_limiter import Duration, Limiter, Rate, SQLiteBucket

    rates = [Rate(PER_SECOND, Duration.SECOND), Rate(PER_MINUTE, Duration.MINUTE)]
    path = str(course.folder / "pyrate.sqlite")
    limiter = Limiter(SQLiteBucket.init_from_file(rates, db_path=path, use_file_lock=True))
    client = await _client(course)

    async def send(prompt: str) -> None:
        tries = 0
        await limiter.try_acquire_async("claid")
        while not await _post(client, prompt):
            await _pause(tries)
            tries += 1
            await limiter.try_acquire_async("claid")

    return send


CONTESTANTS: dict[str, Callable[[Course], Awaitable[Send]]] = {"ours": ours, "backoff": backoff, "pyrate": pyrate}


async def _client(course: Course) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    client = httpx.AsyncClient(base_url=course.url, headers=HEADERS, timeout=TIMEOUT, limits=limits)
    (await client.get("/v1/storage/storage-types")).raise_for_status()
    return client


def body(prompt: str) -> dict[str, Any]:
    """Return the JSON of a request for one picture."""
    return {"input": prompt, "options": {"number_of_images": 1, "guidance_scale": 5.0}}


async def _post(client: httpx.AsyncClient, prompt: str) -> bool:
    """Send the prompt; tell whether it was accepted."""
    answer = await client.post("/v1/image/generate", json=body(prompt))
    if answer.status_code == 429:
        return False
    answer.raise_for_status()
    answer.json()
    return True


async def _pause(tries: int) -> None:
    await asyncio.sleep(random.uniform(0, min(CAP, BASE * 2**tries)))
