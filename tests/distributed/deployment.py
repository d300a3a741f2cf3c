"""Airflow with two Celery workers on this machine, and a sandbox: both at ten times the default limits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_claid.sandbox.server import SandboxServer
from tests.services.celery import CeleryAirflow
from tests.services.postgres import PostgresServer
from tests.services.processes import REPOSITORY
from tests.services.redis import RedisServer

HERE = Path(__file__).parent
KEY = "sandbox-key"
PER_SECOND, PER_MINUTE = 40, 1200
LATENCY, SEED = (1, 8), 7
REQUEST_TIMEOUT = 20
"""Seconds; a retry waits so long, and a minute more, for the answer of a request that a killed task has sent."""
CONCURRENCY = 3
"""Tasks of a worker: four chunks then need both workers, and leave room for other tasks."""


@dataclass(frozen=True)
class Deployment:
    """A running deployment; `folder` is what all its machines share."""

    airflow: CeleryAirflow
    sandbox: SandboxServer
    folder: Path


@contextmanager
def deployment(folder: Path, redis: RedisServer, postgres: PostgresServer) -> Iterator[Deployment]:
    """Start an Airflow in `folder`, with its metadata and its messages in these servers, and a sandbox."""
    shared = folder / "shared"
    settings = {"latency": LATENCY, "seed": SEED, "per_second": PER_SECOND, "per_minute": PER_MINUTE, "plain": True}
    with SandboxServer(**settings) as sandbox:
        home, environment = folder / "home", _connections(sandbox, redis)
        dags = home / "dags"
        shutil.copytree(HERE / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "dags" / "claid_catalog.py", dags)
        urls = redis.url(), postgres.url(driver="psycopg")
        with CeleryAirflow(home, dags, *urls, environment, concurrency=CONCURRENCY) as airflow:
            yield Deployment(airflow, sandbox, shared)


def _connections(sandbox: SandboxServer, redis: RedisServer) -> dict[str, str]:
    pace = {"requests_per_second": PER_SECOND, "requests_per_minute": PER_MINUTE}
    extra: dict[str, Any] = {**pace, "request_timeout": REQUEST_TIMEOUT, "pacing_conn_id": "claid_pacing"}
    claid = {"conn_type": "claid", "host": sandbox.url, "password": KEY, "extra": extra}
    connections = {"claid_default": claid, "claid_pacing": redis.airflow_connection()}
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in connections.items()}
