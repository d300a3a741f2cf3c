"""
A batch with pacing off: its CPU a picture beside mapped HttpOperator, its throughput beside bare httpx.

`python -m benchmarks.batch --count 100000` runs one batch of that size alone, for its memory and its manifest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.child import Child
from benchmarks.contestants import HEADERS, body
from benchmarks.sandbox import KEY, report, reset, sandbox
from benchmarks.table import show
from benchmarks.task import environment

PROMPTS, ROUNDS, AT_ONCE = 1000, 5, 64
LIMIT = 3600
UNPACED = {"requests_per_second": 10_000, "requests_per_minute": 1_000_000}
OPTIONS = ("--latency", "0", "--per-second", "0", "--per-minute", "0", "--seed", "1", "--plain")


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, help="prompts of one batch that is measured alone")
    count = parser.parse_args(arguments).count
    with tempfile.TemporaryDirectory(prefix="claid-benchmark-") as home, sandbox(*OPTIONS) as url:
        variables = environment(Path(home), url, "") | _connections(url)
        if count:
            _large(variables, count)
            return
        _processor(variables, Path(home))
        _throughput(variables, url)


def _connections(url: str) -> dict[str, str]:
    claid = {"conn_type": "claid", "host": url, "password": KEY, "extra": UNPACED}
    http = {"conn_type": "http", "host": url}
    return {
        "AIRFLOW_CONN_CLAID_DEFAULT": json.dumps(claid),
        "AIRFLOW_CONN_BENCHMARK_HTTP": json.dumps(http),
        "BENCHMARK_COUNT": str(PROMPTS),
    }


def _processor(variables: dict[str, str], home: Path) -> None:
    out = home / "out.json"
    plan = json.dumps([["catalogue", "http", 15], ["catalogue", "batch", 1]])
    command = [sys.executable, "-m", "benchmarks.worker", str(out), plan]
    subprocess.run(command, env=variables, check=True, timeout=LIMIT, stdout=subprocess.DEVNULL)
    used: dict[str, list[float]] = {}
    for one in json.loads(out.read_text()):
        used.setdefault(one["task"], []).append(one["cpu"])
    http, batch = statistics.median(used["http"]), used["batch"][-1] / PROMPTS
    show(
        f"CPU a picture, {PROMPTS} prompts",
        ("how", "tasks", "CPU ms a picture", "**times ours**"),
        [
            ("mapped HttpOperator", PROMPTS, f"{http:.0f}", f"**{http / batch:.0f}**"),
            ("one batch", 1, f"{batch:.2f}", "1"),
        ],
        f"The child that a warm worker forks for a task; HttpOperator: the median of {len(used['http'])} tasks, which "
        "download and store nothing. Ours records, downloads, checks and stores. What the scheduler and the API server "
        "do for each task is in neither. Goal: 20 times.",
    )


def _throughput(variables: dict[str, str], url: str) -> None:
    bare, ours, ratios, cpus = [], [], [], []
    with Child("benchmarks.batching", variables) as child:
        for number in range(ROUNDS + 1):
            reset(url)
            one = asyncio.run(_bare(url))
            reset(url)
            other = child.ask("run", count=PROMPTS, name=f"round-{number}")
            if report(url)["totals"]["credits"] != PROMPTS:
                raise RuntimeError("Not every prompt was paid for once")
            if number:
                bare.append(one)
                ours.append(PROMPTS / other["seconds"])
                ratios.append(ours[-1] / one)
                cpus.append(other["cpu"] / PROMPTS * 1000)
    show(
        f"Throughput of a batch, {PROMPTS} prompts, pacing off",
        ("how", "pictures/s", "**ratio**", "slowest to fastest round", "CPU ms a picture"),
        [
            ("bare httpx", f"{statistics.median(bare):.0f}", "1", f"{min(bare):.0f} to {max(bare):.0f}", ""),
            ("batch", f"{statistics.median(ours):.0f}", f"**{statistics.median(ratios):.2f}**",
             f"{min(ours):.0f} to {max(ours):.0f}", f"{statistics.median(cpus):.1f}"),
        ],
        f"Medians of {ROUNDS} rounds in turns. Bare httpx: {AT_ONCE} at once, each posts, downloads the picture and "
        "writes it to a file; it checks and records nothing. Goal: 0.8.",
    )  # fmt: skip


async def _bare(url: str) -> float:
    """Return pictures a second of what one would write without us."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE, keepalive_expiry=2.0)
    turns = iter(range(PROMPTS))
    with tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder:
        async with httpx.AsyncClient(base_url=url, headers=HEADERS, limits=limits, timeout=60.0) as client:

            async def worker() -> None:
                for number in turns:
                    answer = await client.post("/v1/image/generate", json=body(f"a red bicycle, number {number}"))
                    picture = await client.get(answer.json()["data"]["output"][0]["tmp_url"])
                    Path(folder, f"{number}.png").write_bytes(picture.content)  # noqa: ASYNC240

            begun = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
            return PROMPTS / (time.perf_counter() - begun)


def _large(variables: dict[str, str], count: int) -> None:
    with Child("benchmarks.batching", variables) as child:
        child.ask("run", count=100, name="warm")
        found: dict[str, Any] = child.ask("run", count=count, name="large")
    names = ("pictures/s", "CPU ms a picture", "**RSS MB over its start**", "at a quarter", "at a half", "**manifest**")
    row = (
        f"{count / found['seconds']:.0f}",
        f"{found['cpu'] / count * 1000:.1f}",
        f"**{found['peak']:.0f}**",
        f"{found['quarter']:.0f}",
        f"{found['half']:.0f}",
        f"**{found['manifest'] / found['seconds']:.1%}** of the time",
    )
    show(
        f"One batch of {count:,} prompts, pacing off",
        names,
        [row],
        "Prompts from a .jsonl file with ids, records and pictures in a folder of this machine. RSS over that after a "
        "batch of 100. Goal: at most 150 MB, flat; the manifest at most 5 % of the time.",
    )


if __name__ == "__main__":
    main()
