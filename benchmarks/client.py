"""Requests per second of the client with pacing off, beside bare httpx on the same server."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from airflow_provider_claid.api import client
from airflow_provider_claid.api.client import ClaidClient, OpenGate
from airflow_provider_claid.api.endpoint import Endpoint
from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import generate
from airflow_provider_claid.pacing import pacer
from airflow_provider_claid.pacing.schedule import Pace, Schedule
from airflow_provider_claid.pacing.sqlite import SQLiteStore
from airflow_provider_claid.pacing.store import MemoryStore, ScheduleStore
from benchmarks.contestants import HEADERS, body
from benchmarks.sandbox import KEY, reset, sandbox
from benchmarks.table import show

CONCURRENCY = (1, 16, 64)
REQUESTS, ROUNDS = 400, 12
PROMPT = "a red bicycle leaning against a wall"
HUGE = Pace(per_second=10_000, per_minute=1_000_000)

Send = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Speed:
    """Requests per second by the clock, and CPU microseconds of the client for each."""

    per_second: float
    cpu: float


def main() -> None:
    """Measure all contestants in turns and print the table."""
    with (
        tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder,
        sandbox("--latency", "0", "--per-second", "0", "--per-minute", "0", "--seed", "1") as url,
    ):
        rows = [row for concurrency in CONCURRENCY for row in asyncio.run(_compare(url, Path(folder), concurrency))]
    show(
        "Client throughput, pacing off",
        ("at once", "client", "requests/s", "**ratio to bare httpx**", "slowest to fastest round", "CPU us a request"),
        rows,
        f"{ROUNDS} rounds of {REQUESTS} requests, contestants in turns in one process; goal: a ratio of at least 0.8.",
        "Medians over the rounds; the ratio is the median of each round's ratio.",
        "Bare httpx: `AsyncClient.post(json=...)` and `.json()`, unchecked. Pacing off: `ClaidClient.generate` with an "
        "open gate, request and answer validated. The last two rows: `generate()` at 10,000 requests/s.",
    )


async def _compare(url: str, folder: Path, concurrency: int) -> list[tuple[object, ...]]:
    account = Account("sqlite", Endpoint(KEY, url, 60.0), HUGE, folder)
    in_memory = Account("memory", account.endpoint, HUGE, folder)
    stores = [MemoryStore(), SQLiteStore(folder, account.name)]
    pacer._stores[in_memory.name, folder, None] = stores[0]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, limits=limits, timeout=60.0) as bare:
        contestants: dict[str, Send] = {
            "bare httpx": lambda: _bare(bare),
            "ours, pacing off": lambda: ClaidClient(account.endpoint).generate(_request(), OpenGate()),
            "ours, generate(), memory": lambda: generate(in_memory, _request()),
            "ours, generate(), SQLite": lambda: generate(account, _request()),
        }
        found: dict[str, list[Speed]] = {name: [] for name in contestants}
        for number in range(ROUNDS + 1):
            # Another one begins each round; the first round warms up.
            order = [*contestants][number % len(contestants) :] + [*contestants][: number % len(contestants)]
            for name in order:
                _forget(url, stores)
                speed = await _speed(contestants[name], concurrency)
                if number:
                    found[name].append(speed)
    pacer.close()
    await client.close()
    return _rows(concurrency, found)


def _forget(url: str, stores: list[ScheduleStore]) -> None:
    """Empty the sandbox and the schedules, so that every round begins alike."""
    reset(url)
    for store in stores:
        store._step(lambda schedule, _now, _budget: _empty(schedule))


def _empty(schedule: Schedule) -> None:
    del schedule.bookings[:]


def _request() -> GenerateRequest:
    return check_request(PROMPT, 1, 5.0, None)


async def _bare(bare: httpx.AsyncClient) -> object:
    answer = await bare.post("/v1/image/generate", json=body(PROMPT))
    return answer.json()


async def _speed(send: Send, concurrency: int) -> Speed:
    """Send one round, so many requests at once, on connections that are open already."""
    turns = iter(range(REQUESTS))

    async def worker() -> None:
        for _ in turns:
            await send()

    await asyncio.gather(*(send() for _ in range(concurrency)))
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return Speed(REQUESTS / (time.perf_counter() - started), (time.process_time() - cpu) / REQUESTS * 1e6)


def _rows(concurrency: int, found: dict[str, list[Speed]]) -> list[tuple[object, ...]]:
    base = found["bare httpx"]
    rows: list[tuple[object, ...]] = []
    for name, speeds in found.items():
        rates = [speed.per_second for speed in speeds]
        cpu = statistics.median(speed.cpu for speed in speeds)
        ratio = statistics.median(rate / other.per_second for rate, other in zip(rates, base, strict=True))
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        rows.append((concurrency, name, f"{statistics.median(rates):.0f}", f"**{ratio:.2f}**", spread, f"{cpu:.0f}"))
    return rows


if __name__ == "__main__":
    main()
