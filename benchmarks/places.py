"""Where a benchmark keeps a schedule: in a folder, or on a real server of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_claid.pacing.place import Place
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

STORES = ("sqlite", "redis", "postgres")


@contextmanager
def place(store: str) -> Iterator[Place | None]:
    """
    Run the server of a store as it comes, PostgreSQL with fsync; None: a file, which needs none.

    Raises `ServiceMissingError` where it is not installed.
    """
    if store == "redis":
        with RedisServer() as redis:
            yield Place("redis", "benchmark", redis.host, redis.port, password=redis.password)
    elif store == "postgres":
        with PostgresServer() as server:
            yield Place("postgres", "benchmark", server.host, server.port, server.user, server.password, "postgres")
    else:
        yield None
