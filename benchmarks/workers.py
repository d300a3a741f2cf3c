"""A catalogue over two Celery workers that share an account: pace, refusals and CPU, ours beside httpx with backoff."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import psutil

from benchmarks import ideal
from benchmarks.table import show
from tests.distributed import catalogue
from tests.distributed.catalogue import PROMPTS
from tests.distributed.deployment import PER_MINUTE, PER_SECOND, Deployment, deployment
from tests.services import sessions
from tests.services.celery import WORKERS
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

BACKOFF = Path(__file__).parent / "dags" / "backoff.py"
CONTESTANTS = {"ours": catalogue.DAG, "httpx with backoff": "backoff"}
ROUNDS = 2
LONGEST = 600.0
"""Seconds for a run of a Dag."""


def main(arguments: list[str] | None = None) -> None:
    """Start PostgreSQL, Redis and an Airflow, let the contestants run in turns, and print the table (10 minutes)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="claid-benchmark-") as folder,
        RedisServer() as redis,
        PostgresServer() as postgres,
        deployment(Path(folder), redis, postgres, BACKOFF) as deployed,
    ):
        rows = [measured(deployed, name, number) for number in range(chosen.rounds) for name in chosen.contestants]
    show(
        f"Two Celery workers, {PROMPTS:,} prompts",
        ("round", "Dag", "seconds", "ideal s", "**ratio**", "429 (minute / second)", "POSTs", "billed",
         "CPU ms of the workers a picture", "load at its start", "at its end"),
        rows,
        f"{PER_SECOND} requests a second and {PER_MINUTE:,} a minute, chunks of {catalogue.CHUNK}, 1 to 8 s a picture; "
        "from the first request to the last answer.",
        "Ours records each request before it is sent, checks and stores the pictures; backoff stores them. The CPU is "
        "that of both workers with all their tasks.",
    )  # fmt: skip


def measured(deployed: Deployment, name: str, number: int) -> tuple[object, ...]:
    """Run a Dag once and return its row."""
    sys.stderr.write(f"{name}, round {number + 1} ...\n")
    before, load = used(deployed), os.getloadavg()[0]
    deployed.reset()
    run = catalogue.start(deployed, f"{CONTESTANTS[name]}-{number}", CONTESTANTS[name])
    if (state := run.wait(LONGEST)) != "success":
        raise RuntimeError(f"The run of {name} ended as {state}")
    seen = deployed.report()
    totals, refused = seen["totals"], seen["totals"]["refused"]
    taken, best = ideal.reached(seen["requests"], PER_SECOND, PER_MINUTE)
    return (
        number + 1,
        name,
        f"{taken:.1f}",
        f"{best:.1f}",
        f"**{best / taken:.3f}**",
        f"{refused['total']} ({refused['minute']} / {refused['second']})",
        totals["posts"],
        totals["credits"],
        f"{(used(deployed) - before) / PROMPTS * 1000:.0f}",
        f"{load:.1f}",
        f"{os.getloadavg()[0]:.1f}",
    )


def used(deployed: Deployment) -> float:
    """Return the CPU seconds that both workers have used, with the tasks that have ended."""
    pids = [deployed.airflow.pid(worker) for worker in WORKERS]
    return sum(sum(seconds_of(process)) for pid in pids for process in sessions.members(pid))


def seconds_of(process: psutil.Process) -> tuple[float, ...]:
    """Return user and system CPU seconds of a process and of its children that have ended."""
    times = process.cpu_times()
    return times.user, times.system, times.children_user, times.children_system


if __name__ == "__main__":
    main()
