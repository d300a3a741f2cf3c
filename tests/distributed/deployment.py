"""Airflow with two Celery workers on this machine, and a sandbox: both at ten times the default limits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import sandbox
from benchmarks.sandbox import KEY
from tests.services.celery import CeleryAirflow
from tests.services.postgres import PostgresServer
from tests.services.processes import REPOSITORY
from tests.services.redis import RedisServer

PER_SECOND, PER_MINUTE = 40, 1200
OPTIONS = (
    "--per-second", str(PER_SECOND), "--per-minute", str(PER_MINUTE), "--latency", "1-8", "--seed", "7", "--plain",
)  # fmt: skip
REQUEST_TIMEOUT = 20
"""Seconds; a retry waits so long, and a minute more, for the answer of a request that a killed task has sent."""
CONCURRENCY = 3
"""Tasks of a worker: four chunks then need both workers, and leave room for other tasks."""


@dataclass(frozen=True)
class Deployment:
    """A running deployment: its Airflow, the address of its sandbox, and the `folder` that all its machines share."""

    airflow: CeleryAirflow
    url: str
    folder: Path

    def report(self, newest: int | None = None) -> dict[str, Any]:
        """Return what the sandbox has seen, with the `newest` requests, by default all."""
        return sandbox.report(self.url, newest)

    def reset(self) -> None:
        """Let the sandbox forget what it has seen."""
        sandbox.reset(self.url)


@contextmanager
def deployment(folder: Path, redis: RedisServer, postgres: PostgresServer, *dags: Path) -> Iterator[Deployment]:
    """Start an Airflow in `folder` with these Dag files and the catalogue's, its servers being these, and a sandbox."""
    files = folder / "dags"
    files.mkdir()
    for file in (REPOSITORY / "dags" / "claid_catalog.py", *dags):
        shutil.copy(file, files)
    urls = redis.url(), postgres.url(driver="psycopg")
    with sandbox.sandbox(*OPTIONS, ahead=True) as url:
        environment = _connections(url, redis)
        with CeleryAirflow(folder / "home", files, *urls, environment, concurrency=CONCURRENCY) as airflow:
            yield Deployment(airflow, url, folder / "shared")


def _connections(url: str, redis: RedisServer) -> dict[str, str]:
    pace = {"requests_per_second": PER_SECOND, "requests_per_minute": PER_MINUTE}
    extra: dict[str, Any] = {**pace, "request_timeout": REQUEST_TIMEOUT, "pacing_conn_id": "claid_pacing"}
    claid = {"conn_type": "claid", "host": url, "password": KEY, "extra": extra}
    http = {"conn_type": "http", "host": url, "password": KEY}
    connections = {"claid_default": claid, "claid_pacing": redis.airflow_connection(), "claid_http": http}
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in connections.items()}
