"""Where the hosts that use one account keep its schedule together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = str | int | bool


@dataclass(frozen=True)
class Place:
    """
    A Redis or a PostgreSQL, as the Airflow connection `name` tells where it is; never shows a password.

    `options` are further arguments of the client: of `redis.Redis` or of libpq. `cluster`: a Redis Cluster.
    """

    kind: Literal["redis", "postgres"]
    name: str
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str = ""
    cluster: bool = False
    options: tuple[tuple[str, Value], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        service = "Redis" if self.kind == "redis" else "PostgreSQL"
        return f"{service} at {self.host}:{self.port} (connection {self.name!r})"

    def client_options(self) -> Mapping[str, Value]:
        """Return the further arguments of the client, by name."""
        return dict(self.options)
